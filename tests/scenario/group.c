/*
 * group.c - the world of a scenario: a fixed plan, virtual time, and what a
 * transcript does to processes. In the simulator's place (tests/sim/run.c,
 * faults.c), for the parts of it that are used here.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

#define MS_NS UINT64_C(1000000)
#define TICK_NS MS_NS
#define TURN_NS 10000 /* what a turn of a thread takes */
#define DELAY_NS 5000 /* one way */

/* -------------------------------------------- what the simulator's parts call */

uint64_t run_now(const struct run *run)
{
	return run->clock->now_ns;
}

void run_trace(struct run *run, const struct node *node, const char *format, ...)
{
	va_list arguments;

	if (run->voice != RUN_TRACES)
		return;
	printf("%12.6f ms  (replica %u ", (double)run_now(run) / 1e6, node->id);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	puts(")");
}

void run_fail(struct run *run, enum finding finding, const char *format, ...)
{
	struct scenario *scenario = scenario_of(run);
	char text[TEXT_BYTES];
	va_list arguments;

	(void)finding;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	run->current = NULL; /* nothing stops at this any more */
	say(scenario, 0, SAY_ALWAYS, "WRONG: %s", text);
	transcript_stop(scenario);
}

void faults_died_inside(struct node *node)
{
	(void)node;
}

void faults_role_changed(struct node *node, enum mu_role role)
{
	(void)node;
	(void)role;
}

void stage_look(struct run *run)
{
	(void)run;
}

/* A transcript loses no majority of memories by chance. */
static void violation(void *ctx, const char *what)
{
	run_fail(ctx, FOUND_CONTRACT, "the fabric's contract is broken: %s", what);
}

void group_stop_point(struct scenario *scenario)
{
	struct plane_thread *thread = scenario->run.current;

	if (!scenario->stopping || thread == NULL)
		return;
	scenario->stopping = false;
	thread->resume_ns = UINT64_MAX;
	fiber_give_way(thread->fiber);
}

static void interrupt(void *ctx, unsigned id, enum mu_plane plane)
{
	group_stop_point(ctx);
	node_interrupt(ctx, id, plane);
}

static void observe(void *ctx, const struct sim_event *event)
{
	watch_fabric(ctx, event);
	if (event->kind == SIM_LAND || event->kind == SIM_LATE)
		memory_check(ctx, event->to);
}

/* -------------------------------------------------------------------- the plan */

void group_defaults(struct group_options *options)
{
	*options = (struct group_options){
		.replicas = 3,
		.ring_bytes = 64 * 1024,
		.entry_bytes = 1024,
		.proposal_bytes = 4096,
		.stall_ns = 20 * TICK_NS,
		.op_timeout_ns = 10 * TICK_NS,
	};
}

static void plan_group(struct plan *plan, const struct group_options *options)
{
	struct mu_config *config = &plan->config;

	mu_config_init(config);
	config->member_mask = ((1u << options->replicas) - 1) << 1;
	if (options->members) {
		config->peer_mask = config->member_mask;
		config->member_mask = ((1u << options->members) - 1) << 1;
	}
	plan->changes = options->members != 0;
	config->group_id = 1;
	memset(config->checksum_key, 7, sizeof(config->checksum_key));
	config->ring_bytes = options->ring_bytes;
	config->max_entry_bytes = (uint32_t)options->entry_bytes;
	config->max_proposal_bytes = options->proposal_bytes;
	config->tick_ns = TICK_NS;
	config->data_stall_ns = options->stall_ns;
	config->takeover_timeout_ns = 40 * TICK_NS;
	plan->piece_bytes = options->piece_bytes ? options->piece_bytes : options->ring_bytes;
	plan->part_bytes = options->ring_bytes;
	plan->window_bytes = options->ring_bytes;
	plan->payload_max = options->proposal_bytes + 64;
	plan->turn_ns = TURN_NS;
}

static void plan_world(struct sim_config *world, const struct group_options *options)
{
	*world = (struct sim_config){
		.seed = 1,
		.op_timeout_ns = options->op_timeout_ns,
		.delay_min_ns = DELAY_NS,
		.delay_max_ns = DELAY_NS,
		.tear_permille = options->tear_permille,
		.late_permille = options->late_permille,
		.queue_max = 128,
		.passive_memory = !options->tcp && !options->verbs,
		.ballot_checked = !options->verbs,
		.revoke_breaks = options->verbs,
		.interrupt = interrupt,
		.observe = observe,
		.violation = violation,
	};
}

bool group_exists(const struct scenario *scenario)
{
	return scenario->run.world != NULL;
}

void group_create(struct scenario *scenario, const struct group_options *options)
{
	struct run *run = &scenario->run;

	assert(!group_exists(scenario));
	run->plan.replicas = options->replicas;
	plan_group(&run->plan, options);
	plan_world(&run->plan.world, options);
	run->plan.world.ctx = run;
	run->phase = PHASE_PROGRESS;
	run->committed = run->plan.config.member_mask;
	run->world = sim_world_new(&run->plan.world);
	run->clock = sim_world_clock(run->world);
	oracle_init(&run->oracle, run);
	node_run(run);
	for (unsigned id = 1; id <= options->replicas; id++) {
		run->random = sim_random_stream(id, 'I');
		node_init(run, id);
		run->node[id].wall_offset_ms = 0;
		run->node[id].backend.lazy_permille = 0;
	}
}

void group_free(struct scenario *scenario)
{
	if (!group_exists(scenario))
		return;
	nodes_free(&scenario->run);
	scenario->run.world = NULL;
}

/* --------------------------------------------------------------- life and death */

/* The moments at which a replica's planes run are its own, whatever went before. */
void group_start(struct scenario *scenario, unsigned id)
{
	struct run *run = &scenario->run;

	run->random = sim_random_stream(id * 1000 + run->crashes, 'S');
	node_start(&run->node[id]);
	watch_forget(scenario, id);
}

static bool all_lost(const struct run *run)
{
	for (unsigned id = 1; id <= run->plan.replicas; id++)
		if (sim_memory(run->world, id, MU_REGION_PRIVATE) != NULL)
			return false;
	return true;
}

void group_crash(struct scenario *scenario, unsigned id, bool lose_memory)
{
	struct run *run = &scenario->run;

	node_crash(&run->node[id], lose_memory);
	scenario->queue[id].count = 0;
	if (!lose_memory || !all_lost(run))
		return;
	oracle_all_lost(&run->oracle, backends_best(run));
}

void group_pause(struct scenario *scenario, unsigned id, enum mu_plane plane)
{
	struct node *node = &scenario->run.node[id];

	node_pause(node, plane, UINT64_MAX / 4);
	sim_stop(scenario->run.world, id,
		 node->process.thread[MU_PLANE_DATA].paused_until_ns > run_now(&scenario->run) &&
			 node->process.thread[MU_PLANE_BACKGROUND].paused_until_ns >
				 run_now(&scenario->run));
}

void group_go(struct scenario *scenario, unsigned id, enum mu_plane plane)
{
	sim_stop(scenario->run.world, id, false);
	node_hurry(&scenario->run.node[id], plane);
}

/* -------------------------------------------------------------------- virtual time */

static void alarm_rings(void *ctx, uint64_t stamp)
{
	struct scenario *scenario = ctx;

	scenario->alarm_rung = stamp;
}

/* So long, or until all conditions are met, if that comes first; false if not. */
static bool advance(struct scenario *scenario, uint64_t limit_ns,
		    bool (*enough)(const struct scenario *))
{
	struct run *run = &scenario->run;
	uint64_t alarm = ++scenario->alarms;

	watch_all(scenario);
	sim_clock_at(run->clock, run_now(run) + limit_ns, alarm_rings, scenario, alarm);
	while (scenario->alarm_rung != alarm) {
		sim_clock_advance(run->clock);
		watch_all(scenario);
		if (enough != NULL && enough(scenario))
			return true;
	}
	return false;
}

void group_run(struct scenario *scenario, uint64_t for_ns)
{
	advance(scenario, for_ns, NULL);
}

bool group_run_until(struct scenario *scenario, uint64_t limit_ns)
{
	return advance(scenario, limit_ns, conditions_met);
}

static void set_backends(struct run *run, unsigned except, bool up)
{
	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		if (id == except)
			continue;
		run->node[id].backend.up = up;
		node_wake(&run->node[id], MU_PLANE_DATA, 0);
	}
}

/*
 * When all are prepared to start cold they know what their backends have
 * applied. From there on only the leader's backend stays, so nobody else can
 * campaign, until it leads.
 */
bool group_settle(struct scenario *scenario, unsigned leader)
{
	struct run *run = &scenario->run;

	scenario->wait_count = 0;
	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		group_start(scenario, id);
		if (!(run->plan.config.member_mask >> id & 1))
			continue;
		scenario->waits[scenario->wait_count++] =
			(struct condition){.id = id, .text = "is prepared to start cold"};
	}
	if (!group_run_until(scenario, 200 * TICK_NS))
		return false;
	set_backends(run, leader, false);
	scenario->waits[0] = (struct condition){.id = leader, .text = "leads"};
	scenario->wait_count = 1;
	if (!group_run_until(scenario, 200 * TICK_NS))
		return false;
	scenario->wait_count = 0;
	set_backends(run, leader, true);
	group_run(scenario, 50 * TICK_NS);
	return run->node[leader].process.view.role == MU_ROLE_LEADER;
}
