/* request.c - see request.h. */
#include "request.h"

#include <assert.h>
#include <stdlib.h>

#include "spill.h"

enum {
	SLAB_REQUESTS = 256,
	REPLY_KEEP_BYTES = 4096, /* reply memory that a request keeps for its next use */
};
/* A handle has to fit into mp_origin. */
#define MAX_SLABS ((1U << MP_ORIGIN_HANDLE_BITS) / SLAB_REQUESTS)

static bool add_slab(struct mp_requests *pool)
{
	struct mp_request **slabs;
	struct mp_request *slab;

	if (pool->slab_count == MAX_SLABS)
		return false;
	slabs = realloc(pool->slabs, (pool->slab_count + 1) * sizeof(*slabs));
	if (!slabs)
		return false;
	pool->slabs = slabs;
	slab = calloc(SLAB_REQUESTS, sizeof(*slab));
	if (!slab)
		return false;
	for (uint32_t i = SLAB_REQUESTS; i-- > 0;) {
		slab[i].handle = pool->slab_count * SLAB_REQUESTS + i;
		slab[i].next = pool->free;
		pool->free = &slab[i];
	}
	pool->slabs[pool->slab_count++] = slab;
	return true;
}

struct mp_request *mp_requests_get(struct mp_requests *pool)
{
	struct mp_request *r;

	if (!pool->free && !add_slab(pool))
		return NULL;
	r = pool->free;
	assert(r->state == MP_REQUEST_FREE);
	pool->free = r->next;
	if (pool->free)
		__builtin_prefetch(pool->free, 1); /* it has left the caches, if many are in use */
	r->next = NULL;
	r->state = MP_REQUEST_WAITING;
	pool->count++;
	return r;
}

void mp_requests_put(struct mp_requests *pool, struct mp_chunks *chunks, struct mp_request *r)
{
	const uint32_t handle = r->handle;
	struct mp_buffer kept;

	assert(r->state != MP_REQUEST_FREE && pool->count > 0);
	assert(pool->bytes >= r->charged);
	pool->bytes -= r->charged;
	pool->count--;
	if (r->twin)
		r->twin->twin = NULL;
	mp_bytes_release(chunks, &r->raw);
	mp_bytes_release(chunks, &r->question);
	mp_bytes_release(chunks, &r->canned);
	mp_spill_close(r->spill);
	if (r->reply.cap > REPLY_KEEP_BYTES)
		mp_buffer_free(&r->reply);
	kept = (struct mp_buffer){
		.memory = r->reply.memory, .cap = r->reply.cap, .keep_bytes = r->reply.keep_bytes};
	*r = (struct mp_request){.handle = handle, .reply = kept, .next = pool->free};
	pool->free = r;
}

struct mp_request *mp_requests_at(const struct mp_requests *pool, uint32_t handle)
{
	if (handle / SLAB_REQUESTS >= pool->slab_count)
		return NULL;
	return &pool->slabs[handle / SLAB_REQUESTS][handle % SLAB_REQUESTS];
}

void mp_requests_charge(struct mp_requests *pool, struct mp_request *r)
{
	pool->bytes -= r->charged;
	r->charged = sizeof(*r) + r->raw.len + r->canned.len + mp_buffer_len(&r->reply);
	pool->bytes += r->charged;
}

bool mp_requests_keep(struct mp_requests *pool, struct mp_request *r, struct mp_spills *spills,
		      struct mp_slice piece)
{
	bool ok;

	/* What is to be completed has to be in memory. */
	if (!r->spill && !r->meta.blanks &&
	    mp_buffer_len(&r->reply) + piece.len > MP_SPILL_FROM_BYTES)
		r->spill = mp_spill_open(spills);
	ok = r->spill ? mp_spill_append(r->spill, piece)
		      : mp_buffer_append(&r->reply, piece.data, piece.len);
	mp_requests_charge(pool, r);
	return ok;
}

void mp_requests_unkeep(struct mp_requests *pool, struct mp_request *r)
{
	mp_spill_close(r->spill);
	r->spill = NULL;
	mp_buffer_free(&r->reply);
	mp_requests_charge(pool, r);
}

void mp_requests_close(struct mp_requests *pool)
{
	for (uint32_t i = 0; i < pool->slab_count; i++) {
		for (uint32_t k = 0; k < SLAB_REQUESTS; k++)
			mp_buffer_free(&pool->slabs[i][k].reply);
		free(pool->slabs[i]);
	}
	free(pool->slabs);
	*pool = (struct mp_requests){0};
}
