/*
 * node.c - a replica's processes and their planes: start, death, pauses, and
 * the turns that each plane takes, as muproxy's threads would take them.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"
#include "run.h"

/* The core has about so many interruption points for every call to the fabric. */
#define POINTS_PER_CALL 20

/* Limits of the core, which it takes from here when built with MU_SIMULATED. */
uint64_t mu_piece_bytes, mu_part_bytes, mu_window_bytes;

static const char *const plane_names[MU_PLANES] = {"data", "background"};

uint64_t node_clock(const struct node *node)
{
	uint64_t now_ns = run_now(node->run);

	return node->clock_offset_ns + now_ns + now_ns / 1000000 * node->clock_ppm;
}

/* From the replica's clock to the world's; from "only when woken" to never. */
static uint64_t world_time(const struct node *node, uint64_t clock_ns)
{
	uint64_t now_ns = run_now(node->run), own_ns = node_clock(node);

	if (clock_ns == UINT64_MAX)
		return UINT64_MAX;
	return clock_ns > own_ns ? now_ns + (clock_ns - own_ns) : now_ns;
}

/* -------------------------------------------------------------------- the planes */

static void plane_due(void *ctx, uint64_t stamp);

static void schedule(struct plane_thread *thread)
{
	struct node *node = thread->node;

	node->stamp[thread->plane]++;
	if (thread->resume_ns != UINT64_MAX)
		sim_clock_at(node->run->clock, thread->resume_ns, plane_due, thread,
			     node->stamp[thread->plane]);
}

static void plane_runs(struct plane_thread *thread)
{
	struct node *node = thread->node;
	struct run *run = node->run;

	if (thread->paused_until_ns > run_now(run)) {
		thread->resume_ns = thread->paused_until_ns;
		schedule(thread);
		return;
	}
	run->current = thread;
	fiber_resume(thread->fiber);
	run->current = NULL;
	if (run->dying == node) {
		run->dying = NULL;
		node_crash(node, false);
		faults_died_inside(node);
		return;
	}
	schedule(thread);
	if (thread->woken && !thread->in_turn) {
		thread->woken = false;
		node_wake(node, thread->plane, run->plan.jitter_ns);
	}
}

static void plane_due(void *ctx, uint64_t stamp)
{
	struct plane_thread *thread = ctx;
	struct node *node = thread->node;

	if (!node->alive || stamp != node->stamp[thread->plane])
		return;
	plane_runs(thread);
	stage_look(node->run);
}

void node_wake(struct node *node, enum mu_plane plane, uint64_t within_ns)
{
	struct plane_thread *thread = &node->process.thread[plane];
	uint64_t when_ns = run_now(node->run) + sim_random_below(&node->run->random, within_ns + 1);

	if (thread == node->run->current || thread->in_turn) {
		thread->woken = true;
		return;
	}
	if (when_ns < thread->resume_ns) {
		thread->resume_ns = when_ns;
		schedule(thread);
	}
}

void node_hurry(struct node *node, enum mu_plane plane)
{
	struct plane_thread *thread = &node->process.thread[plane];

	thread->paused_until_ns = 0;
	thread->resume_ns = run_now(node->run);
	schedule(thread);
}

void node_pause(struct node *node, enum mu_plane plane, uint64_t for_ns)
{
	struct plane_thread *thread = &node->process.thread[plane];
	uint64_t until_ns = run_now(node->run) + for_ns;

	if (until_ns > thread->paused_until_ns)
		thread->paused_until_ns = until_ns;
	run_trace(node->run, node, "%s plane stands still for %" PRIu64 " us", plane_names[plane],
		  for_ns / 1000);
}

/* The running plane gives way, in the middle of what it does, for a while or for good. */
static void interrupt(struct plane_thread *thread, uint64_t for_ns)
{
	struct run *run = thread->node->run;

	assert(thread->in_turn);
	thread->resume_ns = run_now(run) + for_ns;
	if (for_ns > run->plan.config.tick_ns)
		run_trace(run, thread->node, "%s plane is interrupted for %" PRIu64 " us",
			  plane_names[thread->plane], for_ns / 1000);
	fiber_give_way(thread->fiber);
}

/* A point at which the running plane may be interrupted, or die with its process. */
static void point(struct run *run, unsigned permille)
{
	struct plane_thread *thread = run->current;

	if (thread->node->process.dies_in_points > 0 &&
	    --thread->node->process.dies_in_points == 0) {
		run->dying = thread->node;
		interrupt(thread, 0);
		abort();
	}
	if (run->phase == PHASE_FAULTS &&
	    sim_random_below(&run->random, 1000 * POINTS_PER_CALL) < permille)
		interrupt(thread, sim_random_skewed(&run->random, 100, run->plan.interrupt_max_ns));
}

void node_interrupt(void *ctx, unsigned id, enum mu_plane plane)
{
	struct run *run = ctx;

	if (run->current == NULL) /* a process that opens, or is being cleared away */
		return;
	if (run->current->node->id != id || run->current->plane != plane)
		run_fail(run, FOUND_CONTRACT,
			 "replica %u calls its fabric as plane %u in another's thread", id, plane);
	point(run, run->plan.interrupt_permille * POINTS_PER_CALL);
}

/* The run of this process, for mu_interruption_point(), which is told nothing. */
static struct run *running;

/* The core calls this, built with MU_SIMULATED (consensus/layout.h). */
void mu_interruption_point(void)
{
	if (running != NULL && running->current != NULL)
		point(running, running->plan.interrupt_permille);
}

void node_run(struct run *run)
{
	running = run;
	mu_piece_bytes = run != NULL ? run->plan.piece_bytes : 0;
	mu_part_bytes = run != NULL ? run->plan.part_bytes : 0;
	mu_window_bytes = run != NULL ? run->plan.window_bytes : 0;
}

/* ----------------------------------------------------------------------- turns */

static void check_view(struct node *node, const struct mu_view *view)
{
	const struct mu_view *last = &node->process.view;
	struct run *run = node->run;

	if ((view->role == MU_ROLE_LEADER) != (view->ballot != 0))
		run_fail(run, FOUND_MISUSE, "replica %u: role %s with ballot %" PRIx64, node->id,
			 mu_role_name(view->role), view->ballot);
	if (view->ballot != 0 && (view->ballot & 0xff) != node->id)
		run_fail(run, FOUND_MISUSE, "replica %u leads under ballot %" PRIx64, node->id,
			 view->ballot);
	if (view->ballot != 0 && last->ballot > view->ballot)
		run_fail(run, FOUND_MISUSE,
			 "replica %u: ballot goes back from %" PRIx64 " to %" PRIx64, node->id,
			 last->ballot, view->ballot);
	if (last->commit_lsn != MU_LSN_NONE && view->commit_lsn != MU_LSN_NONE &&
	    view->commit_lsn < last->commit_lsn)
		run_fail(run, FOUND_MISUSE,
			 "replica %u: commit goes back from %" PRIu64 " to %" PRIu64, node->id,
			 last->commit_lsn, view->commit_lsn);
	if (view->leader > run->plan.replicas)
		run_fail(run, FOUND_MISUSE, "replica %u sees leader %u", node->id, view->leader);
}

/*
 * Rule 5, seen from the leader: no confirmed follower's backend is outrun, as
 * far as the leader knew of it during this turn, but those that it has said not
 * to wait for.
 */
static void check_space(struct node *node)
{
	const struct mu_group_status *before = &node->process.group;
	const struct mu_view *last = &node->process.view;
	struct run *run = node->run;
	struct mu_group_status now;
	struct mu_view view;

	mu_view(node->process.mu, &view);
	mu_group_status(node->process.mu, &now);
	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		if (now.replica[id].log_only && !before->replica[id].log_only)
			run->written_off++;
		/* The log goes on without it; a candidate may not live to tell. */
		if (now.replica[id].log_only || node->process.mu->data.peer[id].written_off)
			run->node[id].backend.intact = false;
	}
	if (view.ballot == 0 || view.ballot != last->ballot || view.end_lsn == last->end_lsn)
		return;
	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		const struct mu_replica_status *was = &before->replica[id], *is = &now.replica[id];

		if (is->confirmed && was->confirmed && !is->log_only && !was->log_only &&
		    is->applied_lsn == was->applied_lsn &&
		    view.end_lsn > is->applied_lsn + run->plan.config.ring_bytes)
			run_fail(run, FOUND_REUSE,
				 "replica %u, leading, writes up to %" PRIu64
				 " over what replica %u, at %" PRIu64 ", has yet to apply",
				 node->id, view.end_lsn, id, is->applied_lsn);
	}
}

static void look(struct node *node)
{
	struct process *process = &node->process;
	struct mu_view last = process->view, view;
	struct run *run = node->run;

	mu_view(process->mu, &view);
	check_view(node, &view);
	check_space(node);
	process->view = view;
	if (view.role == last.role && view.ballot == last.ballot)
		return;
	run_trace(run, node, "is now %s, ballot %" PRIx64 ", commit %" PRIu64 ", end %" PRIu64,
		  mu_role_name(view.role), view.ballot, view.commit_lsn, view.end_lsn);
	run->digest = sim_mix(run->digest ^ view.role ^ view.ballot << 8);
	if (view.role == MU_ROLE_LEADER) {
		run->elections++;
		run->last_election_ns = run_now(run);
	}
	faults_role_changed(node, view.role);
}

/* Rule 1: a data plane that has been told to stop does not act when its step is over. */
static uint64_t step(struct node *node)
{
	const struct mu *mu = node->process.mu;
	uint64_t acting = mu->data.ballot;
	bool must_stop = acting != 0 && atomic_load(&mu->shared.lead_ballot) != acting;
	uint64_t wanted_ns = mu_step(node->process.mu, node_clock(node));

	if (must_stop && mu->data.ballot == acting)
		run_fail(node->run, FOUND_MISUSE,
			 "replica %u, told to stop, goes on under ballot %" PRIx64, node->id,
			 acting);
	return wanted_ns;
}

/* Between any two calls of the application the thread may lose its processor, too. */
static void breathe(struct node *node, enum mu_plane plane)
{
	node_interrupt(node->run, node->id, plane);
}

/* Asked to make way for somebody who cannot lead, it goes on. */
static void resign(struct node *node)
{
	struct process *process = &node->process;
	const char *why;

	process->wants_resign = false;
	run_trace(node->run, node, "is asked to make way for %u", process->heir);
	if (process->heir)
		mu_hand_over(process->mu, process->heir, &why);
	else
		mu_resign(process->mu);
}

static uint64_t data_turn(struct node *node)
{
	struct process *process = &node->process;
	uint64_t wanted_ns, soon_ns;

	mu_group_status(process->mu, &process->group);
	application_before_step(node);
	client_before_step(node);
	if (process->wants_resign)
		resign(node);
	if (process->change)
		members_ask(node);
	breathe(node, MU_PLANE_DATA);
	wanted_ns = world_time(node, step(node));
	breathe(node, MU_PLANE_DATA);
	memory_check(node->run, node->id);
	look(node);
	members_look(node);
	client_after_step(node);
	application_after_step(node);

	soon_ns = application_next_ns(node);
	if (soon_ns < wanted_ns)
		wanted_ns = soon_ns;
	soon_ns = client_next_ns(node);
	return soon_ns < wanted_ns ? soon_ns : wanted_ns;
}

static uint64_t background_turn(struct node *node)
{
	struct process *process = &node->process;
	struct mu_group_status status;
	uint64_t wanted_ns;

	wanted_ns = world_time(node, mu_background_step(process->mu, node_clock(node)));
	mu_group_status(process->mu, &status);
	node->voting = status.replica[node->id].voting;
	if (mu_data_wanted(process->mu))
		node_wake(node, MU_PLANE_DATA, node->run->plan.jitter_ns);
	if (wanted_ns == UINT64_MAX)
		run_fail(node->run, FOUND_MISUSE,
			 "replica %u: the background plane wants to sleep for ever", node->id);
	return wanted_ns;
}

static void plane_body(void *arg)
{
	struct plane_thread *thread = arg;
	struct node *node = thread->node;
	struct run *run = node->run;
	uint64_t wanted_ns;

	for (;;) {
		thread->in_turn = true;
		wanted_ns =
			thread->plane == MU_PLANE_DATA ? data_turn(node) : background_turn(node);
		thread->in_turn = false;
		thread->resume_ns = wanted_ns;
		if (wanted_ns != UINT64_MAX)
			thread->resume_ns +=
				run->plan.turn_ns +
				sim_random_skewed(&run->random, 0, run->plan.jitter_ns);
		fiber_give_way(thread->fiber);
	}
}

/* -------------------------------------------------------------- birth and death */

void node_init(struct run *run, unsigned id)
{
	struct node *node = &run->node[id];

	node->run = run;
	node->id = id;
	node->clock_offset_ns = sim_random_below(&run->random, UINT64_C(1) << 50);
	node->clock_ppm = (unsigned)sim_random_below(&run->random, 2000);
	node->wall_offset_ms = (int64_t)sim_random_below(&run->random, 100);
	node->backend = (struct backend){
		.up = true,
		.intact = true,
		.applied = -1,
		.durable = -1,
		.apply_max_ns = run->plan.apply_max_ns,
		.lazy_permille = (unsigned)sim_random_below(&run->random, 900),
	};
	node->payload = malloc(run->plan.payload_max + 1);
	if (node->payload == NULL)
		abort();
	if (id == run->plan.slow_backend)
		node->backend.apply_max_ns = run->plan.config.tick_ns * 3;
}

struct birth {
	struct mu_config config;
	uint64_t incarnation;
};

static void format_memory(void *ctx, void *regions[MU_REGIONS])
{
	const struct birth *birth = ctx;

	mu_format(&birth->config, birth->incarnation, regions);
}

static void start_plane(struct node *node, enum mu_plane plane)
{
	struct plane_thread *thread = &node->process.thread[plane];

	thread->node = node;
	thread->plane = plane;
	thread->fiber = fiber_new(plane_body, thread);
	thread->resume_ns = run_now(node->run) +
			    sim_random_below(&node->run->random, node->run->plan.config.tick_ns);
	schedule(thread);
}

void node_start(struct node *node)
{
	struct run *run = node->run;
	struct birth birth = {
		.config = run->plan.config,
		.incarnation = sim_random_next(&run->random) | 1,
	};
	struct mu_fabric_config fabric = {
		.group_id = run->plan.config.group_id,
		.id = node->id,
		.member_mask = run->plan.changes ? run->plan.config.peer_mask
						 : run->plan.config.member_mask,
		.op_timeout_ns = run->plan.world.op_timeout_ns,
		.format = format_memory,
		.format_ctx = &birth,
	};
	enum mu_error error;

	assert(!node->alive);
	birth.config.id = node->id;
	birth.config.configuration = node->committed;
	birth.config.random_seed = sim_random_next(&run->random);
	for (unsigned region = 0; region < MU_REGIONS; region++)
		fabric.region_bytes[region] = mu_region_bytes(&birth.config, region);
	memset(&node->process, 0, sizeof(node->process));
	node->process.view.commit_lsn = MU_LSN_NONE;
	node->process.fabric = sim_open(run->world, &fabric);
	error = mu_open(&node->process.mu, &birth.config, node->process.fabric);
	if (error != MU_OK)
		run_fail(run, FOUND_MISUSE, "replica %u does not open: %s", node->id,
			 mu_strerror(error));
	node->alive = true;
	application_start(node);
	start_plane(node, MU_PLANE_DATA);
	start_plane(node, MU_PLANE_BACKGROUND);
	run_trace(run, node, "starts");
}

void node_crash(struct node *node, bool lose_memory)
{
	struct run *run = node->run;
	struct mu_group_status status;

	if (node->alive) {
		assert(run->current == NULL);
		mu_group_status(node->process.mu, &status);
		node->voting = status.replica[node->id].voting;
		node->configuration = node->process.mu->data.configuration;
		sim_crash_begin(run->world, node->id);
		mu_close(node->process.mu);
		sim_crash_end(run->world, node->id);
		for (unsigned plane = 0; plane < MU_PLANES; plane++) {
			node->stamp[plane]++;
			fiber_free(node->process.thread[plane].fiber);
		}
		node->alive = false;
		node->backend.applied = node->backend.durable;
		run->crashes++;
	}
	if (lose_memory) {
		node->backend.intact = false;
		sim_lose_memory(run->world, node->id);
		node->voting = false;
		run->losses++;
	}
	run_trace(run, node, "dies%s", lose_memory ? ", its memory is lost" : "");
}

void nodes_free(struct run *run)
{
	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		if (run->node[id].alive)
			node_crash(&run->node[id], false);
		free(run->node[id].payload);
	}
	node_run(NULL);
	sim_world_free(run->world);
	oracle_free(&run->oracle);
}
