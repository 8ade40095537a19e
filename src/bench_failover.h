/* bench_failover.h - from a leader's end to the next one's first commit, again and again. */
#ifndef MUPROXY_BENCH_FAILOVER_H
#define MUPROXY_BENCH_FAILOVER_H

#include "bench_options.h"

/* Returns the exit status: not 0 if anything was lost, or somebody did not come back. */
int bench_failover(const struct bench_options *options);

#endif
