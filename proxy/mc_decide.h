/*
 * mc_decide.h - what becomes of a Memcached request that asks what is there
 * (DETERMINISM, Memcached 1).
 *
 * Replicas' memcacheds evict each on its own, so a command that asks what is
 * there (add, replace, append, prepend, cas, incr, decr, touch, gat, most of
 * the meta commands) could succeed on one and fail on another. The leader
 * decides those: under the key's lock it reads the item from its backend
 * (mc_encode_fetch), decides, and logs plain stores and deletes, or nothing.
 * So on every replica an item is what the last store in the log made it, or
 * absent, and running a stretch of the log again ends in the same state.
 *
 * What is logged to keep an item but change something about it (touch, md I,
 * mg) does nothing where the item is missing, and the same wherever it is
 * there, whatever its deadline or token.
 */
#ifndef MP_MC_DECIDE_H
#define MP_MC_DECIDE_H

#include "mc_encode.h"
#include "mc_item.h"
#include "mc_request.h"
#include "mc_text.h"
#include "mc_token.h"

/*
 * A decided reply: what stands in front of it says how it becomes what the
 * client gets, wherever that is found out (mc_translate.h).
 */
struct mc_canned {
	uint8_t dialect; /* enum mc_dialect */
	uint8_t opcode;
	/* Where in the text the token belongs that the backend gave what it stored; 0: nowhere. */
	uint16_t hole;
	uint32_t opaque;
};

enum { MC_REPLY_BYTES = 768 }; /* the longest decided reply: a key in base64, an opaque, numbers */

struct mc_decision {
	size_t record_bytes; /* what is to be logged; 0: nothing. > cap: it did not fit, call again
			      */
	int commands;        /* in the record; the last one's reply is looked at */
	/*
	 * The client's when the record is applied, behind a struct mc_canned. 0
	 * bytes: it is the translation of the backend's reply (mc_translate.h).
	 */
	size_t reply_bytes;
	char reply[MC_REPLY_BYTES];
};
/*
 * Decide a request of class DECIDED on its item. A miss that fails (incr,
 * replace, ...) logs a `delete`: the leader may have lost the item alone, and
 * what its client was told is gone must not come back with the next leader.
 * limits: an append that would exceed them is not done. term: see
 * mc_token.h.
 */
void mc_decide(const struct mc_request *, const struct mc_item *, uint64_t term, int64_t now_s,
	       const struct mc_limits *, struct mc_deadlines *, char *out, size_t cap,
	       struct mc_decision *);
#endif
