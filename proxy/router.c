/* router.c - see router.h. */
#include "router.h"

#include <assert.h>

#include "answer.h"
#include "local_reads.h"
#include "state.h"

void mp_router_init(struct mp_router *router)
{
	TAILQ_INIT(&router->ready);
	TAILQ_INIT(&router->inbox);
}

void mp_router_ready(struct mp_proxy *proxy, struct mp_session *s)
{
	if (s->is_ready || s->dead || !s->unsent)
		return;
	s->is_ready = true;
	TAILQ_INSERT_TAIL(&proxy->router.ready, s, ready);
}

void mp_router_forget(struct mp_proxy *proxy, struct mp_session *s)
{
	if (!s->is_ready)
		return;
	s->is_ready = false;
	TAILQ_REMOVE(&proxy->router.ready, s, ready);
}

enum way { NOWHERE, HERE, TO_LEADER };

static enum way way(const struct mp_proxy *proxy)
{
	if (proxy->pipeline.ballot)
		return HERE;
	if (mp_relay_out_open(proxy))
		return TO_LEADER;
	return NOWHERE;
}

/* False: the way is full. */
static bool send_one(struct mp_proxy *proxy, enum way to, struct mp_request *r)
{
	struct mp_session *s = r->session;

	if (to == HERE ? !mp_pipeline_room(proxy, r->raw.len) : !mp_relay_out_room(proxy))
		return false;
	if (r->meta.blocks && !mp_patience_begin(proxy, r))
		return true;
	mp_session_sent(s, r);
	if (r->meta.class == MP_REQUEST_CONDITIONAL || r->meta.blocks || r->meta.listing)
		s->barrier = r;
	if (to == HERE)
		mp_large_look(proxy, r);
	if (to == HERE)
		mp_pipeline_add(proxy, r);
	else
		mp_relay_out_send(proxy, r);
	return true;
}

/* False: the way is full. */
static bool run_session(struct mp_proxy *proxy, enum way to, struct mp_session *s)
{
	bool waits = false;

	while (!waits && mp_session_may_send(s)) {
		switch (mp_local_reads_way(proxy, s->unsent)) {
		case MP_LOCAL_YES:
			mp_local_reads_send(proxy, s->unsent);
			continue;
		case MP_LOCAL_WAITS:
			waits = true;
			continue;
		case MP_LOCAL_NO:
			break;
		}
		if (to == NOWHERE || (to == HERE && mp_lock_holds_back(proxy, s->unsent)))
			return true;
		if (!send_one(proxy, to, s->unsent))
			return false;
	}
	/* Whoever lifts what keeps it from sending makes it ready again. */
	mp_router_forget(proxy, s);
	return true;
}

static void run_sessions(struct mp_proxy *proxy, enum way to)
{
	struct mp_session *s, *next;

	for (s = TAILQ_FIRST(&proxy->router.ready); s; s = next) {
		next = TAILQ_NEXT(s, ready);
		if (!run_session(proxy, to, s))
			return;
	}
}

static void run_inbox(struct mp_proxy *proxy)
{
	struct mp_request *r;

	if (proxy->large.may_release)
		mp_large_release(proxy);
	while ((r = TAILQ_FIRST(&proxy->router.inbox))) {
		bool gone = r->link->state == MP_LINK_CLOSED;

		/* Its sessions are not told apart here, so all behind it wait, too. */
		if (!gone && (mp_lock_holds_back(proxy, r) || !mp_pipeline_room(proxy, r->raw.len)))
			return;
		TAILQ_REMOVE(&proxy->router.inbox, r, place);
		if (gone)
			mp_drop(proxy, r); /* as its sender was told (relay_in.c) */
		else if (!mp_large_holds_back(proxy, r))
			mp_pipeline_add(proxy, r);
	}
}

void mp_router_run(struct mp_proxy *proxy)
{
	enum way to = way(proxy);

	if (to == HERE) {
		if (!mp_expiry_turn(proxy) || !mp_memory_turn(proxy))
			return;
		mp_memcached_run(proxy);
		mp_locks_run(proxy);
		mp_blocking_run(proxy);
		run_inbox(proxy);
	}
	run_sessions(proxy, to);
}

bool mp_router_pending(const struct mp_proxy *proxy)
{
	enum way to = way(proxy);

	if (to == NOWHERE ||
	    (TAILQ_EMPTY(&proxy->router.ready) && TAILQ_EMPTY(&proxy->router.inbox)))
		return false;
	if (to == TO_LEADER)
		return mp_relay_out_room(proxy);
	/* Otherwise progress of the log, or a backend's answer, brings the next turn. */
	return !proxy->pipeline.stuck && !proxy->expiry.is_late && !proxy->memory.is_over &&
	       proxy->locks.contended == 0 && !mp_locks_are_full(&proxy->locks);
}

void mp_router_drop_inbox(struct mp_proxy *proxy)
{
	struct mp_request *r;

	mp_large_release(proxy);
	while ((r = TAILQ_FIRST(&proxy->router.inbox))) {
		TAILQ_REMOVE(&proxy->router.inbox, r, place);
		mp_drop(proxy, r);
	}
}

static void give_up(struct mp_proxy *proxy, struct mp_request *r)
{
	const char *why = way(proxy) == NOWHERE ? "no leader within" : "not taken by the group for";

	mp_session_sent(r->session, r);
	mp_answer_error(proxy, r, "ERR muproxy: %s %u ms; nothing was executed", why,
			proxy->options.hold_timeout_ms);
}

void mp_router_sweep(struct mp_proxy *proxy, uint64_t now_ms)
{
	uint32_t timeout_ms = proxy->options.hold_timeout_ms;
	struct mp_session *s, *next;
	uint64_t held = 0;

	for (s = TAILQ_FIRST(&proxy->router.ready); s; s = next) {
		next = TAILQ_NEXT(s, ready);
		while (s->unsent && now_ms - s->unsent->since_ms >= timeout_ms)
			give_up(proxy, s->unsent);
		if (!s->unsent)
			mp_router_forget(proxy, s);
		else
			held++;
	}
	STAT_SET(proxy, held, held);
}
