/*
 * bench_fabric.h - the fabrics that mubench can measure. All that differs
 * between them is in bench_fabric.c.
 */
#ifndef MUPROXY_BENCH_FABRIC_H
#define MUPROXY_BENCH_FABRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mu_fabric.h"

/* What a replica's last revocation of another's permission took; `count` tells it from others. */
struct bench_revocation {
	uint64_t count;
	uint64_t revoke_ns;  /* taking the permission away */
	uint64_t barrier_ns; /* making certain that nothing lands any more */
};

struct bench_fabric {
	const char *name;
	/* A replica's fabric, its memory in `directory`. Returns 0, or -1 with the reason in err.
	 */
	int (*open)(struct mu_fabric **out, const struct mu_fabric_config *config,
		    const char *directory, char *err, size_t err_bytes);
	/*
	 * Map `bytes` of replica id's replication region from `offset` on, for copies
	 * that no fabric is part of; NULL, with the reason on stderr, if that fails.
	 * NULL where memory is not shared; then there is exchange().
	 */
	uint8_t *(*map_floor)(const char *directory, unsigned id, uint64_t offset, size_t bytes);
	/*
	 * Send `count` messages of len bytes to every follower by the bare means that
	 * the fabric stands on; back when so many have answered that a proposal would
	 * be committed. False if that fails.
	 */
	bool (*exchange)(const char *directory, unsigned replicas, const uint8_t *bytes, size_t len,
			 unsigned count);
	/* On the replica's background thread. NULL: it cannot tell. */
	struct bench_revocation (*revocation)(const struct mu_fabric *fabric);
	const char *floor; /* what map_floor or exchange measure, in words */
};

/* NULL if this build has no such fabric. */
const struct bench_fabric *bench_fabric_find(const char *name);
/* The i-th, the default first; NULL behind the last. */
const struct bench_fabric *bench_fabric_at(size_t i);

#endif
