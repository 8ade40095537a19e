/*
 * redis_config.h - CONFIG GET and MEMORY STATS: the backend's own, less its
 * secrets (whoever has the password of a backend can write past the log) and the
 * hidden database, and with as many databases and as much memory as clients have.
 */
#ifndef MP_REDIS_CONFIG_H
#define MP_REDIS_CONFIG_H

#include <stdint.h>

#include "buffer.h"
#include "slice.h"

struct mp_config_terms {
	int databases;      /* that clients see */
	uint64_t maxmemory; /* the group's (memory.h) */
};

/*
 * Append the client's reply, made of the backend's, to out. What is no array or map of names and
 * values is appended as it is. False: out of memory.
 */
bool mp_config_reply(struct mp_slice reply, const struct mp_config_terms *terms,
		     struct mp_buffer *out);

#endif
