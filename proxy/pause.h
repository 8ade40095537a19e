/*
 * pause.h - CLIENT PAUSE and UNPAUSE, which are the group's: they go through the log, and each
 * replica holds its Redis clients from where it hands that record on until the time is up or
 * another record ends it. A client that is held is not read on from: what it sent waits, and is
 * looked at again when the pause is over. What was taken from clients before goes its way, and so
 * does what the log does by itself (keys expire). A process that starts holds nobody.
 *
 *     pause.c       who is held
 *     pause_form.c  what is logged
 */
#ifndef MP_PAUSE_H
#define MP_PAUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resp.h"
#include "slice.h"

struct mp_proxy;
struct mp_session;

struct mp_pause {
	uint64_t until_ms; /* Unix time, the log's clock; 0: nobody is held */
	bool is_for_all;   /* not just those that want to write */
};

/* --- pause_form.c */
/*
 * The form for the log of CLIENT PAUSE and UNPAUSE. Returns its length; 0 with *error set (a whole
 * text) if Redis refuses the request.
 */
size_t mp_pause_encode(const struct resp_request *request, int64_t now_ms, char *out, size_t cap,
		       const char **error);
/* Is this logged command one? Then *pause is what it asks for. */
bool mp_pause_is_logged(const struct resp_request *request, struct mp_pause *pause);

/* --- pause.c */
/* A record that may hold such commands is handed on. */
void mp_pause_note(struct mp_proxy *proxy, struct mp_slice wire, uint32_t commands);
/* Has this request to wait? Then its session is gated, and goes on with it when it need not. */
bool mp_pause_holds(struct mp_session *s, const struct resp_request *request);
/* How many clients of this replica it holds. */
uint32_t mp_pause_held(const struct mp_proxy *proxy);
/* Once a turn. Returns when it wants the next one (monotonic ns). */
uint64_t mp_pause_turn(struct mp_proxy *proxy);

#endif
