/*
 * sim_fixture.c - the sim fabric in the suite: a group is a world of the
 * simulator, whose time the suite moves. It comes in two shapes, as mediums do:
 * memory that is there while its process is dead, and permissions that name a
 * ballot (as shm); and permissions that are the connection's, which is gone with
 * its process (as verbs). That a revocation may break the former holder's
 * connection, which a grant then waits for, is left to tests/sim: the suite
 * grants before the writer connects. Every group is another seed.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "conformance.h"
#include "fabric/sim.h"

#define WORLDS 2 /* a group, and strangers beside it */

struct place {
	struct sim_world *world[WORLDS];
	uint64_t group_id[WORLDS];
	struct sim_config config;
};

static void never_interrupt(void *ctx, unsigned id, enum mu_plane plane)
{
	(void)ctx, (void)id, (void)plane;
}

static void observe_nothing(void *ctx, const struct sim_event *event)
{
	(void)ctx, (void)event;
}

static void violation(void *ctx, const char *what)
{
	(void)ctx;
	fail_msg("the suite breaks the contract: %s", what);
}

static struct place *place_new(bool checks_ballot)
{
	static uint64_t seed;
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	place->config = (struct sim_config){
		.seed = ++seed,
		.op_timeout_ns = OP_TIMEOUT_NS,
		.delay_min_ns = 500,
		.delay_max_ns = 20000,
		.tear_permille = 600,
		.late_permille = 500,
		.queue_max = 128,
		.passive_memory = checks_ballot,
		.ballot_checked = checks_ballot,
		.interrupt = never_interrupt,
		.observe = observe_nothing,
		.violation = violation,
	};
	return place;
}

static void *passive_group_new(void)
{
	return place_new(true);
}

static void *bound_group_new(void)
{
	return place_new(false);
}

static void group_gone(void *ctx)
{
	struct place *place = ctx;

	for (unsigned i = 0; i < WORLDS; i++)
		if (place->world[i] != NULL)
			sim_world_free(place->world[i]);
	free(place);
}

static int open_replica(void *ctx, const struct mu_fabric_config *config, struct mu_fabric **out,
			char *err, size_t err_bytes)
{
	struct place *place = ctx;
	unsigned i = 0;

	(void)err, (void)err_bytes;
	while (place->world[i] != NULL && place->group_id[i] != config->group_id)
		assert_in_range(++i, 0, WORLDS - 1);
	if (place->world[i] == NULL)
		place->world[i] = sim_world_new(&place->config);
	place->group_id[i] = config->group_id;
	*out = sim_open(place->world[i], config);
	return 0;
}

static void lose_memory(void *ctx, unsigned id)
{
	sim_lose_memory(((struct place *)ctx)->world[0], id);
}

static void advance(void *ctx)
{
	struct place *place = ctx;

	for (unsigned i = 0; i < WORLDS; i++)
		if (place->world[i] != NULL)
			sim_clock_advance(sim_world_clock(place->world[i]));
}

#ifdef MU_FAULTS
extern int sim_fault;

static void break_revocation(enum conformance_fault fault)
{
	sim_fault = fault;
}
#endif

#define OF_ONE_WORLD                                                       \
	"f5_a_replica_is_a_peer_of_itself",                                \
		"the core never is, and a world says so if it"             \
		" tries",                                                  \
		"f9_an_id_runs_once", "whoever drives a world asserts it", \
		"f9_memory_of_another_group_or_size_is_refused",           \
		"a world is one group; sizes are asserted"

static const char *const passive_left_out[] = {OF_ONE_WORLD, NULL};
static const char *const bound_left_out[] = {
	OF_ONE_WORLD, "f9_memory_and_permission_outlive_the_process",
	"permission is the connection's, which ends with its process", NULL};

const struct conformance_fabric sim_passive_fixture = {
	.name = "sim",
	.group_new = passive_group_new,
	.group_free = group_gone,
	.open = open_replica,
	.lose_memory = lose_memory,
	.advance = advance,
	.left_out = passive_left_out,
#ifdef MU_FAULTS
	.break_revocation = break_revocation,
#endif
};

const struct conformance_fabric sim_bound_fixture = {
	.name = "sim-bound",
	.group_new = bound_group_new,
	.group_free = group_gone,
	.open = open_replica,
	.lose_memory = lose_memory,
	.advance = advance,
	.left_out = bound_left_out,
#ifdef MU_FAULTS
	.break_revocation = break_revocation,
#endif
};
