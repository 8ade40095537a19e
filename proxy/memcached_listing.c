/* memcached_listing.c - see memcached_listing.h. */
#include "memcached_listing.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "answer.h"
#include "classify.h"
#include "mc_listing.h"
#include "mc_token.h"
#include "paced.h"
#include "state.h"

enum {
	PIECE_BYTES = 64 << 10, /* lines that are answered together */
	STALL_MS = 60000,       /* a client that takes nothing for so long is in others' way */
};

#define BUSY "BUSY currently processing crawler request\r\n"
#define CUT "SERVER_ERROR muproxy: the listing ends here, not whole: "

struct mp_slice mp_listing_question(void)
{
	return mp_slice_of("mn\r\n");
}

bool mp_listing_is_cut(const struct mp_request *r, struct mp_slice piece)
{
	return r->meta.listing && mp_starts_with(piece, CUT);
}

void mp_listing_cut(struct mp_proxy *proxy, struct mp_request *r, const char *why)
{
	char text[sizeof(CUT) + 200];
	int n = snprintf(text, sizeof(text), CUT "%s\r\n", why);

	mp_answer(proxy, r, (struct mp_slice){text, (size_t)n}, true);
}

/* ------------------------------------------------------------------ the lines */

static void end(struct mp_listing *listing)
{
	mp_stream_close(&listing->server);
	mp_buffer_free(&listing->out);
	listing->request = NULL;
}

/* It ends in this listing's turn: who says so may be in the middle of something. */
static void cut(struct mp_listing *listing, const char *why)
{
	if (listing->is_over || listing->why[0])
		return;
	snprintf(listing->why, sizeof(listing->why), "%s", why);
	mp_stream_pause(&listing->server);
}

/* False: what came is no listing. */
static bool take_line(struct mp_listing *listing, struct mp_slice line)
{
	const struct mp_target *target = mp_target_of(listing->proxy, MP_MEMCACHED);
	char text[MC_LISTING_LINE_BYTES + 64];
	struct mc_writer w = {text, sizeof(text), 0};

	switch (mc_listing_line_of(line)) {
	case MC_LISTING_OURS:
		return true;
	case MC_LISTING_ITEM:
		mc_put_listing_line(&w, line, mc_term(listing->ballot),
				    -mp_backend_memcached_shift_s(target->backend));
		break;
	case MC_LISTING_LAST:
		listing->is_over = true;
		mc_put_slice(&w, line);
		break;
	}
	return w.bytes <= sizeof(text) && mp_buffer_append(&listing->out, text, w.bytes);
}

static bool has_room(const struct mp_listing *listing)
{
	return mp_paced_has_room(listing->request, listing->untaken);
}

/* What there is of lines goes to the client. */
static void answer(struct mp_listing *listing)
{
	struct mp_slice piece = mp_buffer_slice(&listing->out);

	if (piece.len == 0)
		return;
	listing->moved_ns = mp_now_ns(listing->proxy);
	listing->untaken += piece.len;
	mp_answer(listing->proxy, listing->request, piece, false);
	mp_buffer_clear(&listing->out);
}

static void take_lines(struct mp_listing *listing)
{
	struct mp_buffer *in = &listing->server.in;
	struct mp_slice line;

	while (!listing->is_over && !listing->why[0] && has_room(listing) &&
	       mc_next_listing_line(in, &line)) {
		if (!take_line(listing, line))
			cut(listing, "the server sent what is no listing");
		mp_buffer_consume(in, line.len);
		if (mp_buffer_len(&listing->out) >= PIECE_BYTES)
			answer(listing);
	}
	if (!listing->is_over)
		answer(listing);
	if (!has_room(listing))
		mp_stream_pause(&listing->server);
	else if (mp_buffer_len(in) > MC_LISTING_LINE_BYTES)
		cut(listing, "the server sent what is no listing");
}

static void go_on(struct mp_listing *listing)
{
	if (listing->is_over || listing->why[0] || !has_room(listing))
		return;
	listing->moved_ns = mp_now_ns(listing->proxy);
	if (!listing->server.is_open)
		return;
	mp_stream_resume(&listing->server);
	take_lines(listing);
}

/* ----------------------------------------------------------------- the server */

static void on_up(void *ctx)
{
	struct mp_listing *listing = ctx;
	struct mc_request request;
	struct mp_slice raw = mp_bytes_slice(&listing->request->raw);

	if (!mp_reparse_memcached(listing->proxy, raw, &request)) {
		cut(listing, "out of memory");
		return;
	}
	mp_stream_put(&listing->server, request.args.data, request.args.len);
	mp_stream_put(&listing->server, "\r\n", 2);
	mp_stream_flush(&listing->server);
}

static void on_bytes(void *ctx)
{
	take_lines(ctx);
}

static void on_closed(void *ctx, const char *why)
{
	struct mp_listing *listing = ctx;
	char text[120];

	snprintf(text, sizeof(text), "the server: %s", why);
	cut(listing, text);
	mp_stream_close(&listing->server);
}

static const struct mp_stream_events events = {
	.up = on_up,
	.bytes = on_bytes,
	.closed = on_closed,
};

void mp_listing_begin(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_listing *listing = &proxy->memcached.listing;

	if (listing->request) {
		mp_answer(proxy, r, mp_slice_of(BUSY), true);
		return;
	}
	*listing = (struct mp_listing){
		.proxy = proxy,
		.request = r,
		.ballot = proxy->pipeline.ballot,
		.moved_ns = mp_now_ns(proxy),
	};
	if (!mp_stream_connect(&listing->server, proxy->base, &proxy->memcached.address, &events,
			       listing))
		cut(listing, strerror(errno));
}

/* ----------------------------------------------------------------- the client */

void mp_listing_on_taken(struct mp_proxy *proxy, const struct mp_request *r)
{
	if (r == proxy->memcached.listing.request)
		go_on(&proxy->memcached.listing);
}

void mp_listing_on_taken_there(struct mp_proxy *proxy, const struct mp_link *link,
			       uint64_t sequence, uint64_t bytes)
{
	struct mp_listing *listing = &proxy->memcached.listing;
	const struct mp_request *r = listing->request;

	if (!r || r->link != link || r->origin.sequence != sequence)
		return;
	if (bytes == 0) {
		cut(listing, "its client has left");
		return;
	}
	listing->untaken -= bytes < listing->untaken ? bytes : listing->untaken;
	go_on(listing);
}

/* -------------------------------------------------------------------- the turn */

/* Under another leader the rest would be of another server. */
static void leave(struct mp_listing *listing)
{
	struct mp_request *r = listing->request;

	end(listing);
	if (r->link)
		mp_drop(listing->proxy, r); /* its sender is told that we are deposed */
	else
		mp_doubt_add(listing->proxy, r, 0);
}

static void settle(struct mp_listing *listing)
{
	struct mp_proxy *proxy = listing->proxy;
	struct mp_request *r = listing->request;

	if (mp_paced_is_abandoned(r)) {
		end(listing);
		mp_drop(proxy, r);
	} else if (!listing->ballot || proxy->pipeline.ballot != listing->ballot) {
		leave(listing);
	} else if (listing->why[0]) {
		char why[sizeof(listing->why)];

		memcpy(why, listing->why, sizeof(why));
		end(listing);
		mp_listing_cut(proxy, r, why);
	} else if (listing->is_over) {
		struct mp_buffer last = listing->out;

		listing->out = (struct mp_buffer){0};
		end(listing);
		mp_answer(proxy, r, mp_buffer_slice(&last), true);
		mp_buffer_free(&last);
	}
}

uint64_t mp_listing_turn(struct mp_proxy *proxy)
{
	struct mp_listing *listing = &proxy->memcached.listing;
	uint64_t stalled_ns;

	if (!listing->request)
		return UINT64_MAX;
	stalled_ns = listing->moved_ns + STALL_MS * UINT64_C(1000000);
	if (proxy->draining)
		cut(listing, "this replica is being stopped");
	else if (mp_now_ns(proxy) >= stalled_ns)
		cut(listing, "it was not read for a minute");
	settle(listing);
	return listing->request ? stalled_ns : UINT64_MAX;
}

void mp_listing_close(struct mp_proxy *proxy)
{
	struct mp_listing *listing = &proxy->memcached.listing;
	struct mp_request *r = listing->request;

	if (!r)
		return;
	end(listing);
	mp_drop(proxy, r);
}
