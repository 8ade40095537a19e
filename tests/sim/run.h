/*
 * run.h - one simulated run: a group of replicas, the applications and clients
 * beside them, the faults that befall them, and the oracle that watches. What
 * the files of the simulator share.
 *
 * A replica is a *machine* (clocks, and a backend that outlives processes), at
 * times with a *process* on it (struct mu, two planes, a reader of the log,
 * clients). Each plane is a fiber: it can be interrupted inside any call that
 * it makes to the fabric, for as long as the schedule likes.
 */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "fabric/sim.h"
#include "fiber.h"
#include "mu.h"
#include "oracle.h"
#include "plan.h"
#include "stage.h"

#define BACKEND_QUEUE_MAX 64
#define OUTSTANDING_MAX 64

struct run;
struct node;

/* ------------------------------------------------------------------ findings */

/* Which of the simulator's checks saw that something is wrong. */
enum finding {
	FOUND_NOTHING,
	FOUND_DISAGREEMENT, /* two replicas were handed different sequences of entries */
	FOUND_DISORDER,     /* ballots, LSNs or timestamps of the sequence go back */
	FOUND_INVENTION,    /* an entry that nobody proposed, not so, or that had been refused */
	FOUND_LOSS,         /* a proposal was reported committed and is not in the sequence */
	FOUND_STALE_READ,   /* a fenced read missed what had been acknowledged */
	FOUND_REUSE,        /* ring space was used again that was still needed */
	FOUND_CONTRACT,     /* the core broke the fabric's contract, as two writers at once do */
	FOUND_MISUSE,       /* the core broke its own (mu.h) */
	FOUND_NO_PROGRESS,  /* faults had stopped, and the group did not recover in time */
	FOUND_CHANCE,       /* two runs of one seed differ */
	FOUND_DEATH,        /* an assertion of the core failed, or it crashed */
	FOUND_HANG,         /* a call into the core does not return */
	FINDINGS
};

/*
 * What a run promises its group, and demands of it in return. One that gets
 * nowhere fails otherwise where faults had just stopped than where most memories
 * are gone for good and the operator has given his word.
 */
enum demand {
	DEMAND_SAFETY,   /* during faults: nothing but that */
	DEMAND_PROGRESS, /* faults have stopped */
	DEMAND_STEADINESS,
	DEMAND_DEGRADED, /* backends, then a minority, are gone */
	DEMAND_RECOVERY, /* most memories are */
};

/* What became of a run that failed. */
struct verdict {
	enum finding finding;
	enum demand demand; /* that was being made */
	uint64_t events;    /* that had happened */
	char what[600];
};

enum run_voice {
	RUN_QUIET, /* says nothing at all */
	RUN_SAYS,  /* what went wrong */
	RUN_TRACES /* all that happens */
};

/* ------------------------------------------------------------------- machine */

/*
 * The server that entries are applied to. It is a position in the agreed
 * sequence (its state is the entries up to there); `durable` is what it would
 * still have after the process died.
 */
struct backend {
	bool up;
	bool stale;      /* the log cannot bring it level: waits for state transfer */
	int64_t applied; /* index in the agreed sequence, -1: nothing */
	int64_t durable;
	uint64_t apply_max_ns; /* of one entry */
	/* Nothing ever befell it but being slow: the log must wait for it. */
	bool intact;
	uint64_t log_base; /* of the log that it was level with */
	/* Not 0: it has the state of that former era, at an LSN that the log has, too. */
	uint64_t foreign_era, foreign_lsn;
	uint64_t restores;      /* counts changes of its state from outside */
	unsigned lazy_permille; /* entries after which `durable` is not moved at once */
};

/* Entries handed to the backend that it has not executed. */
struct backend_queue {
	struct {
		int64_t index;
		uint64_t done_ns;
	} slots[BACKEND_QUEUE_MAX];
	unsigned first;
	unsigned count;
};

/* ------------------------------------------------------------------- process */

struct proposing {
	uint64_t number; /* in the oracle's books */
	uint64_t ballot;
	uint64_t lsn;
};

struct fencing {
	uint64_t ticket;
	uint64_t ballot;
	uint64_t must_see_lsn; /* highest acknowledged, by anyone, when the read arrived */
	uint64_t sees_lsn;     /* committed as far as the replica knew then */
};

struct clients {
	struct proposing proposing[OUTSTANDING_MAX];
	unsigned proposals;
	struct fencing fencing[OUTSTANDING_MAX];
	unsigned fences;
	uint64_t next_ns; /* they ask again */
};

struct plane_thread {
	struct node *node;
	enum mu_plane plane;
	struct fiber *fiber;
	uint64_t resume_ns; /* when the fiber wants to go on */
	uint64_t paused_until_ns;
	bool in_turn; /* interrupted in the middle of a turn */
	bool woken;   /* while it was */
};

/* Valid while its replica is alive. */
struct process {
	struct mu *mu;
	struct mu_fabric *fabric;
	struct plane_thread thread[MU_PLANES];
	struct mu_view view;
	uint64_t era;   /* of the log that is read */
	bool seeking;   /* the log's reader does not stand behind the backend's position yet */
	int64_t handed; /* index of the last entry handed out */
	enum mu_backend_health health;
	bool wants_resign;
	unsigned heir; /* ...to make way for that replica, if it can; 0: for nobody in particular */
	struct backend_queue queue;
	struct clients clients;
	struct mu_group_status group; /* at the start of the data plane's turn */
	enum mu_change change;        /* that it is asked for, as soon as it runs; 0: none */
	unsigned changed;             /* ...of that replica */
	unsigned dies_in_points;      /* 0: lives; else at that interruption point from now */
};

/* What the run demands of its group at the moment. */
enum run_phase {
	PHASE_FAULTS,   /* no progress, but no wrong either */
	PHASE_PROGRESS, /* faults have stopped: proposals must be committed again */
	PHASE_LEVEL,    /* proposals have stopped too: all must come to the same end */
};

struct node {
	struct run *run;
	unsigned id;
	uint64_t clock_offset_ns;
	unsigned clock_ppm; /* how much faster than true its clock runs */
	int64_t wall_offset_ms;
	bool voting; /* as its memory had it when last seen */
	/* Configurations, likewise; the committed one is on its disk, too. */
	uint64_t configuration, committed;
	struct backend backend;
	bool alive;
	uint8_t *payload;          /* of the proposal that is being made */
	uint64_t stamp[MU_PLANES]; /* an older wake-up is void */
	struct process process;
};

struct run {
	struct plan plan;
	struct sim_world *world;
	struct sim_clock *clock;
	struct sim_random random;  /* schedules of planes */
	struct sim_random faults;  /* which faults, when */
	struct sim_random clients; /* what is proposed */
	struct oracle oracle;
	enum run_voice voice;
	struct verdict *verdict; /* filled when it fails, may be NULL */
	enum run_phase phase;
	enum demand demand;
	uint64_t digest;
	uint64_t faults_timed;    /* how many there were so far */
	uint64_t faults_provoked; /* ...and how many by changes of role */
	uint64_t healings;
	uint64_t fault_stamp;         /* a fault scheduled under an older one is void */
	struct stage *stage;          /* while faults happen, if the plan has a play */
	struct plane_thread *current; /* whose fiber runs */
	struct node *dying;           /* its process dies as soon as its fiber gave way */
	uint64_t last_election_ns;
	uint64_t healed_ns; /* what was under way as faults were mended has ended by then */
	uint64_t elections, crashes, losses, transfers, fences; /* statistics */
	uint64_t written_off;
	/* The latest configuration that was anywhere known to be committed; whom later ones left.
	 */
	uint64_t committed, gone;
	bool recovering; /* by the operator's word: the next era has lost what it has lost */
	struct node node[MU_ID_SLOTS];
};

struct run_summary {
	uint64_t digest; /* of all that happened: equal for equal runs */
	uint64_t events, virtual_ns;
	uint64_t entries, acknowledged, elections, crashes, losses, transfers, fences, eras;
	uint64_t written_off;
};

/* A run from its plan to its end. If anything is wrong it does not return: see run_fail(). */
void run_execute(const struct plan *plan, enum run_voice voice, struct verdict *verdict,
		 struct run_summary *summary);

/* Say what is wrong, and how to see it again; ends this process with status 1. */
_Noreturn void run_fail(struct run *run, enum finding finding, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* A line of the trace, when there is one. */
void run_trace(struct run *run, const struct node *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
uint64_t run_now(const struct run *run);

/* --- node.c: processes and their planes --- */
/* This run is the one that runs in this process; NULL: none. */
void node_run(struct run *run);
void node_init(struct run *run, unsigned id);
void node_start(struct node *node);
void node_crash(struct node *node, bool lose_memory);
/* The end of a run: all its replicas, their world, and what was known of it. */
void nodes_free(struct run *run);
void node_pause(struct node *node, enum mu_plane plane, uint64_t for_ns);
void node_wake(struct node *node, enum mu_plane plane, uint64_t within_ns);
/* An interruption or pause ends at once. */
void node_hurry(struct node *node, enum mu_plane plane);
uint64_t node_clock(const struct node *node);
void node_interrupt(void *run, unsigned id, enum mu_plane plane);

/* --- members.c: who is a member, where members change; else all are --- */
uint64_t members_now(const struct run *run);
bool members_has(const struct run *run, const struct node *node);
/* Look what this replica takes for the configuration. */
void members_look(struct node *node);
/* Whoever leads is asked for a change that leaves a majority of those that vote. */
void members_change(struct run *run, struct node *leader);
/* Would all configurations there are, or are wished for, have a majority without it? */
bool members_can_spare(const struct run *run, const struct node *node);
/* Is none of them about to change? */
bool members_are_settled(const struct run *run);
/* What it was asked for. */
void members_ask(struct node *node);

/* --- application.c: the reader of the log and the backend --- */
void application_start(struct node *node);
void application_before_step(struct node *node);
void application_after_step(struct node *node);
/* When it next has something to do. */
uint64_t application_next_ns(const struct node *node);
/* It answers no more, until `up` again; what it had not made durable is undone. */
void backend_disconnect(struct node *node);
/* It starts again from an older state. */
void backend_lose(struct node *node, int64_t survives);
/* It starts again from the state of a former era, at the LSN of this entry. */
void backend_revive(struct node *node, int64_t index);
/* It has, after all, what it had lost. */
void backend_regain(struct node *node, int64_t index);
/* It gets the state of the backend that has applied most. */
void backend_transfer(struct node *node);
/* Where the member's backend stands that has applied most. */
int64_t backends_best(const struct run *run);

/* --- client.c: proposals and fenced reads --- */
void client_before_step(struct node *node);
void client_after_step(struct node *node);
uint64_t client_next_ns(const struct node *node);

/* --- memory.c --- */
/* A replica's replication region was written to: it must make sense at every moment. */
void memory_check(struct run *run, unsigned id);

/* --- faults.c --- */
void faults_begin(struct run *run);
void faults_heal(struct run *run, bool degraded);
/*
 * What a group that is level must cope with for as long as it takes, in two
 * steps: backends that stay down, then dead replicas, of others if possible.
 * One replica of the majority that lives has its backend.
 */
void faults_lose_backends(struct run *run);
void faults_lose_minority(struct run *run);
/* Who leads is cut off, in the middle of what it does. NULL: nobody leads. */
struct node *faults_strand_leader(struct run *run);
/*
 * More memories are lost than a majority can do without, for good; all processes
 * run, and no link is broken. `survivor`, if any, alone keeps its memory.
 */
void faults_lose_majority(struct run *run, struct node *survivor);
/* The operator tells all that remember to go on without. */
void faults_accept_loss(struct run *run);
/* FAULT_CRASH_INSIDE struck: the replica will be restarted. */
void faults_died_inside(struct node *node);
/* A replica's role changed: the moment that schedules like to strike at. */
void faults_role_changed(struct node *node, enum mu_role role);

#endif
