/*
 * bench_tcp.h - the tcp fabric in mubench: replicas at loopback addresses that
 * follow from the run's directory, and a bare ping-pong over sockets of the same
 * kind, between the same processes.
 */
#ifndef MUPROXY_BENCH_TCP_H
#define MUPROXY_BENCH_TCP_H

#include "bench_fabric.h"

/* As bench_fabric.open and .exchange. */
int bench_tcp_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		   const char *directory, char *err, size_t err_bytes);
bool bench_tcp_exchange(const char *directory, unsigned replicas, const uint8_t *bytes, size_t len,
			unsigned count);

#endif
