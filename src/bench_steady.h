/* bench_steady.h - how near to a false alarm the failure detector comes while nothing is wrong. */
#ifndef MUPROXY_BENCH_STEADY_H
#define MUPROXY_BENCH_STEADY_H

#include "bench_options.h"

/* Returns the exit status: not 0 if the leader changed, or anything was lost. */
int bench_steady(const struct bench_options *options);

#endif
