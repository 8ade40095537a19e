/*
 * memcached_touched.h - which keys the log has touched since a certain place of it, for a
 * server that is being filled (memcached_transfer.h): what was copied of those is
 * worth nothing. Keys are remembered as 64-bit hashes: two of one hash cost a miss.
 */
#ifndef MP_MEMCACHED_TOUCHED_H
#define MP_MEMCACHED_TOUCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "slice.h"

enum { MP_TOUCHED_MAX = 1 << 20 }; /* keys; 16 MiB */

/* A zeroed one is not in use. */
struct mp_touched {
	uint64_t *slot; /* open addressing; 0: free. NULL: not in use */
	uint32_t count, cap;
	const char *all; /* why no key can be told to be untouched any more; NULL: they can */
};

/* Begin with none. False: out of memory. */
bool mp_touched_open(struct mp_touched *touched);
void mp_touched_close(struct mp_touched *touched);
/* What these commands of the log (mc_encode.h) touch. */
void mp_touched_note(struct mp_touched *touched, struct mp_slice wire);
/* Has the key of this command been touched, as far as that is known? */
bool mp_touched_has(const struct mp_touched *touched, struct mp_slice line);

#endif
