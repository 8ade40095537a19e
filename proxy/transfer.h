/*
 * transfer.h - state transfer: a backend that the log cannot bring level (it
 * came back empty or with an old file, or was away for longer than the ring is
 * long) is given the state of another replica's (DESIGN 6.5).
 *
 * What is common to Redis and Memcached is here: when to begin, from whom, over
 * what, what the operator sees, and when to begin again. How a server's state is
 * read and written is the protocol's own, two tables of functions: one for the
 * end that is restored (struct mp_restorer), one for the end that gives (struct
 * mp_donor). Redis: redis_restore.c, redis_donor.c.
 *
 * An attempt, at the end that is restored (transfer.c):
 *
 *   wanted     the log was found not to reach back (apply.c). Until the state is
 *              there this replica's backend is STALE to consensus: it may not
 *              lead, no ring space is kept for it, nothing is read from it;
 *   a donor    is chosen among the replicas that say that theirs is LEVEL: a
 *              follower rather than the leader, one that has not failed us since
 *              all others have, and of those the one that has applied most;
 *   a link     of its own (link.h, purpose TRANSFER) is dialled as the relay's is:
 *              through the peering, where there is one. Nothing else needs to
 *              reach the donor's server from here;
 *   WANT       is sent. The donor's proxy looks whether it can, and agrees;
 *   begin()    of the restorer; from here on the two ends talk in notes (a
 *              number and two operands each) and bytes, both ways;
 *   restored   the restorer says at which (era, LSN) its server stands, exactly.
 *              The log is read from there at once, so that its space is kept, and
 *              the backend, held since the beginning, connects and is brought
 *              level by the log as after any other pause.
 *
 * A Memcached is restored beside its service (memcached_transfer.h): it is in order
 * all the time, only not full. It is not held, and the log goes on; a Redis that needs
 * it comes first.
 *
 * Whatever goes wrong ends the attempt: mp_restore_fail(). Then the backend
 * connects, says what it has, and if the log still does not reach back to that
 * another attempt begins, elsewhere if there is an elsewhere. A server that is
 * left in the middle holds an older or a whole state with its LSN, or none that
 * would be mistaken for one; each protocol sees to that.
 *
 * The donor goes on applying. At the place where its state is cut it may pin
 * the log (mp_donation_pin()): what follows is kept until the link ends, or for
 * PIN_MS.
 *
 * One server is restored at a time, Redis first. Buffers are bounded by
 * MP_TRANSFER_SOFT_BYTES each: donor to link, link to server; behind them the
 * donor's server waits. Data thread only, but for the figures (proxy.h).
 */
#ifndef MP_TRANSFER_H
#define MP_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "link.h"
#include "mu.h"
#include "net.h"
#include "record.h"
#include "slice.h"

struct mp_proxy;
struct mp_target;

enum {
	MP_TRANSFER_SOFT_BYTES = 4 << 20, /* more than that unsent: take no more */
	MP_TRANSFER_PIECE_BYTES = 256 << 10,
	MP_TRANSFER_SILENCE_MS = 30000, /* an end that should say something and does not */
};

/* As shown: report.c has the words. */
enum mp_transfer_stage {
	MP_TRANSFER_NONE,
	MP_TRANSFER_WAITING,   /* for a donor, or to try again */
	MP_TRANSFER_ASKING,    /* the donor */
	MP_TRANSFER_PREPARING, /* here and there */
	MP_TRANSFER_RECEIVING, /* the state as it was when it was asked for */
	MP_TRANSFER_LOADING,   /* it, into the server */
	MP_TRANSFER_FOLLOWING, /* what has changed since */
	MP_TRANSFER_CUTTING,   /* at one LSN */
};

/* ------------------------------------------------- the end that is restored */

struct mp_restore {
	struct mp_proxy *proxy;
	uint32_t wanted;          /* bit i: the server of target i */
	uint32_t replaced;        /* ... whatever it holds: an operator has said so */
	struct mp_target *target; /* whose server is being restored; NULL: no attempt is on */
	const struct mp_restorer *ops;
	void *own; /* the restorer's; NULL before begin() */
	enum mp_transfer_stage stage;
	unsigned donor;
	uint8_t attempt;   /* 1, 2, ... since it is wanted */
	uint32_t tried;    /* donors that have failed us */
	uint32_t dialling; /* bit i: somebody was asked for a connection to replica i */
	struct mp_link *link;
	uint64_t bytes, total_bytes; /* total 0: not known */
	uint64_t items, total_items; /* likewise, where they are counted */
	uint64_t begun_ns, data_ns;  /* the attempt; its first byte */
	uint64_t asked_ns;           /* dialled, or WANT sent */
	uint64_t donor_lost_ns;      /* since when it is not alive; 0: it is */
	uint64_t next_ns;            /* next attempt, or look at things */
	uint64_t next_log_ns;
	uint64_t silent_ns; /* since when nothing has moved */
	uint64_t stage_ns;  /* since when it is at this stage */
	uint64_t gate_ns;   /* of a server that was cut loose and is not level yet; 0: of none */
	bool is_failed, is_complaining;
	bool is_done; /* ... at: */
	uint64_t era, lsn;
	char why[200];
};

struct mp_restorer {
	/* The server serves meanwhile, the log is applied to it, and goes on being so. */
	bool beside_service;
	/* The donor agrees. Allocates restore->own, unless it fails. */
	void (*begin)(struct mp_restore *restore);
	/* A note from the donor. False: it makes no sense. */
	bool (*note)(struct mp_restore *restore, const struct mp_frame_note *note);
	/* Bytes of its, in order with its notes. Pause restore->link while they are too many. */
	void (*data)(struct mp_restore *restore, struct mp_slice bytes);
	/* Once a turn. Returns when it wants another one at the latest. */
	uint64_t (*turn)(struct mp_restore *restore, uint64_t now_ns);
	/* It is over, well or not: free restore->own. */
	void (*end)(struct mp_restore *restore);
};

/* To the donor. */
void mp_restore_tell(struct mp_restore *restore, uint16_t what, uint64_t a, uint64_t b);
void mp_restore_send(struct mp_restore *restore, struct mp_slice bytes);
/* For whoever watches. Moving on also counts as a sign of life. */
void mp_restore_stage(struct mp_restore *restore, enum mp_transfer_stage stage);
void mp_restore_moved(struct mp_restore *restore, uint64_t bytes, uint64_t total_bytes);
void mp_restore_counted(struct mp_restore *restore, uint64_t items, uint64_t total_items);
/*
 * End the attempt, in this turn's mp_transfer_turn(), and not before: nothing is
 * freed while who says so still runs. The first reason counts.
 */
void mp_restore_fail(struct mp_restore *restore, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The same, and no other attempt is to follow. */
void mp_restore_end(struct mp_restore *restore, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/*
 * The server holds exactly what it held elsewhere at that LSN of that era. As fail(), in
 * mp_transfer_turn(): the backend is told to connect, and the donor is released once the log
 * is read from there.
 */
void mp_restore_done(struct mp_restore *restore, uint64_t era, uint64_t lsn);

/* ------------------------------------------------------- the end that gives */

struct mp_donation {
	TAILQ_ENTRY(mp_donation) place;
	struct mp_proxy *proxy;
	struct mp_link *link;
	const struct mp_donor *ops; /* NULL: not asked for anything yet */
	void *own;
	uint8_t attempt; /* the other end's: to do it in another way */
	bool is_waiting; /* for room: ops->room() is owed */
	bool is_failed;
	uint64_t pin_lsn, pinned_ns; /* MU_LSN_NONE: nothing is pinned */
	uint64_t begun_ns, bytes;
	char why[200];
};
TAILQ_HEAD(mp_donation_list, mp_donation);

struct mp_donor {
	/*
	 * Somebody wants the state of this replica's server, which is level. Ends in
	 * mp_donation_agree(), or fails. Allocates donation->own, unless it fails at once.
	 */
	void (*begin)(struct mp_donation *donation);
	bool (*note)(struct mp_donation *donation, const struct mp_frame_note *note);
	void (*data)(struct mp_donation *donation, struct mp_slice bytes);
	/* Once a turn; NULL: it needs none. */
	void (*turn)(struct mp_donation *donation);
	/* mp_donation_send() has said that there is no room; now there is. */
	void (*room)(struct mp_donation *donation);
	void (*end)(struct mp_donation *donation);
};

void mp_donation_agree(struct mp_donation *donation);
void mp_donation_tell(struct mp_donation *donation, uint16_t what, uint64_t a, uint64_t b);
/* Queue bytes. False: they are queued, but more have to wait for room(). */
bool mp_donation_send(struct mp_donation *donation, struct mp_slice bytes);
/* Keep the log from lsn on, which the own backend has been handed. */
void mp_donation_pin(struct mp_donation *donation, uint64_t lsn);
/* As mp_restore_fail(); the other end is told why. */
void mp_donation_fail(struct mp_donation *donation, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---------------------------------------------------------------- the whole */

struct mp_transfer {
	struct mp_restore restore;
	struct mp_donation_list donations;
	bool replace_redis;              /* an operator has said so; any thread sets it */
	uint64_t gates;                  /* that were asked for (redis_transfer.h) */
	struct mp_address redis_address; /* looked up once */
};

/* What each protocol brings, by target; NULL of one that has no state transfer. */
struct mp_transfer_kind {
	const struct mp_restorer *restorer;
	const struct mp_donor *donor;
};
extern const struct mp_transfer_kind mp_transfer_kinds[];
extern const struct mp_restorer mp_redis_restorer;
extern const struct mp_donor mp_redis_donor;

void mp_transfer_init(struct mp_proxy *proxy);
/* False: one line in err. */
bool mp_transfer_open(struct mp_proxy *proxy, char *err, size_t err_bytes);
void mp_transfer_close(struct mp_proxy *proxy);
/* Once a turn. Returns when it wants another one at the latest. */
uint64_t mp_transfer_turn(struct mp_proxy *proxy);

/*
 * The log does not reach back to what that target's server has. False: there is
 * no way to restore it.
 */
bool mp_transfer_want(struct mp_proxy *proxy, const struct mp_target *target);
/* That target's server was emptied, and serves: it is to be filled, or anew if it is already. */
void mp_transfer_fill(struct mp_proxy *proxy, const struct mp_target *target);
/* The log reaches back to all of them after all. */
void mp_transfer_unwant(struct mp_proxy *proxy);
/*
 * That target's server has other contents, as of that LSN of that era. What the proxy
 * knew of it was of the former ones; and entries that are passed over may hold the records
 * of requests that are under way.
 */
void mp_transfer_replaced(struct mp_proxy *proxy, struct mp_target *target, uint64_t era,
			  uint64_t lsn);
/* Nothing is to be applied now. */
bool mp_transfer_is_on(const struct mp_proxy *proxy);
/* Entries up to here may leave the log as far as this replica's backends go. */
uint64_t mp_transfer_pin_lsn(const struct mp_proxy *proxy);

/* transfer.c: the connection that was asked for, or -1. */
void mp_restore_dialled(struct mp_proxy *proxy, unsigned peer, int fd);
/* transfer_donor.c: a peer has greeted, to be given something. The link is in no list. */
void mp_donation_accept(struct mp_link *link);
void mp_donations_turn(struct mp_proxy *proxy);
void mp_donations_close(struct mp_proxy *proxy);

#endif
