/*
 * backend.h - the server beside the replica: one pipelined connection over
 * which committed writes go in log order, and reads in between.
 *
 * A backend is driven by the data thread's libevent loop. It never blocks.
 * Its applied LSN lives in it, updated atomically with what it covers
 * (DESIGN 3.7 rule 10, DETERMINISM Redis 1), and is read back, with the
 * server's identity, on every (re)connect before any command is sent.
 */
#ifndef MP_BACKEND_H
#define MP_BACKEND_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

enum mp_backend_state {
	MP_BACKEND_DISCONNECTED, /* reconnecting by itself, with back-off */
	MP_BACKEND_READY,        /* identity and applied LSN known; takes commands */
	MP_BACKEND_FAILED,       /* refused a committed write (OOM, READONLY, ...): out of service */
};

struct mp_backend;

/* What a reply is told with; the pointer given with the command comes back. */
struct mp_backend_events {
	/*
	 * A piece of the reply to the oldest unanswered command, in order. last:
	 * it is the final piece. A reply of less than 64 KiB comes in one piece.
	 * owner NULL replies are swallowed by the backend itself.
	 */
	void (*reply)(void *ctx, void *owner, struct mp_slice piece, bool last);
	/*
	 * The command will have no (more) reply: the connection was lost or the
	 * backend failed. Called for every unanswered owner, in order, before
	 * state(). A write that was lost is applied again from the log, after
	 * reconnecting, by the caller.
	 */
	void (*lost)(void *ctx, void *owner);
	/*
	 * State changed. READY: applied_lsn is what this server has executed, so
	 * go on behind it; 0: an empty server that has seen nothing of any log.
	 * why: one line for the log, may be NULL. When a server without any
	 * applied LSN holds data of somebody else's, state is FAILED.
	 */
	void (*state)(void *ctx, enum mp_backend_state state, uint64_t applied_lsn, const char *why);
	/* Everything up to this LSN survives a restart of the proxy. Monotonic while READY. */
	void (*durable)(void *ctx, uint64_t lsn);
};

struct mp_backend_options {
	const char *address; /* "unix:/path" or "host:port" */
	const char *name;    /* for log lines: "redis" */
	const char *password; /* AUTH, or NULL */
	uint64_t group_id;   /* stored beside the applied LSN: another group's server is refused */
	int reconnect_min_ms, reconnect_max_ms;
	size_t max_reply_bytes; /* soft bound of what is buffered towards the server */
};

/*
 * The functions of an adapter (Redis: backend_redis.c; Memcached:
 * backend_memcached.c). An entry is applied as
 *     begin(lsn, blind) { write() | read() }* end()
 * and what lies between is one unit: either all its writes and the applied LSN
 * are in the server, or none. `blind` = every write of the unit is blind; then
 * the adapter may spare the atomic wrapping and store the LSN later, as long as
 * it does so before or with the next unit that is not. Reads outside of a unit
 * are allowed. The bytes given are copied or sent before the call returns.
 */
struct mp_backend_ops {
	void (*begin)(struct mp_backend *, uint64_t lsn, bool blind);
	/* commands: how many wire commands bytes hold; the owner gets the last one's reply. */
	void (*write)(struct mp_backend *, uint32_t database, struct mp_slice bytes, int commands,
		      void *owner);
	void (*read)(struct mp_backend *, uint32_t database, struct mp_slice bytes, void *owner);
	void (*end)(struct mp_backend *);
	/* An entry without records for this backend: only moves the applied LSN (lazily). */
	void (*skip)(struct mp_backend *, uint64_t lsn);
	/* Send what is queued; call once a turn. */
	void (*flush)(struct mp_backend *);
	/* Bytes queued towards the server and commands unanswered: for back-pressure. */
	size_t (*backlog)(const struct mp_backend *);
	/* Milliseconds since the oldest unanswered command was sent; 0 if none. */
	uint64_t (*oldest_ms)(const struct mp_backend *);
	void (*close)(struct mp_backend *);
};

struct mp_backend {
	const struct mp_backend_ops *ops;
	const struct mp_backend_events *events;
	void *events_ctx;
	enum mp_backend_state state;
	uint64_t applied_lsn; /* sent and answered */
	uint64_t durable_lsn; /* what the server itself says, see events->durable */
};

struct mp_backend *mp_backend_redis_open(struct event_base *, const struct mp_backend_options *,
					 const struct mp_backend_events *, void *ctx);
struct mp_backend *mp_backend_memcached_open(struct event_base *,
					     const struct mp_backend_options *,
					     const struct mp_backend_events *, void *ctx);
#endif
