/*
 * replica.h - a replica over the shm fabric in this process: its two planes
 * on threads of their own, as the daemon has them, an application that applies
 * what is committed, and the ways in which a plane is troubled.
 */
#ifndef THREADS_REPLICA_H
#define THREADS_REPLICA_H

#include <pthread.h>
#include <stdatomic.h>

#include "mu.h"

#define REPLICAS 3
#define ENTRIES_MAX (1 << 20)

/* The sequence of entries that all replicas must be handed, as who is ahead was. */
struct sequence {
	pthread_mutex_t lock;
	uint64_t count;
	uint64_t hash[ENTRIES_MAX];
};

struct group {
	char directory[64];
	struct sequence sequence;
	atomic_bool quit;
	atomic_bool loaded;     /* leaders propose */
	atomic_ulong committed; /* proposals reported committed */
};

struct replica {
	struct group *group;
	unsigned id;
	struct mu_fabric *fabric;
	struct mu *mu;
	pthread_t thread[MU_PLANES];
	int wake_fd; /* an eventfd by which the background thread wakes the data thread */

	/* What the test asks for. */
	atomic_bool stopped[MU_PLANES]; /* the plane's thread stands still */
	atomic_bool resign;

	/* The data thread's. */
	bool placed;
	uint64_t handed;       /* entries */
	uint64_t proposed_lsn; /* 0: nothing outstanding */
	uint64_t proposed_ballot;
	atomic_ulong ballot; /* led under, 0: it does not lead */
	atomic_ulong applied;
};

void replica_open(struct replica *replica, struct group *group, unsigned id);
void replica_start(struct replica *replica);
/* Its threads have ended when this returns. */
void replica_join(struct replica *replica);
void replica_close(struct replica *replica);

_Noreturn void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
