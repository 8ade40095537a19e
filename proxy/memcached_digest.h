/*
 * memcached_digest.h - do all memcacheds hold the same? As digest.h, but for what a cache is:
 * each evicts on its own, so an item that is missing somewhere differs from nothing, and an
 * item that is wrong somewhere can just be dropped there.
 *
 * Every `digest-interval` of [memcached] the leader logs a question: a list of at most
 * `digest-keys` keys (memcached_keys.h). At its place in the log each replica reads these
 * items from its own server, and tells the leader for each a digest of value and flags, and
 * the deadline. Two that are there must be the same; deadlines may be some seconds apart,
 * as clocks are. Items that are stale or won count as missing.
 *
 * What differs is asked about once more at once, and only then called a difference: between
 * a store that fails and the delete that follows it (backend_memcached.c) there may be one.
 * It is told in the log, with the keys, and counted; what most of those who have the item
 * say is right, and whoever says otherwise is told to drop it. Where there is no such
 * majority all drop it: it may be any of them that is wrong, and a miss never is. As long as
 * something is found the questions follow each other faster.
 *
 * Who names the keys goes round, as there: so what only some have is found, too.
 */
#ifndef MP_MEMCACHED_DIGEST_H
#define MP_MEMCACHED_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "memcached_keys.h"
#include "mu.h"
#include "records.h"
#include "slice.h"

struct mp_proxy;
struct mp_request;

struct mp_memcached_digest {
	/* The leader's, under that ballot. */
	uint64_t ballot;
	uint64_t next_ns;
	uint64_t serial; /* of the question */
	bool is_asked;   /* it is under way, and about: */
	bool is_again;   /* ... what has differed before */
	uint64_t asked_ns;
	struct mp_buffer keys;
	struct mp_buffer answer[MU_ID_SLOTS]; /* empty: not there yet */
	struct mp_buffer suspects;            /* to be asked about once more */
	struct mp_buffer named[MU_ID_SLOTS];  /* for the next questions */
	unsigned last;                        /* who has named what it is about */
	struct mp_buffer wire;

	/* Every replica's. */
	struct mp_buffer words; /* its answer, as far as it is known */
	uint64_t answering;     /* the question's serial */
	unsigned awaited;       /* items of it that are still to come */
	bool is_lacked;         /* as the last question said: name more keys */
	uint64_t naming_ns;     /* when to try that again */
	struct memcached_keys own;
};

void mp_memcached_digest_close(struct mp_proxy *proxy);
/* Once a turn, before what was filled in is proposed. */
void mp_memcached_digest_turn(struct mp_proxy *proxy);
/* When it wants another turn (monotonic ns). */
uint64_t mp_memcached_digest_deadline_ns(const struct mp_proxy *proxy);

/* A question was handed on: ask the own backend, which is READY. */
void mp_memcached_digest_note(struct mp_proxy *proxy, const struct mp_record_view *record);
/* The answer about one item of it. */
void mp_memcached_digest_answer(struct mp_proxy *proxy, const struct mp_request *r,
				struct mp_slice answer);
/* ... will not come. */
void mp_memcached_digest_lost(struct mp_proxy *proxy);

/* The leader: what a follower has sent. */
void mp_memcached_digest_hear(struct mp_proxy *proxy, unsigned peer, struct mp_slice answer);
void mp_memcached_digest_hear_names(struct mp_proxy *proxy, unsigned peer, struct mp_slice keys);
/* The own server is wrong about these keys. */
void mp_memcached_digest_be_told(struct mp_proxy *proxy, struct mp_slice keys);

#endif
