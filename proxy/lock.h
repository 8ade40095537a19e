/*
 * lock.h - Memcached's conditional commands (add, cas, incr, ...), decided by
 * the leader (mc_decide.h). Each key that one is being decided on has a lock:
 * its holder asks the backend for the item, through the pipeline and so behind
 * all that was taken before; when the answer is there it decides, puts the
 * plain write that it came to into the pipeline, and passes the lock on. Others
 * wait for the lock in the order in which they came.
 *
 * Plain writes of the same key do not wait: they make the answer worthless, and
 * the holder asks again. Only if that happens too often they are held back.
 */
#ifndef MP_LOCK_H
#define MP_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "buffer.h"
#include "mc_encode.h"
#include "request.h"
#include "slice.h"

struct mp_proxy;

enum { MP_LOCK_KEY_BYTES = 250 }; /* Memcached's limit */

struct mp_lock {
	UT_hash_handle hh;
	TAILQ_ENTRY(mp_lock) answered;
	char key[MP_LOCK_KEY_BYTES];
	uint8_t key_len;
	bool is_answered;          /* in that list: to be decided in the next turn */
	bool outdated;             /* the key was written after the question was put */
	unsigned asked;            /* how often in vain */
	struct mp_buffer answer;   /* the backend's, whole */
	struct mp_request *holder; /* DECIDING */
	struct mp_request_list waiters;
};
TAILQ_HEAD(mp_lock_list, mp_lock);

struct mp_locks {
	struct mp_lock *table;
	struct mp_lock_list answered;
	unsigned contended; /* locks whose key plain writes have to stay away from */
	struct mc_deadlines *deadlines;
	struct mp_buffer decided; /* a decision's record on its way into the pipeline */
};

void mp_locks_init(struct mp_locks *locks);
bool mp_locks_open(struct mp_locks *locks);
void mp_locks_close(struct mp_locks *locks);

/* Are there as many as there may be? Then a decision has to come first. */
bool mp_locks_are_full(const struct mp_locks *locks);
/* Must this request wait outside just now: its key is too contended, or there are too many locks?
 */
bool mp_lock_holds_back(struct mp_proxy *proxy, const struct mp_request *r);
/* Take a conditional in: it gets its key's lock, or waits for it. */
void mp_lock_enter(struct mp_proxy *proxy, struct mp_request *r);
/* A plain write goes into the pipeline. */
void mp_lock_note_write(struct mp_proxy *proxy, const struct mc_request *request);
/* The whole answer to a holder's question; it is in no list. */
void mp_lock_answer(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice answer);
/* ... which will not come. */
void mp_lock_lost(struct mp_proxy *proxy, struct mp_request *r);
/* Once a turn, before anything else goes into the pipeline: decide. */
void mp_locks_run(struct mp_proxy *proxy);
/* The pipeline was abandoned: nothing was decided. What asks a backend still is let go later. */
void mp_locks_abandon(struct mp_proxy *proxy);

#endif
