/* proxy.c - see proxy.h: the parts put together, and the turn that drives them. */
#include "proxy.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "backends.h"
#include "classify.h"
#include "log.h"
#include "state.h"

enum {
	SWEEP_MS = 20, /* how exactly timeouts of requests are kept */
	IDLE_SWEEP_MS = 1000,
};

void mp_proxy_options_init(struct mp_proxy_options *options)
{
	*options = (struct mp_proxy_options){
		.max_request_bytes = UINT64_C(128) << 20,
		.max_batch_bytes = 64 << 10,
		.max_clients = 10000,
		.client_output_bytes = UINT64_C(256) << 20,
		.spill_directory = "/var/tmp",
		.max_spill_bytes = UINT64_C(4) << 30,
		.max_held_bytes = UINT64_C(512) << 20,
		.hold_timeout_ms = 10000,
		.unknown_timeout_ms = 10000,
		.backend_timeout_ms = 5000,
		.idle_timeout_ms = 60000,
		.digest_interval_ms = 60000,
		.digest_keys = 1000,
		.memcached_digest_interval_ms = 60000,
		.memcached_digest_keys = 1000,
	};
}

uint64_t mp_now_ns(struct mp_proxy *proxy)
{
	struct timespec now;

	if (proxy->now_ns == 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		proxy->now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	}
	return proxy->now_ns;
}

/* --------------------------------------------------------- opening, closing */

static bool make_parsers(struct mp_proxy *proxy)
{
	uint64_t most = proxy->options.max_request_bytes;

	resp_limits_init(&proxy->resp_limits);
	proxy->resp_limits.max_request_bytes = most;
	if (proxy->resp_limits.max_bulk_bytes > most)
		proxy->resp_limits.max_bulk_bytes = most;
	mc_limits_init(&proxy->mc_limits);
	if (proxy->mc_limits.max_value_bytes > most)
		proxy->mc_limits.max_value_bytes = most;
	proxy->mc = mc_parser_internal(&proxy->mc_limits);
	return mp_parser_ready(proxy) && proxy->mc;
}

/* Whatever cannot fail, so that closing works from here on. */
static struct mp_proxy *make(struct event_base *base, struct mu *mu,
			     const struct mp_proxy_options *options)
{
	struct mp_proxy *proxy = calloc(1, sizeof(*proxy));

	if (!proxy)
		return NULL;
	proxy->base = base;
	proxy->mu = mu;
	proxy->options = *options;
	proxy->sessions.spills = (struct mp_spills){.directory = options->spill_directory,
						    .most_bytes = options->max_spill_bytes};
	proxy->databases = 16;
	mp_router_init(&proxy->router);
	mp_pipeline_init(&proxy->pipeline);
	mp_doubt_init(&proxy->doubt);
	mp_backends_init(proxy);
	mp_relay_init(&proxy->relay);
	mp_listeners_init(&proxy->listeners);
	mp_sessions_init(&proxy->sessions);
	mp_locks_init(&proxy->locks);
	mp_memcached_init(&proxy->memcached);
	mp_large_init(&proxy->large);
	mp_pubsub_init(proxy);
	mp_transfer_init(proxy);
	mp_blocking_init(&proxy->blocking);
	TAILQ_INIT(&proxy->patience);
	return proxy;
}

static bool check(const struct mp_proxy_options *options, char *err, size_t err_bytes)
{
	if (!options->redis_backend != !options->redis_listen ||
	    !options->memcached_backend != !options->memcached_listen) {
		snprintf(err, err_bytes, "a protocol needs both a listener and a backend");
		return false;
	}
	if (!options->redis_backend && !options->memcached_backend) {
		snprintf(err, err_bytes, "neither Redis nor Memcached is served");
		return false;
	}
	if (options->id == 0 || options->id > MU_MAX_REPLICAS ||
	    !options->peer_address[options->id]) {
		snprintf(err, err_bytes, "replica %u has no address for its peers", options->id);
		return false;
	}
	return true;
}

struct mp_proxy *mp_proxy_open(struct event_base *base, struct mu *mu,
			       const struct mp_proxy_options *options, char *err, size_t err_bytes)
{
	struct mp_proxy *proxy;

	if (!check(options, err, err_bytes))
		return NULL;
	proxy = make(base, mu, options);
	if (!proxy || !make_parsers(proxy) || !mp_sessions_open(&proxy->sessions) ||
	    !mp_locks_open(&proxy->locks)) {
		snprintf(err, err_bytes, "out of memory");
	} else if (mp_relay_open(proxy, err, err_bytes) &&
		   mp_listeners_open(proxy, err, err_bytes) &&
		   mp_transfer_open(proxy, err, err_bytes) &&
		   mp_adopt_open(proxy, err, err_bytes) &&
		   mp_memcached_open(proxy, err, err_bytes) &&
		   mp_large_open(proxy, err, err_bytes) &&
		   mp_backends_open(proxy, err, err_bytes)) {
		mu_view(mu, &proxy->view);
		return proxy;
	}
	if (proxy)
		mp_proxy_close(proxy);
	return NULL;
}

void mp_proxy_close(struct mp_proxy *proxy)
{
	/* Without their clients all requests are orphans, which just go. */
	mp_listeners_close(proxy);
	mp_sessions_close(proxy);
	mp_pipeline_close(proxy);
	mp_transfer_close(proxy);
	mp_adopt_close(proxy);
	mp_digest_close(proxy);
	mp_memcached_digest_close(proxy);
	mp_backends_close(proxy);
	mp_large_close(proxy);
	mp_pubsub_close(proxy);
	mp_relay_close(proxy);
	mp_memcached_close(proxy);
	mp_locks_close(&proxy->locks);
	mp_expiry_close(&proxy->expiry);
	mp_memory_close(&proxy->memory);
	mp_watch_close(&proxy->watch);
	mp_blocking_close(&proxy->blocking);
	assert(proxy->requests.count == 0);
	mp_requests_close(&proxy->requests);
	mp_chunks_close(&proxy->chunks);
	mp_commands_free(proxy->commands);
	resp_parser_free(proxy->resp);
	mc_parser_free(proxy->mc);
	free(proxy);
}

/* ------------------------------------------------------------------ draining */

void mp_proxy_drain(struct mp_proxy *proxy)
{
	if (proxy->draining)
		return;
	mp_info("draining: %zu requests under way", (size_t)proxy->requests.count);
	proxy->draining = true;
	mp_listeners_drain(proxy);
	mp_sessions_drain(proxy);
	mp_relay_in_drain(proxy);
	mp_patience_drain(proxy);
}

void mp_proxy_rest(struct mp_proxy *proxy, bool rests)
{
	if (proxy->rests == rests)
		return;
	mp_info(rests ? "drained: will not lead while others can" : "no longer drained");
	proxy->rests = rests;
}

/* What was taken has been answered: a replica without backends does not lead. */
static void leave_when_idle(struct mp_proxy *proxy)
{
	if (proxy->draining && proxy->requests.count == 0)
		proxy->leaving = true;
}

bool mp_proxy_drained(const struct mp_proxy *proxy)
{
	return proxy->leaving && proxy->requests.count == 0 && mp_pipeline_idle(proxy) &&
	       proxy->view.role != MU_ROLE_LEADER && mp_sessions_quiet(proxy);
}

/* ------------------------------------------------------------------ the turn */

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

/* Timeouts of requests and clients. Returns when they are to be looked at again. */
static uint64_t sweep(struct mp_proxy *proxy, uint64_t now_ns)
{
	uint64_t now_ms = now_ns / 1000000;
	bool waiting = !TAILQ_EMPTY(&proxy->router.ready) || !TAILQ_EMPTY(&proxy->doubt.list);
	bool partial = mp_sessions_unfinished(proxy);

	if (!waiting && !partial) {
		STAT_SET(proxy, held, 0);
		return UINT64_MAX;
	}
	if (now_ms >= proxy->next_sweep_ms) {
		mp_router_sweep(proxy, now_ms);
		mp_doubt_sweep(proxy, now_ms);
		mp_sessions_sweep(proxy, now_ms);
		proxy->next_sweep_ms = now_ms + (waiting ? SWEEP_MS : IDLE_SWEEP_MS);
	} else if (waiting && proxy->next_sweep_ms > now_ms + SWEEP_MS) {
		proxy->next_sweep_ms = now_ms + SWEEP_MS;
	}
	return proxy->next_sweep_ms * UINT64_C(1000000);
}

/*
 * Over shared memory what a step has posted, such as a commit word, is complete by
 * then, and the next step may follow at once rather than after another pass of the
 * event loop; unless there is something to apply before.
 */
static uint64_t step(struct mp_proxy *proxy, uint64_t now_ns)
{
	uint64_t commit_lsn = proxy->view.commit_lsn;
	uint64_t next_ns = mu_step(proxy->mu, now_ns);

	mu_view(proxy->mu, &proxy->view);
	if (next_ns > now_ns || proxy->view.commit_lsn != commit_lsn)
		return next_ns;
	next_ns = mu_step(proxy->mu, now_ns);
	mu_view(proxy->mu, &proxy->view);
	return next_ns;
}

uint64_t mp_proxy_turn(struct mp_proxy *proxy, uint64_t now_ns)
{
	uint64_t commit_lsn = proxy->view.commit_lsn;
	uint64_t next_ns, pause_ns;
	bool more;

	/* Events of this pass may have asked for the time already. */
	if (proxy->now_ns > now_ns)
		now_ns = proxy->now_ns;
	proxy->now_ns = now_ns;

	pause_ns = mp_pause_turn(proxy);
	mp_memory_tell(proxy);
	mp_sessions_resume(proxy);
	mp_router_run(proxy);
	mp_digest_turn(proxy);
	mp_memcached_digest_turn(proxy);
	mp_pipeline_propose(proxy);
	next_ns = step(proxy, now_ns);
	mp_pipeline_follow(proxy);
	if (proxy->view.commit_lsn != commit_lsn)
		mp_apply_receive(proxy);
	more = mp_apply_run(proxy);
	mp_pipeline_follow(proxy);
	next_ns = earlier(next_ns, mp_listing_turn(proxy));
	next_ns = earlier(next_ns, mp_large_turn(proxy));
	leave_when_idle(proxy);
	next_ns = earlier(next_ns, mp_transfer_turn(proxy));
	next_ns = earlier(next_ns, mp_adopt_turn(proxy));
	mp_backends_watch(proxy);
	mp_pubsub_turn(proxy);
	mp_relay_in_turn(proxy);
	next_ns = earlier(next_ns, mp_relay_out_turn(proxy));
	next_ns = earlier(next_ns, mp_listeners_turn(proxy));
	next_ns = earlier(next_ns, mp_backends_deadline_ns(proxy));
	next_ns = earlier(next_ns, mp_expiry_deadline_ns(proxy));
	next_ns = earlier(next_ns, mp_memory_deadline_ns(proxy));
	next_ns = earlier(next_ns, mp_digest_deadline_ns(proxy));
	next_ns = earlier(next_ns, mp_memcached_digest_deadline_ns(proxy));
	next_ns = earlier(next_ns, mp_blocking_deadline_ns(proxy));
	next_ns = earlier(earlier(next_ns, pause_ns), sweep(proxy, now_ns));
	mp_relay_flush(proxy);
	mp_sessions_flush(proxy);
	if (more || mp_router_pending(proxy) || mp_sessions_pending(proxy))
		next_ns = now_ns;
	proxy->now_ns = 0;
	return next_ns;
}

void mp_proxy_get_stats(const struct mp_proxy *proxy, struct mp_proxy_stats *stats)
{
	const struct mp_proxy_stats *from = &proxy->stats;

#define TAKE(field) stats->field = __atomic_load_n(&from->field, __ATOMIC_RELAXED)
	TAKE(clients);
	TAKE(requests);
	TAKE(reads);
	TAKE(writes);
	TAKE(local);
	TAKE(refused);
	TAKE(relayed);
	TAKE(proposals);
	TAKE(held);
	TAKE(unknown);
	TAKE(protocol_errors);
	TAKE(bytes_in);
	TAKE(bytes_out);
	TAKE(redis_applied_lsn);
	TAKE(memcached_applied_lsn);
	TAKE(redis_state);
	TAKE(memcached_state);
	TAKE(stale);
	TAKE(restore_stage);
	TAKE(restore_protocol);
	TAKE(restore_donor);
	TAKE(restore_bytes);
	TAKE(restore_total_bytes);
	TAKE(restore_ms);
	TAKE(restore_items);
	TAKE(restore_total_items);
	TAKE(restore_in_service);
	TAKE(restore_level_ms);
	TAKE(restores);
	TAKE(restores_failed);
	TAKE(donations);
	TAKE(adopting);
	TAKE(digested_keys);
	TAKE(divergent_keys);
	TAKE(divergent_counts);
	TAKE(digest_heals);
	TAKE(memcached_digested_keys);
	TAKE(memcached_divergent_keys);
	TAKE(memcached_digest_heals);
#undef TAKE
}
