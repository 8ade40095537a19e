/* buffer.c - see buffer.h. */
#include "buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { MIN_CAP = 4096 };

void mp_buffer_free(struct mp_buffer *buffer)
{
	free(buffer->memory);
	buffer->memory = NULL;
	buffer->start = buffer->end = buffer->cap = 0;
}

/* Back to empty; a memory that grew beyond what is worth keeping goes. */
static void reset(struct mp_buffer *buffer)
{
	size_t keep = buffer->keep_bytes ? buffer->keep_bytes : MP_BUFFER_KEEP_BYTES;

	buffer->start = buffer->end = 0;
	if (buffer->cap > keep)
		mp_buffer_free(buffer);
}

/*
 * Moving what is there to the front is cheap as long as it is no more than the
 * room gained in front of it: then every byte is moved at most once for each
 * byte consumed.
 */
static bool can_slide(const struct mp_buffer *buffer, size_t bytes)
{
	size_t used = mp_buffer_len(buffer);

	return used <= buffer->start && buffer->cap - used >= bytes;
}

static bool grow(struct mp_buffer *buffer, size_t bytes)
{
	size_t used = mp_buffer_len(buffer);
	size_t cap = buffer->cap > MIN_CAP ? buffer->cap : MIN_CAP;
	char *memory;

	if (bytes > SIZE_MAX / 4 - used)
		return false;
	while (cap - used < bytes)
		cap *= 2;
	memory = malloc(cap);
	if (!memory)
		return false;
	if (used)
		memcpy(memory, buffer->memory + buffer->start, used);
	free(buffer->memory);
	buffer->memory = memory;
	buffer->start = 0;
	buffer->end = used;
	buffer->cap = cap;
	return true;
}

char *mp_buffer_reserve(struct mp_buffer *buffer, size_t bytes)
{
	assert(buffer->start <= buffer->end && buffer->end <= buffer->cap);
	if (mp_buffer_room(buffer) < bytes || !buffer->memory) {
		if (buffer->memory && can_slide(buffer, bytes)) {
			size_t used = mp_buffer_len(buffer);

			memmove(buffer->memory, buffer->memory + buffer->start, used);
			buffer->start = 0;
			buffer->end = used;
		} else if (!grow(buffer, bytes)) {
			errno = ENOMEM;
			return NULL;
		}
	}
	assert(mp_buffer_room(buffer) >= bytes);
	return buffer->memory + buffer->end;
}

void mp_buffer_commit(struct mp_buffer *buffer, size_t bytes)
{
	assert(bytes <= mp_buffer_room(buffer));
	buffer->end += bytes;
}

bool mp_buffer_append(struct mp_buffer *buffer, const void *data, size_t bytes)
{
	char *room;

	if (bytes == 0)
		return true;
	room = mp_buffer_reserve(buffer, bytes);
	if (!room)
		return false;
	memcpy(room, data, bytes);
	mp_buffer_commit(buffer, bytes);
	return true;
}

void mp_buffer_consume(struct mp_buffer *buffer, size_t bytes)
{
	assert(bytes <= mp_buffer_len(buffer));
	buffer->start += bytes;
	if (buffer->start == buffer->end)
		reset(buffer);
}

void mp_buffer_trim(struct mp_buffer *buffer, size_t bytes)
{
	assert(bytes <= mp_buffer_len(buffer));
	buffer->end -= bytes;
}

void mp_buffer_clear(struct mp_buffer *buffer)
{
	reset(buffer);
}

ssize_t mp_buffer_receive(struct mp_buffer *buffer, int fd, size_t want)
{
	char *room = mp_buffer_reserve(buffer, want ? want : 1);
	ssize_t n;

	if (!room)
		return -1;
	do
		n = recv(fd, room, mp_buffer_room(buffer), 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		mp_buffer_commit(buffer, (size_t)n);
	return n;
}

bool mp_buffer_send(struct mp_buffer *buffer, int fd)
{
	return mp_buffer_send_with(buffer, fd, NULL, 0);
}

/* One sendmsg of two pieces; bytes taken, 0 if the socket is full, -1: errno. */
static ssize_t send_two(int fd, struct mp_slice first, struct mp_slice second)
{
	struct iovec pieces[2] = {
		{(void *)first.data, first.len},
		{(void *)second.data, second.len},
	};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
	ssize_t n;

	if (first.len == 0) {
		message.msg_iov = pieces + 1;
		message.msg_iovlen = 1;
	}
	do
		n = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	return n;
}

bool mp_buffer_send_with(struct mp_buffer *buffer, int fd, const void *data, size_t bytes)
{
	struct mp_slice rest = {data, bytes};

	while (mp_buffer_len(buffer) + rest.len > 0) {
		size_t own = mp_buffer_len(buffer);
		size_t offered = own + rest.len;
		ssize_t n = send_two(fd, mp_buffer_slice(buffer), rest);

		if (n < 0)
			return false;
		if ((size_t)n <= own) {
			mp_buffer_consume(buffer, (size_t)n);
		} else {
			mp_buffer_consume(buffer, own);
			rest.data += (size_t)n - own;
			rest.len -= (size_t)n - own;
		}
		/* A socket that took less than it was offered is full. */
		if ((size_t)n < offered)
			break;
	}
	return mp_buffer_append(buffer, rest.data, rest.len);
}
