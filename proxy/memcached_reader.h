/*
 * memcached_reader.h - all items of a memcached, one after the other: listed
 * (memcached_lister.h) and asked for, over connections of its own. What is written to the
 * server meanwhile may be among them or not; whatever was there all the time is.
 *
 * An item that is marked as stale or won stays away; so that reading it has taken its win
 * from nobody, it is marked anew.
 */
#ifndef MP_MEMCACHED_READER_H
#define MP_MEMCACHED_READER_H

#include "mc_request.h"
#include "mc_text.h"
#include "memcached_clock.h"
#include "memcached_lister.h"

enum { MEMCACHED_READER_ASKED_MAX = 512 }; /* items that are asked for at once */

/* Told from within the event loop, or from within memcached_reader_resume(). */
struct memcached_reader_events {
	/* First: what the server holds. */
	void (*total)(void *ctx, uint64_t items, uint64_t bytes);
	/*
	 * An item, as the command in clean form (mc_encode.h) that stores it where there is
	 * none yet; good during the call. Its deadline is a Unix time. False: no more is to be
	 * asked for until memcached_reader_resume().
	 */
	bool (*item)(void *ctx, struct memcached_command command);
	/* All answers that have come so far were told. */
	void (*read)(void *ctx);
	void (*end)(void *ctx);
	/* Nothing more will come; why is good during the call. */
	void (*failed)(void *ctx, const char *why);
	/* The server is one of a group's: tokens that clients have chosen can be told (mc_token.h).
	 */
	bool has_our_tokens;
};

/* A question that is under way. */
struct memcached_reader_asked {
	char key[MC_MAX_KEY_BYTES];
	uint8_t key_bytes;
	bool is_mark; /* not an item is wanted: it is marked as stale again */
	uint64_t bytes, deadline_s;
};

/* A zeroed one is closed. */
struct memcached_reader {
	const struct memcached_reader_events *events;
	void *ctx;
	struct event_base *base;
	struct mp_address address;
	bool is_listing; /* before that: statistics are asked for */
	bool is_full;    /* whoever takes the items has no room */
	bool is_over;    /* ended, or failed */
	struct memcached_lister lister;
	struct mp_stream items; /* what is asked about each */
	struct memcached_clock clock;
	struct mc_framer framer;
	size_t scanned; /* of items.in: bytes of the oldest reply that the framer has seen */
	struct memcached_reader_asked asked[MEMCACHED_READER_ASKED_MAX]; /* a ring */
	unsigned oldest, count;
	uint64_t asked_bytes;
};

/* Begin. False: errno. */
bool memcached_reader_open(struct memcached_reader *reader, struct event_base *base,
			   const struct mp_address *address,
			   const struct memcached_reader_events *events, void *ctx);
/* There is room again. */
void memcached_reader_resume(struct memcached_reader *reader);
/* No-op if it is closed. Not from within an event. */
void memcached_reader_close(struct memcached_reader *reader);

#endif
