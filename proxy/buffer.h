/*
 * buffer.h - a growable queue of bytes: put at the end, taken from the front,
 * always contiguous, so a parser sees what is unconsumed as one piece.
 *
 * Its memory is kept between uses, so in steady state nothing is allocated;
 * but once it runs empty while larger than keep_bytes, the memory is given
 * back, so that one huge message does not cost its size for ever.
 *
 * A zeroed buffer is ready to use, with MP_BUFFER_KEEP_BYTES. Pointers into it
 * are good until the next reserve or append (it may move) or until consumed.
 * Nothing here bounds a buffer's growth: who fills it looks at mp_buffer_len().
 */
#ifndef MP_BUFFER_H
#define MP_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "slice.h"

#define MP_BUFFER_KEEP_BYTES ((size_t)64 << 10)

struct mp_buffer {
	char *memory;
	size_t start, end; /* what is in use of memory: [start, end) */
	size_t cap;        /* bytes of memory */
	size_t keep_bytes; /* memory kept when empty; 0: MP_BUFFER_KEEP_BYTES */
};

/* Gives the memory back; the buffer is then empty and ready for use. */
void mp_buffer_free(struct mp_buffer *buffer);

static inline size_t mp_buffer_len(const struct mp_buffer *buffer)
{
	return buffer->end - buffer->start;
}

/* The unconsumed bytes. NULL if the buffer never held any. */
static inline char *mp_buffer_data(const struct mp_buffer *buffer)
{
	return buffer->memory ? buffer->memory + buffer->start : NULL;
}

static inline struct mp_slice mp_buffer_slice(const struct mp_buffer *buffer)
{
	return (struct mp_slice){mp_buffer_data(buffer), mp_buffer_len(buffer)};
}

/* Bytes that can be put in without allocating or moving anything. */
static inline size_t mp_buffer_room(const struct mp_buffer *buffer)
{
	return buffer->cap - buffer->end;
}

/*
 * Room for at least bytes behind what is there. Returns where they go (write
 * there, then mp_buffer_commit what was written); NULL: out of memory, the
 * buffer is as it was.
 */
char *mp_buffer_reserve(struct mp_buffer *buffer, size_t bytes);

/* bytes, at most what was reserved, were written there and belong to the buffer now. */
void mp_buffer_commit(struct mp_buffer *buffer, size_t bytes);

/* Copies bytes to the end. False: out of memory, nothing was put. */
bool mp_buffer_append(struct mp_buffer *buffer, const void *data, size_t bytes);

/* Takes bytes, at most mp_buffer_len(), away from the front. */
void mp_buffer_consume(struct mp_buffer *buffer, size_t bytes);

/* Takes bytes, at most mp_buffer_len(), away from the end again. */
void mp_buffer_trim(struct mp_buffer *buffer, size_t bytes);

/* Takes everything away. */
void mp_buffer_clear(struct mp_buffer *buffer);

/*
 * Receive from a socket whatever is there, up to the room left but at least
 * want bytes of it (so that a large message can be read with few calls).
 * Returns bytes received; 0: the peer closed; -1: errno (EAGAIN: nothing there;
 * ENOMEM). EINTR is dealt with.
 */
ssize_t mp_buffer_receive(struct mp_buffer *buffer, int fd, size_t want);

/*
 * Send from the front of the buffer as much as the socket takes, and consume
 * it. True: all went or the socket is full (look at mp_buffer_len()); false:
 * the connection is broken, errno. Never raises SIGPIPE.
 */
bool mp_buffer_send(struct mp_buffer *buffer, int fd);

/*
 * As mp_buffer_send, with bytes behind the buffer's that are copied into it
 * only as far as the socket did not take them: a large message that can go at
 * once is not copied. False: broken connection, or ENOMEM.
 */
bool mp_buffer_send_with(struct mp_buffer *buffer, int fd, const void *data, size_t bytes);

#endif
