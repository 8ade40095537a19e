/* stream.c - see stream.h. */
#include "stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	READ_BYTES = 256 << 10,
	KEEP_BYTES = 1 << 20,
};

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct mp_stream *stream = ctx;
	ssize_t n;

	(void)what;
	if (stream->error) {
		stream->events->closed(stream->ctx, strerror(stream->error));
		return;
	}
	n = mp_buffer_receive(&stream->in, fd, READ_BYTES);
	if (n > 0)
		stream->events->bytes(stream->ctx);
	else if (n == 0)
		stream->events->closed(stream->ctx, "the other end closed it");
	else if (errno != EAGAIN && errno != EWOULDBLOCK)
		stream->events->closed(stream->ctx, strerror(errno));
}

/* Told from the loop: who puts bytes may be in the middle of something. */
static void break_off(struct mp_stream *stream, int error)
{
	stream->error = error;
	event_active(&stream->readable, EV_READ, 1);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct mp_stream *stream = ctx;
	bool was_connecting = stream->is_connecting;

	(void)what;
	stream->is_congested = stream->is_connecting = false;
	if (was_connecting) {
		int error = mp_connect_result(fd);

		if (error) {
			stream->events->closed(stream->ctx, strerror(error));
			return;
		}
		if (!stream->is_paused)
			event_add(&stream->readable, NULL);
		stream->events->up(stream->ctx);
		return;
	}
	mp_stream_flush(stream);
	if (!stream->is_congested && !stream->error && stream->events->drained)
		stream->events->drained(stream->ctx);
}

static void open_stream(struct mp_stream *stream, struct event_base *base, int fd,
			const struct mp_stream_events *events, void *ctx)
{
	assert(!stream->is_open);
	*stream = (struct mp_stream){.is_open = true, .fd = fd, .events = events, .ctx = ctx};
	stream->in.keep_bytes = stream->out.keep_bytes = KEEP_BYTES;
	event_assign(&stream->readable, base, fd, EV_READ | EV_PERSIST, on_readable, stream);
	event_assign(&stream->writable, base, fd, EV_WRITE, on_writable, stream);
}

bool mp_stream_connect(struct mp_stream *stream, struct event_base *base,
		       const struct mp_address *address, const struct mp_stream_events *events,
		       void *ctx)
{
	int fd = mp_connect_begin(address, 0);

	if (fd < 0)
		return false;
	open_stream(stream, base, fd, events, ctx);
	stream->is_connecting = true;
	event_add(&stream->writable, NULL);
	return true;
}

void mp_stream_adopt(struct mp_stream *stream, struct event_base *base, int fd,
		     const struct mp_stream_events *events, void *ctx)
{
	open_stream(stream, base, fd, events, ctx);
	event_add(&stream->readable, NULL);
}

void mp_stream_close(struct mp_stream *stream)
{
	if (!stream->is_open)
		return;
	event_del(&stream->readable);
	event_del(&stream->writable);
	close(stream->fd);
	mp_buffer_free(&stream->in);
	mp_buffer_free(&stream->out);
	stream->is_open = false;
}

void mp_stream_put(struct mp_stream *stream, const void *data, size_t bytes)
{
	if (stream->is_open && !stream->error && !mp_buffer_append(&stream->out, data, bytes))
		break_off(stream, ENOMEM);
}

void mp_stream_flush(struct mp_stream *stream)
{
	if (!stream->is_open || stream->error || stream->is_connecting || stream->is_congested ||
	    mp_buffer_len(&stream->out) == 0)
		return;
	if (!mp_buffer_send(&stream->out, stream->fd)) {
		break_off(stream, errno);
	} else if (mp_buffer_len(&stream->out) > 0) {
		stream->is_congested = true;
		event_add(&stream->writable, NULL);
	}
}

void mp_stream_pause(struct mp_stream *stream)
{
	if (stream->is_open && !stream->is_paused && !stream->error)
		event_del(&stream->readable);
	stream->is_paused = true;
}

void mp_stream_resume(struct mp_stream *stream)
{
	if (stream->is_open && stream->is_paused && !stream->is_connecting)
		event_add(&stream->readable, NULL);
	stream->is_paused = false;
}
