/* bench_samples.h - many times of one thing, and what they come to. */
#ifndef MUPROXY_BENCH_SAMPLES_H
#define MUPROXY_BENCH_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_samples {
	uint32_t *ns; /* what took longer than 4 s counts as 4 s */
	size_t count, room;
};

/* Ratios are sampled likewise, in thousandths. */
#define BENCH_RATIO_ONE 1000u

/* As the samples: in ns, or thousandths. */
struct bench_figures {
	double min, p25, p50, p75, p90, p99, p999, max;
};

/* False if there is no memory. */
bool bench_samples_init(struct bench_samples *samples, size_t room);
void bench_samples_free(struct bench_samples *samples);
/* What there is no room for is dropped. */
void bench_samples_add(struct bench_samples *samples, uint64_t ns);
/* Sorts them; all 0 if there are none. */
struct bench_figures bench_samples_figures(struct bench_samples *samples);

#endif
