/*
 * state.h - the whole of a proxy's state, for the files that make it up: each
 * member belongs to the header it comes from.
 */
#ifndef MP_STATE_H
#define MP_STATE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "adopt.h"
#include "apply.h"
#include "blocking.h"
#include "blocking_home.h"
#include "chunk.h"
#include "command.h"
#include "digest.h"
#include "doubt.h"
#include "expiry.h"
#include "large_reads.h"
#include "listener.h"
#include "lock.h"
#include "memory.h"
#include "memcached_digest.h"
#include "memcached_path.h"
#include "pause.h"
#include "mc_text.h"
#include "mu.h"
#include "pipeline.h"
#include "proxy.h"
#include "pubsub.h"
#include "relay.h"
#include "request.h"
#include "resp.h"
#include "router.h"
#include "session.h"
#include "transfer.h"
#include "watch.h"

struct mp_proxy {
	struct event_base *base;
	struct mu *mu;
	struct mp_proxy_options options;
	struct mu_view view;    /* as of the last mu_step() */
	uint64_t now_ns;        /* 0: to be asked for */
	uint64_t next_sweep_ms; /* 0: nothing to sweep */
	bool draining;          /* takes nothing more */
	bool leaving;           /* what was taken is answered: somebody else has to lead */
	bool rests;             /* somebody else is to lead, if he can */
	uint64_t led_ns;        /* when anybody was known to lead last */

	struct mp_listeners listeners;
	struct mp_sessions sessions;
	struct mp_requests requests;
	struct mp_chunks chunks;
	struct mp_router router;
	struct mp_pipeline pipeline;
	struct mp_locks locks;
	struct mp_apply apply;
	struct mp_expiry expiry;
	struct mp_memory memory;
	struct mp_pause pause;
	struct mp_watch watch;
	struct mp_blocking blocking;
	struct mp_patience_list patience; /* of the own clients */
	struct mp_doubt doubt;
	struct mp_relay relay;
	struct mp_memcached memcached;
	struct mp_large_reads large;
	struct mp_pubsub pubsub;
	struct mp_transfer transfer;
	struct mp_adopt adopt;
	struct mp_digest digest;
	struct mp_memcached_digest memcached_digest;

	struct mp_commands *commands; /* NULL: not known yet */
	int databases;                /* that clients see */
	struct resp_limits resp_limits;
	struct mc_limits mc_limits;
	struct resp_parser *resp; /* to look into requests again */
	struct mc_parser *mc;

	struct mp_proxy_stats stats;
};

/* The monotonic clock, asked once a turn at most. */
uint64_t mp_now_ns(struct mp_proxy *proxy);
static inline uint64_t mp_ms_in_ns(uint64_t ms)
{
	return ms * UINT64_C(1000000);
}
static inline uint64_t mp_now_ms(struct mp_proxy *proxy)
{
	return mp_now_ns(proxy) / 1000000;
}

static inline struct mp_target *mp_target_of(struct mp_proxy *proxy, unsigned protocol)
{
	return &proxy->apply.target[mp_target_index((enum mp_protocol)protocol)];
}

/* Counters have one writer, the data thread; other threads just look. */
#define STAT_ADD(proxy, field, n)                                                     \
	__atomic_store_n(&(proxy)->stats.field, (proxy)->stats.field + (uint64_t)(n), \
			 __ATOMIC_RELAXED)
#define STAT_SET(proxy, field, value) \
	__atomic_store_n(&(proxy)->stats.field, (value), __ATOMIC_RELAXED)

#endif
