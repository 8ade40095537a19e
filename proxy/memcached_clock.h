/*
 * memcached_clock.h - a memcached's idea of the time. It reads the clock when
 * it starts and counts seconds from there: it does not follow when the clock is
 * set, so the deadlines of the log, which are Unix times, may mean something
 * else to it.
 */
#ifndef MP_MEMCACHED_CLOCK_H
#define MP_MEMCACHED_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "mc_writer.h"
#include "slice.h"

struct memcached_clock {
	int64_t offset_ms; /* what it shows, less our monotonic clock; up to a second too little */
};

/* It shows that Unix time now, cut to a second. */
void memcached_clock_set(struct memcached_clock *clock, int64_t time_s);
/* By how many seconds it is ahead of Unix time, as far as that matters. */
int64_t memcached_clock_shift_s(const struct memcached_clock *clock);
/* When an item that has so long to live there is due: Unix time, up to a second too early. */
int64_t memcached_clock_deadline_s(const struct memcached_clock *clock, int64_t left_s);

/* One command of a record at the front of bytes: its line with its end, and its block. */
struct memcached_command {
	struct mp_slice line, block;
};
struct memcached_command memcached_next_command(struct mp_slice bytes);

/*
 * The command's line with its deadlines moved by shift_s. Those that are none
 * (never, at once) stay.
 */
void memcached_shift_deadlines(struct mc_writer *out, struct mp_slice line, int64_t shift_s);

#endif
