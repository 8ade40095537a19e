/* session.c - see session.h. */
#include "session.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answer.h"
#include "log.h"
#include "state.h"

enum {
	SCRATCH_BYTES = 128 << 10,
	KEEP_BYTES = 16 << 10,   /* buffer memory that a quiet client keeps */
	ADOPT_BYTES = 64 << 10,  /* requests from this size on are not copied but adopted */
	DIRECT_BYTES = 16 << 10, /* replies from this size on skip the output buffer */
	PENDING_MAX = 1024,      /* requests of one client */
	WINDOW_FIRST = 32,       /* of them under way at once: of a new client */
	WINDOW_LEAST = 4,        /* of one that leaves its replies unread */
	PENDING_BYTES_MAX = 4 << 20,
	OUT_SOFT_BYTES = 1 << 20, /* unread replies that make us stop reading requests */
	IDLE_CHECK_MS = 1000,
	LINGER_MS = 2000,
};

static void on_readable(evutil_socket_t fd, short what, void *ctx);
static void on_writable(evutil_socket_t fd, short what, void *ctx);

void mp_sessions_init(struct mp_sessions *sessions)
{
	TAILQ_INIT(&sessions->all);
	TAILQ_INIT(&sessions->dead);
	TAILQ_INIT(&sessions->dirty);
	TAILQ_INIT(&sessions->halted);
}

bool mp_sessions_open(struct mp_sessions *sessions)
{
	sessions->scratch = malloc(SCRATCH_BYTES);
	return sessions->scratch != NULL;
}

/* -------------------------------------------------------- coming and going */

static bool make_parser(struct mp_session *s)
{
	if (s->protocol == MP_REDIS)
		return (s->parser.resp = resp_parser_new(&s->proxy->resp_limits)) != NULL;
	return (s->parser.mc = mc_parser_new(&s->proxy->mc_limits)) != NULL;
}

/* The socket is fresh, so the line fits into its buffer; if not, so be it. */
static void turn_away(int fd, enum mp_protocol protocol)
{
	static const char redis[] = "-ERR max number of clients reached\r\n";
	static const char memcached[] = "ERROR Too many open connections\r\n";
	bool is_redis = protocol == MP_REDIS;

	send(fd, is_redis ? redis : memcached, is_redis ? sizeof(redis) - 1 : sizeof(memcached) - 1,
	     MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

void mp_session_accept(struct mp_proxy *proxy, int fd, enum mp_protocol protocol)
{
	struct mp_sessions *sessions = &proxy->sessions;
	struct mp_session *s;

	if (sessions->count[protocol] >= proxy->options.max_clients) {
		turn_away(fd, protocol);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		turn_away(fd, protocol);
		return;
	}
	s->proxy = proxy;
	s->fd = fd;
	s->protocol = protocol;
	if (!make_parser(s)) {
		free(s);
		turn_away(fd, protocol);
		return;
	}
	s->id = ++sessions->last_id;
	s->window = WINDOW_FIRST;
	s->in.keep_bytes = s->out.keep_bytes = KEEP_BYTES;
	s->heard_ms = mp_now_ms(proxy);
	event_assign(&s->readable, proxy->base, fd, EV_READ | EV_PERSIST, on_readable, s);
	event_assign(&s->writable, proxy->base, fd, EV_WRITE, on_writable, s);
	event_add(&s->readable, NULL);
	TAILQ_INSERT_TAIL(&sessions->all, s, all);
	sessions->count[protocol]++;
	STAT_ADD(proxy, clients, 1);
}

static void charge_input(struct mp_session *s)
{
	s->proxy->sessions.in_bytes += s->in.cap - s->in_charged;
	s->in_charged = s->in.cap;
}

static void charge_output(struct mp_session *s)
{
	s->proxy->sessions.out_bytes += s->out.cap - s->out_charged;
	s->out_charged = s->out.cap;
}

void mp_session_kill(struct mp_session *s)
{
	struct mp_sessions *sessions = &s->proxy->sessions;

	if (s->dead)
		return;
	s->dead = true;
	event_del(&s->readable);
	event_del(&s->writable);
	close(s->fd);
	s->fd = -1;
	mp_router_forget(s->proxy, s);
	if (s->is_dirty)
		TAILQ_REMOVE(&sessions->dirty, s, dirty);
	if (s->is_halted)
		TAILQ_REMOVE(&sessions->halted, s, halted);
	s->is_dirty = s->is_halted = false;
	TAILQ_REMOVE(&sessions->all, s, all);
	TAILQ_INSERT_TAIL(&sessions->dead, s, all);
	sessions->count[s->protocol]--;
	sessions->lingering -= s->lingers;
	STAT_ADD(s->proxy, clients, -1);
}

/* What is under way elsewhere is left to finish, as an orphan. */
static void leave_requests(struct mp_session *s)
{
	while (s->head) {
		struct mp_request *r = s->head;

		s->head = r->next;
		r->next = NULL;
		if (r->state == MP_REQUEST_DOUBT)
			mp_doubt_forget(s->proxy, r);
		r->session = NULL;
		if (r->state == MP_REQUEST_WAITING || r->state == MP_REQUEST_DOUBT ||
		    r->state == MP_REQUEST_DONE)
			mp_drop(s->proxy, r);
	}
	s->tail = s->unsent = s->barrier = NULL;
}

static void bury(struct mp_session *s)
{
	leave_requests(s);
	mp_buffer_free(&s->in);
	charge_input(s);
	mp_buffer_free(&s->out);
	charge_output(s);
	if (s->protocol == MP_REDIS)
		resp_parser_free(s->parser.resp);
	else
		mc_parser_free(s->parser.mc);
	free(s->name);
	free(s);
}

static void bury_dead(struct mp_sessions *sessions)
{
	struct mp_session *s;

	while ((s = TAILQ_FIRST(&sessions->dead))) {
		TAILQ_REMOVE(&sessions->dead, s, all);
		bury(s);
	}
}

void mp_sessions_close(struct mp_proxy *proxy)
{
	struct mp_session *s;

	while ((s = TAILQ_FIRST(&proxy->sessions.all)))
		mp_session_kill(s);
	bury_dead(&proxy->sessions);
	free(proxy->sessions.scratch);
}

static void mark_dirty(struct mp_session *s)
{
	if (s->is_dirty || s->dead)
		return;
	s->is_dirty = true;
	TAILQ_INSERT_TAIL(&s->proxy->sessions.dirty, s, dirty);
}

void mp_session_close_after_replies(struct mp_session *s)
{
	if (s->closing || s->dead)
		return;
	s->closing = true;
	if (!s->paused)
		event_del(&s->readable);
	s->paused = true;
	mark_dirty(s);
}

void mp_session_close_after_error(struct mp_session *s)
{
	if (s->closing || s->dead)
		return;
	mp_session_close_after_replies(s);
	s->lingers = true;
	s->proxy->sessions.lingering++;
	s->heard_ms = mp_now_ms(s->proxy);
	event_add(&s->readable, NULL);
}

/* ------------------------------------------------------------ back-pressure */

/* Too much is under way in the whole proxy. */
static bool pressed(const struct mp_proxy *proxy)
{
	return proxy->draining || proxy->requests.bytes > proxy->options.max_held_bytes;
}

static bool has_capacity(const struct mp_session *s)
{
	return !s->dead && !s->closing && s->pending < PENDING_MAX &&
	       s->pending_bytes < PENDING_BYTES_MAX && mp_buffer_len(&s->out) < OUT_SOFT_BYTES;
}

static void halt(struct mp_session *s)
{
	if (s->is_halted || s->dead)
		return;
	s->is_halted = true;
	TAILQ_INSERT_TAIL(&s->proxy->sessions.halted, s, halted);
}

/*
 * May another request be taken? If not the client is not read from: until it
 * has caught up itself (session_flush() sees to that), or until the proxy has.
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
	charge_input(s);
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
	charge_input(s);
}

/*
 * All unfinished requests together are bounded. It is the large ones that are
 * at fault, and one that wants to grow further is the one to go.
 */
static bool input_bounded(struct mp_session *s, size_t more)
{
	const struct mp_proxy_options *options = &s->proxy->options;
	uint64_t most = options->max_held_bytes + options->max_request_bytes;

	if (s->in.cap <= ADOPT_BYTES || s->proxy->sessions.in_bytes + more <= most)
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
	size_t most = have > ADOPT_BYTES ? have : ADOPT_BYTES;

	if (wants <= have)
		return KEEP_BYTES;
	return wants - have < most ? wants - have : most;
}

static ssize_t receive_scratch(struct mp_session *s)
{
	ssize_t n;

	do
		n = recv(s->fd, s->proxy->sessions.scratch, SCRATCH_BYTES, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static void throw_away(struct mp_session *s)
{
	ssize_t n = receive_scratch(s);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
		mp_session_kill(s);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
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
		return;
	}
	s->heard_ms = mp_now_ms(s->proxy);
	STAT_ADD(s->proxy, bytes_in, n);
	if (fresh)
		input_scratch(s, s->proxy->sessions.scratch, (size_t)n);
	else
		input_own(s);
}

/* ---------------------------------------------------------------- requests */

static void enqueue(struct mp_session *s, struct mp_request *r)
{
	r->session = s;
	if (s->tail)
		s->tail->next = r;
	else
		s->head = r;
	s->tail = r;
	s->pending++;
	s->pending_bytes += r->raw.len;
}

struct mp_request *mp_session_take_bytes(struct mp_session *s, struct mp_bytes raw,
					 const struct mp_request_meta *meta)
{
	struct mp_proxy *proxy = s->proxy;
	struct mp_request *r = mp_requests_get(&proxy->requests);

	if (!r) {
		mp_bytes_release(&proxy->chunks, &raw);
		mp_warn("client %u: out of memory for its request", s->id);
		mp_session_kill(s);
		return NULL;
	}
	r->meta = *meta;
	r->raw = raw;
	r->since_ms = mp_now_ms(proxy);
	r->origin = (struct mp_origin){
		.nonce = proxy->options.origin_nonce,
		.session = s->id,
		.replica = proxy->options.id & 0xff,
		.handle = r->handle & ((1U << MP_ORIGIN_HANDLE_BITS) - 1),
		.sequence = ++proxy->requests.sequence,
	};
	mp_requests_charge(&proxy->requests, r);
	enqueue(s, r);
	if (!s->unsent)
		s->unsent = r;
	mp_router_ready(proxy, s);
	STAT_ADD(proxy, requests, 1);
	return r;
}

struct mp_request *mp_session_take(struct mp_session *s, struct mp_slice raw,
				   const struct mp_request_meta *meta)
{
	struct mp_chunks *chunks = &s->proxy->chunks;
	bool ours = s->in.memory && raw.data >= s->in.memory && raw.data < s->in.memory + s->in.end;
	struct mp_bytes bytes;

	s->adopted = ours && raw.len >= ADOPT_BYTES && raw.len >= s->in.end / 2 &&
		     mp_chunks_adopt(chunks, &s->in, raw, &bytes);
	if (!s->adopted && !mp_chunks_copy(chunks, raw, &bytes)) {
		mp_warn("client %u: out of memory for its request", s->id);
		mp_session_kill(s);
		return NULL;
	}
	return mp_session_take_bytes(s, bytes, meta);
}

bool mp_session_may_send(const struct mp_session *s)
{
	return s->unsent && !s->barrier && s->doubtful == 0 && s->under_way < s->window &&
	       mp_buffer_len(&s->out) < OUT_SOFT_BYTES && !s->dead;
}

void mp_session_sent(struct mp_session *s, struct mp_request *r)
{
	assert(s->unsent == r);
	s->under_way++;
	do
		r = r->next;
	while (r && r->state != MP_REQUEST_WAITING);
	s->unsent = r;
}

void mp_session_unsend(struct mp_session *s, struct mp_request *r)
{
	r->state = MP_REQUEST_WAITING;
	assert(s->under_way > 0);
	s->under_way--;
	if (s->barrier == r)
		s->barrier = NULL;
	if (!s->unsent || s->unsent->origin.sequence > r->origin.sequence)
		s->unsent = r;
	mp_router_ready(s->proxy, s);
}

struct mp_request *mp_session_replace(struct mp_session *s, struct mp_request *r)
{
	struct mp_requests *requests = &s->proxy->requests;
	struct mp_request *before = s->head, *now = mp_requests_get(requests);

	if (!now)
		return NULL;
	now->meta = r->meta;
	now->origin = r->origin;
	now->origin.handle = now->handle & ((1U << MP_ORIGIN_HANDLE_BITS) - 1);
	now->lsn = r->lsn;
	now->since_ms = r->since_ms;
	now->raw = r->raw;
	r->raw = (struct mp_bytes){0};
	mp_requests_charge(requests, now);
	mp_requests_charge(requests, r);
	now->session = s;
	now->next = r->next;
	r->session = NULL;
	r->next = NULL;
	if (s->head == r) {
		s->head = now;
	} else {
		while (before->next != r)
			before = before->next;
		before->next = now;
	}
	if (s->tail == r)
		s->tail = now;
	if (s->barrier == r)
		s->barrier = now;
	return now;
}

/* ----------------------------------------------------------------- replies */

/* Each client's unread replies are bounded, and all of theirs together. */
static bool output_bounded(const struct mp_session *s)
{
	const struct mp_proxy_options *options = &s->proxy->options;
	size_t len = mp_buffer_len(&s->out);

	if (len > options->client_output_bytes)
		return false;
	return len <= OUT_SOFT_BYTES ||
	       s->proxy->sessions.out_bytes <=
		       options->max_held_bytes + options->client_output_bytes;
}

static void put(struct mp_session *s, struct mp_slice piece)
{
	bool ok;

	if (s->dead)
		return;
	STAT_ADD(s->proxy, bytes_out, piece.len);
	if (piece.len >= DIRECT_BYTES && !s->congested)
		ok = mp_buffer_send_with(&s->out, s->fd, piece.data, piece.len);
	else
		ok = mp_buffer_append(&s->out, piece.data, piece.len);
	if (!ok) {
		mp_session_kill(s);
		return;
	}
	charge_output(s);
	if (!output_bounded(s)) {
		mp_warn("client %u: disconnected, it leaves %zu bytes of replies unread", s->id,
			mp_buffer_len(&s->out));
		mp_session_kill(s);
		return;
	}
	mark_dirty(s);
}

/* A reply whose turn has not come. Together they are bounded like the output itself. */
static void put_aside(struct mp_session *s, struct mp_request *r, struct mp_slice piece)
{
	size_t most = s->proxy->options.client_output_bytes;

	if (s->dead)
		return;
	s->pending_bytes += piece.len;
	if (s->pending_bytes > most + PENDING_BYTES_MAX + s->proxy->options.max_request_bytes ||
	    !mp_buffer_append(&r->reply, piece.data, piece.len)) {
		mp_warn("client %u: disconnected, its replies take %zu bytes", s->id,
			s->pending_bytes);
		mp_session_kill(s);
	}
}

static void put_from_aside(struct mp_session *s, struct mp_request *r)
{
	size_t len = mp_buffer_len(&r->reply);

	if (len == 0)
		return;
	put(s, mp_buffer_slice(&r->reply));
	assert(s->pending_bytes >= len);
	s->pending_bytes -= len;
	mp_buffer_clear(&r->reply);
	r->streamed = true;
}

/* The oldest requests that are answered go; the next one's reply can flow. */
static void dequeue_done(struct mp_session *s)
{
	while (s->head) {
		struct mp_request *r = s->head;

		if (!s->dead)
			put_from_aside(s, r);
		if (r->state != MP_REQUEST_DONE)
			break;
		s->head = r->next;
		if (!s->head)
			s->tail = NULL;
		s->pending--;
		s->pending_bytes -= r->raw.len + mp_buffer_len(&r->reply);
		r->session = NULL;
		mp_drop(s->proxy, r);
	}
	mark_dirty(s);
}

/*
 * A request is answered to the end, so another may go. What replies cost is
 * known only when they are there, so a client begins with few and gets more
 * with every reply that it takes.
 */
static void open_window(struct mp_session *s)
{
	bool behind =
		mp_buffer_len(&s->out) > OUT_SOFT_BYTES || s->pending_bytes > PENDING_BYTES_MAX;

	assert(s->under_way > 0);
	s->under_way--;
	if (!behind && s->window < PENDING_MAX)
		s->window++;
	else if (behind && s->window > WINDOW_LEAST)
		s->window /= 2;
	mp_router_ready(s->proxy, s);
}

void mp_session_reply(struct mp_session *s, struct mp_request *r, struct mp_slice piece, bool last)
{
	if (piece.len > 0 && !r->meta.noreply) {
		if (r == s->head) {
			put(s, piece);
			r->streamed = true;
		} else {
			put_aside(s, r, piece);
		}
	}
	if (!last)
		return;
	r->state = MP_REQUEST_DONE;
	if (s->barrier == r)
		s->barrier = NULL;
	open_window(s);
	if (r == s->head)
		dequeue_done(s);
}

void mp_session_say(struct mp_session *s, struct mp_slice reply)
{
	struct mp_request *r;

	STAT_ADD(s->proxy, local, 1);
	if (!s->head) {
		put(s, reply);
		return;
	}
	r = mp_requests_get(&s->proxy->requests);
	if (!r) {
		mp_session_kill(s);
		return;
	}
	r->state = MP_REQUEST_DONE;
	mp_requests_charge(&s->proxy->requests, r);
	enqueue(s, r);
	put_aside(s, r, reply);
}

/* ------------------------------------------------------------ once a turn */

static void session_flush(struct mp_session *s)
{
	if (s->dead)
		return;
	if (!s->congested && mp_buffer_len(&s->out) > 0) {
		if (!mp_buffer_send(&s->out, s->fd)) {
			mp_session_kill(s);
			return;
		}
		if (mp_buffer_len(&s->out) > 0) {
			s->congested = true;
			event_add(&s->writable, NULL);
		}
		charge_output(s);
		mp_router_ready(s->proxy, s);
	}
	if (s->closing && !s->head && mp_buffer_len(&s->out) == 0) {
		if (!s->lingers || shutdown(s->fd, SHUT_WR) != 0)
			mp_session_kill(s);
		return;
	}
	if (s->paused && has_capacity(s))
		halt(s);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct mp_session *s = ctx;

	(void)fd;
	(void)what;
	s->congested = false;
	session_flush(s);
}

void mp_sessions_flush(struct mp_proxy *proxy)
{
	struct mp_sessions *sessions = &proxy->sessions;
	struct mp_session *s;

	while ((s = TAILQ_FIRST(&sessions->dirty))) {
		TAILQ_REMOVE(&sessions->dirty, s, dirty);
		s->is_dirty = false;
		session_flush(s);
	}
	bury_dead(sessions);
}

void mp_sessions_resume(struct mp_proxy *proxy)
{
	struct mp_sessions *sessions = &proxy->sessions;
	struct mp_session_list halted;
	struct mp_session *s;

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

bool mp_sessions_unfinished(const struct mp_proxy *proxy)
{
	return proxy->sessions.lingering > 0 ||
	       (proxy->options.idle_timeout_ms > 0 && proxy->sessions.in_bytes > 0);
}

void mp_sessions_sweep(struct mp_proxy *proxy, uint64_t now_ms)
{
	struct mp_sessions *sessions = &proxy->sessions;
	uint32_t timeout_ms = proxy->options.idle_timeout_ms;
	struct mp_session *s, *next;

	if (!mp_sessions_unfinished(proxy) || now_ms < sessions->next_reap_ms)
		return;
	sessions->next_reap_ms = now_ms + IDLE_CHECK_MS;
	for (s = TAILQ_FIRST(&sessions->all); s; s = next) {
		next = TAILQ_NEXT(s, all);
		if (s->lingers && now_ms - s->heard_ms > LINGER_MS)
			mp_session_kill(s);
		else if (timeout_ms > 0 && !s->paused && mp_buffer_len(&s->in) > 0 &&
			 now_ms - s->heard_ms > timeout_ms)
			mp_session_kill(s);
	}
}

void mp_sessions_drain(struct mp_proxy *proxy)
{
	struct mp_session *s;

	TAILQ_FOREACH(s, &proxy->sessions.all, all) {
		if (!s->paused)
			event_del(&s->readable);
		s->paused = true;
	}
}

bool mp_sessions_pending(const struct mp_proxy *proxy)
{
	return !TAILQ_EMPTY(&proxy->sessions.halted) && !pressed(proxy);
}

bool mp_sessions_quiet(const struct mp_proxy *proxy)
{
	const struct mp_session *s;

	TAILQ_FOREACH(s, &proxy->sessions.all, all)
		if (s->head || mp_buffer_len(&s->out) > 0)
			return false;
	return true;
}
