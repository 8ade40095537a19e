/* session_queue.c - see session.h: a client's requests, and their replies in the same order. */
#include "session.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "answer.h"
#include "log.h"
#include "mc_translate.h"
#include "paced.h"
#include "session_parts.h"
#include "state.h"

enum {
	ADOPT_BYTES = 64 << 10, /* requests from this size on are not copied but adopted */
	WINDOW_LEAST = 4,       /* requests under way of a client that leaves its replies unread */
	/*
	 * Of a leader's reply: it is kept until it is whole, so that another leader's, or our
	 * own backend's, can take its place. What is larger, or too much with all others', flows.
	 */
	KEEP_BYTES = 64 << 20,
};

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
	proxy->sessions.taken_bytes += raw.len;
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
	       mp_buffer_len(&s->out) < MP_SESSION_OUT_BYTES && !s->dead;
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

/* It is not under way any more. */
static void is_over(struct mp_session *s, struct mp_request *r)
{
	assert(s->under_way > 0 && s->under_way_here >= r->is_here);
	s->under_way--;
	s->under_way_here -= r->is_here;
	r->is_here = false;
}

void mp_session_unsend(struct mp_session *s, struct mp_request *r)
{
	r->state = MP_REQUEST_WAITING;
	is_over(s, r);
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
	mp_session_take_back(s, r);
	now->meta = r->meta;
	now->origin = r->origin;
	now->origin.handle = now->handle & ((1U << MP_ORIGIN_HANDLE_BITS) - 1);
	now->lsn = r->lsn;
	now->since_ms = r->since_ms;
	now->is_here = r->is_here;
	r->is_here = false;
	now->raw = r->raw;
	r->raw = (struct mp_bytes){0};
	mp_patience_move(r, now);
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

/* A reply whose turn has not come. In memory all of them are bounded like the output itself. */
static void put_aside(struct mp_session *s, struct mp_request *r, struct mp_slice piece)
{
	const struct mp_proxy_options *options = &s->proxy->options;
	size_t most = options->client_output_bytes + options->max_request_bytes;
	uint64_t spilled = mp_spill_len(r->spill);
	bool ok;

	if (s->dead)
		return;
	ok = mp_requests_keep(&s->proxy->requests, r, &s->proxy->sessions.spills, piece);
	s->pending_bytes += piece.len;
	s->pending_spilled += mp_spill_len(r->spill) - spilled;
	if (ok && s->pending_bytes - s->pending_spilled > most + MP_SESSION_PENDING_BYTES) {
		errno = EDQUOT;
		ok = false;
	}
	if (!ok) {
		mp_warn("client %u: disconnected, its replies take %zu bytes, %zu of them in "
			"files: %s",
			s->id, s->pending_bytes, s->pending_spilled, strerror(errno));
		mp_session_kill(s);
	}
}

/* What is aside of a reply is the session's no more. */
static void uncount_aside(struct mp_session *s, const struct mp_request *r)
{
	size_t spilled = mp_spill_len(r->spill), all = mp_buffer_len(&r->reply) + spilled;

	assert(s->dead || (s->pending_bytes >= all && s->pending_spilled >= spilled));
	s->pending_bytes -= all;
	s->pending_spilled -= spilled;
}

void mp_session_take_back(struct mp_session *s, struct mp_request *r)
{
	assert(!r->streamed);
	uncount_aside(s, r);
	mp_requests_unkeep(&s->proxy->requests, r);
}

/* Could the leader be lost before the rest of this reply is here? Or is it to be completed? */
static bool is_kept(const struct mp_session *s, const struct mp_request *r)
{
	const struct mp_proxy *proxy = s->proxy;

	if (r->meta.blanks)
		return r->state != MP_REQUEST_DONE;
	return r->state == MP_REQUEST_RELAYED && !r->streamed && !mp_request_is_paced(r) &&
	       mp_buffer_len(&r->reply) + mp_spill_len(r->spill) < KEEP_BYTES &&
	       proxy->requests.bytes <= proxy->options.max_held_bytes;
}

static void put_from_aside(struct mp_session *s, struct mp_request *r)
{
	if (mp_buffer_len(&r->reply) == 0 && !r->spill)
		return;
	uncount_aside(s, r);
	mp_session_put(s, mp_buffer_slice(&r->reply));
	if (r->spill)
		mp_session_put_spilled(s, r->spill);
	r->spill = NULL;
	mp_buffer_clear(&r->reply);
	mp_requests_charge(&s->proxy->requests, r);
	r->streamed = true;
}

/* The oldest requests that are answered go; the next one's reply can flow. */
static void dequeue_done(struct mp_session *s)
{
	while (s->head) {
		struct mp_request *r = s->head;

		if (!s->dead && !is_kept(s, r))
			put_from_aside(s, r);
		if (r->state != MP_REQUEST_DONE)
			break;
		s->head = r->next;
		if (!s->head)
			s->tail = NULL;
		s->pending--;
		uncount_aside(s, r);
		s->pending_bytes -= r->raw.len;
		r->session = NULL;
		mp_drop(s->proxy, r);
		if (s->subscriber)
			mp_pubsub_between_replies(s);
	}
	mp_session_mark_dirty(s);
}

/*
 * A request is answered to the end, so another may go. What replies cost is
 * known only when they are there, so a client begins with few and gets more
 * with every reply that it takes.
 */
static void open_window(struct mp_session *s, struct mp_request *r)
{
	bool behind = mp_buffer_len(&s->out) > MP_SESSION_OUT_BYTES ||
		      s->pending_bytes > MP_SESSION_PENDING_BYTES;

	is_over(s, r);
	if (!behind && s->window < MP_SESSION_PENDING_MAX)
		s->window++;
	else if (behind && s->window > WINDOW_LEAST)
		s->window /= 2;
	mp_router_ready(s->proxy, s);
}

/* The reply to an EXEC is whole, and aside: its client gets one with the session's own parts. */
static void fill_blanks(struct mp_session *s, struct mp_request *r)
{
	struct mp_buffer whole = {0};

	if (!s->dead && mp_multi_on_exec(s, mp_buffer_slice(&r->reply), &whole)) {
		mp_session_take_back(s, r);
		put_aside(s, r, mp_buffer_slice(&whole));
	}
	mp_buffer_free(&whole);
}

void mp_session_reply(struct mp_session *s, struct mp_request *r, struct mp_slice piece, bool last)
{
	bool is_cut = last && mp_listing_is_cut(r, piece);
	char number[32];

	if (r->meta.publish && !s->dead)
		piece = mp_pubsub_on_reply(s, r, piece, number);
	if (r->meta.blanks && !s->dead) {
		put_aside(s, r, piece);
		if (!last)
			return;
		fill_blanks(s, r);
		piece.len = 0;
	} else if (r->meta.gates && !s->dead) {
		piece = mp_multi_on_watch(s, r, piece);
	}
	if (r->meta.part && piece.len > 0 && mc_is_error(piece)) {
		/* The client would take it for the whole answer, and the rest for another's. */
		mp_session_kill(s);
	} else if (piece.len > 0 && !r->meta.noreply) {
		if (r != s->head || (!last && is_kept(s, r))) {
			put_aside(s, r, piece);
		} else {
			put_from_aside(s, r);
			mp_session_put(s, piece);
			r->streamed = true;
		}
	}
	if (!last)
		return;
	r->state = MP_REQUEST_DONE;
	if (r->twin) {
		/* It may have to wait for its turn: nobody else need answer it meanwhile. */
		r->twin->twin = NULL;
		r->twin = NULL;
	}
	if (s->barrier == r)
		s->barrier = NULL;
	open_window(s, r);
	if (r->lsn > s->written_lsn)
		s->written_lsn = r->lsn;
	if (r == s->head)
		dequeue_done(s);
	if (is_cut)
		mp_session_close_after_replies(s);
}

/* A part of the reply to an EXEC: that is bounded like replies that the client does not read. */
static void capture(struct mp_session *s, struct mp_slice reply)
{
	struct mp_buffer *whole = s->multi.capture;

	if (s->wants_no_replies || s->is_silent)
		return;
	if (mp_buffer_len(whole) + reply.len > s->proxy->options.client_output_bytes ||
	    !mp_buffer_append(whole, reply.data, reply.len)) {
		mp_warn("client %u: disconnected, its EXEC's reply takes more than %zu bytes",
			s->id, mp_buffer_len(whole));
		mp_session_kill(s);
	}
}

void mp_session_say(struct mp_session *s, struct mp_slice reply)
{
	struct mp_request *r;

	if (s->multi.capture) {
		capture(s, reply);
		return;
	}
	STAT_ADD(s->proxy, local, 1);
	if (s->is_silent)
		return;
	if (!s->head) {
		mp_session_put(s, reply);
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
