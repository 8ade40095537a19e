/* bench_options.h - what mubench is asked to measure. */
#ifndef MUPROXY_BENCH_OPTIONS_H
#define MUPROXY_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench_fabric.h"
#include "mu.h"

enum {
	BENCH_LIST_MAX = 16,
	BENCH_OUTSTANDING_MAX = 64,
	BENCH_BATCH_MAX = 1024,
	BENCH_SCORE_MAX = 63, /* so that there is a count for each score */
};

struct bench_list {
	size_t value[BENCH_LIST_MAX];
	unsigned count;
};

enum bench_mode {
	BENCH_PROPOSE,  /* from proposing to commit */
	BENCH_FAILOVER, /* from a leader's end to the next one's first commit */
	BENCH_STEADY,   /* false alarms while nothing is wrong */
};

struct bench_options {
	enum bench_mode mode;
	const struct bench_fabric *fabric;
	unsigned replicas;
	const char *directory; /* memory lies in a new directory inside this one */
	size_t ring_bytes;
	struct mu_config mu; /* tick and scores count; the rest is each replica's */
	bool csv;

	/* BENCH_PROPOSE */
	struct bench_list payload, outstanding, batch;
	unsigned long count; /* proposals per line of the report */

	/* BENCH_FAILOVER, BENCH_STEADY */
	unsigned long events; /* of each kind */
	uint64_t steady_ns;   /* how long to watch */
	uint64_t pace_ns;     /* from one proposal of the leader to the next */
	unsigned busy;        /* processes that do nothing but spin */
};

/*
 * Parse the command line. Returns -1 to go on, else the status to exit with:
 * what is to be said about that has been said.
 */
int bench_options_parse(struct bench_options *options, int argc, char **argv);

/* The largest proposal that the lists ask for. */
size_t bench_options_largest(const struct bench_options *options);

#endif
