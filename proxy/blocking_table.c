/* blocking_table.c - see blocking_table.h. */
#include "blocking_table.h"

#include <stdlib.h>
#include <string.h>

#include "state.h"

enum {
	LINKS_MAX = 1 << 18,
	TRIES = 4, /* where nobody knows how many elements a key got */
};

/* -------------------------------------------------------------------- keys */

static bool put_name(struct mp_buffer *name, uint32_t database, struct mp_slice key)
{
	mp_buffer_clear(name);
	return mp_buffer_append(name, &database, sizeof(database)) &&
	       mp_buffer_append(name, key.data, key.len);
}

struct mp_slice mp_wait_key_bytes(const struct mp_wait_key *key)
{
	return (struct mp_slice){key->name + sizeof(uint32_t), key->name_len - sizeof(uint32_t)};
}

struct mp_wait_key *mp_wait_find_key(struct mp_blocking *blocking, uint32_t database,
				     struct mp_slice bytes)
{
	struct mp_wait_key *key = NULL;

	if (put_name(&blocking->name, database, bytes))
		HASH_FIND(hh, blocking->keys, mp_buffer_data(&blocking->name),
			  mp_buffer_len(&blocking->name), key);
	return key;
}

static struct mp_wait_key *add_key(struct mp_blocking *blocking, uint32_t database,
				   struct mp_slice bytes)
{
	struct mp_wait_key *key = mp_wait_find_key(blocking, database, bytes);
	size_t len = mp_buffer_len(&blocking->name);

	if (key || len != sizeof(database) + bytes.len)
		return key;
	key = calloc(1, sizeof(*key) + len);
	if (!key)
		return NULL;
	TAILQ_INIT(&key->links);
	SLIST_INIT(&key->groups);
	key->name_len = len;
	memcpy(key->name, mp_buffer_data(&blocking->name), len);
	HASH_ADD(hh, blocking->keys, name, len, key);
	return key;
}

static void add_tries(uint32_t *tries, uint32_t elements)
{
	if (elements != MP_FEED_UNKNOWN)
		*tries += elements;
	else if (*tries < TRIES)
		*tries = TRIES;
}

void mp_wait_set_due(struct mp_blocking *blocking, struct mp_wait_key *key, unsigned kinds,
		     uint32_t elements)
{
	struct mp_wait_group *group;

	if (!key->is_due) {
		key->is_due = true;
		key->is_unsure = key->is_fed = false;
		key->kinds = key->tries = 0;
		TAILQ_INSERT_TAIL(&blocking->due, key, due);
	}
	key->cursor = TAILQ_FIRST(&key->links);
	key->kinds |= kinds;
	key->is_unsure |= elements == MP_FEED_UNKNOWN;
	add_tries(&key->tries, elements);
	if (kinds & MP_WAIT_GROUP)
		SLIST_FOREACH(group, &key->groups, next)
			add_tries(&group->tries, elements);
}

void mp_wait_clear_due(struct mp_blocking *blocking, struct mp_wait_key *key)
{
	struct mp_wait_group *group;

	if (!key->is_due)
		return;
	key->is_due = false;
	SLIST_FOREACH(group, &key->groups, next)
		group->tries = 0;
	TAILQ_REMOVE(&blocking->due, key, due);
}

/* False: out of memory. */
static bool join_group(struct mp_blocking *blocking, struct mp_wait_link *link,
		       struct mp_slice name)
{
	struct mp_wait_group *group;

	SLIST_FOREACH(group, &link->key->groups, next)
		if (mp_slice_equal((struct mp_slice){group->name, group->name_len}, name))
			break;
	if (!group) {
		group = calloc(1, sizeof(*group) + name.len);
		if (!group)
			return false;
		group->name_len = name.len;
		memcpy(group->name, name.data, name.len);
		SLIST_INSERT_HEAD(&link->key->groups, group, next);
	}
	group->waiters++;
	blocking->group_links++;
	link->group = group;
	return true;
}

static void leave_group(struct mp_blocking *blocking, struct mp_wait_link *link)
{
	struct mp_wait_group *group = link->group;

	if (!group)
		return;
	blocking->group_links--;
	if (--group->waiters > 0)
		return;
	SLIST_REMOVE(&link->key->groups, group, mp_wait_group, next);
	free(group);
}

static void remove_link(struct mp_blocking *blocking, struct mp_wait_link *link)
{
	struct mp_wait_key *key = link->key;

	if (key->cursor == link)
		key->cursor = TAILQ_NEXT(link, place);
	TAILQ_REMOVE(&key->links, link, place);
	blocking->links--;
	leave_group(blocking, link);
	if (!TAILQ_EMPTY(&key->links))
		return;
	mp_wait_clear_due(blocking, key);
	HASH_DEL(blocking->keys, key);
	free(key);
}

/* ----------------------------------------------------------------- waiters */

void mp_waiter_free(struct mp_proxy *proxy, struct mp_waiter *w)
{
	struct mp_blocking *blocking = &proxy->blocking;

	for (int i = 0; i < w->count; i++)
		remove_link(blocking, &w->links[i]);
	if (w->is_due)
		TAILQ_REMOVE(&blocking->again, w, due);
	blocking->blocked -= w->is_proven;
	blocking->bytes -= w->bytes;
	HASH_DEL(blocking->waiters, w);
	w->r->waiter = NULL;
	mp_bytes_release(&proxy->chunks, &w->resolved);
	free(w);
}

/* False: out of memory. */
static bool add_links(struct mp_blocking *blocking, struct mp_waiter *w,
		      const struct resp_request *request)
{
	for (int i = 0; i < w->form.keys; i++) {
		struct mp_wait_link *link = &w->links[i];

		link->waiter = w;
		link->key = add_key(blocking, w->r->meta.database,
				    request->argv[w->form.first_key + i]);
		if (!link->key)
			return false;
		TAILQ_INSERT_TAIL(&link->key->links, link, place);
		blocking->links++;
		w->count++;
		if (w->form.group && !join_group(blocking, link, request->argv[w->form.group]))
			return false;
	}
	return true;
}

struct mp_waiter *mp_waiter_add(struct mp_proxy *proxy, struct mp_request *r,
				const struct mp_blocking_form *form,
				const struct resp_request *request)
{
	struct mp_blocking *blocking = &proxy->blocking;
	struct mp_waiter *w;

	if (blocking->links + (size_t)form->keys > LINKS_MAX ||
	    blocking->bytes + r->charged > proxy->options.max_held_bytes / 2)
		return NULL;
	w = calloc(1, sizeof(*w) + (size_t)form->keys * sizeof(w->links[0]));
	if (!w)
		return NULL;
	w->r = r;
	w->form = *form;
	w->id[0] = r->origin.nonce;
	w->id[1] = r->origin.sequence;
	w->is_under_way = true;
	w->next_link = form->keys;
	w->bytes = r->charged;
	blocking->bytes += w->bytes;
	r->waiter = w;
	HASH_ADD(hh, blocking->waiters, id, sizeof(w->id), w);
	if (add_links(blocking, w, request))
		return w;
	mp_waiter_free(proxy, w);
	return NULL;
}
