/* expiry_clock.c - see expiry.h: the leader's clock, and expiring what is due by it. */
#include "expiry.h"

#include <time.h>

#include "state.h"

enum {
	EXPIRE_BYTES = 16 << 10,     /* keys' bytes in one command */
	EXPIRE_COMMANDS_A_TURN = 64, /* then others have their turn; requests wait for the rest */
};

/* --------------------------------------------------------------------- clock */

static uint64_t real_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t wall_ms(struct mp_proxy *proxy)
{
	struct mp_expiry *expiry = &proxy->expiry;
	uint64_t now_ms = real_ms();

	if (expiry->ballot != proxy->pipeline.ballot) {
		uint64_t last_ms = mu_timestamp(proxy->mu, 0);

		expiry->ballot = proxy->pipeline.ballot;
		expiry->offset_ms = last_ms > now_ms ? last_ms - now_ms : 0;
	}
	return now_ms + expiry->offset_ms;
}

/* How far the clock may go as long as what is under way is under way. */
static uint64_t limit_ms(const struct mp_proxy *proxy)
{
	const struct mp_expiry *expiry = &proxy->expiry;
	const struct mp_batch *batch;
	uint64_t limit = UINT64_MAX;

	if (expiry->asking.count > 0)
		limit = *(const uint64_t *)mp_fifo_at(&expiry->asking, 0);
	if (expiry->limited == 0)
		return limit;
	STAILQ_FOREACH(batch, &proxy->pipeline.proposed, next)
		if (batch->clock_limit_ms < limit)
			limit = batch->clock_limit_ms;
	return limit;
}

static void read_clock(struct mp_proxy *proxy)
{
	struct mp_expiry *expiry = &proxy->expiry;
	uint64_t wall = wall_ms(proxy), limit = limit_ms(proxy);

	expiry->now_ms = mu_timestamp(proxy->mu, wall < limit ? wall : limit);
	expiry->is_late = wall > expiry->now_ms + MP_CLOCK_LAG_MS;
}

uint64_t mp_expiry_now_ms(struct mp_proxy *proxy)
{
	if (proxy->expiry.now_ms == 0)
		read_clock(proxy);
	return proxy->expiry.now_ms;
}

uint64_t mp_expiry_reader_ms(struct mp_proxy *proxy)
{
	return mu_timestamp(proxy->mu, real_ms());
}

void mp_expiry_limit(struct mp_proxy *proxy, struct mp_batch *batch, int64_t when_ms)
{
	if (batch->clock_limit_ms == UINT64_MAX)
		proxy->expiry.limited++;
	if ((uint64_t)when_ms < batch->clock_limit_ms)
		batch->clock_limit_ms = (uint64_t)when_ms;
}

void mp_expiry_batch_done(struct mp_proxy *proxy, struct mp_batch *batch)
{
	if (batch->clock_limit_ms != UINT64_MAX)
		proxy->expiry.limited--;
	batch->clock_limit_ms = UINT64_MAX;
}

/* ------------------------------------------------------------------- expiring */

/* False: out of memory. */
static bool add_expiry(struct mp_proxy *proxy, uint32_t database, int count,
		       const struct mp_slice *keys, bool is_open)
{
	struct mp_buffer *wire = &proxy->expiry.wire;
	const char *notify = proxy->memory.notify_expired;
	int64_t now_ms = (int64_t)proxy->expiry.now_ms;
	size_t len = mp_encode_expire(NULL, 0, database, count, keys, now_ms, notify);

	if (!mp_buffer_reserve(wire, len))
		return false;
	mp_encode_expire(mp_buffer_data(wire), len, database, count, keys, now_ms, notify);
	mp_pipeline_add_own(proxy, MP_REDIS, database, (struct mp_slice){mp_buffer_data(wire), len},
			    notify[0] || notify[1] ? MP_RECORD_SPEAKS : MP_RECORD_BLIND, is_open);
	return true;
}

/* As many as one command takes, of one database. False: none, or no room for them now. */
static bool expire_some(struct mp_proxy *proxy)
{
	struct mp_expiry *expiry = &proxy->expiry;
	struct mp_slice keys[MP_EXPIRE_KEYS_MAX];
	size_t bytes = 0;
	uint32_t database = 0;
	bool certain = true;
	int count = 0;

	if (mp_deadlines_next_ms(&expiry->index) > (int64_t)expiry->now_ms ||
	    !mp_pipeline_room(proxy, EXPIRE_BYTES))
		return false;
	while (count < MP_EXPIRE_KEYS_MAX && bytes < EXPIRE_BYTES) {
		struct mp_deadline *node = mp_deadlines_first(&expiry->index);

		if (!node || node->due_ms > (int64_t)expiry->now_ms ||
		    (count > 0 && node->database != database))
			break;
		mp_deadlines_fire(&expiry->index, node);
		database = node->database;
		certain = certain && node->is_exact;
		keys[count] = (struct mp_slice){node->key, node->key_bytes};
		mp_watch_touch_key(proxy, database, keys[count]);
		mp_blocking_touch_key(proxy, database, keys[count++]);
		bytes += node->key_bytes;
	}
	if (!add_expiry(proxy, database, count, keys, !certain)) {
		mp_deadlines_requeue_all(&expiry->index);
		return false;
	}
	return true;
}

bool mp_expiry_turn(struct mp_proxy *proxy)
{
	struct mp_expiry *expiry = &proxy->expiry;

	expiry->now_ms = 0;
	if (expiry->index.heap_count == 0 && expiry->limited == 0 && expiry->asking.count == 0)
		return true;
	if (proxy->pipeline.stuck)
		return false;
	read_clock(proxy);
	for (int i = 0; i < EXPIRE_COMMANDS_A_TURN && expire_some(proxy); i++)
		;
	return !expiry->is_late && mp_deadlines_next_ms(&expiry->index) > (int64_t)expiry->now_ms;
}

uint64_t mp_expiry_deadline_ns(struct mp_proxy *proxy)
{
	struct mp_expiry *expiry = &proxy->expiry;
	int64_t next_ms = mp_deadlines_next_ms(&expiry->index);
	uint64_t wall;

	/* What holds the clock, or keeps the log from taking more, brings the next turn. */
	if (!proxy->pipeline.ballot || next_ms == INT64_MAX || expiry->is_late ||
	    proxy->pipeline.stuck)
		return UINT64_MAX;
	wall = wall_ms(proxy);
	if ((uint64_t)next_ms <= wall)
		return mp_now_ns(proxy) + 1000000;
	return mp_now_ns(proxy) + ((uint64_t)next_ms - wall) * 1000000;
}

/* -------------------------------------------------------------- what is proposed */

struct proposing {
	struct mp_proxy *proxy;
	struct mp_batch *batch;
};

/* Set, and due already: SET with a deadline in the past. It goes in the same batch. */
static void expire_at_once(struct mp_proxy *proxy, const struct mp_effect *e)
{
	/* Out of memory: the index has it when it is committed. */
	add_expiry(proxy, e->database, 1, &e->key, true);
}

static void on_proposed(void *ctx, const struct mp_effect *e)
{
	const struct proposing *p = ctx;
	struct mp_expiry *expiry = &p->proxy->expiry;
	int64_t now_ms = (int64_t)mp_expiry_now_ms(p->proxy);

	switch (e->kind) {
	case MP_EFFECT_SET:
	case MP_EFFECT_MAYBE:
		if (e->when_ms <= now_ms)
			expire_at_once(p->proxy, e);
		else
			mp_expiry_limit(p->proxy, p->batch, e->when_ms - 1);
		break;
	case MP_EFFECT_MOVE:
	case MP_EFFECT_SWAP:
		/* Where there are no deadlines none can move. */
		if (expiry->index.count > 0 || expiry->limited > 0 || expiry->scripts > 0)
			mp_expiry_limit(p->proxy, p->batch, now_ms);
		break;
	case MP_EFFECT_SCRIPT:
		mp_expiry_limit(p->proxy, p->batch, now_ms);
		break;
	case MP_EFFECT_EXPIRE:
	case MP_EFFECT_GONE:
	case MP_EFFECT_FLUSH:
		break;
	}
}

void mp_expiry_proposed(struct mp_proxy *proxy, struct mp_slice wire, int commands,
			uint32_t database)
{
	struct proposing p = {proxy, proxy->pipeline.filling};

	mp_effects_of(proxy, wire, commands, database, on_proposed, &p);
}

void mp_expiry_abandon(struct mp_proxy *proxy)
{
	mp_deadlines_requeue_all(&proxy->expiry.index);
	proxy->expiry.is_late = false;
}
