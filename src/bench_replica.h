/* bench_replica.h - one replica in this process, with a background thread; the caller is its data
 * thread. */
#ifndef MUPROXY_BENCH_REPLICA_H
#define MUPROXY_BENCH_REPLICA_H

#include <pthread.h>

#include "bench_run.h"
#include "mu.h"

struct bench_replica {
	const struct bench_run *run;
	struct mu_config config;
	struct mu_fabric *fabric;
	struct mu *mu;
	bool placed; /* mu_seek() has succeeded */
	/* Called by the background thread behind each of its steps; NULL: nobody cares. */
	void (*watch)(struct bench_replica *, uint64_t now_ns);
	int wake_fd; /* an eventfd that is written when the data plane is wanted; -1: it polls */
	pthread_t background;
};

/*
 * Format or resume replica id's memory; `extra_bytes` of the replication region
 * lie behind what the protocol uses. watch and wake_fd are unset. On failure
 * the reason is on stderr.
 */
bool bench_replica_open(struct bench_replica *replica, const struct bench_run *run, unsigned id,
			size_t extra_bytes);
bool bench_replica_start(struct bench_replica *replica);
/* Once `quit` is set. */
void bench_replica_stop(struct bench_replica *replica);
void bench_replica_close(struct bench_replica *replica);

/* Where `extra_bytes` begin in the replication region. */
uint64_t bench_extra_offset(const struct bench_options *options);
/* How many there must be for the floor's copies of as much as the ring; whole huge pages. */
size_t bench_extra_bytes(const struct bench_options *options);

/* Sleep for a while. */
void bench_rest(uint64_t ns);

#endif
