/*
 * fifo.h - a queue of small items of one size in an array that grows by
 * doubling and is kept: in steady state nothing is allocated.
 *
 * A zeroed fifo with item_bytes set is ready. Pointers to items are good until
 * the next push. Growing aborts if there is no memory: an item stands for
 * something already promised, and there is no way on without it.
 */
#ifndef MP_FIFO_H
#define MP_FIFO_H

#include <assert.h>
#include <stddef.h>

struct mp_fifo {
	size_t item_bytes;
	size_t head;  /* index of the oldest */
	size_t count; /* items in it */
	size_t cap;   /* items there is room for: a power of two, or 0 */
	char *memory;
};

void mp_fifo_grow(struct mp_fifo *fifo);
/* Gives the memory back; the fifo is then empty and ready for use. */
void mp_fifo_free(struct mp_fifo *fifo);

/* The i-th oldest. */
static inline void *mp_fifo_at(const struct mp_fifo *fifo, size_t i)
{
	assert(i < fifo->count);
	return fifo->memory + ((fifo->head + i) & (fifo->cap - 1)) * fifo->item_bytes;
}

/* A place for a new item at the end, its bytes undefined. */
static inline void *mp_fifo_push(struct mp_fifo *fifo)
{
	if (fifo->count == fifo->cap)
		mp_fifo_grow(fifo);
	fifo->count++;
	return mp_fifo_at(fifo, fifo->count - 1);
}

/* The newest. */
static inline void *mp_fifo_tail(const struct mp_fifo *fifo)
{
	return mp_fifo_at(fifo, fifo->count - 1);
}

/* Takes the oldest away. */
static inline void mp_fifo_pop(struct mp_fifo *fifo)
{
	assert(fifo->count > 0);
	fifo->head = (fifo->head + 1) & (fifo->cap - 1);
	fifo->count--;
}

static inline void mp_fifo_clear(struct mp_fifo *fifo)
{
	fifo->head = fifo->count = 0;
}

#endif
