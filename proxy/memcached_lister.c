/* memcached_lister.c - see memcached_lister.h. */
#include "memcached_lister.h"

#include <stdio.h>
#include <string.h>

enum {
	LISTED_BYTES = 16 << 20,
	RETRY_MS = 20,
	ASKED_MAX = 500, /* then it has been busy for ten seconds */
	WORDS_BYTES = 80,
};

static void ask(struct memcached_lister *lister)
{
	static const char question[] = "lru_crawler metadump hash\r\n";

	lister->asked++;
	mp_stream_put(&lister->stream, question, sizeof(question) - 1);
	mp_stream_flush(&lister->stream);
}

static void on_up(void *ctx)
{
	ask(ctx);
}

static void on_retry(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	ask(ctx);
}

static void on_bytes(void *ctx)
{
	struct memcached_lister *lister = ctx;

	if (mp_buffer_len(&lister->stream.in) > LISTED_BYTES)
		mp_stream_pause(&lister->stream);
	lister->events->more(lister->ctx);
}

static void fail(struct memcached_lister *lister, const char *why)
{
	lister->is_failed = true;
	lister->events->failed(lister->ctx, why);
}

static void on_closed(void *ctx, const char *why)
{
	struct memcached_lister *lister = ctx;

	mp_stream_pause(&lister->stream);
	if (!lister->is_over)
		fail(lister, why);
}

static const struct mp_stream_events stream_events = {
	.up = on_up,
	.bytes = on_bytes,
	.closed = on_closed,
};

bool memcached_lister_open(struct memcached_lister *lister, struct event_base *base,
			   const struct mp_address *address,
			   const struct memcached_lister_events *events, void *ctx)
{
	*lister = (struct memcached_lister){.events = events, .ctx = ctx};
	evtimer_assign(&lister->retry, base, on_retry, lister);
	return mp_stream_connect(&lister->stream, base, address, &stream_events, lister);
}

void memcached_lister_close(struct memcached_lister *lister)
{
	if (lister->stream.is_open)
		event_del(&lister->retry);
	mp_stream_close(&lister->stream);
}

/* The line behind the last item. */
static void end(struct memcached_lister *lister, struct mp_slice line)
{
	static const struct timeval pause = {.tv_usec = RETRY_MS * 1000};
	char why[WORDS_BYTES + 40];

	lister->is_over = mp_starts_with(line, "END");
	if (lister->is_over)
		return;
	if (mp_starts_with(line, "BUSY") && lister->asked < ASKED_MAX) {
		event_add(&lister->retry, &pause);
		return;
	}
	snprintf(why, sizeof(why), "it does not list its items: %.*s",
		 (int)(line.len < WORDS_BYTES ? line.len : WORDS_BYTES), line.data);
	why[strcspn(why, "\r\n")] = '\0';
	fail(lister, why);
}

bool memcached_lister_next(struct memcached_lister *lister, struct mc_listed *item)
{
	struct mp_buffer *in = &lister->stream.in;
	struct mp_slice line;
	bool found = false;

	while (!found && !lister->is_failed && !lister->is_over &&
	       mc_next_listing_line(in, &line)) {
		enum mc_listing_line kind = mc_listing_line_of(line);

		found = kind == MC_LISTING_ITEM && mc_parse_listed(line, item);
		if (kind == MC_LISTING_LAST) {
			end(lister, line);
			mp_buffer_consume(in, line.len);
			return false;
		}
		mp_buffer_consume(in, line.len);
	}
	if (!lister->is_failed && !lister->is_over && mp_buffer_len(in) <= LISTED_BYTES)
		mp_stream_resume(&lister->stream);
	return found;
}
