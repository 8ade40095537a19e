/*
 * redis_retry.c - transactions that may be refused when they are queued.
 *
 * If Redis refuses any command of a transaction when it is queued (unknown,
 * wrong arity: nothing that depends on the data), EXEC answers -EXECABORT and
 * nothing of it is executed. The entry is in the log, though, and has to be
 * executed as far as it can be: without the commands to blame, whose owners get
 * the server's error. They are the same on every replica, since the error
 * follows from the command alone and the servers are of one version; so the
 * replicas stay equal.
 *
 * But the log's order must be kept, and by the time of an -EXECABORT the entries
 * behind it would have been executed. So a unit with commands that this server
 * has not been seen to accept (redis_shapes.h) is waited for: it is kept until
 * it is answered, and calls of the ops are put away meanwhile. That costs a
 * round trip at most twice for every command name and connection.
 */
#include "redis.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "redis_wire.h"

void redis_put_away(struct redis *redis, const struct redis_held *call, struct mp_slice bytes)
{
	struct mp_buffer *held = &redis->held;
	struct redis_held kept = *call;

	if (!mp_buffer_reserve(held, sizeof(kept) + bytes.len)) {
		/* The owner at least must not be forgotten: he is to be told of the loss. */
		mp_wire_break(&redis->base.wire, "out of memory");
		bytes.len = 0;
	}
	kept.bytes = bytes.len;
	kept.resp = redis->wanted;
	if (!mp_buffer_append(held, &kept, sizeof(kept)) ||
	    !mp_buffer_append(held, bytes.data, bytes.len)) {
		mp_error("out of memory for a call of %zu bytes", sizeof(kept));
		abort();
	}
}

void redis_wait_for_unit(struct redis *redis)
{
	struct mp_wire *wire = &redis->base.wire;

	/* Given up meanwhile: there is nothing to wait for, nor to keep. */
	if (wire->is_broken)
		return;
	assert(mp_buffer_len(&wire->out) > redis->unit_offset);
	assert(mp_buffer_len(&redis->retry) == 0);
	redis->is_waiting = true;
	if (!mp_buffer_append(&redis->retry, mp_buffer_data(&wire->out) + redis->unit_offset,
			      mp_buffer_len(&wire->out) - redis->unit_offset))
		mp_wire_break(wire, "out of memory");
}

/* The next command of the unit that is kept, from *pos on, which moves behind it. */
static struct mp_slice next_command(const struct redis *redis, size_t *pos)
{
	struct mp_slice rest = mp_buffer_slice(&redis->retry);

	rest.data += *pos;
	rest.len -= *pos;
	rest.len = redis_command_bytes(rest);
	*pos += rest.len;
	return rest;
}

bool redis_retry_unit(struct redis *redis)
{
	struct mp_wire *wire = &redis->base.wire;
	const struct mp_slot *slot = mp_fifo_at(&redis->base.slots, 0);
	size_t pos = 0;
	uint32_t i;

	if (!redis_head_is_waited_for(redis) || redis->is_retried)
		return false;
	next_command(redis, &pos); /* MULTI */
	mp_wire_put(wire, REDIS_MULTI, sizeof(REDIS_MULTI) - 1);
	for (i = 0; i < slot->members; i++) {
		const struct redis_member *member = mp_fifo_at(&redis->members, i);
		struct mp_slice command = next_command(redis, &pos);

		if (command.len == 0)
			return false;
		if (!member->is_refused)
			mp_wire_put(wire, command.data, command.len);
	}
	mp_wire_put(wire, REDIS_EXEC, sizeof(REDIS_EXEC) - 1);
	redis->is_retried = true;
	return true;
}

/* The unit was executed: what was accepted of it will be accepted again. */
static void learn(struct redis *redis)
{
	uint32_t i, members = ((struct mp_slot *)mp_fifo_at(&redis->base.slots, 0))->members;
	size_t pos = 0;

	next_command(redis, &pos); /* MULTI */
	for (i = 0; i < members; i++) {
		const struct redis_member *member = mp_fifo_at(&redis->members, i);
		struct mp_slice command = next_command(redis, &pos);

		if (!member->is_refused)
			redis_shapes_learn(&redis->shapes, command);
	}
}

static void resume(struct redis *redis, const struct redis_held *call, struct mp_slice bytes)
{
	uint8_t wanted = redis->wanted;

	redis->wanted = call->resp;
	switch ((enum redis_held_kind)call->kind) {
	case REDIS_HELD_BEGIN:
		redis_begin(redis, call->lsn, call->blind);
		break;
	case REDIS_HELD_WRITE:
		redis_write(redis, call->database, bytes, call->commands, call->owner);
		break;
	case REDIS_HELD_TRANSACTION:
		redis_transaction(redis, call->database, bytes, call->commands, call->owner);
		break;
	case REDIS_HELD_READ:
		redis_read(redis, call->database, bytes, call->owner);
		break;
	case REDIS_HELD_END:
		redis_end(redis);
		break;
	case REDIS_HELD_SKIP:
		mp_base_mark(&redis->base, call->lsn);
		break;
	}
	redis->wanted = wanted;
}

void redis_unit_is_proven(struct redis *redis)
{
	struct mp_buffer *held = &redis->held;

	learn(redis);
	mp_buffer_clear(&redis->retry);
	redis->is_waiting = false;
	/* What was held may hold such a unit again. */
	while (!redis->is_waiting && mp_buffer_len(held) > 0) {
		const char *at = mp_buffer_data(held);
		struct redis_held call;

		memcpy(&call, at, sizeof(call));
		resume(redis, &call, (struct mp_slice){at + sizeof(call), call.bytes});
		mp_buffer_consume(held, sizeof(call) + call.bytes);
	}
}

void redis_lose_held(struct redis *redis)
{
	struct mp_buffer *held = &redis->held;

	while (mp_buffer_len(held) > 0) {
		struct redis_held call;

		memcpy(&call, mp_buffer_data(held), sizeof(call));
		mp_base_lost(&redis->base, call.owner);
		mp_buffer_consume(held, sizeof(call) + call.bytes);
	}
	mp_buffer_clear(&redis->retry);
	redis->is_waiting = false;
}
