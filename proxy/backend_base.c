/* backend_base.c - see backend_base.h. */
#include "backend_base.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	PIECE_BYTES = 64 << 10, /* a reply of less is told in one piece */
	GREETING_TIMEOUT_MS = 10000,
	COMMAND_WEIGHT = 64, /* see backlog() in backend.h */
	/*
	 * When a stored LSN that lags is brought up to date. What lags is only
	 * run again after a restart, and the log's ring cannot be reused there.
	 */
	STORE_DELAY_MS = 50,
	STORE_ENTRIES = 4096,
	STORE_BYTES = 64 << 20,
	/* So much is sent at once, while it is in the caches still. */
	FLUSH_BYTES = 64 << 10,
	/* From this backlog on answers are awaited: they make room for what is to follow. */
	REST_BACKLOG = 256 << 10,
};

/* ------------------------------------------------------------------- states */

static void tell_state(struct mp_base *base, enum mp_backend_state state, const char *why)
{
	struct mp_backend *backend = &base->backend;

	if (state == backend->state && strcmp(why, base->told) == 0)
		return;
	backend->state = state;
	snprintf(base->told, sizeof(base->told), "%s", why);
	backend->events->state(backend->events_ctx, state, backend->applied_lsn, base->told);
}

static void on_up(void *ctx)
{
	struct mp_base *base = ctx;
	struct timeval patience = {GREETING_TIMEOUT_MS / 1000, 0};

	base->is_greeting = true;
	base->failure[0] = '\0';
	event_add(base->greeting_timer, &patience);
	base->hooks->greet(base);
	mp_wire_flush(&base->wire);
}

static void on_bytes(void *ctx)
{
	struct mp_base *base = ctx;

	if (base->is_greeting)
		base->hooks->greeting(base);
	else
		base->hooks->bytes(base);
	mp_wire_flush(&base->wire);
}

static void on_down(void *ctx, const char *why)
{
	struct mp_base *base = ctx;
	bool failed = base->failure[0] != '\0';

	event_del(base->greeting_timer);
	event_del(base->store_timer);
	base->store_is_due = false;
	base->is_greeting = false;
	base->hooks->lose(base);
	mp_fifo_clear(&base->slots);
	base->scanned = 0;
	base->streamed = false;
	tell_state(base, failed ? MP_BACKEND_FAILED : MP_BACKEND_DISCONNECTED,
		   failed ? base->failure : why);
}

static const struct mp_wire_events wire_events = {.up = on_up, .bytes = on_bytes, .down = on_down};

static void on_greeting_timer(evutil_socket_t fd, short what, void *arg)
{
	struct mp_base *base = arg;

	(void)fd;
	(void)what;
	mp_wire_break(&base->wire, "connected, but no answer");
}

void mp_base_ready(struct mp_base *base, uint64_t era, uint64_t applied_lsn, const char *why)
{
	struct mp_backend *backend = &base->backend;

	assert(base->is_greeting && base->slots.count == 0);
	event_del(base->greeting_timer);
	base->is_greeting = false;
	backend->era = era;
	backend->applied_lsn = backend->durable_lsn = applied_lsn;
	base->stored_lsn = base->unit_lsn = applied_lsn;
	base->unstored = 0;
	if (base->failed_lsn == 0)
		mp_wire_reset_delay(&base->wire);
	tell_state(base, MP_BACKEND_READY, why);
}

void mp_base_refuse(struct mp_base *base, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(base->failure, sizeof(base->failure), format, args);
	va_end(args);
	/* Nothing but an operator's doing will change it: no hurry to look again. */
	mp_wire_max_delay(&base->wire);
	mp_wire_break(&base->wire, base->failure);
}

/* The (last) entry that the head belongs to: the LSN is with its last slot. */
static uint64_t head_lsn(const struct mp_base *base)
{
	size_t i;

	for (i = 0; i < base->slots.count; i++) {
		const struct mp_slot *slot = mp_fifo_at(&base->slots, i);

		if (slot->lsn)
			return slot->lsn;
	}
	return base->unit_lsn;
}

void mp_base_fail(struct mp_base *base, struct mp_slice reply)
{
	size_t len = reply.len;

	while (len > 0 && (reply.data[len - 1] == '\n' || reply.data[len - 1] == '\r'))
		len--;
	base->failed_lsn = head_lsn(base);
	mp_base_refuse(base, "refused the entry at LSN %llu, or one given with it: %.*s",
		       (unsigned long long)base->failed_lsn, len < 160 ? (int)len : 160,
		       reply.data);
}

/* --------------------------------------------------------------- applied LSN */

static void store_later(struct mp_base *base)
{
	struct timeval delay = {0, STORE_DELAY_MS * 1000};

	if (base->store_is_due)
		return;
	base->store_is_due = true;
	event_add(base->store_timer, &delay);
}

/*
 * Only what was answered is stored: had a command that is still under way been
 * refused, the server must not say that it has executed it.
 */
void mp_base_store(struct mp_base *base)
{
	if (base->backend.applied_lsn <= base->stored_lsn)
		return;
	if (base->hooks->store(base)) {
		base->stored_lsn = base->backend.applied_lsn;
		base->unstored = 0;
	} else {
		store_later(base);
	}
}

void mp_base_unstore(struct mp_base *base)
{
	base->stored_lsn = 0;
	if (base->backend.applied_lsn > 0)
		store_later(base);
}

static void on_store_timer(evutil_socket_t fd, short what, void *arg)
{
	struct mp_base *base = arg;

	(void)fd;
	(void)what;
	base->store_is_due = false;
	mp_base_store(base);
	mp_wire_flush(&base->wire);
}

static void set_applied(struct mp_base *base, uint64_t lsn)
{
	assert(lsn >= base->backend.applied_lsn);
	base->backend.applied_lsn = lsn;
	if (base->failed_lsn && lsn >= base->failed_lsn) {
		base->failed_lsn = 0;
		mp_wire_reset_delay(&base->wire);
	}
	if (lsn <= base->stored_lsn)
		return;
	base->unstored++;
	if (base->unstored >= STORE_ENTRIES || lsn - base->stored_lsn >= STORE_BYTES)
		mp_base_store(base);
	else
		store_later(base);
}

void mp_base_mark(struct mp_base *base, uint64_t lsn)
{
	base->unit_lsn = lsn;
	if (base->slots.count > 0)
		((struct mp_slot *)mp_fifo_tail(&base->slots))->lsn = lsn;
	else if (!base->wire.is_broken)
		set_applied(base, lsn);
}

void mp_base_flush_much(struct mp_base *base)
{
	if (mp_buffer_len(&base->wire.out) >= FLUSH_BYTES)
		mp_wire_flush(&base->wire);
}

static void set_durable(struct mp_base *base, uint64_t lsn)
{
	struct mp_backend *backend = &base->backend;

	if (lsn <= backend->durable_lsn)
		return;
	backend->durable_lsn = lsn;
	backend->events->durable(backend->events_ctx, lsn);
}

/* ------------------------------------------------------------------- replies */

struct mp_slot *mp_base_expect(struct mp_base *base, uint8_t kind, void *owner,
			       enum mp_take_mode mode)
{
	struct mp_slot *slot;

	if (base->slots.count == 0)
		base->waiting_since_ms = mp_wire_now_ms();
	slot = mp_fifo_push(&base->slots);
	*slot = (struct mp_slot){.owner = owner, .kind = kind, .mode = (uint8_t)mode};
	return slot;
}

enum mp_take mp_base_take(struct mp_base *base, void *owner, enum mp_take_mode mode)
{
	struct mp_buffer *in = &base->wire.in;
	struct mp_slice piece, clean;
	enum mp_take result;
	size_t used;

	if (mp_buffer_len(in) == base->scanned)
		return MP_TAKE_MORE;
	result = base->hooks->frame(base, mp_buffer_data(in) + base->scanned,
				    mp_buffer_len(in) - base->scanned, &used);
	base->scanned += used;
	piece = (struct mp_slice){mp_buffer_data(in), base->scanned};
	if (result == MP_TAKE_BROKEN) {
		mp_wire_break(&base->wire, "the server sent what is no reply");
		return result;
	}
	if (result == MP_TAKE_MORE && piece.len < PIECE_BYTES)
		return result;
	if (!base->streamed && base->hooks->is_failure(base, piece, mode)) {
		mp_base_fail(base, piece);
		return MP_TAKE_BROKEN;
	}
	clean = base->hooks->clean && !base->streamed ? base->hooks->clean(piece) : piece;
	base->streamed = result == MP_TAKE_MORE;
	base->scanned = 0;
	if (owner)
		base->backend.events->reply(base->backend.events_ctx, owner, clean,
					    result == MP_TAKE_DONE);
	mp_buffer_consume(in, piece.len);
	return result;
}

void mp_base_answered(struct mp_base *base)
{
	struct mp_slot slot = *(struct mp_slot *)mp_fifo_at(&base->slots, 0);

	mp_fifo_pop(&base->slots);
	if (slot.lsn)
		set_applied(base, slot.lsn);
	if (slot.stored_lsn)
		set_durable(base, slot.stored_lsn);
}

void mp_base_lost(struct mp_base *base, void *owner)
{
	if (owner)
		base->backend.events->lost(base->backend.events_ctx, owner);
}

/* ----------------------------------------------------------------------- ops */

void mp_base_flush(struct mp_backend *backend)
{
	mp_wire_flush(&((struct mp_base *)backend)->wire);
}

void mp_base_attend(struct mp_backend *backend, bool is_awaited)
{
	struct mp_base *base = (struct mp_base *)backend;

	/* Where nothing is to come but the connection's end, that is to be heard of. */
	if (is_awaited || base->is_greeting || base->slots.count == 0 ||
	    backend->ops->backlog(backend) > REST_BACKLOG)
		mp_wire_attend(&base->wire);
	else
		mp_wire_rest(&base->wire);
}

void mp_base_receive(struct mp_backend *backend)
{
	mp_wire_receive(&((struct mp_base *)backend)->wire);
}

size_t mp_base_backlog(const struct mp_backend *backend)
{
	const struct mp_base *base = (const struct mp_base *)backend;

	return mp_buffer_len(&base->wire.out) + base->slots.count * COMMAND_WEIGHT;
}

uint64_t mp_base_oldest_ms(const struct mp_backend *backend)
{
	const struct mp_base *base = (const struct mp_base *)backend;
	uint64_t since = base->waiting_since_ms;

	if (base->slots.count == 0)
		return 0;
	if (since < base->wire.progress_ms)
		since = base->wire.progress_ms;
	return mp_wire_now_ms() - since;
}

void mp_base_hold(struct mp_backend *backend, const char *why)
{
	struct mp_base *base = (struct mp_base *)backend;

	base->failure[0] = '\0';
	mp_wire_hold(&base->wire, why);
}

void mp_base_release(struct mp_backend *backend, bool another)
{
	struct mp_base *base = (struct mp_base *)backend;

	/* The other state is whole, whatever the former one lacked. */
	if (another)
		base->failed_lsn = 0;
	mp_wire_release(&base->wire);
}

bool mp_base_open(struct mp_base *base, struct event_base *events_base,
		  const struct mp_backend_options *options, const struct mp_base_hooks *hooks,
		  const struct mp_backend_events *events, void *ctx, char *err, size_t err_bytes)
{
	base->backend.events = events;
	base->backend.events_ctx = ctx;
	base->backend.state = MP_BACKEND_DISCONNECTED;
	base->hooks = hooks;
	base->group_id = options->group_id;
	base->slots.item_bytes = sizeof(struct mp_slot);
	base->store_timer = event_new(events_base, -1, 0, on_store_timer, base);
	base->greeting_timer = event_new(events_base, -1, 0, on_greeting_timer, base);
	if (!base->store_timer || !base->greeting_timer) {
		snprintf(err, err_bytes, "out of memory");
		return false;
	}
	return mp_wire_open(&base->wire, events_base, options->address, options->reconnect_min_ms,
			    options->reconnect_max_ms, &wire_events, base, err, err_bytes);
}

void mp_base_close(struct mp_base *base)
{
	mp_wire_close(&base->wire);
	if (base->store_timer)
		event_free(base->store_timer);
	if (base->greeting_timer)
		event_free(base->greeting_timer);
	mp_fifo_free(&base->slots);
}
