/* doubt.c - see doubt.h. */
#include "doubt.h"

#include <assert.h>

#include "answer.h"
#include "state.h"

#define REPLY_LOST "ERR muproxy: executed, but the backend was lost before it answered"
#define READ_LOST \
	"ERR muproxy: the backend was lost before it answered; later requests were executed"
#define UNREAD                                                                                  \
	"ERR muproxy: outcome unknown: the leader was lost, and the log that may tell was not " \
	"read here: another replica's state was taken over"
#define NOT_EXECUTED \
	"ERR muproxy: the leader was lost; this request was not executed, later ones were"

void mp_doubt_init(struct mp_doubt *doubt)
{
	TAILQ_INIT(&doubt->list);
}

/* A doubtful request of a living session leaves the list. */
static void take_out(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_session *s = r->session;

	assert(r->state == MP_REQUEST_DOUBT && s && s->doubtful > 0);
	TAILQ_REMOVE(&proxy->doubt.list, r, place);
	s->doubtful--;
	if (mp_request_writes(r)) {
		assert(s->doubtful_writes > 0);
		s->doubtful_writes--;
	}
	/* The next turn's settle sends the reads that waited for this one. */
	mp_router_ready(proxy, s);
}

void mp_doubt_forget(struct mp_proxy *proxy, struct mp_request *r)
{
	take_out(proxy, r);
}

void mp_doubt_add(struct mp_proxy *proxy, struct mp_request *r, uint64_t ballot)
{
	struct mp_session *s = r->session;

	if (!s) {
		mp_drop(proxy, r); /* nobody waits for it any more */
		return;
	}
	if (r->streamed && s->head == r && r->meta.listing) {
		mp_listing_cut(proxy, r, "another replica leads now");
		return;
	}
	if (r->streamed && s->head == r) {
		/* A part of a reply cannot be taken back. */
		mp_session_kill(s);
	}
	if (r->skipped) {
		mp_answer_error(proxy, r, NOT_EXECUTED);
		return;
	}
	if (!r->streamed)
		mp_session_take_back(s, r);
	mp_large_forget(r);
	r->is_paced = r->is_served = false;
	r->untaken = 0;
	r->state = MP_REQUEST_DOUBT;
	r->ballot = ballot;
	r->since_ms = mp_now_ms(proxy);
	s->doubtful++;
	if (mp_request_writes(r))
		s->doubtful_writes++;
	TAILQ_INSERT_TAIL(&proxy->doubt.list, r, place);
	/* Sent over a link that the barrier says nothing of: there will be another one. */
	if (ballot == proxy->doubt.barrier_ballot)
		proxy->doubt.barrier_ballot = 0;
}

/* Has the log no more to tell of it than it has told here? */
static bool is_told(const struct mp_proxy *proxy, const struct mp_request *r)
{
	const struct mp_doubt *doubt = &proxy->doubt;
	const struct mp_apply *apply = &proxy->apply;

	if (r->lsn)
		return false; /* it is in the log: only its reply is missing */
	if (apply->seen_ballot > r->ballot)
		return true;
	return doubt->barrier_ballot == r->ballot && apply->seen_lsn >= doubt->barrier_lsn;
}

/* May its record be in a part of the log that was not read here? */
static bool may_be_unread(const struct mp_proxy *proxy, const struct mp_request *r)
{
	return r->origin.sequence <= proxy->apply.unread_sequence;
}

static void send_again(struct mp_proxy *proxy, struct mp_request *r)
{
	take_out(proxy, r);
	mp_session_unsend(r->session, r);
}

/* Has the own backend executed it without our having its answer? */
static bool is_answerless(const struct mp_proxy *proxy, const struct mp_request *r)
{
	const struct mp_target *target = &proxy->apply.target[mp_target_index(r->meta.protocol)];

	return r->lsn && !r->twin && target->state == MP_BACKEND_READY &&
	       target->handed_lsn >= r->lsn;
}

/* A write was executed; the state that reads before it had to see is gone. */
static void say_lost(struct mp_proxy *proxy, struct mp_request *write)
{
	struct mp_session *s = write->session;
	struct mp_request *r = s->head;

	while (r != write) {
		if (r->state == MP_REQUEST_DOUBT && !mp_request_writes(r) && !r->twin) {
			take_out(proxy, r);
			mp_answer_error(proxy, r, READ_LOST);
			r = s->head; /* it is gone, and perhaps others with it */
		} else {
			r = r->next;
		}
	}
	take_out(proxy, write);
	if (write->has_spare)
		mp_answer(proxy, write, mp_bytes_slice(&write->canned), true);
	else
		mp_answer_error(proxy, write, REPLY_LOST);
}

/*
 * A read whose backend was lost, and with it its place: if a later write of
 * its session has gone ahead meanwhile, the state that it had to see is gone.
 */
static void read_again(struct mp_proxy *proxy, struct mp_request *read)
{
	const struct mp_request *r = read->next;

	while (r && (!mp_request_writes(r) || r->state == MP_REQUEST_WAITING))
		r = r->next;
	if (!r) {
		send_again(proxy, read);
		return;
	}
	take_out(proxy, read);
	mp_answer_error(proxy, read, READ_LOST);
}

static void say_unknown(struct mp_proxy *proxy, struct mp_request *write)
{
	take_out(proxy, write);
	STAT_ADD(proxy, unknown, 1);
	mp_answer_error(proxy, write, UNREAD);
}

static void settle_writes(struct mp_proxy *proxy)
{
	struct mp_request *r = TAILQ_FIRST(&proxy->doubt.list);

	while (r) {
		struct mp_request *next = TAILQ_NEXT(r, place);
		bool writes = mp_request_writes(r);

		if (writes && is_told(proxy, r) && !may_be_unread(proxy, r)) {
			send_again(proxy, r);
		} else if (writes && is_told(proxy, r)) {
			say_unknown(proxy, r);
			next = TAILQ_FIRST(&proxy->doubt.list); /* others may have gone with it */
		} else if (writes && is_answerless(proxy, r)) {
			say_lost(proxy, r);
			next = TAILQ_FIRST(&proxy->doubt.list);
		}
		r = next;
	}
}

void mp_doubt_settle(struct mp_proxy *proxy)
{
	struct mp_request *r, *next;

	if (TAILQ_EMPTY(&proxy->doubt.list))
		return;
	settle_writes(proxy);
	/* A read waits as long as its place among doubtful writes is not known. */
	for (r = TAILQ_FIRST(&proxy->doubt.list); r; r = next) {
		next = TAILQ_NEXT(r, place);
		if (r->session->doubtful_writes == 0 && !r->twin)
			read_again(proxy, r);
	}
}

void mp_doubt_barrier(struct mp_proxy *proxy, uint64_t ballot, uint64_t lsn)
{
	proxy->doubt.barrier_ballot = ballot;
	proxy->doubt.barrier_lsn = lsn;
	mp_doubt_settle(proxy);
}

bool mp_doubt_leave(struct mp_proxy *proxy, struct mp_request *r)
{
	if (r->streamed)
		return false;
	if (r->state == MP_REQUEST_DOUBT)
		take_out(proxy, r);
	else
		TAILQ_REMOVE(mp_relay_out_list(proxy, r), r, place);
	if (r->session)
		mp_session_take_back(r->session, r);
	return true;
}

void mp_doubt_unserved(struct mp_proxy *proxy, struct mp_request *shadow)
{
	struct mp_request *r = shadow->twin;

	mp_drop(proxy, shadow);
	if (!r)
		return;
	r->lsn = 0;
	mp_doubt_settle(proxy);
}

/* With a leader, or with one that was lost; no part of its reply is out, and none on the way. */
static bool is_claimable(const struct mp_request *r)
{
	return (r->state == MP_REQUEST_RELAYED || r->state == MP_REQUEST_DOUBT) && !r->streamed &&
	       (!r->twin || r->meta.blocks);
}

/* NULL: out of memory; then only the leader can answer. */
static struct mp_request *make_shadow(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_request *shadow = mp_requests_get(&proxy->requests);

	if (!shadow)
		return NULL;
	shadow->meta = r->meta;
	shadow->origin = r->origin;
	shadow->raw = mp_bytes_share(&r->raw);
	shadow->shadow = true;
	shadow->twin = r;
	if (r->twin)
		r->twin->twin = NULL;
	r->twin = shadow;
	mp_requests_charge(&proxy->requests, shadow);
	return shadow;
}

/* What runs here on behalf of a claimable request: a lost leader's itself, else a shadow. */
static struct mp_request *to_run(struct mp_proxy *proxy, struct mp_request *r)
{
	if (r->state == MP_REQUEST_RELAYED || r->meta.blocks)
		return make_shadow(proxy, r);
	take_out(proxy, r);
	return r;
}

/* A write that has no record, though one behind it in its session has. */
static bool was_left_out(const struct mp_proxy *proxy, const struct mp_request *r)
{
	return is_claimable(r) && mp_request_writes(r) && r->lsn == 0 && !may_be_unread(proxy, r);
}

/*
 * A write of this session has a record. What stands before it and is unanswered: a
 * write without one was not executed (one leader proposes a session's requests in
 * order); if its answer does not come from the leader, sending it again would
 * execute it out of order.
 */
static void settle_writes_before(struct mp_proxy *proxy, struct mp_request *recorded)
{
	struct mp_session *s = recorded->session;
	struct mp_request *r = s->head;

	while (r != recorded) {
		if (was_left_out(proxy, r) && r->state == MP_REQUEST_DOUBT) {
			take_out(proxy, r);
			mp_answer_error(proxy, r, NOT_EXECUTED);
			r = s->head; /* it is gone, and perhaps others with it */
			continue;
		}
		if (was_left_out(proxy, r))
			r->skipped = true;
		r = r->next;
	}
}

/* It is executed here: reads that stand before it have to see the state before it. */
static void run_reads_before(struct mp_proxy *proxy, struct mp_request *claimed)
{
	for (struct mp_request *r = claimed->session->head; r != claimed; r = r->next) {
		if (is_claimable(r) && !mp_request_writes(r)) {
			struct mp_request *read = to_run(proxy, r);

			if (read)
				mp_apply_read(proxy, read);
		}
	}
}

/* The request of ours that a record belongs to, if it wants an answer still. */
static struct mp_request *whose(const struct mp_proxy *proxy, const struct mp_origin *origin)
{
	struct mp_request *r;

	if (origin->nonce != proxy->options.origin_nonce || origin->replica != proxy->options.id)
		return NULL;
	r = mp_requests_at(&proxy->requests, origin->handle);
	if (!r || r->origin.sequence != origin->sequence || !r->session || !is_claimable(r))
		return NULL;
	return r;
}

struct mp_request *mp_doubt_claim(struct mp_proxy *proxy, const struct mp_origin *origin,
				  uint64_t lsn)
{
	struct mp_request *r = whose(proxy, origin);

	if (!r)
		return NULL;
	settle_writes_before(proxy, r);
	run_reads_before(proxy, r);
	r->lsn = lsn;
	return to_run(proxy, r);
}

void mp_doubt_note(struct mp_proxy *proxy, const struct mp_origin *origin, uint64_t lsn)
{
	struct mp_request *r = whose(proxy, origin);

	if (!r)
		return;
	settle_writes_before(proxy, r);
	r->lsn = lsn;
}

static void give_up(struct mp_proxy *proxy, struct mp_request *r)
{
	uint32_t timeout_ms = proxy->options.unknown_timeout_ms;

	take_out(proxy, r);
	if (!mp_request_writes(r)) {
		mp_answer_error(proxy, r,
				"ERR muproxy: no leader within %u ms; nothing was executed",
				timeout_ms);
		return;
	}
	STAT_ADD(proxy, unknown, 1);
	if (r->lsn)
		mp_answer_error(
			proxy, r,
			"ERR muproxy: committed, but the backend did not answer within %u ms",
			timeout_ms);
	else
		mp_answer_error(
			proxy, r,
			"ERR muproxy: outcome unknown: the leader was lost, and the log did "
			"not tell within %u ms whether this was executed",
			timeout_ms);
}

void mp_doubt_sweep(struct mp_proxy *proxy, uint64_t now_ms)
{
	struct mp_request *r;

	/* In the order in which they came into doubt. */
	while ((r = TAILQ_FIRST(&proxy->doubt.list)) &&
	       now_ms - r->since_ms >= proxy->options.unknown_timeout_ms)
		give_up(proxy, r);
	mp_doubt_settle(proxy);
}
