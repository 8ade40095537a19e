/*
 * faults.c - what befalls the group, by the weights of its plan: at random
 * times, and at the moments at which a replica's role has just changed.
 *
 * Two limits keep the demand for progress fair. Memory is lost only while a
 * majority still votes, or by all at once. And the backend that has applied
 * most is never lost: a state that no survivor has cannot be restored.
 */
#include <assert.h>

#include "run.h"

static uint64_t draw_ns(struct run *run, uint64_t max_ns)
{
	return sim_random_skewed(&run->faults, 1000, max_ns > 1000 ? max_ns : 1000);
}

static bool flip(struct run *run)
{
	return sim_random_chance(&run->faults, 500);
}

static struct node *any_node(struct run *run)
{
	return &run->node[sim_random_between(&run->faults, 1, run->plan.replicas)];
}

/* Who leads, under the highest ballot; anyone, if nobody does. */
static struct node *leader_or_any(struct run *run)
{
	struct node *leader = NULL;

	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		struct node *node = &run->node[id];

		if (node->alive && node->process.view.role == MU_ROLE_LEADER &&
		    (leader == NULL || leader->process.view.ballot < node->process.view.ballot))
			leader = node;
	}
	return leader != NULL ? leader : any_node(run);
}

/* --------------------------------------------------------------- pauses, deaths */

static void resume_process(void *ctx, uint64_t stamp)
{
	struct node *node = ctx;

	(void)stamp;
	sim_stop(node->run->world, node->id, false);
}

static void pause_both(struct run *run, struct node *node, uint64_t for_ns)
{
	if (!node->alive)
		return;
	node_pause(node, MU_PLANE_DATA, for_ns);
	node_pause(node, MU_PLANE_BACKGROUND, for_ns);
	sim_stop(run->world, node->id, true);
	sim_clock_at(run->clock, run_now(run) + for_ns, resume_process, node, 0);
}

static void pause_planes(struct run *run, struct node *node)
{
	uint64_t for_ns = draw_ns(run, run->plan.pause_max_ns);
	uint64_t which = sim_random_below(&run->faults, 4);

	if (which > 1)
		pause_both(run, node, for_ns);
	else if (node->alive)
		node_pause(node, (enum mu_plane)which, for_ns);
}

static void restart(void *ctx, uint64_t stamp)
{
	struct node *node = ctx;

	if (stamp == node->run->fault_stamp && !node->alive)
		node_start(node);
}

static void restart_later(struct node *node)
{
	struct run *run = node->run;

	sim_clock_at(run->clock, run_now(run) + draw_ns(run, run->plan.down_max_ns), restart, node,
		     run->fault_stamp);
}

static void crash(struct node *node)
{
	if (node->alive)
		node_crash(node, false);
	restart_later(node);
}

static void crash_inside(struct run *run, struct node *node)
{
	if (node->alive)
		node->process.dies_in_points =
			1 + (unsigned)sim_random_below(&run->faults, run->plan.crash_point_max);
}

static void flicker_in_the_cold(struct run *run);

/* A cold start is from a member's backend: what others have beyond it is gone with the log. */
static void forget_what_no_member_has(struct run *run)
{
	int64_t best = backends_best(run);

	for (unsigned id = 1; id <= run->plan.replicas; id++)
		if (run->node[id].backend.durable > best)
			backend_lose(&run->node[id], best);
}

static void crash_all(struct run *run, bool lose_memory)
{
	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		struct node *node = &run->node[id];

		if (node->alive || (lose_memory && sim_memory(run->world, id, 0) != NULL))
			node_crash(node, lose_memory);
		restart_later(node);
	}
	if (!lose_memory)
		return;
	forget_what_no_member_has(run);
	oracle_all_lost(&run->oracle, backends_best(run));
	if (flip(run))
		flicker_in_the_cold(run);
}

static void lose(struct run *run, struct node *node)
{
	if (!members_can_spare(run, node) || sim_memory(run->world, node->id, 0) == NULL)
		return;
	node_crash(node, true);
	restart_later(node);
}

/* ------------------------------------------------------------------------- links */

/* A broken link: `stamp` packs who, to whom, and under which fault_stamp. */
static uint64_t pack(struct run *run, unsigned from, unsigned to)
{
	return run->fault_stamp << 16 | from << 8 | to;
}

static void mend(void *ctx, uint64_t stamp)
{
	struct run *run = ctx;

	if (stamp >> 16 != run->fault_stamp)
		return;
	sim_block(run->world, stamp >> 8 & 0xff, stamp & 0xff, false);
	sim_slow(run->world, stamp >> 8 & 0xff, stamp & 0xff, 1);
}

static void cut(struct run *run, unsigned from, unsigned to, uint64_t for_ns)
{
	sim_block(run->world, from, to, true);
	run_trace(run, &run->node[from], "cannot reach %u", to);
	sim_clock_at(run->clock, run_now(run) + for_ns, mend, run, pack(run, from, to));
}

static void cut_both(struct run *run, unsigned a, unsigned b, unsigned directions, uint64_t for_ns)
{
	if (a == b)
		return;
	if (directions != 1)
		cut(run, a, b, for_ns);
	if (directions != 2)
		cut(run, b, a, for_ns);
}

static void break_link(struct run *run, struct node *node)
{
	cut_both(run, node->id, any_node(run)->id, (unsigned)sim_random_below(&run->faults, 4),
		 draw_ns(run, run->plan.outage_max_ns));
}

static void isolate(struct run *run, struct node *node)
{
	unsigned directions = (unsigned)sim_random_below(&run->faults, 4);
	uint64_t for_ns = draw_ns(run, run->plan.outage_max_ns);

	for (unsigned id = 1; id <= run->plan.replicas; id++)
		cut_both(run, node->id, id, directions, for_ns);
}

static void split(struct run *run)
{
	unsigned directions = (unsigned)sim_random_below(&run->faults, 4);
	uint64_t for_ns = draw_ns(run, run->plan.outage_max_ns);
	uint64_t side = sim_random_next(&run->faults);

	for (unsigned a = 1; a <= run->plan.replicas; a++)
		for (unsigned b = 1; b <= run->plan.replicas; b++)
			if ((side >> a & 1) && !(side >> b & 1))
				cut_both(run, a, b, directions, for_ns);
}

static void slow_links(struct run *run, struct node *node)
{
	unsigned times = (unsigned)sim_random_skewed(&run->faults, 2, 100);
	uint64_t for_ns = draw_ns(run, run->plan.outage_max_ns);
	bool inward = flip(run), outward = !inward || flip(run);

	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		if (id == node->id)
			continue;
		sim_slow(run->world, node->id, id, outward ? times : 1);
		sim_slow(run->world, id, node->id, inward ? times : 1);
		sim_clock_at(run->clock, run_now(run) + for_ns, mend, run, pack(run, node->id, id));
		sim_clock_at(run->clock, run_now(run) + for_ns, mend, run, pack(run, id, node->id));
	}
	run_trace(run, node, "is slow %u times", times);
}

/* -------------------------------------------------------------------- a usurper */

/*
 * Rule 2's danger, which chance alone hardly ever stages: a leader sleeps, with
 * links to a bare majority's worth of peers only; the others elect another and
 * commit; then those peers lose their memories, as many as may, while the rest
 * sleeps, and the old leader wakes to find them blank.
 */
static void usurper_strikes(void *ctx, uint64_t stamp)
{
	struct node *usurper = ctx;
	struct run *run = usurper->run;
	unsigned reached = run->plan.replicas / 2;

	if (stamp != run->fault_stamp || run->phase != PHASE_FAULTS)
		return;
	for (unsigned i = 1; i < run->plan.replicas; i++) {
		struct node *node = &run->node[(usurper->id - 1 + i) % run->plan.replicas + 1];

		if (i <= reached)
			lose(run, node);
		else
			pause_both(run, node, draw_ns(run, run->plan.pause_max_ns));
	}
}

static void usurp(struct run *run, struct node *usurper)
{
	uint64_t tick_ns = run->plan.config.tick_ns;
	uint64_t asleep_ns = tick_ns * sim_random_between(&run->faults, 30, 120);
	unsigned reached = run->plan.replicas / 2;
	bool deaf = flip(run);

	if (!usurper->alive)
		return;
	for (unsigned i = reached + 1; i < run->plan.replicas; i++)
		cut_both(run, usurper->id, (usurper->id - 1 + i) % run->plan.replicas + 1,
			 deaf ? 1 : 0, asleep_ns * 4);
	node_pause(usurper, MU_PLANE_DATA, asleep_ns);
	if (flip(run))
		node_pause(usurper, MU_PLANE_BACKGROUND, asleep_ns);
	sim_clock_at(run->clock,
		     run_now(run) + asleep_ns - sim_random_below(&run->faults, 10) * tick_ns,
		     usurper_strikes, usurper, run->fault_stamp);
}

/* ---------------------------------------------------------------------- backends */

static void backend_comes_up(void *ctx, uint64_t stamp)
{
	struct node *node = ctx;

	if (stamp != node->run->fault_stamp)
		return;
	node->backend.up = true;
	if (node->alive)
		node_wake(node, MU_PLANE_DATA, node->run->plan.jitter_ns);
}

static void backend_goes_down(struct run *run, struct node *node)
{
	if (!node->backend.up)
		return;
	run_trace(run, node, "backend goes down");
	backend_disconnect(node);
	sim_clock_at(run->clock, run_now(run) + draw_ns(run, run->plan.outage_max_ns),
		     backend_comes_up, node, run->fault_stamp);
}

/* To nothing, to any older state, or only so far that the log may still bring it level. */
static int64_t fallen_back(struct run *run, int64_t from)
{
	uint64_t way = sim_random_below(&run->faults, 3);
	int64_t by = 1 + (int64_t)sim_random_skewed(&run->faults, 0, 40);

	if (way == 0)
		return -1;
	if (way == 1)
		return (int64_t)sim_random_below(&run->faults, (uint64_t)from + 1);
	return from > by ? from - by : -1;
}

/* `stamp` packs the index that a backend is to have again, and under which fault_stamp. */
static void backend_flickers(void *ctx, uint64_t stamp)
{
	struct node *node = ctx;
	struct run *run = node->run;
	int64_t index = (int64_t)(stamp & UINT32_MAX);

	if (stamp >> 32 != run->fault_stamp || !node->backend.up ||
	    index >= (int64_t)run->oracle.agreed_count || index <= node->backend.durable)
		return;
	backend_regain(node, index);
}

static bool is_best(const struct run *run, const struct node *node)
{
	for (unsigned id = 1; id <= run->plan.replicas; id++)
		if (id != node->id && members_has(run, &run->node[id]) &&
		    run->node[id].backend.durable >= node->backend.durable)
			return false;
	return true;
}

static void backend_falls_back(struct run *run, struct node *node)
{
	int64_t had = node->backend.durable;

	if (is_best(run, node) || had < 0)
		return;
	if (had > (int64_t)run->oracle.era_first && oracle_has_former_era(&run->oracle) &&
	    flip(run)) {
		backend_revive(node,
			       (int64_t)sim_random_between(&run->faults, run->oracle.era_first + 1,
							   (uint64_t)had));
		return;
	}
	backend_lose(node, fallen_back(run, had));
	/* It may have been a file that was not there yet. */
	if (flip(run))
		sim_clock_at(run->clock, run_now(run) + draw_ns(run, run->plan.config.tick_ns * 20),
			     backend_flickers, node, run->fault_stamp << 32 | (uint64_t)had);
}

/*
 * Rule 11: while all are blank, what one backend names goes away and comes back,
 * faster than two of the others hear of each other. `stamp` as above.
 */
static void cold_backend_flickers(void *ctx, uint64_t stamp)
{
	struct node *node = ctx;
	struct run *run = node->run;
	int64_t index = (int64_t)(stamp & UINT32_MAX);

	if (stamp >> 32 != run->fault_stamp || index >= (int64_t)run->oracle.agreed_count)
		return;
	for (unsigned id = 1; id <= run->plan.replicas; id++)
		if (run->node[id].voting)
			return;
	if (node->backend.durable > index)
		return; /* it has got another's state, or flickers otherwise */
	if (node->backend.durable < index)
		backend_regain(node, index);
	else if (!is_best(run, node))
		backend_lose(node, index - 1);
	else
		return; /* the others have fallen back meanwhile: this one is to be had */
	sim_clock_at(run->clock,
		     run_now(run) +
			     run->plan.config.tick_ns * sim_random_between(&run->faults, 1, 8),
		     cold_backend_flickers, node, stamp);
}

static void flicker_in_the_cold(struct run *run)
{
	struct node *node = any_node(run), *deaf = any_node(run), *unheard = any_node(run);
	unsigned times = (unsigned)sim_random_between(&run->faults, 10, 100);

	if (is_best(run, node) || node->backend.durable < 0)
		return;
	if (deaf != unheard) {
		sim_slow(run->world, deaf->id, unheard->id, times);
		sim_clock_at(run->clock, run_now(run) + run->plan.outage_max_ns, mend, run,
			     pack(run, deaf->id, unheard->id));
	}
	sim_clock_at(run->clock, run_now(run) + draw_ns(run, run->plan.down_max_ns),
		     cold_backend_flickers, node,
		     run->fault_stamp << 32 | (uint64_t)node->backend.durable);
}

static void transfer_happens(void *ctx, uint64_t stamp)
{
	struct run *run = ctx;

	for (unsigned id = 1; id <= run->plan.replicas; id++)
		if (run->node[id].backend.stale && run->node[id].backend.up)
			backend_transfer(&run->node[id]);
	sim_clock_at(run->clock, run_now(run) + run->plan.transfer_every_ns, transfer_happens, run,
		     stamp);
}

/* ------------------------------------------------------------------- the schedule */

static void strike(struct run *run, enum fault_kind kind, struct node *node)
{
	switch (kind) {
	case FAULT_PAUSE:
	case FAULT_PAUSE_LEADER:
		pause_planes(run, node);
		break;
	case FAULT_CRASH:
	case FAULT_CRASH_LEADER:
		crash(node);
		break;
	case FAULT_CRASH_INSIDE:
		crash_inside(run, node);
		break;
	case FAULT_RESTART_ALL:
		crash_all(run, false);
		break;
	case FAULT_LOSE:
		lose(run, node);
		break;
	case FAULT_USURP:
		usurp(run, node);
		break;
	case FAULT_LOSE_ALL:
		crash_all(run, true);
		break;
	case FAULT_LINK:
		break_link(run, node);
		break;
	case FAULT_ISOLATE:
		isolate(run, node);
		break;
	case FAULT_SPLIT:
		split(run);
		break;
	case FAULT_SLOW:
		slow_links(run, node);
		break;
	case FAULT_BACKEND_LOST:
		backend_falls_back(run, node);
		break;
	case FAULT_BACKEND_DOWN:
		backend_goes_down(run, node);
		break;
	case FAULT_RESIGN:
		node->process.wants_resign = node->alive;
		if (run->plan.handovers)
			node->process.heir =
				(unsigned)sim_random_between(&run->faults, 0, run->plan.replicas);
		break;
	case FAULT_WALL_CLOCK:
		node->wall_offset_ms += (int64_t)sim_random_below(&run->faults, 20000) - 10000;
		break;
	case FAULT_CHANGE:
		members_change(run, node);
		break;
	case FAULT_KINDS:
		break;
	}
}

/*
 * The next fault of a series draws from a stream of its own, so that leaving
 * it out changes nothing about the others. False: it is left out.
 */
static bool next_fault(struct run *run, uint64_t number)
{
	run->faults = sim_random_stream(sim_mix(run->plan.recipe.seed) ^ number, 'X');
	return fault_set_has(&run->plan.recipe.faults, number);
}

/* FAULT_KINDS if the plan has no faults at all. */
static enum fault_kind draw_kind(struct run *run)
{
	uint64_t weights = 0, drawn;

	for (unsigned kind = 0; kind < FAULT_KINDS; kind++)
		weights += run->plan.weight[kind];
	if (weights == 0)
		return FAULT_KINDS;
	drawn = sim_random_below(&run->faults, weights);
	for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
		if (drawn < run->plan.weight[kind])
			return (enum fault_kind)kind;
		drawn -= run->plan.weight[kind];
	}
	return FAULT_KINDS;
}

static void fault_happens(void *ctx, uint64_t stamp)
{
	struct run *run = ctx;
	enum fault_kind kind;
	uint64_t next_ns;
	bool happens, at_leader;

	if (stamp != run->fault_stamp || run->phase != PHASE_FAULTS)
		return;
	happens = next_fault(run, 2 * ++run->faults_timed);
	next_ns = run_now(run) + sim_random_between(&run->faults, 0, 2 * run->plan.fault_every_ns);
	sim_clock_at(run->clock, next_ns, fault_happens, run, stamp);
	kind = draw_kind(run);
	at_leader = kind == FAULT_PAUSE_LEADER || kind == FAULT_USURP ||
		    kind == FAULT_CRASH_LEADER || kind == FAULT_RESIGN || kind == FAULT_CHANGE ||
		    flip(run);
	if (happens)
		strike(run, kind, at_leader ? leader_or_any(run) : any_node(run));
}

static void strike_happens(void *ctx, uint64_t stamp)
{
	struct node *node = ctx;
	struct run *run = node->run;

	if (stamp == run->fault_stamp && run->phase == PHASE_FAULTS &&
	    next_fault(run, 2 * ++run->faults_provoked + 1))
		strike(run, draw_kind(run), node);
}

void faults_role_changed(struct node *node, enum mu_role role)
{
	struct run *run = node->run;

	if (role < MU_ROLE_CANDIDATE || run->phase != PHASE_FAULTS ||
	    !sim_random_chance(&run->faults, run->plan.strike_permille))
		return;
	sim_clock_at(run->clock, run_now(run) + draw_ns(run, run->plan.config.tick_ns * 5),
		     strike_happens, node, run->fault_stamp);
}

void faults_died_inside(struct node *node)
{
	restart_later(node);
}

void faults_begin(struct run *run)
{
	run->phase = PHASE_FAULTS;
	run->fault_stamp++;
	sim_world_reconfigure(run->world, &run->plan.world);
	for (unsigned id = 1; id <= run->plan.replicas; id++)
		run->node[id].backend.apply_max_ns = id == run->plan.slow_backend
							     ? run->plan.config.tick_ns * 3
							     : run->plan.apply_max_ns;
	sim_clock_at(run->clock, run_now(run) + run->plan.fault_every_ns, fault_happens, run,
		     run->fault_stamp);
	stage_open(run);
	if (run->fault_stamp == 1)
		sim_clock_at(run->clock, run->plan.transfer_every_ns, transfer_happens, run, 0);
}

static void heal_links(struct run *run)
{
	for (unsigned from = 1; from <= run->plan.replicas; from++)
		for (unsigned to = 1; to <= run->plan.replicas; to++) {
			sim_block(run->world, from, to, false);
			sim_slow(run->world, from, to, 1);
		}
}

static void heal_node(struct run *run, struct node *node)
{
	sim_stop(run->world, node->id, false);
	node->backend.up = true;
	node->backend.apply_max_ns = run->plan.apply_max_ns;
	if (!node->alive) {
		node_start(node);
		return;
	}
	node->process.dies_in_points = 0;
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		node_hurry(node, plane);
}

/* A minority is dead or cut off. */
static void stay_away(struct run *run)
{
	unsigned spare = ((unsigned)__builtin_popcountll(members_now(run)) - 1) / 2;
	struct node *node = any_node(run);

	spare = (unsigned)sim_random_between(&run->faults, 1, spare);
	for (unsigned i = 0; i < spare; i++) {
		node = &run->node[(node->id + i) % run->plan.replicas + 1];
		run_trace(run, node, "stays away");
		if (flip(run) && node->alive)
			node_crash(node, false);
		for (unsigned id = 1; id <= run->plan.replicas; id++)
			cut_both(run, node->id, id, 0, UINT64_MAX / 2);
	}
}

/*
 * What a group must cope with for as long as it takes: one link broken, one
 * data plane stuck, one backend down, or a minority away. Fair only if a
 * majority votes without it.
 */
static void degrade(struct run *run)
{
	struct node *node;
	bool whole = members_are_settled(run);

	for (unsigned id = 1; id <= run->plan.replicas; id++)
		whole &= run->node[id].voting || !members_has(run, &run->node[id]);
	/* Of two none can be spared. */
	whole &= (unsigned)__builtin_popcountll(members_now(run)) > 2;
	run->faults = sim_random_stream(sim_mix(run->plan.recipe.seed) ^ ++run->healings, 'H');
	if (!whole || run->plan.spare_degrading || flip(run))
		return;
	node = flip(run) ? leader_or_any(run) : any_node(run);
	switch (sim_random_below(&run->faults, 5)) {
	case 0:
	case 1:
		stay_away(run);
		break;
	case 2:
		node_pause(node, MU_PLANE_DATA, UINT64_MAX / 2);
		break;
	case 3:
		run_trace(run, node, "lives on without a backend");
		backend_disconnect(node);
		break;
	default:
		run_trace(run, node, "lives on with a broken link");
		cut_both(run, node->id, any_node(run)->id,
			 (unsigned)sim_random_below(&run->faults, 4), UINT64_MAX / 2);
		break;
	}
}

/*
 * Everything that is broken is mended, and nothing more will break; but for
 * what the group must cope with, if `degraded`.
 */
void faults_heal(struct run *run, bool degraded)
{
	struct sim_config calm = run->plan.world;

	run->phase = PHASE_PROGRESS;
	run->fault_stamp++;
	stage_close(run);
	calm.straggler_permille = 0;
	calm.refuse_permille = 0;
	calm.revoke_fail_permille = 0;
	calm.grant_fail_permille = 0;
	sim_world_reconfigure(run->world, &calm);
	run->healed_ns = run_now(run) + run->plan.world.op_timeout_ns;
	heal_links(run);
	for (unsigned id = 1; id <= run->plan.replicas; id++)
		heal_node(run, &run->node[id]);
	if (degraded)
		degrade(run);
}

void faults_lose_backends(struct run *run)
{
	unsigned most = run->plan.replicas - (run->plan.replicas - 1) / 2 - 1;
	unsigned count = (unsigned)sim_random_between(&run->faults, 1, most);
	unsigned first = any_node(run)->id;

	run->phase = PHASE_PROGRESS;
	for (unsigned i = 0; i < count; i++) {
		struct node *node = &run->node[(first + i) % run->plan.replicas + 1];

		run_trace(run, node, "backend goes down for good");
		backend_disconnect(node);
		node->backend.intact = false; /* the group may go on without it */
	}
}

/* No other one could lead: its backend is stale, say, and waits for what this one's has. */
static bool has_the_only_level_backend(const struct run *run, const struct node *node)
{
	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		const struct node *other = &run->node[id];

		if (other != node && other->alive && other->backend.up &&
		    other->process.health == MU_BACKEND_LEVEL)
			return false;
	}
	return true;
}

void faults_lose_minority(struct run *run)
{
	unsigned spare = (run->plan.replicas - 1) / 2;

	for (unsigned id = 1; id <= run->plan.replicas && spare > 0; id++) {
		struct node *node = &run->node[id];

		if (!node->backend.up || has_the_only_level_backend(run, node))
			continue;
		run_trace(run, node, "dies for good");
		node_crash(node, false);
		for (unsigned to = 1; to <= run->plan.replicas; to++)
			cut_both(run, id, to, 0, UINT64_MAX / 2);
		spare--;
	}
}

struct node *faults_strand_leader(struct run *run)
{
	struct node *leader = leader_or_any(run);

	if (!leader->alive || leader->process.view.role != MU_ROLE_LEADER)
		return NULL;
	run->phase = PHASE_PROGRESS;
	for (unsigned id = 1; id <= run->plan.replicas; id++)
		cut_both(run, leader->id, id, 0, UINT64_MAX / 2);
	return leader;
}

void faults_lose_majority(struct run *run, struct node *survivor)
{
	unsigned blanks = (unsigned)sim_random_between(&run->faults, run->plan.replicas / 2 + 1,
						       run->plan.replicas - 1);
	unsigned first = any_node(run)->id;

	if (survivor != NULL) {
		blanks = run->plan.replicas - 1;
		first = survivor->id;
	}
	run->phase = PHASE_PROGRESS;
	for (unsigned i = 0; i < run->plan.replicas; i++) {
		struct node *node = &run->node[(first + i) % run->plan.replicas + 1];

		/* Whoever led does not know it yet: that ends with it. */
		node_crash(node, i < blanks);
	}
	heal_links(run);
	for (unsigned id = 1; id <= run->plan.replicas; id++)
		node_start(&run->node[id]);
}

void faults_accept_loss(struct run *run)
{
	const char *why;

	for (unsigned id = 1; id <= run->plan.replicas; id++) {
		struct node *node = &run->node[id];

		if (node->alive && mu_accept_loss(node->process.mu, &why) == MU_OK)
			run_trace(run, node, "is told to go on without what is lost");
	}
}
