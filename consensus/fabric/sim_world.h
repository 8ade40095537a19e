/*
 * sim_world.h - what the files of the sim fabric share: the world's state.
 * Nobody else includes this.
 */
#ifndef MU_SIM_WORLD_H
#define MU_SIM_WORLD_H

#include "sim.h"

/* Bytes move in aligned words of this size, each whole (F6). */
#define SIM_WORD 8

enum sim_shape {
	SIM_SHAPE_FORWARD = 0, /* pieces are consecutive, the first bytes first */
	SIM_SHAPE_BACKWARD,    /* consecutive, the last bytes first */
	SIM_SHAPE_SCATTERED,   /* each word in a piece of its own choice */
	SIM_SHAPES
};

struct sim_op {
	struct sim_op *next; /* in posting order */
	uint64_t number;
	bool write;
	bool finished; /* landed or failed: nothing left but to tell */
	bool owned;    /* `memory` is a copy that belongs to the operation */
	uint8_t region;
	uint8_t status;
	uint8_t shape;
	unsigned pieces;
	unsigned piece; /* the next to move */
	uint64_t shuffle;
	uint64_t offset;
	size_t bytes;
	uint8_t *memory;      /* source of a write (not written to), destination of a read */
	uint64_t source_hash; /* of a write's source as it was posted */
	uint64_t ballot;
	uint64_t cookie;
	uint64_t generation; /* of the target's permission, see may_land() */
	uint64_t start_ns;   /* the first piece moves no sooner */
	uint64_t deadline_ns;
	uint64_t complete_ns; /* once finished */
};

struct sim_connection {
	struct sim_world *world;
	uint8_t plane;
	uint8_t from;
	uint8_t to;
	enum mu_connection state;
	/* The target answers nothing on it any more: denied, revoked, or gone. */
	bool broken;
	bool moving;    /* a movement of `running` is scheduled */
	bool answering; /* the delivery of a completion is scheduled */
	bool timing;    /* a timeout is scheduled */
	unsigned posted;
	uint64_t epoch;        /* counts changes of state: what was scheduled before is void */
	uint64_t target_life;  /* of the target when the connection was made */
	uint64_t connected_ns; /* when it would be, if all goes well */
	uint64_t connect_deadline_ns;
	struct sim_op *head; /* oldest without completion */
	struct sim_op *tail;
	struct sim_op *running; /* oldest that is not finished */
	struct sim_op *late;    /* of an earlier epoch, still landing */
	uint64_t late_epoch;
};

struct sim_permission {
	uint8_t holder; /* 0: nobody */
	uint64_t ballot;
	uint64_t highest_ballot; /* ever granted by this memory */
	uint64_t generation;     /* counts revocations */
};

struct sim_inbox {
	struct mu_completion *slots;
	size_t first;
	size_t count;
	size_t capacity;
};

struct sim_replica {
	struct sim_fabric *process; /* NULL: dead */
	uint8_t *memory[MU_REGIONS];
	size_t memory_bytes[MU_REGIONS];
	uint8_t *frozen[MU_REGIONS]; /* between sim_crash_begin() and sim_crash_end() */
	uint64_t memory_life;        /* counts memories */
	uint64_t process_life;
	bool stopped;
	bool blocked_to[MU_PLANES][MU_ID_SLOTS];
	unsigned slow_to[MU_ID_SLOTS];
	struct sim_permission permission;
	struct sim_inbox inbox[MU_PLANES];
	struct sim_connection connection[MU_PLANES][MU_ID_SLOTS];
};

struct sim_fabric {
	struct mu_fabric base;
	struct sim_world *world;
	unsigned id;
	uint32_t member_mask;
};

#ifdef MU_FAULTS
extern int sim_fault; /* how revocation is broken: enum conformance_fault */
#endif

struct sim_world {
	struct sim_config config;
	struct sim_clock clock;
	struct sim_random random;
	uint64_t operations;
	struct sim_replica replica[MU_ID_SLOTS];
};

/* sim.c */
void sim_observe(struct sim_world *world, const struct sim_event *event);
/* The life that a connection to this replica ends with. */
uint64_t sim_life(const struct sim_world *world, unsigned id);
/* Can it be read and written by others just now? */
bool sim_reachable(const struct sim_world *world, unsigned id);
uint64_t sim_delay(struct sim_world *world, unsigned from, unsigned to);
/* Are a plane's messages from one replica to another lost just now? */
bool sim_is_blocked(const struct sim_world *world, enum mu_plane plane, unsigned from, unsigned to);
/* Of a plane's posting, connecting, ...: what the process asked for. */
struct sim_connection *sim_connection_of(struct mu_fabric *fabric, enum mu_plane plane,
					 unsigned peer);

/* sim_connection.c */
void sim_connect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer);
void sim_disconnect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer);
int sim_post_write(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer,
		   enum mu_region region, uint64_t offset, const void *src, size_t len,
		   uint64_t ballot, uint64_t cookie);
int sim_post_read(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer,
		  enum mu_region region, uint64_t offset, void *dst, size_t len, uint64_t cookie);
/* Its process died: nothing is told any more; something may land late. */
void sim_connection_orphan(struct sim_connection *connection);
/* The permission under which this connection writes is about to be revoked. */
void sim_connection_cut(struct sim_connection *connection);
void sim_connection_break(struct sim_connection *connection);
void sim_connection_free(struct sim_connection *connection);

/* sim_landing.c */
/*
 * Move the next piece of an operation. False, with the operation finished and
 * the reason in its status, if the target does not let it.
 */
bool sim_land(struct sim_connection *connection, struct sim_op *op, bool late);
/* Take a copy of a write's source, which is about to be reused. */
void sim_op_own(struct sim_op *op);
uint64_t sim_source_hash(const struct sim_op *op);
void sim_op_free(struct sim_op *op);

#endif
