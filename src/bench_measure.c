/*
 * bench_measure.c - see the header.
 *
 * Machines are noisy and their mood changes, so what is to be compared is
 * measured in turns, one by one: a burst of proposals, the same as bare writes,
 * the same as bare copies, and again. Whatever slows the machine down for more
 * than a moment is in all of them, and so not in their ratios.
 */
#include "config.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_floor.h"
#include "bench_measure.h"
#include "clock.h"

enum { ROUNDS = 20, ATTEMPTS = 10, SUSTAINED_RINGS = 6, FALL_IDLE_NS = 1000000000 };

/* What is sampled: times of proposals, of bursts of them, and of these by the floor's beside. */
enum { COMMIT, BURST, WRITE, COPY, BY_WRITE, BY_COPY, SERIES };

struct bench_measure {
	struct bench_group *group;
	struct bench_floor *floor;
	struct bench_samples samples[SERIES];
	uint8_t *bytes; /* of the largest proposal, and what the log adds to it */
	struct iovec iov[BENCH_BATCH_MAX];
};

/* ------------------------------------------------------------------- setup */

double bench_clock_cost(void)
{
	enum { READINGS = 100000 };
	uint64_t start_ns = clock_ns();

	for (int i = 0; i < READINGS; i++)
		clock_ns();
	return (double)(clock_ns() - start_ns) / READINGS;
}

static bool allocate(struct bench_measure *measure)
{
	const struct bench_options *options = measure->group->run.options;
	/* What the log adds to a proposal is copied by the floor as well. */
	size_t bytes = bench_options_largest(options) + 4096;
	bool allocated;

	measure->bytes = malloc(bytes);
	allocated = measure->bytes != NULL;
	for (int i = 0; i < SERIES && allocated; i++)
		allocated = bench_samples_init(&measure->samples[i],
					       options->count + BENCH_OUTSTANDING_MAX);
	if (allocated)
		memset(measure->bytes, 'v', bytes);
	else
		fputs("mubench: out of memory\n", stderr);
	return allocated;
}

struct bench_measure *bench_measure_new(struct bench_group *group)
{
	struct bench_measure *measure = calloc(1, sizeof(*measure));

	if (measure == NULL) {
		fputs("mubench: out of memory\n", stderr);
		return NULL;
	}
	measure->group = group;
	if (allocate(measure))
		measure->floor = bench_floor_new(group, measure->bytes);
	if (measure->floor != NULL)
		return measure;
	bench_measure_free(measure);
	return NULL;
}

void bench_measure_free(struct bench_measure *measure)
{
	if (measure->floor != NULL)
		bench_floor_free(measure->floor);
	for (int i = 0; i < SERIES; i++)
		bench_samples_free(&measure->samples[i]);
	free(measure->bytes);
	free(measure);
}

static void forget_samples(struct bench_measure *measure)
{
	for (int i = 0; i < SERIES; i++)
		measure->samples[i].count = 0;
}

/* ------------------------------------------------------------- propose, commit */

static uint64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A proposal under way, since the turn began in which it was made. */
struct under_way {
	uint64_t lsn, since_ns;
};

/* One round of proposals under one ballot. */
struct round {
	struct bench_measure *measure;
	const struct bench_case *what;
	struct bench_samples *samples; /* NULL: times are not taken */
	unsigned long count, proposed, committed;
	uint64_t ballot, timestamp_ms, now_ns;
	uint64_t took_ns; /* until the last one was committed */
	struct under_way under_way[BENCH_OUTSTANDING_MAX];
};

static bool propose(struct round *round)
{
	struct bench_measure *measure = round->measure;
	struct under_way *next = &round->under_way[round->proposed % BENCH_OUTSTANDING_MAX];

	if (mu_propose(measure->group->leader.mu, measure->iov, (int)round->what->batch,
		       round->timestamp_ms, &next->lsn) != MU_OK)
		return false;
	next->since_ns = round->now_ns;
	round->proposed++;
	return true;
}

/* Take the time of what is committed. */
static void settle(struct round *round, const struct mu_view *view)
{
	while (round->committed < round->proposed) {
		const struct under_way *oldest =
			&round->under_way[round->committed % BENCH_OUTSTANDING_MAX];

		if (oldest->lsn > view->commit_lsn)
			return;
		if (round->samples != NULL)
			bench_samples_add(round->samples, round->now_ns - oldest->since_ns);
		round->committed++;
	}
}

/* False if leadership or a follower was lost, or a signal came. */
static bool run_round(struct round *round)
{
	struct bench_replica *leader = &round->measure->group->leader;
	uint64_t start_ns;
	struct mu_view view;

	round->timestamp_ms = mu_timestamp(leader->mu, wall_ms());
	mu_view(leader->mu, &view);
	round->ballot = view.ballot;
	round->now_ns = start_ns = clock_ns();
	while (round->committed < round->count) {
		bool full = false;

		while (round->proposed < round->count && !full &&
		       round->proposed - round->committed < round->what->outstanding)
			full = !propose(round);
		mu_step(leader->mu, round->now_ns);
		mu_view(leader->mu, &view);
		round->now_ns = clock_ns();
		if (view.ballot != round->ballot || view.role != MU_ROLE_LEADER ||
		    bench_run_is_over(leader->run))
			return false;
		settle(round, &view);
		round->took_ns = round->now_ns - start_ns;
		bench_apply(leader);
		if (full)
			sched_yield(); /* the core may be what the followers lack */
		round->now_ns = clock_ns();
	}
	return bench_group_is_whole(round->measure->group);
}

static void set_operations(struct bench_measure *measure, const struct bench_case *what)
{
	for (unsigned i = 0; i < what->batch; i++)
		measure->iov[i] = (struct iovec){measure->bytes + i * what->payload, what->payload};
}

/* What a proposal takes in the log: how far apart two are, unless the ring's end lies between. */
static bool probe_log_bytes(struct bench_measure *measure, const struct bench_case *what,
			    uint64_t *log_bytes)
{
	struct round round = {.measure = measure, .what = what, .count = 4};

	*log_bytes = UINT64_MAX;
	if (!run_round(&round))
		return false;
	for (unsigned i = 1; i < round.count; i++) {
		uint64_t apart = round.under_way[i].lsn - round.under_way[i - 1].lsn;

		if (apart < *log_bytes)
			*log_bytes = apart;
	}
	return true;
}

/*
 * Let the protocol finish what it has under way; it wants another step until then.
 * Completions are the floor's only afterwards. False if it does not come to that.
 */
static bool fall_idle(struct bench_replica *leader)
{
	uint64_t until_ns = clock_ns() + FALL_IDLE_NS, now_ns;

	do {
		now_ns = clock_ns();
		if (mu_step(leader->mu, now_ns) == UINT64_MAX)
			return true;
	} while (now_ns < until_ns && !bench_run_is_over(leader->run));
	return false;
}

/* --------------------------------------------------------------------- cases */

/* What one case has come to so far. */
struct progress {
	struct bench_measure *measure;
	const struct bench_case *what;
	uint64_t log_bytes;
	uint64_t burst_ns, sustained_ns;
	unsigned long sustained_count;
};

static void add_ratio(struct bench_samples *samples, uint64_t ns, uint64_t floor_ns)
{
	if (floor_ns > 0)
		bench_samples_add(samples, ns * BENCH_RATIO_ONE / floor_ns);
}

/* As many proposals as are to be outstanding at once, and then the same without the protocol. */
static bool run_burst(struct progress *progress)
{
	struct bench_measure *measure = progress->measure;
	struct bench_samples *samples = measure->samples;
	unsigned count = progress->what->outstanding;
	struct round round = {.measure = measure,
			      .what = progress->what,
			      .samples = &samples[COMMIT],
			      .count = count};
	uint64_t write_ns, copy_ns;

	if (!run_round(&round) || !fall_idle(&measure->group->leader) ||
	    !bench_floor_write(measure->floor, progress->log_bytes, count, &write_ns) ||
	    !bench_floor_copy(measure->floor, progress->log_bytes, count, &copy_ns))
		return false;
	bench_samples_add(&samples[BURST], round.took_ns);
	bench_samples_add(&samples[WRITE], write_ns);
	bench_samples_add(&samples[COPY], copy_ns);
	add_ratio(&samples[BY_WRITE], round.took_ns, write_ns);
	add_ratio(&samples[BY_COPY], round.took_ns, copy_ns);
	progress->burst_ns += round.took_ns;
	return true;
}

/* Bursts for so many proposals, beginning level; false if they are not to be counted. */
static bool run_turn(struct progress *progress, unsigned long count)
{
	for (unsigned long done = 0; done < count; done += progress->what->outstanding)
		if (!run_burst(progress))
			return false;
	return true;
}

/* Several rings full without a pause. */
static bool run_sustained(struct progress *progress, unsigned long count)
{
	struct round round = {.measure = progress->measure, .what = progress->what, .count = count};
	uint64_t start_ns = clock_ns();

	if (!run_round(&round))
		return false;
	progress->sustained_ns = clock_ns() - start_ns;
	progress->sustained_count = count;
	return true;
}

/* Until it works, and not for ever. */
static bool repeat(bool (*run)(struct progress *, unsigned long), struct progress *progress,
		   unsigned long count, unsigned long *lost)
{
	struct bench_measure *measure = progress->measure;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		uint64_t burst_ns = progress->burst_ns;
		size_t taken[SERIES];

		for (int i = 0; i < SERIES; i++)
			taken[i] = measure->samples[i].count;
		if (!bench_group_lead(measure->group))
			return false;
		if (run(progress, count))
			return true;
		for (int i = 0; i < SERIES; i++)
			measure->samples[i].count = taken[i];
		progress->burst_ns = burst_ns;
		++*lost;
	}
	fputs("mubench: leadership or followers are lost again and again\n", stderr);
	return false;
}

/* As many as half a ring takes, and not all in one. */
static unsigned long round_size(const struct progress *progress)
{
	const struct bench_options *options = progress->measure->group->run.options;
	unsigned long share = (options->count + ROUNDS - 1) / ROUNDS;
	unsigned long fit = options->ring_bytes / 2 / progress->log_bytes;

	return share < fit ? share : fit;
}

static bool measure_case(struct progress *progress, struct bench_result *result)
{
	const struct bench_options *options = progress->measure->group->run.options;
	unsigned long left = options->count;

	if (!probe_log_bytes(progress->measure, progress->what, &progress->log_bytes))
		return false;
	while (left > 0) {
		unsigned long size = round_size(progress);
		unsigned long count = left < size ? left : size;

		if (!repeat(run_turn, progress, count, &result->lost))
			return false;
		left -= count;
	}
	return repeat(run_sustained, progress,
		      SUSTAINED_RINGS * options->ring_bytes / progress->log_bytes, &result->lost);
}

bool bench_measure_run(struct bench_measure *measure, const struct bench_case *what,
		       struct bench_result *result)
{
	struct progress progress = {.measure = measure, .what = what};

	*result = (struct bench_result){0};
	forget_samples(measure);
	set_operations(measure, what);
	if (!bench_group_lead(measure->group) || !measure_case(&progress, result))
		return false;
	result->log_bytes = progress.log_bytes;
	result->burst_per_s = (double)measure->samples[COMMIT].count * what->batch * 1e9 /
			      (double)progress.burst_ns;
	result->sustained_per_s = (double)progress.sustained_count * what->batch * 1e9 /
				  (double)progress.sustained_ns;
	result->commit = bench_samples_figures(&measure->samples[COMMIT]);
	result->burst = bench_samples_figures(&measure->samples[BURST]);
	result->write = bench_samples_figures(&measure->samples[WRITE]);
	result->copy = bench_samples_figures(&measure->samples[COPY]);
	result->by_write = bench_samples_figures(&measure->samples[BY_WRITE]);
	result->by_copy = bench_samples_figures(&measure->samples[BY_COPY]);
	return true;
}

bool bench_measure_warm_up(struct bench_measure *measure)
{
	const struct bench_options *options = measure->group->run.options;
	size_t largest = bench_options_largest(options);
	struct bench_case what = {largest < 4096 ? largest : 4096, 1, 1};
	struct progress progress = {.measure = measure, .what = &what, .log_bytes = what.payload};
	unsigned long lost = 0;

	set_operations(measure, &what);
	for (int quarter = 0; quarter < 8; quarter++) {
		forget_samples(measure);
		if (!repeat(run_turn, &progress, options->ring_bytes / 4 / what.payload, &lost))
			return false;
	}
	return true;
}
