/*
 * control.h - what an operator wants to know of a server beside the replica.
 * Asked over a connection of its own, blocking but bounded, away from the data
 * thread: see control_redis.h and control_memcached.h.
 */
#ifndef MP_CONTROL_H
#define MP_CONTROL_H

#include <stdint.h>

struct mp_server_info {
	char version[32];
	uint64_t pid;
	uint64_t uptime_s;
	uint64_t memory_bytes; /* Redis: allocated in all; Memcached: by items */
	uint64_t items;        /* keys that clients may see; items */
	uint64_t clients;      /* connections, muproxy's own included */
	uint64_t latency_us;   /* of one exchange, over the connection already made */
};

#endif
