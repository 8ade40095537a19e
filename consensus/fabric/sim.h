/*
 * sim.h - the sim fabric: a whole group's memories, connections and write
 * permissions in one process, on virtual time, from one 64-bit seed.
 *
 * It keeps the contract of mu_fabric.h to the letter and no further: whatever
 * the contract leaves open is drawn by lot, the harsher choice included. A
 * write's bytes are taken from its source when they land, not when it is
 * posted, and land in any order in aligned 8-byte words. An operation that
 * completed UNREACHABLE may go on landing until the connection is UP again,
 * also when its process has died meanwhile ("late" below). A revocation cuts
 * what is in flight at any word.
 *
 * The world is driven from outside, by one thread: sim_clock_advance() lets
 * the next thing happen. Nothing depends on real time or on addresses.
 */
#ifndef MU_SIM_H
#define MU_SIM_H

#include "mu_fabric.h"
#include "sim_clock.h"
#include "sim_random.h"

struct sim_world;

enum sim_event_kind {
	SIM_POST,
	SIM_REFUSE,   /* posting refused */
	SIM_LAND,     /* a piece of a write landed, or of a read was fetched */
	SIM_LATE,     /* a piece of a write landed after its completion */
	SIM_COMPLETE, /* a completion can be polled */
	SIM_CONNECT,  /* connect() began */
	SIM_UP,
	SIM_DOWN,
	SIM_REVOKE,
	SIM_GRANT,
	SIM_OPEN,
	SIM_CRASH,
	SIM_LOSE,
	SIM_EVENT_KINDS
};

/* One thing that happened in the fabric, for traces and checks. */
struct sim_event {
	enum sim_event_kind kind;
	uint8_t from; /* who acts */
	uint8_t to;   /* on whom (the grantee, of SIM_GRANT) */
	uint8_t plane;
	uint8_t region;
	bool write;
	bool refused;    /* revoke or grant answered -1 */
	uint8_t status;  /* of SIM_COMPLETE: enum mu_fabric_status */
	uint64_t number; /* of the operation, counted from the start of the world */
	uint64_t offset;
	uint64_t bytes; /* of a piece: bytes that it moved */
	uint64_t ballot;
};

struct sim_config {
	uint64_t seed;
	uint64_t op_timeout_ns;

	/* The network. */
	uint64_t delay_min_ns; /* one way, of most messages */
	uint64_t delay_max_ns;
	unsigned straggler_permille; /* messages and pieces that take up to op_timeout_ns */
	unsigned tear_permille;      /* operations whose bytes move in several pieces */
	unsigned refuse_permille;    /* postings refused for no reason */
	unsigned late_permille;      /* lost connections that have something land late */
	unsigned queue_max;          /* operations outstanding on one connection */

	/* The medium. Any mixture is a fabric within the contract. */
	bool passive_memory; /* memory and permission can be used while its process is dead */
	bool ballot_checked; /* a write's ballot must be the one granted, as in shm */
	bool revoke_breaks;  /* a revocation breaks the former holder's connection, as in verbs */
	unsigned revoke_fail_permille;
	unsigned grant_fail_permille;

	/*
	 * Called at the start and at the end of every call that a plane makes:
	 * it may let other things happen, and even never return, before it
	 * lets the plane go on.
	 */
	void (*interrupt)(void *ctx, unsigned id, enum mu_plane plane);
	void (*observe)(void *ctx, const struct sim_event *event);
	/* The caller broke the contract. Does not return. */
	void (*violation)(void *ctx, const char *what);
	void *ctx;
};

struct sim_world *sim_world_new(const struct sim_config *config);
void sim_world_free(struct sim_world *world);
struct sim_clock *sim_world_clock(struct sim_world *world);
/* Change what may go wrong from now on (seed, medium and callbacks stay). */
void sim_world_reconfigure(struct sim_world *world, const struct sim_config *config);

/*
 * Start a process for replica config->id: the fabric resumes the memory that
 * is there, moved to another address, or has it formatted.
 */
struct mu_fabric *sim_open(struct sim_world *world, const struct mu_fabric_config *config);
/*
 * The process dies here and now. Its memory stays as it is: what the process
 * may still do to it (closing down, in the test's process) must be done
 * between sim_crash_begin() and sim_crash_end(), and leaves no trace. The
 * fabric is freed by the latter.
 */
void sim_crash_begin(struct sim_world *world, unsigned id);
void sim_crash_end(struct sim_world *world, unsigned id);
/* The memory of a replica without a process is lost. */
void sim_lose_memory(struct sim_world *world, unsigned id);

bool sim_has_process(const struct sim_world *world, unsigned id);
/* NULL if the memory is lost. */
const void *sim_memory(const struct sim_world *world, unsigned id, enum mu_region region);
/* 0: nobody may write id's replication region. */
unsigned sim_holder(const struct sim_world *world, unsigned id, uint64_t *ballot);

/*
 * Messages from one replica to another are lost until unblocked; what is sent
 * again in time arrives then. The second blocks the connections of one plane
 * alone, what they ask as well as what they are answered.
 */
void sim_block(struct sim_world *world, unsigned from, unsigned to, bool blocked);
void sim_block_plane(struct sim_world *world, enum mu_plane plane, unsigned from, unsigned to,
		     bool blocked);
/* They take so many times as long as usual; 1 is usual. */
void sim_slow(struct sim_world *world, unsigned from, unsigned to, unsigned times);
/* A stopped process answers no request to connect, where the medium needs it to. */
void sim_stop(struct sim_world *world, unsigned id, bool stopped);

#endif
