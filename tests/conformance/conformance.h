/*
 * conformance.h - one suite that holds every fabric to the contract F1..F9 of
 * mu_fabric.h. A fabric joins it with a fixture: how to open a replica of a
 * group, how its memory is lost, and what it cannot do. The tests know nothing
 * else of it.
 */
#ifndef MU_CONFORMANCE_H
#define MU_CONFORMANCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "mu_fabric.h"

/* Ways in which revoke_write() is broken on purpose, to see that the suite notices. */
enum conformance_fault {
	FAULT_NONE,
	FAULT_NO_WAIT,   /* does not wait for writes under way */
	FAULT_NO_TAKING, /* gives up waiting, and lets the writer keep what it has */
};

struct conformance_fabric {
	const char *name;

	/* What the replicas of one group share (a directory, ports, a world); opens none. */
	void *(*group_new)(void);
	void (*group_free)(void *place);
	/* Open a replica's fabric; also in a forked process if `concurrent`. */
	int (*open)(void *place, const struct mu_fabric_config *config, struct mu_fabric **out,
		    char *err, size_t err_bytes);
	/* The memory of a replica that is closed is gone. NULL: it goes at closing. */
	void (*lose_memory)(void *place, unsigned id);
	/* Let time pass (a simulator's). NULL: it passes by itself. */
	void (*advance)(void *place);

	/* Whether this machine has what it takes; else why not, in a line. NULL: always. */
	bool (*is_available)(char *why, size_t bytes);
	/* Of every operation, where the usual one will not do; 0: OP_TIMEOUT_NS. */
	uint64_t op_timeout_ns;
	/* Where rounds take long, by how much fewer of them are enough; 0: 1. */
	unsigned slowness;
	/* It is held to F4 thousands of times under streams of writes, in tests of its own. */
	bool has_stream_tests;
	/* Replicas may run in threads and processes of their own. */
	bool concurrent;
	/* It starts threads itself: the thread sanitizer bears no forked replicas of it. */
	bool has_threads;
	/*
	 * Whether `writer` is in the middle of a write into `target`'s log, as the
	 * target's memory shows it. NULL: cannot be told; tests that stop a writer
	 * there are left out.
	 */
	bool (*is_writing)(void *place, unsigned target, unsigned writer);
	/* Tests that it cannot take: a name, then a reason, and so on; NULL behind the last. */
	const char *const *left_out;
	/* Self-check only: break revoke_write() in this way, or mend it. */
	void (*break_revocation)(enum conformance_fault fault);
};

/* The fabric under test; main.c sets it before any test runs. */
extern const struct conformance_fabric *fabric_under_test;

#define DATA MU_PLANE_DATA
#define BACKGROUND MU_PLANE_BACKGROUND
#define LOG MU_REGION_REPLICATION
#define SLOTS MU_REGION_BACKGROUND

#define LOG_BYTES (4u << 20)
#define SLOTS_BYTES 4096u
#define PRIVATE_BYTES 4096u
#define OP_TIMEOUT_NS 100000000u
/* Nothing that a test waits for takes this long, however loaded the machine is. */
#define DEADLINE_NS 60000000000u

/* Replicas 1, 2 and 3 know of each other; if others come, these have to find them. */
#define FOUNDERS 0xeu

#define BALLOT(round, id) ((uint64_t)(round) << 8 | (id))

/* A group, with the replicas that run in this process. */
struct group {
	void *place;
	uint32_t members; /* as fabrics are told: FOUNDERS, and whoever may come later */
	struct mu_fabric *replica[MU_ID_SLOTS];
	unsigned formats[MU_ID_SLOTS]; /* how often memory was formatted */
};
struct group *group_new(void);
void group_free(struct group *group);
struct mu_fabric_config group_config(struct group *group, unsigned id);
uint64_t group_op_timeout_ns(void);
/* Whether replicas may be forked, in this build; if not, tests that need it are left out. */
bool group_may_fork(void);
/*
 * In a process of its own: replica 2, which replica 1 may write, under this ballot.
 * Returns when it is open; the caller kills it.
 */
pid_t group_fork_target(struct group *group, uint64_t ballot);
/* So many rounds, or fewer for a slow fabric. */
unsigned group_rounds(unsigned rounds);
/* Rounds in which a writer is stopped or killed: what CONFORMANCE_ROUNDS says, or as usual. */
unsigned group_hard_rounds(unsigned usual);
/* Open a replica, which must succeed; or close it. */
struct mu_fabric *group_open(struct group *group, unsigned id);
void group_close(struct group *group, unsigned id);

uint64_t clock_ns(void);
/* One turn of waiting for something; fails the test, naming it, once `since_ns` is too long ago. */
void wait_turn(struct group *group, uint64_t since_ns, const char *what);

#define WAIT_UNTIL(group, condition)                                 \
	do {                                                         \
		uint64_t wait_since_ns = clock_ns();                 \
		while (!(condition))                                 \
			wait_turn(group, wait_since_ns, #condition); \
	} while (0)

/* Between two replicas of a group, on one plane: what most tests use. */
struct link {
	struct group *group;
	struct mu_fabric *fabric; /* the one that posts */
	enum mu_plane plane;
	unsigned peer; /* the target */
};
/* Connect and wait until it is UP. */
struct link link_up(struct group *group, unsigned from, enum mu_plane plane, unsigned to);
void link_reconnect(const struct link *link);
enum mu_connection link_state(const struct link *link);
/* Let the posting end write the target's log, which it keeps connected for; waits for that. */
void link_grant(const struct link *link, uint64_t ballot);
/* Post one operation and wait for its completion; returns its status. */
enum mu_fabric_status link_write(const struct link *link, enum mu_region region, uint64_t offset,
				 const void *src, size_t len, uint64_t ballot);
enum mu_fabric_status link_read(const struct link *link, enum mu_region region, uint64_t offset,
				void *dst, size_t len);
/* Wait for the next completion of the link's plane. */
struct mu_completion link_completion(const struct link *link);

/* Fill with bytes that differ by seed and position. */
void fill(void *dst, size_t len, unsigned seed);

/* The tests, a file each; every array ends with an element without a name. */
extern const struct CMUnitTest order_tests[];
extern const struct CMUnitTest permission_tests[];
extern const struct CMUnitTest revocation_tests[];
extern const struct CMUnitTest memory_tests[];
extern const struct CMUnitTest newcomer_tests[];
extern const struct CMUnitTest shm_tests[];
extern const struct CMUnitTest tcp_tests[];
extern const struct CMUnitTest tcp_slow_tests[];
extern const struct CMUnitTest verbs_tests[];
extern const struct CMUnitTest stepped_tests[];
extern const struct CMUnitTest self_check_tests[];
extern const struct CMUnitTest stepped_self_check_tests[];

extern const struct conformance_fabric shm_fixture;
extern const struct conformance_fabric sim_passive_fixture;
extern const struct conformance_fabric sim_bound_fixture;
extern const struct conformance_fabric tcp_fixture;
extern const struct conformance_fabric verbs_fixture; /* HAVE_VERBS */

#endif
