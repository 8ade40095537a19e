/* backends.c - see backends.h. */
#include "backends.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "answer.h"
#include "log.h"
#include "memcached_restart.h"
#include "question.h"
#include "redis_config.h"
#include "redis_info.h"
#include "scan.h"
#include "state.h"
#include "stream_groups.h"
#include "ttl.h"

enum {
	RECONNECT_MIN_MS = 5,
	RECONNECT_MAX_MS = 500,
	/* The command table is fetched blocking: this part of backend-timeout is enough. */
	FETCH_TIMEOUT_PART = 5,
	FETCH_RETRY_MS = 1000,
	SCRIPT_PATIENCE = 6,   /* times backend-timeout */
	PASS_BYTES = 64 << 10, /* of a transaction's reply, and they are passed on */
};

#define REST_NS UINT64_C(1000000000) /* without a leader, then one that rests may lead, too */
#define NO_MEMORY "-ERR muproxy: out of memory for the reply\r\n"

/* ----------------------------------------------------------------- replies */

/* Out of memory for a reply without its secrets: it is left out. */
static struct mp_slice config_reply(struct mp_target *target, struct mp_slice reply)
{
	struct mp_config_terms terms = {target->proxy->databases,
					target->proxy->memory.limit_bytes};

	mp_buffer_clear(&target->rewritten);
	if (!mp_config_reply(reply, &terms, &target->rewritten))
		return (struct mp_slice){NO_MEMORY, sizeof(NO_MEMORY) - 1};
	return mp_buffer_slice(&target->rewritten);
}

/* XPENDING's is what our script answers. */
static bool reshapes(const struct mp_request *r)
{
	return r->meta.groups && r->meta.groups != MP_REWRITE_PENDING;
}

static struct mp_slice groups_reply(struct mp_target *target, const struct mp_request *r,
				    struct mp_slice reply)
{
	mp_buffer_clear(&target->rewritten);
	if (!mp_groups_reply((enum mp_rewrite)r->meta.groups, reply, r->meta.resp, r->now_ms,
			     &target->rewritten))
		return (struct mp_slice){NO_MEMORY, sizeof(NO_MEMORY) - 1};
	return mp_buffer_slice(&target->rewritten);
}

/* What there is of a transaction's reply goes out. */
static void pass_on(struct mp_target *target, struct mp_request *r)
{
	struct mp_assembly *assembly = &target->assembly;

	if (mp_buffer_len(&assembly->out) > 0)
		mp_answer(target->proxy, r, mp_buffer_slice(&assembly->out), false);
	mp_transaction_passed(assembly);
}

/* Out of memory for the rest of a reply of which the client has a part. */
static void cut(struct mp_proxy *proxy, struct mp_request *r)
{
	if (r->session)
		mp_session_kill(r->session);
	if (r->link)
		mp_relay_in_cut(r);
	if (r->session)
		mp_answer(proxy, r, (struct mp_slice){0}, true);
	else
		mp_drop(proxy, r);
}

static void on_transaction_reply(struct mp_target *target, struct mp_request *r,
				 struct mp_slice reply)
{
	struct mp_assembly *assembly = &target->assembly;

	if (mp_transaction_reply(assembly, mp_bytes_slice(&r->canned), reply, target->scan_tag,
				 &reply)) {
		TAILQ_REMOVE(&target->running, r, place);
		if (assembly->is_cut && assembly->is_passed)
			cut(target->proxy, r);
		else
			mp_answer(target->proxy, r, reply, true);
		mp_buffer_clear(&assembly->out);
	} else if (mp_buffer_len(&assembly->out) >= PASS_BYTES) {
		pass_on(target, r);
	}
}

static void on_whole_reply(struct mp_target *target, struct mp_request *r, struct mp_slice reply)
{
	struct mp_proxy *proxy = target->proxy;
	char number[MP_TTL_REPLY_BYTES];

	if (r->meta.transaction) {
		on_transaction_reply(target, r, reply);
		return;
	}
	TAILQ_REMOVE(&target->running, r, place);
	if (r->state == MP_REQUEST_DECIDING) {
		mp_lock_answer(proxy, r, reply);
		return;
	}
	if (r->meta.blocks && r->asked) {
		mp_blocking_take_ids(proxy, r, reply);
		return;
	}
	if (r->purpose != MP_PURPOSE_CLIENT) {
		mp_question_answer(proxy, r, reply);
		return;
	}
	if (r->meta.listing) {
		mp_listing_begin(proxy, r);
		return;
	}
	if (r->meta.info)
		reply = mp_info_reply(proxy, r, reply, &target->rewritten);
	if (r->meta.config)
		reply = config_reply(target, reply);
	if (reshapes(r))
		reply = groups_reply(target, r, reply);
	if (r->meta.ttl)
		reply = mp_ttl_reply((enum mp_rewrite)r->meta.ttl, reply, r->now_ms, number);
	if (r->meta.protocol == MP_MEMCACHED) {
		if (mp_memcached_follow_up(proxy, r, reply))
			return;
		reply = mp_memcached_reply(proxy, target, r, reply);
	}
	mp_answer(proxy, r, reply, true);
}

static bool needs_whole(const struct mp_request *r)
{
	return r->state == MP_REQUEST_DECIDING || r->canned.len > 0 || r->meta.translate ||
	       (r->shadow && (r->meta.tokens || r->meta.scan || r->meta.blocks)) ||
	       (r->meta.blocks && r->asked) || r->meta.ttl || r->meta.info || r->meta.config ||
	       r->meta.listing || reshapes(r) || r->purpose != MP_PURPOSE_CLIENT ||
	       (r->meta.protocol == MP_MEMCACHED && mp_request_writes(r));
}

/* True: there was nothing for who waits, so this is nobody's answer. */
static bool on_attempt(struct mp_target *target, struct mp_request *r, struct mp_slice piece,
		       bool last)
{
	if (!r->is_served && last && mp_blocking_is_nothing(r, piece)) {
		TAILQ_REMOVE(&target->running, r, place);
		mp_blocking_unserved(target->proxy, r);
		return true;
	}
	mp_blocking_served(target->proxy, r, piece);
	r->is_served = true;
	return false;
}

/* The reply's head, with the client's cursor, goes out; the rest is returned, if only its last
 * bytes. */
static struct mp_slice begin_scan(struct mp_target *target, struct mp_request *r,
				  struct mp_slice piece)
{
	char head[MP_SCAN_HEAD_BYTES];
	size_t used, len = mp_scan_head(piece, target->scan_tag, false, head, &used);

	if (len == 0)
		return piece;
	mp_answer(target->proxy, r, (struct mp_slice){head, len}, false);
	return (struct mp_slice){piece.data + used, piece.len - used};
}

static void on_reply(void *ctx, void *owner, struct mp_slice piece, bool last)
{
	struct mp_target *target = ctx;
	struct mp_request *r = owner;
	bool gathering = mp_buffer_len(&target->gathered) > 0;

	assert(r->state == MP_REQUEST_RUNNING || r->state == MP_REQUEST_DECIDING);
	if (r->meta.blocks && !r->shadow && !r->asked && on_attempt(target, r, piece, last))
		return;
	if (r->large) {
		if (last) {
			TAILQ_REMOVE(&target->running, r, place);
			mp_large_begin(target->proxy, r);
		}
		return;
	}
	if (!needs_whole(r)) {
		if (!last && !r->is_begun && mp_large_weigh(target->proxy, r, piece))
			return;
		if (r->meta.scan && !r->is_begun)
			piece = begin_scan(target, r, piece);
		r->is_begun = true;
		if (last)
			TAILQ_REMOVE(&target->running, r, place);
		mp_answer(target->proxy, r, piece, last);
		return;
	}
	if (!last && !gathering && r->meta.transaction &&
	    mp_transaction_flows(&target->assembly, mp_bytes_slice(&r->canned))) {
		pass_on(target, r);
		mp_answer(target->proxy, r, piece, false);
		return;
	}
	/* A backend's replies come one after the other, so one buffer serves all. */
	if (!last || gathering) {
		bool ok = mp_buffer_append(&target->gathered, piece.data, piece.len);

		if (!ok)
			mp_error("%s: out of memory for a reply, which is cut", target->name);
		piece = mp_buffer_slice(&target->gathered);
	}
	if (!last)
		return;
	on_whole_reply(target, r, piece);
	mp_buffer_clear(&target->gathered);
}

static void on_lost(void *ctx, void *owner)
{
	struct mp_target *target = ctx;
	struct mp_request *r = owner;

	TAILQ_REMOVE(&target->running, r, place);
	mp_transaction_lost(&target->assembly);
	mp_blocking_end(target->proxy, r);
	if (r->state == MP_REQUEST_DECIDING)
		mp_lock_lost(target->proxy, r);
	else if (r->purpose != MP_PURPOSE_CLIENT)
		mp_question_lost(target->proxy, r);
	else if (r->session)
		mp_doubt_add(target->proxy, r, 0);
	else
		mp_drop(target->proxy, r);
}

/* ------------------------------------------------------------------ states */

/* How a backend's clients see it, asked anew whenever it comes back: it may have been upgraded. */
static void fetch_commands(struct mp_proxy *proxy)
{
	struct mp_target *target = &proxy->apply.target[mp_target_index(MP_REDIS)];
	struct mp_commands *commands;
	char err[256];

	proxy->databases = (int)mp_backend_redis_databases(target->backend);
	commands = mp_commands_fetch(proxy->options.redis_backend, proxy->options.redis_password,
				     (int)proxy->options.backend_timeout_ms / FETCH_TIMEOUT_PART,
				     err, sizeof(err));
	if (!commands) {
		mp_warn("redis: no command table: %s", err);
		proxy->apply.next_fetch_ns = mp_now_ns(proxy) + FETCH_RETRY_MS * UINT64_C(1000000);
		return;
	}
	mp_commands_free(proxy->commands);
	proxy->commands = commands;
	proxy->apply.next_fetch_ns = 0;
}

static void on_ready(struct mp_target *target, uint64_t applied_lsn)
{
	struct mp_proxy *proxy = target->proxy;

	if (target->protocol == MP_REDIS)
		mp_pubsub_backend_ready(proxy, target->handed_lsn, applied_lsn);
	if (!target->met)
		mp_apply_met(proxy, target, applied_lsn);
	target->met = true;
	target->silent = target->is_restarting = false;
	target->handed_lsn = target->durable_lsn = applied_lsn;
	proxy->apply.seek_wanted = true;
	if (target->protocol == MP_REDIS) {
		fetch_commands(proxy);
		mp_expiry_restart(proxy, mp_backend_redis_volatile_keys(target->backend));
		mp_memory_ask(proxy);
		target->scan_tag =
			mp_scan_tag(proxy->options.id, mp_backend_redis_run_id(target->backend));
	} else {
		mp_memcached_set_limits(proxy, target->backend);
		mp_memcached_go_on_filling(proxy);
	}
}

/* Without a backend this replica cannot lead (DESIGN 6.1). */
static void step_down(struct mp_proxy *proxy)
{
	if (!proxy->pipeline.ballot)
		return;
	mp_pipeline_abandon(proxy);
	mu_resign(proxy->mu);
}

static void lose_redis(struct mp_proxy *proxy, const struct mp_target *target)
{
	mp_pubsub_backend_lost(proxy, target->backend->applied_lsn);
	mp_memory_lost(proxy);
	mp_large_lost(proxy);
}

static void on_state(void *ctx, enum mp_backend_state state, uint64_t applied_lsn, const char *why)
{
	static const char *const names[] = {
		[MP_BACKEND_DISCONNECTED] = "disconnected",
		[MP_BACKEND_READY] = "ready",
		[MP_BACKEND_FAILED] = "out of service",
	};
	struct mp_target *target = ctx;
	struct mp_proxy *proxy = target->proxy;

	if (state == MP_BACKEND_READY)
		mp_info("%s: ready%s%s", target->name, why ? ": " : "", why ? why : "");
	else
		mp_warn("%s: %s%s%s", target->name, names[state], why ? ": " : "", why ? why : "");
	target->state = state;
	mp_buffer_clear(&target->gathered);
	if (target->protocol == MP_REDIS)
		STAT_SET(proxy, redis_state, (int)state);
	else
		STAT_SET(proxy, memcached_state, (int)state);
	if (state == MP_BACKEND_READY) {
		on_ready(target, applied_lsn);
	} else {
		if (target->protocol == MP_REDIS)
			lose_redis(proxy, target);
		step_down(proxy);
	}
	mp_doubt_settle(proxy);
}

static void on_durable(void *ctx, uint64_t lsn)
{
	struct mp_target *target = ctx;
	struct mp_proxy *proxy = target->proxy;

	target->durable_lsn = lsn;
	if (target->protocol == MP_REDIS)
		STAT_SET(proxy, redis_applied_lsn, lsn);
	else
		STAT_SET(proxy, memcached_applied_lsn, lsn);
	mp_backends_tell_applied(proxy);
}

void mp_backends_tell_applied(struct mp_proxy *proxy)
{
	struct mp_apply *apply = &proxy->apply;
	uint64_t lowest = mp_transfer_pin_lsn(proxy);

	for (unsigned i = 0; i < MP_TARGETS; i++)
		if (apply->target[i].backend && apply->target[i].durable_lsn < lowest)
			lowest = apply->target[i].durable_lsn;
	if (apply->seek_wanted || lowest == MU_LSN_NONE)
		return;
	/* Of a log that is read again they may have what is still to be read. */
	if (lowest > apply->read_lsn)
		lowest = apply->read_lsn;
	if (lowest <= apply->applied_lsn)
		return;
	/* The log may give up what lies before. */
	apply->applied_lsn = lowest;
	mu_applied(proxy->mu, lowest);
}

static const struct mp_backend_events events = {
	.reply = on_reply,
	.lost = on_lost,
	.state = on_state,
	.durable = on_durable,
};

/* ----------------------------------------------------------------- opening */

static bool open_target(struct mp_target *target, const char *address, const char *password,
			char *err, size_t err_bytes)
{
	struct mp_proxy *proxy = target->proxy;
	struct mp_backend_options options = {
		.address = address,
		.password = password,
		.group_id = proxy->options.group_id,
		.reconnect_min_ms = RECONNECT_MIN_MS,
		.reconnect_max_ms = RECONNECT_MAX_MS,
	};
	char why[256];

	if (target->protocol == MP_REDIS)
		target->backend = mp_backend_redis_open(proxy->base, &options, &events, target, why,
							sizeof(why));
	else
		target->backend = mp_backend_memcached_open(proxy->base, &options, &events, target,
							    why, sizeof(why));
	if (!target->backend)
		snprintf(err, err_bytes, "%s-backend %s: %s", target->name, address, why);
	return target->backend != NULL;
}

void mp_backends_init(struct mp_proxy *proxy)
{
	static const char *const names[MP_TARGETS] = {"redis", "memcached"};

	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &proxy->apply.target[i];

		*target = (struct mp_target){
			.proxy = proxy, .protocol = (enum mp_protocol)(i + 1), .name = names[i]};
		TAILQ_INIT(&target->running);
	}
}

bool mp_backends_open(struct mp_proxy *proxy, char *err, size_t err_bytes)
{
	const struct mp_proxy_options *options = &proxy->options;
	struct mp_target *redis = &proxy->apply.target[mp_target_index(MP_REDIS)];
	struct mp_target *memcached = &proxy->apply.target[mp_target_index(MP_MEMCACHED)];

	STAT_SET(proxy, redis_state, options->redis_backend ? MP_BACKEND_DISCONNECTED : -1);
	STAT_SET(proxy, memcached_state, options->memcached_backend ? MP_BACKEND_DISCONNECTED : -1);
	if (options->redis_backend &&
	    !open_target(redis, options->redis_backend, options->redis_password, err, err_bytes))
		return false;
	return !options->memcached_backend ||
	       open_target(memcached, options->memcached_backend, NULL, err, err_bytes);
}

/* Nobody is left to be told: sessions and links are closed already. */
void mp_backends_close(struct mp_proxy *proxy)
{
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &proxy->apply.target[i];
		struct mp_request *r;

		if (!target->backend)
			continue;
		target->backend->ops->close(target->backend);
		while ((r = TAILQ_FIRST(&target->running))) {
			TAILQ_REMOVE(&target->running, r, place);
			mp_drop(proxy, r);
		}
		mp_buffer_free(&target->gathered);
		mp_buffer_free(&target->rewritten);
		mp_buffer_free(&target->assembly.out);
	}
	mp_buffer_free(&proxy->apply.question);
}

/* ---------------------------------------------------------------- watching */

/* What a silent backend keeps: reads go to another leader's; committed writes cannot. */
static void rescue(struct mp_proxy *proxy, struct mp_target *target, uint64_t now_ms)
{
	uint32_t timeout_ms = proxy->options.unknown_timeout_ms;
	struct mp_request *r, *next;

	for (r = TAILQ_FIRST(&target->running); r; r = next) {
		next = TAILQ_NEXT(r, place);
		if (!r->session || r->streamed || r->state != MP_REQUEST_RUNNING)
			continue;
		if (!mp_request_writes(r)) {
			r = mp_session_replace(r->session, r);
			if (r)
				mp_doubt_add(proxy, r, 0);
		} else if (now_ms - r->since_ms >= timeout_ms) {
			r = mp_session_replace(r->session, r);
			if (r)
				mp_answer_error(proxy, r,
						"ERR muproxy: committed, but the backend has not "
						"answered for %u ms",
						timeout_ms);
		}
	}
	mp_doubt_settle(proxy);
}

/*
 * A server that runs a script is busy and not dead; the others are, too, so that another leader
 * would find itself in the same place. How long scripts can be is bounded (prelude.lua).
 */
static uint64_t patience_ms(const struct mp_target *target)
{
	const struct mp_proxy *proxy = target->proxy;
	bool runs_script = target->protocol == MP_REDIS && proxy->expiry.scripts > 0;

	return (uint64_t)proxy->options.backend_timeout_ms * (runs_script ? SCRIPT_PATIENCE : 1);
}

static void watch(struct mp_proxy *proxy, struct mp_target *target)
{
	uint64_t silent_ms;
	bool silent;

	if (!target->backend || target->state != MP_BACKEND_READY)
		return;
	silent_ms = target->backend->ops->oldest_ms(target->backend);
	silent = silent_ms > patience_ms(target);
	if (silent && !target->silent)
		mp_warn("%s: has not answered for %" PRIu64 " ms", target->name, silent_ms);
	if (!silent && target->silent)
		mp_info("%s: answers again", target->name);
	target->silent = silent;
	if (silent) {
		step_down(proxy);
		rescue(proxy, target, mp_now_ms(proxy));
	}
}

/* All that a leader has to know of the data: deadlines, and the group's settings. */
static bool knows_data(const struct mp_proxy *proxy)
{
	return !proxy->apply.target[mp_target_index(MP_REDIS)].backend ||
	       (proxy->expiry.is_complete && proxy->memory.is_known);
}

/* Without another leader a replica that rests is better than none. */
static bool rests(const struct mp_proxy *proxy, uint64_t now_ns)
{
	enum mu_role role = proxy->view.role;

	return proxy->rests && role != MU_ROLE_LEADER && role != MU_ROLE_CANDIDATE &&
	       now_ns - proxy->led_ns < REST_NS;
}

static enum mu_backend_health health(const struct mp_proxy *proxy)
{
	const struct mp_apply *apply = &proxy->apply;
	bool met = true, well = true;

	for (unsigned i = 0; i < MP_TARGETS; i++) {
		const struct mp_target *target = &apply->target[i];

		if (!target->backend)
			continue;
		met = met && (target->met || target->state == MP_BACKEND_FAILED);
		well = well && target->state == MP_BACKEND_READY && !target->silent;
	}
	if (apply->stale)
		return MU_BACKEND_STALE;
	if (proxy->leaving)
		return MU_BACKEND_DOWN;
	if (!met || (well && (apply->seek_wanted || !knows_data(proxy))))
		return MU_BACKEND_UNKNOWN;
	return well ? MU_BACKEND_LEVEL : MU_BACKEND_DOWN;
}

bool mp_backends_level(const struct mp_proxy *proxy)
{
	return health(proxy) == MU_BACKEND_LEVEL;
}

uint32_t mp_backends_level_members(struct mp_proxy *proxy)
{
	struct mu_group_status group;
	uint32_t mask = 0;

	mu_group_status(proxy->mu, &group);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		const struct mu_replica_status *replica = &group.replica[id];

		if (replica->member && replica->alive && replica->backend == MU_BACKEND_LEVEL)
			mask |= 1U << id;
	}
	return mask;
}

static uint64_t watch_period_ns(const struct mp_proxy *proxy)
{
	return proxy->options.backend_timeout_ms * UINT64_C(1000000) / 8 + 1000000;
}

void mp_backends_watch(struct mp_proxy *proxy)
{
	struct mp_apply *apply = &proxy->apply;
	uint64_t now_ns = mp_now_ns(proxy);
	enum mu_backend_health now;

	if (now_ns >= apply->next_watch_ns) {
		for (unsigned i = 0; i < MP_TARGETS; i++)
			watch(proxy, &apply->target[i]);
		apply->next_watch_ns = now_ns + watch_period_ns(proxy);
	}
	if (apply->next_fetch_ns && now_ns >= apply->next_fetch_ns &&
	    apply->target[mp_target_index(MP_REDIS)].state == MP_BACKEND_READY)
		fetch_commands(proxy);
	if (proxy->view.leader)
		proxy->led_ns = now_ns;
	now = health(proxy);
	if (now == MU_BACKEND_LEVEL && rests(proxy, now_ns))
		now = MU_BACKEND_DOWN;
	if (now == apply->health)
		return;
	apply->health = now;
	STAT_SET(proxy, stale, apply->stale);
	mu_set_backend(proxy->mu, now);
	if (now != MU_BACKEND_LEVEL)
		step_down(proxy);
}

uint64_t mp_backends_deadline_ns(const struct mp_proxy *proxy)
{
	const struct mp_apply *apply = &proxy->apply;
	uint64_t deadline_ns = apply->next_fetch_ns ? apply->next_fetch_ns : UINT64_MAX;

	if (proxy->rests && !proxy->view.leader && apply->health == MU_BACKEND_DOWN &&
	    proxy->led_ns + REST_NS < deadline_ns)
		deadline_ns = proxy->led_ns + REST_NS;

	for (unsigned i = 0; i < MP_TARGETS; i++) {
		const struct mp_target *target = &apply->target[i];

		if (target->backend && target->state == MP_BACKEND_READY &&
		    (target->silent || target->backend->ops->backlog(target->backend) > 0) &&
		    apply->next_watch_ns < deadline_ns)
			deadline_ns = apply->next_watch_ns;
	}
	return deadline_ns;
}
