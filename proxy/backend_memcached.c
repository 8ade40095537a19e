/*
 * backend_memcached.c - the Memcached adapter. See backend.h.
 *
 * There are no transactions, and none are needed: whatever depends on what is
 * there was decided by the leader, so the log holds plain sets, deletes and the
 * like (DETERMINISM, Memcached 1), and running a stretch of it again ends in
 * the same state. Every unit is therefore treated as a blind one: it is sent
 * bare, and the applied LSN is stored some time later, in an item of its own
 * (memcached_greeting.h).
 *
 * Should the server evict that item, which under the LRU means that it saw
 * almost no writes while it was evicting others, a restarted proxy will find a
 * server with data and no LSN, and refuse it: a cache that has to be emptied,
 * but nothing wrong.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend_base.h"
#include "mc_text.h"
#include "memcached_clock.h"
#include "memcached_gets.h"
#include "memcached_greeting.h"
#include "memcached_older.h"

enum {
	LARGE_BYTES = 64 << 10, /* what is larger is sent at once, rather than copied */
	FLUSH_SLACK_S = 3,      /* its clock may be so much behind ours */
	LINE_BYTES = 2048,      /* of a command of the log */
};

enum slot_kind {
	SLOT_REPLY,  /* one reply; the owner's, or nobody's */
	SLOT_BARE,   /* the same, to a request that mc_is_bare() */
	SLOT_GETS,   /* the reply to single keys (memcached_gets.h) */
	SLOT_SET,    /* the same, to a command that may store: its key is the oldest in `keys` */
	SLOT_FLUSH,  /* the same, to a flush_all */
	SLOT_DELETE, /* our own, of the key of a store that failed */
	SLOT_STORE,  /* our own set of the applied LSN */
};

struct memcached {
	struct mp_base base; /* first */
	struct memcached_greeting greeting;
	struct event *pause;     /* in the greeting */
	struct event *flush_due; /* a flush_all of the log with a time has taken place */
	struct memcached_clock clock;
	struct mc_framer framer;
	struct memcached_gets gets;
	/*
	 * Of every set under way how its key is deleted, behind two bytes with
	 * that command's length: if the set fails, it is needed.
	 */
	struct mp_buffer keys;
	unsigned deletes; /* slots of kind DELETE */
	bool set_failed;  /* the head's set, or store, did not store */
	bool in_unit;
	bool is_partial; /* as its place says, once READY */
	/* The next greeting is to have the server stand there, emptied or as it is. */
	bool empties, moves;
	struct memcached_place new_place;
};

/* ------------------------------------------------------------------ handshake */

static void greet(struct mp_base *base)
{
	struct memcached *mc = (struct memcached *)base;

	mc->greeting = (struct memcached_greeting){.group_id = base->group_id,
						   .empties = mc->empties,
						   .moves = mc->moves,
						   .new_place = mc->new_place};
	memcached_greeting_start(&mc->greeting, &base->wire.out);
}

static void become_ready(struct memcached *mc)
{
	const struct memcached_greeting *g = &mc->greeting;
	char who[160];

	memcached_clock_set(&mc->clock, g->time_s);
	snprintf(who, sizeof(who),
		 "Memcached %s, pid %" PRIu64 ", started %" PRIu64 ", applied LSN %" PRIu64,
		 g->version, g->pid, g->started, g->place.lsn);
	mc->empties = mc->moves = false;
	mc->is_partial = g->place.is_partial;
	mp_base_ready(&mc->base, g->place.era, g->place.lsn, who);
}

static void take_greeting(struct mp_base *base)
{
	static const struct timeval pause = {0, MEMCACHED_PAUSE_MS * 1000};
	struct memcached *mc = (struct memcached *)base;

	switch (memcached_greeting_feed(&mc->greeting, &base->wire.in, &base->wire.out)) {
	case MEMCACHED_GREETING_MORE:
		break;
	case MEMCACHED_GREETING_PAUSE:
		event_add(mc->pause, &pause);
		break;
	case MEMCACHED_GREETING_READY:
		become_ready(mc);
		break;
	case MEMCACHED_GREETING_REFUSED:
		mp_base_refuse(base, "%s", mc->greeting.why);
		break;
	}
}

static void on_pause_end(evutil_socket_t fd, short what, void *arg)
{
	struct memcached *mc = arg;

	(void)fd;
	(void)what;
	memcached_greeting_go_on(&mc->greeting, &mc->base.wire.out);
	mp_wire_flush(&mc->base.wire);
}

/* -------------------------------------------------------------------- replies */

static enum mp_take frame(struct mp_base *base, const char *data, size_t len, size_t *used)
{
	struct memcached *mc = (struct memcached *)base;
	const struct mp_slot *slot = mp_fifo_at(&base->slots, 0);

	mc->framer.is_bare = slot->kind == SLOT_BARE;
	switch (mc_frame(&mc->framer, data, len, used)) {
	case MC_DONE:
		return MP_TAKE_DONE;
	case MC_MORE:
		return MP_TAKE_MORE;
	case MC_BAD:
	case MC_FATAL:
		break;
	}
	return MP_TAKE_BROKEN;
}

/*
 * SERVER_ERROR is about the server's own state; CLIENT_ERROR and ERROR are
 * about the command, and the same everywhere. A set that fails for want of
 * memory is no failure of a cache, see after_set(); a delete that fails is.
 */
static bool is_failure(struct mp_base *base, struct mp_slice reply, enum mp_take_mode mode)
{
	struct memcached *mc = (struct memcached *)base;
	const struct mp_slot *slot = mp_fifo_at(&base->slots, 0);

	if (slot->kind == SLOT_SET)
		mc->set_failed = mp_starts_with(reply, "SERVER_ERROR");
	else if (slot->kind == SLOT_STORE)
		mc->set_failed = !mp_starts_with(reply, "STORED");
	else if (mode == MP_TAKE_OWN)
		return !mp_starts_with(reply, "DELETED") && !mp_starts_with(reply, "NOT_FOUND") &&
		       !mp_starts_with(reply, "HD") && !mp_starts_with(reply, "NF");
	else
		return mode == MP_TAKE_WRITE && mp_starts_with(reply, "SERVER_ERROR");
	return false;
}

/*
 * A set is answered. If it found no memory, other replicas may have stored it
 * all the same. Here the key must hold nothing then: the old value would be
 * wrong, while a cache may always miss. (The server drops the old value itself
 * in most cases of failure, but not in all: not if it runs out of memory while
 * it reads a large value.) A newer set of the key that is already under way is
 * deleted as well; that is only one more miss.
 */
static void after_set(struct memcached *mc)
{
	struct mp_wire *wire = &mc->base.wire;
	const char *command = mp_buffer_data(&mc->keys) + sizeof(uint16_t);
	uint16_t len;

	memcpy(&len, command - sizeof(len), sizeof(len));
	if (mc->set_failed) {
		mp_base_expect(&mc->base, SLOT_DELETE, NULL, MP_TAKE_OWN);
		mp_wire_put(wire, command, len);
		mc->deletes++;
	}
	mp_buffer_consume(&mc->keys, sizeof(len) + len);
}

/* The head, of that kind, is answered. */
static void after_reply(struct memcached *mc, uint8_t kind)
{
	struct mp_base *base = &mc->base;
	struct mp_slot *slot = mp_fifo_at(&base->slots, 0);

	if (kind == SLOT_STORE && mc->set_failed)
		slot->stored_lsn = 0;
	mp_base_answered(base);
	switch ((enum slot_kind)kind) {
	case SLOT_REPLY:
	case SLOT_BARE:
	case SLOT_GETS:
		break;
	case SLOT_SET:
		after_set(mc);
		break;
	case SLOT_DELETE:
		mc->deletes--;
		break;
	case SLOT_FLUSH:
		/* It took our own item, too: a restart now would find a server without an LSN. */
		mp_base_unstore(base);
		mp_base_store(base);
		break;
	case SLOT_STORE:
		if (mc->set_failed)
			mp_base_unstore(base);
		break;
	}
	mc->set_failed = false;
}

static void take_bytes(struct mp_base *base)
{
	struct memcached *mc = (struct memcached *)base;

	while (base->slots.count > 0 && !base->wire.is_broken) {
		struct mp_slot slot = *(struct mp_slot *)mp_fifo_at(&base->slots, 0);
		enum mp_take result = slot.kind == SLOT_GETS
					      ? memcached_gets_take(&mc->gets, base)
					      : mp_base_take(base, slot.owner, slot.mode);

		if (result != MP_TAKE_DONE)
			return;
		after_reply(mc, slot.kind);
	}
	if (base->slots.count == 0 && mp_buffer_len(&base->wire.in) > 0)
		mp_wire_break(&base->wire, "the server sent what nobody asked for");
}

static void lose(struct mp_base *base)
{
	struct memcached *mc = (struct memcached *)base;
	size_t i;

	assert(!mc->in_unit);
	event_del(mc->pause);
	for (i = 0; i < base->slots.count; i++) {
		const struct mp_slot *slot = mp_fifo_at(&base->slots, i);

		if (slot->kind == SLOT_GETS)
			memcached_gets_lose(&mc->gets, base, slot);
		else
			mp_base_lost(base, slot->owner);
	}
	memcached_gets_reset(&mc->gets);
	mc->framer = (struct mc_framer){0};
	mc->set_failed = false;
	mc->deletes = 0;
	mp_buffer_clear(&mc->keys);
}

/* -------------------------------------------------------------- what is sent */

/* How the key of a command that stores (mc_encode.h) is deleted. */
static void remember_key(struct memcached *mc, struct mp_slice line)
{
	const char *at = line.data, *end = at + line.len - 2;
	bool is_meta = *mc_next_word(&at, end).data == 'm', is_base64;
	struct mp_slice key = mc_next_word(&at, end), flag = mc_next_word(&at, end);
	char command[LINE_BYTES];
	struct mc_writer w = {command, sizeof(command), 0};
	uint16_t len;

	if (mp_starts_with(line, "ms "))
		flag = mc_next_word(&at, end); /* behind the length */
	is_base64 = is_meta && flag.len == 1 && *flag.data == 'b';
	mc_put_delete_line(&w, key, is_base64);
	assert(w.bytes <= sizeof(command));
	len = (uint16_t)w.bytes;
	if (!mp_buffer_append(&mc->keys, &len, sizeof(len)) ||
	    !mp_buffer_append(&mc->keys, command, len))
		mp_wire_break(&mc->base.wire, "out of memory");
}

static void put_bytes(struct memcached *mc, struct mp_slice bytes)
{
	if (bytes.len >= LARGE_BYTES)
		mp_wire_put_large(&mc->base.wire, bytes.data, bytes.len);
	else
		mp_wire_put(&mc->base.wire, bytes.data, bytes.len);
}

static void op_begin(struct mp_backend *backend, uint64_t lsn, bool blind)
{
	struct memcached *mc = (struct memcached *)backend;

	(void)blind;
	assert(!mc->in_unit && lsn > mc->base.unit_lsn);
	mc->base.unit_lsn = lsn;
	mc->in_unit = true;
}

static void put_line(struct memcached *mc, struct mp_slice line)
{
	int64_t shift_s = memcached_clock_shift_s(&mc->clock);
	char old[LINE_BYTES], shifted[LINE_BYTES];
	struct mc_writer w = {old, sizeof(old), 0};

	if (memcached_is_too_new(line, mc->greeting.news)) {
		memcached_put_older(&w, line, mc->greeting.news);
		line = (struct mp_slice){old, w.bytes};
	}
	if (shift_s == 0) {
		mp_wire_put(&mc->base.wire, line.data, line.len);
		return;
	}
	w = (struct mc_writer){shifted, sizeof(shifted), 0};
	memcached_shift_deadlines(&w, line, shift_s);
	if (w.bytes <= sizeof(shifted))
		mp_wire_put(&mc->base.wire, shifted, w.bytes);
	else
		mp_wire_put(&mc->base.wire, line.data, line.len);
}

/*
 * A flush_all of the future takes our own item, too, when it is due: it has to
 * be stored again then.
 */
static void await_flush(struct memcached *mc, struct mp_slice line)
{
	const char *digits = line.data + strlen("flush_all");
	int64_t left_s = strtoll(digits, NULL, 10) - (int64_t)time(NULL);
	struct timeval delay = {.tv_sec = left_s + FLUSH_SLACK_S};

	if (left_s > 0)
		event_add(mc->flush_due, &delay);
}

static void on_flush_due(evutil_socket_t fd, short what, void *arg)
{
	struct memcached *mc = arg;

	(void)fd;
	(void)what;
	if (mc->base.backend.state != MP_BACKEND_READY)
		return;
	mp_base_unstore(&mc->base);
	mp_base_store(&mc->base);
	mp_wire_flush(&mc->base.wire);
}

static void put_command(struct memcached *mc, struct memcached_command command, void *owner)
{
	uint8_t kind = SLOT_REPLY;

	if (mp_starts_with(command.line, "set ") || mp_starts_with(command.line, "ms ") ||
	    mp_starts_with(command.line, "mg ") || memcached_empties(command.line))
		kind = SLOT_SET;
	else if (mp_starts_with(command.line, "flush_all"))
		kind = SLOT_FLUSH;
	mp_base_expect(&mc->base, kind, owner, MP_TAKE_WRITE);
	if (kind == SLOT_SET)
		remember_key(mc, command.line);
	else if (kind == SLOT_FLUSH)
		await_flush(mc, command.line);
	put_line(mc, command.line);
	if (command.block.len > 0)
		put_bytes(mc, command.block);
}

static void op_write(struct mp_backend *backend, uint32_t database, struct mp_slice bytes,
		     int commands, void *owner)
{
	struct memcached *mc = (struct memcached *)backend;

	assert(mc->in_unit && database == 0 && commands > 0);
	while (commands-- > 0) {
		struct memcached_command command = memcached_next_command(bytes);
		size_t len = command.line.len + command.block.len;

		put_command(mc, command, commands == 0 ? owner : NULL);
		bytes = (struct mp_slice){bytes.data + len, bytes.len - len};
	}
}

static void op_read(struct mp_backend *backend, uint32_t database, struct mp_slice bytes,
		    void *owner)
{
	struct memcached *mc = (struct memcached *)backend;
	struct mp_slice key;

	(void)database;
	if (memcached_gets_is_one(bytes, &key)) {
		memcached_gets_ask(&mc->gets, &mc->base, SLOT_GETS, key, owner);
		return;
	}
	mp_base_expect(&mc->base, mc_is_bare(bytes) ? SLOT_BARE : SLOT_REPLY, owner, MP_TAKE_READ);
	put_bytes(mc, bytes);
}

static void op_end(struct mp_backend *backend)
{
	struct memcached *mc = (struct memcached *)backend;

	assert(mc->in_unit);
	mc->in_unit = false;
	mp_base_mark(&mc->base, mc->base.unit_lsn);
	mp_base_flush_much(&mc->base);
}

static void op_skip(struct mp_backend *backend, uint64_t lsn)
{
	mp_base_mark((struct mp_base *)backend, lsn);
}

/* The hook: without `noreply`, since the LSN is durable only once that is answered. */
static bool store_applied(struct mp_base *base)
{
	const struct memcached *mc = (const struct memcached *)base;
	uint64_t lsn = base->backend.applied_lsn;
	char value[MEMCACHED_APPLIED_BYTES], command[160];
	size_t len = memcached_put_applied(
		value, base->group_id,
		(struct memcached_place){base->backend.era, lsn, mc->is_partial});
	int n = snprintf(command, sizeof(command),
			 "set " MEMCACHED_APPLIED_KEY " 0 0 %zu\r\n%s\r\n", len, value);

	mp_base_expect(base, SLOT_STORE, NULL, MP_TAKE_OWN)->stored_lsn = lsn;
	mp_wire_put(&base->wire, command, (size_t)n);
	return true;
}

static void op_close(struct mp_backend *backend)
{
	struct memcached *mc = (struct memcached *)backend;

	mp_base_close(&mc->base);
	if (mc->pause)
		event_free(mc->pause);
	if (mc->flush_due)
		event_free(mc->flush_due);
	memcached_gets_free(&mc->gets);
	mp_buffer_free(&mc->keys);
	free(mc);
}

static size_t op_backlog(const struct mp_backend *backend)
{
	return mp_base_backlog(backend) +
	       memcached_gets_bytes(&((const struct memcached *)backend)->gets);
}

static const struct mp_backend_ops ops = {
	.begin = op_begin,
	.write = op_write,
	.read = op_read,
	.end = op_end,
	.skip = op_skip,
	.flush = mp_base_flush,
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
	.bytes = take_bytes,
	.frame = frame,
	.is_failure = is_failure,
	.store = store_applied,
	.lose = lose,
};

struct mp_backend *mp_backend_memcached_open(struct event_base *base,
					     const struct mp_backend_options *options,
					     const struct mp_backend_events *events, void *ctx,
					     char *err, size_t err_bytes)
{
	struct memcached *mc = calloc(1, sizeof(*mc));

	if (!mc || !(mc->pause = event_new(base, -1, 0, on_pause_end, mc)) ||
	    !(mc->flush_due = event_new(base, -1, 0, on_flush_due, mc))) {
		snprintf(err, err_bytes, "out of memory");
		if (mc && mc->pause)
			event_free(mc->pause);
		free(mc);
		return NULL;
	}
	mc->base.backend.ops = &ops;
	mc->gets.asked.item_bytes = sizeof(struct memcached_asked);
	if (!mp_base_open(&mc->base, base, options, &hooks, events, ctx, err, err_bytes)) {
		op_close(&mc->base.backend);
		return NULL;
	}
	return &mc->base.backend;
}

uint64_t mp_backend_memcached_item_size_max(const struct mp_backend *backend)
{
	return ((const struct memcached *)backend)->greeting.item_size_max;
}

unsigned mp_backend_memcached_news(const struct mp_backend *backend)
{
	return ((const struct memcached *)backend)->greeting.news;
}

int64_t mp_backend_memcached_deadline_s(const struct mp_backend *backend, int64_t left_s)
{
	return memcached_clock_deadline_s(&((const struct memcached *)backend)->clock, left_s);
}

uint64_t mp_backend_memcached_settled_lsn(const struct mp_backend *backend)
{
	return ((const struct memcached *)backend)->deletes == 0 ? backend->applied_lsn : 0;
}

void mp_backend_memcached_say(struct mp_backend *backend, struct memcached_command command)
{
	struct memcached *mc = (struct memcached *)backend;

	mp_base_expect(&mc->base, SLOT_REPLY, NULL, MP_TAKE_READ);
	put_line(mc, command.line);
	if (command.block.len > 0)
		put_bytes(mc, command.block);
}

int64_t mp_backend_memcached_shift_s(const struct mp_backend *backend)
{
	return memcached_clock_shift_s(&((const struct memcached *)backend)->clock);
}

void mp_backend_memcached_empty(struct mp_backend *backend, uint64_t era, uint64_t lsn,
				bool is_partial)
{
	struct memcached *mc = (struct memcached *)backend;

	mc->empties = true;
	mc->is_partial = mc->moves = false;
	mc->new_place = (struct memcached_place){era, lsn, is_partial};
	mp_wire_break(&mc->base.wire, "it is to be emptied");
}

void mp_backend_memcached_move(struct mp_backend *backend, uint64_t era, uint64_t lsn)
{
	struct memcached *mc = (struct memcached *)backend;

	mc->moves = true;
	mc->new_place = (struct memcached_place){era, lsn, false};
	mp_wire_break(&mc->base.wire, "it is to stand at another place of the log");
}

bool mp_backend_memcached_is_partial(const struct mp_backend *backend)
{
	return ((const struct memcached *)backend)->is_partial;
}

void mp_backend_memcached_be_whole(struct mp_backend *backend)
{
	struct memcached *mc = (struct memcached *)backend;

	if (!mc->is_partial || backend->state != MP_BACKEND_READY)
		return;
	mc->is_partial = false;
	mp_base_unstore(&mc->base);
	mp_base_store(&mc->base);
	mp_wire_flush(&mc->base.wire);
}
