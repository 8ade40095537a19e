/*
 * memcached_lister.h - the keys of all items that a memcached holds (lru_crawler metadump
 * hash, which leaves none out), over a connection of its own. A server lists for one at a
 * time, and not while it looks for what has expired: it is asked again until it does.
 *
 * What it lists waits here, LISTED_BYTES of it at most; behind that the server waits, which
 * keeps its table from growing. So take it away fast.
 */
#ifndef MP_MEMCACHED_LISTER_H
#define MP_MEMCACHED_LISTER_H

#include <event2/event_struct.h>
#include <stdbool.h>

#include "mc_listing.h"
#include "stream.h"

/* Told from within the event loop. */
struct memcached_lister_events {
	void (*more)(void *ctx); /* there is something for memcached_lister_next(), or the end */
	/* Nothing more will come. why is good during the call. */
	void (*failed)(void *ctx, const char *why);
};

/* A zeroed one is closed. */
struct memcached_lister {
	struct mp_stream stream;
	struct event retry;
	bool is_over; /* that was all */
	bool is_failed;
	const struct memcached_lister_events *events;
	void *ctx;
	unsigned asked; /* how often */
};

/* Begin. False: errno. */
bool memcached_lister_open(struct memcached_lister *lister, struct event_base *base,
			   const struct mp_address *address,
			   const struct memcached_lister_events *events, void *ctx);
/* No-op if it is closed. */
void memcached_lister_close(struct memcached_lister *lister);
/* The next item, but for muproxy's own. False: for now, or at the end, there is none. */
bool memcached_lister_next(struct memcached_lister *lister, struct mc_listed *item);

#endif
