/*
 * doubt.h - requests whose leader was lost before it answered. Each resolves
 * itself as this replica goes on reading the log:
 *
 *  - its record turns up: it was executed, and what our own backend answers to
 *    it is its reply;
 *  - the first entry of a leader of a higher ballot has passed, or the point
 *    up to which the same leader says our earlier link counts: it was not
 *    executed and never will be, so it is sent again;
 *  - the same, but a part of the log that may have held its record was never
 *    read here (our backends were given another replica's state), or neither
 *    within unknown_timeout_ms: its client is told that the outcome is unknown.
 *
 * A request's record may also reach our backend while the leader still owes
 * the reply. After that point the log would say no more about it if the leader
 * were lost. So a shadow of the request is sent to our backend with the write,
 * and whichever answer is here first, the leader's or the shadow's, is passed
 * on; if the leader is lost, there is the shadow's.
 *
 * A request that may wait for a key (blocking.h) can have several records: all
 * but the last came to nothing. So only shadows of it run here; the newest is
 * the one that counts, since whoever made a record knew that all before it were
 * in vain, and if that one comes back with nothing, too, it is as before.
 *
 * Reads just go again, but keep their place: one that stands before a doubtful
 * write of its session is executed here, right before that write, if the
 * write's record turns up.
 */
#ifndef MP_DOUBT_H
#define MP_DOUBT_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"
#include "request.h"

struct mp_proxy;

struct mp_doubt {
	struct mp_request_list list;
	/* From the leader of barrier_ballot, see mp_frame_leading. */
	uint64_t barrier_ballot, barrier_lsn;
};

void mp_doubt_init(struct mp_doubt *doubt);
/*
 * A request of ours, in no list, sent under ballot. Several in their order,
 * then mp_doubt_settle(). The request may be gone afterwards.
 */
void mp_doubt_add(struct mp_proxy *proxy, struct mp_request *r, uint64_t ballot);
/*
 * Send again what is known by now not to have been executed, and answer what
 * was executed by a backend that broke before it answered.
 */
void mp_doubt_settle(struct mp_proxy *proxy);
/* What the leader of ballot says of earlier links. */
void mp_doubt_barrier(struct mp_proxy *proxy, uint64_t ballot, uint64_t lsn);
/*
 * A shadow's answer is that there was nothing for its twin, which may be gone:
 * it goes on waiting for an answer (blocking.h). The shadow is gone afterwards.
 */
void mp_doubt_unserved(struct mp_proxy *proxy, struct mp_request *shadow);
/* Its client has left. */
void mp_doubt_forget(struct mp_proxy *proxy, struct mp_request *r);
/*
 * The record of an entry is about to be handed to its backend: the request of
 * ours that it belongs to, if that still wants an answer, or a shadow of it,
 * to be sent along. Reads of its session that stand before it have been sent
 * to that backend. Else NULL.
 */
struct mp_request *mp_doubt_claim(struct mp_proxy *proxy, const struct mp_origin *origin,
				  uint64_t lsn);
/*
 * The record of an entry that is read for the first time, while its backend is away or has
 * its outcome from elsewhere: if that belongs to a request of ours, that was executed.
 */
void mp_doubt_note(struct mp_proxy *proxy, const struct mp_origin *origin, uint64_t lsn);
/*
 * A request's shadow has an answer for it: out of whatever list it waits in.
 * False if it does not want one: it is getting the leader's.
 */
bool mp_doubt_leave(struct mp_proxy *proxy, struct mp_request *r);
/* Give up what has been in doubt for longer than unknown_timeout_ms. */
void mp_doubt_sweep(struct mp_proxy *proxy, uint64_t now_ms);

#endif
