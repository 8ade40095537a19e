/*
 * backend.h - the server beside the replica: one pipelined connection over
 * which committed writes go in log order, and reads in between.
 *
 * A backend is driven by the data thread's libevent loop. It never blocks.
 * Its applied LSN lives in it, updated atomically with what it covers
 * (DESIGN 3.7 rule 10, DETERMINISM Redis 1), and is read back, with the
 * server's identity, on every (re)connect before any command is sent.
 *
 * Events are told from within the event loop and receive() only, never from within
 * another of the ops; ops may be called from within an event, close() and
 * receive() excepted.
 */
#ifndef MP_BACKEND_H
#define MP_BACKEND_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memcached_clock.h"
#include "slice.h"

/* Keys with this prefix are muproxy's own in Memcached; clients are refused them. */
#define MP_MEMCACHED_OWN_PREFIX "__muproxy__:"

enum mp_backend_state {
	MP_BACKEND_DISCONNECTED, /* reconnecting by itself, with back-off */
	MP_BACKEND_READY,        /* identity and applied LSN known; takes commands */
	/*
	 * The server is there but must not serve: it refused a committed write
	 * (OOM, READONLY, ...), holds foreign data, or cannot be used as it is
	 * configured. It is asked again every reconnect_max_ms, and becomes READY
	 * by itself once whatever it was has been repaired.
	 */
	MP_BACKEND_FAILED,
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
	 * reconnecting, by the caller. Call no ops from here.
	 */
	void (*lost)(void *ctx, void *owner);
	/*
	 * State changed, or the reason did. READY: applied_lsn is what this server
	 * has executed, so go on behind it; 0: an empty server that has seen
	 * nothing of any log. It may be less than what was told before (a server
	 * that restarted from an older file). why: one line for the log, good
	 * during the call: who the server is, or what is wrong.
	 */
	void (*state)(void *ctx, enum mp_backend_state state, uint64_t applied_lsn,
		      const char *why);
	/* Everything up to this LSN survives a restart of the proxy. Monotonic while READY. */
	void (*durable)(void *ctx, uint64_t lsn);
};

struct mp_backend_options {
	const char *address;  /* "unix:/path" or "host:port" */
	const char *password; /* AUTH, or NULL */
	uint64_t group_id;    /* stored beside the applied LSN: another group's server is refused */
	int reconnect_min_ms, reconnect_max_ms;
};

/*
 * The functions of an adapter (Redis: backend_redis.c; Memcached:
 * backend_memcached.c). An entry is applied as
 *     begin(lsn, blind) { write() | read() }* end()
 * and what lies between is one unit: either all its writes and the applied LSN
 * are in the server, or none. `blind` = every write of the unit is blind; then
 * the adapter may spare the atomic wrapping and store the LSN later, as long as
 * it does so before or with the next unit that is not. Units given between two
 * flush() may become one. Reads outside of a unit are allowed. The bytes given
 * are copied or sent before the call returns. A unit is given in one go, without
 * going back to the event loop, and so are a run of units and the flush() behind it.
 *
 * begin, write, read, end and skip may be called while the state, as last
 * told, is READY. If the connection turns out broken meanwhile, they go on
 * working, and what they were given is lost() in the loop's next pass.
 */
struct mp_backend_ops {
	/* LSNs only grow. */
	void (*begin)(struct mp_backend *, uint64_t lsn, bool blind);
	/*
	 * commands: how many wire commands bytes hold, at least 1 (Redis: in
	 * multibulk form); the owner gets the last one's reply. database: below
	 * mp_backend_redis_databases(); Memcached: 0.
	 */
	void (*write)(struct mp_backend *, uint32_t database, struct mp_slice bytes, int commands,
		      void *owner);
	/*
	 * Redis: a client's transaction. As write, but the owner gets each command's
	 * reply, and with each its `last`; if they are lost it is told once.
	 */
	void (*transaction)(struct mp_backend *, uint32_t database, struct mp_slice bytes,
			    int commands, void *owner);
	void (*read)(struct mp_backend *, uint32_t database, struct mp_slice bytes, void *owner);
	void (*end)(struct mp_backend *);
	/*
	 * Redis: the version of its protocol (2, 3) that replies to what is given
	 * from here on are to have; 0: either will do.
	 */
	void (*speak)(struct mp_backend *, int resp);
	/* An entry without records for this backend: only moves the applied LSN (lazily). */
	void (*skip)(struct mp_backend *, uint64_t lsn);
	/* Send what is queued; call once a turn. */
	void (*flush)(struct mp_backend *);
	/*
	 * Does anybody wait for an answer? If not, they may be taken some milliseconds
	 * late: that nobody is woken for them saves more than taking them costs. Call it
	 * after flush().
	 */
	void (*attend)(struct mp_backend *, bool is_awaited);
	/* Take what has been answered and nobody was woken for. Tells events. */
	void (*receive)(struct mp_backend *);
	/*
	 * For back-pressure: bytes that the server's socket has not taken yet, and
	 * 64 for every unanswered command. Nothing here is bounded but by the
	 * caller's not giving more while this is large.
	 */
	size_t (*backlog)(const struct mp_backend *);
	/* Milliseconds for which an unanswered command has seen no byte move; 0 if none waits. */
	uint64_t (*oldest_ms)(const struct mp_backend *);
	/*
	 * Stay away from the server (DISCONNECTED, because of why) until release():
	 * it is being given another state. another: that has come about.
	 */
	void (*hold)(struct mp_backend *, const char *why);
	void (*release)(struct mp_backend *, bool another);
	/* Ends the connection; no event is told any more, not even lost(). */
	void (*close)(struct mp_backend *);
};

struct mp_backend {
	const struct mp_backend_ops *ops;
	const struct mp_backend_events *events;
	void *events_ctx;
	enum mp_backend_state state;
	/*
	 * Of the log that LSNs are of (mu.h): stored beside them. When READY is told
	 * it is what the server has stored; whoever hands on entries sets it to the
	 * era of his log before.
	 */
	uint64_t era;
	uint64_t applied_lsn; /* sent and answered */
	uint64_t durable_lsn; /* what the server itself says, see events->durable */
};

/*
 * Begins to connect; what becomes of it is told as an event. NULL with a
 * one-line reason in err if the address makes no sense (a host name is looked
 * up here, once). options need not outlive the call, events must.
 */
struct mp_backend *mp_backend_redis_open(struct event_base *, const struct mp_backend_options *,
					 const struct mp_backend_events *, void *ctx, char *err,
					 size_t err_bytes);
struct mp_backend *mp_backend_memcached_open(struct event_base *, const struct mp_backend_options *,
					     const struct mp_backend_events *, void *ctx, char *err,
					     size_t err_bytes);

/* How large an item may be, in bytes (memcached -I); 0: not yet READY once. */
uint64_t mp_backend_memcached_item_size_max(const struct mp_backend *);
/* Which flags it knows that 1.6.18 did not: enum mc_news (mc_text.h). */
unsigned mp_backend_memcached_news(const struct mp_backend *);
/* By how many seconds its clock is ahead of Unix time, as far as that matters. */
int64_t mp_backend_memcached_shift_s(const struct mp_backend *);
/* The deadline of an item that has so long to live there: Unix time, up to a second too early. */
int64_t mp_backend_memcached_deadline_s(const struct mp_backend *, int64_t left_s);
/*
 * As applied_lsn, and what has to follow on a store that failed is executed, too; 0: just
 * now there is none such.
 */
uint64_t mp_backend_memcached_settled_lsn(const struct mp_backend *);
/*
 * Execute what is in no log, in clean form (mc_encode.h), behind all that was written so
 * far: such as storing an item that is not there yet. Whether that succeeds is nobody's
 * concern. READY only; flush() afterwards.
 */
void mp_backend_memcached_say(struct mp_backend *, struct memcached_command command);
/*
 * Drop everything that the server holds, and have it stand at that LSN of that
 * era: an empty cache is a state as good as any. Done on a new connection, so
 * what is under way is lost(); then READY is told, with that LSN. is_partial: see below.
 */
void mp_backend_memcached_empty(struct mp_backend *, uint64_t era, uint64_t lsn, bool is_partial);
/*
 * Have it stand at that LSN of that era with what it holds. Likewise on a new connection;
 * should the server have come back empty on that, it stands nowhere (LSN 0).
 */
void mp_backend_memcached_move(struct mp_backend *, uint64_t era, uint64_t lsn);
/*
 * It was emptied to be given more than the log brings it, and has not all yet: remembered in
 * the server, for whoever connects next. Behind no LSN that makes it a server to be emptied,
 * and it is. READY only.
 */
bool mp_backend_memcached_is_partial(const struct mp_backend *);
/* It lacks nothing any more, or will not be given it. */
void mp_backend_memcached_be_whole(struct mp_backend *);
/* The databases that clients may see (one less than the server has); 0: not yet READY once. */
uint32_t mp_backend_redis_databases(const struct mp_backend *);
/* The server's version, "" if it is not known yet. */
const char *mp_backend_redis_version(const struct mp_backend *);
/* Is it a Valkey? */
bool mp_backend_redis_is_valkey(const struct mp_backend *);
/* Which start of the server it is; another has another. */
const char *mp_backend_redis_run_id(const struct mp_backend *);
/* How many keys had a deadline when it last became READY. */
uint64_t mp_backend_redis_volatile_keys(const struct mp_backend *);
#endif
