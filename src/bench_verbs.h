/* bench_verbs.h - the verbs fabric for mubench, all replicas on one device. */
#ifndef MUPROXY_BENCH_VERBS_H
#define MUPROXY_BENCH_VERBS_H

#include "bench_fabric.h"

/* As in struct bench_fabric. The fabric's close() ends its peering, too. */
int bench_verbs_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		     const char *directory, char *err, size_t err_bytes);
uint8_t *bench_verbs_map_floor(const char *directory, unsigned id, uint64_t offset, size_t bytes);
struct bench_revocation bench_verbs_revocation(const struct mu_fabric *fabric);

#endif
