/*
 * memcached_adopt.h - a memcached is filled with what another one, the seed, holds
 * (adopt.h), item by item (memcached_reader.h).
 *
 *   emptied   the server here is emptied, and marked as partial behind no LSN: should
 *             this proxy die midway, whoever connects next empties it again;
 *   copied    the seed's items are listed and stored here, with their flags and
 *             deadlines. What clients write to the seed meanwhile may be missing;
 *   settled   the server here has answered to all of it.
 *
 * What the server here cannot hold (its memory, its -I) is left out: it is a cache.
 */
#ifndef MP_MEMCACHED_ADOPT_H
#define MP_MEMCACHED_ADOPT_H

#include <stdint.h>

struct mp_proxy;
struct memcached_adopt;

/* The server here is READY, and behind no LSN. NULL: out of memory. */
struct memcached_adopt *memcached_adopt_begin(struct mp_proxy *proxy);
/* Returns when it wants another turn at the latest. Ends in mp_adopt_done(), or fails. */
uint64_t memcached_adopt_turn(struct memcached_adopt *adopt, uint64_t now_ns);
/* How many were copied. */
uint64_t memcached_adopt_items(const struct memcached_adopt *adopt);
void memcached_adopt_end(struct memcached_adopt *adopt);

#endif
