/* bench_steady.c - see the header. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench_replica.h"
#include "bench_steady.h"
#include "bench_watch.h"
#include "clock.h"

#define LOOK_NS 50000000u

static void report_begin(const struct bench_options *options)
{
	const struct mu_config *mu = &options->mu;

	printf("# mubench %s: %u replicas over %s, each a process, watched for %g s; %ld "
	       "processors, %u processes beside that spin\n",
	       PACKAGE_VERSION, options->replicas, options->fabric->name,
	       (double)options->steady_ns / 1e9, sysconf(_SC_NPROCESSORS_ONLN), options->busy);
	printf("# tick %g us; score at most %u, failed below %u, alive above %u, gain %u, loss "
	       "%u; a proposal every %g us\n",
	       (double)mu->tick_ns / 1e3, mu->score_max, mu->score_failed, mu->score_alive,
	       mu->score_gain, mu->score_loss, (double)options->pace_ns / 1e3);
	if (options->csv)
		printf("tick_us,busy,leader_changes,alarms,lowest_score,latest_step_us,data_late_"
		       "us,"
		       "acknowledged\n");
	fflush(stdout);
}

/* Journals have an end, so compare them now and then; that also sees whether all is well. */
static bool look(struct bench_watch *watch)
{
	const struct bench_options *options = watch->run.options;
	uint64_t since_ns = clock_ns();

	while (clock_ns() - since_ns < options->steady_ns) {
		bench_rest(LOOK_NS);
		if (!bench_watch_audit(watch))
			return false;
	}
	return bench_watch_whole(watch) != 0 && bench_watch_audit(watch);
}

struct sums {
	uint64_t alarms, late_ns, data_late_ns, at_score[BENCH_SCORE_MAX + 1];
	unsigned lowest;
};

static struct sums sum_up(const struct bench_watch *watch)
{
	struct sums sums = {.lowest = BENCH_SCORE_MAX};

	for (unsigned id = 1; id <= watch->run.options->replicas; id++) {
		const struct bench_seat *seat = &watch->board->seat[id];
		uint64_t late_ns = atomic_load(&seat->late_ns);

		sums.alarms += atomic_load(&seat->alarms);
		sums.late_ns = late_ns > sums.late_ns ? late_ns : sums.late_ns;
		if (atomic_load(&seat->data_late_ns) > sums.data_late_ns)
			sums.data_late_ns = atomic_load(&seat->data_late_ns);
		for (unsigned i = 0; i <= BENCH_SCORE_MAX; i++)
			sums.at_score[i] += atomic_load(&seat->at_score[i]);
	}
	for (unsigned i = BENCH_SCORE_MAX + 1; i-- > 0;)
		if (sums.at_score[i] > 0)
			sums.lowest = i;
	return sums;
}

static void report_end(const struct bench_watch *watch, uint64_t changes)
{
	const struct bench_options *options = watch->run.options;
	const struct bench_audit *audit = &watch->audit;
	struct sums sums = sum_up(watch);

	if (options->csv) {
		printf("%g,%u,%llu,%llu,%u,%g,%g,%llu\n", (double)options->mu.tick_ns / 1e3,
		       options->busy, (unsigned long long)changes, (unsigned long long)sums.alarms,
		       sums.lowest, (double)sums.late_ns / 1e3, (double)sums.data_late_ns / 1e3,
		       (unsigned long long)audit->acknowledged);
		return;
	}
	printf("leader changes: %llu; live replicas taken for failed: %llu times\n",
	       (unsigned long long)changes, (unsigned long long)sums.alarms);
	printf("lowest score of a live replica: %u; looks by score:", sums.lowest);
	for (unsigned i = 0; i <= options->mu.score_max; i++)
		if (sums.at_score[i] > 0)
			printf(" %u:%llu", i, (unsigned long long)sums.at_score[i]);
	printf("\nlongest time between two steps of a background thread: %g us; by which a data "
	       "thread was late: %g us\n",
	       (double)sums.late_ns / 1e3, (double)sums.data_late_ns / 1e3);
	printf("proposals: %llu acknowledged, %llu of them lost; %llu applied everywhere, %llu of "
	       "them not the same or out of order\n",
	       (unsigned long long)audit->acknowledged, (unsigned long long)audit->lost,
	       (unsigned long long)audit->compared, (unsigned long long)audit->different);
}

int bench_steady(const struct bench_options *options)
{
	struct bench_watch *watch = calloc(1, sizeof(*watch));
	uint64_t terms, changes;
	bool done;

	if (watch == NULL || !bench_watch_start(watch, options)) {
		free(watch);
		return EXIT_FAILURE;
	}
	report_begin(options);
	terms = bench_watch_terms(watch);
	done = look(watch);
	changes = bench_watch_terms(watch) - terms;
	report_end(watch, changes);
	done = done && changes == 0 && watch->audit.lost == 0 && watch->audit.different == 0;
	bench_watch_stop(watch);
	free(watch);
	return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
