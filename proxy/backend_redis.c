/* backend_redis.c - the Redis adapter: what is sent. See backend.h and redis.h. */
#include "redis.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_wire.h"

enum {
	LARGE_BYTES = 64 << 10, /* what is larger is sent at once, rather than copied */
	/* No unit joins a transaction from here on: the server does nothing else meanwhile. */
	JOINED_BYTES = 64 << 10,
	JOINED_COMMANDS = 256,
};

/* ------------------------------------------------------------------ handshake */

static void greet(struct mp_base *base)
{
	struct redis *redis = (struct redis *)base;

	redis_greeting_end(&redis->greeting);
	redis->greeting = (struct redis_greeting){
		.group_id = base->group_id,
		.password = redis->password,
		.failed_lsn = base->failed_lsn,
	};
	redis_greeting_start(&redis->greeting, &base->wire.out);
}

static void become_ready(struct redis *redis)
{
	const struct redis_greeting *g = &redis->greeting;
	char who[160];

	snprintf(who, sizeof(who), "%s %s, pid %lld, run id %.8s, applied LSN %llu",
		 g->is_valkey ? "Valkey" : "Redis", g->version, (long long)g->pid, g->run_id,
		 (unsigned long long)g->applied_lsn);
	redis->databases = g->databases;
	redis->database = redis_hidden_database(redis);
	redis->resp = 2;
	/* It may be another version now. */
	redis_shapes_forget(&redis->shapes);
	mp_base_ready(&redis->base, g->era, g->applied_lsn, who);
}

static void take_greeting(struct mp_base *base)
{
	struct redis *redis = (struct redis *)base;
	struct mp_buffer *in = &base->wire.in;
	enum redis_greeting_outcome outcome;

	outcome = redis_greeting_feed(&redis->greeting, mp_buffer_data(in), mp_buffer_len(in));
	mp_buffer_clear(in);
	if (outcome == REDIS_GREETING_MORE)
		return;
	if (outcome == REDIS_GREETING_READY)
		become_ready(redis);
	else if (outcome == REDIS_GREETING_LATER)
		mp_wire_break(&base->wire, redis->greeting.why);
	else
		mp_base_refuse(base, "%s", redis->greeting.why);
	redis_greeting_end(&redis->greeting);
}

/* -------------------------------------------------------------- what is sent */

static void add_member(struct redis *redis, void *owner, enum mp_take_mode mode)
{
	struct redis_member *member = mp_fifo_push(&redis->members);

	*member = (struct redis_member){.owner = owner, .mode = (uint8_t)mode};
	redis->given++;
}

/* A command goes out next: a reply to it will come, within the unit's or alone. */
static void expect(struct redis *redis, void *owner, enum mp_take_mode mode)
{
	if (redis->is_open)
		add_member(redis, owner, mode);
	else
		mp_base_expect(&redis->base, REDIS_SLOT_REPLY, owner, mode);
}

static void select_database(struct redis *redis, uint32_t database)
{
	char command[REDIS_SELECT_BYTES];

	if (redis->database == database)
		return;
	expect(redis, NULL, MP_TAKE_OWN);
	mp_wire_put(&redis->base.wire, command, redis_put_select(command, database));
	redis->database = database;
}

static struct redis_applied applied_of(const struct redis *redis, uint64_t lsn)
{
	return (struct redis_applied){redis->base.group_id, redis->base.backend.era, lsn};
}

/* SET applied; the connection is in the hidden database. */
static void put_applied(struct redis *redis, uint64_t lsn)
{
	struct redis_applied applied = applied_of(redis, lsn);
	char command[REDIS_SET_APPLIED_BYTES];

	assert(redis->database == redis_hidden_database(redis));
	redis_put_set_applied(command, &applied);
	mp_wire_put(&redis->base.wire, command, sizeof(command));
}

/* HELLO works within a transaction, too: the replies behind it in EXEC's are in that form. */
static void speak(struct redis *redis)
{
	if (redis->wanted == 0 || redis->wanted == redis->resp)
		return;
	expect(redis, NULL, MP_TAKE_OWN);
	if (redis->wanted == 3)
		mp_wire_put(&redis->base.wire, REDIS_HELLO_3, sizeof(REDIS_HELLO_3) - 1);
	else
		mp_wire_put(&redis->base.wire, REDIS_HELLO_2, sizeof(REDIS_HELLO_2) - 1);
	redis->resp = redis->wanted;
}

/*
 * A database that this server does not have, or the hidden one: had SELECT
 * failed, what follows would run in a database it was not meant for.
 */
static bool has_database(struct redis *redis, uint32_t database)
{
	if (database < redis_hidden_database(redis))
		return true;
	mp_base_refuse(&redis->base, "has no database %u for clients, as the log asks for",
		       database);
	return false;
}

static void open_unit(struct redis *redis)
{
	if (!redis->in_unit || redis->is_blind || redis->is_open)
		return;
	redis->unit_offset = mp_buffer_len(&redis->base.wire.out);
	mp_base_expect(&redis->base, REDIS_SLOT_UNIT, NULL, MP_TAKE_OWN);
	mp_wire_put(&redis->base.wire, REDIS_MULTI, sizeof(REDIS_MULTI) - 1);
	redis->is_open = true;
	if (redis->database == redis_hidden_database(redis)) {
		expect(redis, NULL, MP_TAKE_OWN);
		redis->stored_offset = mp_buffer_len(&redis->base.wire.out);
		put_applied(redis, redis->base.unit_lsn);
		redis->is_stored = true;
	}
}

/* A client's command, or several of which the last one is the client's, or all are. */
static void put_command(struct redis *redis, uint32_t database, struct mp_slice bytes, int commands,
			bool is_all, void *owner, enum mp_take_mode mode)
{
	struct mp_wire *wire = &redis->base.wire;
	int i;

	assert(commands >= 1);
	open_unit(redis);
	if (has_database(redis, database))
		select_database(redis, database);
	if (owner)
		speak(redis);
	if (redis->is_open && !redis->is_unproven)
		redis->is_unproven = !redis_shapes_know(&redis->shapes, bytes, commands);
	for (i = 1; i < commands; i++)
		expect(redis, is_all ? owner : NULL, mode);
	expect(redis, owner, mode);
	/* A unit stays in the buffer until its end, where it may turn out to be needed again. */
	if (bytes.len >= LARGE_BYTES && !redis->is_open)
		mp_wire_put_large(wire, bytes.data, bytes.len);
	else
		mp_wire_put(wire, bytes.data, bytes.len);
	/* Several commands may have SELECTs among them (FLUSHALL in command.h), as may clients'. */
	if (commands > 1 || is_all)
		redis->database = -1;
}

/* Units have joined since SET applied was put: it is to store the last one's LSN. */
static void correct_applied(struct redis *redis)
{
	struct mp_buffer *out = &redis->base.wire.out;
	struct redis_applied applied = applied_of(redis, redis->base.unit_lsn);

	/* Given up meanwhile: nothing of it will be sent. */
	if (mp_buffer_len(out) < redis->stored_offset + REDIS_SET_APPLIED_BYTES)
		return;
	redis_put_set_applied(mp_buffer_data(out) + redis->stored_offset, &applied);
}

static void close_unit(struct redis *redis)
{
	struct mp_base *base = &redis->base;
	struct mp_slot *slot;

	if (redis->is_stored) {
		correct_applied(redis);
	} else {
		select_database(redis, redis_hidden_database(redis));
		expect(redis, NULL, MP_TAKE_OWN);
		put_applied(redis, base->unit_lsn);
	}
	mp_wire_put(&base->wire, REDIS_EXEC, sizeof(REDIS_EXEC) - 1);
	slot = mp_fifo_tail(&base->slots);
	assert(slot->kind == REDIS_SLOT_UNIT);
	slot->members = redis->given;
	slot->lsn = slot->stored_lsn = base->unit_lsn;
	base->stored_lsn = base->unit_lsn;
	base->unstored = 0;
	redis->is_open = false;
	if (redis->is_unproven)
		redis_wait_for_unit(redis);
}

void redis_begin(struct redis *redis, uint64_t lsn, bool blind)
{
	assert(!redis->in_unit && lsn > redis->base.unit_lsn);
	redis->base.unit_lsn = lsn;
	redis->in_unit = true;
	redis->is_blind = blind;
	if (redis->is_open)
		return; /* joins */
	redis->is_stored = redis->is_unproven = false;
	redis->given = 0;
}

void redis_write(struct redis *redis, uint32_t database, struct mp_slice bytes, int commands,
		 void *owner)
{
	assert(redis->in_unit);
	put_command(redis, database, bytes, commands, false, owner, MP_TAKE_WRITE);
}

void redis_transaction(struct redis *redis, uint32_t database, struct mp_slice bytes, int commands,
		       void *owner)
{
	assert(redis->in_unit && !redis->is_blind);
	put_command(redis, database, bytes, commands, true, owner, MP_TAKE_WRITE);
}

void redis_read(struct redis *redis, uint32_t database, struct mp_slice bytes, void *owner)
{
	if (!redis->in_unit)
		redis_settle(redis);
	put_command(redis, database, bytes, 1, false, owner, MP_TAKE_READ);
}

void redis_settle(struct redis *redis)
{
	assert(!redis->in_unit);
	if (redis->is_open)
		close_unit(redis);
}

/* What waits for its proof waits alone. */
static bool may_be_joined(const struct redis *redis)
{
	return !redis->is_unproven && redis->given < JOINED_COMMANDS &&
	       mp_buffer_len(&redis->base.wire.out) < redis->unit_offset + JOINED_BYTES;
}

void redis_end(struct redis *redis)
{
	assert(redis->in_unit);
	redis->in_unit = false;
	if (!redis->is_open)
		mp_base_mark(&redis->base, redis->base.unit_lsn);
	else if (!may_be_joined(redis))
		close_unit(redis);
	if (!redis->is_open)
		mp_base_flush_much(&redis->base);
}

/* The hook: a stored LSN that lags behind. One command, so it needs no transaction. */
static bool store_applied(struct mp_base *base)
{
	struct redis *redis = (struct redis *)base;
	uint64_t lsn = base->backend.applied_lsn;

	if (redis->in_unit || redis->is_open || redis->is_waiting)
		return false;
	select_database(redis, redis_hidden_database(redis));
	mp_base_expect(base, REDIS_SLOT_REPLY, NULL, MP_TAKE_OWN)->stored_lsn = lsn;
	put_applied(redis, lsn);
	return true;
}

/* ----------------------------------------------------------------------- ops */

static void op_begin(struct mp_backend *backend, uint64_t lsn, bool blind)
{
	struct redis *redis = (struct redis *)backend;
	struct redis_held call = {.kind = REDIS_HELD_BEGIN, .lsn = lsn, .blind = blind};

	if (!redis_hold(redis, call, (struct mp_slice){0}))
		redis_begin(redis, lsn, blind);
}

static void op_write(struct mp_backend *backend, uint32_t database, struct mp_slice bytes,
		     int commands, void *owner)
{
	struct redis *redis = (struct redis *)backend;
	struct redis_held call = {.kind = REDIS_HELD_WRITE,
				  .database = database,
				  .commands = commands,
				  .owner = owner};

	if (!redis_hold(redis, call, bytes))
		redis_write(redis, database, bytes, commands, owner);
}

static void op_transaction(struct mp_backend *backend, uint32_t database, struct mp_slice bytes,
			   int commands, void *owner)
{
	struct redis *redis = (struct redis *)backend;
	struct redis_held call = {.kind = REDIS_HELD_TRANSACTION,
				  .database = database,
				  .commands = commands,
				  .owner = owner};

	if (!redis_hold(redis, call, bytes))
		redis_transaction(redis, database, bytes, commands, owner);
}

static void op_read(struct mp_backend *backend, uint32_t database, struct mp_slice bytes,
		    void *owner)
{
	struct redis *redis = (struct redis *)backend;
	struct redis_held call = {.kind = REDIS_HELD_READ, .database = database, .owner = owner};

	if (!redis_hold(redis, call, bytes))
		redis_read(redis, database, bytes, owner);
}

static void op_speak(struct mp_backend *backend, int resp)
{
	((struct redis *)backend)->wanted = (uint8_t)resp;
}

static void op_end(struct mp_backend *backend)
{
	struct redis *redis = (struct redis *)backend;

	if (!redis_hold(redis, (struct redis_held){.kind = REDIS_HELD_END}, (struct mp_slice){0}))
		redis_end(redis);
}

static void op_skip(struct mp_backend *backend, uint64_t lsn)
{
	struct redis *redis = (struct redis *)backend;
	struct redis_held call = {.kind = REDIS_HELD_SKIP, .lsn = lsn};

	if (!redis_hold(redis, call, (struct mp_slice){0}))
		mp_base_mark(&redis->base, lsn);
}

static void op_flush(struct mp_backend *backend)
{
	redis_settle((struct redis *)backend);
	mp_base_flush(backend);
}

static size_t op_backlog(const struct mp_backend *backend)
{
	const struct redis *redis = (const struct redis *)backend;

	return mp_base_backlog(backend) + redis->members.count * sizeof(struct redis_member) +
	       mp_buffer_len(&redis->held);
}

static void op_close(struct mp_backend *backend)
{
	struct redis *redis = (struct redis *)backend;

	mp_base_close(&redis->base);
	redis_greeting_end(&redis->greeting);
	mp_fifo_free(&redis->members);
	mp_buffer_free(&redis->refusals);
	mp_buffer_free(&redis->retry);
	mp_buffer_free(&redis->held);
	free(redis->password);
	free(redis);
}

static const struct mp_backend_ops ops = {
	.begin = op_begin,
	.write = op_write,
	.transaction = op_transaction,
	.read = op_read,
	.end = op_end,
	.speak = op_speak,
	.skip = op_skip,
	.flush = op_flush,
	.attend = mp_base_attend,
	.receive = mp_base_receive,
	.backlog = op_backlog,
	.oldest_ms = mp_base_oldest_ms,
	.hold = mp_base_hold,
	.release = mp_base_release,
	.close = op_close,
};

static const struct mp_base_hooks hooks = {
	.greet = greet,
	.greeting = take_greeting,
	.bytes = redis_take_bytes,
	.frame = redis_frame,
	.is_failure = redis_is_failure,
	.clean = redis_clean,
	.store = store_applied,
	.lose = redis_lose,
};

uint32_t mp_backend_redis_databases(const struct mp_backend *backend)
{
	const struct redis *redis = (const struct redis *)backend;

	return redis->databases ? redis_hidden_database(redis) : 0;
}

const char *mp_backend_redis_version(const struct mp_backend *backend)
{
	return ((const struct redis *)backend)->greeting.version;
}

bool mp_backend_redis_is_valkey(const struct mp_backend *backend)
{
	return ((const struct redis *)backend)->greeting.is_valkey;
}

const char *mp_backend_redis_run_id(const struct mp_backend *backend)
{
	return ((const struct redis *)backend)->greeting.run_id;
}

uint64_t mp_backend_redis_volatile_keys(const struct mp_backend *backend)
{
	return ((const struct redis *)backend)->greeting.volatile_keys;
}

struct mp_backend *mp_backend_redis_open(struct event_base *base,
					 const struct mp_backend_options *options,
					 const struct mp_backend_events *events, void *ctx,
					 char *err, size_t err_bytes)
{
	struct redis *redis = calloc(1, sizeof(*redis));

	if (!redis || (options->password && !(redis->password = strdup(options->password)))) {
		snprintf(err, err_bytes, "out of memory");
		free(redis);
		return NULL;
	}
	redis->base.backend.ops = &ops;
	redis->members.item_bytes = sizeof(struct redis_member);
	if (!mp_base_open(&redis->base, base, options, &hooks, events, ctx, err, err_bytes)) {
		op_close(&redis->base.backend);
		return NULL;
	}
	return &redis->base.backend;
}
