/* memcached_adopt.c - see memcached_adopt.h. */
#include "memcached_adopt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memcached_reader.h"
#include "state.h"

enum {
	BACKLOG_BYTES = 1 << 20,  /* that the server here has not answered: the seed waits */
	ITEM_OVERHEAD_BYTES = 56, /* that a server counts beside a key and its value */
};

struct memcached_adopt {
	struct mp_proxy *proxy;
	enum {
		PHASE_EMPTYING,
		PHASE_COPYING,
		PHASE_SETTLING,
	} phase;
	struct memcached_reader reader;
	uint64_t count, total_count, bytes, total_bytes;
	uint64_t moved_ns; /* when there was a sign of life last */
};

static struct mp_backend *backend_of(const struct memcached_adopt *a)
{
	return mp_target_of(a->proxy, MP_MEMCACHED)->backend;
}

static void show(struct memcached_adopt *a)
{
	a->moved_ns = mp_now_ns(a->proxy);
	mp_adopt_count(a->proxy, a->count, a->total_count);
	mp_adopt_show(a->proxy, MP_TRANSFER_RECEIVING, a->bytes, a->total_bytes);
}

/* ------------------------------------------------------------------ what is read */

static void on_total(void *ctx, uint64_t items, uint64_t bytes)
{
	struct memcached_adopt *a = ctx;

	a->total_count = items;
	a->total_bytes = bytes;
	show(a);
}

static bool has_room(const struct memcached_adopt *a)
{
	return backend_of(a)->ops->backlog(backend_of(a)) < BACKLOG_BYTES;
}

static bool on_item(void *ctx, struct memcached_command command)
{
	struct memcached_adopt *a = ctx;

	if (mp_target_of(a->proxy, MP_MEMCACHED)->state != MP_BACKEND_READY)
		return false; /* the turn tells */
	mp_backend_memcached_say(backend_of(a), command);
	a->count++;
	a->bytes += command.line.len + command.block.len + ITEM_OVERHEAD_BYTES;
	return has_room(a);
}

static void on_read(void *ctx)
{
	struct memcached_adopt *a = ctx;

	if (mp_target_of(a->proxy, MP_MEMCACHED)->state == MP_BACKEND_READY)
		backend_of(a)->ops->flush(backend_of(a));
	show(a);
}

static void on_end(void *ctx)
{
	((struct memcached_adopt *)ctx)->phase = PHASE_SETTLING;
}

static void on_failed(void *ctx, const char *why)
{
	mp_adopt_fail(((struct memcached_adopt *)ctx)->proxy, "%s", why);
}

static const struct memcached_reader_events events = {
	.total = on_total,
	.item = on_item,
	.read = on_read,
	.end = on_end,
	.failed = on_failed,
};

/* -------------------------------------------------------------------- the whole */

static void copy(struct memcached_adopt *a)
{
	struct mp_proxy *proxy = a->proxy;

	mp_info("memcached: adopting the data of seed %s", proxy->options.memcached_seed);
	a->phase = PHASE_COPYING;
	if (!memcached_reader_open(&a->reader, proxy->base, &proxy->adopt.memcached_address,
				   &events, a))
		mp_adopt_fail(proxy, "%s", strerror(errno));
}

/* The server here, while it is READY. */
static void go_on(struct memcached_adopt *a)
{
	switch (a->phase) {
	case PHASE_EMPTYING:
		if (mp_backend_memcached_is_partial(backend_of(a)))
			copy(a);
		break;
	case PHASE_COPYING:
		if (a->reader.is_full && has_room(a))
			memcached_reader_resume(&a->reader);
		break;
	case PHASE_SETTLING:
		if (backend_of(a)->ops->backlog(backend_of(a)) == 0)
			mp_adopt_done(a->proxy);
		break;
	}
}

uint64_t memcached_adopt_turn(struct memcached_adopt *a, uint64_t now_ns)
{
	const struct mp_target *target = mp_target_of(a->proxy, MP_MEMCACHED);

	if (target->state == MP_BACKEND_READY)
		go_on(a);
	else if (a->phase != PHASE_EMPTYING)
		mp_adopt_fail(a->proxy, "the server here was lost");
	if (now_ns > a->moved_ns + MP_TRANSFER_SILENCE_MS * UINT64_C(1000000))
		mp_adopt_fail(a->proxy, "nothing has moved for %d ms", MP_TRANSFER_SILENCE_MS);
	return a->moved_ns + (MP_TRANSFER_SILENCE_MS + 1) * UINT64_C(1000000);
}

struct memcached_adopt *memcached_adopt_begin(struct mp_proxy *proxy)
{
	struct memcached_adopt *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->proxy = proxy;
	a->moved_ns = mp_now_ns(proxy);
	mp_backend_memcached_empty(backend_of(a), 0, 0, true);
	return a;
}

uint64_t memcached_adopt_items(const struct memcached_adopt *a)
{
	return a->count;
}

void memcached_adopt_end(struct memcached_adopt *a)
{
	memcached_reader_close(&a->reader);
	free(a);
}
