/*
 * stream_groups.h - what of streams' consumer groups goes by a server's clock
 * (XREADGROUP, XCLAIM, XAUTOCLAIM, XPENDING, XINFO STREAM FULL; DESIGN 6.4): it is
 * carried out by groups.lua, which stores times of delivery that are the entry's,
 * shifted into the past. Here is what is logged, or asked, and the client's reply.
 *
 * When consumers were seen last remains each server's own.
 */
#ifndef MP_STREAM_GROUPS_H
#define MP_STREAM_GROUPS_H

#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "command.h"
#include "resp.h"
#include "slice.h"

/* How far in its past a server holds a time of delivery. */
#define MP_DELIVERY_SHIFT_MS (INT64_C(1) << 38)

/* What a request's reply needs: GROUP_READ, PENDING or STREAM_INFO; NONE. */
enum mp_rewrite mp_groups_treatment(const struct mp_command *command,
				    const struct resp_request *request);

enum mp_groups_way {
	MP_GROUPS_AS_NAMED, /* by the command's own name */
	MP_GROUPS_WOKEN,    /* XREADGROUP of one stream, for who has waited for it */
	MP_GROUPS_READ,     /* XPENDING: nothing is written */
};
enum { MP_GROUPS_ARGS_MAX = 7900 }; /* what Lua's unpack() takes */
/* The call of our script that carries a command out. Returns its length; 0: out of memory. */
size_t mp_groups_encode(enum mp_groups_way way, int argc, const struct mp_slice *argv,
			int64_t now_ms, char *out, size_t cap);

/* The same, appended. False: out of memory. */
bool mp_groups_put(enum mp_groups_way way, int argc, const struct mp_slice *argv, int64_t now_ms,
		   struct mp_buffer *out);

/*
 * Append the client's reply, made of the backend's, to out. resp: the version of the protocol
 * that it has. False: out of memory.
 */
bool mp_groups_reply(enum mp_rewrite treatment, struct mp_slice reply, unsigned resp,
		     uint64_t now_ms, struct mp_buffer *out);

#endif
