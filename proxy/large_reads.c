/* large_reads.c - see large_reads.h. */
#include "config.h"

#include "large_reads.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "answer.h"
#include "large_order.h"
#include "log.h"
#include "paced.h"
#include "redis_wire.h"
#include "session_parts.h"
#include "state.h"

enum {
	LARGE_BYTES = 4 << 20,
	PIECE_BYTES = 128 << 10, /* of a reply that is passed on at once */
	OPEN_MOST = 64,          /* connections */
	/* Others wait for a connection: who takes nothing for so long is in their way. */
	STALL_MS = 60000,
	RUN_ID_BYTES = 48,
};

enum mp_large_stage {
	MP_LARGE_PLACED,   /* its place among all requests has yet to come */
	MP_LARGE_WAITING,  /* for a connection */
	MP_LARGE_GREETING, /* replies to what goes before the read are to come */
	MP_LARGE_READING,  /* the server has begun to answer */
};

struct mp_large {
	TAILQ_ENTRY(mp_large) place; /* in `all` */
	struct mp_proxy *proxy;
	struct mp_request *request; /* from WAITING on it is RUNNING, and in no list */
	enum mp_large_stage stage;
	struct mp_stream server;
	struct resp_framer framer;
	unsigned greetings; /* to come, of which the last says who the server is */
	uint64_t bytes;     /* of the reply that were passed on */
	uint64_t untaken;   /* ... that the other replica has not said to be taken */
	uint64_t moved_ns;  /* when some of it was passed on last */
	char why[160];      /* it cannot be finished, "": it may be */
};

void mp_large_init(struct mp_large_reads *large)
{
	TAILQ_INIT(&large->all);
	TAILQ_INIT(&large->held);
}

bool mp_large_open(struct mp_proxy *proxy, char *err, size_t err_bytes)
{
	const char *address = proxy->options.redis_backend;

	return !address || mp_address_parse(address, &proxy->large.address, err, err_bytes);
}

/* ------------------------------------------------------------- which are large */

static uint64_t *place_of(struct mp_large_reads *large, const struct mp_request *r, uint64_t *hash)
{
	*hash = XXH3_64bits_withSeed(r->raw.data, r->raw.len, r->meta.database) | 1;
	return &large->known[*hash % MP_LARGE_KNOWN];
}

static void learn(struct mp_large_reads *large, const struct mp_request *r)
{
	uint64_t hash, *known = place_of(large, r, &hash);

	large->known_count += *known == 0;
	*known = hash;
}

static void unlearn(struct mp_large_reads *large, const struct mp_request *r)
{
	uint64_t hash, *known = place_of(large, r, &hash);

	if (*known != hash)
		return;
	*known = 0;
	large->known_count--;
}

/* Is the server's reply the client's as it is, and may the server be asked twice? */
static bool is_plain(const struct mp_request *r)
{
	const struct mp_request_meta *meta = &r->meta;

	return meta->class == MP_REQUEST_READ && meta->protocol == MP_REDIS && !r->shadow &&
	       r->purpose == MP_PURPOSE_CLIENT && r->canned.len == 0 && !meta->watch &&
	       !meta->scan && !meta->blocks && !meta->ttl && !meta->info && !meta->config &&
	       !meta->groups && !meta->gates;
}

/* Nothing of its client goes ahead of it from here on. */
static bool mark(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_large *large = calloc(1, sizeof(*large));

	if (!large)
		return false;
	large->proxy = proxy;
	large->request = r;
	r->large = large;
	r->is_paced = true;
	TAILQ_INSERT_TAIL(&proxy->large.all, large, place);
	if (r->session)
		r->session->barrier = r;
	if (r->link)
		mp_relay_in_reply(r, (struct mp_slice){0}, false); /* to be told that it is paced */
	return true;
}

void mp_large_look(struct mp_proxy *proxy, struct mp_request *r)
{
	uint64_t hash;

	if (proxy->large.known_count == 0 || !is_plain(r) || r->large)
		return;
	if (*place_of(&proxy->large, r, &hash) == hash)
		mark(proxy, r);
}

bool mp_large_weigh(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice piece)
{
	if (!is_plain(r) || r->streamed || mp_buffer_len(&r->reply) > 0 ||
	    mp_paced_is_abandoned(r) || resp_estimate(piece.data, piece.len) < LARGE_BYTES)
		return false;
	learn(&proxy->large, r);
	return mp_large_recall(proxy, r) && mark(proxy, r);
}

struct mp_slice mp_large_question(void)
{
	return mp_slice_of("*1\r\n$4\r\nPING\r\n");
}

/* --------------------------------------------------------------------- the end */

/* r is the caller's again. */
static void detach(struct mp_large *large)
{
	struct mp_large_reads *all = &large->proxy->large;

	TAILQ_REMOVE(&all->all, large, place);
	all->waiting -= large->stage == MP_LARGE_WAITING;
	all->may_release = true;
	large->request->large = NULL;
	large->request = NULL;
}

static void dispose(struct mp_large *large)
{
	large->proxy->large.open -= large->stage > MP_LARGE_WAITING;
	mp_stream_close(&large->server);
	free(large);
}

void mp_large_forget(struct mp_request *r)
{
	struct mp_large *large = r->large;

	if (!large)
		return;
	detach(large);
	dispose(large);
}

/* It ends in this one's turn: who says so may be in the middle of something. */
static void fail(struct mp_large *large, const char *why)
{
	if (!large->why[0])
		snprintf(large->why, sizeof(large->why), "%s", why);
	mp_stream_pause(&large->server);
}

/* Nothing more comes of the reply. */
static void cut(struct mp_large *large)
{
	struct mp_proxy *proxy = large->proxy;
	struct mp_request *r = large->request;
	enum mp_large_stage stage = large->stage;
	char why[sizeof(large->why)];

	memcpy(why, large->why, sizeof(why));
	mp_large_forget(r);
	if (stage < MP_LARGE_READING) {
		mp_answer_error(proxy, r, "ERR muproxy: no connection for a large reply: %s", why);
	} else if (r->link) {
		mp_relay_in_cut(r);
		mp_drop(proxy, r);
	} else {
		mp_warn("client %u: a large reply cannot be finished: %s", r->session->id, why);
		mp_doubt_add(proxy, r, 0);
	}
}

/* ------------------------------------------------------------------ the server */

/* Another start of the server may know less. */
static bool is_same_server(const struct mp_large *large, struct mp_slice info)
{
	const struct mp_target *target = mp_target_of(large->proxy, MP_REDIS);
	char run_id[RUN_ID_BYTES + 16];
	int n = snprintf(run_id, sizeof(run_id), "run_id:%s\r",
			 mp_backend_redis_run_id(target->backend));

	return memmem(info.data, info.len, run_id, (size_t)n) != NULL;
}

/* False: no more of them is there. */
static bool take_greeting(struct mp_large *large)
{
	struct mp_buffer *in = &large->server.in;
	struct resp_framer framer = {0};
	size_t used;

	if (resp_frame(&framer, mp_buffer_data(in), mp_buffer_len(in), &used) != RESP_DONE)
		return false;
	if (mp_buffer_data(in)[0] == '-')
		fail(large, "the server refuses it");
	else if (--large->greetings == 0 &&
		 !is_same_server(large, (struct mp_slice){mp_buffer_data(in), used}))
		fail(large, "it is another server");
	mp_buffer_consume(in, used);
	return true;
}

static void finish(struct mp_large *large, struct mp_slice piece)
{
	struct mp_proxy *proxy = large->proxy;
	struct mp_request *r = large->request;

	if (large->bytes < LARGE_BYTES / 2)
		unlearn(&proxy->large, r);
	detach(large);
	mp_answer(proxy, r, piece, true);
	dispose(large);
}

/* False: that was all for now, and large may be gone. */
static bool pass_on(struct mp_large *large)
{
	struct mp_buffer *in = &large->server.in;
	struct mp_slice piece = mp_buffer_slice(in);
	enum resp_result result;

	if (!mp_paced_has_room(large->request, large->untaken)) {
		mp_stream_pause(&large->server);
		return false;
	}
	if (large->stage != MP_LARGE_READING)
		large->proxy->large.may_release = true;
	large->stage = MP_LARGE_READING;
	if (piece.len > PIECE_BYTES)
		piece.len = PIECE_BYTES;
	result = resp_frame(&large->framer, piece.data, piece.len, &piece.len);
	large->bytes += piece.len;
	large->untaken += piece.len;
	large->moved_ns = mp_now_ns(large->proxy);
	switch (result) {
	case RESP_DONE:
		finish(large, piece);
		return false;
	case RESP_MORE:
		mp_answer(large->proxy, large->request, piece, false);
		mp_buffer_consume(in, piece.len);
		return true;
	case RESP_ERROR:
		break;
	}
	fail(large, "the server sent what is no reply");
	return false;
}

static void take(struct mp_large *large)
{
	while (!large->why[0] && mp_buffer_len(&large->server.in) > 0)
		if (large->greetings > 0 ? !take_greeting(large) : !pass_on(large))
			return;
}

static void put(struct mp_large *large, const char *text)
{
	mp_stream_put(&large->server, text, strlen(text));
}

static void put_login(struct mp_large *large, const char *password)
{
	struct mp_slice auth[] = {mp_slice_of("AUTH"), mp_slice_of(password)};

	large->greetings++;
	if (!redis_put_request(&large->server.out, 2, auth))
		fail(large, "out of memory");
}

static void on_up(void *ctx)
{
	struct mp_large *large = ctx;
	const char *password = large->proxy->options.redis_password;
	const struct mp_request *r = large->request;
	char select[REDIS_SELECT_BYTES];

	large->greetings = 2;
	if (password)
		put_login(large, password);
	if (r->meta.resp == 3) {
		put(large, REDIS_HELLO_3);
		large->greetings++;
	}
	mp_stream_put(&large->server, select, redis_put_select(select, r->meta.database));
	put(large, "*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n");
	mp_stream_put(&large->server, r->raw.data, r->raw.len);
	mp_stream_flush(&large->server);
}

static void on_bytes(void *ctx)
{
	take(ctx);
}

static void on_closed(void *ctx, const char *why)
{
	struct mp_large *large = ctx;

	fail(large, why);
	mp_stream_close(&large->server);
}

static const struct mp_stream_events events = {
	.up = on_up,
	.bytes = on_bytes,
	.closed = on_closed,
};

static void connect_to_server(struct mp_large *large)
{
	struct mp_proxy *proxy = large->proxy;

	proxy->large.waiting--;
	proxy->large.open++;
	large->stage = MP_LARGE_GREETING;
	large->moved_ns = mp_now_ns(proxy);
	if (!mp_stream_connect(&large->server, proxy->base, &proxy->large.address, &events, large))
		fail(large, strerror(errno));
}

void mp_large_begin(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_large *large = r->large;

	assert(large && large->stage == MP_LARGE_PLACED && r->state == MP_REQUEST_RUNNING);
	large->stage = MP_LARGE_WAITING;
	proxy->large.waiting++;
	if (proxy->large.open < OPEN_MOST && !mp_paced_is_abandoned(r))
		connect_to_server(large);
}

/* ------------------------------------------------------------------ the client */

void mp_large_on_taken(struct mp_large *large)
{
	if (large->why[0] || large->stage < MP_LARGE_GREETING || !large->server.is_open ||
	    !mp_paced_has_room(large->request, large->untaken))
		return;
	mp_stream_resume(&large->server);
	take(large);
}

bool mp_large_on_taken_there(struct mp_proxy *proxy, const struct mp_link *link, uint64_t sequence,
			     uint64_t bytes)
{
	struct mp_large *large;

	TAILQ_FOREACH(large, &proxy->large.all, place)
		if (large->request->link == link && large->request->origin.sequence == sequence)
			break;
	if (!large)
		return false;
	if (bytes == 0) {
		fail(large, "its client has left");
		return true;
	}
	large->untaken -= bytes < large->untaken ? bytes : large->untaken;
	mp_large_on_taken(large);
	return true;
}

/* ---------------------------------------------------------- who comes behind it */

bool mp_large_holds_back(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_large *large;

	TAILQ_FOREACH(large, &proxy->large.all, place)
		if (large->stage < MP_LARGE_READING && large->request->link == r->link &&
		    large->request->origin.session == r->origin.session &&
		    large->request->origin.sequence < r->origin.sequence)
			break;
	if (!large)
		return false;
	mp_large_hold(proxy, r);
	return true;
}

void mp_large_release(struct mp_proxy *proxy)
{
	struct mp_request_list *inbox = &proxy->router.inbox;

	proxy->large.may_release = false;
	TAILQ_CONCAT(&proxy->large.held, inbox, place);
	TAILQ_CONCAT(inbox, &proxy->large.held, place);
}

/* -------------------------------------------------------------------- the turn */

/* It stands still, and others wait for its connection. */
static bool is_in_the_way(struct mp_proxy *proxy, const struct mp_large *large)
{
	return proxy->large.waiting > 0 && large->stage > MP_LARGE_WAITING &&
	       mp_now_ns(proxy) - large->moved_ns >= STALL_MS * UINT64_C(1000000);
}

static void settle(struct mp_large *large)
{
	struct mp_proxy *proxy = large->proxy;
	struct mp_request *r = large->request;
	bool is_silent = mp_target_of(proxy, MP_REDIS)->silent;

	if (large->stage == MP_LARGE_PLACED)
		return;
	if (is_in_the_way(proxy, large))
		fail(large, "it was not read for a minute");
	if (mp_paced_is_abandoned(r)) {
		mp_large_forget(r);
		mp_drop(proxy, r);
	} else if (large->why[0]) {
		cut(large);
	} else if (is_silent && large->bytes == 0 && r->session) {
		mp_large_forget(r);
		mp_doubt_add(proxy, r, 0);
	} else if (large->stage == MP_LARGE_WAITING && proxy->large.open < OPEN_MOST) {
		connect_to_server(large);
	}
}

uint64_t mp_large_turn(struct mp_proxy *proxy)
{
	struct mp_large *large = TAILQ_FIRST(&proxy->large.all), *next;

	for (; large; large = next) {
		next = TAILQ_NEXT(large, place);
		settle(large);
	}
	if (proxy->large.waiting == 0)
		return UINT64_MAX;
	return mp_now_ns(proxy) + STALL_MS / 10 * UINT64_C(1000000);
}

void mp_large_lost(struct mp_proxy *proxy)
{
	struct mp_large *large = TAILQ_FIRST(&proxy->large.all), *next;

	for (; large; large = next) {
		struct mp_request *r = large->request;

		next = TAILQ_NEXT(large, place);
		if (large->stage == MP_LARGE_PLACED)
			continue; /* whoever has it tells */
		mp_large_forget(r);
		if (r->session)
			mp_doubt_add(proxy, r, 0);
		else
			mp_drop(proxy, r); /* its sender is told that we are deposed */
	}
}

/* Nobody is left to be told. */
void mp_large_close(struct mp_proxy *proxy)
{
	struct mp_large *large;

	while ((large = TAILQ_FIRST(&proxy->large.all))) {
		struct mp_request *r = large->request;
		bool is_ours = large->stage != MP_LARGE_PLACED;

		mp_large_forget(r);
		if (is_ours)
			mp_drop(proxy, r);
	}
}
