/* relay_out.c - the follower's end of relaying (relay.h): one link to whoever leads. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "log.h"
#include "paced.h"
#include "relay.h"
#include "state.h"

enum {
	OUT_SOFT_BYTES = 4 << 20, /* unsent requests; more wait in their sessions */
	RETRY_MIN_MS = 1,
	RETRY_MAX_MS = 200,
};

/* Whatever the leader has not answered is in doubt now. */
static void lose(struct mp_proxy *proxy, uint64_t ballot)
{
	struct mp_relay_out *out = &proxy->relay.out;
	struct mp_request *r;

	/* What may wait is the last that its session has sent. */
	TAILQ_CONCAT(&out->relayed, &out->patient, place);
	while ((r = TAILQ_FIRST(&out->relayed))) {
		TAILQ_REMOVE(&out->relayed, r, place);
		mp_doubt_add(proxy, r, ballot);
	}
	mp_doubt_settle(proxy);
}

static void on_up(struct mp_link *link)
{
	mp_debug("replica %u: connected to relay to it", link->peer);
}

/* One line for each new trouble, not for each attempt. */
static void complain(struct mp_relay_out *out, unsigned peer, const char *why)
{
	if (out->failures == 0)
		mp_info("replica %u: no link to relay to it: %s", peer, why ? why : "it closed it");
}

static void on_closed(struct mp_link *link, const char *why)
{
	struct mp_proxy *proxy = link->proxy;
	struct mp_relay_out *out = &proxy->relay.out;
	uint64_t pause_ms = RETRY_MIN_MS;

	assert(out->link == link);
	out->link = NULL;
	TAILQ_INSERT_TAIL(&proxy->relay.closed, link, place);
	complain(out, link->peer, why);
	for (unsigned i = 0; i < out->failures && pause_ms < RETRY_MAX_MS; i++)
		pause_ms *= 2;
	out->failures++;
	out->next_try_ns = mp_now_ns(proxy) + pause_ms * UINT64_C(1000000);
	lose(proxy, link->ballot);
	link->ballot = 0;
}

static bool on_leading(struct mp_link *link, const struct mp_frame_leading *leading)
{
	struct mp_proxy *proxy = link->proxy;

	if (link->ballot)
		lose(proxy, link->ballot);
	proxy->relay.out.failures = 0;
	link->ballot = leading->ballot;
	link->memory = MP_MEMORY_LEFT;
	mp_info("relaying to replica %u, which leads under ballot %" PRIu64, link->peer,
		leading->ballot);
	mp_doubt_barrier(proxy, leading->ballot, leading->barrier_lsn);
	return true;
}

/* Its client decides from here on how long it takes, and sends nothing behind it meanwhile. */
static void become_paced(struct mp_proxy *proxy, struct mp_request *r)
{
	TAILQ_REMOVE(mp_relay_out_list(proxy, r), r, place);
	r->is_paced = true;
	TAILQ_INSERT_TAIL(mp_relay_out_list(proxy, r), r, place);
	if (!r->session)
		mp_relay_out_taken(proxy, r, 0);
	else if (!r->session->barrier)
		r->session->barrier = r;
}

static bool on_reply(struct mp_link *link, struct mp_slice body)
{
	struct mp_proxy *proxy = link->proxy;
	struct mp_frame_reply head;
	struct mp_request *r;

	memcpy(&head, body.data, sizeof(head));
	r = mp_requests_at(&proxy->requests, head.handle);
	/* It may have been answered from the log, or be in doubt. */
	if (!r || r->state != MP_REQUEST_RELAYED || r->origin.sequence != head.sequence)
		return true;
	body = (struct mp_slice){body.data + sizeof(head), body.len - sizeof(head)};
	if (head.is_paced && !r->is_paced)
		become_paced(proxy, r);
	if (head.last) {
		TAILQ_REMOVE(mp_relay_out_list(proxy, r), r, place);
		r->lsn = head.lsn;
	} else if (mp_request_is_paced(r)) {
		r->untaken += body.len;
	}
	if (head.is_cut) {
		mp_doubt_add(proxy, r, 0);
		mp_doubt_settle(proxy);
		return true;
	}
	mp_answer(proxy, r, body, head.last);
	return true;
}

static void on_memory(struct mp_link *link, struct mp_slice body)
{
	struct mp_frame_memory memory;

	memcpy(&memory, body.data, sizeof(memory));
	if (memory.ballot == link->ballot)
		link->memory = memory.word;
}

static bool on_frame(struct mp_link *link, enum mp_frame_type type, struct mp_slice body,
		     const char **why)
{
	struct mp_frame_leading leading;

	*why = "a frame that a leader does not send";
	if (type == MP_FRAME_REPLY && body.len >= sizeof(struct mp_frame_reply))
		return on_reply(link, body);
	if (type == MP_FRAME_WRONG && body.len == 0) {
		mp_digest_be_told(link->proxy);
		return true;
	}
	if (type == MP_FRAME_MEMORY && body.len == sizeof(struct mp_frame_memory)) {
		on_memory(link, body);
		return true;
	}
	if (type == MP_FRAME_WRONG_ITEMS) {
		mp_memcached_digest_be_told(link->proxy, body);
		return true;
	}
	if (body.len != sizeof(leading))
		return false;
	memcpy(&leading, body.data, sizeof(leading));
	if (type == MP_FRAME_LEADING && leading.ballot)
		return on_leading(link, &leading);
	if (type != MP_FRAME_DEPOSED)
		return false;
	if (link->ballot == leading.ballot) {
		link->ballot = 0;
		lose(link->proxy, leading.ballot);
	}
	return true;
}

static const struct mp_link_events events = {
	.up = on_up,
	.frame = on_frame,
	.closed = on_closed,
};

bool mp_relay_out_open(const struct mp_proxy *proxy)
{
	const struct mp_link *link = proxy->relay.out.link;

	return link && link->state == MP_LINK_UP && link->ballot;
}

struct mp_link *mp_relay_out_link(const struct mp_proxy *proxy)
{
	return mp_relay_out_open(proxy) ? proxy->relay.out.link : NULL;
}

bool mp_relay_out_room(const struct mp_proxy *proxy)
{
	return mp_relay_out_open(proxy) && mp_link_unsent(proxy->relay.out.link) < OUT_SOFT_BYTES;
}

enum mp_memory_word mp_relay_out_memory(const struct mp_proxy *proxy)
{
	return mp_relay_out_open(proxy) ? (enum mp_memory_word)proxy->relay.out.link->memory
					: MP_MEMORY_LEFT;
}

struct mp_request_list *mp_relay_out_list(struct mp_proxy *proxy, const struct mp_request *r)
{
	struct mp_relay_out *out = &proxy->relay.out;

	return r->meta.blocks || mp_request_is_paced(r) ? &out->patient : &out->relayed;
}

void mp_relay_out_send(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_relay_out *out = &proxy->relay.out;
	struct mp_frame_request head = {
		.ballot = out->link->ballot,
		.sequence = r->origin.sequence,
		.session = r->origin.session,
		.handle = r->handle,
		.database = r->meta.database,
		.protocol = (uint8_t)r->meta.protocol,
		.is_transaction = r->meta.transaction,
		.resp = r->meta.resp,
	};

	if (mp_relay_out_list(proxy, r) == &out->relayed && TAILQ_EMPTY(&out->relayed))
		out->busy_since_ns = mp_now_ns(proxy);
	/* Before the frame: the link may turn out to be lost while it is queued. */
	r->state = MP_REQUEST_RELAYED;
	TAILQ_INSERT_TAIL(mp_relay_out_list(proxy, r), r, place);
	mp_link_send(out->link, MP_FRAME_REQUEST, &head, sizeof(head), mp_bytes_slice(&r->raw));
	if (r->give_up && r->state == MP_REQUEST_RELAYED)
		mp_relay_out_give_up(proxy, r, (enum mp_give_up)r->give_up);
	STAT_ADD(proxy, relayed, 1);
}

void mp_relay_out_taken(struct mp_proxy *proxy, const struct mp_request *r, uint64_t bytes)
{
	struct mp_link *link = proxy->relay.out.link;
	struct mp_frame_taken head = {
		.ballot = link->ballot, .sequence = r->origin.sequence, .bytes = bytes};

	mp_link_send(link, MP_FRAME_TAKEN, &head, sizeof(head), (struct mp_slice){0});
}

void mp_relay_out_give_up(struct mp_proxy *proxy, const struct mp_request *r, enum mp_give_up why)
{
	struct mp_link *link = proxy->relay.out.link;
	struct mp_frame_give_up head = {
		.ballot = link->ballot, .sequence = r->origin.sequence, .why = (uint8_t)why};

	mp_link_send(link, MP_FRAME_GIVE_UP, &head, sizeof(head), (struct mp_slice){0});
}

static void take_socket(struct mp_proxy *proxy, unsigned peer, int fd)
{
	struct mp_relay_out *out = &proxy->relay.out;

	if (fd >= 0) {
		out->link = mp_link_new(proxy, fd, peer, true, &events);
		if (out->link)
			return;
		close(fd);
		errno = ENOMEM;
	}
	complain(out, peer, strerror(errno));
	out->failures++;
	out->next_try_ns = mp_now_ns(proxy) + RETRY_MAX_MS * UINT64_C(1000000);
}

static void connect_to(struct mp_proxy *proxy, unsigned peer)
{
	struct mp_relay_out *out = &proxy->relay.out;

	if (out->peer != peer)
		out->failures = 0;
	out->peer = peer;
	if (!proxy->options.dial) {
		take_socket(proxy, peer, mp_connect_begin(&out->address[peer], out->failures));
	} else if (!((out->dialling | proxy->transfer.restore.dialling) & 1U << peer)) {
		/* One at a time, or nobody could tell whose it is. */
		out->dialling |= 1U << peer;
		proxy->options.dial(proxy->options.dial_ctx, peer);
	}
}

void mp_relay_out_dialled(struct mp_proxy *proxy, unsigned peer, int fd)
{
	struct mp_relay_out *out = &proxy->relay.out;

	out->dialling &= ~(1U << peer);
	if (!out->link && out->peer == peer) {
		errno = EHOSTUNREACH;
		take_socket(proxy, peer, fd);
	} else if (fd >= 0) {
		close(fd);
	}
}

/* A leader that is connected but says nothing although it owes replies is as good as lost. */
static uint64_t check_silence(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_relay_out *out = &proxy->relay.out;
	uint64_t timeout_ns = 2 * (uint64_t)proxy->options.backend_timeout_ms * 1000000;
	uint64_t since_ns = out->busy_since_ns;

	if (TAILQ_EMPTY(&out->relayed))
		return UINT64_MAX;
	if (since_ns < out->link->heard_ns)
		since_ns = out->link->heard_ns;
	if (now_ns < since_ns + timeout_ns)
		return since_ns + timeout_ns;
	mp_link_close(out->link, "it owes replies and says nothing");
	return now_ns;
}

static void tell_held(const struct mp_proxy *proxy, struct mp_link *link)
{
	struct mp_frame_held held = {.clients = mp_pause_held(proxy)};

	if (link->state != MP_LINK_UP || link->held == held.clients)
		return;
	mp_link_send(link, MP_FRAME_HELD, &held, sizeof(held), (struct mp_slice){0});
	link->held = held.clients;
}

uint64_t mp_relay_out_turn(struct mp_proxy *proxy)
{
	struct mp_relay_out *out = &proxy->relay.out;
	unsigned leader = proxy->view.leader, self = proxy->options.id;
	uint64_t now_ns = mp_now_ns(proxy);

	/* While nobody is known to lead, the last one may still answer. */
	if (out->link && leader && leader != out->link->peer)
		mp_link_close(out->link, "another replica leads");
	if (out->link) {
		tell_held(proxy, out->link);
		return check_silence(proxy, now_ns);
	}
	if (!leader || leader == self ||
	    (!proxy->options.dial && !proxy->options.peer_address[leader]))
		return UINT64_MAX;
	if (out->peer != leader)
		out->next_try_ns = 0;
	if (now_ns < out->next_try_ns)
		return out->next_try_ns;
	connect_to(proxy, leader);
	if (out->link || out->dialling & 1U << leader)
		return UINT64_MAX;
	return out->next_try_ns > now_ns ? out->next_try_ns
					 : now_ns + RETRY_MIN_MS * UINT64_C(1000000);
}
