/*
 * bench_group.h - the group that mubench measures: replica 1, which leads, in
 * this process, and every other in a process of its own that applies what is
 * committed and does nothing else. Every replica has a background thread.
 */
#ifndef MUPROXY_BENCH_GROUP_H
#define MUPROXY_BENCH_GROUP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "bench_options.h"
#include "mu.h"

enum { BENCH_LEADER = 1 };

struct bench_replica {
	struct mu_config config;
	struct mu_fabric *fabric;
	struct mu *mu;
	bool placed; /* mu_seek() has succeeded */
	pthread_t background;
	atomic_bool *quit; /* whole group: end */
};

struct bench_group {
	const struct bench_options *options;
	char directory[256];
	atomic_bool *quit; /* shared by the processes */
	pid_t process[MU_ID_SLOTS];
	struct bench_replica leader;
	/*
	 * Behind the ring, each replica's log has as much room again, which the
	 * protocol knows nothing of: bare copies go there.
	 */
	uint64_t floor_offset;
};

/*
 * Start all; returns once replica 1 leads. On failure the reason is on stderr.
 * From here on SIGINT and SIGTERM end the group in good order.
 */
bool bench_group_start(struct bench_group *group, const struct bench_options *options);
/*
 * Wait until replica 1 leads (again) with all followers, and they have applied
 * all that is committed; false, with the reason on stderr unless it was a
 * signal, if it does not come to that.
 */
bool bench_group_lead(struct bench_group *group);
/* Replica 1 leads, and all others count as its followers: what it writes, it writes to all. */
bool bench_group_is_whole(const struct bench_group *group);
/* End all processes and delete their memory. */
void bench_group_stop(struct bench_group *group);

/* Somebody wants it to end. */
bool bench_is_over(const struct bench_replica *replica);
/* Hand out and apply what is committed; returns how many entries that were. */
unsigned bench_apply(struct bench_replica *replica);

#endif
