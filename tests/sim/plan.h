/*
 * plan.h - what a seed stands for: the group, its fabric, its load, and how
 * the schedule of faults is biased. Unbiased schedules miss the rare bugs, so
 * every seed takes one of several biases, each with settings drawn anew.
 */
#ifndef SIM_PLAN_H
#define SIM_PLAN_H

#include "fabric/sim.h"
#include "mu.h"
#include "recipe.h"
#include "stage.h"

enum fault_kind {
	FAULT_PAUSE,        /* one plane, or both, of one replica stand still */
	FAULT_PAUSE_LEADER, /* the same, of who leads */
	FAULT_CRASH,        /* a process dies; its memory stays */
	FAULT_CRASH_LEADER,
	FAULT_CRASH_INSIDE, /* a process dies in the middle of what it does */
	FAULT_RESTART_ALL,  /* all processes die at once; memories stay */
	FAULT_LOSE,         /* a process dies and its memory is lost */
	FAULT_USURP,        /* a leader sleeps, is succeeded, and meets blank replicas */
	FAULT_LOSE_ALL,     /* all are lost at once: cold start */
	FAULT_LINK,         /* one link broken, in one direction or both */
	FAULT_ISOLATE,      /* one replica cut off, in one direction or both */
	FAULT_SPLIT,        /* the group in two */
	FAULT_SLOW,         /* links of one replica slow */
	FAULT_BACKEND_LOST, /* a backend starts again empty, or from an old state */
	FAULT_BACKEND_DOWN,
	FAULT_RESIGN,
	FAULT_WALL_CLOCK, /* a wall clock jumps */
	FAULT_CHANGE,     /* of members, by whoever leads */
	FAULT_KINDS
};

struct plan {
	struct recipe recipe;
	unsigned replicas;
	const char *schedule;
	char repeat[2048]; /* the command that repeats this run */
	unsigned rounds;   /* of faults, each followed by healing and a demand for progress */
	unsigned spare_degrading; /* healing is complete at once */

	struct mu_config config; /* but for id and random_seed */
	uint64_t piece_bytes;    /* the core's limits of one write of log, */
	uint64_t part_bytes;     /* of one read of it, */
	uint64_t window_bytes;   /* and of all that is unacknowledged */
	struct sim_config world;

	/* Faults. */
	enum play play;
	unsigned weight[FAULT_KINDS];
	bool changes;   /* members change: what all replicas are demanded is asked of those */
	bool handovers; /* who resigns makes way for somebody in particular, as a rule */
	uint64_t fault_every_ns; /* about so often */
	uint64_t pause_max_ns;
	uint64_t outage_max_ns;      /* links, backends */
	uint64_t down_max_ns;        /* from a crash to the restart */
	unsigned strike_permille;    /* a change of role provokes a fault at once */
	unsigned crash_point_max;    /* FAULT_CRASH_INSIDE strikes within so many points */
	unsigned interrupt_permille; /* a call to the fabric is interrupted */
	uint64_t interrupt_max_ns;
	uint64_t turn_ns;           /* what a turn of a thread takes at least */
	uint64_t jitter_ns;         /* a thread runs up to so much late */
	uint64_t transfer_every_ns; /* how soon stale backends are brought level */

	/* Load. */
	uint64_t ask_every_ns;     /* clients wake the leader about so often */
	unsigned propose_permille; /* a turn of the leader's proposes */
	unsigned outstanding_max;
	unsigned fence_permille;
	uint64_t payload_max;
	uint64_t apply_max_ns; /* of one entry, at most backends */
	unsigned slow_backend; /* id of one that is far slower, 0: none */

	/* How soon after healing all must be well, in virtual time. */
	uint64_t progress_bound_ns;
};

/* False if there is no such schedule. */
bool plan_draw(struct plan *plan, const struct recipe *recipe);
/* Names of all schedules, NULL behind the last. */
const char *plan_schedule_name(unsigned index);
/* Of those that are taken by name alone, the one whose turn it is. */
const char *plan_staged_name(uint64_t turn);

#endif
