/* blocking_home.c - see blocking_home.h. */
#include "blocking_home.h"

#include <stdlib.h>

#include "answer.h"
#include "blocking_form.h"
#include "classify.h"
#include "state.h"

static void set_timer(struct mp_patience *patience)
{
	uint64_t now_ms = mp_now_ms(patience->proxy);
	uint64_t left_ms = patience->deadline_ms > now_ms ? patience->deadline_ms - now_ms : 0;
	struct timeval left = {(time_t)(left_ms / 1000), (suseconds_t)(left_ms % 1000 * 1000)};

	event_add(&patience->timer, &left);
}

static void on_timeout(evutil_socket_t fd, short what, void *ctx)
{
	struct mp_patience *patience = ctx;

	(void)fd;
	(void)what;
	/* The loop's clock may be ahead by what a pass takes. */
	if (mp_now_ms(patience->proxy) < patience->deadline_ms)
		set_timer(patience);
	else
		mp_patience_give_up(patience->r, MP_GIVE_UP_TIMEOUT);
}

/* 0: for ever. */
static int64_t timeout_ms(struct mp_proxy *proxy, const struct mp_request *r)
{
	const struct mp_command *command;
	struct mp_blocking_form form;
	struct resp_request request;
	char error[MP_ERROR_BYTES];

	if (!mp_reparse_redis(proxy, mp_bytes_slice(&r->raw), &request) ||
	    !(command = mp_command_find(proxy->commands, &request, error, sizeof(error))) ||
	    !mp_blocking_form_of(command, &request, &form))
		return 0;
	return form.timeout_ms;
}

bool mp_patience_begin(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_patience *patience = r->patience;
	int64_t timeout;

	if (proxy->draining && !r->give_up)
		r->give_up = MP_GIVE_UP_DRAIN;
	if (r->session->ended && !r->give_up)
		r->give_up = MP_GIVE_UP_TIMEOUT;
	if (patience && r->give_up) {
		mp_session_sent(r->session, r);
		mp_blocking_answer(proxy, r, (enum mp_give_up)r->give_up);
		return false;
	}
	if (patience)
		return true;
	patience = calloc(1, sizeof(*patience));
	if (!patience) {
		mp_session_sent(r->session, r);
		mp_answer_error(proxy, r, "ERR muproxy: out of memory; nothing was executed");
		return false;
	}
	patience->proxy = proxy;
	patience->r = r;
	patience->deadline_ms = UINT64_MAX;
	r->patience = patience;
	TAILQ_INSERT_TAIL(&proxy->patience, patience, place);
	event_assign(&patience->timer, proxy->base, -1, 0, on_timeout, patience);
	timeout = timeout_ms(proxy, r);
	if (timeout > 0) {
		patience->deadline_ms = mp_now_ms(proxy) + (uint64_t)timeout;
		set_timer(patience);
	}
	return true;
}

void mp_patience_end(struct mp_request *r)
{
	struct mp_patience *patience = r->patience;

	if (!patience)
		return;
	r->patience = NULL;
	event_del(&patience->timer);
	TAILQ_REMOVE(&patience->proxy->patience, patience, place);
	free(patience);
}

void mp_patience_move(struct mp_request *from, struct mp_request *to)
{
	to->patience = from->patience;
	to->give_up = from->give_up;
	from->patience = NULL;
	if (to->patience)
		to->patience->r = to;
}

void mp_patience_give_up(struct mp_request *r, enum mp_give_up why)
{
	struct mp_proxy *proxy = r->patience->proxy;
	struct mp_session *s = r->session;

	if (r->give_up)
		return;
	r->give_up = (uint8_t)why;
	if (r->state == MP_REQUEST_BLOCKED) {
		mp_blocking_answer(proxy, r, why);
	} else if (r->state == MP_REQUEST_RELAYED) {
		mp_relay_out_give_up(proxy, r, why);
	} else if (r->state == MP_REQUEST_WAITING && s->unsent == r && s->doubtful == 0) {
		mp_session_sent(s, r);
		mp_blocking_answer(proxy, r, why);
	}
	/* Else an attempt is under way, or will be known to be none; then it is looked at again. */
}

void mp_patience_leave(struct mp_proxy *proxy, struct mp_request *r)
{
	if (r->state == MP_REQUEST_RELAYED && !r->give_up)
		mp_relay_out_give_up(proxy, r, MP_GIVE_UP_TIMEOUT);
	mp_patience_end(r);
}

void mp_patience_client_ended(struct mp_session *s)
{
	struct mp_request *r = mp_patience_of(s);

	s->ended = true;
	if (r)
		mp_patience_give_up(r, MP_GIVE_UP_TIMEOUT);
}

void mp_patience_drain(struct mp_proxy *proxy)
{
	struct mp_patience *patience, *next;

	for (patience = TAILQ_FIRST(&proxy->patience); patience; patience = next) {
		next = TAILQ_NEXT(patience, place);
		mp_patience_give_up(patience->r, MP_GIVE_UP_DRAIN);
	}
}

struct mp_request *mp_patience_of(const struct mp_session *s)
{
	struct mp_request *r = s->head;

	while (r && !r->patience)
		r = r->next;
	return r && !r->give_up ? r : NULL;
}
