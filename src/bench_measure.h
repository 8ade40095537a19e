/* bench_measure.h - measuring one case: proposals, and what they are compared with. */
#ifndef MUPROXY_BENCH_MEASURE_H
#define MUPROXY_BENCH_MEASURE_H

#include "bench_group.h"
#include "bench_samples.h"

struct bench_case {
	size_t payload; /* bytes of one operation */
	unsigned outstanding;
	unsigned batch; /* operations in a proposal */
};

struct bench_result {
	uint64_t log_bytes; /* that one proposal takes in the log */
	/* One proposal, from before mu_propose() to after the step that committed it. */
	struct bench_figures commit;
	/* As many of them at once as are to be outstanding, until the last is committed. */
	struct bench_figures burst;
	/* The same bytes by the fabric's bare writes to all followers until a majority has them,
	 * and by memcpy(). */
	struct bench_figures write, copy;
	/* Each burst by the floor measured right behind it; in BENCH_RATIO_ONE. */
	struct bench_figures by_write, by_copy;
	double burst_per_s;     /* operations, while the ring takes them without waiting */
	double sustained_per_s; /* over many rings: followers have to apply in time */
	unsigned long lost;     /* rounds done again: leadership or a follower was lost in them */
};

/*
 * Room for the samples and the bytes to propose; maps the followers' memory.
 * One for all cases. On failure the reason is on stderr.
 */
struct bench_measure;
struct bench_measure *bench_measure_new(struct bench_group *group);
void bench_measure_free(struct bench_measure *measure);

/* Write over all memory that will be measured, twice. */
bool bench_measure_warm_up(struct bench_measure *measure);
/* False if it had to be given up; the reason is on stderr, or a signal came. */
bool bench_measure_run(struct bench_measure *measure, const struct bench_case *what,
		       struct bench_result *result);

/* What one reading of the clock takes, in ns. */
double bench_clock_cost(void);

#endif
