/* session.c - see session.h: coming and going. */
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answer.h"
#include "local_reads.h"
#include "monitor.h"
#include "paced.h"
#include "redis_login.h"
#include "session_parts.h"
#include "state.h"

enum {
	KEEP_BYTES = 16 << 10, /* buffer memory that a quiet client keeps */
	WINDOW_FIRST = 32,     /* requests of a new client that may be under way at once */
	IDLE_CHECK_MS = 1000,
	LINGER_MS = 2000,
};

void mp_sessions_init(struct mp_sessions *sessions)
{
	TAILQ_INIT(&sessions->all);
	TAILQ_INIT(&sessions->dead);
	TAILQ_INIT(&sessions->dirty);
	TAILQ_INIT(&sessions->halted);
	TAILQ_INIT(&sessions->monitors);
}

bool mp_sessions_open(struct mp_sessions *sessions)
{
	mp_sender_open(&sessions->sender);
	sessions->scratch = malloc(MP_SESSION_SCRATCH_BYTES);
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
	s->resp = 2;
	if (!make_parser(s)) {
		free(s);
		turn_away(fd, protocol);
		return;
	}
	mp_local_reads_begin(s);
	if (protocol == MP_REDIS)
		mp_redis_login_begin(s);
	s->id = ++sessions->last_id;
	s->window = WINDOW_FIRST;
	s->in.keep_bytes = s->out.keep_bytes = KEEP_BYTES;
	s->born_ms = s->heard_ms = mp_now_ms(proxy);
	event_assign(&s->readable, proxy->base, fd, EV_READ | EV_PERSIST, mp_session_on_readable,
		     s);
	event_assign(&s->writable, proxy->base, fd, EV_WRITE, mp_session_on_writable, s);
	event_add(&s->readable, NULL);
	TAILQ_INSERT_TAIL(&sessions->all, s, all);
	sessions->count[protocol]++;
	STAT_ADD(proxy, clients, 1);
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
	mp_monitor_end(s);
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
		if (r->meta.blocks)
			mp_patience_leave(s->proxy, r);
		if (mp_request_is_paced(r) && r->state == MP_REQUEST_RELAYED)
			mp_relay_out_taken(s->proxy, r, 0);
		if (r->state == MP_REQUEST_WAITING || r->state == MP_REQUEST_DOUBT ||
		    r->state == MP_REQUEST_DONE || r->state == MP_REQUEST_BLOCKED)
			mp_drop(s->proxy, r);
	}
	s->tail = s->unsent = s->barrier = NULL;
}

static void bury(struct mp_session *s)
{
	leave_requests(s);
	mp_pubsub_leave(s);
	s->proxy->sessions.held -= s->is_held;
	mp_buffer_free(&s->in);
	mp_session_charge_input(s);
	mp_buffer_free(&s->out);
	mp_session_charge_output(s);
	mp_spill_close(s->spill);
	if (s->protocol == MP_REDIS)
		resp_parser_free(s->parser.resp);
	else
		mc_parser_free(s->parser.mc);
	mp_multi_free(&s->multi);
	free(s->name);
	free(s);
}

void mp_sessions_bury(struct mp_sessions *sessions)
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
	mp_sessions_bury(&proxy->sessions);
	mp_sender_close(&proxy->sessions.sender);
	free(proxy->sessions.scratch);
}

void mp_session_close_after_replies(struct mp_session *s)
{
	if (s->closing || s->dead)
		return;
	s->closing = true;
	if (!s->paused)
		event_del(&s->readable);
	s->paused = true;
	mp_session_mark_dirty(s);
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

bool mp_sessions_quiet(const struct mp_proxy *proxy)
{
	const struct mp_session *s;

	TAILQ_FOREACH(s, &proxy->sessions.all, all)
		if (s->head || mp_buffer_len(&s->out) > 0)
			return false;
	return true;
}
