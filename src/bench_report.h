/* bench_report.h - what mubench prints. */
#ifndef MUPROXY_BENCH_REPORT_H
#define MUPROXY_BENCH_REPORT_H

#include "bench_measure.h"

/* What the figures are and where they come from, then the columns' names. */
void bench_report_begin(const struct bench_options *options);
void bench_report_line(const struct bench_options *options, const struct bench_case *what,
		       const struct bench_result *result);

#endif
