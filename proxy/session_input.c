/* session_input.c - see session.h: reading from clients, as long as they keep up. */
#include "session.h"

#include <errno.h>
#include <sys/socket.h>

#include "log.h"
#include "session_parts.h"
#include "state.h"

enum {
	READ_BYTES = 16 << 10,  /* for a request of unknown length */
	LARGE_BYTES = 64 << 10, /* of an unfinished request that counts as a large one */
};

void mp_session_charge_input(struct mp_session *s)
{
	s->proxy->sessions.in_bytes += s->in.cap - s->in_charged;
	s->in_charged = s->in.cap;
}

/* ------------------------------------------------------------ back-pressure */

/* Too much is under way in the whole proxy. */
static bool pressed(const struct mp_proxy *proxy)
{
	return proxy->draining || proxy->requests.bytes > proxy->options.max_held_bytes;
}

static bool has_capacity(const struct mp_session *s)
{
	return !s->dead && !s->closing && !s->is_gated && s->pending < MP_SESSION_PENDING_MAX &&
	       s->pending_bytes < MP_SESSION_PENDING_BYTES &&
	       mp_buffer_len(&s->out) < MP_SESSION_OUT_BYTES;
}

static void halt(struct mp_session *s)
{
	if (s->is_halted || s->dead)
		return;
	s->is_halted = true;
	TAILQ_INSERT_TAIL(&s->proxy->sessions.halted, s, halted);
}

void mp_session_hold(struct mp_session *s)
{
	s->proxy->sessions.held += !s->is_held;
	s->is_held = s->is_gated = true;
}

void mp_sessions_let_go(struct mp_proxy *proxy)
{
	struct mp_session *s;

	TAILQ_FOREACH(s, &proxy->sessions.all, all) {
		if (!s->is_held)
			continue;
		proxy->sessions.held--;
		s->is_held = s->is_gated = false;
		mp_session_caught_up(s);
	}
}

void mp_session_caught_up(struct mp_session *s)
{
	if (s->paused && has_capacity(s))
		halt(s);
}

/*
 * May another request be taken? If not the client is not read from: until it
 * has caught up itself (mp_session_caught_up()), or until the proxy has.
 */
static bool may_take(struct mp_session *s)
{
	bool capacity = has_capacity(s), pressure = pressed(s->proxy);

	if (capacity && !pressure)
		return true;
	if (s->dead)
		return false;
	if (!s->paused)
		event_del(&s->readable);
	s->paused = true;
	if (capacity)
		halt(s);
	return false;
}

/* ------------------------------------------------------------------- input */

static bool input_one(struct mp_session *s, const char *data, size_t len, size_t *used)
{
	*used = 0;
	if (s->protocol == MP_REDIS)
		return mp_redis_input(s, data, len, used);
	return mp_memcached_input(s, data, len, used);
}

static void input_own(struct mp_session *s)
{
	while (mp_buffer_len(&s->in) > 0 && may_take(s)) {
		size_t used;
		bool more;

		s->adopted = false;
		more = input_one(s, mp_buffer_data(&s->in), mp_buffer_len(&s->in), &used);
		if (!s->adopted)
			mp_buffer_consume(&s->in, used);
		if (!more)
			break;
	}
	if (s->lingers)
		mp_buffer_free(&s->in);
	mp_session_charge_input(s);
}

/* Most requests come whole in one read and never need a buffer of their own. */
static void input_scratch(struct mp_session *s, const char *data, size_t len)
{
	while (len > 0 && may_take(s)) {
		size_t used;
		bool more = input_one(s, data, len, &used);

		data += used;
		len -= used;
		if (!more)
			break;
	}
	if (len == 0 || s->dead || s->closing)
		return;
	if (!mp_buffer_append(&s->in, data, len)) {
		mp_warn("client %u: out of memory for its request", s->id);
		mp_session_kill(s);
	}
	mp_session_charge_input(s);
}

/*
 * All unfinished requests together are bounded. It is the large ones that are
 * at fault, and one that wants to grow further is the one to go.
 */
static bool input_bounded(struct mp_session *s, size_t more)
{
	const struct mp_proxy_options *options = &s->proxy->options;
	uint64_t most = options->max_held_bytes + options->max_request_bytes;

	if (s->in.cap <= LARGE_BYTES || s->proxy->sessions.in_bytes + more <= most)
		return true;
	mp_warn("client %u: disconnected, unfinished requests take %llu bytes", s->id,
		(unsigned long long)s->proxy->sessions.in_bytes);
	mp_session_kill(s);
	return false;
}

/* How much to read next. Twice what is there at most: a claimed length must not cost its size. */
static size_t wanted(const struct mp_session *s)
{
	size_t have = mp_buffer_len(&s->in);
	size_t wants = s->protocol == MP_REDIS ? resp_parser_wants(s->parser.resp)
					       : mc_parser_wants(s->parser.mc);
	size_t most = have > LARGE_BYTES ? have : LARGE_BYTES;

	if (wants <= have)
		return READ_BYTES;
	return wants - have < most ? wants - have : most;
}

static ssize_t receive_scratch(struct mp_session *s)
{
	ssize_t n;

	do
		n = recv(s->fd, s->proxy->sessions.scratch, MP_SESSION_SCRATCH_BYTES, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static void throw_away(struct mp_session *s)
{
	ssize_t n = receive_scratch(s);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
		mp_session_kill(s);
}

void mp_session_on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct mp_session *s = ctx;
	bool fresh = mp_buffer_len(&s->in) == 0;
	ssize_t n;

	(void)what;
	if (s->lingers) {
		throw_away(s);
		return;
	}
	if (fresh) {
		n = receive_scratch(s);
	} else {
		size_t want = wanted(s);

		if (mp_buffer_room(&s->in) < want && !input_bounded(s, want))
			return;
		n = mp_buffer_receive(&s->in, fd, want);
	}
	if (n < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			mp_session_kill(s);
		return;
	}
	if (n == 0) {
		/* It may have shut down its sending side only: it gets its replies. */
		mp_session_close_after_replies(s);
		mp_patience_client_ended(s);
		return;
	}
	s->heard_ms = mp_now_ms(s->proxy);
	STAT_ADD(s->proxy, bytes_in, n);
	if (fresh)
		input_scratch(s, s->proxy->sessions.scratch, (size_t)n);
	else
		input_own(s);
	if (s->proxy->sessions.taken_bytes >= MP_SESSIONS_TURN_BYTES)
		event_base_loopbreak(s->proxy->base); /* a turn follows, then the others */
}

void mp_sessions_resume(struct mp_proxy *proxy)
{
	struct mp_sessions *sessions = &proxy->sessions;
	struct mp_session_list halted;
	struct mp_session *s;

	sessions->taken_bytes = 0;
	if (TAILQ_EMPTY(&sessions->halted) || pressed(proxy))
		return;
	TAILQ_INIT(&halted);
	TAILQ_CONCAT(&halted, &sessions->halted, halted);
	while ((s = TAILQ_FIRST(&halted))) {
		TAILQ_REMOVE(&halted, s, halted);
		s->is_halted = false;
		if (!may_take(s))
			continue;
		s->paused = false;
		event_add(&s->readable, NULL);
		input_own(s);
	}
}

bool mp_sessions_pending(const struct mp_proxy *proxy)
{
	return !TAILQ_EMPTY(&proxy->sessions.halted) && !pressed(proxy);
}
