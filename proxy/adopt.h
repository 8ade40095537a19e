/*
 * adopt.h - a group that begins with the data of a Redis, a memcached or both that
 * were there before it, the seeds.
 *
 * A new group starts cold: all members name what their servers hold, and the
 * log begins behind the state of the one that has most (coldstart.c). So the
 * replica that is configured with a seed fills its own server from that before it
 * names anything; the log then begins behind that, and the others, which hold
 * nothing, are given that state as servers are that come back empty
 * (transfer.h). Nobody is served before the log begins.
 *
 * What was adopted is of an era of its own: random, before all that cold starts
 * make, at MP_ADOPTED_LSN. So two replicas that adopt at once do not take
 * their states for the same one: the one of the later era counts, and the other
 * is restored from it. And a group that has a log, or servers with its data,
 * has a later one: then there is nothing to adopt, and the seed is not asked.
 *
 * How a server is filled is the protocol's own: memcached_adopt.h comes first, then
 * redis_adopt.h, since the Redis is named last. A server beside, that has no seed, begins
 * at the same place, empty. Whatever goes wrong is told in the log, and begun again.
 */
#ifndef MP_ADOPT_H
#define MP_ADOPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net.h"
#include "transfer.h"

struct mp_proxy;
struct memcached_adopt;
struct redis_adopt;

enum { MP_ADOPTED_LSN = 64 }; /* a place at which a log may begin */

struct mp_adopt {
	bool is_wanted;            /* what the own servers hold is not to be named yet */
	bool is_begun;             /* the Redis is ours to fill, whatever it holds by now */
	struct mp_address address; /* of the Redis seed, if there is one */
	char host[256];            /* ... as its replica is told */
	int port;
	struct mp_address memcached_address; /* of the Memcached seed, if there is one */
	uint64_t era;                        /* of what is being adopted */
	bool is_on;                          /* an attempt, and of it: */
	struct memcached_adopt *memcached;   /* NULL: not now */
	struct redis_adopt *redis;           /* NULL: not now */
	bool is_filled;                      /* the memcached holds what its seed has */
	/* It was told to stand at the beginning of the era, and was seen to be away for that. */
	bool is_placing, was_away;
	uint64_t next_ns;           /* the next look at things, or attempt */
	uint64_t begun_ns, data_ns; /* the attempt; its first byte */
	bool is_failed, is_done;    /* the attempt; taken up by the turn */
	char why[240], told[240];
};

/* Without a seed in the options nothing is ever wanted. False: one line in err. */
bool mp_adopt_open(struct mp_proxy *proxy, char *err, size_t err_bytes);
void mp_adopt_close(struct mp_proxy *proxy);
/* Once a turn. Returns when it wants another one at the latest. */
uint64_t mp_adopt_turn(struct mp_proxy *proxy);

/* For the attempt: in this turn's mp_adopt_turn(), and not before. The first word counts. */
void mp_adopt_fail(struct mp_proxy *proxy, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void mp_adopt_done(struct mp_proxy *proxy);
/*
 * The memcached here, if there is one, stands at the beginning of the era, with what its seed
 * holds or with nothing. False: not yet.
 */
bool mp_adopt_place_memcached(struct mp_proxy *proxy);
/* For whoever watches; total 0: not known. */
void mp_adopt_count(struct mp_proxy *proxy, uint64_t items, uint64_t total_items);
void mp_adopt_show(struct mp_proxy *proxy, enum mp_transfer_stage stage, uint64_t bytes,
		   uint64_t total_bytes);

#endif
