/* redis_console.c - see redis_console.h. */
#include "redis_console.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

static void take_answer(struct redis_console *console, redisReply *reply)
{
	redis_console_answer *answer = NULL;

	if (console->asked.count > 0) {
		answer = *(redis_console_answer **)mp_fifo_at(&console->asked, 0);
		mp_fifo_pop(&console->asked);
	}
	if (answer)
		answer(console->ctx, reply);
	freeReplyObject(reply);
}

static void on_bytes(void *ctx)
{
	struct redis_console *console = ctx;
	struct mp_buffer *in = &console->stream.in;
	void *reply;

	if (redisReaderFeed(console->reader, mp_buffer_data(in), mp_buffer_len(in)) != REDIS_OK) {
		console->closed(console->ctx, "it does not speak Redis's protocol");
		return;
	}
	mp_buffer_clear(in);
	for (;;) {
		if (redisReaderGetReply(console->reader, &reply) != REDIS_OK) {
			console->closed(console->ctx, "it does not speak Redis's protocol");
			return;
		}
		if (!reply)
			break;
		take_answer(console, reply);
	}
	mp_stream_flush(&console->stream);
}

static void on_up(void *ctx)
{
	struct redis_console *console = ctx;

	mp_stream_flush(&console->stream);
}

static void on_closed(void *ctx, const char *why)
{
	struct redis_console *console = ctx;

	console->closed(console->ctx, why);
}

static const struct mp_stream_events events = {
	.up = on_up,
	.bytes = on_bytes,
	.closed = on_closed,
};

bool redis_console_open(struct redis_console *console, struct event_base *base,
			const struct mp_address *address, const char *password,
			void (*closed)(void *ctx, const char *why), void *ctx)
{
	*console = (struct redis_console){.closed = closed, .ctx = ctx};
	console->asked.item_bytes = sizeof(redis_console_answer *);
	console->reader = redisReaderCreate();
	if (!console->reader) {
		errno = ENOMEM;
		return false;
	}
	if (!mp_stream_connect(&console->stream, base, address, &events, console)) {
		redis_console_close(console);
		return false;
	}
	if (password)
		redis_console_ask(console, NULL, "AUTH %s", password);
	return true;
}

void redis_console_close(struct redis_console *console)
{
	mp_stream_close(&console->stream);
	if (console->reader)
		redisReaderFree(console->reader);
	console->reader = NULL;
	mp_fifo_free(&console->asked);
}

void redis_console_ask(struct redis_console *console, redis_console_answer *answer,
		       const char *format, ...)
{
	char *wire = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = redisvFormatCommand(&wire, format, args);
	va_end(args);
	if (len < 0)
		abort(); /* out of memory for a line: as in fifo.h */
	redis_console_send(console, answer, (struct mp_slice){wire, (size_t)len});
	free(wire);
}

void redis_console_send(struct redis_console *console, redis_console_answer *answer,
			struct mp_slice wire)
{
	mp_stream_put(&console->stream, wire.data, wire.len);
	*(redis_console_answer **)mp_fifo_push(&console->asked) = answer;
	mp_stream_flush(&console->stream);
}
