/*
 * pipeline.h - the leader's path: what arrives in a turn becomes a batch; its
 * writes become one log entry, its reads keep their place between them. When
 * the entry comes back committed (apply.c), the batch goes to the backend.
 *
 * A batch's reads are linearizable: they reach the backend behind everything
 * committed before they came, and only after this replica was proved to lead
 * still: by the commit of the batch's own entry, which was proposed after
 * they came, or by a fence (DESIGN 3.4).
 */
#ifndef MP_PIPELINE_H
#define MP_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "buffer.h"
#include "command.h"
#include "records.h"
#include "request.h"

struct mp_proxy;

struct mp_batch {
	STAILQ_ENTRY(mp_batch) next;
	struct mp_request_list requests; /* in the order of their execution */
	bool writes;
	uint64_t lsn;            /* of its entry, if it writes */
	uint64_t fence;          /* ticket, if it does not */
	uint64_t clock_limit_ms; /* the clock stops there until it is committed (expiry.h) */
};
STAILQ_HEAD(mp_batch_list, mp_batch);

struct mp_pipeline {
	uint64_t ballot;        /* requests are taken under it; 0: none are */
	uint64_t closed_ballot; /* the last one that was abandoned: not to be opened again */
	uint64_t proposed_lsn;  /* last proposal under ballot, 0: none */
	uint64_t timestamp_ms;  /* of the batch being filled; 0: not asked for yet */
	struct mp_batch *filling;
	bool stuck; /* `filling` was refused for want of room: nothing goes in before it */
	struct mp_batch_list proposed; /* oldest first */
	struct mp_batch_list spare;
	struct mp_records records;  /* of `filling` */
	struct mp_buffer rewritten; /* a request's form for the log, on its way to records */
	struct mp_buffer recipe;    /* a transaction's, likewise */
};

void mp_pipeline_init(struct mp_pipeline *pipeline);
void mp_pipeline_close(struct mp_proxy *proxy);
/* Follow the role: open under a new ballot, abandon the old one. Call after every mu_step(). */
void mp_pipeline_follow(struct mp_proxy *proxy);
/*
 * Stop leading: nothing more is taken under this ballot, batches under way are
 * taken apart: relayed requests are dropped (their sender is told that we are
 * deposed), our own clients' are in doubt.
 */
void mp_pipeline_abandon(struct mp_proxy *proxy);

/* May a request go in now? bytes: of its wire form. Proposes a batch that is full. */
bool mp_pipeline_room(struct mp_proxy *proxy, size_t bytes);
/* Put a request in. It may be answered at once, if it turns out to be wrong. */
void mp_pipeline_add(struct mp_proxy *proxy, struct mp_request *r);
/* Propose what was filled in, if the log has room. */
void mp_pipeline_propose(struct mp_proxy *proxy);

/*
 * Put a decided conditional in (lock.c): the plain writes it came to (len 0:
 * none), and its reply (struct mc_canned; len 0: it follows from the backend's).
 */
void mp_pipeline_add_decided(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice wire,
			     int commands, struct mp_slice reply);
enum mp_rewriting { MP_REWRITTEN, MP_REWRITE_REFUSED, MP_REWRITE_NO_MEMORY };
/* Append a write's form for the log to out. error (MP_ERROR_BYTES): what the client is told. */
enum mp_rewriting mp_pipeline_rewrite(struct mp_proxy *proxy, const struct mp_origin *origin,
				      uint32_t database, uint32_t resp,
				      const struct mp_command *command,
				      const struct resp_request *request, struct mp_buffer *out,
				      int *commands, char *error);
/*
 * Put a transaction in, whose commands are in pipeline->rewritten, its recipe in
 * ->recipe. flags: DEADLINES, SPEAKS, SETTINGS (record.h).
 */
void mp_pipeline_add_transaction(struct mp_proxy *proxy, struct mp_request *r, uint32_t commands,
				 unsigned flags);
/* Put another attempt of a BLOCKED request in (blocking.h): a write of these bytes; a read. */
void mp_pipeline_add_attempt(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice wire);
void mp_pipeline_add_reading(struct mp_proxy *proxy, struct mp_request *r);
/*
 * Put a write of our own in: nobody waits for it. flags: BLIND, SPEAKS (record.h).
 * is_open: the clock stops until it is committed.
 */
void mp_pipeline_add_own(struct mp_proxy *proxy, enum mp_protocol protocol, uint32_t database,
			 struct mp_slice wire, unsigned flags, bool is_open);
/* The time of the entry being filled, for what is decided on behalf of it (Unix time). */
int64_t mp_pipeline_now_s(struct mp_proxy *proxy);
int64_t mp_pipeline_now_ms(struct mp_proxy *proxy);
/* Put a question to the own backend in, for a conditional. raw is its wire form. */
void mp_pipeline_add_question(struct mp_proxy *proxy, struct mp_request *r);

/* Send the batches of reads that are next in line and proved to the backends. */
void mp_pipeline_run_reads(struct mp_proxy *proxy);
/*
 * An entry of ours was committed: the batch it belongs to, now the caller's to
 * execute and mp_pipeline_done() with; reads ahead of it have been sent.
 * NULL: it is not one of the batches.
 */
struct mp_batch *mp_pipeline_committed(struct mp_proxy *proxy, uint64_t lsn, uint64_t ballot);
void mp_pipeline_done(struct mp_proxy *proxy, struct mp_batch *batch);
/* Nothing is under way. */
bool mp_pipeline_idle(const struct mp_proxy *proxy);

#endif
