/* redis_reply.c - the Redis adapter: what is answered. See redis.h. */
#include "redis.h"

#include <assert.h>
#include <string.h>

#include "redis_wire.h"

/*
 * Errors by which a server says that it did not execute a write because of the
 * state that it itself is in; another replica's server will have executed it.
 * Every other error is an outcome like any other: it follows from the data, and
 * is the same everywhere. (With a blank: BUSYKEY and BUSYGROUP are ordinary.)
 */
static const char *const failures[] = {
	"-OOM ",    "-MISCONF ", "-READONLY ",   "-LOADING ",  "-BUSY ",
	"-NOAUTH ", "-NOPERM ",  "-NOREPLICAS ", "-NOSCRIPT ", "-MASTERDOWN ",
};

bool redis_is_failure(struct mp_base *base, struct mp_slice reply, enum mp_take_mode mode)
{
	size_t i;

	(void)base;
	if (reply.data[0] != '-' || mode == MP_TAKE_READ)
		return false;
	if (mode == MP_TAKE_OWN)
		return true;
	for (i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		if (mp_starts_with(reply, failures[i]))
			return true;
	return false;
}

/*
 * An error that a client's script made up may read like a failure: then our own
 * script has put this byte before it (prelude.lua).
 */
enum { MADE_UP = 1 };

struct mp_slice redis_clean(struct mp_slice piece)
{
	if (piece.len < 2 || piece.data[0] != '-' || piece.data[1] != MADE_UP)
		return piece;
	((char *)piece.data)[1] = '-';
	return (struct mp_slice){piece.data + 1, piece.len - 1};
}

enum mp_take redis_frame(struct mp_base *base, const char *data, size_t len, size_t *used)
{
	struct redis *redis = (struct redis *)base;

	switch (resp_frame(&redis->framer, data, len, used)) {
	case RESP_DONE:
		return MP_TAKE_DONE;
	case RESP_MORE:
		return MP_TAKE_MORE;
	case RESP_ERROR:
		break;
	}
	return MP_TAKE_BROKEN;
}

/* ---------------------------------------------------------------- transactions */

static struct redis_member *member_at(struct redis *redis, uint32_t i)
{
	return mp_fifo_at(&redis->members, i);
}

static void enter(struct redis *redis, enum redis_phase phase)
{
	redis->phase = phase;
	redis->answered = 0;
}

static enum mp_take take_multi(struct redis *redis)
{
	enum mp_take result = mp_base_take(&redis->base, NULL, MP_TAKE_OWN);

	if (result == MP_TAKE_DONE)
		enter(redis, REDIS_PHASE_QUEUED);
	return result;
}

/* With its end; empty: it has not come yet. */
static struct mp_slice first_line(const struct mp_buffer *in)
{
	const char *data = mp_buffer_data(in);
	const char *end = memchr(data, '\n', mp_buffer_len(in));

	return (struct mp_slice){data, end ? (size_t)(end - data) + 1 : 0};
}

/* A command was refused when it was queued: keep the error for when its turn comes. */
static enum mp_take take_refusal(struct redis *redis, struct redis_member *member)
{
	struct mp_buffer *in = &redis->base.wire.in;
	struct mp_slice line = first_line(in);

	if (line.len == 0)
		return MP_TAKE_MORE;
	/*
	 * A read that is refused takes the unit's writes with it, so it is judged
	 * like one. What was accepted the first time must be the second time.
	 */
	if (redis->is_retried ||
	    redis_is_failure(&redis->base, line,
			     member->mode == MP_TAKE_OWN ? MP_TAKE_OWN : MP_TAKE_WRITE)) {
		mp_base_fail(&redis->base, line);
		return MP_TAKE_BROKEN;
	}
	if (!mp_buffer_append(&redis->refusals, line.data, line.len)) {
		mp_wire_break(&redis->base.wire, "out of memory");
		return MP_TAKE_BROKEN;
	}
	member->is_refused = true;
	redis->refused++;
	mp_buffer_consume(in, line.len);
	return MP_TAKE_DONE;
}

/* Replies to commands being queued, as many as there are. */
static enum mp_take take_queued(struct redis *redis, uint32_t members)
{
	static const char queued[] = "+QUEUED\r\n";
	struct mp_buffer *in = &redis->base.wire.in;

	while (redis->answered < members) {
		struct mp_slice data = mp_buffer_slice(in);
		enum mp_take result;

		if (mp_starts_with(data, queued)) {
			mp_buffer_consume(in, sizeof(queued) - 1);
			redis->answered++;
			continue;
		}
		if (data.len == 0 || (data.len < sizeof(queued) - 1 && data.data[0] == '+'))
			return MP_TAKE_MORE;
		if (data.data[0] != '-') {
			mp_base_refuse(&redis->base, "executed a command instead of queueing it");
			return MP_TAKE_BROKEN;
		}
		result = take_refusal(redis, member_at(redis, redis->answered));
		if (result != MP_TAKE_DONE)
			return result;
		redis->answered++;
	}
	enter(redis, REDIS_PHASE_EXEC);
	return MP_TAKE_DONE;
}

/* EXEC was answered with an error. */
static enum mp_take take_abort(struct redis *redis)
{
	struct mp_buffer *in = &redis->base.wire.in;
	struct mp_slice line = first_line(in);

	if (line.len == 0)
		return MP_TAKE_MORE;
	if (redis->refused == 0 || !redis_retry_unit(redis)) {
		mp_base_fail(&redis->base, line);
		return MP_TAKE_BROKEN;
	}
	mp_buffer_consume(in, line.len);
	enter(redis, REDIS_PHASE_MULTI);
	return MP_TAKE_DONE;
}

static enum mp_take take_exec(struct redis *redis, uint32_t members)
{
	struct mp_buffer *in = &redis->base.wire.in;
	int64_t count = 0;
	size_t used = 0;

	if (mp_buffer_len(in) > 0 && mp_buffer_data(in)[0] == '-')
		return take_abort(redis);
	switch (resp_array_header(mp_buffer_data(in), mp_buffer_len(in), &used, &count)) {
	case RESP_MORE:
		return MP_TAKE_MORE;
	case RESP_DONE:
		if (count == (int64_t)members)
			break;
		/* fall through */
	case RESP_ERROR:
		mp_base_refuse(&redis->base, "answered a transaction with something else");
		return MP_TAKE_BROKEN;
	}
	mp_buffer_consume(in, used);
	enter(redis, REDIS_PHASE_ELEMENTS);
	if (redis_head_is_waited_for(redis))
		redis_unit_is_proven(redis);
	return MP_TAKE_DONE;
}

/* The error of a command that was refused when it was queued, in its turn. */
static void tell_refusal(struct redis *redis, void *owner)
{
	struct mp_base *base = &redis->base;
	struct mp_slice all = mp_buffer_slice(&redis->refusals);
	const char *end = memchr(all.data, '\n', all.len);
	struct mp_slice line = {all.data, (size_t)(end - all.data) + 1};

	if (owner)
		base->backend.events->reply(base->backend.events_ctx, owner, line, true);
	mp_buffer_consume(&redis->refusals, line.len);
}

/* The replies to the unit's commands, to each owner his own. */
static enum mp_take take_elements(struct redis *redis, uint32_t members)
{
	while (redis->answered < members) {
		struct redis_member member = *member_at(redis, 0);
		enum mp_take result = MP_TAKE_DONE;

		if (member.is_refused)
			tell_refusal(redis, member.owner);
		else
			result = mp_base_take(&redis->base, member.owner, member.mode);
		if (result != MP_TAKE_DONE)
			return result;
		mp_fifo_pop(&redis->members);
		redis->answered++;
	}
	enter(redis, REDIS_PHASE_MULTI);
	redis->refused = 0;
	redis->is_retried = false;
	mp_base_answered(&redis->base);
	return MP_TAKE_DONE;
}

static enum mp_take take_unit(struct redis *redis, uint32_t members)
{
	uint32_t accepted = members - redis->refused;

	switch (redis->phase) {
	case REDIS_PHASE_MULTI:
		return take_multi(redis);
	case REDIS_PHASE_QUEUED:
		return take_queued(redis, redis->is_retried ? accepted : members);
	case REDIS_PHASE_EXEC:
		return take_exec(redis, accepted);
	case REDIS_PHASE_ELEMENTS:
		break;
	}
	return take_elements(redis, members);
}

/* ----------------------------------------------------------------------- hooks */

static enum mp_take take_reply(struct redis *redis, void *owner, enum mp_take_mode mode)
{
	enum mp_take result = mp_base_take(&redis->base, owner, mode);

	if (result == MP_TAKE_DONE)
		mp_base_answered(&redis->base);
	return result;
}

void redis_take_bytes(struct mp_base *base)
{
	struct redis *redis = (struct redis *)base;
	enum mp_take result = MP_TAKE_DONE;

	while (result == MP_TAKE_DONE && base->slots.count > 0 && !base->wire.is_broken) {
		const struct mp_slot *slot = mp_fifo_at(&base->slots, 0);

		if (slot->kind == REDIS_SLOT_UNIT)
			result = take_unit(redis, slot->members);
		else
			result = take_reply(redis, slot->owner, slot->mode);
	}
	if (base->slots.count == 0 && mp_buffer_len(&base->wire.in) > 0)
		mp_wire_break(&base->wire, "the server sent what nobody asked for");
	redis_settle(redis); /* what was held may have gone on */
}

void redis_lose(struct mp_base *base)
{
	struct redis *redis = (struct redis *)base;
	size_t i;

	redis_settle(redis);
	for (i = 0; i < base->slots.count; i++) {
		const struct mp_slot *slot = mp_fifo_at(&base->slots, i);
		uint32_t members = slot->members;

		mp_base_lost(base, slot->owner);
		if (i == 0 && redis->phase == REDIS_PHASE_ELEMENTS)
			members -= redis->answered;
		for (; members > 0; members--) {
			void *owner = ((struct redis_member *)member_at(redis, 0))->owner;

			/* Of a transaction several have the same one, who may be gone once told. */
			mp_fifo_pop(&redis->members);
			if (members == 1 || member_at(redis, 0)->owner != owner)
				mp_base_lost(base, owner);
		}
	}
	assert(redis->members.count == 0);
	redis->framer = (struct resp_framer){0};
	enter(redis, REDIS_PHASE_MULTI);
	redis->refused = 0;
	redis->is_retried = false;
	mp_buffer_clear(&redis->refusals);
	redis_greeting_end(&redis->greeting);
	redis_lose_held(redis);
}
