/*
 * apply.h - from the log to the backends: every committed entry, in order, to
 * each backend exactly once as far as that backend's own applied LSN tells.
 */
#ifndef MP_APPLY_H
#define MP_APPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "mu.h"
#include "record.h"
#include "request.h"
#include "transaction.h"

struct mp_proxy;

/* A backend, and how far it is. */
struct mp_target {
	struct mp_proxy *proxy;
	struct mp_backend *backend; /* NULL: this protocol is off */
	enum mp_protocol protocol;
	const char *name;
	enum mp_backend_state state;
	bool met;               /* it was READY once */
	bool silent;            /* READY, but has not answered for backend_timeout_ms */
	uint64_t handed_lsn;    /* entries up to here were handed to it */
	uint64_t durable_lsn;   /* entries up to here are its for good */
	uint64_t passed_lsn;    /* entries up to here have been handed on, whatever became of it */
	bool is_restarting;     /* Memcached: it is being emptied, see memcached_restart.h */
	uint64_t leader_ballot; /* of the last leader whose first entry has passed */
	struct mp_request_list running; /* what it has not answered to the end */
	struct mp_buffer gathered;      /* of a reply that is needed whole */
	struct mp_buffer rewritten;     /* the same in the client's form */
	struct mp_assembly assembly;    /* of a transaction's replies */
	uint32_t scan_tag;              /* Redis: this start of it (scan.h) */
};

enum { MP_TARGETS = 2 };
struct mp_apply {
	struct mp_target target[MP_TARGETS]; /* by protocol - 1 */
	bool seek_wanted;                    /* the log has to be read from another place */
	bool stale;                          /* the log cannot bring the backends level */
	uint64_t read_lsn;                   /* of the entry read last, or behind which it began */
	/*
	 * What the log has told of our requests (doubt.h), whether or not a backend took it: read
	 * is all up to seen_lsn, but for parts that were passed over, which may hold records of
	 * requests up to unread_sequence.
	 */
	uint64_t seen_era, seen_lsn, unread_sequence;
	uint64_t seen_ballot;          /* of the last leader whose first entry was read */
	uint64_t applied_lsn;          /* as told to consensus */
	uint64_t now_ms;               /* the time of the entry handed on last */
	uint64_t era;                  /* of the log that is read */
	enum mu_backend_health health; /* as told to consensus */
	struct mp_buffer question;     /* a read on its way to a backend in another form */
	uint64_t next_watch_ns;
	uint64_t next_fetch_ns; /* of the command table, as long as there is none */
};

/*
 * Once a turn, after mu_step(): hand on what is committed, as far as the
 * backends take it. True: there is more at once.
 */
bool mp_apply_run(struct mp_proxy *proxy);
/*
 * Take the backends' answers that nobody waits for (backend.h, attend): a follower is
 * then woken for entries alone, and not again for what its server says to them.
 */
void mp_apply_receive(struct mp_proxy *proxy);
/* Up to where a backend needs nothing of the log. */
uint64_t mp_apply_settled_lsn(const struct mp_target *target);
/* Has the first entry of the leader of this ballot reached every backend? */
bool mp_apply_reached(const struct mp_proxy *proxy, uint64_t ballot);
/* A backend is met for the first time: nothing of this process is in what it holds already. */
void mp_apply_met(struct mp_proxy *proxy, const struct mp_target *target, uint64_t applied_lsn);
/* The log cannot bring the backends level, because of why: out of service. */
void mp_apply_become_stale(struct mp_proxy *proxy, const char *why);
static inline unsigned mp_target_index(enum mp_protocol protocol)
{
	return (unsigned)protocol - 1;
}

/*
 * Send a read, or a DECIDING request's question, to the own backend, which is
 * READY. The reply to a read is its client's.
 */
void mp_apply_read(struct mp_proxy *proxy, struct mp_request *r);

/* What is given to the backend next is r's, which is in no list: in the form that r is to have. */
void mp_apply_expect(struct mp_target *target, struct mp_request *r);

#endif
