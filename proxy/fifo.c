/* fifo.c - see fifo.h. */
#include "fifo.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"

enum { FIRST_CAP = 64 };

void mp_fifo_grow(struct mp_fifo *fifo)
{
	size_t cap = fifo->cap ? fifo->cap * 2 : FIRST_CAP;
	size_t behind_head = fifo->cap - fifo->head;
	char *memory = calloc(cap, fifo->item_bytes);

	assert(fifo->item_bytes > 0 && fifo->count == fifo->cap);
	if (!memory) {
		mp_error("out of memory for a queue of %zu items", cap);
		abort();
	}
	/* Oldest first: what lies from the head to the array's end, then what wrapped around. */
	if (fifo->count > 0) {
		memcpy(memory, fifo->memory + fifo->head * fifo->item_bytes,
		       behind_head * fifo->item_bytes);
		memcpy(memory + behind_head * fifo->item_bytes, fifo->memory,
		       fifo->head * fifo->item_bytes);
	}
	free(fifo->memory);
	fifo->memory = memory;
	fifo->cap = cap;
	fifo->head = 0;
}

void mp_fifo_free(struct mp_fifo *fifo)
{
	free(fifo->memory);
	fifo->memory = NULL;
	fifo->head = fifo->count = fifo->cap = 0;
}
