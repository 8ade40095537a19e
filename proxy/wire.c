/* wire.c - see wire.h. */
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	READ_BYTES = 64 << 10, /* room for one read */
	READS_IN_A_ROW = 8,    /* then others in the loop have their turn */
	KEEP_BYTES = 1 << 20,  /* of buffers, when empty */
	CONNECT_TIMEOUT_MS = 3000,
	LINGER_MS = 5000,
	REST_MS = 10, /* longer than a follower lets entries gather (replica.c) */
};

uint64_t mp_wire_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void set_timer(struct mp_wire *wire, int ms)
{
	struct timeval delay = {ms / 1000, ms % 1000 * 1000};

	event_add(wire->timer, &delay);
}

static void free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

static void close_socket(struct mp_wire *wire)
{
	event_del(wire->rest_timer);
	wire->is_resting = false;
	free_event(&wire->readable);
	free_event(&wire->writable);
	wire->writable_is_pending = false;
	if (wire->fd >= 0)
		close(wire->fd);
	wire->fd = -1;
}

/* ------------------------------------------------------------- state changes */

static void become_waiting(struct mp_wire *wire)
{
	close_socket(wire);
	wire->state = MP_WIRE_WAITING;
	if (wire->is_held)
		event_del(wire->timer);
	else
		set_timer(wire, wire->delay_ms);
	wire->delay_ms = wire->delay_ms * 2 < wire->max_ms ? wire->delay_ms * 2 : wire->max_ms;
}

static void become_up(struct mp_wire *wire)
{
	event_del(wire->timer);
	wire->state = MP_WIRE_UP;
	wire->progress_ms = mp_wire_now_ms();
	event_add(wire->readable, NULL);
	wire->events->up(wire->ctx);
}

/* Tell the user; whatever it does, the connection is already no longer UP. */
static void tell_down(struct mp_wire *wire, const char *why)
{
	wire->is_broken = false;
	mp_buffer_clear(&wire->in);
	mp_buffer_clear(&wire->out);
	wire->events->down(wire->ctx, why);
}

/* The other side, or the network, ended it: nothing that was sent can still be executed. */
static void fail(struct mp_wire *wire, const char *why)
{
	become_waiting(wire);
	tell_down(wire, why);
}

/* See MP_WIRE_LINGERING. */
static void become_lingering(struct mp_wire *wire)
{
	mp_wire_attend(wire);
	wire->state = MP_WIRE_LINGERING;
	event_del(wire->writable);
	wire->writable_is_pending = false;
	shutdown(wire->fd, SHUT_WR);
	set_timer(wire, LINGER_MS);
	tell_down(wire, wire->why);
}

/* -------------------------------------------------------------------- events */

static void swallow_until_eof(struct mp_wire *wire)
{
	char waste[4096];
	ssize_t n;

	do
		n = recv(wire->fd, waste, sizeof(waste), 0);
	while (n > 0 || (n < 0 && errno == EINTR));
	if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
		become_waiting(wire);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct mp_wire *wire = arg;
	int i;

	(void)fd;
	(void)what;
	if (wire->state == MP_WIRE_LINGERING) {
		swallow_until_eof(wire);
		return;
	}
	for (i = 0; i < READS_IN_A_ROW && wire->state == MP_WIRE_UP && !wire->is_broken; i++) {
		ssize_t n = mp_buffer_receive(&wire->in, wire->fd, READ_BYTES);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			fail(wire, n == 0 ? "the server closed the connection" : strerror(errno));
			return;
		}
		wire->progress_ms = mp_wire_now_ms();
		wire->events->bytes(wire->ctx);
		/* Less than there was room for: another read would only find nothing. */
		if ((size_t)n < READ_BYTES)
			return;
	}
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct mp_wire *wire = arg;
	int error;

	(void)what;
	wire->writable_is_pending = false;
	if (wire->state == MP_WIRE_UP) {
		mp_wire_flush(wire);
		return;
	}
	assert(wire->state == MP_WIRE_CONNECTING);
	error = mp_connect_result(fd);
	if (error)
		fail(wire, strerror(error));
	else
		become_up(wire);
}

/* Taken here and now: its user may let it rest again before the loop comes to look at fd. */
static void on_rest_timer(evutil_socket_t fd, short what, void *arg)
{
	struct mp_wire *wire = arg;

	(void)fd;
	mp_wire_attend(wire);
	on_readable(wire->fd, what, wire);
}

static void start_connecting(struct mp_wire *wire)
{
	wire->fd = mp_connect_begin(&wire->address, wire->attempt++);
	if (wire->fd < 0) {
		fail(wire, strerror(errno));
		return;
	}
	wire->readable = event_new(wire->base, wire->fd, EV_READ | EV_PERSIST, on_readable, wire);
	wire->writable = event_new(wire->base, wire->fd, EV_WRITE, on_writable, wire);
	if (!wire->readable || !wire->writable) {
		fail(wire, "out of memory");
		return;
	}
	wire->state = MP_WIRE_CONNECTING;
	event_add(wire->writable, NULL);
	set_timer(wire, CONNECT_TIMEOUT_MS);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct mp_wire *wire = arg;

	(void)fd;
	(void)what;
	switch (wire->state) {
	case MP_WIRE_WAITING:
		if (!wire->is_held)
			start_connecting(wire);
		break;
	case MP_WIRE_CONNECTING:
		fail(wire, wire->is_held ? wire->why : "connecting takes too long");
		break;
	case MP_WIRE_LINGERING:
		become_waiting(wire);
		break;
	case MP_WIRE_UP:
		if (wire->is_broken)
			become_lingering(wire);
		break;
	}
}

/* ----------------------------------------------------------------- interface */

bool mp_wire_open(struct mp_wire *wire, struct event_base *base, const char *address, int min_ms,
		  int max_ms, const struct mp_wire_events *events, void *ctx, char *err,
		  size_t err_bytes)
{
	assert(min_ms > 0 && max_ms >= min_ms);
	wire->fd = -1;
	wire->base = base;
	wire->events = events;
	wire->ctx = ctx;
	wire->min_ms = wire->delay_ms = min_ms;
	wire->max_ms = max_ms;
	wire->in.keep_bytes = wire->out.keep_bytes = KEEP_BYTES;
	if (!mp_address_parse(address, &wire->address, err, err_bytes))
		return false;
	wire->timer = event_new(base, -1, 0, on_timer, wire);
	wire->rest_timer = event_new(base, -1, 0, on_rest_timer, wire);
	if (!wire->timer || !wire->rest_timer) {
		free_event(&wire->timer);
		free_event(&wire->rest_timer);
		snprintf(err, err_bytes, "out of memory");
		return false;
	}
	wire->state = MP_WIRE_WAITING;
	set_timer(wire, 0);
	return true;
}

void mp_wire_close(struct mp_wire *wire)
{
	if (!wire->timer)
		return;
	close_socket(wire);
	free_event(&wire->timer);
	free_event(&wire->rest_timer);
	mp_buffer_free(&wire->in);
	mp_buffer_free(&wire->out);
}

static bool is_usable(const struct mp_wire *wire)
{
	return wire->state == MP_WIRE_UP && !wire->is_broken;
}

void mp_wire_put(struct mp_wire *wire, const void *data, size_t bytes)
{
	if (is_usable(wire) && !mp_buffer_append(&wire->out, data, bytes))
		mp_wire_break(wire, "out of memory for what is to be sent");
}

/* After an attempt to send that left a rest: go on when the socket takes more. */
static void after_send(struct mp_wire *wire, bool ok, size_t before)
{
	if (!ok) {
		mp_wire_break(wire, strerror(errno));
		return;
	}
	if (mp_buffer_len(&wire->out) < before)
		wire->progress_ms = mp_wire_now_ms();
	if (mp_buffer_len(&wire->out) > 0 && !wire->writable_is_pending) {
		event_add(wire->writable, NULL);
		wire->writable_is_pending = true;
	}
}

void mp_wire_put_large(struct mp_wire *wire, const void *data, size_t bytes)
{
	size_t before = mp_buffer_len(&wire->out) + bytes;

	/* While the socket is known to be full a system call would be wasted. */
	if (!is_usable(wire) || wire->writable_is_pending) {
		mp_wire_put(wire, data, bytes);
		return;
	}
	after_send(wire, mp_buffer_send_with(&wire->out, wire->fd, data, bytes), before);
}

void mp_wire_flush(struct mp_wire *wire)
{
	size_t before = mp_buffer_len(&wire->out);

	if (before == 0 || wire->writable_is_pending || !is_usable(wire))
		return;
	after_send(wire, mp_buffer_send(&wire->out, wire->fd), before);
}

static void restart_rest_timer(struct mp_wire *wire)
{
	struct timeval delay = {0, REST_MS * 1000};

	event_add(wire->rest_timer, &delay);
}

void mp_wire_rest(struct mp_wire *wire)
{
	if (wire->is_resting || !is_usable(wire))
		return;
	wire->is_resting = true;
	event_del(wire->readable);
	restart_rest_timer(wire);
}

void mp_wire_attend(struct mp_wire *wire)
{
	if (!wire->is_resting)
		return;
	wire->is_resting = false;
	event_del(wire->rest_timer);
	event_add(wire->readable, NULL);
}

void mp_wire_receive(struct mp_wire *wire)
{
	if (!wire->is_resting || !is_usable(wire))
		return;
	restart_rest_timer(wire);
	on_readable(wire->fd, EV_READ, wire);
}

void mp_wire_break(struct mp_wire *wire, const char *why)
{
	if (!is_usable(wire))
		return;
	wire->is_broken = true;
	snprintf(wire->why, sizeof(wire->why), "%s", why);
	/* Told from the loop: who is calling may be in the middle of giving commands. */
	event_active(wire->timer, EV_TIMEOUT, 1);
}

void mp_wire_hold(struct mp_wire *wire, const char *why)
{
	wire->is_held = true;
	if (wire->state == MP_WIRE_UP)
		mp_wire_break(wire, why);
	else if (wire->state == MP_WIRE_WAITING)
		event_del(wire->timer);
	else if (wire->state == MP_WIRE_CONNECTING)
		event_active(wire->timer, EV_TIMEOUT, 1);
	snprintf(wire->why, sizeof(wire->why), "%s", why);
}

void mp_wire_release(struct mp_wire *wire)
{
	if (!wire->is_held)
		return;
	wire->is_held = false;
	wire->delay_ms = wire->min_ms;
	if (wire->state == MP_WIRE_WAITING)
		set_timer(wire, 0);
}

void mp_wire_reset_delay(struct mp_wire *wire)
{
	wire->delay_ms = wire->min_ms;
}

void mp_wire_max_delay(struct mp_wire *wire)
{
	wire->delay_ms = wire->max_ms;
}
