/*
 * sim.c - the sim fabric's world: processes, memories, permissions, and the
 * faults that are set from outside. Connections are in sim_connection.c.
 */
#include "sim.h"
#include "sim_world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_ALIGNMENT 64

void sim_observe(struct sim_world *world, const struct sim_event *event)
{
	world->config.observe(world->config.ctx, event);
}

static void interrupt(struct mu_fabric *fabric, enum mu_plane plane)
{
	struct sim_fabric *process = (struct sim_fabric *)fabric;
	const struct sim_config *config = &process->world->config;

	config->interrupt(config->ctx, process->id, plane);
}

static struct sim_replica *replica_of(struct mu_fabric *fabric)
{
	struct sim_fabric *process = (struct sim_fabric *)fabric;

	return &process->world->replica[process->id];
}

static bool is_frozen(const struct sim_replica *replica)
{
	return replica->frozen[MU_REGION_PRIVATE] != NULL;
}

uint64_t sim_life(const struct sim_world *world, unsigned id)
{
	const struct sim_replica *replica = &world->replica[id];

	return world->config.passive_memory ? replica->memory_life : replica->process_life;
}

bool sim_reachable(const struct sim_world *world, unsigned id)
{
	const struct sim_replica *replica = &world->replica[id];

	return replica->memory[MU_REGION_PRIVATE] != NULL &&
	       (world->config.passive_memory || replica->process != NULL);
}

uint64_t sim_delay(struct sim_world *world, unsigned from, unsigned to)
{
	const struct sim_config *config = &world->config;
	uint64_t delay_ns =
		sim_random_between(&world->random, config->delay_min_ns, config->delay_max_ns);

	if (sim_random_chance(&world->random, config->straggler_permille))
		delay_ns = sim_random_skewed(&world->random, delay_ns, config->op_timeout_ns);
	return delay_ns * world->replica[from].slow_to[to];
}

bool sim_is_blocked(const struct sim_world *world, enum mu_plane plane, unsigned from, unsigned to)
{
	return world->replica[from].blocked_to[plane][to];
}

struct sim_connection *sim_connection_of(struct mu_fabric *fabric, enum mu_plane plane,
					 unsigned peer)
{
	struct sim_fabric *process = (struct sim_fabric *)fabric;
	const struct sim_config *config = &process->world->config;

	if (peer == 0 || peer >= MU_ID_SLOTS || peer == process->id)
		config->violation(config->ctx, "an operation on a peer that is none");
	if (is_frozen(replica_of(fabric)))
		return NULL;
	return &replica_of(fabric)->connection[plane][peer];
}

/* ------------------------------------------------------- the fabric's table */

static enum mu_connection sim_state(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	const struct sim_connection *connection;

	interrupt(fabric, plane);
	connection = sim_connection_of(fabric, plane, peer);
	return connection != NULL ? connection->state : MU_CONNECTION_DOWN;
}

static int sim_poll(struct mu_fabric *fabric, enum mu_plane plane, struct mu_completion *out,
		    int max)
{
	struct sim_fabric *process = (struct sim_fabric *)fabric;
	struct sim_inbox *inbox = &replica_of(fabric)->inbox[plane];
	size_t count;

	interrupt(fabric, plane);
	if (is_frozen(replica_of(fabric)))
		return 0;
	count = inbox->count;
	if (sim_random_chance(&process->world->random, 50))
		count = sim_random_below(&process->world->random, count + 1);
	if (count > (size_t)max)
		count = (size_t)max;
	for (size_t i = 0; i < count; i++)
		out[i] = inbox->slots[inbox->first + i];
	inbox->first += count;
	inbox->count -= count;
	if (inbox->count == 0)
		inbox->first = 0;
	return (int)count;
}

/* Revocation can be broken on purpose, to see that the conformance suite notices. */
#ifdef MU_FAULTS
int sim_fault;
#define FAULT_TAKES_NOTHING (sim_fault == 2)
#else
#define FAULT_TAKES_NOTHING 0
#endif

/*
 * A revocation that answers -1 has done its work or has not; the caller must
 * count on neither.
 */
static int revoke(struct sim_world *world, unsigned id)
{
	struct sim_permission *permission = &world->replica[id].permission;
	struct sim_event event = {
		.kind = SIM_REVOKE,
		.plane = MU_PLANE_BACKGROUND,
		.from = (uint8_t)id,
		.to = permission->holder,
	};
	bool fails = sim_random_chance(&world->random, world->config.revoke_fail_permille);

	event.refused = fails;
	sim_observe(world, &event);
	if (FAULT_TAKES_NOTHING)
		return 0;
	if (fails && sim_random_chance(&world->random, 500))
		return -1;
	if (permission->holder != 0)
		sim_connection_cut(
			&world->replica[permission->holder].connection[MU_PLANE_DATA][id]);
	permission->generation++;
	permission->holder = 0;
	return fails ? -1 : 0;
}

static int sim_revoke_write(struct mu_fabric *fabric)
{
	struct sim_fabric *process = (struct sim_fabric *)fabric;
	int rc;

	interrupt(fabric, MU_PLANE_BACKGROUND);
	if (is_frozen(replica_of(fabric)))
		return -1;
	rc = revoke(process->world, process->id);
	interrupt(fabric, MU_PLANE_BACKGROUND);
	return rc;
}

/* What no caller may ask for: two writers, or a ballot that goes back. */
static void check_grant(struct sim_world *world, unsigned id, unsigned peer, uint64_t ballot)
{
	const struct sim_permission *permission = &world->replica[id].permission;
	const struct sim_config *config = &world->config;

	if (peer == 0 || peer >= MU_ID_SLOTS || peer == id)
		config->violation(config->ctx, "a grant to no peer");
	if (permission->holder != 0 && (permission->holder != peer || permission->ballot != ballot))
		config->violation(config->ctx, "a grant without a revocation before it");
	if (ballot < permission->highest_ballot)
		config->violation(config->ctx, "a grant of a ballot lower than one granted before");
	if ((ballot & 0xff) != peer)
		config->violation(config->ctx, "a grant of somebody else's ballot");
}

static int grant(struct sim_world *world, unsigned id, unsigned peer, uint64_t ballot)
{
	struct sim_permission *permission = &world->replica[id].permission;
	const struct sim_connection *writer = &world->replica[peer].connection[MU_PLANE_DATA][id];
	struct sim_event event = {
		.kind = SIM_GRANT,
		.plane = MU_PLANE_BACKGROUND,
		.from = (uint8_t)id,
		.to = (uint8_t)peer,
		.ballot = ballot,
	};
	bool usable = writer->state == MU_CONNECTION_UP && !writer->broken &&
		      writer->target_life == sim_life(world, id);

	check_grant(world, id, peer, ballot);
	event.refused = (world->config.revoke_breaks && !usable) ||
			sim_random_chance(&world->random, world->config.grant_fail_permille);
	sim_observe(world, &event);
	if (event.refused)
		return -1;
	permission->holder = (uint8_t)peer;
	permission->ballot = ballot;
	permission->highest_ballot = ballot;
	return 0;
}

static int sim_grant_write(struct mu_fabric *fabric, unsigned peer, uint64_t ballot)
{
	struct sim_fabric *process = (struct sim_fabric *)fabric;
	int rc;

	interrupt(fabric, MU_PLANE_BACKGROUND);
	if (is_frozen(replica_of(fabric)))
		return -1;
	rc = grant(process->world, process->id, peer, ballot);
	interrupt(fabric, MU_PLANE_BACKGROUND);
	return rc;
}

static void *sim_local(struct mu_fabric *fabric, enum mu_region region)
{
	return replica_of(fabric)->memory[region];
}

static void sim_close(struct mu_fabric *fabric)
{
	struct sim_fabric *process = (struct sim_fabric *)fabric;

	sim_crash_begin(process->world, process->id);
	sim_crash_end(process->world, process->id);
}

static const struct mu_fabric_ops sim_ops = {
	.name = "sim",
	.connect = sim_connect,
	.state = sim_state,
	.disconnect = sim_disconnect,
	.post_write = sim_post_write,
	.post_read = sim_post_read,
	.poll = sim_poll,
	.revoke_write = sim_revoke_write,
	.grant_write = sim_grant_write,
	.local = sim_local,
	.close = sim_close,
};

/* ------------------------------------------------------------------ the world */

struct sim_world *sim_world_new(const struct sim_config *config)
{
	struct sim_world *world = calloc(1, sizeof(*world));

	if (world == NULL)
		abort();
	assert(config->queue_max > 0 && config->delay_min_ns <= config->delay_max_ns);
	world->config = *config;
	world->random = sim_random_stream(config->seed, 'F');
	sim_clock_init(&world->clock);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		struct sim_replica *replica = &world->replica[id];

		for (unsigned to = 0; to < MU_ID_SLOTS; to++)
			replica->slow_to[to] = 1;
		for (unsigned plane = 0; plane < MU_PLANES; plane++)
			for (unsigned to = 1; to < MU_ID_SLOTS; to++)
				replica->connection[plane][to] = (struct sim_connection){
					.world = world,
					.plane = (uint8_t)plane,
					.from = (uint8_t)id,
					.to = (uint8_t)to,
				};
	}
	return world;
}

void sim_world_free(struct sim_world *world)
{
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		struct sim_replica *replica = &world->replica[id];

		assert(!is_frozen(replica));
		for (unsigned plane = 0; plane < MU_PLANES; plane++) {
			for (unsigned to = 1; to < MU_ID_SLOTS; to++)
				sim_connection_free(&replica->connection[plane][to]);
			free(replica->inbox[plane].slots);
		}
		for (unsigned region = 0; region < MU_REGIONS; region++)
			free(replica->memory[region]);
		free(replica->process);
	}
	sim_clock_free(&world->clock);
	free(world);
}

struct sim_clock *sim_world_clock(struct sim_world *world)
{
	return &world->clock;
}

void sim_world_reconfigure(struct sim_world *world, const struct sim_config *config)
{
	assert(config->passive_memory == world->config.passive_memory);
	assert(config->ballot_checked == world->config.ballot_checked);
	assert(config->revoke_breaks == world->config.revoke_breaks);
	world->config = *config;
}

static uint8_t *new_memory(size_t bytes)
{
	uint8_t *memory = aligned_alloc(MEMORY_ALIGNMENT, (bytes + MEMORY_ALIGNMENT - 1) &
								  ~(size_t)(MEMORY_ALIGNMENT - 1));

	if (memory == NULL)
		abort();
	return memory;
}

static void format(struct sim_replica *replica, const struct mu_fabric_config *config)
{
	void *regions[MU_REGIONS];

	for (unsigned region = 0; region < MU_REGIONS; region++) {
		replica->memory_bytes[region] = config->region_bytes[region];
		replica->memory[region] = new_memory(config->region_bytes[region]);
		memset(replica->memory[region], 0, config->region_bytes[region]);
		regions[region] = replica->memory[region];
	}
	replica->memory_life++;
	replica->permission = (struct sim_permission){
		.generation = replica->permission.generation + 1,
	};
	config->format(config->format_ctx, regions);
}

/* A process maps its memory wherever it likes: no address may be kept in it. */
static void resume(struct sim_replica *replica, const struct mu_fabric_config *config)
{
	for (unsigned region = 0; region < MU_REGIONS; region++) {
		uint8_t *moved = new_memory(replica->memory_bytes[region]);

		assert(config->region_bytes[region] == replica->memory_bytes[region]);
		memcpy(moved, replica->memory[region], replica->memory_bytes[region]);
		free(replica->memory[region]);
		replica->memory[region] = moved;
	}
}

struct mu_fabric *sim_open(struct sim_world *world, const struct mu_fabric_config *config)
{
	struct sim_event event = {
		.kind = SIM_OPEN, .from = (uint8_t)config->id, .to = (uint8_t)config->id};
	struct sim_replica *replica = &world->replica[config->id];

	assert(config->id >= 1 && config->id < MU_ID_SLOTS && replica->process == NULL);
	replica->process = calloc(1, sizeof(*replica->process));
	if (replica->process == NULL)
		abort();
	replica->process->base.ops = &sim_ops;
	replica->process->world = world;
	replica->process->id = config->id;
	replica->process->member_mask = config->member_mask;
	if (replica->memory[MU_REGION_PRIVATE] == NULL)
		format(replica, config);
	else
		resume(replica, config);
	replica->process_life++;
	sim_observe(world, &event);
	return &replica->process->base;
}

static void break_connections_to(struct sim_world *world, unsigned id)
{
	for (unsigned from = 1; from < MU_ID_SLOTS; from++)
		for (unsigned plane = 0; plane < MU_PLANES; plane++)
			if (from != id)
				sim_connection_break(&world->replica[from].connection[plane][id]);
}

void sim_crash_begin(struct sim_world *world, unsigned id)
{
	struct sim_event event = {.kind = SIM_CRASH, .from = (uint8_t)id, .to = (uint8_t)id};
	struct sim_replica *replica = &world->replica[id];

	assert(replica->process != NULL && !is_frozen(replica));
	sim_observe(world, &event);
	for (unsigned plane = 0; plane < MU_PLANES; plane++) {
		for (unsigned to = 1; to < MU_ID_SLOTS; to++)
			sim_connection_orphan(&replica->connection[plane][to]);
		replica->inbox[plane].first = replica->inbox[plane].count = 0;
	}
	if (!world->config.passive_memory) {
		if (replica->permission.holder != 0)
			sim_connection_cut(&world->replica[replica->permission.holder]
						    .connection[MU_PLANE_DATA][id]);
		replica->permission.holder = 0;
		replica->permission.generation++;
		break_connections_to(world, id);
	}
	for (unsigned region = 0; region < MU_REGIONS; region++) {
		replica->frozen[region] = new_memory(replica->memory_bytes[region]);
		memcpy(replica->frozen[region], replica->memory[region],
		       replica->memory_bytes[region]);
	}
}

void sim_crash_end(struct sim_world *world, unsigned id)
{
	struct sim_replica *replica = &world->replica[id];

	assert(replica->process != NULL && is_frozen(replica));
	for (unsigned region = 0; region < MU_REGIONS; region++) {
		free(replica->memory[region]);
		replica->memory[region] = replica->frozen[region];
		replica->frozen[region] = NULL;
	}
	free(replica->process);
	replica->process = NULL;
}

void sim_lose_memory(struct sim_world *world, unsigned id)
{
	struct sim_event event = {.kind = SIM_LOSE, .from = (uint8_t)id, .to = (uint8_t)id};
	struct sim_replica *replica = &world->replica[id];

	assert(replica->process == NULL);
	sim_observe(world, &event);
	/* Whoever has mapped it, as in shm, hears nothing: what he posts next tells him. */
	if (!world->config.passive_memory || world->config.revoke_breaks)
		break_connections_to(world, id);
	for (unsigned region = 0; region < MU_REGIONS; region++) {
		free(replica->memory[region]);
		replica->memory[region] = NULL;
	}
}

/* ---------------------------------------------------------------- inspection */

bool sim_has_process(const struct sim_world *world, unsigned id)
{
	return world->replica[id].process != NULL;
}

const void *sim_memory(const struct sim_world *world, unsigned id, enum mu_region region)
{
	return world->replica[id].memory[region];
}

unsigned sim_holder(const struct sim_world *world, unsigned id, uint64_t *ballot)
{
	const struct sim_permission *permission = &world->replica[id].permission;

	*ballot = permission->ballot;
	return permission->holder;
}

/* -------------------------------------------------------------------- faults */

void sim_block(struct sim_world *world, unsigned from, unsigned to, bool blocked)
{
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		sim_block_plane(world, plane, from, to, blocked);
}

void sim_block_plane(struct sim_world *world, enum mu_plane plane, unsigned from, unsigned to,
		     bool blocked)
{
	world->replica[from].blocked_to[plane][to] = blocked;
}

void sim_slow(struct sim_world *world, unsigned from, unsigned to, unsigned times)
{
	assert(times > 0);
	world->replica[from].slow_to[to] = times;
}

void sim_stop(struct sim_world *world, unsigned id, bool stopped)
{
	world->replica[id].stopped = stopped;
}
