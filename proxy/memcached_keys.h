/*
 * memcached_keys.h - the keys of the own memcached, some at a time, until all have had
 * their turn (memcached_digest.h). A server can only list all its items at once, so one
 * listing is made for many turns: of the keys in it a slice is kept, those of another
 * remainder of their hash each time.
 *
 * A list of keys: for each a byte with its length, and the key.
 */
#ifndef MP_MEMCACHED_KEYS_H
#define MP_MEMCACHED_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "memcached_lister.h"
#include "slice.h"

enum {
	MEMCACHED_KEYS_SLICE = 50000, /* keys that are kept of a listing, about */
	MEMCACHED_KEYS_ITEM_BYTES = 1
				    << 20, /* of the items of one turn, unless there is just one */
};

/* A zeroed one is ready. */
struct memcached_keys {
	struct memcached_lister lister;
	bool is_listing, is_failed;
	struct mp_buffer kept; /* for each a uint32_t with its item's bytes, and as in a list */
	uint32_t slice, slices;
	uint64_t listed;
};

/* The first key of a list, which goes on behind it. False: there is none, or it is no list. */
bool memcached_keys_next(struct mp_slice *list, struct mp_slice *key);
/* At the end of one. False: out of memory. */
bool memcached_keys_put(struct mp_buffer *list, struct mp_slice key);

/*
 * Up to max keys that have not had their turn since the beginning, to the end of list. 0:
 * they are being listed (is_listing), or there are none; ask again later.
 */
unsigned memcached_keys_take(struct memcached_keys *keys, struct event_base *base,
			     const struct mp_address *address, unsigned max,
			     struct mp_buffer *list);
void memcached_keys_close(struct memcached_keys *keys);

#endif
