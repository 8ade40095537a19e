/*
 * verbs.h - the parts of the verbs fabric, and what they share.
 *
 * A connection of the contract (plane, from, to) is a pair of reliable-connected
 * queue pairs that nothing else uses: one at the end that posts (struct
 * verbs_out), one at the end whose memory is accessed (struct verbs_in). So the
 * two directions between two replicas fail, and are taken away, independently,
 * and a replica that destroys the queue pair by which another may write its log
 * loses nothing of its own.
 *
 * Three threads meet here. A plane's thread posts and polls on its connections
 * that are UP; the background thread also revokes and grants. The fabric's own,
 * the maker (verbs_maker.c), makes and connects queue pairs, which takes a good
 * part of a millisecond, and talks with the peers' makers. What a thread may
 * touch is said at each struct.
 */
#ifndef MU_VERBS_INTERNAL_H
#define MU_VERBS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "own_memory.h"
#include "verbs_queue_pair.h"

/* Operations outstanding on one connection. */
#define VERBS_OPS 512
/* Work requests behind them: an operation larger than the device's limit takes several. */
#define VERBS_WORK_REQUESTS (VERBS_OPS + 64)
#define VERBS_INLINE_BYTES 256

/*
 * Registered memory that operations are copied through whose bytes lie in memory
 * that is not; a plane's own. Larger ones are registered for the time being.
 */
#define VERBS_STAGE_BYTES 16384
#define VERBS_STAGES 64

struct verbs_stages {
	uint8_t *base;
	struct ibv_mr *mr;
	uint16_t free[VERBS_STAGES]; /* a stack */
	unsigned free_count;
};

struct verbs_op {
	uint64_t cookie;
	uint64_t posted_ns;
	void *copy_to;          /* of a read through a stage; NULL: none */
	struct ibv_mr *passing; /* registered for this operation; NULL: it was not */
	uint32_t len;
	uint16_t work_requests;
	int16_t stage;  /* -1: none */
	uint8_t status; /* of one that is over: enum mu_fabric_status */
};

/*
 * The posting end of a connection. `state` goes DOWN -> CONNECTING by the plane's
 * thread, CONNECTING -> UP or DOWN by the maker, and UP or CONNECTING -> DOWN by
 * the plane's thread. The members behind it belong to the plane's thread, except
 * while CONNECTING, when the maker sets those marked (M).
 *
 * A queue pair that the device neither destroys nor stops may still send, so its
 * operations are not over: UP -> ENDING -> DOWN, by the plane's thread, which
 * tries again until it does.
 */
#define VERBS_CONNECTION_ENDING 3 /* behind enum mu_connection; to others it is DOWN */

struct verbs_out {
	_Atomic int state; /* enum mu_connection, or ENDING */
	/*
	 * Set by others at any time: the plane's thread takes it down as soon as it is
	 * UP. Cleared before CONNECTING, so that a loss meanwhile counts.
	 */
	_Atomic bool is_lost;
	struct ibv_qp *qp;        /* (M) NULL: none */
	struct ibv_qp *stopped;   /* sends nothing, but is still to be destroyed; NULL: none */
	uint32_t generation;      /* (M) tells completions of this queue pair from older ones' */
	uint32_t inline_bytes;    /* (M) */
	_Atomic uint64_t attempt; /* (M) names the connection that is UP; 0: none */
	uint8_t ends_as;          /* while ENDING: how its oldest operation will */
	struct verbs_target target[MU_PLANES]; /* (M) */
	unsigned work_requests;                /* in use */
	/* Outstanding from head on; the first `dead` of them are over, and wait to be polled. */
	uint32_t head, tail, dead;
	struct verbs_op op[VERBS_OPS];
};

/* The serving end; under `serving` of the fabric. */
struct verbs_in {
	struct ibv_qp *qp; /* NULL: none */
	uint64_t attempt;  /* of the peer's, that it serves or was the last to; 0: none */
	bool may_write;    /* the replication region */
	unsigned refusals; /* of the device to grant that, in a row */
	uint64_t told_ns;  /* when the peer was last told that it is gone */
};

/* What one plane has of its own. */
struct verbs_plane {
	struct ibv_pd *domain; /* only what its connections may reach is registered in it */
	struct ibv_mr *memory; /* of its region */
	struct ibv_cq *completions;
	struct ibv_comp_channel *channel;
	/* What whoever polls in vain may sleep on: the channel, and what does not come from it. */
	int wait_fd, call_fd;
	_Atomic bool is_waited_for; /* somebody has it */
	_Atomic bool is_called;     /* call_fd is readable */
	bool is_armed;              /* the channel will tell of the next completion, or has */
	bool was_told_of;           /* there was one since */
	uint64_t looked_ns;         /* at the channel */
	unsigned polls;
	struct verbs_stages stages;
	bool has_complained;        /* of memory that it could not register */
	unsigned outstanding, dead; /* operations, over all connections */
	struct verbs_out out[MU_ID_SLOTS];
};

struct verbs_maker;

struct verbs_fabric {
	struct mu_fabric base;
	struct mu_fabric_config config;
	struct mu_verbs_options options;
	struct verbs_transport transport;
	struct own_memory memory;
	struct verbs_port port;
	char description[160];
	uint64_t process; /* random, names this opening */
	struct verbs_plane plane[MU_PLANES];
	unsigned work_requests; /* that a connection may have under way */
	struct ibv_cq *unused;  /* of queue pairs that only serve; never holds anything */

	pthread_mutex_t serving;
	struct verbs_in in[MU_PLANES][MU_ID_SLOTS];
	struct mu_verbs_revocation last_revocation;

	struct mu_peering *peering;
	struct verbs_maker *maker;
};

static inline struct verbs_fabric *verbs_of(struct mu_fabric *fabric)
{
	return (struct verbs_fabric *)fabric;
}

/* The region that a plane's connections reach. */
static inline enum mu_region verbs_region_of(enum mu_plane plane)
{
	return plane == MU_PLANE_DATA ? MU_REGION_REPLICATION : MU_REGION_BACKGROUND;
}

static inline enum mu_plane verbs_plane_of(enum mu_region region)
{
	return region == MU_REGION_REPLICATION ? MU_PLANE_DATA : MU_PLANE_BACKGROUND;
}

uint64_t verbs_clock_ns(void);
void verbs_say(const struct verbs_fabric *verbs, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* --- verbs_memory.c --- */
/* What an error of the device means, with the remedy if too little memory may be locked. */
const char *verbs_reason(int error);
/* Register what there is; the reason names the remedy if the kernel locks too little memory. */
int verbs_plane_open(struct verbs_fabric *verbs, enum mu_plane plane,
		     const struct memory_error *error);
/* All queue pairs are gone. */
void verbs_plane_close(struct verbs_plane *plane);
/*
 * Where the bytes of an operation are, for the device: in `*address` under the
 * key that is returned. Fills in copy_to, passing and stage of the op. False if
 * there is no room just now.
 */
bool verbs_source(struct verbs_fabric *verbs, enum mu_plane plane, struct verbs_op *op,
		  const void *src, size_t len, uint64_t *address, uint32_t *key);
bool verbs_destination(struct verbs_fabric *verbs, enum mu_plane plane, struct verbs_op *op,
		       void *dst, size_t len, uint64_t *address, uint32_t *key);
/* The device is done with it; copy what was read, if it was. */
void verbs_release(struct verbs_plane *plane, struct verbs_op *op, bool was_read);

/* --- verbs_out.c: the posting end --- */
void verbs_connect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer);
enum mu_connection verbs_state(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer);
void verbs_disconnect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer);
int verbs_post_write(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer,
		     enum mu_region region, uint64_t offset, const void *src, size_t len,
		     uint64_t ballot, uint64_t cookie);
int verbs_post_read(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer,
		    enum mu_region region, uint64_t offset, void *dst, size_t len, uint64_t cookie);
/* Whether a connection is UP and meant to stay so; takes it down if it is lost. */
bool verbs_out_is_usable(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer);
/* An error ends a connection that is UP: its oldest operation as `status`, the others unreachable.
 */
void verbs_out_fail(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer,
		    enum mu_fabric_status status);
/* If it is ENDING, try again. */
void verbs_out_end(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer);
/* Any thread: what is at the other end is not what it was; the connection is to go down. */
void verbs_out_lose(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer);

static inline unsigned verbs_outstanding(const struct verbs_out *out)
{
	return out->tail - out->head - out->dead;
}

/* --- verbs_poll.c: what the posting end hears, and sleeping until it does --- */
int verbs_poll(struct mu_fabric *fabric, enum mu_plane plane, struct mu_completion *out, int max);
int verbs_wait_fd(struct mu_fabric *fabric, enum mu_plane plane);
/* Any thread: the plane's has something to look at that is in no queue. */
void verbs_call(struct verbs_plane *plane);

/* --- verbs_in.c: the serving end, and the permission --- */
int verbs_revoke_write(struct mu_fabric *fabric);
int verbs_grant_write(struct mu_fabric *fabric, unsigned peer, uint64_t ballot);
/*
 * (maker) Serve a peer by a queue pair that is ready to receive, in the place of
 * what served it before: give it the rights it has and store it. Returns 0, or
 * errno with the queue pair destroyed.
 */
int verbs_in_serve(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer,
		   struct ibv_qp *qp, const struct verbs_endpoint *own,
		   const struct verbs_endpoint *remote, uint64_t attempt);
/* Destroy what serves a peer. Any thread. */
void verbs_in_drop(struct verbs_fabric *verbs, unsigned peer);
/* (maker) The connection that this queue pair serves; false if none does. */
bool verbs_in_find(struct verbs_fabric *verbs, const struct ibv_qp *qp, enum mu_plane *plane,
		   unsigned *peer, uint64_t *attempt);

/* --- verbs.c --- */
/* Whatever leads to this peer's process, or serves it, is to go. Any thread. */
void verbs_forget(struct mu_fabric *fabric, unsigned peer);

/* --- verbs_maker.c --- */
int verbs_maker_start(struct verbs_fabric *verbs, const struct memory_error *error);
void verbs_maker_stop(struct verbs_fabric *verbs);
/* There is a new wish: a connection whose state is CONNECTING. Any thread. */
void verbs_maker_wake(struct verbs_maker *maker);
bool verbs_maker_has_channel(const struct verbs_maker *maker, unsigned peer);
/* Tell a peer that the end which served this connection of his is gone. Any thread. */
void verbs_maker_tell_gone(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer,
			   uint64_t attempt);

#endif
