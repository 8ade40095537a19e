/*
 * bench_run.h - what every kind of run of mubench stands on: a directory for
 * the replicas' memory, and processes that end with it.
 */
#ifndef MUPROXY_BENCH_RUN_H
#define MUPROXY_BENCH_RUN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "bench_options.h"

struct bench_run {
	const struct bench_options *options;
	char directory[256];
	atomic_bool *quit; /* shared by all processes of the run: end */
};

/*
 * On failure the reason is on stderr. From here on SIGINT and SIGTERM set
 * `quit`, here and in the processes of the run.
 */
bool bench_run_begin(struct bench_run *run, const struct bench_options *options);
/* Deletes the directory; all processes must have ended. */
void bench_run_end(struct bench_run *run);

/* Somebody wants it to end. */
static inline bool bench_run_is_over(const struct bench_run *run)
{
	return atomic_load_explicit(run->quit, memory_order_relaxed);
}

/*
 * Run body(ctx, id) in a process of its own, which is killed if this one dies;
 * what it returns is its exit status. 0, with the reason on stderr, if there
 * is none to be had.
 */
pid_t bench_run_fork(int (*body)(void *ctx, unsigned id), void *ctx, unsigned id);

#endif
