/*
 * stream.h - bytes over one connection, for as long as it lasts: unlike a wire
 * (wire.h) it does not connect again, and unlike a link (link.h) it has no
 * frames. Whoever passes bytes on pauses it while they have nowhere to go.
 *
 * Its user is told everything from within the event loop, never from within a
 * function called here; he may close it from within an event.
 */
#ifndef MP_STREAM_H
#define MP_STREAM_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>

#include "buffer.h"
#include "net.h"

struct mp_stream_events {
	/* Connected. NULL where it was so from the beginning. */
	void (*up)(void *ctx);
	/* New bytes are at the end of stream->in: take them away. */
	void (*bytes)(void *ctx);
	/* What was put is sent to the end, after it was not for a while. May be NULL. */
	void (*drained)(void *ctx);
	/* It is over, or never came about; why is good during the call. Close it. */
	void (*closed)(void *ctx, const char *why);
};

/* A zeroed stream is closed. */
struct mp_stream {
	struct mp_buffer in, out;
	bool is_open;
	/* the rest is private */
	const struct mp_stream_events *events;
	void *ctx;
	int fd;
	int error; /* sending failed: to be told */
	bool is_connecting, is_paused, is_congested;
	struct event readable, writable;
};

/* Begin to connect. False: errno. */
bool mp_stream_connect(struct mp_stream *stream, struct event_base *base,
		       const struct mp_address *address, const struct mp_stream_events *events,
		       void *ctx);
/* Take a connected socket over. */
void mp_stream_adopt(struct mp_stream *stream, struct event_base *base, int fd,
		     const struct mp_stream_events *events, void *ctx);
/* Close it, if it is open, and give everything back; nothing is told any more. */
void mp_stream_close(struct mp_stream *stream);

/* Queue bytes; they go with the next flush. Out of memory ends the stream. */
void mp_stream_put(struct mp_stream *stream, const void *data, size_t bytes);
/* Send what is queued as far as the socket takes it; the rest follows by itself. */
void mp_stream_flush(struct mp_stream *stream);
void mp_stream_pause(struct mp_stream *stream);
void mp_stream_resume(struct mp_stream *stream);

#endif
