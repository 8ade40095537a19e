/*
 * sim_connection.c - one connection of one plane to one peer: a queue of
 * operations that move in posting order, complete in posting order, and fail
 * together.
 *
 * Three things are scheduled for a connection at most: the next movement of
 * the oldest operation that is still moving, the delivery of the oldest
 * completion, and the timeout of what was the oldest when it was scheduled.
 */
#include "sim_world.h"

#include <assert.h>
#include <stdlib.h>

static void schedule_movement(struct sim_connection *connection);
static void schedule_answer(struct sim_connection *connection);
static void schedule_timeout(struct sim_connection *connection);

static struct sim_clock *clock_of(struct sim_connection *connection)
{
	return &connection->world->clock;
}

static bool outward_blocked(const struct sim_connection *connection)
{
	return sim_is_blocked(connection->world, connection->plane, connection->from,
			      connection->to);
}

static bool homeward_blocked(const struct sim_connection *connection)
{
	return sim_is_blocked(connection->world, connection->plane, connection->to,
			      connection->from);
}

static void observe(struct sim_connection *connection, enum sim_event_kind kind,
		    const struct sim_op *op)
{
	struct sim_event event = {
		.kind = kind,
		.from = connection->from,
		.to = connection->to,
		.plane = connection->plane,
	};

	if (op != NULL) {
		event.region = op->region;
		event.write = op->write;
		event.status = op->status;
		event.number = op->number;
		event.offset = op->offset;
		event.bytes = op->bytes;
		event.ballot = op->ballot;
	}
	sim_observe(connection->world, &event);
}

/* ------------------------------------------------------------ completions */

static void inbox_put(struct sim_inbox *inbox, struct mu_completion completion)
{
	if (inbox->first + inbox->count == inbox->capacity) {
		for (size_t i = 0; i < inbox->count; i++)
			inbox->slots[i] = inbox->slots[inbox->first + i];
		inbox->first = 0;
	}
	if (inbox->count == inbox->capacity) {
		inbox->capacity = inbox->capacity ? inbox->capacity * 2 : 64;
		inbox->slots = realloc(inbox->slots, inbox->capacity * sizeof(*inbox->slots));
		if (inbox->slots == NULL)
			abort();
	}
	inbox->slots[inbox->first + inbox->count++] = completion;
}

/* The oldest operation is over: tell its process. */
static void complete_head(struct sim_connection *connection)
{
	struct sim_op *op = connection->head;
	struct sim_replica *owner = &connection->world->replica[connection->from];

	connection->head = op->next;
	if (connection->head == NULL)
		connection->tail = NULL;
	if (connection->running == op)
		connection->running = op->next;
	connection->posted--;

	observe(connection, SIM_COMPLETE, op);
	inbox_put(&owner->inbox[connection->plane], (struct mu_completion){
							    .cookie = op->cookie,
							    .peer = connection->to,
							    .status = op->status,
						    });
	sim_op_free(op);
}

/* ------------------------------------------------------- writes that come late */

static void late_free(struct sim_connection *connection)
{
	struct sim_op *op;

	while ((op = connection->late) != NULL) {
		connection->late = op->next;
		sim_op_free(op);
	}
	connection->late_epoch++;
}

/* Nothing bounds it but the next connection: often soon, as often long after all was settled. */
static uint64_t late_delay(struct sim_world *world)
{
	uint64_t timeout_ns = world->config.op_timeout_ns;

	if (sim_random_chance(&world->random, 500))
		return sim_random_skewed(&world->random, 0, timeout_ns);
	return sim_random_between(&world->random, 0, 4 * timeout_ns);
}

static void late_happens(void *ctx, uint64_t stamp)
{
	struct sim_connection *connection = ctx;
	struct sim_world *world = connection->world;
	struct sim_op *op = connection->late;

	if (stamp != connection->late_epoch || op == NULL)
		return;
	if (!outward_blocked(connection)) {
		if (!sim_land(connection, op, true)) {
			late_free(connection);
			return;
		}
		if (op->finished) {
			connection->late = op->next;
			sim_op_free(op);
		}
	}
	sim_clock_at(&world->clock, world->clock.now_ns + late_delay(world), late_happens,
		     connection, stamp);
}

/*
 * The connection is lost with operations on their way. Some of their bytes,
 * in order, may still be in the network, or in the target's buffers. What lies
 * behind a refused operation is not.
 */
static void keep_late(struct sim_connection *connection)
{
	struct sim_random *random = &connection->world->random;
	struct sim_op **link = &connection->late;
	struct sim_op *op = connection->running;
	struct sim_op *next;

	late_free(connection);
	if (connection->broken ||
	    !sim_random_chance(random, connection->world->config.late_permille))
		return;
	for (; op != NULL; op = next) {
		next = op->next;
		if (!op->write || op->finished)
			continue;
		*link = malloc(sizeof(**link));
		if (*link == NULL)
			abort();
		**link = *op;
		(*link)->next = NULL;
		(*link)->owned = false;
		sim_op_own(*link);
		link = &(*link)->next;
		if (sim_random_chance(random, 400))
			break;
	}
	sim_clock_at(clock_of(connection),
		     clock_of(connection)->now_ns + late_delay(connection->world), late_happens,
		     connection, connection->late_epoch);
}

/* --------------------------------------------------------- going up and down */

/* F8: everything outstanding completes UNREACHABLE but what failed by itself. */
static void go_down(struct sim_connection *connection)
{
	if (connection->state == MU_CONNECTION_UP)
		keep_late(connection);
	connection->state = MU_CONNECTION_DOWN;
	connection->epoch++;
	connection->moving = connection->answering = connection->timing = false;
	while (connection->head != NULL) {
		connection->head->status = MU_FABRIC_UNREACHABLE;
		complete_head(connection);
	}
	observe(connection, SIM_DOWN, NULL);
}

static void connect_happens(void *ctx, uint64_t stamp)
{
	struct sim_connection *connection = ctx;
	struct sim_world *world = connection->world;
	const struct sim_replica *target = &world->replica[connection->to];
	bool reached = world->clock.now_ns >= connection->connected_ns &&
		       !outward_blocked(connection) && !homeward_blocked(connection) &&
		       sim_reachable(world, connection->to) &&
		       (world->config.passive_memory || !target->stopped);

	if (stamp != connection->epoch)
		return;
	if (!reached && world->clock.now_ns < connection->connect_deadline_ns) {
		sim_clock_at(&world->clock, world->clock.now_ns + world->config.op_timeout_ns / 8,
			     connect_happens, connection, stamp);
		return;
	}
	connection->epoch++;
	if (!reached) {
		connection->state = MU_CONNECTION_DOWN;
		observe(connection, SIM_DOWN, NULL);
		return;
	}
	late_free(connection);
	assert(!connection->moving && !connection->answering && !connection->timing);
	connection->state = MU_CONNECTION_UP;
	connection->broken = false;
	connection->target_life = sim_life(world, connection->to);
	observe(connection, SIM_UP, NULL);
}

void sim_connect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct sim_connection *connection = sim_connection_of(fabric, plane, peer);
	struct sim_world *world;
	uint64_t deadline_ns;

	if (connection == NULL || connection->state != MU_CONNECTION_DOWN ||
	    !(((struct sim_fabric *)fabric)->member_mask >> peer & 1))
		return;
	world = connection->world;
	assert(connection->head == NULL);
	connection->state = MU_CONNECTION_CONNECTING;
	connection->epoch++;
	connection->connected_ns = world->clock.now_ns + sim_delay(world, connection->from, peer) +
				   sim_delay(world, peer, connection->from);
	/* However slow the link, or the message: the attempt ends in time. */
	deadline_ns = world->clock.now_ns + world->config.op_timeout_ns;
	connection->connect_deadline_ns = deadline_ns;
	observe(connection, SIM_CONNECT, NULL);
	sim_clock_at(&world->clock,
		     connection->connected_ns < deadline_ns ? connection->connected_ns
							    : deadline_ns,
		     connect_happens, connection, connection->epoch);
}

void sim_disconnect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct sim_connection *connection = sim_connection_of(fabric, plane, peer);

	if (connection != NULL && connection->state != MU_CONNECTION_DOWN)
		go_down(connection);
}

void sim_connection_orphan(struct sim_connection *connection)
{
	struct sim_op *op;

	if (connection->state == MU_CONNECTION_UP)
		keep_late(connection);
	connection->state = MU_CONNECTION_DOWN;
	connection->epoch++;
	connection->moving = connection->answering = connection->timing = false;
	while ((op = connection->head) != NULL) {
		connection->head = op->next;
		sim_op_free(op);
	}
	connection->tail = connection->running = NULL;
	connection->posted = 0;
}

void sim_connection_free(struct sim_connection *connection)
{
	sim_connection_orphan(connection);
	late_free(connection);
}

/* ---------------------------------------------------------- moving, in order */

static void finish(struct sim_connection *connection, struct sim_op *op)
{
	struct sim_world *world = connection->world;
	uint64_t now_ns = world->clock.now_ns;

	if (op->status == MU_FABRIC_UNREACHABLE && op->deadline_ns > now_ns)
		op->complete_ns = sim_random_between(&world->random, now_ns, op->deadline_ns);
	else
		op->complete_ns = now_ns + sim_delay(world, connection->to, connection->from);
	if (op->status != MU_FABRIC_OK)
		connection->broken = true;
	connection->running = op->next;
	schedule_answer(connection);
	schedule_movement(connection);
}

static void movement_happens(void *ctx, uint64_t stamp)
{
	struct sim_connection *connection = ctx;
	struct sim_op *op = connection->running;

	if (stamp != connection->epoch)
		return;
	connection->moving = false;
	if (op == NULL || connection->broken)
		return;
	if (!outward_blocked(connection))
		sim_land(connection, op, false);
	if (op->finished)
		finish(connection, op);
	else
		schedule_movement(connection);
}

static void schedule_movement(struct sim_connection *connection)
{
	struct sim_world *world = connection->world;
	const struct sim_op *op = connection->running;
	uint64_t when_ns = world->clock.now_ns;

	if (op == NULL || connection->moving || connection->broken)
		return;
	if (outward_blocked(connection))
		when_ns += world->config.op_timeout_ns / 8; /* sent again and again */
	else if (sim_random_chance(&world->random, world->config.straggler_permille))
		when_ns += sim_random_skewed(&world->random, 0, world->config.op_timeout_ns);
	else
		when_ns += sim_random_below(&world->random, world->config.delay_min_ns + 1);
	if (when_ns < op->start_ns)
		when_ns = op->start_ns;
	connection->moving = true;
	sim_clock_at(&world->clock, when_ns, movement_happens, connection, connection->epoch);
}

static void answer_happens(void *ctx, uint64_t stamp)
{
	struct sim_connection *connection = ctx;
	struct sim_world *world = connection->world;
	struct sim_op *op = connection->head;
	bool failed;

	if (stamp != connection->epoch)
		return;
	connection->answering = false;
	if (op == NULL || !op->finished)
		return;
	if (homeward_blocked(connection)) {
		op->complete_ns = world->clock.now_ns + world->config.op_timeout_ns / 8;
		schedule_answer(connection);
		return;
	}
	failed = op->status != MU_FABRIC_OK;
	complete_head(connection);
	if (failed)
		go_down(connection);
	else
		schedule_answer(connection);
}

static void schedule_answer(struct sim_connection *connection)
{
	const struct sim_op *op = connection->head;

	if (op == NULL || !op->finished || connection->answering)
		return;
	connection->answering = true;
	sim_clock_at(clock_of(connection), op->complete_ns, answer_happens, connection,
		     connection->epoch);
}

/* F7. The operation may be over at the target, its answer lost. */
static void timeout_happens(void *ctx, uint64_t stamp)
{
	struct sim_connection *connection = ctx;

	if (stamp != connection->epoch)
		return;
	connection->timing = false;
	if (connection->head == NULL)
		return;
	if (clock_of(connection)->now_ns >= connection->head->deadline_ns)
		go_down(connection);
	else
		schedule_timeout(connection);
}

static void schedule_timeout(struct sim_connection *connection)
{
	if (connection->timing)
		return;
	connection->timing = true;
	sim_clock_at(clock_of(connection), connection->head->deadline_ns, timeout_happens,
		     connection, connection->epoch);
}

static void news_happens(void *ctx, uint64_t stamp)
{
	struct sim_connection *connection = ctx;

	if (stamp == connection->epoch && connection->state == MU_CONNECTION_UP)
		go_down(connection);
}

/* The target gives the connection up, and its other end hears of it, in time. */
void sim_connection_break(struct sim_connection *connection)
{
	struct sim_world *world = connection->world;

	if (connection->state != MU_CONNECTION_UP)
		return;
	connection->broken = true;
	sim_clock_at(&world->clock,
		     world->clock.now_ns +
			     sim_random_below(&world->random, world->config.op_timeout_ns),
		     news_happens, connection, connection->epoch);
}

/*
 * A revocation is about to return. What is in flight came as far as it came,
 * and goes no further: an earlier moment was as good as any, so some more of
 * it may land now.
 */
void sim_connection_cut(struct sim_connection *connection)
{
	struct sim_world *world = connection->world;
	struct sim_op *op;

	while ((op = connection->running) != NULL && !connection->broken &&
	       !outward_blocked(connection) && op->region == MU_REGION_REPLICATION &&
	       sim_random_chance(&world->random, 600)) {
		sim_land(connection, op, false);
		if (op->finished)
			finish(connection, op);
	}
	if (world->config.revoke_breaks)
		sim_connection_break(connection);
}

/* ---------------------------------------------------------------- posting */

static void check_shape(struct sim_world *world, unsigned to, const struct sim_op *op)
{
	const struct sim_config *config = &world->config;
	size_t region_bytes = world->replica[to].memory_bytes[op->region];

	if (op->region == MU_REGION_PRIVATE)
		config->violation(config->ctx, "the private region is nobody else's");
	if (region_bytes > 0 &&
	    (op->offset > region_bytes || op->bytes > region_bytes - op->offset))
		config->violation(config->ctx, "an operation beyond the region's end");
	if (!op->write)
		return;
	if (op->region == MU_REGION_BACKGROUND &&
	    (op->bytes > 64 || op->offset / 64 != (op->offset + op->bytes - 1) / 64))
		config->violation(config->ctx, "a write across a line of the background region");
	if ((op->region == MU_REGION_BACKGROUND) != (op->ballot == 0))
		config->violation(config->ctx, "a write's ballot does not fit its region");
}

static void draw_movement(struct sim_connection *connection, struct sim_op *op)
{
	struct sim_world *world = connection->world;
	struct sim_random *random = &world->random;
	uint64_t now_ns = world->clock.now_ns;

	op->pieces = 1;
	if (sim_random_chance(random, world->config.tear_permille))
		op->pieces = (unsigned)sim_random_between(random, 2, 5);
	op->shape = (uint8_t)sim_random_below(random, SIM_SHAPES);
	op->shuffle = sim_random_next(random);
	op->start_ns = now_ns + sim_delay(world, connection->from, connection->to);
	op->deadline_ns = now_ns + sim_random_between(random, world->config.op_timeout_ns / 2,
						      world->config.op_timeout_ns);
	if (connection->tail != NULL && connection->tail->deadline_ns > op->deadline_ns)
		op->deadline_ns = connection->tail->deadline_ns;
	op->generation = world->replica[connection->to].permission.generation;
}

static int post(struct sim_connection *connection, const struct sim_op *wanted)
{
	struct sim_world *world = connection->world;
	struct sim_op *op;

	check_shape(world, connection->to, wanted);
	if (connection->state != MU_CONNECTION_UP ||
	    connection->posted == world->config.queue_max ||
	    sim_random_chance(&world->random, world->config.refuse_permille)) {
		observe(connection, SIM_REFUSE, wanted);
		return -1;
	}
	op = malloc(sizeof(*op));
	if (op == NULL)
		abort();
	*op = *wanted;
	op->number = ++world->operations;
	if (op->write)
		op->source_hash = sim_source_hash(op);
	draw_movement(connection, op);

	if (connection->tail != NULL)
		connection->tail->next = op;
	else
		connection->head = op;
	connection->tail = op;
	if (connection->running == NULL)
		connection->running = op;
	connection->posted++;
	observe(connection, SIM_POST, op);
	schedule_movement(connection);
	schedule_timeout(connection);
	return 0;
}

static int post_between_interrupts(struct mu_fabric *fabric, unsigned plane, unsigned peer,
				   struct sim_op *op)
{
	struct sim_world *world = ((struct sim_fabric *)fabric)->world;
	unsigned id = ((struct sim_fabric *)fabric)->id;
	struct sim_connection *connection;
	int rc;

	world->config.interrupt(world->config.ctx, id, plane);
	connection = sim_connection_of(fabric, plane, peer);
	rc = connection != NULL ? post(connection, op) : -1;
	world->config.interrupt(world->config.ctx, id, plane);
	return rc;
}

int sim_post_write(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer,
		   enum mu_region region, uint64_t offset, const void *src, size_t len,
		   uint64_t ballot, uint64_t cookie)
{
	struct sim_op op = {
		.write = true,
		.region = (uint8_t)region,
		.offset = offset,
		.bytes = len,
		.memory = (uint8_t *)(uintptr_t)src,
		.ballot = ballot,
		.cookie = cookie,
	};

	return post_between_interrupts(fabric, plane, peer, &op);
}

int sim_post_read(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer,
		  enum mu_region region, uint64_t offset, void *dst, size_t len, uint64_t cookie)
{
	struct sim_op op = {
		.region = (uint8_t)region,
		.offset = offset,
		.bytes = len,
		.memory = dst,
		.cookie = cookie,
	};

	return post_between_interrupts(fabric, plane, peer, &op);
}
