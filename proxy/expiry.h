/*
 * expiry.h - keys' deadlines, kept by the log (DESIGN 6.4; DETERMINISM, Redis
 * 8). No server expires a key by itself: the deadlines that it holds are padded
 * (deadline_effects.h). The leader appends an entry that expires what is due;
 * so a key goes at the same place of the log everywhere, whatever the clocks
 * of the servers and however far they lag.
 *
 * Who knows what is due. Every replica keeps an index (deadlines.h) that
 * follows from nothing but the entries handed to its own backend: a leader
 * that takes over has it at hand. It holds lower bounds: where the outcome of
 * a command decides (SET NX, EXPIRE GT, RENAME, ...), it holds the earliest
 * deadline that the key may have. What is due is logged as "delete if due", and
 * where a bound proves to have been one only, the backend is asked for the real
 * deadline. A process that starts, or finds its backend again, asks it for all
 * of them, and cannot lead before it has them.
 *
 * What a script sets nobody can tell beforehand: it writes it down in its server,
 * which is asked for it at once (redis_scripts.h). Until the answer is there the
 * index does not hold all bounds: what moves meanwhile is asked for, too.
 *
 * The log's clock. An entry's timestamp T is the time of everything in it, and
 * of the reads that go with it: at T every key due by T is gone, so before
 * anything is proposed at T, what is due by T is. What is under way, and not in
 * the index yet, must not become due unseen: while a batch that may set a
 * deadline D is not committed, or a real deadline is being asked for, the clock
 * stops short of D. It is exact otherwise. Should it fall back behind the wall
 * clock by more than MP_CLOCK_LAG_MS, requests wait until what holds it is
 * done, which is a round trip to the followers, or to the own backend.
 *
 * A leader's clock runs from where its predecessor's entries end, if its own
 * wall clock is behind that: time never goes back, and never stands still.
 */
#ifndef MP_EXPIRY_H
#define MP_EXPIRY_H

#include <stdbool.h>
#include <stdint.h>

#include "deadline_effects.h"
#include "deadlines.h"
#include "fifo.h"
#include "records.h"
#include "request.h"
#include "slice.h"

struct mp_batch;
struct mp_proxy;

enum { MP_CLOCK_LAG_MS = 2, MP_SWAPS = 16 };

/* SWAPDB, while it was asked what scripts before it had set. */
struct mp_swap {
	uint64_t serial;
	uint32_t one, other;
};

struct mp_expiry {
	struct mp_deadlines index;
	bool is_complete;       /* the index holds every deadline that the backend has */
	uint32_t scan_database; /* !is_complete: being scanned */
	uint64_t serial;        /* of the last question */
	uint64_t scan_serial;   /* of the scan that counts */
	struct mp_fifo asking;  /* uint64_t: the times of what else is asked; at the oldest the
				   clock stands */
	uint32_t scripts;       /* of them, for what scripts have set */
	struct mp_swap swaps[MP_SWAPS]; /* since the oldest of these was asked */
	uint32_t swap_count;
	uint64_t now_ms;    /* the log's clock in this turn; 0: not looked at yet */
	uint64_t ballot;    /* offset_ms holds for it */
	uint64_t offset_ms; /* of the log's clock before the wall clock */
	uint32_t limited;   /* batches under way that stop the clock */
	bool is_late;       /* the clock is so far back that requests wait */
	struct mp_buffer wire;
};

void mp_expiry_close(struct mp_expiry *expiry);

/* --- every replica, of the entries that it hands to its Redis backend */
/* A record flagged MP_RECORD_DEADLINES was handed, of an entry of that time. */
void mp_expiry_note(struct mp_proxy *proxy, const struct mp_record_view *record, uint64_t now_ms);
/* The backend is there (again), and had so many keys with a deadline. */
void mp_expiry_restart(struct mp_proxy *proxy, uint64_t keys);
/* The backend is away, and will come back with other contents: nothing that is known holds. */
void mp_expiry_forget(struct mp_proxy *proxy);
/* The answer to a question of purpose DEADLINE, SCRIPT or SCAN. */
void mp_expiry_answer(struct mp_proxy *proxy, const struct mp_request *r, struct mp_slice answer);

/* The effects of commands in wire form (deadline_effects.h). False: not understood, or no memory.
 */
bool mp_effects_of(struct mp_proxy *proxy, struct mp_slice wire, int commands, uint32_t database,
		   mp_effect_visitor *visit, void *ctx);

/* --- the leader (expiry_clock.c) */
/*
 * Once a turn, before requests go into the pipeline: propose what is due.
 * False: requests have to wait.
 */
bool mp_expiry_turn(struct mp_proxy *proxy);
/* The time of what is proposed in this turn (Unix time). */
uint64_t mp_expiry_now_ms(struct mp_proxy *proxy);
/* The time for a read that goes by no entry's: of this replica's clock, but not before the log's.
 */
uint64_t mp_expiry_reader_ms(struct mp_proxy *proxy);
/* What was put into the batch being filled may change deadlines. */
void mp_expiry_proposed(struct mp_proxy *proxy, struct mp_slice wire, int commands,
			uint32_t database);
/* The batch may not be passed by the clock: not beyond when_ms, until it is committed. */
void mp_expiry_limit(struct mp_proxy *proxy, struct mp_batch *batch, int64_t when_ms);
/* A batch is committed, or abandoned. */
void mp_expiry_batch_done(struct mp_proxy *proxy, struct mp_batch *batch);
/* What was proposed under this ballot may be lost. */
void mp_expiry_abandon(struct mp_proxy *proxy);
/* When the next key is due (monotonic ns), UINT64_MAX: never, or it is not ours to expire. */
uint64_t mp_expiry_deadline_ns(struct mp_proxy *proxy);

#endif
