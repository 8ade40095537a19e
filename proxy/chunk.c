/* chunk.c - see chunk.h. */
#include "chunk.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
	CHUNK_BYTES = 64 << 10,
	SHARED_MAX = CHUNK_BYTES / 4, /* what is larger gets a chunk of its own */
	FREE_MAX = 64,                /* chunks kept for later */
};

struct mp_chunk {
	struct mp_chunk *next; /* of the free ones */
	uint32_t holds;
	size_t used, cap;
	char *memory; /* behind this header, or a buffer's that was adopted */
};

static struct mp_chunk *chunk_new(size_t cap)
{
	struct mp_chunk *chunk = malloc(sizeof(*chunk) + cap);

	if (!chunk)
		return NULL;
	*chunk = (struct mp_chunk){.cap = cap, .memory = (char *)(chunk + 1)};
	return chunk;
}

static void chunk_free(struct mp_chunk *chunk)
{
	if (chunk->memory != (char *)(chunk + 1))
		free(chunk->memory);
	free(chunk);
}

static void let_go(struct mp_chunks *chunks, struct mp_chunk *chunk)
{
	assert(chunk->holds > 0);
	if (--chunk->holds > 0)
		return;
	if (chunk->cap != CHUNK_BYTES || chunk->memory != (char *)(chunk + 1) ||
	    chunks->free_count >= FREE_MAX) {
		chunk_free(chunk);
		return;
	}
	chunk->used = 0;
	chunk->next = chunks->free;
	chunks->free = chunk;
	chunks->free_count++;
}

/* A chunk to fill next; the pool holds it itself while it does. */
static bool renew(struct mp_chunks *chunks)
{
	struct mp_chunk *chunk = chunks->free;

	if (chunk) {
		chunks->free = chunk->next;
		chunks->free_count--;
	} else {
		chunk = chunk_new(CHUNK_BYTES);
		if (!chunk)
			return false;
	}
	chunk->holds = 1;
	if (chunks->current)
		let_go(chunks, chunks->current);
	chunks->current = chunk;
	return true;
}

bool mp_chunks_alloc(struct mp_chunks *chunks, size_t bytes, struct mp_bytes *out)
{
	struct mp_chunk *chunk;

	if (bytes > SHARED_MAX) {
		chunk = chunk_new(bytes);
		if (!chunk)
			return false;
	} else {
		/* Alone in it, the pool may start from its beginning again. */
		if (chunks->current && chunks->current->holds == 1)
			chunks->current->used = 0;
		if (!chunks->current || chunks->current->cap - chunks->current->used < bytes)
			if (!renew(chunks))
				return false;
		chunk = chunks->current;
	}
	chunk->holds++;
	*out = (struct mp_bytes){chunk, chunk->memory + chunk->used, bytes};
	chunk->used += (bytes + 7) & ~(size_t)7;
	if (chunk->used > chunk->cap)
		chunk->used = chunk->cap;
	return true;
}

bool mp_chunks_copy(struct mp_chunks *chunks, struct mp_slice from, struct mp_bytes *out)
{
	if (!mp_chunks_alloc(chunks, from.len, out))
		return false;
	if (from.len)
		memcpy(out->data, from.data, from.len);
	return true;
}

bool mp_chunks_adopt(struct mp_chunks *chunks, struct mp_buffer *from, struct mp_slice part,
		     struct mp_bytes *out)
{
	struct mp_buffer rest = {.keep_bytes = from->keep_bytes};
	const char *end = part.data + part.len;
	struct mp_chunk *chunk = chunk_new(0);

	(void)chunks;
	assert(part.data >= from->memory && end <= from->memory + from->end);
	if (!chunk)
		return false;
	if (!mp_buffer_append(&rest, end, (size_t)(from->memory + from->end - end))) {
		free(chunk);
		return false;
	}
	*chunk = (struct mp_chunk){
		.holds = 1, .used = from->cap, .cap = from->cap, .memory = from->memory};
	*out = (struct mp_bytes){chunk, from->memory + (part.data - from->memory), part.len};
	*from = rest;
	return true;
}

struct mp_bytes mp_bytes_share(const struct mp_bytes *bytes)
{
	if (bytes->chunk)
		bytes->chunk->holds++;
	return *bytes;
}

void mp_bytes_release(struct mp_chunks *chunks, struct mp_bytes *bytes)
{
	if (bytes->chunk)
		let_go(chunks, bytes->chunk);
	*bytes = (struct mp_bytes){0};
}

void mp_chunks_close(struct mp_chunks *chunks)
{
	if (chunks->current)
		let_go(chunks, chunks->current);
	while (chunks->free) {
		struct mp_chunk *chunk = chunks->free;

		chunks->free = chunk->next;
		chunk_free(chunk);
	}
	*chunks = (struct mp_chunks){0};
}
