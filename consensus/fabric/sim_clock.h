/*
 * sim_clock.h - virtual time: a queue of things to happen, in the order of
 * their times, and for equal times in the order in which they were scheduled.
 */
#ifndef MU_SIM_CLOCK_H
#define MU_SIM_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What happens. `stamp` is as scheduled; a handler tells by it if it came too late. */
typedef void sim_happen_fn(void *ctx, uint64_t stamp);

struct sim_happening;

struct sim_clock {
	uint64_t now_ns;
	uint64_t happened; /* handlers called so far */
	uint64_t serial;
	struct sim_happening *heap;
	size_t count;
	size_t capacity;
};

void sim_clock_init(struct sim_clock *clock);
void sim_clock_free(struct sim_clock *clock);
/* A time already past means now. */
void sim_clock_at(struct sim_clock *clock, uint64_t when_ns, sim_happen_fn *fn, void *ctx,
		  uint64_t stamp);
/* Let the next thing happen; false if nothing is left to. */
bool sim_clock_advance(struct sim_clock *clock);

#endif
