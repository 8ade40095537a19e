/* memcached_donor.c - see memcached_transfer.h: the end that gives. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mc_base64.h"
#include "mc_item.h"
#include "mc_listing.h"
#include "mc_text.h"
#include "memcached_transfer.h"
#include "state.h"
#include "stream.h"

enum {
	ASKED_MAX = 64,          /* items that are asked for at once */
	ASKED_BYTES = 1 << 20,   /* ... unless one is larger */
	LISTED_BYTES = 16 << 20, /* of the listing, beyond which it waits */
	LINE_BYTES = 1024,       /* of a command about one item */
	STATS_BYTES = 64 << 10,  /* more is no statistics */
	LAST_RESORT_ATTEMPT = 4, /* from then on a server that is being filled itself will do */
};

/* A question that is under way. */
struct asked {
	char key[MC_MAX_KEY_BYTES];
	uint8_t key_bytes;
	bool is_mark; /* not an item is wanted: it is marked as stale again */
	uint64_t bytes;
};

struct memcached_donor {
	struct mp_donation *donation;
	enum {
		BEGUN,    /* it is not known from where on */
		SETTLING, /* until its server has applied: */
		ASKING,   /* the server for statistics */
		LISTING,
		LISTED,
		GIVEN,
	} state;
	uint64_t era, lsn;
	struct mp_stream keys, items; /* the listing; what is asked about each */
	struct mc_framer framer;
	size_t scanned; /* of items.in: bytes of the oldest reply that the framer has seen */
	struct asked asked[ASKED_MAX]; /* a ring */
	unsigned oldest, count;
	uint64_t asked_bytes;
	bool has_no_room; /* on the way to the other end */
};

static const struct mp_target *target_of(const struct memcached_donor *donor)
{
	return mp_target_of(donor->donation->proxy, MP_MEMCACHED);
}

static void fail(struct memcached_donor *donor, const char *why)
{
	mp_donation_fail(donor->donation, "%s", why);
}

/* -------------------------------------------------------------- what is asked */

static void put_key(struct mc_writer *w, const struct asked *asked, bool is_base64)
{
	char text[MC_MAX_KEY_BYTES * 2];

	if (is_base64)
		mc_put(w, text,
		       mc_base64_encode((struct mp_slice){asked->key, asked->key_bytes}, text));
	else
		mc_put(w, asked->key, asked->key_bytes);
}

static bool ask(struct memcached_donor *donor, const struct asked *asked, const char *verb,
		const char *flags)
{
	bool is_base64 = mc_key_is_odd((struct mp_slice){asked->key, asked->key_bytes});
	char line[LINE_BYTES];
	struct mc_writer w = {line, sizeof(line), 0};

	if (is_base64 && asked->key_bytes > MC_MAX_BASE64_KEY_BYTES)
		return false;
	mc_put_text(&w, verb);
	put_key(&w, asked, is_base64);
	mc_put_text(&w, is_base64 ? " b" : "");
	mc_put_text(&w, flags);
	mc_put_text(&w, "\r\n");
	assert(w.bytes <= sizeof(line) && donor->count < ASKED_MAX);
	donor->asked[(donor->oldest + donor->count++) % ASKED_MAX] = *asked;
	donor->asked_bytes += asked->bytes;
	mp_stream_put(&donor->items, line, w.bytes);
	return true;
}

/* One item of the listing. */
static void ask_item(struct memcached_donor *donor, struct mp_slice line)
{
	struct asked asked = {0};
	struct mc_listed listed;

	if (!mc_parse_listed(line, &listed))
		return;
	memcpy(asked.key, listed.key, listed.key_bytes);
	asked.key_bytes = (uint8_t)listed.key_bytes;
	asked.bytes = listed.bytes;
	ask(donor, &asked, "mg ", " u f t c k v");
}

static void listing_ended(struct memcached_donor *donor, struct mp_slice line)
{
	if (mp_starts_with(line, "END"))
		donor->state = LISTED;
	else
		mp_donation_fail(donor->donation, "its server does not list its items: %.*s",
				 (int)(line.len < 80 ? line.len : 80), line.data);
}

/* One place of the ring stays free, for a mark. */
static bool may_ask(const struct memcached_donor *donor)
{
	return donor->state == LISTING && !donor->donation->is_failed && !donor->has_no_room &&
	       donor->count < ASKED_MAX / 2 && donor->asked_bytes < ASKED_BYTES;
}

static void ask_on(struct memcached_donor *donor)
{
	struct mp_buffer *in = &donor->keys.in;
	struct mp_slice line;

	while (may_ask(donor) && mc_next_listing_line(in, &line)) {
		switch (mc_listing_line_of(line)) {
		case MC_LISTING_ITEM:
			ask_item(donor, line);
			break;
		case MC_LISTING_OURS:
			break;
		case MC_LISTING_LAST:
			listing_ended(donor, line);
			break;
		}
		mp_buffer_consume(in, line.len);
	}
	mp_stream_flush(&donor->items);
	if (mp_buffer_len(in) > LISTED_BYTES)
		mp_stream_pause(&donor->keys);
	else
		mp_stream_resume(&donor->keys);
	if (donor->state == LISTED && donor->count == 0) {
		donor->state = GIVEN;
		mp_donation_tell(donor->donation, MEMCACHED_NOTE_END, 0, 0);
	}
}

/* ----------------------------------------------------------------- the answers */

/* A key that came in base64 is one for its clients, too. */
static bool is_base64(struct mp_slice reply)
{
	const char *lf = memchr(reply.data, '\n', reply.len), *s = reply.data;
	struct mp_slice word;

	while ((word = mc_next_word(&s, lf - 1)).len > 0)
		if (mp_slice_is(word, "b"))
			return true;
	return false;
}

static void give(struct memcached_donor *donor, const struct asked *asked,
		 const struct mc_item *item, bool in_base64)
{
	int64_t deadline_s = 0;
	char line[LINE_BYTES];
	struct mc_writer w = {line, sizeof(line), 0};

	if (item->left_s >= 0)
		deadline_s =
			mp_backend_memcached_deadline_s(target_of(donor)->backend, item->left_s);
	mc_put_text(&w, "ms ");
	put_key(&w, asked, in_base64);
	mc_put_text(&w, " ");
	mc_put_u64(&w, item->value.len);
	mc_put_text(&w, in_base64 ? " b ME F" : " ME F");
	mc_put_u64(&w, item->flags);
	mc_put_text(&w, " T");
	mc_put_i64(&w, deadline_s);
	mc_put_text(&w, "\r\n");
	assert(w.bytes <= sizeof(line));
	mp_donation_send(donor->donation, (struct mp_slice){line, w.bytes});
	/* With its end. */
	donor->has_no_room = !mp_donation_send(
		donor->donation, (struct mp_slice){item->value.data, item->value.len + 2});
}

/* By reading it we have taken what its next reader is to have: the right to refresh it. */
static void mark_again(struct memcached_donor *donor, const struct asked *asked,
		       const struct mc_item *item)
{
	struct asked mark = *asked;
	char flags[40];

	snprintf(flags, sizeof(flags), " I C%" PRIu64, item->cas);
	mark.is_mark = true;
	mark.bytes = 0;
	ask(donor, &mark, "md ", flags);
}

static void take_reply(struct memcached_donor *donor, struct mp_slice reply)
{
	struct asked asked = donor->asked[donor->oldest];
	struct mc_item item;

	donor->oldest = (donor->oldest + 1) % ASKED_MAX;
	donor->count--;
	donor->asked_bytes -= asked.bytes;
	if (asked.is_mark)
		return;
	if (!mc_parse_item(reply, &item))
		mp_donation_fail(donor->donation, "its server does not tell an item: %.*s",
				 (int)(reply.len < 80 ? reply.len : 80), reply.data);
	else if (item.won && item.stale)
		mark_again(donor, &asked, &item);
	else if (item.found && !item.won && !item.stale && !item.sent)
		give(donor, &asked, &item, is_base64(reply));
}

static void take_replies(struct memcached_donor *donor)
{
	const struct mp_proxy *proxy = donor->donation->proxy;
	struct mp_buffer *in = &donor->items.in;

	while (!donor->donation->is_failed && donor->count > 0 &&
	       mp_buffer_len(in) > donor->scanned) {
		size_t used, len;
		enum mc_result result =
			mc_frame(&donor->framer, mp_buffer_data(in) + donor->scanned,
				 mp_buffer_len(in) - donor->scanned, &used);

		donor->scanned += used;
		if (result == MC_FATAL)
			fail(donor, "its server sent what is no reply");
		if (result != MC_DONE)
			break;
		len = donor->scanned;
		donor->scanned = 0;
		take_reply(donor, (struct mp_slice){mp_buffer_data(in), len});
		mp_buffer_consume(in, len);
	}
	if (proxy->apply.era != donor->era)
		fail(donor, "its log has begun anew");
	mp_donation_tell(donor->donation, MEMCACHED_NOTE_READ, donor->era,
			 target_of(donor)->passed_lsn);
	ask_on(donor);
}

/* ------------------------------------------------------------------ statistics */

/* flush_all, all of "stats" and of "stats settings", terminated. */
static void take_stats(struct memcached_donor *donor, const char *text)
{
	/* Its seconds began a minute before `uptime` did. One that has taken place is two behind.
	 */
	uint64_t now_s = mc_stat_number(text, "uptime") + 60,
		 flushed_s = mc_stat_number(text, "oldest");

	if (flushed_s + 1 > now_s) {
		fail(donor, "its server has a flush_all before it");
		return;
	}
	mp_donation_tell(donor->donation, MEMCACHED_NOTE_TOTAL, mc_stat_number(text, "curr_items"),
			 mc_stat_number(text, "bytes"));
	donor->state = LISTING;
	mp_stream_put(&donor->keys, "lru_crawler metadump hash\r\n",
		      strlen("lru_crawler metadump hash\r\n"));
	mp_stream_flush(&donor->keys);
}

static void gather_stats(struct memcached_donor *donor)
{
	struct mp_buffer *in = &donor->items.in;
	const char *end;

	if (!mp_buffer_append(in, "", 1)) {
		fail(donor, "out of memory");
		return;
	}
	end = strstr(mp_buffer_data(in), "END\r\n");
	end = end ? strstr(end + 1, "END\r\n") : NULL;
	if (end)
		take_stats(donor, mp_buffer_data(in));
	else if (mp_buffer_len(in) > STATS_BYTES)
		fail(donor, "its server does not tell its statistics");
	mp_buffer_trim(in, 1);
	if (end)
		mp_buffer_clear(in);
}

/* ---------------------------------------------------------------- the streams */

static void on_keys_up(void *ctx)
{
	(void)ctx;
}

static void on_items_up(void *ctx)
{
	struct memcached_donor *donor = ctx;

	mp_stream_put(&donor->items, "stats\r\nstats settings\r\n",
		      strlen("stats\r\nstats settings\r\n"));
	mp_stream_flush(&donor->items);
}

static void on_keys(void *ctx)
{
	ask_on(ctx);
}

static void on_items(void *ctx)
{
	struct memcached_donor *donor = ctx;

	if (donor->state == ASKING)
		gather_stats(donor);
	else
		take_replies(donor);
}

static void on_closed(void *ctx, const char *why)
{
	struct memcached_donor *donor = ctx;

	mp_donation_fail(donor->donation, "its server: %s", why);
	mp_stream_pause(&donor->keys);
	mp_stream_pause(&donor->items);
}

static const struct mp_stream_events key_events = {
	.up = on_keys_up,
	.bytes = on_keys,
	.closed = on_closed,
};
static const struct mp_stream_events item_events = {
	.up = on_items_up,
	.bytes = on_items,
	.closed = on_closed,
};

/* --------------------------------------------------------------- the other end */

static bool is_partial(const struct mp_proxy *proxy)
{
	return proxy->transfer.restore.wanted & 1U << mp_target_index(MP_MEMCACHED);
}

static void begin(struct mp_donation *donation)
{
	struct memcached_donor *donor;

	if (is_partial(donation->proxy) && donation->attempt < LAST_RESORT_ATTEMPT) {
		mp_donation_fail(donation, "its own server is to be filled first");
		return;
	}
	donor = calloc(1, sizeof(*donor));
	if (!donor) {
		mp_donation_fail(donation, "out of memory");
		return;
	}
	donor->donation = donation;
	donation->own = donor;
	mp_donation_agree(donation);
}

static bool note(struct mp_donation *donation, const struct mp_frame_note *note)
{
	struct memcached_donor *donor = donation->own;

	if (note->what != MEMCACHED_NOTE_FROM || donor->state != BEGUN)
		return false;
	donor->state = SETTLING;
	donor->era = note->a;
	donor->lsn = note->b;
	return true;
}

static void data(struct mp_donation *donation, struct mp_slice bytes)
{
	(void)bytes;
	mp_donation_fail(donation, "it sends what nobody asked for");
}

/* The server has executed all that was asked for: it may be read. */
static void turn(struct mp_donation *donation)
{
	struct memcached_donor *donor = donation->own;
	struct mp_proxy *proxy = donation->proxy;
	const struct mp_target *target = target_of(donor);

	if (donor->state != SETTLING)
		return;
	if (proxy->apply.era != donor->era) {
		fail(donor, "its log is another one");
		return;
	}
	if (target->state != MP_BACKEND_READY ||
	    mp_backend_memcached_settled_lsn(target->backend) < donor->lsn)
		return;
	donor->state = ASKING;
	if (!mp_stream_connect(&donor->keys, proxy->base, &proxy->memcached.address, &key_events,
			       donor) ||
	    !mp_stream_connect(&donor->items, proxy->base, &proxy->memcached.address, &item_events,
			       donor))
		mp_donation_fail(donation, "its server: %s", strerror(errno));
}

static void room(struct mp_donation *donation)
{
	struct memcached_donor *donor = donation->own;

	donor->has_no_room = false;
	ask_on(donor);
}

static void end(struct mp_donation *donation)
{
	struct memcached_donor *donor = donation->own;

	mp_stream_close(&donor->keys);
	mp_stream_close(&donor->items);
	free(donor);
	donation->own = NULL;
}

const struct mp_donor mp_memcached_donor = {
	.begin = begin,
	.note = note,
	.data = data,
	.turn = turn,
	.room = room,
	.end = end,
};
