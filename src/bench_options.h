/* bench_options.h - what mubench is asked to measure. */
#ifndef MUPROXY_BENCH_OPTIONS_H
#define MUPROXY_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mu_fabric.h"

enum {
	BENCH_LIST_MAX = 16,
	BENCH_OUTSTANDING_MAX = 64,
	BENCH_BATCH_MAX = 1024,
};

struct bench_list {
	size_t value[BENCH_LIST_MAX];
	unsigned count;
};

/* A fabric that can be measured: how a replica opens it in a directory. */
struct bench_fabric {
	const char *name;
	int (*open)(struct mu_fabric **out, const struct mu_fabric_config *config,
		    const char *directory, char *err, size_t err_bytes);
};

struct bench_options {
	const struct bench_fabric *fabric;
	struct bench_list payload, outstanding, batch;
	unsigned long count; /* proposals per line of the report */
	unsigned replicas;
	const char *directory; /* memory lies in a new directory inside this one */
	size_t ring_bytes;
	bool csv;
};

/*
 * Parse the command line. Returns -1 to go on, else the status to exit with:
 * what is to be said about that has been said.
 */
int bench_options_parse(struct bench_options *options, int argc, char **argv);

/* The largest proposal that the lists ask for. */
size_t bench_options_largest(const struct bench_options *options);

#endif
