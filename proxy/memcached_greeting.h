/*
 * memcached_greeting.h - what is said to a memcached on a new connection before
 * any command: who it is, and which LSN it has applied. Fed replies, yields
 * requests to send; knows no sockets and no clock.
 */
#ifndef MP_MEMCACHED_GREETING_H
#define MP_MEMCACHED_GREETING_H

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "buffer.h"

/*
 * This item holds "v2 <group id> <era>, 16 hex digits each, and <applied LSN, decimal>",
 * and " partial" as long as there is more to be copied to the server from elsewhere.
 */
#define MEMCACHED_APPLIED_KEY MP_MEMCACHED_OWN_PREFIX "applied"

enum memcached_greeting_outcome {
	MEMCACHED_GREETING_MORE,    /* feed more */
	MEMCACHED_GREETING_PAUSE,   /* call memcached_greeting_go_on() in MEMCACHED_PAUSE_MS */
	MEMCACHED_GREETING_READY,   /* the results are there */
	MEMCACHED_GREETING_REFUSED, /* not fit to be a backend; why */
};
enum { MEMCACHED_PAUSE_MS = 10 };

/* Where a server stands in a log. */
struct memcached_place {
	uint64_t era, lsn;
	/*
	 * What it holds is not all that it is to be given: by another replica, to one that is
	 * behind an LSN; or by a seed (adopt.h), and then it is worth nothing.
	 */
	bool is_partial;
};

struct memcached_greeting {
	/* in */
	uint64_t group_id;
	/* It is to stand somewhere else: emptied before, or, unless it comes back empty, as it is.
	 */
	bool empties, moves;
	struct memcached_place new_place;
	/* out */
	char version[32];
	uint64_t pid, started;        /* Unix time, to about a second */
	struct memcached_place place; /* what it has applied */
	uint64_t item_size_max;       /* bytes, -I */
	unsigned news;                /* enum mc_news */
	int64_t time_s;               /* its clock: Unix time, cut to a second */
	char why[160];
	/* private */
	enum {
		MEMCACHED_ASKED_STATS,
		MEMCACHED_ASKED_SETTINGS,
		MEMCACHED_ASKED_LSN,
		MEMCACHED_CLAIMING, /* an empty server is being marked as ours, or emptied */
	} step;
	unsigned rounds, quiet_rounds;
	uint64_t writes, items;
};

/* Begin: what is in is set, the rest zeroed. Puts what is to be sent into out. */
void memcached_greeting_start(struct memcached_greeting *greeting, struct mp_buffer *out);
/* Takes whole replies from in; may put more into out. */
enum memcached_greeting_outcome memcached_greeting_feed(struct memcached_greeting *greeting,
							struct mp_buffer *in,
							struct mp_buffer *out);
void memcached_greeting_go_on(struct memcached_greeting *greeting, struct mp_buffer *out);

/* Writes the item's value for that LSN, terminated; returns its length. */
enum { MEMCACHED_APPLIED_BYTES = 80 };
size_t memcached_put_applied(char out[MEMCACHED_APPLIED_BYTES], uint64_t group_id,
			     struct memcached_place place);

#endif
