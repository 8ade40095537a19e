/*
 * relay_in.c - the leader's end of relaying (relay.h): connections from other
 * replicas, and the requests that come over them.
 *
 * When a link is told under which ballot this replica leads, it is also told
 * how far its predecessor's requests can have come (mp_frame_leading). For
 * that to be true nothing of an earlier link of the same replica may be
 * proposed from then on: links are closed when their successor greets, a
 * closed link's requests are dropped wherever they wait, and the word is given
 * while no batch waits for room in the log.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "classify.h"
#include "log.h"
#include "paced.h"
#include "relay.h"
#include "state.h"

enum {
	COMPLAINT_MS = 1000,
	OUT_SOFT_BYTES = 64 << 20, /* replies that the other end leaves unread: no more requests */
	REPLY_FRAME_BYTES = 1 << 20,
	ADOPT_BYTES = 64 << 10,
};

static void on_up(struct mp_link *link)
{
	struct mp_relay_in *in = &link->proxy->relay.in;
	struct mp_link *other, *next;

	if (link->purpose == MP_LINK_TRANSFER) {
		TAILQ_REMOVE(&in->links, link, place);
		mp_donation_accept(link);
		return;
	}
	for (other = TAILQ_FIRST(&in->links); other; other = next) {
		next = TAILQ_NEXT(other, place);
		if (other != link && other->state == MP_LINK_UP && other->peer == link->peer)
			mp_link_close(other, "it has connected anew");
	}
	mp_debug("replica %u: connected", link->peer);
}

static void on_closed(struct mp_link *link, const char *why)
{
	struct mp_proxy *proxy = link->proxy;
	struct mp_relay_in *in = &proxy->relay.in;
	uint64_t now_ns = mp_now_ns(proxy);

	mp_blocking_link_closed(proxy, link);
	TAILQ_REMOVE(&in->links, link, place);
	TAILQ_INSERT_TAIL(&proxy->relay.closed, link, place);
	if (link->peer) {
		mp_debug("replica %u: disconnected%s%s", link->peer, why ? ": " : "",
			 why ? why : "");
	} else if (why && now_ns >= in->next_complaint_ns) {
		mp_warn("peer listener: a connection was refused: %s", why);
		in->next_complaint_ns = now_ns + COMPLAINT_MS * UINT64_C(1000000);
	}
}

/* A request that is no good for the pipeline is answered at once, like a session would. */
static void refuse(struct mp_link *link, const struct mp_frame_request *head, struct mp_slice raw,
		   const char *error)
{
	struct mp_frame_reply reply = {
		.sequence = head->sequence, .handle = head->handle, .last = 1};
	char text[MP_ERROR_BYTES + 32];
	struct mp_slice tail = {text, 0};

	tail.len = mp_format_error_to((enum mp_protocol)head->protocol, raw, error, text,
				      sizeof(text));
	mp_link_send(link, MP_FRAME_REPLY, &reply, sizeof(reply), tail);
}

/*
 * The leader decides by its own table: what it executes has to be one whole
 * request of a kind that goes where it is sent, whatever its peer believes.
 */
static enum mp_verdict classify(struct mp_proxy *proxy, const struct mp_frame_request *head,
				struct mp_slice raw, struct mp_request_meta *meta, char *error)
{
	if (head->protocol == MP_REDIS && head->is_transaction) {
		*meta = (struct mp_request_meta){.protocol = MP_REDIS,
						 .class = MP_REQUEST_WRITE,
						 .database = head->database,
						 .transaction = true};
		if (proxy->commands && head->database < (uint32_t)proxy->databases)
			return MP_VERDICT_SERVE;
	} else if (head->protocol == MP_REDIS) {
		const struct mp_command *command;
		struct resp_request request;

		if (mp_reparse_redis(proxy, raw, &request) &&
		    head->database < (uint32_t)proxy->databases)
			return mp_classify_redis(proxy, &request, head->database, meta, &command,
						 error);
	} else if (head->protocol == MP_MEMCACHED) {
		struct mc_request request;

		if (mp_reparse_memcached(proxy, raw, &request))
			return mp_classify_memcached(&request, meta, error);
	}
	snprintf(error, MP_ERROR_BYTES, "ERR muproxy: not understood by the leader");
	return MP_VERDICT_LOCAL;
}

static bool take(struct mp_link *link, const struct mp_frame_request *head, struct mp_slice raw,
		 const struct mp_request_meta *meta)
{
	struct mp_proxy *proxy = link->proxy;
	struct mp_request *r = mp_requests_get(&proxy->requests);

	if (!r)
		return false;
	link->adopted =
		raw.len >= ADOPT_BYTES && mp_chunks_adopt(&proxy->chunks, &link->in, raw, &r->raw);
	if (!link->adopted && !mp_chunks_copy(&proxy->chunks, raw, &r->raw)) {
		mp_requests_put(&proxy->requests, &proxy->chunks, r);
		return false;
	}
	r->meta = *meta;
	r->origin = (struct mp_origin){
		.nonce = link->peer_nonce,
		.session = head->session,
		.replica = link->peer & 0xff,
		.handle = head->handle & ((1U << MP_ORIGIN_HANDLE_BITS) - 1),
		.sequence = head->sequence,
	};
	r->peer_handle = head->handle;
	r->since_ms = mp_now_ms(proxy);
	r->link = link;
	mp_link_hold(link);
	mp_requests_charge(&proxy->requests, r);
	mp_large_look(proxy, r);
	TAILQ_INSERT_TAIL(&proxy->router.inbox, r, place);
	STAT_ADD(proxy, relayed, 1);
	return true;
}

static bool on_request(struct mp_link *link, struct mp_slice body, const char **why)
{
	struct mp_proxy *proxy = link->proxy;
	struct mp_frame_request head;
	struct mp_request_meta meta;
	char error[MP_ERROR_BYTES];
	struct mp_slice raw;

	if (body.len < sizeof(head)) {
		*why = "a request that is cut";
		return false;
	}
	memcpy(&head, body.data, sizeof(head));
	raw = (struct mp_slice){body.data + sizeof(head), body.len - sizeof(head)};
	/* Its sender was told that this ballot is over, and knows that it was not executed. */
	if (!proxy->pipeline.ballot || head.ballot != proxy->pipeline.ballot ||
	    head.ballot != link->ballot)
		return true;
	if (classify(proxy, &head, raw, &meta, error) != MP_VERDICT_SERVE) {
		refuse(link, &head, raw, error);
		return true;
	}
	meta.resp = head.resp;
	if (!take(link, &head, raw, &meta)) {
		*why = "out of memory for a request";
		return false;
	}
	if (proxy->requests.bytes > proxy->options.max_held_bytes ||
	    mp_link_unsent(link) > OUT_SOFT_BYTES)
		mp_link_pause(link);
	return true;
}

static bool on_give_up(struct mp_link *link, struct mp_slice body, const char **why)
{
	struct mp_frame_give_up head;

	memcpy(&head, body.data, sizeof(head));
	if (head.why == MP_GIVE_UP_NOT || head.why >= MP_GIVE_UPS) {
		*why = "a request is given up for no reason";
		return false;
	}
	if (link->proxy->pipeline.ballot && head.ballot == link->proxy->pipeline.ballot)
		mp_blocking_give_up(link->proxy, link, head.sequence, (enum mp_give_up)head.why);
	return true;
}

static void on_taken(struct mp_link *link, struct mp_slice body)
{
	struct mp_frame_taken head;

	memcpy(&head, body.data, sizeof(head));
	if (link->proxy->pipeline.ballot && head.ballot == link->proxy->pipeline.ballot)
		mp_paced_on_taken_there(link->proxy, link, head.sequence, head.bytes);
}

static void on_held(struct mp_link *link, struct mp_slice body)
{
	struct mp_frame_held held;

	memcpy(&held, body.data, sizeof(held));
	link->held = held.clients;
}

static void on_names(struct mp_link *link, struct mp_slice body)
{
	struct mp_frame_names head;

	memcpy(&head, body.data, sizeof(head));
	body = (struct mp_slice){body.data + sizeof(head), body.len - sizeof(head)};
	mp_digest_hear_names(link->proxy, link->peer, head.database, body);
}

static bool on_frame(struct mp_link *link, enum mp_frame_type type, struct mp_slice body,
		     const char **why)
{
	if (type == MP_FRAME_REQUEST)
		return on_request(link, body, why);
	if (type == MP_FRAME_GIVE_UP && body.len == sizeof(struct mp_frame_give_up))
		return on_give_up(link, body, why);
	if (type == MP_FRAME_TAKEN && body.len == sizeof(struct mp_frame_taken)) {
		on_taken(link, body);
		return true;
	}
	if (type == MP_FRAME_HELD && body.len == sizeof(struct mp_frame_held)) {
		on_held(link, body);
		return true;
	}
	if (type == MP_FRAME_DIGEST) {
		mp_digest_hear(link->proxy, link->peer, body);
		return true;
	}
	if (type == MP_FRAME_ITEMS) {
		mp_memcached_digest_hear(link->proxy, link->peer, body);
		return true;
	}
	if (type == MP_FRAME_ITEM_NAMES) {
		mp_memcached_digest_hear_names(link->proxy, link->peer, body);
		return true;
	}
	if (type == MP_FRAME_NAMES && body.len >= sizeof(struct mp_frame_names)) {
		on_names(link, body);
		return true;
	}
	*why = "a frame that a follower does not send";
	return false;
}

static const struct mp_link_events events = {
	.up = on_up,
	.frame = on_frame,
	.closed = on_closed,
};

void mp_relay_in_accept(struct mp_proxy *proxy, int fd, unsigned peer)
{
	struct mp_link *link = mp_link_new(proxy, fd, peer, false, &events);

	if (!link) {
		close(fd);
		return;
	}
	TAILQ_INSERT_TAIL(&proxy->relay.in.links, link, place);
}

void mp_relay_in_reply(struct mp_request *r, struct mp_slice piece, bool last)
{
	struct mp_frame_reply reply = {
		.sequence = r->origin.sequence,
		.handle = r->peer_handle,
		.last = last,
		.is_paced = r->large != NULL,
	};

	/* A frame larger than the other end takes would cost all of its clients the link. */
	while (piece.len > REPLY_FRAME_BYTES && r->link->state == MP_LINK_UP) {
		struct mp_slice part = {piece.data, REPLY_FRAME_BYTES};

		reply.last = false;
		mp_link_send(r->link, MP_FRAME_REPLY, &reply, sizeof(reply), part);
		piece.data += part.len;
		piece.len -= part.len;
	}
	reply.last = last;
	reply.lsn = r->lsn;
	/* Under another ballot by now? Then its sender looks into the log for it. */
	if (r->link->state == MP_LINK_UP)
		mp_link_send(r->link, MP_FRAME_REPLY, &reply, sizeof(reply), piece);
}

void mp_relay_in_tell(struct mp_proxy *proxy, unsigned peer, enum mp_frame_type type,
		      struct mp_slice body)
{
	struct mp_link *link;

	TAILQ_FOREACH(link, &proxy->relay.in.links, place)
		if (link->state == MP_LINK_UP && link->peer == peer)
			mp_link_send(link, type, NULL, 0, body);
}

void mp_relay_in_cut(const struct mp_request *r)
{
	struct mp_frame_reply reply = {
		.sequence = r->origin.sequence, .handle = r->peer_handle, .last = 1, .is_cut = 1};

	if (r->link->state == MP_LINK_UP)
		mp_link_send(r->link, MP_FRAME_REPLY, &reply, sizeof(reply), (struct mp_slice){0});
}

static void tell_memory(struct mp_link *link, enum mp_memory_word word)
{
	struct mp_frame_memory memory = {.ballot = link->ballot, .word = (uint8_t)word};

	if (link->state != MP_LINK_UP || !link->ballot || link->memory == word)
		return;
	mp_link_send(link, MP_FRAME_MEMORY, &memory, sizeof(memory), (struct mp_slice){0});
	link->memory = (uint8_t)word;
}

static void tell(struct mp_proxy *proxy, struct mp_link *link)
{
	uint64_t ballot = proxy->pipeline.ballot;

	if (link->state != MP_LINK_UP || link->ballot == ballot)
		return;
	if (link->ballot) {
		struct mp_frame_leading deposed = {.ballot = link->ballot};

		mp_link_send(link, MP_FRAME_DEPOSED, &deposed, sizeof(deposed),
			     (struct mp_slice){0});
		link->ballot = 0;
	}
	if (ballot && !proxy->pipeline.filling && !proxy->draining) {
		struct mp_frame_leading leading = {.ballot = ballot,
						   .barrier_lsn = proxy->pipeline.proposed_lsn};

		mp_link_send(link, MP_FRAME_LEADING, &leading, sizeof(leading),
			     (struct mp_slice){0});
		link->ballot = ballot;
		link->memory = MP_MEMORY_LEFT;
	}
}

void mp_relay_in_drain(struct mp_proxy *proxy)
{
	struct mp_link *link;

	TAILQ_FOREACH(link, &proxy->relay.in.links, place) {
		mp_link_pause(link);
		mp_blocking_link_closed(proxy, link);
	}
}

uint32_t mp_relay_in_held(const struct mp_proxy *proxy)
{
	const struct mp_link *link;
	uint32_t held = 0;

	TAILQ_FOREACH(link, &proxy->relay.in.links, place)
		if (link->state == MP_LINK_UP)
			held += link->held;
	return held;
}

static bool may_resume(const struct mp_proxy *proxy, const struct mp_link *link)
{
	return link->paused && !proxy->draining &&
	       proxy->requests.bytes <= proxy->options.max_held_bytes &&
	       mp_link_unsent(link) <= OUT_SOFT_BYTES;
}

void mp_relay_in_turn(struct mp_proxy *proxy)
{
	struct mp_link *link, *next;

	for (link = TAILQ_FIRST(&proxy->relay.in.links); link; link = next) {
		next = TAILQ_NEXT(link, place);
		tell(proxy, link);
		tell_memory(link, mp_memory_word(proxy));
		if (may_resume(proxy, link))
			mp_link_resume(link);
	}
}
