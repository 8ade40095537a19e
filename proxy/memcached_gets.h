/*
 * memcached_gets.h - single keys that clients ask for: "get <key>" lines that
 * stand next to each other go to the server as one, because memcached answers
 * every line of gets with a system call of its own, and each of one such line
 * costs it less than half. Every client gets the answer to its own.
 */
#ifndef MP_MEMCACHED_GETS_H
#define MP_MEMCACHED_GETS_H

#include "backend_base.h"

/* A zeroed one with asked.item_bytes set is ready. */
struct memcached_gets {
	struct mp_fifo asked;  /* of struct memcached_asked, for all lines under way */
	struct mp_buffer keys; /* theirs */
	size_t line_end;       /* what wire.out held when the newest line was put there */
	size_t left;           /* bytes of a large value that are still to come */
};

struct memcached_asked {
	void *owner;
	size_t key_bytes;
};

/* Memory that is taken for what is under way. */
static inline size_t memcached_gets_bytes(const struct memcached_gets *gets)
{
	return gets->asked.count * sizeof(struct memcached_asked) + mp_buffer_len(&gets->keys);
}

/* Is it a line of this kind? Then *key is in it. */
bool memcached_gets_is_one(struct mp_slice line, struct mp_slice *key);
/* Ask for it. kind: of the slots, whose members are those still to be answered. */
void memcached_gets_ask(struct memcached_gets *gets, struct mp_base *base, uint8_t kind,
			struct mp_slice key, void *owner);
/* Tell what there is of the reply to the head, which is such a slot. DONE: that was all of it. */
enum mp_take memcached_gets_take(struct memcached_gets *gets, struct mp_base *base);
/* The connection is gone: tell the owners of the oldest such slot. */
void memcached_gets_lose(struct memcached_gets *gets, struct mp_base *base,
			 const struct mp_slot *slot);
/* ... of all of them, so begin anew. */
void memcached_gets_reset(struct memcached_gets *gets);
void memcached_gets_free(struct memcached_gets *gets);

#endif
