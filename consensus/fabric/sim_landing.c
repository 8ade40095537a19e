/* sim_landing.c - how the bytes of one operation move: piecewise, under permission. */
#include "sim_world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Which piece a word of the operation belongs to. */
static unsigned piece_of(const struct sim_op *op, uint64_t word, uint64_t words)
{
	switch (op->shape) {
	case SIM_SHAPE_FORWARD:
		return (unsigned)(word * op->pieces / words);
	case SIM_SHAPE_BACKWARD:
		return (unsigned)((words - 1 - word) * op->pieces / words);
	default:
		return (unsigned)(sim_mix(op->shuffle + word) % op->pieces);
	}
}

static void move(const struct sim_op *op, uint8_t *region, uint64_t from, uint64_t to)
{
	uint8_t *ours = op->memory + (from - op->offset);

	if (op->write)
		memcpy(region + from, ours, to - from);
	else
		memcpy(ours, region + from, to - from);
}

/* Copy the words of the operation's next piece; returns how many bytes those were. */
static uint64_t move_piece(const struct sim_op *op, uint8_t *region)
{
	uint64_t first = op->offset / SIM_WORD;
	uint64_t end = op->offset + op->bytes;
	uint64_t words = (end + SIM_WORD - 1) / SIM_WORD - first;
	uint64_t moved = 0;

	if (op->pieces == 1) {
		move(op, region, op->offset, end);
		return op->bytes;
	}
	for (uint64_t word = 0; word < words; word++) {
		uint64_t from = (first + word) * SIM_WORD;
		uint64_t to = from + SIM_WORD;

		if (piece_of(op, word, words) != op->piece)
			continue;
		if (from < op->offset)
			from = op->offset;
		if (to > end)
			to = end;
		move(op, region, from, to);
		moved += to - from;
	}
	return moved;
}

uint64_t sim_source_hash(const struct sim_op *op)
{
	uint64_t hash = op->bytes, word;

	for (size_t at = 0; at < op->bytes; at += sizeof(word)) {
		size_t left = op->bytes - at;

		word = 0;
		memcpy(&word, op->memory + at, left < sizeof(word) ? left : sizeof(word));
		hash = sim_mix(hash ^ word);
	}
	return hash;
}

/* The source of a write belongs to the fabric until the completion. */
static void check_source(const struct sim_world *world, const struct sim_op *op)
{
	if (op->write && sim_source_hash(op) != op->source_hash)
		world->config.violation(world->config.ctx,
					"the source of a write was changed before it was over");
}

/* A revoker that does not wait for the write under way (sim.c). */
#ifdef MU_FAULTS
#define FAULT_GOES_ON(op) (sim_fault == 1 && (op)->piece > 0)
#else
#define FAULT_GOES_ON(op) 0
#endif

/*
 * F3 to F5. A write that has begun to land must go on under the grant that it
 * began under. Where the ballot is not checked the connection carries the
 * permission, so that nothing posted before a revocation lands after it.
 */
static bool may_land(const struct sim_connection *connection, const struct sim_op *op)
{
	const struct sim_config *config = &connection->world->config;
	const struct sim_permission *permission =
		&connection->world->replica[connection->to].permission;

	if (!op->write || op->region != MU_REGION_REPLICATION || FAULT_GOES_ON(op))
		return true;
	if (permission->holder != connection->from)
		return false;
	if (config->ballot_checked && op->ballot != permission->ballot)
		return false;
	if (!config->ballot_checked && connection->plane != MU_PLANE_DATA)
		return false;
	if (!config->ballot_checked || op->piece > 0)
		return op->generation == permission->generation;
	return true;
}

bool sim_land(struct sim_connection *connection, struct sim_op *op, bool late)
{
	struct sim_world *world = connection->world;
	struct sim_replica *target = &world->replica[connection->to];
	struct sim_event event = {
		.kind = late ? SIM_LATE : SIM_LAND,
		.from = connection->from,
		.to = connection->to,
		.plane = connection->plane,
		.region = op->region,
		.write = op->write,
		.number = op->number,
		.offset = op->offset,
		.ballot = op->ballot,
	};

	assert(!op->finished && op->piece < op->pieces);
	if (!sim_reachable(world, connection->to) ||
	    connection->target_life != sim_life(world, connection->to)) {
		op->status = MU_FABRIC_UNREACHABLE;
		op->finished = true;
		return false;
	}
	if (!may_land(connection, op)) {
		op->status = MU_FABRIC_DENIED;
		op->finished = true;
		return false;
	}
	if (op->piece == 0)
		op->generation = target->permission.generation;
	event.bytes = move_piece(op, target->memory[op->region]);
	op->piece++;
	if (op->piece == op->pieces) {
		op->finished = true;
		check_source(world, op);
	}
	sim_observe(world, &event);
	return true;
}

void sim_op_own(struct sim_op *op)
{
	uint8_t *copy;

	if (op->owned)
		return;
	copy = malloc(op->bytes > 0 ? op->bytes : 1);
	if (copy == NULL)
		abort();
	memcpy(copy, op->memory, op->bytes);
	op->memory = copy;
	op->owned = true;
}

void sim_op_free(struct sim_op *op)
{
	if (op->owned)
		free(op->memory);
	free(op);
}
