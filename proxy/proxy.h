/*
 * proxy.h - a replica's data plane above consensus: listeners, sessions, the
 * pipeline propose -> commit -> apply -> reply, relaying to the leader, and
 * the backends. Everything here runs in the data thread.
 */
#ifndef MP_PROXY_H
#define MP_PROXY_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "mu.h"

struct mp_users;

enum mp_read_mode {
	MP_READ_LINEARIZABLE, /* every read sees what was acknowledged before it was sent */
	MP_READ_LOCAL,        /* see local_reads.h */
};

/* Copied, but for the strings, which have to outlive the proxy. */
struct mp_proxy_options {
	unsigned id;
	uint64_t group_id;
	uint64_t origin_nonce; /* random, of this process */
	/* host:port or unix:/path of every member's relay listener, the own one included */
	const char *peer_address[MU_ID_SLOTS];
	/*
	 * Where the members are joined by somebody else: ask him for a connection
	 * to a peer, which mp_proxy_link() then brings. The addresses above are
	 * neither listened on nor dialled then, and who is a member may change. NULL: they are.
	 */
	void (*dial)(void *ctx, unsigned peer);
	void *dial_ctx;
	const char *redis_listen;     /* host:port, NULL: Redis is off */
	const char *memcached_listen; /* host:port, NULL: Memcached is off */
	const char *redis_backend;    /* unix:/path or host:port; NULL if Redis is off */
	const char *redis_password;   /* of the backend, or NULL */
	/* Whose data a new group begins with (adopt.h), host:port, or NULL; and as whom. */
	const char *redis_seed, *redis_seed_user, *redis_seed_password;
	const char *memcached_seed; /* likewise */
	const char *memcached_backend;
	uint32_t read_mode; /* enum mp_read_mode: what Redis connections begin with */
	/* Who may use redis_listen, memcached_listen; NULL: everybody. Have to outlive the proxy.
	 */
	const struct mp_users *redis_users, *memcached_users;

	uint64_t max_request_bytes; /* one request; its largest value is a little less */
	uint64_t max_batch_bytes;   /* one log entry's worth of records, but for a larger request */
	uint32_t max_clients;       /* per protocol */
	/*
	 * A client is not read from while its unread replies are many. Beyond this a subscriber or
	 * monitor is cut off, and so are others where nothing may be spilled.
	 */
	uint64_t client_output_bytes;
	const char *spill_directory; /* for what is large of unread replies (spill.h) */
	uint64_t max_spill_bytes;    /* all of it; 0: it is held in memory */
	/* All requests in hand, waiting or under way; beyond it nobody is read from. */
	uint64_t max_held_bytes;
	uint32_t hold_timeout_ms;    /* how long a request waits for a leader */
	uint32_t unknown_timeout_ms; /* how long one in doubt waits before "outcome unknown" */
	uint32_t backend_timeout_ms; /* a backend silent for longer is down */
	uint32_t idle_timeout_ms;    /* of a client that is in the middle of a request; 0: none */
	uint32_t digest_interval_ms; /* servers are compared so often (digest.h); 0: never */
	uint32_t digest_keys;        /* ... so many keys of each */
	uint32_t memcached_digest_interval_ms, memcached_digest_keys; /* likewise */
	/* For a test to show that it would see: reads don't wait for their fence. */
	bool unfenced_reads;
};
void mp_proxy_options_init(struct mp_proxy_options *options);

struct mp_proxy;

/*
 * Binds the listeners and begins to connect to the backends. NULL with a
 * one-line reason ("redis-listen 127.0.0.1:7101: Address already in use").
 */
struct mp_proxy *mp_proxy_open(struct event_base *base, struct mu *mu,
			       const struct mp_proxy_options *options, char *err, size_t err_bytes);
/*
 * One turn, after every pass of the event loop: proposes what arrived as one
 * entry, steps consensus, applies what is committed, sends replies. Returns
 * when it next must run at the latest (monotonic ns; now_ns itself: at once).
 */
uint64_t mp_proxy_turn(struct mp_proxy *proxy, uint64_t now_ns);
/*
 * A connection to or from a peer, who is known to be that peer; takes fd over.
 * -1: the one that was asked for is not to be had. On the data thread.
 */
void mp_proxy_link(struct mp_proxy *proxy, unsigned peer, int fd, bool dialled);
/* Stop accepting; finish what was taken. Poll mp_proxy_drained(). */
void mp_proxy_drain(struct mp_proxy *proxy);
/*
 * Before maintenance: goes on serving, but does not come to lead, as long as somebody
 * else does. Off again: as before.
 */
void mp_proxy_rest(struct mp_proxy *proxy, bool rests);
bool mp_proxy_drained(const struct mp_proxy *proxy);
void mp_proxy_close(struct mp_proxy *proxy);
/*
 * An operator's word that what the own Redis holds may go, whatever it is: it is
 * given another replica's state as soon as there is one. Any thread; wake the data
 * thread then. False: there is no Redis.
 */
bool mp_proxy_replace_redis(struct mp_proxy *proxy);

/*
 * Counters; readable by any thread (relaxed). clients and held are of now, all
 * else since the start. requests: of the own clients, but those answered by the
 * session itself (local) or refused; reads and writes: executed as the leader,
 * for whomever; relayed: sent to a leader, or taken as one from other replicas;
 * held: clients with a request that waits for a leader; unknown: writes of
 * which the client was told that nobody can say whether they were executed.
 */
struct mp_proxy_stats {
	uint64_t clients, requests, reads, writes, local, refused, relayed, proposals;
	uint64_t held, unknown, protocol_errors, bytes_in, bytes_out;
	uint64_t redis_applied_lsn, memcached_applied_lsn;
	int redis_state, memcached_state; /* enum mp_backend_state, -1: off */
	bool stale;
	/*
	 * State transfer (transfer.h). What is being restored here, from which replica,
	 * and how far that is; total 0: not known. restores: since the start; donations:
	 * other replicas' servers being restored from here, now.
	 */
	int restore_stage;    /* enum mp_transfer_stage */
	int restore_protocol; /* enum mp_protocol, 0: none */
	unsigned restore_donor;
	bool restore_in_service; /* it serves meanwhile (Memcached) */
	uint64_t restore_bytes, restore_total_bytes, restore_ms;
	uint64_t restore_items, restore_total_items; /* Memcached */
	uint64_t restore_level_ms; /* of the last one: from the gate (transfer.h) to level */
	uint64_t restores, restores_failed, donations;
	/*
	 * digest.h, of the leader: keys compared, those that differed, and times that only how many
	 * there are did; of every replica: times that its server was found wrong.
	 */
	uint64_t digested_keys, divergent_keys, divergent_counts, digest_heals;
	/* memcached_digest.h, likewise; heals: items that were dropped here. */
	uint64_t memcached_digested_keys, memcached_divergent_keys, memcached_digest_heals;
	bool adopting; /* what is restored here is from the seed (adopt.h) */
};
void mp_proxy_get_stats(const struct mp_proxy *proxy, struct mp_proxy_stats *stats);

/* The name of restore_stage: "none", "receiving", ... */
const char *mp_proxy_restore_stage(const struct mp_proxy_stats *stats);
/* Milliseconds until the transfer has all come, at the speed so far; -1: cannot be told. */
int64_t mp_proxy_restore_left_ms(const struct mp_proxy_stats *stats);
/* 0 to 100 of the bytes; -1: cannot be told. */
int mp_proxy_restore_percent(const struct mp_proxy_stats *stats);
/* All of it in words: "receiving from replica 2: 43 % of 210.0 MB, 1.2 s left". */
enum { MP_PROGRESS_BYTES = 160 };
void mp_proxy_restore_words(const struct mp_proxy_stats *stats, char out[MP_PROGRESS_BYTES]);

#endif
