/* deadlines.c - see deadlines.h. */
#include "deadlines.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	ARITY = 4,          /* of the heap: shallower than two, and children share cache lines */
	FIRST_BUCKETS = 64, /* a power of two */
	CLASS_BYTES = 32,   /* keys' memory is kept in classes of so many bytes */
};

/* -------------------------------------------------------------------- memory */

static struct mp_deadline *node_get(struct mp_deadlines *index, size_t key_bytes)
{
	size_t class = key_bytes / CLASS_BYTES;
	struct mp_deadline *node;

	if (class < MP_DEADLINE_CLASSES && index->spare[class]) {
		node = index->spare[class];
		index->spare[class] = node->chain;
		return node;
	}
	node = malloc(sizeof(*node) + (class + 1) * CLASS_BYTES);
	if (node)
		node->size_class =
			(uint8_t)(class < MP_DEADLINE_CLASSES ? class : MP_DEADLINE_CLASSES);
	return node;
}

static void node_put(struct mp_deadlines *index, struct mp_deadline *node)
{
	if (node->size_class == MP_DEADLINE_CLASSES) {
		free(node);
		return;
	}
	node->chain = index->spare[node->size_class];
	index->spare[node->size_class] = node;
}

static bool grow(void **array, size_t *cap, size_t wanted, size_t item_bytes, size_t least)
{
	size_t cap_now = *cap ? *cap * 2 : least;
	void *now;

	if (wanted <= *cap)
		return true;
	now = realloc(*array, cap_now * item_bytes);
	if (!now)
		return false;
	*array = now;
	*cap = cap_now;
	return true;
}

static void free_chain(struct mp_deadline *node)
{
	while (node) {
		struct mp_deadline *next = node->chain;

		free(node);
		node = next;
	}
}

void mp_deadlines_free(struct mp_deadlines *index)
{
	for (size_t i = 0; i < index->bucket_count; i++)
		free_chain(index->buckets[i]);
	for (size_t i = 0; i < MP_DEADLINE_CLASSES; i++)
		free_chain(index->spare[i]);
	free(index->buckets);
	free(index->heap);
	*index = (struct mp_deadlines){0};
}

/* ---------------------------------------------------------------------- heap */

static void put_at(struct mp_deadlines *index, size_t place, struct mp_deadline *node)
{
	index->heap[place].due_ms = node->due_ms;
	index->heap[place].of = node;
	node->place = place;
}

static void rise(struct mp_deadlines *index, struct mp_deadline *node, size_t place)
{
	while (place > 0) {
		size_t parent = (place - 1) / ARITY;

		if (index->heap[parent].due_ms <= node->due_ms)
			break;
		put_at(index, place, index->heap[parent].of);
		place = parent;
	}
	put_at(index, place, node);
}

static void sink(struct mp_deadlines *index, struct mp_deadline *node, size_t place)
{
	for (;;) {
		size_t first = place * ARITY + 1, least = first;

		if (first >= index->heap_count)
			break;
		for (size_t i = first + 1; i < first + ARITY && i < index->heap_count; i++)
			if (index->heap[i].due_ms < index->heap[least].due_ms)
				least = i;
		if (index->heap[least].due_ms >= node->due_ms)
			break;
		put_at(index, place, index->heap[least].of);
		place = least;
	}
	put_at(index, place, node);
}

static void heap_remove(struct mp_deadlines *index, struct mp_deadline *node)
{
	struct mp_deadline *last = index->heap[--index->heap_count].of;
	size_t place = node->place;

	assert(index->heap[place].of == node || last == node);
	if (last == node)
		return;
	if (last->due_ms < node->due_ms)
		rise(index, last, place);
	else
		sink(index, last, place);
}

/* There is room: every key has a place, though it may not be in the heap. */
static void heap_add(struct mp_deadlines *index, struct mp_deadline *node)
{
	node->state = MP_DEADLINE_QUEUED;
	rise(index, node, index->heap_count++);
}

static void move(struct mp_deadlines *index, struct mp_deadline *node, int64_t due_ms)
{
	int64_t before_ms = node->due_ms;

	node->due_ms = due_ms;
	if (due_ms < before_ms)
		rise(index, node, node->place);
	else
		sink(index, node, node->place);
}

/* --------------------------------------------------------------------- table */

static uint32_t hash_of(uint32_t database, struct mp_slice key)
{
	return (uint32_t)XXH3_64bits_withSeed(key.data, key.len, database);
}

/*
 * Linear hashing: with 2^n <= buckets < 2^(n+1), a hash's low n+1 bits name its
 * bucket if there is one of that number, else the low n bits do.
 */
static struct mp_deadline **bucket_of(const struct mp_deadlines *index, uint32_t hash)
{
	size_t size = FIRST_BUCKETS;

	while (size <= index->bucket_count / 2)
		size *= 2;
	if ((hash & (size * 2 - 1)) < index->bucket_count)
		return &index->buckets[hash & (size * 2 - 1)];
	return &index->buckets[hash & (size - 1)];
}

/* One more bucket, from whose buddy those keys move that belong there now. */
static void split(struct mp_deadlines *index)
{
	size_t number = index->bucket_count, size = FIRST_BUCKETS;
	struct mp_deadline **from, **to = &index->buckets[number];

	while (size * 2 <= number)
		size *= 2;
	from = &index->buckets[number - size];
	*to = NULL;
	index->bucket_count++;
	while (*from) {
		struct mp_deadline *node = *from;

		if ((node->hash & (size * 2 - 1)) != number) {
			from = &node->chain;
			continue;
		}
		*from = node->chain;
		node->chain = *to;
		*to = node;
	}
}

static bool make_room(struct mp_deadlines *index)
{
	if (!grow((void **)&index->heap, &index->heap_cap, index->count + 1, sizeof(*index->heap),
		  FIRST_BUCKETS) ||
	    !grow((void **)&index->buckets, &index->bucket_cap, index->bucket_count + 1,
		  sizeof(*index->buckets), FIRST_BUCKETS))
		return false;
	if (index->bucket_count == 0) {
		memset(index->buckets, 0, FIRST_BUCKETS * sizeof(*index->buckets));
		index->bucket_count = FIRST_BUCKETS;
	} else if (index->count >= index->bucket_count) {
		split(index);
	}
	return true;
}

static bool is_of(const struct mp_deadline *node, uint32_t hash, uint32_t database,
		  struct mp_slice key)
{
	return node->hash == hash && node->database == database && node->key_bytes == key.len &&
	       memcmp(node->key, key.data, key.len) == 0;
}

struct mp_deadline *mp_deadlines_find(const struct mp_deadlines *index, uint32_t database,
				      struct mp_slice key)
{
	uint32_t hash = hash_of(database, key);
	struct mp_deadline *node;

	if (index->count == 0)
		return NULL;
	for (node = *bucket_of(index, hash); node; node = node->chain)
		if (is_of(node, hash, database, key))
			return node;
	return NULL;
}

static bool add(struct mp_deadlines *index, uint32_t database, struct mp_slice key, int64_t due_ms,
		bool is_exact)
{
	struct mp_deadline *node, **bucket;
	uint8_t size_class;

	if (key.len > UINT32_MAX || !make_room(index))
		return false;
	node = node_get(index, key.len);
	if (!node)
		return false;
	size_class = node->size_class;
	*node = (struct mp_deadline){.due_ms = due_ms,
				     .hash = hash_of(database, key),
				     .database = database,
				     .key_bytes = (uint32_t)key.len,
				     .size_class = size_class,
				     .is_exact = is_exact};
	memcpy(node->key, key.data, key.len);
	bucket = bucket_of(index, node->hash);
	node->chain = *bucket;
	*bucket = node;
	index->count++;
	heap_add(index, node);
	return true;
}

bool mp_deadlines_set(struct mp_deadlines *index, uint32_t database, struct mp_slice key,
		      int64_t due_ms)
{
	struct mp_deadline *node = mp_deadlines_find(index, database, key);

	if (!node)
		return add(index, database, key, due_ms, true);
	node->is_exact = true;
	if (node->state == MP_DEADLINE_QUEUED)
		move(index, node, due_ms);
	else
		mp_deadlines_requeue(index, node, due_ms, true);
	return true;
}

bool mp_deadlines_lower(struct mp_deadlines *index, uint32_t database, struct mp_slice key,
			int64_t due_ms, bool is_exact)
{
	struct mp_deadline *node = mp_deadlines_find(index, database, key);

	if (!node)
		return add(index, database, key, due_ms, is_exact);
	if (node->due_ms != due_ms || !is_exact)
		node->is_exact = false;
	if (due_ms >= node->due_ms)
		return true;
	/* One that is asked about stays out until the answer is there. */
	if (node->state == MP_DEADLINE_QUEUED)
		move(index, node, due_ms);
	else
		node->due_ms = due_ms;
	return true;
}

void mp_deadlines_remove(struct mp_deadlines *index, struct mp_deadline *node)
{
	struct mp_deadline **link = bucket_of(index, node->hash);

	if (node->state == MP_DEADLINE_QUEUED)
		heap_remove(index, node);
	while (*link != node)
		link = &(*link)->chain;
	*link = node->chain;
	index->count--;
	node_put(index, node);
}

void mp_deadlines_ask(struct mp_deadlines *index, struct mp_deadline *node, uint64_t ask)
{
	if (node->state == MP_DEADLINE_QUEUED)
		heap_remove(index, node);
	node->state = MP_DEADLINE_ASKED;
	node->ask = ask;
	node->is_exact = false;
}

void mp_deadlines_requeue(struct mp_deadlines *index, struct mp_deadline *node, int64_t due_ms,
			  bool is_exact)
{
	assert(node->state != MP_DEADLINE_QUEUED);
	node->due_ms = due_ms;
	node->is_exact = is_exact;
	heap_add(index, node);
}

void mp_deadlines_fire(struct mp_deadlines *index, struct mp_deadline *node)
{
	heap_remove(index, node);
	node->state = MP_DEADLINE_FIRED;
}

void mp_deadlines_requeue_all(struct mp_deadlines *index)
{
	if (index->heap_count == index->count)
		return;
	for (size_t i = 0; i < index->bucket_count; i++) {
		struct mp_deadline *node;

		for (node = index->buckets[i]; node; node = node->chain)
			if (node->state != MP_DEADLINE_QUEUED)
				heap_add(index, node);
	}
}

/* Of many keys at once, in time that is linear in how many there are. */
static void heap_without(struct mp_deadlines *index, uint32_t database)
{
	size_t kept = 0;

	for (size_t i = 0; i < index->heap_count; i++)
		if (index->heap[i].of->database != database)
			put_at(index, kept++, index->heap[i].of);
	index->heap_count = kept;
	for (size_t i = kept / ARITY + 1; i-- > 0;)
		if (i < kept)
			sink(index, index->heap[i].of, i);
}

void mp_deadlines_flush(struct mp_deadlines *index, uint32_t database)
{
	heap_without(index, database);
	for (size_t i = 0; i < index->bucket_count; i++) {
		struct mp_deadline **link = &index->buckets[i];

		while (*link) {
			struct mp_deadline *node = *link;

			if (node->database != database) {
				link = &node->chain;
				continue;
			}
			*link = node->chain;
			index->count--;
			node_put(index, node);
		}
	}
}

bool mp_deadlines_swap(struct mp_deadlines *index, uint32_t one, uint32_t other)
{
	struct mp_deadlines swapped = {0};
	bool ok = true;

	if (one == other)
		return true;
	/* Built anew: where a key is hashed to depends on its database. */
	for (size_t i = 0; ok && i < index->bucket_count; i++) {
		const struct mp_deadline *node;

		for (node = index->buckets[i]; ok && node; node = node->chain) {
			uint32_t now = node->database == one     ? other
				       : node->database == other ? one
								 : node->database;
			struct mp_slice key = {node->key, node->key_bytes};

			ok = add(&swapped, now, key, node->due_ms, node->is_exact);
		}
	}
	if (ok) {
		mp_deadlines_free(index);
		*index = swapped;
	} else {
		mp_deadlines_free(&swapped);
	}
	return ok;
}
