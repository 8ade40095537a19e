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
