/* plan.c - see plan.h. */
#include "plan.h"

#include <string.h>

/* A bias: weights of the kinds of faults, and times in ticks. */
struct schedule {
	const char *name;
	unsigned share; /* of the seeds */
	unsigned weight[FAULT_KINDS];
	unsigned fault_every;
	unsigned pause_max;
	unsigned outage_max;
	unsigned down_max;
	unsigned strike_permille;
	unsigned interrupt_permille;
	bool lagging;   /* one backend is far slower than the rest */
	bool handovers; /* who resigns makes way for somebody in particular, as a rule */
	bool changes;   /* members change, of groups that begin with some of the replicas */
	/* Staged: taken by name alone. What the play needs, instead of what is drawn, if not 0. */
	enum play play;
	struct {
		unsigned replicas;
		uint64_t ring_bytes;
		uint64_t payload_max;
		uint64_t entry_max;
		uint64_t op_timeout; /* ticks */
		uint64_t ask_every;  /* hundredths of a tick */
		unsigned outstanding_max;
		unsigned fence_permille;
	} set;
};

static const struct schedule schedules[] = {
	{.name = "calm", .share = 2, .fault_every = 1000},
	{.name = "pauses",
	 .share = 12,
	 .weight = {[FAULT_PAUSE] = 6, [FAULT_PAUSE_LEADER] = 6, [FAULT_CRASH] = 1},
	 .fault_every = 30,
	 .pause_max = 400,
	 .down_max = 60,
	 .strike_permille = 200,
	 .interrupt_permille = 10},
	{.name = "link",
	 .share = 8,
	 .weight = {[FAULT_LINK] = 6, [FAULT_PAUSE] = 1, [FAULT_PAUSE_LEADER] = 1},
	 .fault_every = 60,
	 .pause_max = 60,
	 .outage_max = 1000,
	 .interrupt_permille = 5},
	{.name = "lagging",
	 .share = 8,
	 .weight = {[FAULT_SLOW] = 3,
		    [FAULT_PAUSE] = 3,
		    [FAULT_CRASH_LEADER] = 2,
		    [FAULT_BACKEND_DOWN] = 2},
	 .fault_every = 60,
	 .pause_max = 600,
	 .outage_max = 600,
	 .down_max = 100,
	 .interrupt_permille = 5,
	 .lagging = true},
	{.name = "killer",
	 .share = 14,
	 .weight = {[FAULT_CRASH_LEADER] = 5,
		    [FAULT_CRASH_INSIDE] = 5,
		    [FAULT_CRASH] = 2,
		    [FAULT_RESTART_ALL] = 1},
	 .fault_every = 30,
	 .pause_max = 40,
	 .down_max = 40,
	 .strike_permille = 300,
	 .interrupt_permille = 20},
	{.name = "duel",
	 .share = 14,
	 .weight = {[FAULT_PAUSE_LEADER] = 5,
		    [FAULT_LINK] = 2,
		    [FAULT_CRASH_LEADER] = 1,
		    [FAULT_RESIGN] = 1},
	 .fault_every = 20,
	 .pause_max = 30,
	 .outage_max = 40,
	 .down_max = 30,
	 .strike_permille = 500,
	 .interrupt_permille = 40},
	{.name = "split",
	 .share = 10,
	 .weight = {[FAULT_ISOLATE] = 4,
		    [FAULT_SPLIT] = 4,
		    [FAULT_LINK] = 2,
		    [FAULT_SLOW] = 1,
		    [FAULT_PAUSE] = 1},
	 .fault_every = 40,
	 .pause_max = 60,
	 .outage_max = 200,
	 .strike_permille = 100,
	 .interrupt_permille = 10},
	{.name = "forgetful",
	 .share = 14,
	 .weight = {[FAULT_LOSE] = 6,
		    [FAULT_USURP] = 4,
		    [FAULT_PAUSE_LEADER] = 6,
		    [FAULT_PAUSE] = 2,
		    [FAULT_CRASH_LEADER] = 1,
		    [FAULT_ISOLATE] = 1,
		    [FAULT_LINK] = 1},
	 .fault_every = 40,
	 .pause_max = 500,
	 .outage_max = 200,
	 .down_max = 40,
	 .strike_permille = 150,
	 .interrupt_permille = 10},
	{.name = "usurper",
	 .share = 10,
	 .weight = {[FAULT_USURP] = 8, [FAULT_PAUSE_LEADER] = 1, [FAULT_LOSE] = 1},
	 .fault_every = 150,
	 .pause_max = 300,
	 .outage_max = 100,
	 .down_max = 20,
	 .interrupt_permille = 5},
	{.name = "sniper",
	 .share = 14,
	 .weight = {[FAULT_CRASH_INSIDE] = 8, [FAULT_LINK] = 1, [FAULT_PAUSE_LEADER] = 1},
	 .fault_every = 100,
	 .pause_max = 50,
	 .outage_max = 60,
	 .down_max = 60,
	 .strike_permille = 900,
	 .interrupt_permille = 5},
	{.name = "power",
	 .share = 6,
	 .weight = {[FAULT_LOSE_ALL] = 2,
		    [FAULT_RESTART_ALL] = 2,
		    [FAULT_LOSE] = 1,
		    [FAULT_BACKEND_LOST] = 2,
		    [FAULT_SLOW] = 1,
		    [FAULT_PAUSE] = 3,
		    [FAULT_CRASH_INSIDE] = 2,
		    [FAULT_LINK] = 1},
	 .fault_every = 60,
	 .pause_max = 100,
	 .outage_max = 100,
	 .down_max = 60,
	 .strike_permille = 50,
	 .interrupt_permille = 10},
	{.name = "backends",
	 .share = 6,
	 .weight = {[FAULT_BACKEND_LOST] = 5,
		    [FAULT_BACKEND_DOWN] = 5,
		    [FAULT_CRASH] = 2,
		    [FAULT_RESIGN] = 1,
		    [FAULT_PAUSE] = 1},
	 .fault_every = 30,
	 .pause_max = 40,
	 .outage_max = 150,
	 .down_max = 60,
	 .interrupt_permille = 5},
	{.name = "chaos",
	 .share = 10,
	 .weight = {[FAULT_PAUSE] = 4,
		    [FAULT_PAUSE_LEADER] = 3,
		    [FAULT_CRASH] = 2,
		    [FAULT_CRASH_LEADER] = 2,
		    [FAULT_CRASH_INSIDE] = 2,
		    [FAULT_RESTART_ALL] = 1,
		    [FAULT_LOSE] = 2,
		    [FAULT_LINK] = 3,
		    [FAULT_ISOLATE] = 2,
		    [FAULT_SPLIT] = 2,
		    [FAULT_SLOW] = 2,
		    [FAULT_BACKEND_LOST] = 1,
		    [FAULT_BACKEND_DOWN] = 1,
		    [FAULT_RESIGN] = 1,
		    [FAULT_WALL_CLOCK] = 1},
	 .fault_every = 20,
	 .pause_max = 300,
	 .outage_max = 300,
	 .down_max = 100,
	 .strike_permille = 200,
	 .interrupt_permille = 20},
	/* From here on those that no seed takes by itself: loads that a rule is for, then plays. */
	{.name = "fragments",
	 .weight = {[FAULT_CRASH_INSIDE] = 4, [FAULT_ISOLATE] = 2, [FAULT_CRASH_LEADER] = 4},
	 .fault_every = 30,
	 .pause_max = 60,
	 .outage_max = 100,
	 .down_max = 40,
	 .strike_permille = 200,
	 .set = {.ring_bytes = 16384, .entry_max = 128, .ask_every = 50, .payload_max = 4096}},
	{.name = "handovers",
	 .weight = {[FAULT_RESIGN] = 8,
		    [FAULT_PAUSE_LEADER] = 2,
		    [FAULT_CRASH_LEADER] = 1,
		    [FAULT_LINK] = 2,
		    [FAULT_LOSE] = 1,
		    [FAULT_BACKEND_DOWN] = 1},
	 .handovers = true,
	 .fault_every = 40,
	 .pause_max = 60,
	 .outage_max = 60,
	 .down_max = 60,
	 .strike_permille = 50,
	 .interrupt_permille = 20},
	{.name = "members",
	 .weight = {[FAULT_CHANGE] = 10,
		    [FAULT_RESIGN] = 1,
		    [FAULT_PAUSE_LEADER] = 2,
		    [FAULT_CRASH_LEADER] = 2,
		    [FAULT_CRASH_INSIDE] = 2,
		    [FAULT_LINK] = 1,
		    [FAULT_LOSE] = 1},
	 .changes = true,
	 .handovers = true,
	 .fault_every = 30,
	 .pause_max = 100,
	 .outage_max = 100,
	 .down_max = 60,
	 .strike_permille = 100,
	 .interrupt_permille = 10},
	{.name = "members-duel",
	 .weight = {[FAULT_CHANGE] = 12,
		    [FAULT_PAUSE] = 2,
		    [FAULT_PAUSE_LEADER] = 6,
		    [FAULT_ISOLATE] = 4,
		    [FAULT_SPLIT] = 4,
		    [FAULT_LINK] = 2,
		    [FAULT_CRASH_LEADER] = 3},
	 .changes = true,
	 .fault_every = 15,
	 .pause_max = 200,
	 .outage_max = 200,
	 .down_max = 60,
	 .strike_permille = 300,
	 .interrupt_permille = 30},
	{.name = "members-chaos",
	 .weight = {[FAULT_CHANGE] = 12,
		    [FAULT_PAUSE] = 3,
		    [FAULT_PAUSE_LEADER] = 3,
		    [FAULT_CRASH] = 2,
		    [FAULT_CRASH_LEADER] = 2,
		    [FAULT_CRASH_INSIDE] = 2,
		    [FAULT_RESTART_ALL] = 1,
		    [FAULT_LOSE] = 3,
		    [FAULT_USURP] = 1,
		    [FAULT_LINK] = 2,
		    [FAULT_ISOLATE] = 2,
		    [FAULT_SPLIT] = 2,
		    [FAULT_SLOW] = 1,
		    [FAULT_BACKEND_LOST] = 1,
		    [FAULT_BACKEND_DOWN] = 1,
		    [FAULT_RESIGN] = 1},
	 .changes = true,
	 .fault_every = 20,
	 .pause_max = 300,
	 .outage_max = 200,
	 .down_max = 100,
	 .strike_permille = 200,
	 .interrupt_permille = 20},
	{.name = "members-cold",
	 .weight = {[FAULT_CHANGE] = 10,
		    [FAULT_LOSE_ALL] = 3,
		    [FAULT_RESTART_ALL] = 1,
		    [FAULT_PAUSE] = 2,
		    [FAULT_PAUSE_LEADER] = 2,
		    [FAULT_CRASH_LEADER] = 2,
		    [FAULT_CRASH_INSIDE] = 1,
		    [FAULT_LINK] = 1,
		    [FAULT_LOSE] = 2,
		    [FAULT_BACKEND_LOST] = 1},
	 .changes = true,
	 .fault_every = 40,
	 .pause_max = 100,
	 .outage_max = 100,
	 .down_max = 60,
	 .strike_permille = 200,
	 .interrupt_permille = 20},
	{.name = "late-acks",
	 .fault_every = 1000,
	 .play = PLAY_LATE_ACKS,
	 .set = {.op_timeout = 400,
		 .ask_every = 100,
		 .outstanding_max = 32,
		 .fence_permille = 800}},
	{.name = "figure-8",
	 .fault_every = 1000,
	 .play = PLAY_FIGURE_8,
	 .set = {.replicas = 5, .op_timeout = 20, .ask_every = 100}},
	{.name = "leftovers",
	 .fault_every = 1000,
	 .play = PLAY_LEFTOVERS,
	 .set = {.replicas = 5,
		 .ring_bytes = 16384,
		 .payload_max = 64,
		 .entry_max = 64,
		 .op_timeout = 20,
		 .ask_every = 100,
		 .outstanding_max = 32}},
	{.name = "behind",
	 .fault_every = 1000,
	 .play = PLAY_BEHIND,
	 .set = {.replicas = 3, .ring_bytes = 8192, .payload_max = 256, .ask_every = 20}},
	{.name = "two-words",
	 .fault_every = 1000,
	 .play = PLAY_TWO_WORDS,
	 .set = {.replicas = 5,
		 .ring_bytes = 8192,
		 .payload_max = 128,
		 .op_timeout = 400,
		 .ask_every = 20,
		 .outstanding_max = 32}},
	{.name = "usurped",
	 .fault_every = 1000,
	 .play = PLAY_USURPER,
	 .set = {.replicas = 3, .op_timeout = 60, .ask_every = 2000}},
	{.name = "shut-out",
	 .fault_every = 1000,
	 .play = PLAY_SHUT_OUT,
	 .set = {.replicas = 5, .op_timeout = 6, .ask_every = 100}},
	{.name = "readmitted",
	 .fault_every = 1000,
	 .play = PLAY_READMITTED,
	 .set = {.replicas = 3, .op_timeout = 60, .ask_every = 3000}},
	{.name = "cold",
	 .fault_every = 1000,
	 .play = PLAY_COLD,
	 .set = {.replicas = 3, .op_timeout = 400, .ask_every = 100}},
	{.name = "record",
	 .fault_every = 1000,
	 .interrupt_permille = 300,
	 .play = PLAY_RECORD,
	 .set = {.op_timeout = 20, .ask_every = 300}},
	{.name = "held-up",
	 .fault_every = 1000,
	 .play = PLAY_HELD_UP,
	 .set = {.ring_bytes = 4096,
		 .payload_max = 256,
		 .op_timeout = 400,
		 .ask_every = 20,
		 .outstanding_max = 32}},
};
#define SCHEDULES (sizeof(schedules) / sizeof(*schedules))

const char *plan_schedule_name(unsigned index)
{
	return index < SCHEDULES ? schedules[index].name : NULL;
}

const char *plan_staged_name(uint64_t turn)
{
	unsigned first = 0;

	while (schedules[first].share != 0)
		first++;
	return schedules[first + turn % (SCHEDULES - first)].name;
}

static const struct schedule *choose_schedule(struct sim_random *random, const char *name)
{
	uint64_t shares = 0, drawn;

	for (unsigned i = 0; i < SCHEDULES; i++)
		shares += schedules[i].share;
	drawn = sim_random_below(random, shares);
	for (unsigned i = 0; i < SCHEDULES; i++) {
		if (name == NULL && drawn < schedules[i].share)
			return &schedules[i];
		if (name != NULL && strcmp(name, schedules[i].name) == 0)
			return &schedules[i];
		drawn -= schedules[i].share;
	}
	return NULL;
}

static void draw_group(struct plan *plan, struct sim_random *random, unsigned replicas)
{
	static const unsigned sizes[] = {3, 3, 3, 5, 5, 7};
	struct mu_config *config = &plan->config;

	plan->replicas = sizes[sim_random_below(random, 6)];
	if (replicas != 0)
		plan->replicas = replicas;
	mu_config_init(config);
	config->member_mask = ((1u << plan->replicas) - 1) << 1;
	config->group_id = sim_random_next(random);
	for (unsigned i = 0; i < sizeof(config->checksum_key); i++)
		config->checksum_key[i] = (uint8_t)sim_random_next(random);

	config->ring_bytes = UINT64_C(4096) << sim_random_between(random, 0, 4);
	config->max_entry_bytes =
		(uint32_t)sim_random_between(random, 64, config->ring_bytes / 8 - 64);
	config->max_proposal_bytes = sim_random_between(random, 64, config->ring_bytes / 4);
	config->tick_ns = sim_random_between(random, 50000, 200000);
	plan->piece_bytes = 64 * sim_random_skewed(random, 1, config->ring_bytes / 64);
	plan->part_bytes = config->group_id % 4 == 0 ? config->ring_bytes / 16 : config->ring_bytes;
	plan->window_bytes = plan->piece_bytes + sim_random_below(random, config->ring_bytes);
	config->data_stall_ns = config->tick_ns * sim_random_between(random, 5, 30);
	config->takeover_timeout_ns = config->tick_ns * sim_random_between(random, 30, 200);
}

static void draw_world(struct plan *plan, struct sim_random *random)
{
	uint64_t tick_ns = plan->config.tick_ns;
	struct sim_config *world = &plan->world;

	world->seed = sim_random_next(random);
	world->op_timeout_ns = tick_ns * sim_random_skewed(random, 4, 100);
	world->delay_min_ns = sim_random_between(random, 100, 1000);
	world->delay_max_ns = world->delay_min_ns + sim_random_skewed(random, 100, tick_ns / 4);
	world->straggler_permille = (unsigned)sim_random_skewed(random, 0, 40);
	world->tear_permille = (unsigned)sim_random_between(random, 0, 600);
	world->refuse_permille = (unsigned)sim_random_skewed(random, 0, 10);
	world->late_permille = (unsigned)sim_random_between(random, 0, 800);
	world->queue_max = (unsigned)sim_random_between(random, 8, 128);
	world->passive_memory = sim_random_chance(random, 600);
	world->ballot_checked = sim_random_chance(random, 600);
	world->revoke_breaks = !world->ballot_checked && sim_random_chance(random, 700);
	world->revoke_fail_permille = (unsigned)sim_random_skewed(random, 0, 200);
	world->grant_fail_permille = (unsigned)sim_random_skewed(random, 0, 200);
}

static void draw_load(struct plan *plan, struct sim_random *random, bool lagging)
{
	uint64_t tick_ns = plan->config.tick_ns;

	plan->ask_every_ns = sim_random_skewed(random, tick_ns / 10, tick_ns * 10);
	plan->propose_permille = (unsigned)sim_random_between(random, 50, 1000);
	plan->outstanding_max = (unsigned)sim_random_skewed(random, 1, 32);
	plan->fence_permille = (unsigned)sim_random_between(random, 0, 300);
	plan->payload_max = sim_random_skewed(random, 32, plan->config.max_proposal_bytes + 64);
	plan->apply_max_ns = sim_random_skewed(random, 100, tick_ns / 4);
	plan->slow_backend = 0;
	if (lagging)
		plan->slow_backend = (unsigned)sim_random_between(random, 1, plan->replicas);
}

/* The group begins with some of the replicas; the others wait to be made members. */
static void draw_members(struct plan *plan, struct sim_random *random)
{
	struct mu_config *config = &plan->config;
	unsigned members = (unsigned)sim_random_between(random, 2, 5);

	if (plan->recipe.replicas == 0)
		plan->replicas = (unsigned)sim_random_between(random, 5, MU_MAX_REPLICAS);
	config->peer_mask = ((1u << plan->replicas) - 1) << 1;
	if (members >= plan->replicas)
		members = plan->replicas - 1;
	config->member_mask = ((1u << members) - 1) << 1;
	plan->changes = true;
}

/* What the schedule wants to be so. */
static void set(struct plan *plan, const struct schedule *schedule)
{
	uint64_t tick_ns = plan->config.tick_ns;

	plan->play = schedule->play;
	plan->handovers = schedule->handovers;
	if (schedule->set.op_timeout != 0)
		plan->world.op_timeout_ns = tick_ns * schedule->set.op_timeout;
	if (schedule->set.ask_every != 0)
		plan->ask_every_ns = tick_ns * schedule->set.ask_every / 100;
	if (schedule->set.ask_every != 0 && schedule->set.ask_every <= 100)
		plan->propose_permille = 900;
	if (schedule->set.outstanding_max != 0)
		plan->outstanding_max = schedule->set.outstanding_max;
	if (schedule->set.fence_permille != 0)
		plan->fence_permille = schedule->set.fence_permille;
	if (plan->play == PLAY_NONE)
		return;
	/* The play is what goes wrong. What comes when it likes would end it too early. */
	plan->world.straggler_permille = 0;
	plan->world.refuse_permille = 0;
	plan->world.revoke_fail_permille = 0;
	plan->world.grant_fail_permille = 0;
	plan->world.queue_max = 128;
}

/* Rings and sizes that the schedule wants, before all that is drawn in terms of them. */
static void set_sizes(struct plan *plan, const struct schedule *schedule)
{
	struct mu_config *config = &plan->config;

	if (schedule->set.ring_bytes != 0) {
		config->ring_bytes = schedule->set.ring_bytes;
		config->max_entry_bytes = (uint32_t)(config->ring_bytes / 8 - 64);
		config->max_proposal_bytes = config->ring_bytes / 4;
		plan->piece_bytes = config->ring_bytes / 16;
		plan->part_bytes = config->ring_bytes;
		plan->window_bytes = 2 * config->ring_bytes;
	}
	if (schedule->set.entry_max != 0)
		config->max_entry_bytes = (uint32_t)schedule->set.entry_max;
}

bool plan_draw(struct plan *plan, const struct recipe *recipe)
{
	struct sim_random random = sim_random_stream(recipe->seed, 'P');
	const struct schedule *schedule = choose_schedule(&random, recipe->schedule);
	uint64_t tick_ns;

	memset(plan, 0, sizeof(*plan));
	if (schedule == NULL)
		return false;
	plan->recipe = *recipe;
	plan->schedule = schedule->name;
	plan->rounds = (unsigned)sim_random_between(&random, 1, 3);
	draw_group(plan, &random,
		   recipe->replicas != 0 ? recipe->replicas : schedule->set.replicas);
	set_sizes(plan, schedule);
	draw_world(plan, &random);
	draw_load(plan, &random, schedule->lagging);
	if (schedule->changes)
		draw_members(plan, &random);
	if (schedule->set.payload_max != 0)
		plan->payload_max = schedule->set.payload_max;
	set(plan, schedule);

	tick_ns = plan->config.tick_ns;
	memcpy(plan->weight, schedule->weight, sizeof(plan->weight));
	for (unsigned kind = 0; kind < FAULT_CHANGE; kind++)
		plan->weight[kind] *= (unsigned)sim_random_between(&random, 0, 3);
	plan->fault_every_ns =
		tick_ns * schedule->fault_every * sim_random_between(&random, 2, 10) / 5;
	plan->pause_max_ns = tick_ns * schedule->pause_max;
	plan->outage_max_ns = tick_ns * schedule->outage_max;
	plan->down_max_ns = tick_ns * schedule->down_max;
	plan->strike_permille = schedule->strike_permille;
	plan->crash_point_max = (unsigned)sim_random_skewed(&random, 10, 5000);
	plan->interrupt_permille =
		(unsigned)sim_random_between(&random, 0, schedule->interrupt_permille);
	plan->interrupt_max_ns = tick_ns * 30;
	plan->turn_ns = tick_ns / sim_random_between(&random, 20, 100);
	plan->jitter_ns = sim_random_skewed(&random, 100, tick_ns / 4);
	plan->transfer_every_ns = tick_ns * sim_random_between(&random, 20, 200);
	plan->progress_bound_ns = tick_ns * 4000;
	spare_apply(plan, recipe->spared);
	return true;
}
