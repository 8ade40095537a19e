/* adopt.c - see adopt.h: whether there is anything to adopt, and trying until it is done. */
#include "adopt.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "log.h"
#include "memcached_adopt.h"
#include "redis_adopt.h"
#include "state.h"

enum {
	LOOK_MS = 50,   /* how often it is looked whether the others are there */
	RETRY_MS = 500, /* what has failed is begun again */
};

#define ERA_BITS 48 /* eras of cold starts have more (mu_next_era()) */

/* ------------------------------------------------------------------- figures */

/* Whose seed is being adopted, or is to be. */
static enum mp_protocol protocol_of(const struct mp_proxy *proxy)
{
	const struct mp_adopt *adopt = &proxy->adopt;

	if (!proxy->options.redis_seed)
		return MP_MEMCACHED;
	return adopt->memcached ? MP_MEMCACHED : MP_REDIS;
}

static const char *seed_of(const struct mp_proxy *proxy)
{
	return protocol_of(proxy) == MP_REDIS ? proxy->options.redis_seed
					      : proxy->options.memcached_seed;
}

void mp_adopt_count(struct mp_proxy *proxy, uint64_t items, uint64_t total_items)
{
	STAT_SET(proxy, restore_items, items);
	STAT_SET(proxy, restore_total_items, total_items);
}

void mp_adopt_show(struct mp_proxy *proxy, enum mp_transfer_stage stage, uint64_t bytes,
		   uint64_t total_bytes)
{
	struct mp_adopt *adopt = &proxy->adopt;
	uint64_t now_ns = mp_now_ns(proxy);

	if (bytes > 0 && adopt->data_ns == 0)
		adopt->data_ns = now_ns;
	STAT_SET(proxy, adopting, stage != MP_TRANSFER_NONE);
	STAT_SET(proxy, restore_protocol, stage != MP_TRANSFER_NONE ? protocol_of(proxy) : 0);
	STAT_SET(proxy, restore_donor, 0);
	STAT_SET(proxy, restore_bytes, bytes);
	STAT_SET(proxy, restore_total_bytes, total_bytes);
	STAT_SET(proxy, restore_ms, adopt->data_ns ? (now_ns - adopt->data_ns) / 1000000 : 0);
	STAT_SET(proxy, restore_stage, (int)stage);
}

/* The same thing again is told once. */
static void tell(struct mp_proxy *proxy, const char *why)
{
	struct mp_adopt *adopt = &proxy->adopt;

	if (strcmp(adopt->told, why) == 0)
		return;
	snprintf(adopt->told, sizeof(adopt->told), "%s", why);
	mp_warn("%s: seed %s: %s", mp_target_of(proxy, protocol_of(proxy))->name, seed_of(proxy),
		why);
}

/* ------------------------------------------------------------ is there a group? */

enum group {
	GROUP_AWAY, /* not all members have been heard of */
	GROUP_NEW,
	GROUP_HAS_DATA,
};

static enum group look_at_group(struct mp_proxy *proxy)
{
	struct mu_group_status group;
	enum group result = GROUP_NEW;

	mu_group_status(proxy->mu, &group);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		const struct mu_replica_status *replica = &group.replica[id];

		if (!replica->member)
			continue;
		if (!replica->alive)
			result = GROUP_AWAY;
		else if (replica->voting || replica->applied_lsn > 0)
			return GROUP_HAS_DATA;
	}
	return result;
}

static void settle(struct mp_proxy *proxy, const char *why)
{
	mp_info("%s: seed %s: not used, %s", mp_target_of(proxy, protocol_of(proxy))->name,
		seed_of(proxy), why);
	proxy->adopt.is_wanted = false;
	mp_adopt_show(proxy, MP_TRANSFER_NONE, 0, 0);
}

/* ------------------------------------------------------------------ an attempt */

void mp_adopt_fail(struct mp_proxy *proxy, const char *format, ...)
{
	struct mp_adopt *adopt = &proxy->adopt;
	va_list args;

	if (adopt->is_failed || adopt->is_done)
		return;
	adopt->is_failed = true;
	va_start(args, format);
	vsnprintf(adopt->why, sizeof(adopt->why), format, args);
	va_end(args);
}

void mp_adopt_done(struct mp_proxy *proxy)
{
	proxy->adopt.is_done = true;
}

static bool draw_era(struct mp_adopt *adopt)
{
	if (getrandom(&adopt->era, sizeof(adopt->era), 0) != sizeof(adopt->era))
		return false;
	adopt->era &= (UINT64_C(1) << ERA_BITS) - 1;
	return adopt->era > 0;
}

/* The Redis, from its seed or as it is; without one only the memcached's place is left. */
static void begin_redis(struct mp_proxy *proxy)
{
	const struct mp_target *target = mp_target_of(proxy, MP_REDIS);
	struct mp_adopt *adopt = &proxy->adopt;

	if (!target->backend)
		return;
	adopt->redis = redis_adopt_begin(proxy, target->state == MP_BACKEND_READY);
	if (!adopt->redis)
		mp_adopt_fail(proxy, "out of memory, or of sockets");
}

static void begin(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;

	adopt->is_on = true;
	adopt->is_failed = adopt->is_done = false;
	adopt->is_filled = adopt->is_placing = adopt->was_away = false;
	adopt->begun_ns = now_ns;
	adopt->data_ns = 0;
	if (!draw_era(adopt)) {
		mp_adopt_fail(proxy, "no random numbers");
	} else if (!proxy->options.memcached_seed) {
		begin_redis(proxy);
	} else {
		adopt->memcached = memcached_adopt_begin(proxy);
		if (!adopt->memcached)
			mp_adopt_fail(proxy, "out of memory");
	}
	mp_adopt_show(proxy, MP_TRANSFER_ASKING, 0, 0);
}

bool mp_adopt_place_memcached(struct mp_proxy *proxy)
{
	const struct mp_target *target = mp_target_of(proxy, MP_MEMCACHED);
	struct mp_adopt *adopt = &proxy->adopt;

	if (!target->backend)
		return true;
	if (target->state != MP_BACKEND_READY) {
		adopt->was_away = adopt->is_placing;
		return false;
	}
	if (!adopt->is_placing) {
		adopt->is_placing = true;
		if (adopt->is_filled)
			mp_backend_memcached_move(target->backend, adopt->era, MP_ADOPTED_LSN);
		else
			mp_backend_memcached_empty(target->backend, adopt->era, MP_ADOPTED_LSN,
						   false);
		return false;
	}
	/* What comes back empty from being moved stands nowhere. */
	if (adopt->was_away && target->backend->era != adopt->era)
		mp_adopt_fail(proxy, "the memcached here was lost");
	return adopt->was_away && !adopt->is_failed;
}

static void end(struct mp_proxy *proxy)
{
	struct mp_adopt *adopt = &proxy->adopt;

	if (adopt->memcached)
		memcached_adopt_end(adopt->memcached);
	if (adopt->redis)
		redis_adopt_end(adopt->redis);
	adopt->memcached = NULL;
	adopt->redis = NULL;
	adopt->is_on = false;
}

static void give_up(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;

	tell(proxy, adopt->why);
	end(proxy);
	STAT_ADD(proxy, restores_failed, 1);
	mp_adopt_count(proxy, 0, 0);
	mp_adopt_show(proxy, MP_TRANSFER_WAITING, 0, 0);
	adopt->is_failed = false;
	adopt->next_ns = now_ns + mp_ms_in_ns(RETRY_MS);
}

/* The memcached holds all; then it is the Redis's turn. */
static void finish_memcached(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;

	mp_info("memcached: adopted %" PRIu64 " items from %s in %" PRIu64
		" ms; from here on nothing ties it to this group",
		memcached_adopt_items(adopt->memcached), seed_of(proxy),
		(now_ns - adopt->begun_ns) / 1000000);
	memcached_adopt_end(adopt->memcached);
	adopt->memcached = NULL;
	adopt->is_filled = true;
	adopt->is_done = false;
	mp_adopt_count(proxy, 0, 0);
	begin_redis(proxy);
}

/* The server is connected to, and says what it has been given. */
static void finish_redis(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;
	struct mp_target *target = mp_target_of(proxy, MP_REDIS);

	if (proxy->options.redis_seed)
		mp_info("redis: adopted %" PRIu64 " keys from %s in %" PRIu64
			" ms; from here on nothing ties it to this group",
			redis_adopt_keys(adopt->redis), adopt->address.text,
			(now_ns - adopt->begun_ns) / 1000000);
	mp_transfer_replaced(proxy, target, adopt->era, MP_ADOPTED_LSN);
	target->backend->ops->release(target->backend, true);
}

static void finish(struct mp_proxy *proxy, uint64_t now_ns)
{
	if (proxy->adopt.redis)
		finish_redis(proxy, now_ns);
	end(proxy);
	proxy->adopt.is_wanted = false;
	mp_adopt_show(proxy, MP_TRANSFER_NONE, 0, 0);
}

/* -------------------------------------------------------------------- the whole */

bool mp_adopt_open(struct mp_proxy *proxy, char *err, size_t err_bytes)
{
	struct mp_adopt *adopt = &proxy->adopt;
	const char *redis = proxy->options.redis_seed, *memcached = proxy->options.memcached_seed;

	if (redis && !mp_address_parse(redis, &adopt->address, err, err_bytes))
		return false;
	if (redis && !mp_address_split(redis, adopt->host, sizeof(adopt->host), &adopt->port)) {
		snprintf(err, err_bytes, "seed '%s' is not host:port", redis);
		return false;
	}
	if (memcached && !mp_address_parse(memcached, &adopt->memcached_address, err, err_bytes))
		return false;
	adopt->is_wanted = redis || memcached;
	if (adopt->is_wanted)
		mp_adopt_show(proxy, MP_TRANSFER_WAITING, 0, 0);
	return true;
}

void mp_adopt_close(struct mp_proxy *proxy)
{
	end(proxy);
}

static bool has_data(const struct mp_target *target)
{
	return target->backend && target->state == MP_BACKEND_READY &&
	       target->backend->applied_lsn > 0;
}

/* Does a server here hold what a log has brought? A memcached alone is emptied for a Redis's seed.
 */
static bool have_data(struct mp_proxy *proxy)
{
	return !proxy->adopt.is_begun &&
	       (has_data(mp_target_of(proxy, MP_REDIS)) ||
		(proxy->options.memcached_seed && has_data(mp_target_of(proxy, MP_MEMCACHED))));
}

/*
 * The servers are there. A Redis that is refused may be half filled; of a memcached that is
 * there is nothing to be known.
 */
static bool are_there(struct mp_proxy *proxy)
{
	const struct mp_target *redis = mp_target_of(proxy, MP_REDIS),
			       *memcached = mp_target_of(proxy, MP_MEMCACHED);

	if (redis->backend && !proxy->adopt.is_begun && redis->state == MP_BACKEND_DISCONNECTED)
		return false;
	return !proxy->options.memcached_seed || memcached->state == MP_BACKEND_READY;
}

static void look(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;
	enum group group = look_at_group(proxy);

	adopt->next_ns = now_ns + mp_ms_in_ns(LOOK_MS);
	if (group == GROUP_HAS_DATA)
		settle(proxy, "the group has data");
	else if (have_data(proxy))
		settle(proxy, "the server here holds data of the group's");
	else if (group == GROUP_AWAY)
		tell(proxy, "waiting for all members of the group to be there");
	else if (are_there(proxy))
		begin(proxy, now_ns);
}

/* An attempt is on. Returns when it wants another turn at the latest. */
static uint64_t go_on(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;

	if (adopt->is_filled && !adopt->is_placing &&
	    mp_target_of(proxy, MP_MEMCACHED)->state != MP_BACKEND_READY)
		mp_adopt_fail(proxy, "the memcached here was lost");
	if (adopt->is_failed)
		return now_ns;
	if (adopt->memcached)
		return memcached_adopt_turn(adopt->memcached, now_ns);
	if (adopt->redis)
		return redis_adopt_turn(adopt->redis, now_ns);
	if (mp_adopt_place_memcached(proxy))
		mp_adopt_done(proxy);
	return now_ns + mp_ms_in_ns(LOOK_MS);
}

uint64_t mp_adopt_turn(struct mp_proxy *proxy)
{
	struct mp_adopt *adopt = &proxy->adopt;
	uint64_t now_ns = mp_now_ns(proxy), next_ns = UINT64_MAX;

	if (!adopt->is_wanted)
		return UINT64_MAX;
	if (!adopt->is_on && now_ns >= adopt->next_ns && !proxy->draining)
		look(proxy, now_ns);
	if (adopt->is_on && !adopt->is_failed)
		next_ns = go_on(proxy, now_ns);
	if (adopt->is_failed) {
		give_up(proxy, now_ns);
	} else if (adopt->is_done && adopt->memcached) {
		finish_memcached(proxy, now_ns);
		return now_ns;
	} else if (adopt->is_done) {
		finish(proxy, now_ns);
	}
	if (adopt->is_on)
		return next_ns;
	return adopt->is_wanted ? adopt->next_ns : now_ns;
}
