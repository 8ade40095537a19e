/*
 * bench_measure.c - see the header.
 *
 * Machines are noisy and their mood changes, so what is to be compared is
 * measured in turns: a round of proposals, one of bare writes, one of bare
 * copies, and again.
 */
#include "config.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench_measure.h"
#include "clock.h"

enum { ROUNDS = 20, ATTEMPTS = 10, SUSTAINED_RINGS = 6, FALL_IDLE_NS = 1000000000 };

struct bench_measure {
	struct bench_group *group;
	struct bench_samples commit, write, copy;
	uint8_t *bytes; /* of the largest proposal, and what the log adds to it */
	struct iovec iov[BENCH_BATCH_MAX];
	/* The followers' memory behind the ring, mapped here; NULL where there is none. */
	uint8_t *floor[MU_ID_SLOTS];
	uint64_t floor_offset; /* where that memory lies in the region */
	uint64_t floor_at;     /* where in it the next copies go */
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

	measure->bytes = malloc(bytes);
	if (measure->bytes == NULL || !bench_samples_init(&measure->commit, options->count) ||
	    !bench_samples_init(&measure->write, options->count) ||
	    !bench_samples_init(&measure->copy, options->count)) {
		fputs("mubench: out of memory\n", stderr);
		return false;
	}
	memset(measure->bytes, 'v', bytes);
	return true;
}

struct bench_measure *bench_measure_new(struct bench_group *group)
{
	const struct bench_options *options = group->run.options;
	struct bench_measure *measure = calloc(1, sizeof(*measure));
	bool ready;

	if (measure == NULL) {
		fputs("mubench: out of memory\n", stderr);
		return NULL;
	}
	measure->group = group;
	measure->floor_offset = bench_extra_offset(options);
	ready = allocate(measure);
	for (unsigned id = 2; id <= options->replicas && ready; id++) {
		if (options->fabric->map_floor == NULL)
			break;
		measure->floor[id] =
			options->fabric->map_floor(group->run.directory, id, measure->floor_offset,
						   bench_extra_bytes(options));
		ready = measure->floor[id] != NULL;
	}
	if (ready)
		return measure;
	bench_measure_free(measure);
	return NULL;
}

void bench_measure_free(struct bench_measure *measure)
{
	for (unsigned id = 0; id < MU_ID_SLOTS; id++)
		if (measure->floor[id] != NULL)
			munmap(measure->floor[id], bench_extra_bytes(measure->group->run.options));
	bench_samples_free(&measure->commit);
	bench_samples_free(&measure->write);
	bench_samples_free(&measure->copy);
	free(measure->bytes);
	free(measure);
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
	struct mu_view view;

	round->timestamp_ms = mu_timestamp(leader->mu, wall_ms());
	mu_view(leader->mu, &view);
	round->ballot = view.ballot;
	round->now_ns = clock_ns();
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

/* -------------------------------------------------------------------- floor */

/* Where the next copy goes. */
static uint64_t next_floor(struct bench_measure *measure, uint64_t bytes)
{
	uint64_t at = measure->floor_at;

	if (at + bytes > measure->group->run.options->ring_bytes)
		at = 0;
	measure->floor_at = at + bytes;
	return at;
}

/* Bare writes under way: each follower's are done in order. */
struct bare {
	struct mu_fabric *fabric;
	unsigned followers;
	uint64_t posted; /* to each */
	uint64_t done[MU_ID_SLOTS];
};

/* How many followers have all but the last `short_of` of what was posted. */
static unsigned count_done(const struct bare *bare, uint64_t short_of)
{
	unsigned count = 0;

	for (unsigned id = 2; id < 2 + bare->followers; id++)
		count += bare->done[id] + short_of >= bare->posted;
	return count;
}

/* Until as many followers have; false if a write failed. */
static bool await_done(struct bare *bare, unsigned followers, uint64_t short_of)
{
	struct mu_completion done[64];

	while (count_done(bare, short_of) < followers) {
		int n = bare->fabric->ops->poll(bare->fabric, MU_PLANE_DATA, done, 64);

		for (int i = 0; i < n; i++) {
			if (done[i].status != MU_FABRIC_OK)
				return false;
			bare->done[done[i].peer]++;
		}
	}
	return true;
}

/*
 * One proposal's bytes to all followers, out of memory that the fabric knows, as the
 * log is. False if one is refused.
 */
static bool write_all(struct bench_measure *measure, struct bare *bare, uint64_t bytes,
		      uint64_t ballot)
{
	struct mu_fabric *fabric = bare->fabric;
	const uint8_t *from = fabric->ops->local(fabric, MU_REGION_REPLICATION);
	uint64_t offset = measure->floor_offset + next_floor(measure, bytes);

	for (unsigned id = 2; id < 2 + bare->followers; id++)
		if (fabric->ops->post_write(fabric, MU_PLANE_DATA, id, MU_REGION_REPLICATION,
					    offset, from + measure->floor_offset, bytes, ballot,
					    0) != 0)
			return false;
	bare->posted++;
	return true;
}

/* Let the protocol finish what it has under way; it wants another step until then. */
static void fall_idle(struct bench_replica *leader)
{
	uint64_t until_ns = clock_ns() + FALL_IDLE_NS;

	while (mu_step(leader->mu, clock_ns()) != UINT64_MAX && clock_ns() < until_ns &&
	       !bench_run_is_over(leader->run))
		;
}

/*
 * Bare writes, by the fabric that the protocol uses and under its permission,
 * while the protocol itself is idle: completions are ours. As a proposal, it is over
 * when a majority has it, the leader included. False if one failed.
 */
static bool run_writes(struct bench_measure *measure, const struct bench_case *what, uint64_t bytes,
		       unsigned long count)
{
	struct bench_replica *leader = &measure->group->leader;
	struct bare bare = {.fabric = leader->fabric,
			    .followers = measure->group->run.options->replicas - 1};
	struct mu_view view;

	fall_idle(leader);
	mu_view(leader->mu, &view);
	for (unsigned long i = 0; i < count; i++) {
		uint64_t start_ns;

		/* Who is slower than the majority must not fill the fabric's queue. */
		if (!await_done(&bare, bare.followers, BENCH_OUTSTANDING_MAX))
			return false;
		start_ns = clock_ns();
		for (unsigned j = 0; j < what->outstanding; j++)
			if (!write_all(measure, &bare, bytes, view.ballot))
				return false;
		if (!await_done(&bare, bare.followers / 2, 0))
			return false;
		bench_samples_add(&measure->write, clock_ns() - start_ns);
	}
	return await_done(&bare, bare.followers, 0);
}

static void run_copies(struct bench_measure *measure, const struct bench_case *what, uint64_t bytes,
		       unsigned long count)
{
	for (unsigned long i = 0; i < count; i++) {
		uint64_t start_ns = clock_ns();

		for (unsigned j = 0; j < what->outstanding; j++) {
			uint64_t at = next_floor(measure, bytes);

			for (unsigned id = 2; id <= measure->group->run.options->replicas; id++)
				memcpy(measure->floor[id] + at, measure->bytes, bytes);
		}
		__asm__ volatile("" ::: "memory"); /* they are not to be left out */
		bench_samples_add(&measure->copy, clock_ns() - start_ns);
	}
}

static bool run_exchanges(struct bench_measure *measure, const struct bench_case *what,
			  uint64_t bytes, unsigned long count)
{
	const struct bench_run *run = &measure->group->run;

	for (unsigned long i = 0; i < count; i++) {
		uint64_t start_ns = clock_ns();

		if (!run->options->fabric->exchange(run->directory, run->options->replicas,
						    measure->bytes, bytes, what->outstanding))
			return false;
		bench_samples_add(&measure->copy, clock_ns() - start_ns);
	}
	return true;
}

/* Bare of the fabric, too. */
static bool run_bare(struct bench_measure *measure, const struct bench_case *what, uint64_t bytes,
		     unsigned long count)
{
	if (measure->group->run.options->fabric->exchange != NULL)
		return run_exchanges(measure, what, bytes, count);
	run_copies(measure, what, bytes, count);
	return true;
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

/* One round of each kind, beginning level; false if it is not to be counted. */
static bool run_turn(struct progress *progress, unsigned long count)
{
	struct bench_measure *measure = progress->measure;
	struct round round = {.measure = measure,
			      .what = progress->what,
			      .samples = &measure->commit,
			      .count = count};
	uint64_t start_ns = clock_ns(), spent_ns;

	if (!run_round(&round))
		return false;
	spent_ns = clock_ns() - start_ns;
	if (!run_writes(measure, progress->what, progress->log_bytes, count))
		return false;
	if (!run_bare(measure, progress->what, progress->log_bytes, count))
		return false;
	progress->burst_ns += spent_ns;
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
		size_t commits = measure->commit.count, writes = measure->write.count;

		if (!bench_group_lead(measure->group))
			return false;
		if (run(progress, count))
			return true;
		measure->commit.count = commits;
		measure->write.count = writes;
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
	measure->commit.count = measure->write.count = measure->copy.count = 0;
	set_operations(measure, what);
	if (!bench_group_lead(measure->group) || !measure_case(&progress, result))
		return false;
	result->log_bytes = progress.log_bytes;
	result->burst_per_s =
		(double)measure->commit.count * what->batch * 1e9 / (double)progress.burst_ns;
	result->sustained_per_s = (double)progress.sustained_count * what->batch * 1e9 /
				  (double)progress.sustained_ns;
	result->commit = bench_samples_figures(&measure->commit);
	result->write = bench_samples_figures(&measure->write);
	result->copy = bench_samples_figures(&measure->copy);
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
		measure->commit.count = measure->write.count = measure->copy.count = 0;
		if (!repeat(run_turn, &progress, options->ring_bytes / 4 / what.payload, &lost))
			return false;
	}
	return true;
}
