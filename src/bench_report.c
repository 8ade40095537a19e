/* bench_report.c - see the header. */
#include "config.h"

#include <stdio.h>
#include <unistd.h>

#include "bench_report.h"

void bench_report_begin(const struct bench_options *options)
{
	printf("# mubench %s: %u replicas over %s, each a process; %ld processors; ring %zu KiB\n",
	       PACKAGE_VERSION, options->replicas, options->fabric->name,
	       sysconf(_SC_NPROCESSORS_ONLN), options->ring_bytes >> 10);
	printf("# %lu proposals a line, in rounds that take turns with the floor's; after a "
	       "warm-up\n",
	       options->count);
	printf("# a reading of the clock takes %.0f ns: once in every latency and floor below\n",
	       bench_clock_cost());
	printf("# times are ns per operation: those of a proposal divided by the `batch` "
	       "operations in it\n");
	printf("# latency: from the turn's start, before mu_propose(), to behind the mu_step() "
	       "that shows the commit;\n");
	printf("#   with more than one outstanding, all of them are proposed in one turn\n");
	printf("# floor: the same bytes to the same followers without the protocol, p50: `write` "
	       "by the fabric,\n#   `copy` by %s; x: latency p50 by either\n",
	       options->fabric->floor);
	printf("# operations/s: in bursts that fit the ring, and sustained, when followers have to "
	       "apply in time\n");
	if (options->csv)
		printf("payload,batch,outstanding,log_bytes,min_ns,p50_ns,p99_ns,p99.9_ns,write_ns,"
		       "x_write,copy_ns,x_copy,burst_per_s,sustained_per_s,lost_rounds\n");
	else
		printf("%8s %6s %5s %9s | %8s %8s %8s %9s | %8s %5s %8s %5s | %11s %11s\n",
		       "payload", "batch", "outst", "log bytes", "min", "p50", "p99", "p99.9",
		       "write", "x", "copy", "x", "burst/s", "sustained/s");
	fflush(stdout);
}

void bench_report_line(const struct bench_options *options, const struct bench_case *what,
		       const struct bench_result *result)
{
	const struct bench_figures *commit = &result->commit;
	double batch = what->batch;
	double by_write = commit->p50 / result->write.p50;
	double by_copy = commit->p50 / result->copy.p50;

	printf(options->csv
		       ? "%zu,%u,%u,%llu,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.2f,%.0f,%.0f,"
		       : "%8zu %6u %5u %9llu | %8.1f %8.1f %8.1f %9.1f | %8.1f %5.2f %8.1f %5.2f | "
			 "%11.0f %11.0f",
	       what->payload, what->batch, what->outstanding, (unsigned long long)result->log_bytes,
	       commit->min / batch, commit->p50 / batch, commit->p99 / batch, commit->p999 / batch,
	       result->write.p50 / batch, by_write, result->copy.p50 / batch, by_copy,
	       result->burst_per_s, result->sustained_per_s);
	if (options->csv)
		printf("%lu\n", result->lost);
	else if (result->lost > 0)
		printf("  (%lu rounds were lost, and done again)\n", result->lost);
	else
		printf("\n");
	fflush(stdout);
}
