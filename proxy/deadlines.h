/*
 * deadlines.h - when which key is due: an index of (database, key), hashed for
 * look-up and heaped by time. It knows what it is told (expiry.h says by whom)
 * and no backends, logs or clocks.
 *
 * What it holds of a key is a lower bound: if the key has a deadline, that is
 * not before due_ms. is_exact: it is just that. A key that is listed here may
 * have lost its deadline, or be gone; one that is not has none.
 */
#ifndef MP_DEADLINES_H
#define MP_DEADLINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

enum mp_deadline_state {
	MP_DEADLINE_QUEUED, /* in the heap */
	MP_DEADLINE_FIRED,  /* on its way to being expired */
	MP_DEADLINE_ASKED,  /* the backend is being asked for the real one */
};

struct mp_deadline {
	struct mp_deadline *chain; /* in its bucket; of a spare one: the next */
	int64_t due_ms;
	uint64_t ask; /* ASKED: which question it is that counts */
	size_t place; /* QUEUED: in the heap */
	uint32_t hash, database, key_bytes;
	uint8_t state, size_class;
	bool is_exact;
	char key[];
};

enum { MP_DEADLINE_CLASSES = 8 }; /* of memory that is kept for the next key */

/* A zeroed one is empty and ready. */
struct mp_deadlines {
	struct mp_deadline **buckets; /* linear hashing: one is split for every key that comes */
	size_t bucket_count, bucket_cap;
	struct {
		int64_t due_ms;
		struct mp_deadline *of;
	} * heap; /* of four children each */
	size_t heap_count, heap_cap;
	size_t count; /* keys */
	struct mp_deadline *spare[MP_DEADLINE_CLASSES];
};

void mp_deadlines_free(struct mp_deadlines *index);

struct mp_deadline *mp_deadlines_find(const struct mp_deadlines *index, uint32_t database,
				      struct mp_slice key);
/* If the key has a deadline it is due_ms. False: out of memory, nothing has changed. */
bool mp_deadlines_set(struct mp_deadlines *index, uint32_t database, struct mp_slice key,
		      int64_t due_ms);
/* Its deadline may be due_ms, or !is_exact: one not before that, as well as what it was. */
bool mp_deadlines_lower(struct mp_deadlines *index, uint32_t database, struct mp_slice key,
			int64_t due_ms, bool is_exact);
void mp_deadlines_remove(struct mp_deadlines *index, struct mp_deadline *deadline);
/* Wait for the answer to question `ask` before it is looked at again. */
void mp_deadlines_ask(struct mp_deadlines *index, struct mp_deadline *deadline, uint64_t ask);
/* Back into the heap, FIRED or ASKED as it may be, with another bound. */
void mp_deadlines_requeue(struct mp_deadlines *index, struct mp_deadline *deadline, int64_t due_ms,
			  bool is_exact);

/* When the next one is due; INT64_MAX: never. */
static inline int64_t mp_deadlines_next_ms(const struct mp_deadlines *index)
{
	return index->heap_count > 0 ? index->heap[0].due_ms : INT64_MAX;
}
/* The one that is due next; NULL: none is QUEUED. */
static inline struct mp_deadline *mp_deadlines_first(const struct mp_deadlines *index)
{
	return index->heap_count > 0 ? index->heap[0].of : NULL;
}
/* It is FIRED now. */
void mp_deadlines_fire(struct mp_deadlines *index, struct mp_deadline *deadline);
/* Every one that is FIRED or ASKED is QUEUED again. */
void mp_deadlines_requeue_all(struct mp_deadlines *index);

/* FLUSHDB, SWAPDB. */
void mp_deadlines_flush(struct mp_deadlines *index, uint32_t database);
bool mp_deadlines_swap(struct mp_deadlines *index, uint32_t one, uint32_t other);

#endif
