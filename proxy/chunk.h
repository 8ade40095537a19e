/*
 * chunk.h - where the bytes of requests live: big pieces of memory that many
 * requests share, each holding it until it is answered. So a request costs no
 * allocation, and its bytes stay where they are, whatever becomes of it: held,
 * batched, relayed, sent again.
 */
#ifndef MP_CHUNK_H
#define MP_CHUNK_H

#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"
#include "slice.h"

struct mp_chunk;

/* Bytes in a chunk, and a hold on it. A zeroed one is empty and holds nothing. */
struct mp_bytes {
	struct mp_chunk *chunk;
	char *data;
	size_t len;
};

/* A zeroed pool is ready. Data thread only. */
struct mp_chunks {
	struct mp_chunk *current; /* being filled */
	struct mp_chunk *free;
	unsigned free_count;
};

/* Room for exactly this many bytes, to be written by the caller. False: out of memory. */
bool mp_chunks_alloc(struct mp_chunks *chunks, size_t bytes, struct mp_bytes *out);
bool mp_chunks_copy(struct mp_chunks *chunks, struct mp_slice from, struct mp_bytes *out);
/*
 * Take over a buffer's memory, of which part is what is wanted, instead of
 * copying it (large values). What lies behind part stays in the buffer.
 */
bool mp_chunks_adopt(struct mp_chunks *chunks, struct mp_buffer *from, struct mp_slice part,
		     struct mp_bytes *out);
/* Another hold on the same bytes. */
struct mp_bytes mp_bytes_share(const struct mp_bytes *bytes);
/* Lets go; *bytes is then empty. */
void mp_bytes_release(struct mp_chunks *chunks, struct mp_bytes *bytes);
void mp_chunks_close(struct mp_chunks *chunks);

static inline struct mp_slice mp_bytes_slice(const struct mp_bytes *bytes)
{
	return (struct mp_slice){bytes->data, bytes->len};
}

#endif
