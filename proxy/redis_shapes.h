/*
 * redis_shapes.h - which commands a server is known to accept in a transaction.
 *
 * Redis refuses a command when it is queued, and with it the whole transaction
 * at EXEC, for what can be told from its name and its number of arguments:
 * unknown command or subcommand, wrong arity, not allowed in MULTI. A command
 * of a name seen accepted with this number of arguments will be accepted again.
 * Arity is either exact or a minimum, so a name accepted with two different
 * numbers is accepted with every number above the smaller.
 */
#ifndef MP_REDIS_SHAPES_H
#define MP_REDIS_SHAPES_H

#include <stdbool.h>
#include <stdint.h>

#include "slice.h"

enum { REDIS_SHAPES = 1024 };

/* Zeroed: nothing is known. */
struct redis_shapes {
	struct redis_shape {
		uint64_t name;        /* a hash; 0: the place is free */
		uint32_t least, most; /* words it was accepted with */
	} known[REDIS_SHAPES];
	uint32_t count;
};

/* Are all the commands in bytes known to be accepted? */
bool redis_shapes_know(const struct redis_shapes *shapes, struct mp_slice bytes, int commands);
/* The first command in bytes was accepted. */
void redis_shapes_learn(struct redis_shapes *shapes, struct mp_slice bytes);
void redis_shapes_forget(struct redis_shapes *shapes);

#endif
