/*
 * blocking_table.h - who waits for which keys: the leader's table behind blocking.h, which
 * alone uses it. A waiter has a link to each of its keys, a key has its links in the order in
 * which they came. A key that was fed is due: it is in a list of its own until as many of its
 * waiters were tried as it may have got elements for.
 */
#ifndef MP_BLOCKING_TABLE_H
#define MP_BLOCKING_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "blocking.h"
#include "blocking_form.h"

/* Of a stream: the waiters of one consumer group. */
struct mp_wait_group {
	SLIST_ENTRY(mp_wait_group) next;
	uint32_t waiters;
	uint32_t tries; /* the key is due: how many of them are to be tried yet */
	size_t name_len;
	char name[];
};
SLIST_HEAD(mp_wait_groups, mp_wait_group);

/* Somebody waits for this key. */
struct mp_wait_link {
	TAILQ_ENTRY(mp_wait_link) place;
	struct mp_waiter *waiter;
	struct mp_wait_key *key;
	struct mp_wait_group *group; /* on whose behalf; NULL: on nobody's */
};
TAILQ_HEAD(mp_wait_links, mp_wait_link);

struct mp_wait_key {
	UT_hash_handle hh;
	TAILQ_ENTRY(mp_wait_key) due;
	struct mp_wait_links links;   /* who has waited longest first */
	struct mp_wait_groups groups; /* that somebody waits on behalf of, in no order */
	struct mp_wait_link *cursor;  /* is_due: who is looked at next; NULL: all have been */
	bool is_due;
	bool is_unsure;  /* it may have got more than is tried for now */
	bool is_fed;     /* is_due: not just by attempts that may come to nothing themselves */
	uint32_t kinds;  /* is_due: who can use what it got (enum mp_wait_kind) */
	uint32_t tries;  /* is_due: how many are to be tried yet */
	size_t name_len; /* of what it is found by: its database, then its bytes */
	char name[];
};

struct mp_waiter {
	UT_hash_handle hh;
	uint64_t id[2]; /* the request's origin */
	struct mp_request *r;
	struct mp_blocking_form form;
	bool is_under_way; /* an attempt */
	bool is_proven;    /* that there was nothing for it */
	bool again;        /* a key of its was fed while its attempt was under way */
	bool is_due;       /* it is in the list of those to be tried again */
	TAILQ_ENTRY(mp_waiter) due;
	struct mp_wait_key *key; /* of the attempt under way; NULL: it is for all keys */
	bool is_unsure;          /* more may have come to that key than is tried for */
	size_t bytes;            /* of what is in hand on its account, when it came */
	int next_link;           /* is_due: the key to be tried next; ALL_KEYS: all at once */
	struct mp_bytes
		resolved; /* a read of streams with its last IDs; empty: the request itself */
	int count;
	struct mp_wait_link links[];
};

/* NULL: nobody waits for it, or out of memory for its name. */
struct mp_wait_key *mp_wait_find_key(struct mp_blocking *blocking, uint32_t database,
				     struct mp_slice bytes);
/* The key's own name, good as long as it is there. */
struct mp_slice mp_wait_key_bytes(const struct mp_wait_key *key);
/* Its waiters of these kinds are to be tried: for so many elements more, or MP_FEED_UNKNOWN. */
void mp_wait_set_due(struct mp_blocking *blocking, struct mp_wait_key *key, unsigned kinds,
		     uint32_t elements);
void mp_wait_clear_due(struct mp_blocking *blocking, struct mp_wait_key *key);

/* r waits from now on, its first attempt being under way. NULL: out of memory, or too many wait. */
struct mp_waiter *mp_waiter_add(struct mp_proxy *proxy, struct mp_request *r,
				const struct mp_blocking_form *form,
				const struct resp_request *request);
void mp_waiter_free(struct mp_proxy *proxy, struct mp_waiter *w);

#endif
