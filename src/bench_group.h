/*
 * bench_group.h - the group that mubench measures: replica 1, which leads, in
 * this process, and every other in a process of its own that applies what is
 * committed and does nothing else. Every replica has a background thread.
 */
#ifndef MUPROXY_BENCH_GROUP_H
#define MUPROXY_BENCH_GROUP_H

#include "bench_replica.h"

enum { BENCH_LEADER = 1 };

struct bench_group {
	struct bench_run run;
	pid_t process[MU_ID_SLOTS];
	/*
	 * Behind the ring, each replica's log has as much room again, which the
	 * protocol knows nothing of: bare copies go there.
	 */
	struct bench_replica leader;
};

/* Start all; returns once replica 1 leads. On failure the reason is on stderr. */
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

/* Hand out and apply what is committed. */
void bench_apply(struct bench_replica *replica);

#endif
