/*
 * run.c - one run from its plan to its end: rounds of faults, each followed by
 * healing and the demand that all be well again within a bound. And what it
 * says: its trace, and its failure.
 */
#include "run.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Proposals that must be committed after healing. */
#define PROGRESS_PROPOSALS 40
/* Once all are level, for so long the leader must not change. */
#define STEADY_TICKS 200
/* So long a majority of blank replicas is left alone. */
#define BLIND_TICKS 100
/* Larger rings take too long to go round. */
#define MOST_DEGRADED_BYTES 16384
/* So long no other leader may come, once all is well enough for one to stay. */
#define CALM_TICKS 100

uint64_t run_now(const struct run *run)
{
	return run->clock->now_ns;
}

/* ---------------------------------------------------------------------- saying */

static void print_time(const struct run *run)
{
	uint64_t now_ns = run_now(run);

	printf("%8" PRIu64 ".%06" PRIu64 " ms ", now_ns / 1000000, now_ns % 1000000);
}

void run_trace(struct run *run, const struct node *node, const char *format, ...)
{
	va_list arguments;

	if (run->voice != RUN_TRACES)
		return;
	print_time(run);
	printf("replica %u ", node->id);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
}

static void trace_operation(const struct sim_event *event)
{
	static const char *const what[SIM_EVENT_KINDS] = {
		[SIM_POST] = "posts",        [SIM_REFUSE] = "is refused", [SIM_LAND] = "moves",
		[SIM_LATE] = "moves, late,", [SIM_COMPLETE] = "ends",
	};
	static const char *const statuses[] = {"ok", "denied", "unreachable"};
	static const char *const regions[] = {"background", "replication", "private"};

	printf("%s %s %s %u's %s region, #%" PRIu64 ": %" PRIu64 " bytes at %" PRIu64,
	       what[event->kind], event->write ? "a write" : "a read", event->write ? "to" : "of",
	       event->to, regions[event->region], event->number, event->bytes, event->offset);
	if (event->ballot != 0)
		printf(", ballot %" PRIx64, event->ballot);
	if (event->kind == SIM_COMPLETE)
		printf(", %s", statuses[event->status]);
}

static void trace_other(const struct sim_event *event)
{
	switch (event->kind) {
	case SIM_CONNECT:
		printf("connects to %u", event->to);
		break;
	case SIM_UP:
		printf("is connected to %u", event->to);
		break;
	case SIM_DOWN:
		printf("has lost the connection to %u", event->to);
		break;
	case SIM_REVOKE:
		printf("revokes the permission of %u%s", event->to,
		       event->refused ? ": not certain" : "");
		break;
	case SIM_GRANT:
		printf("grants ballot %" PRIx64 "%s", event->ballot,
		       event->refused ? ": not yet" : "");
		break;
	default:
		printf("%s", event->kind == SIM_OPEN    ? "opens its memory"
			     : event->kind == SIM_CRASH ? "crashes"
							: "loses its memory");
		break;
	}
}

static void observe(void *ctx, const struct sim_event *event)
{
	struct run *run = ctx;

	run->digest = sim_mix(run->digest ^ run_now(run));
	run->digest = sim_mix(run->digest ^ event->kind ^ (uint64_t)event->from << 8 ^
			      (uint64_t)event->to << 16 ^ (uint64_t)event->status << 24 ^
			      event->offset << 32);
	if ((event->kind == SIM_LAND || event->kind == SIM_LATE) && event->write &&
	    event->region == MU_REGION_REPLICATION)
		memory_check(run, event->to);
	if (run->voice != RUN_TRACES)
		return;
	print_time(run);
	printf("replica %u %s ", event->from, event->plane == MU_PLANE_DATA ? "D" : "B");
	if (event->kind <= SIM_COMPLETE)
		trace_operation(event);
	else
		trace_other(event);
	putchar('\n');
}

void run_fail(struct run *run, enum finding finding, const char *format, ...)
{
	struct verdict verdict = {
		.finding = finding,
		.demand = run->demand,
		.events = run->clock->happened,
	};
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(verdict.what, sizeof(verdict.what), format, arguments);
	va_end(arguments);
	if (run->verdict != NULL)
		*run->verdict = verdict;
	if (run->voice == RUN_QUIET)
		_exit(1);
	printf("seed %" PRIu64 " FAILED (%u replicas, schedule %s) at ", run->plan.recipe.seed,
	       run->plan.replicas, run->plan.schedule);
	print_time(run);
	printf("\n  %s\n  repeat with: %s\n", verdict.what, run->plan.repeat);
	fflush(stdout);
	_exit(1);
}

static void violation(void *ctx, const char *what)
{
	run_fail(ctx, FOUND_CONTRACT, "the fabric's contract is broken: %s", what);
}

/* -------------------------------------------------------------------- demanding */

/*
 * One whose data plane stands still cannot know that it leads no more; one
 * without a backend must not lead.
 */
static bool leads(const struct run *run, const struct node *node)
{
	return node->alive && node->process.view.role == MU_ROLE_LEADER && node->backend.up &&
	       node->process.thread[MU_PLANE_DATA].paused_until_ns <= run_now(run);
}

static unsigned leaders(const struct run *run)
{
	unsigned count = 0;

	for (unsigned id = 1; id <= run->plan.replicas; id++)
		count += leads(run, &run->node[id]);
	return count;
}

/* Why a replica is not where all should be; NULL if it is. */
static const char *not_level(const struct run *run, const struct node *node)
{
	int64_t last = (int64_t)run->oracle.agreed_count - 1;

	if (!node->voting)
		return "does not vote";
	if (node->process.health != MU_BACKEND_LEVEL)
		return "has no level backend";
	if (node->process.handed != last)
		return "was not handed all entries";
	if (node->backend.durable != last)
		return "has not applied all entries";
	if (node->process.clients.proposals > 0)
		return "has not decided all proposals";
	return NULL;
}

static bool all_level(const struct run *run)
{
	for (unsigned id = 1; id <= run->plan.replicas; id++)
		if (members_has(run, &run->node[id]) && not_level(run, &run->node[id]) != NULL)
			return false;
	return leaders(run) == 1;
}

static _Noreturn void fail_progress(struct run *run)
{
	char why[512];
	int at = 0;

	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		const struct node *node = &run->node[id];
		const char *reason = members_has(run, node) ? not_level(run, node) : "no member";

		at += snprintf(why + at, sizeof(why) - (size_t)at,
			       "; %u: %s, index %" PRId64 "%s%s", id,
			       mu_role_name(node->process.view.role), node->process.handed,
			       reason != NULL ? ", " : "", reason != NULL ? reason : "");
	}
	run_fail(run, FOUND_NO_PROGRESS,
		 "no progress: %" PRIu64 " proposals committed and %" PRIu64
		 " us without election since healing, %u leaders, %zu agreed%s",
		 run->oracle.acknowledged_fresh, (run_now(run) - run->last_election_ns) / 1000,
		 leaders(run), run->oracle.agreed_count, why);
}

/*
 * A leader may have to go as long as readings of its heartbeat are under way that
 * were caught by a fault: a majority may not see it while they hang.
 */
static uint64_t calm_since_ns(const struct run *run)
{
	return run->healed_ns > run->last_election_ns ? run->healed_ns : run->last_election_ns;
}

/* One leader commits proposals, and stays; all others have noticed that they are none. */
static void demand_progress(struct run *run, uint64_t bytes)
{
	uint64_t calm_ns = CALM_TICKS * run->plan.config.tick_ns;
	uint64_t deadline_ns = run_now(run) + run->plan.progress_bound_ns;

	oracle_mark(&run->oracle);
	while (run->oracle.acknowledged_fresh < PROGRESS_PROPOSALS ||
	       run->oracle.fresh_bytes < bytes || leaders(run) != 1 ||
	       run_now(run) < calm_since_ns(run) + calm_ns) {
		if (run_now(run) > deadline_ns || !sim_clock_advance(run->clock))
			fail_progress(run);
	}
}

/* All replicas must come to the same end, and to one leader. */
static void demand_level(struct run *run)
{
	uint64_t deadline_ns = run_now(run) + run->plan.progress_bound_ns;

	run->phase = PHASE_LEVEL;
	while (!all_level(run)) {
		if (run_now(run) > deadline_ns || !sim_clock_advance(run->clock))
			fail_progress(run);
	}
	oracle_settle(&run->oracle);
}

/* All is well and stays so: under load, nobody takes the leader's place. */
static void demand_steadiness(struct run *run)
{
	uint64_t until_ns = run_now(run) + STEADY_TICKS * run->plan.config.tick_ns;
	uint64_t elections = run->elections;

	run->phase = PHASE_PROGRESS;
	run->demand = DEMAND_STEADINESS;
	while (run_now(run) < until_ns && sim_clock_advance(run->clock))
		;
	if (run->elections != elections)
		run_fail(run, FOUND_NO_PROGRESS,
			 "the leader changed %" PRIu64 " times although nothing was wrong",
			 run->elections - elections);
}

/*
 * From a state in which all is well: with backends gone for good, and then a
 * minority of replicas, a majority of logs and one level backend are enough.
 */
static void demand_degraded_progress(struct run *run)
{
	uint64_t ring_bytes = run->plan.config.ring_bytes;
	uint64_t bytes = sim_random_below(&run->faults, 2 * ring_bytes);

	if (ring_bytes > MOST_DEGRADED_BYTES || run->plan.changes ||
	    sim_random_chance(&run->faults, 500))
		return;
	run->demand = DEMAND_DEGRADED;
	faults_lose_backends(run);
	demand_progress(run, bytes);
	faults_lose_minority(run);
	demand_progress(run, bytes);
	faults_heal(run, false);
	demand_progress(run, 0);
	demand_level(run);
}

/*
 * Most memories are lost, and some are not: nobody may lead until the operator
 * says that what is lost is lost. At times the only one that remembers is a former
 * leader, with a tail that is not what the others committed then.
 */
static void demand_recovery(struct run *run)
{
	struct node *survivor = NULL;
	uint64_t until_ns, deadline_ns;

	if (run->plan.changes || sim_random_chance(&run->faults, 700))
		return;
	run->demand = DEMAND_RECOVERY;
	if (sim_random_chance(&run->faults, 400)) {
		survivor = faults_strand_leader(run);
		demand_progress(run, 0);
	}
	until_ns = run_now(run) + BLIND_TICKS * run->plan.config.tick_ns;
	deadline_ns = until_ns + run->plan.progress_bound_ns;
	faults_lose_majority(run, survivor);
	while (run_now(run) < until_ns && sim_clock_advance(run->clock))
		if (leaders(run) > 0 &&
		    run->last_election_ns > until_ns - BLIND_TICKS * run->plan.config.tick_ns)
			run_fail(run, FOUND_MISUSE,
				 "a leader, though a majority remembers nothing");
	run->recovering = true;
	while (run->recovering) {
		if (run_now(run) > deadline_ns || !sim_clock_advance(run->clock))
			fail_progress(run);
		faults_accept_loss(run);
	}
	demand_progress(run, 0);
	demand_level(run);
}

/* ------------------------------------------------------------------------ running */

static void run_start(struct run *run, const struct plan *plan)
{
	run->plan = *plan;
	run->random = sim_random_stream(plan->recipe.seed, 'S');
	run->faults = sim_random_stream(plan->recipe.seed, 'X');
	run->clients = sim_random_stream(plan->recipe.seed, 'C');
	run->plan.world.interrupt = node_interrupt;
	run->plan.world.observe = observe;
	run->plan.world.violation = violation;
	run->plan.world.ctx = run;
	run->world = sim_world_new(&run->plan.world);
	run->clock = sim_world_clock(run->world);
	oracle_init(&run->oracle, run);
	node_run(run);
	for (unsigned id = 1; id <= plan->replicas; id++) {
		node_init(run, id);
		node_start(&run->node[id]);
	}
}

void run_execute(const struct plan *plan, enum run_voice voice, struct verdict *verdict,
		 struct run_summary *summary)
{
	struct run *run = calloc(1, sizeof(*run));

	if (run == NULL)
		abort();
	run->voice = voice;
	run->committed = plan->config.member_mask;
	run->verdict = verdict;
	run_start(run, plan);
	for (unsigned round = 1; round <= plan->rounds; round++) {
		uint64_t until = run->clock->happened + plan->recipe.steps / plan->rounds;

		run->demand = DEMAND_SAFETY;
		faults_begin(run);
		while (run->clock->happened < until && sim_clock_advance(run->clock))
			;
		run->demand = DEMAND_PROGRESS;
		faults_heal(run, true);
		demand_progress(run, 0);
		faults_heal(run, false);
		demand_progress(run, 0);
		demand_level(run);
		demand_steadiness(run);
		demand_degraded_progress(run);
		demand_recovery(run);
	}
	*summary = (struct run_summary){
		.digest = run->digest,
		.events = run->clock->happened,
		.virtual_ns = run_now(run),
		.entries = run->oracle.agreed_count,
		.acknowledged = run->oracle.acknowledged_count,
		.elections = run->elections,
		.crashes = run->crashes,
		.losses = run->losses,
		.transfers = run->transfers,
		.fences = run->fences,
		.written_off = run->written_off,
		.eras = run->oracle.era + 1,
	};
	nodes_free(run);
	free(run);
}
