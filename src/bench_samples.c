/* bench_samples.c - see the header. */
#include "config.h"

#include <stdlib.h>

#include "bench_samples.h"

bool bench_samples_init(struct bench_samples *samples, size_t room)
{
	*samples = (struct bench_samples){.ns = calloc(room, sizeof(*samples->ns)), .room = room};
	return samples->ns != NULL;
}

void bench_samples_free(struct bench_samples *samples)
{
	free(samples->ns);
}

void bench_samples_add(struct bench_samples *samples, uint64_t ns)
{
	if (samples->count == samples->room)
		return;
	samples->ns[samples->count++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The smallest that this part of all do not exceed. */
static double quantile(const struct bench_samples *samples, double part)
{
	double rank = part * (double)samples->count;
	size_t at = (size_t)rank;

	return samples->ns[at > 0 && rank <= (double)at ? at - 1 : at];
}

struct bench_figures bench_samples_figures(struct bench_samples *samples)
{
	if (samples->count == 0)
		return (struct bench_figures){0};
	qsort(samples->ns, samples->count, sizeof(*samples->ns), compare);
	return (struct bench_figures){
		.min = samples->ns[0],
		.p25 = quantile(samples, 0.25),
		.p50 = quantile(samples, 0.50),
		.p75 = quantile(samples, 0.75),
		.p90 = quantile(samples, 0.90),
		.p99 = quantile(samples, 0.99),
		.p999 = quantile(samples, 0.999),
		.max = samples->ns[samples->count - 1],
	};
}
