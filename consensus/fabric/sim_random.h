/*
 * sim_random.h - the simulator's only source of chance: a small generator
 * (splitmix64) that gives the same numbers on every machine. Each part of the
 * simulation draws from a stream of its own, so that one more draw in one part
 * does not change what the others see.
 */
#ifndef MU_SIM_RANDOM_H
#define MU_SIM_RANDOM_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

struct sim_random {
	uint64_t state;
};

static inline uint64_t sim_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static inline uint64_t sim_random_next(struct sim_random *random)
{
	random->state += UINT64_C(0x9e3779b97f4a7c15);
	return sim_mix(random->state);
}

/* A stream that depends on the seed and on a name for its use. */
static inline struct sim_random sim_random_stream(uint64_t seed, uint64_t use)
{
	return (struct sim_random){.state = sim_mix(seed ^ sim_mix(use + 1))};
}

/* 0 .. bound - 1 */
static inline uint64_t sim_random_below(struct sim_random *random, uint64_t bound)
{
	assert(bound > 0);
	return (uint64_t)(((unsigned __int128)sim_random_next(random) * bound) >> 64);
}

/* low .. high, both included */
static inline uint64_t sim_random_between(struct sim_random *random, uint64_t low, uint64_t high)
{
	assert(low <= high);
	return low + sim_random_below(random, high - low + 1);
}

/* low .. high, every order of magnitude as likely as any other. */
static inline uint64_t sim_random_skewed(struct sim_random *random, uint64_t low, uint64_t high)
{
	uint64_t top = low > 0 ? low : 1;
	unsigned doublings = 0;

	assert(low <= high);
	while (doublings < 63 && top << doublings < high)
		doublings++;
	doublings = (unsigned)sim_random_below(random, doublings + 1);
	top = doublings > 0 ? top << doublings : low;
	return sim_random_between(random, top / 2 > low ? top / 2 : low, top < high ? top : high);
}

static inline bool sim_random_chance(struct sim_random *random, unsigned permille)
{
	return sim_random_below(random, 1000) < permille;
}

#endif
