/*
 * transaction.h - MULTI ... EXEC as one request, one record of the log, and
 * one reply.
 *
 * The session (redis_multi.c) judges commands as they are queued and sends, at
 * EXEC, one request: an envelope with what was watched (watch.h), then the
 * commands. The leader makes each fit for the log as it would alone, and logs
 * them as one record, which every backend executes within one MULTI ... EXEC
 * of the adapter's. What the client gets for each of its commands is the
 * record's recipe: a reply of the backend's, as it is or made into another, or
 * one that was decided on before. It is in the log for whoever comes to
 * answer; whose backend executes it only has no use for it.
 */
#ifndef MP_TRANSACTION_H
#define MP_TRANSACTION_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "request.h"
#include "slice.h"

struct mp_proxy;

/* First in the request's bytes; no client can send it, for no server knows it. */
#define MP_TRANSACTION_ENVELOPE "muproxy.exec"
/* Among its commands: a reply that is given as it stands. The session has another in its place. */
#define MP_TRANSACTION_REPLY "muproxy.reply"

/* The replies to a transaction while they come in. One at a time per backend: it executes one. */
struct mp_assembly {
	struct mp_buffer out;
	size_t at;      /* in the recipe */
	bool is_open;   /* something of it has come */
	bool is_passed; /* ... and has been passed on */
	bool is_cut;    /* out of memory for it */
};

/* The leader: put the transaction into the batch being filled. It may be answered instead. */
void mp_transaction_add(struct mp_proxy *proxy, struct mp_request *r);
/*
 * The next of the replies of the backend of that tag (scan.h). True: it was the last one, and out
 * is the client's reply, good until the next call.
 */
bool mp_transaction_reply(struct mp_assembly *assembly, struct mp_slice recipe,
			  struct mp_slice reply, uint32_t scan_tag, struct mp_slice *out);
/*
 * A piece of the next of them has come that is not its last. True: it is the client's as it is,
 * and may be passed on behind what is in `out`; its last piece goes to mp_transaction_reply().
 */
bool mp_transaction_flows(struct mp_assembly *assembly, struct mp_slice recipe);
/* What was in `out` has been passed on. */
void mp_transaction_passed(struct mp_assembly *assembly);
/* The rest of them will not come. */
void mp_transaction_lost(struct mp_assembly *assembly);

#endif
