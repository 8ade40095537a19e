/*
 * mubench.c - how long libmu takes from proposing to commit, and how much of
 * that is the bare copying; how long it takes to replace a leader; and how near
 * to false alarms its failure detector comes.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench_failover.h"
#include "bench_report.h"
#include "bench_steady.h"

static bool run_cases(struct bench_measure *measure, const struct bench_options *options)
{
	const struct bench_list *payloads = &options->payload, *batches = &options->batch;
	const struct bench_list *outstanding = &options->outstanding;
	unsigned cases = payloads->count * batches->count * outstanding->count;

	for (unsigned i = 0; i < cases; i++) {
		struct bench_case what = {
			.payload = payloads->value[i / outstanding->count / batches->count],
			.batch = (unsigned)batches->value[i / outstanding->count % batches->count],
			.outstanding = (unsigned)outstanding->value[i % outstanding->count],
		};
		struct bench_result result;

		if (!bench_measure_run(measure, &what, &result))
			return false;
		bench_report_line(options, &what, &result);
	}
	return true;
}

static int propose(const struct bench_options *options)
{
	struct bench_group group;
	struct bench_measure *measure;
	bool done = false;

	if (!bench_group_start(&group, options))
		return EXIT_FAILURE;
	measure = bench_measure_new(&group);
	if (measure != NULL && bench_measure_warm_up(measure)) {
		bench_report_begin(options);
		done = run_cases(measure, options);
	}
	if (measure != NULL)
		bench_measure_free(measure);
	bench_group_stop(&group);
	return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct bench_options options;
	int status = bench_options_parse(&options, argc, argv);

	if (status >= 0)
		return status;
	switch (options.mode) {
	case BENCH_FAILOVER:
		return bench_failover(&options);
	case BENCH_STEADY:
		return bench_steady(&options);
	case BENCH_PROPOSE:
		break;
	}
	return propose(&options);
}
