/* memcached_keys.c - see memcached_keys.h. */
#include "memcached_keys.h"

#include <string.h>

#include "mc_request.h"

enum { KEPT_MAX = 4 * MEMCACHED_KEYS_SLICE }; /* there were many more than the last time */

bool memcached_keys_next(struct mp_slice *list, struct mp_slice *key)
{
	if (list->len < 1)
		return false;
	key->len = (unsigned char)*list->data;
	key->data = list->data + 1;
	if (key->len == 0 || key->len > MC_MAX_KEY_BYTES || key->len + 1 > list->len)
		return false;
	*list = (struct mp_slice){key->data + key->len, list->len - 1 - key->len};
	return true;
}

bool memcached_keys_put(struct mp_buffer *list, struct mp_slice key)
{
	unsigned char len = (unsigned char)key.len;
	char *room = mp_buffer_reserve(list, 1 + key.len);

	if (!room)
		return false;
	memcpy(room, &len, 1);
	memcpy(room + 1, key.data, key.len);
	mp_buffer_commit(list, 1 + key.len);
	return true;
}

/* ------------------------------------------------------------------ the listing */

static bool keep(struct memcached_keys *keys, const struct mc_listed *item)
{
	struct mp_slice key = {item->key, item->key_bytes};
	uint32_t bytes = item->bytes < UINT32_MAX ? (uint32_t)item->bytes : UINT32_MAX;

	if (keys->listed++ >= (uint64_t)KEPT_MAX * keys->slices ||
	    mc_key_hash(key) % keys->slices != keys->slice)
		return true;
	return mp_buffer_append(&keys->kept, &bytes, sizeof(bytes)) &&
	       memcached_keys_put(&keys->kept, key);
}

static void on_more(void *ctx)
{
	struct memcached_keys *keys = ctx;
	struct mc_listed item;

	while (!keys->is_failed && memcached_lister_next(&keys->lister, &item))
		keys->is_failed = !keep(keys, &item);
}

/* What was kept is good all the same. */
static void on_failed(void *ctx, const char *why)
{
	(void)why;
	((struct memcached_keys *)ctx)->is_failed = true;
}

static const struct memcached_lister_events events = {
	.more = on_more,
	.failed = on_failed,
};

static void begin(struct memcached_keys *keys, struct event_base *base,
		  const struct mp_address *address)
{
	if (++keys->slice >= keys->slices) {
		keys->slice = 0;
		keys->slices = 1 + (uint32_t)(keys->listed / MEMCACHED_KEYS_SLICE);
	}
	keys->listed = 0;
	keys->is_failed = false;
	keys->is_listing = memcached_lister_open(&keys->lister, base, address, &events, keys);
}

/* False: it goes on. */
static bool has_ended(struct memcached_keys *keys)
{
	if (!keys->lister.is_over && !keys->is_failed)
		return false;
	memcached_lister_close(&keys->lister);
	keys->is_listing = false;
	return true;
}

/* -------------------------------------------------------------------- the keys */

/* Of the next that was kept: how much its item has. */
static uint32_t next_bytes(const struct mp_buffer *kept)
{
	uint32_t bytes;

	memcpy(&bytes, mp_buffer_data(kept), sizeof(bytes));
	return bytes;
}

static unsigned take(struct memcached_keys *keys, unsigned max, struct mp_buffer *list)
{
	uint64_t bytes = 0;
	unsigned count = 0;

	while (count < max && mp_buffer_len(&keys->kept) > 0) {
		struct mp_slice rest = mp_buffer_slice(&keys->kept), key;

		bytes += next_bytes(&keys->kept);
		if (count > 0 && bytes > MEMCACHED_KEYS_ITEM_BYTES)
			break;
		rest = (struct mp_slice){rest.data + sizeof(uint32_t), rest.len - sizeof(uint32_t)};
		if (!memcached_keys_next(&rest, &key) || !memcached_keys_put(list, key))
			break;
		mp_buffer_consume(&keys->kept, sizeof(uint32_t) + 1 + key.len);
		count++;
	}
	return count;
}

unsigned memcached_keys_take(struct memcached_keys *keys, struct event_base *base,
			     const struct mp_address *address, unsigned max, struct mp_buffer *list)
{
	bool was_listing = keys->is_listing;

	if (was_listing && !has_ended(keys))
		return 0;
	if (mp_buffer_len(&keys->kept) == 0 && !was_listing) {
		begin(keys, base, address);
		return 0;
	}
	return take(keys, max, list);
}

void memcached_keys_close(struct memcached_keys *keys)
{
	if (keys->is_listing)
		memcached_lister_close(&keys->lister);
	mp_buffer_free(&keys->kept);
	*keys = (struct memcached_keys){0};
}
