/*
 * blocking.h - commands that wait for a key (BLPOP, BZPOPMIN, ...): the leader's
 * side. blocking_home.h is the side of the replica that the client is connected
 * to, blocking_form.h says what the commands mean.
 *
 * Nothing in the log ever blocks. What is logged of a blocking command is an
 * attempt: the command as it would be within MULTI, which is where every server
 * executes it (redis.h; it is never blind), and where Redis carries it out at
 * once and answers nil if there is nothing. Such a nil is not passed on: the
 * request is BLOCKED at the leader, and has a waiter in a table of the keys that
 * are waited for. Everything else is its answer, the server's own.
 *
 * Who is tried when. A write that may put something under a waited key feeds
 * it (blocking_form.h): right behind it in the log, before any other request,
 * stand attempts for as many of those who wait for the key as the write may
 * have brought elements, the one who has waited longest first. So nobody can
 * come in between and take what was meant for them, as nobody can in Redis. Of
 * a transaction that is right behind all of it. An attempt on behalf of a key
 * names that key alone: if a transaction feeds several, a client gets of the
 * first that was fed. Where the number of elements is not known (RENAME, SORT
 * STORE, scripts, ...) a few are tried, and when the last of them was served,
 * a few more. A script may feed keys that it does not declare: for each key that
 * is waited for somebody is tried, too, but not more often than every
 * SWEEP_US_PER_KEY times their number, lest scripts that feed nobody cost much.
 *
 * One attempt at a time: who has one under way is passed over, and tried again,
 * key by key, if it comes back with nothing and one of them was fed meanwhile. So nobody
 * gets two elements, and nothing that is there is overlooked.
 *
 * XREAD with BLOCK takes nothing away, so its attempts are plain reads, at the same
 * places, and all who wait for a stream are tried. "$" is the last ID when the
 * request comes: that is asked for first, and stays so while the same replica leads.
 *
 * XREADGROUP with BLOCK takes, and is tried like those who pop; but every group of a
 * stream gets all its elements, so each has tries of its own. Besides, whoever waits
 * on behalf of a group has to be told when the group goes, or the stream: so any
 * write that may make it go (DEL, SET, RENAME, an expired key, ...) has him tried, too.
 *
 * Who dies when. Attempts carry the origin of their request, so an element that
 * was popped for a client of another replica is found by that replica in the
 * log, although the leader died before it said so (doubt.h): its own server's
 * answer to the attempt is the client's. A nil there means what it means to the
 * leader: no answer yet. Who waits when the leader is lost, and was not served
 * by the log, is sent to the next one, in the order in which they waited. When
 * a client leaves, its replica says so; what is under way for it then is lost,
 * as it is with a client of Redis that left a moment before.
 *
 * Bounds. A waiter is a request, and counted like one; a session has one at
 * most, since nothing goes behind it. The keys waited for are LINKS_MAX at most, and
 * all who wait take half of max-held at most: with all of it nobody would be read from,
 * and so nothing be pushed that could end their waiting.
 * While nobody waits none of this costs more than a look at an empty table.
 */
#ifndef MP_BLOCKING_H
#define MP_BLOCKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "buffer.h"
#include "command.h"
#include "request.h"
#include "resp.h"
#include "slice.h"

struct mp_link;
struct mp_proxy;
struct mp_waiter;
struct mp_wait_key;
TAILQ_HEAD(mp_wait_key_list, mp_wait_key);
TAILQ_HEAD(mp_waiter_list, mp_waiter);

/* Why somebody who waits is to wait no longer. */
enum mp_give_up {
	MP_GIVE_UP_NOT = 0,
	MP_GIVE_UP_TIMEOUT, /* also: the client has left */
	MP_GIVE_UP_ERROR,   /* CLIENT UNBLOCK ... ERROR */
	MP_GIVE_UP_DRAIN,   /* its replica ends */
	MP_GIVE_UPS,
};

struct mp_blocking {
	struct mp_waiter *waiters;   /* by origin; in the order in which they came */
	struct mp_wait_key *keys;    /* by database and name */
	struct mp_wait_key_list due; /* those that were fed, and whose waiters are to be tried */
	struct mp_waiter_list again; /* those who are to be tried on all their keys */
	size_t links;                /* pairs of a waiter and a key */
	size_t bytes;                /* that waiters' requests take */
	size_t group_links;          /* ... of those who wait on behalf of a consumer group */
	uint32_t blocked;            /* waiters whose first attempt came back with nothing */
	bool wants_sweep;            /* any key may have been fed */
	uint64_t next_sweep_ns;      /* not before */
	struct mp_buffer name;       /* of a key that is looked up */
	struct mp_buffer wire;       /* of an attempt */
};

void mp_blocking_init(struct mp_blocking *blocking);
void mp_blocking_close(struct mp_blocking *blocking);

/* Does anybody wait? */
static inline bool mp_blocking_is_on(const struct mp_blocking *blocking)
{
	return blocking->waiters != NULL;
}
/* ... and is there somebody to be tried? */
static inline bool mp_blocking_is_due(const struct mp_blocking *blocking)
{
	return !TAILQ_EMPTY(&blocking->due) || !TAILQ_EMPTY(&blocking->again) ||
	       blocking->wants_sweep;
}

/*
 * A request that may wait goes into the pipeline for the first time under this
 * leader. False: it was answered instead.
 */
bool mp_blocking_enter(struct mp_proxy *proxy, struct mp_request *r);
/* A write goes into the pipeline: what it may feed is due. */
void mp_blocking_touch(struct mp_proxy *proxy, uint32_t database, const struct mp_command *command,
		       const struct resp_request *request);
/* A key is deleted: who waits for it on behalf of a consumer group is told so. */
void mp_blocking_touch_key(struct mp_proxy *proxy, uint32_t database, struct mp_slice key);
/* Put attempts for what is due into the pipeline, as far as there is room. */
void mp_blocking_run(struct mp_proxy *proxy);
/* When somebody will be due (monotonic ns), UINT64_MAX: nobody knows. */
uint64_t mp_blocking_deadline_ns(const struct mp_proxy *proxy);

/* The answer to the question for IDs is here; r is in no list. It may be gone afterwards. */
void mp_blocking_take_ids(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice answer);
/* An attempt came back with nothing; r, which is in no list, waits on. It may be gone afterwards.
 */
void mp_blocking_unserved(struct mp_proxy *proxy, struct mp_request *r);
/* A piece of the answer is here. */
void mp_blocking_served(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice piece);
/* Does a whole reply say that there was nothing for r? */
bool mp_blocking_is_nothing(const struct mp_request *r, struct mp_slice reply);

/* A request is answered, or lost: it waits for nothing any more. */
void mp_blocking_end(struct mp_proxy *proxy, struct mp_request *r);
/* Answer a request that is in no list and will not be served. */
void mp_blocking_answer(struct mp_proxy *proxy, struct mp_request *r, enum mp_give_up why);
/* A request of the follower at the other end of that link is to wait no longer. */
void mp_blocking_give_up(struct mp_proxy *proxy, struct mp_link *link, uint64_t sequence,
			 enum mp_give_up why);
/* The link is closed, or nothing more is taken from it: forget who waits behind it. */
void mp_blocking_link_closed(struct mp_proxy *proxy, const struct mp_link *link);
/* No longer the leader: own clients' requests go to the next one, others' senders know. */
void mp_blocking_abandon(struct mp_proxy *proxy);

#endif
