/*
 * bench_peering.h - the peering of a replica in mubench, for fabrics that need
 * one: members at loopback addresses that follow from the run's directory. A
 * process has one replica at a time.
 */
#ifndef MUPROXY_BENCH_PEERING_H
#define MUPROXY_BENCH_PEERING_H

#include <stdbool.h>
#include <stddef.h>

#include "log.h"
#include "mu_fabric.h"
#include "mu_peering.h"

enum { BENCH_ADDRESS_BYTES = 32 };

/* Replica id's address in this run, which no other run has. */
void bench_address(const char *directory, unsigned id, int port, char text[BENCH_ADDRESS_BYTES]);

/* Open it, for the fabric to be opened with; NULL, with the reason in err. */
struct mu_peering *bench_peering_open(const struct mu_fabric_config *config, const char *directory,
				      int port, enum mp_log_level level, char *err,
				      size_t err_bytes);
/*
 * Start it for that fabric, whose close() ends it from now on; NULL: the fabric
 * did not open. Returns 0, or -1 with all closed and, but for NULL, the reason in err.
 */
int bench_peering_start(struct mu_fabric *fabric, char *err, size_t err_bytes);

#endif
