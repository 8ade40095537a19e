/* memcached_reader.c - see memcached_reader.h. */
#include "memcached_reader.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mc_base64.h"
#include "mc_encode.h"
#include "mc_item.h"
#include "mc_token.h"
#include "mc_writer.h"

enum {
	ASKED_BYTES = 1 << 20,  /* of what is asked for at once, unless one is larger */
	LINE_BYTES = 1024,      /* of a command about one item */
	STATS_BYTES = 64 << 10, /* more is no statistics */
	CLOCK_JITTER_S = 2,     /* by so much a deadline may be told wrong by what is left */
	WORDS_BYTES = 80,       /* that are told of what a server says */
};

static void fail(struct memcached_reader *reader, const char *what, struct mp_slice words)
{
	char why[WORDS_BYTES * 2];

	if (reader->is_over)
		return;
	reader->is_over = true;
	snprintf(why, sizeof(why), "%s%s%.*s", what, words.len ? ": " : "",
		 (int)(words.len < WORDS_BYTES ? words.len : WORDS_BYTES), words.data);
	why[strcspn(why, "\r\n")] = '\0';
	reader->events->failed(reader->ctx, why);
}

/* -------------------------------------------------------------- what is asked */

static void put_key(struct mc_writer *w, const struct memcached_reader_asked *asked, bool is_base64)
{
	char text[MC_MAX_KEY_BYTES * 2];

	if (is_base64)
		mc_put(w, text,
		       mc_base64_encode((struct mp_slice){asked->key, asked->key_bytes}, text));
	else
		mc_put(w, asked->key, asked->key_bytes);
}

static void ask(struct memcached_reader *reader, const struct memcached_reader_asked *asked,
		const char *verb, const char *flags)
{
	bool is_base64 = mc_key_is_odd((struct mp_slice){asked->key, asked->key_bytes});
	char line[LINE_BYTES];
	struct mc_writer w = {line, sizeof(line), 0};

	if (is_base64 && asked->key_bytes > MC_MAX_BASE64_KEY_BYTES)
		return;
	mc_put_text(&w, verb);
	put_key(&w, asked, is_base64);
	mc_put_text(&w, is_base64 ? " b" : "");
	mc_put_text(&w, flags);
	mc_put_text(&w, "\r\n");
	assert(w.bytes <= sizeof(line) && reader->count < MEMCACHED_READER_ASKED_MAX);
	reader->asked[(reader->oldest + reader->count++) % MEMCACHED_READER_ASKED_MAX] = *asked;
	reader->asked_bytes += asked->bytes;
	mp_stream_put(&reader->items, line, w.bytes);
}

static void ask_item(struct memcached_reader *reader, const struct mc_listed *listed)
{
	struct memcached_reader_asked asked = {.key_bytes = (uint8_t)listed->key_bytes,
					       .bytes = listed->bytes,
					       .deadline_s = listed->deadline_s};

	memcpy(asked.key, listed->key, listed->key_bytes);
	ask(reader, &asked, "mg ", " u f t c k v");
}

/* Half of the ring stays free, for marks. */
static bool may_ask(const struct memcached_reader *reader)
{
	return reader->is_listing && !reader->is_over && !reader->is_full &&
	       reader->count < MEMCACHED_READER_ASKED_MAX / 2 && reader->asked_bytes < ASKED_BYTES;
}

static void ask_on(struct memcached_reader *reader)
{
	struct mc_listed listed;

	while (may_ask(reader) && memcached_lister_next(&reader->lister, &listed))
		ask_item(reader, &listed);
	mp_stream_flush(&reader->items);
	if (reader->lister.is_over && reader->count == 0 && !reader->is_over) {
		reader->is_over = true;
		reader->events->end(reader->ctx);
	}
}

void memcached_reader_resume(struct memcached_reader *reader)
{
	reader->is_full = false;
	ask_on(reader);
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

/*
 * What is left to live is told in whole seconds, of a clock of which we know as much. So it
 * is what was listed that counts, unless it was changed since.
 */
static int64_t deadline_of(const struct memcached_reader *reader,
			   const struct memcached_reader_asked *asked, const struct mc_item *item)
{
	int64_t listed_s, left_until_s;

	if (item->left_s < 0)
		return 0;
	listed_s = (int64_t)asked->deadline_s - memcached_clock_shift_s(&reader->clock);
	left_until_s = memcached_clock_deadline_s(&reader->clock, item->left_s);
	return llabs(listed_s - left_until_s) <= CLOCK_JITTER_S ? listed_s : left_until_s;
}

static void give(struct memcached_reader *reader, const struct memcached_reader_asked *asked,
		 const struct mc_item *item, bool in_base64)
{
	char line[LINE_BYTES];
	struct mc_writer w = {line, sizeof(line), 0};
	struct memcached_command command;

	mc_put_text(&w, "ms ");
	put_key(&w, asked, in_base64);
	mc_put_text(&w, " ");
	mc_put_u64(&w, item->value.len);
	mc_put_text(&w, in_base64 ? " b ME F" : " ME F");
	mc_put_u64(&w, item->flags);
	mc_put_flag(&w, 'T', deadline_of(reader, asked, item));
	if (reader->events->has_our_tokens && mc_cas_is_chosen(item->cas))
		mc_put_token(&w, item->cas);
	mc_put_text(&w, "\r\n");
	assert(w.bytes <= sizeof(line));
	command.line = (struct mp_slice){line, w.bytes};
	/* With its end. */
	command.block = (struct mp_slice){item->value.data, item->value.len + 2};
	reader->is_full = !reader->events->item(reader->ctx, command);
}

/* By reading it we have taken what its next reader is to have: the right to refresh it. */
static void mark_again(struct memcached_reader *reader, const struct memcached_reader_asked *asked,
		       const struct mc_item *item)
{
	struct memcached_reader_asked mark = *asked;
	char flags[80] = {0};
	struct mc_writer w = {flags, sizeof(flags) - 1, 0};

	mc_put_text(&w, " I C");
	mc_put_u64(&w, item->cas);
	if (mc_cas_is_chosen(item->cas))
		mc_put_token(&w, item->cas);
	mark.is_mark = true;
	mark.bytes = 0;
	ask(reader, &mark, "md ", flags);
}

static void take_reply(struct memcached_reader *reader, struct mp_slice reply)
{
	struct memcached_reader_asked asked = reader->asked[reader->oldest];
	struct mc_item item;

	reader->oldest = (reader->oldest + 1) % MEMCACHED_READER_ASKED_MAX;
	reader->count--;
	reader->asked_bytes -= asked.bytes;
	if (asked.is_mark)
		return;
	if (!mc_parse_item(reply, &item))
		fail(reader, "it does not tell an item", reply);
	else if (item.won && item.stale)
		mark_again(reader, &asked, &item);
	else if (item.found && !item.won && !item.stale && !item.sent)
		give(reader, &asked, &item, is_base64(reply));
}

static void take_replies(struct memcached_reader *reader)
{
	struct mp_buffer *in = &reader->items.in;

	while (!reader->is_over && reader->count > 0 && mp_buffer_len(in) > reader->scanned) {
		size_t used, len;
		enum mc_result result =
			mc_frame(&reader->framer, mp_buffer_data(in) + reader->scanned,
				 mp_buffer_len(in) - reader->scanned, &used);

		reader->scanned += used;
		if (result == MC_FATAL)
			fail(reader, "it sent what is no reply", mp_slice_of(""));
		if (result != MC_DONE)
			break;
		len = reader->scanned;
		reader->scanned = 0;
		take_reply(reader, (struct mp_slice){mp_buffer_data(in), len});
		mp_buffer_consume(in, len);
	}
	if (reader->is_over)
		return;
	reader->events->read(reader->ctx);
	ask_on(reader);
}

/* ------------------------------------------------------------------ the listing */

static void on_listed(void *ctx)
{
	ask_on(ctx);
}

static void on_listing_failed(void *ctx, const char *why)
{
	fail(ctx, why, mp_slice_of(""));
}

static const struct memcached_lister_events lister_events = {
	.more = on_listed,
	.failed = on_listing_failed,
};

/* All of "stats" and of "stats settings", terminated. */
static void take_stats(struct memcached_reader *reader, const char *text)
{
	/* Its seconds began a minute before `uptime` did. One that has taken place is two behind.
	 */
	uint64_t now_s = mc_stat_number(text, "uptime") + 60,
		 flushed_s = mc_stat_number(text, "oldest");

	if (flushed_s + 1 > now_s) {
		fail(reader, "it has a flush_all before it", mp_slice_of(""));
		return;
	}
	memcached_clock_set(&reader->clock, (int64_t)mc_stat_number(text, "time"));
	reader->events->total(reader->ctx, mc_stat_number(text, "curr_items"),
			      mc_stat_number(text, "bytes"));
	reader->is_listing = true;
	if (!memcached_lister_open(&reader->lister, reader->base, &reader->address, &lister_events,
				   reader))
		fail(reader, "no connection for a listing", mp_slice_of(""));
}

static void gather_stats(struct memcached_reader *reader)
{
	struct mp_buffer *in = &reader->items.in;
	struct mp_slice said = mp_buffer_slice(in);
	const char *end;

	if (said.len >= strlen("STAT ") && !mp_starts_with(said, "STAT ")) {
		fail(reader, "it does not tell its statistics", said);
		return;
	}
	if (said.len > STATS_BYTES || !mp_buffer_append(in, "", 1)) {
		fail(reader, "it does not tell its statistics", mp_slice_of(""));
		return;
	}
	end = strstr(mp_buffer_data(in), "END\r\n");
	end = end ? strstr(end + 1, "END\r\n") : NULL;
	if (end)
		take_stats(reader, mp_buffer_data(in));
	mp_buffer_trim(in, 1);
	if (end)
		mp_buffer_clear(in);
}

/* -------------------------------------------------------------------- the stream */

static void on_up(void *ctx)
{
	static const char questions[] = "stats\r\nstats settings\r\n";
	struct memcached_reader *reader = ctx;

	mp_stream_put(&reader->items, questions, sizeof(questions) - 1);
	mp_stream_flush(&reader->items);
}

static void on_bytes(void *ctx)
{
	struct memcached_reader *reader = ctx;

	if (reader->is_over)
		mp_stream_pause(&reader->items);
	else if (reader->is_listing)
		take_replies(reader);
	else
		gather_stats(reader);
}

static void on_closed(void *ctx, const char *why)
{
	struct memcached_reader *reader = ctx;

	mp_stream_pause(&reader->items);
	fail(reader, why, mp_slice_of(""));
}

static const struct mp_stream_events stream_events = {
	.up = on_up,
	.bytes = on_bytes,
	.closed = on_closed,
};

bool memcached_reader_open(struct memcached_reader *reader, struct event_base *base,
			   const struct mp_address *address,
			   const struct memcached_reader_events *events, void *ctx)
{
	*reader = (struct memcached_reader){
		.events = events, .ctx = ctx, .base = base, .address = *address};
	return mp_stream_connect(&reader->items, base, address, &stream_events, reader);
}

void memcached_reader_close(struct memcached_reader *reader)
{
	memcached_lister_close(&reader->lister);
	mp_stream_close(&reader->items);
}
