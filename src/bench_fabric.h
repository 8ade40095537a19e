/*
 * bench_fabric.h - the fabrics that mubench can measure. All that differs
 * between them is in bench_fabric.c.
 */
#ifndef MUPROXY_BENCH_FABRIC_H
#define MUPROXY_BENCH_FABRIC_H

#include <stddef.h>
#include <stdint.h>

#include "mu_fabric.h"

struct bench_fabric {
	const char *name;
	/* A replica's fabric, its memory in `directory`. Returns 0, or -1 with the reason in err.
	 */
	int (*open)(struct mu_fabric **out, const struct mu_fabric_config *config,
		    const char *directory, char *err, size_t err_bytes);
	/*
	 * Map `bytes` of replica id's replication region from `offset` on, for copies
	 * that no fabric is part of; NULL, with the reason on stderr, if that fails.
	 */
	uint8_t *(*map_floor)(const char *directory, unsigned id, uint64_t offset, size_t bytes);
};

/* NULL if this build has no such fabric. */
const struct bench_fabric *bench_fabric_find(const char *name);
/* The i-th, the default first; NULL behind the last. */
const struct bench_fabric *bench_fabric_at(size_t i);

#endif
