/* adopt.c - see adopt.h: whether there is anything to adopt, and trying until it is done. */
#include "adopt.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "log.h"
#include "redis_adopt.h"
#include "state.h"

enum {
	LOOK_MS = 50,   /* how often it is looked whether the others are there */
	RETRY_MS = 500, /* what has failed is begun again */
};

#define ERA_BITS 48 /* eras of cold starts have more (mu_next_era()) */

static uint64_t ns(uint64_t ms)
{
	return ms * UINT64_C(1000000);
}

/* ------------------------------------------------------------------- figures */

void mp_adopt_show(struct mp_proxy *proxy, enum mp_transfer_stage stage, uint64_t bytes,
		   uint64_t total_bytes)
{
	struct mp_adopt *adopt = &proxy->adopt;
	uint64_t now_ns = mp_now_ns(proxy);

	if (bytes > 0 && adopt->data_ns == 0)
		adopt->data_ns = now_ns;
	STAT_SET(proxy, adopting, stage != MP_TRANSFER_NONE);
	STAT_SET(proxy, restore_protocol, stage != MP_TRANSFER_NONE ? MP_REDIS : 0);
	STAT_SET(proxy, restore_donor, 0);
	STAT_SET(proxy, restore_bytes, bytes);
	STAT_SET(proxy, restore_total_bytes, total_bytes);
	STAT_SET(proxy, restore_ms, adopt->data_ns ? (now_ns - adopt->data_ns) / 1000000 : 0);
	STAT_SET(proxy, restore_stage, (int)stage);
}

/* The same thing again is told once. */
static void tell(struct mp_adopt *adopt, const char *why)
{
	if (strcmp(adopt->told, why) == 0)
		return;
	snprintf(adopt->told, sizeof(adopt->told), "%s", why);
	mp_warn("redis: seed %s: %s", adopt->address.text, why);
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
	mp_info("redis: seed %s: not used, %s", proxy->adopt.address.text, why);
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

static void begin(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;
	const struct mp_target *target = mp_target_of(proxy, MP_REDIS);

	adopt->is_failed = adopt->is_done = false;
	adopt->begun_ns = now_ns;
	adopt->data_ns = 0;
	mp_adopt_show(proxy, MP_TRANSFER_ASKING, 0, 0);
	if (draw_era(adopt))
		adopt->attempt = redis_adopt_begin(proxy, target->state == MP_BACKEND_READY);
	if (!adopt->attempt)
		mp_adopt_fail(proxy, "out of memory, or of sockets");
}

static void end(struct mp_proxy *proxy)
{
	if (proxy->adopt.attempt)
		redis_adopt_end(proxy->adopt.attempt);
	proxy->adopt.attempt = NULL;
}

static void give_up(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;

	end(proxy);
	tell(adopt, adopt->why);
	STAT_ADD(proxy, restores_failed, 1);
	mp_adopt_show(proxy, MP_TRANSFER_WAITING, 0, 0);
	adopt->is_failed = false;
	adopt->next_ns = now_ns + ns(RETRY_MS);
}

/* The server is connected to, and says what it has been given. */
static void finish(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;
	struct mp_target *target = mp_target_of(proxy, MP_REDIS);
	uint64_t keys = redis_adopt_keys(adopt->attempt);

	end(proxy);
	mp_info("redis: adopted %" PRIu64 " keys from %s in %" PRIu64
		" ms; from here on nothing ties it to this group",
		keys, adopt->address.text, (now_ns - adopt->begun_ns) / 1000000);
	adopt->is_wanted = false;
	mp_adopt_show(proxy, MP_TRANSFER_NONE, 0, 0);
	mp_transfer_replaced(proxy, target, adopt->era, MP_ADOPTED_LSN);
	target->backend->ops->release(target->backend, true);
}

/* -------------------------------------------------------------------- the whole */

bool mp_adopt_open(struct mp_proxy *proxy, char *err, size_t err_bytes)
{
	struct mp_adopt *adopt = &proxy->adopt;
	const char *seed = proxy->options.redis_seed;

	if (!seed)
		return true;
	if (!mp_address_parse(seed, &adopt->address, err, err_bytes))
		return false;
	if (!mp_address_split(seed, adopt->host, sizeof(adopt->host), &adopt->port)) {
		snprintf(err, err_bytes, "seed '%s' is not host:port", seed);
		return false;
	}
	adopt->is_wanted = true;
	mp_adopt_show(proxy, MP_TRANSFER_WAITING, 0, 0);
	return true;
}

void mp_adopt_close(struct mp_proxy *proxy)
{
	end(proxy);
}

/* The server is there, and holds nothing of a log; one that is refused may be half filled. */
static void look(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_adopt *adopt = &proxy->adopt;
	const struct mp_target *target = mp_target_of(proxy, MP_REDIS);
	enum group group = look_at_group(proxy);

	adopt->next_ns = now_ns + ns(LOOK_MS);
	if (group == GROUP_HAS_DATA)
		settle(proxy, "the group has data");
	else if (target->state == MP_BACKEND_READY && target->backend->applied_lsn > 0)
		settle(proxy, "the server here holds data of the group's");
	else if (group == GROUP_AWAY)
		tell(adopt, "waiting for all members of the group to be there");
	else if (adopt->is_begun || target->state != MP_BACKEND_DISCONNECTED)
		begin(proxy, now_ns);
}

uint64_t mp_adopt_turn(struct mp_proxy *proxy)
{
	struct mp_adopt *adopt = &proxy->adopt;
	uint64_t now_ns = mp_now_ns(proxy), next_ns = UINT64_MAX;

	if (!adopt->is_wanted)
		return UINT64_MAX;
	if (!adopt->attempt && !adopt->is_failed && now_ns >= adopt->next_ns && !proxy->draining)
		look(proxy, now_ns);
	if (adopt->attempt && !adopt->is_failed && !adopt->is_done)
		next_ns = redis_adopt_turn(adopt->attempt, now_ns);
	if (adopt->is_failed)
		give_up(proxy, now_ns);
	else if (adopt->is_done)
		finish(proxy, now_ns);
	if (adopt->attempt)
		return next_ns;
	return adopt->is_wanted ? adopt->next_ns : now_ns;
}
