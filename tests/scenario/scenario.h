/*
 * scenario.h - scenario tests: a small group of replicas over the sim fabric,
 * driven step by step by a transcript, which tells in the protocol's terms what
 * happened at each step. What the files of the runner share.
 *
 * Nothing is left to chance: links take a fixed time, planes run at fixed
 * moments, and what the fabric draws by lot comes from a fixed seed. Processes,
 * backends and the oracle, which watches here too, are the simulator's
 * (tests/sim); here are the schedule and what is said of it.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <stdio.h>

#include "node.h"
#include "run.h"

#define NAME_BYTES 64  /* of an entry */
#define TEXT_BYTES 512 /* of an event */
#define LINES_MAX 256  /* of output of one command */
#define CLIENT_NAMES_MAX 1024
#define QUEUE_MAX 64
#define CONDITIONS_MAX 8
#define STOPS_MAX 16

/* What an event is about; a transcript names the classes that it shows. */
enum event_class {
	SAY_CLIENTS,    /* what clients are told */
	SAY_ELECTION,   /* ballots, permissions, leading */
	SAY_COMMITS,    /* which entries a replica knows to be committed */
	SAY_APPLIES,    /* which entries its backend has executed */
	SAY_FOLLOWERS,  /* what the leader makes of each peer */
	SAY_VOTES,      /* memory lost, cold start, readmission */
	SAY_WATCH,      /* who is taken for alive, and for the leader */
	SAY_BACKENDS,   /* their health */
	SAY_MEMBERS,    /* the configuration in force, as its log has it */
	SAY_DENIALS,    /* writes that were refused */
	SAY_OPS,        /* single operations: for stopping at them */
	SAY_HEARTBEATS, /* reading of the peers' heartbeats */
	SAY_CLASSES,
	SAY_ALWAYS = SAY_CLASSES,
};

struct line {
	unsigned ids; /* bit i: replica i did it; 0: nobody in particular */
	char text[TEXT_BYTES];
};

/* A proposal or a read that a client has made, or is about to make. */
struct asked {
	char name[NAME_BYTES];
	bool read;
	size_t bytes;
};
struct client_queue {
	struct asked slots[QUEUE_MAX];
	unsigned count;
};

/* Where in the log a proposal was put, by whom. */
struct placed {
	char name[NAME_BYTES];
	uint64_t ballot;
	uint64_t first_lsn; /* of its fragments */
	uint64_t lsn;       /* the last fragment's, MU_LSN_NONE: the call has not returned */
};

/* A replica as it was when last looked at: what differs now is an event. */
struct seen {
	bool alive;
	bool voting;
	bool prepared;
	uint64_t cold_nonce;
	enum mu_data_state state;
	uint64_t ballot;
	uint64_t commit;
	int64_t applied;
	enum mu_campaign_state campaign;
	uint64_t campaign_ballot;
	uint64_t granted[MU_ID_SLOTS]; /* last ballot of that peer's */
	uint64_t refused[MU_ID_SLOTS];
	bool peer_alive[MU_ID_SLOTS];
	enum mu_peer_state peer[MU_ID_SLOTS];
	unsigned leader;
	enum mu_backend_health health;
	uint64_t configuration;
};

/* "ID TEXT": met once replica ID does something that begins with TEXT. */
struct condition {
	unsigned id;
	bool met;
	char text[TEXT_BYTES];
};

struct scenario {
	struct run run; /* first: the simulator's parts are handed this one */
	const char *path;
	unsigned line; /* of the command being executed */
	bool shows[SAY_CLASSES];
	struct line lines[LINES_MAX];
	unsigned line_count;
	struct condition waits[CONDITIONS_MAX];
	unsigned wait_count;
	struct condition stops[STOPS_MAX];
	unsigned stop_count;
	bool stopping; /* the running plane stops at the next point where it can */
	struct client_queue queue[MU_ID_SLOTS];
	struct placed placed[CLIENT_NAMES_MAX];
	unsigned placed_count;
	char proposal_name[CLIENT_NAMES_MAX][NAME_BYTES]; /* by number in the oracle's books - 1 */
	char read_name[MU_ID_SLOTS][OUTSTANDING_MAX][NAME_BYTES];
	struct seen seen[MU_ID_SLOTS];
	uint64_t alarms, alarm_rung; /* of group_run() */
	uint64_t op_bytes[1024];     /* by number: of operations posted lately */
	uint64_t op_moved[1024];
};

static inline struct scenario *scenario_of(struct run *run)
{
	return (struct scenario *)run;
}

/* ---------------------------------------------------------------------- say.c */

/* Something happened at replica id (0: nowhere in particular). */
void say(struct scenario *scenario, unsigned id, enum event_class about, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* False if there is no such class. */
bool say_show(struct scenario *scenario, const char *class_name, bool shown);
/* The lines of output since the last call of say_clear(), each with a newline. Caller frees. */
char *say_output(const struct scenario *scenario);
void say_clear(struct scenario *scenario);
/* "ID TEXT" into a condition; false if it is not of that form. */
bool condition_parse(const struct scenario *scenario, struct condition *condition,
		     const char *text);
bool conditions_met(const struct scenario *scenario);

/* -------------------------------------------------------------------- group.c */

struct group_options {
	unsigned replicas;
	unsigned members; /* of them, to begin with; 0: all */
	uint64_t ring_bytes, entry_bytes, proposal_bytes, piece_bytes;
	uint64_t stall_ns, op_timeout_ns;
	unsigned tear_permille, late_permille;
	bool tcp;   /* the medium, else shm: connections are lost with a process... */
	bool verbs; /* ...and permission is theirs */
};
void group_defaults(struct group_options *options);
/* Build the world; no process runs yet. */
void group_create(struct scenario *scenario, const struct group_options *options);
void group_free(struct scenario *scenario);
bool group_exists(const struct scenario *scenario);
/* A process for a replica; its planes run at moments of their own from now on. */
void group_start(struct scenario *scenario, unsigned id);
void group_crash(struct scenario *scenario, unsigned id, bool lose_memory);
void group_pause(struct scenario *scenario, unsigned id, enum mu_plane plane);
/* Let go what was paused or has stopped. */
void group_go(struct scenario *scenario, unsigned id, enum mu_plane plane);
/* Stop here and now, if a transcript wants the plane that is running to. */
void group_stop_point(struct scenario *scenario);
void group_run(struct scenario *scenario, uint64_t for_ns);
/* Until all conditions are met; false if that has not come about after limit_ns. */
bool group_run_until(struct scenario *scenario, uint64_t limit_ns);
/* Start all, and let this one be elected and all become level; false if they do not. */
bool group_settle(struct scenario *scenario, unsigned leader);

/* ------------------------------------------------------------------ clients.c */

bool clients_ask(struct scenario *scenario, unsigned id, const struct asked *asked);
/* Whose proposal stands, or is about to, at this place in a log; NULL: nobody's. */
const struct placed *clients_placed_at(const struct scenario *scenario, uint64_t ballot,
				       uint64_t lsn);

/* -------------------------------------------------------------------- watch.c */

/* What has changed since the last call: says so. */
void watch_all(struct scenario *scenario);
void watch_forget(struct scenario *scenario, unsigned id);
void watch_fabric(struct scenario *scenario, const struct sim_event *event);
/* "round.id" */
const char *ballot_name(uint64_t ballot);

/* --------------------------------------------------------------------- logs.c */

/* "members 1,2,3" */
const char *configuration_name(uint64_t configuration);
/* The name of the entry at lsn in a replica's memory: "x=1", "first of 1.1", ... */
const char *entry_name(const struct scenario *scenario, unsigned id, uint64_t lsn);
void say_log(struct scenario *scenario, unsigned id, unsigned last);
void say_status(struct scenario *scenario);
void say_permissions(struct scenario *scenario);
void say_scores(struct scenario *scenario, unsigned id);

/* ----------------------------------------------------------------- commands.c */

/* Execute one command; what it has to say is output, its mistakes included. */
void command_execute(struct scenario *scenario, const char *command);
void command_help(FILE *out);

/* --------------------------------------------------------------- transcript.c */

/*
 * Execute a transcript in a process of its own, compare, and say what differs;
 * or write it anew. True if all is well.
 */
bool transcript_in_child(const char *path, bool rewrite, bool trace);
/* All of $srcdir/tests/scenario. Exits if there are none. The result is not freed. */
void transcript_find_all(char ***paths, size_t *count);
/* The oracle, the fabric or the core itself has found something wrong: no more steps. */
_Noreturn void transcript_stop(struct scenario *scenario);

#endif
