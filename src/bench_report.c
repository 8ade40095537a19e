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
	printf("# %lu proposals a line, one by one or as many at once as are outstanding, each "
	       "time followed by\n#   the floor's; after a warm-up\n",
	       options->count);
	printf("# a reading of the clock takes %.0f ns: once in every latency and floor below\n",
	       bench_clock_cost());
	printf("# times are ns per operation: those of a proposal divided by the `batch` "
	       "operations in it\n");
	printf("# latency: from the turn's start, before mu_propose(), to behind the mu_step() "
	       "that shows the commit;\n");
	printf("#   with more than one outstanding, all of them are proposed in one turn\n");
	printf("# floor: the same bytes to the same followers without the protocol, p50: `write` "
	       "by the fabric,\n#   `copy` by %s\n",
	       options->fabric->floor);
	printf("# x: what was outstanding until all of it was committed, by the floor right "
	       "behind it: p50 (p25-p75)\n");
	printf("# operations/s: in bursts, and sustained, when followers have to apply in time\n");
	if (options->csv)
		printf("payload,batch,outstanding,log_bytes,min_ns,p50_ns,p99_ns,p99.9_ns,write_ns,"
		       "x_write,copy_ns,x_copy,burst_per_s,sustained_per_s,lost_rounds,"
		       "x_write_p25,x_write_p75,x_copy_p25,x_copy_p75\n");
	else
		printf("%8s %6s %5s %9s | %8s %8s %8s %9s | %8s %16s %8s %16s | %11s %11s\n",
		       "payload", "batch", "outst", "log bytes", "min", "p50", "p99", "p99.9",
		       "write", "x", "copy", "x", "burst/s", "sustained/s");
	fflush(stdout);
}

static double ratio(double thousandths)
{
	return thousandths / BENCH_RATIO_ONE;
}

static void print_csv(const struct bench_case *what, const struct bench_result *result)
{
	const struct bench_figures *commit = &result->commit;
	const struct bench_figures *write = &result->by_write, *copy = &result->by_copy;
	double batch = what->batch;

	printf("%zu,%u,%u,%llu,%.2f,%.2f,%.2f,%.2f,", what->payload, what->batch, what->outstanding,
	       (unsigned long long)result->log_bytes, commit->min / batch, commit->p50 / batch,
	       commit->p99 / batch, commit->p999 / batch);
	printf("%.2f,%.2f,%.2f,%.2f,%.0f,%.0f,%lu,", result->write.p50 / batch, ratio(write->p50),
	       result->copy.p50 / batch, ratio(copy->p50), result->burst_per_s,
	       result->sustained_per_s, result->lost);
	printf("%.2f,%.2f,%.2f,%.2f\n", ratio(write->p25), ratio(write->p75), ratio(copy->p25),
	       ratio(copy->p75));
}

static void print_floor(double ns, const struct bench_figures *by)
{
	char spread[32];

	snprintf(spread, sizeof(spread), "(%.2f-%.2f)", ratio(by->p25), ratio(by->p75));
	printf("%8.1f %5.2f %-10s ", ns, ratio(by->p50), spread);
}

static void print_row(const struct bench_case *what, const struct bench_result *result)
{
	const struct bench_figures *commit = &result->commit;
	double batch = what->batch;

	printf("%8zu %6u %5u %9llu | %8.1f %8.1f %8.1f %9.1f | ", what->payload, what->batch,
	       what->outstanding, (unsigned long long)result->log_bytes, commit->min / batch,
	       commit->p50 / batch, commit->p99 / batch, commit->p999 / batch);
	print_floor(result->write.p50 / batch, &result->by_write);
	print_floor(result->copy.p50 / batch, &result->by_copy);
	printf("| %11.0f %11.0f", result->burst_per_s, result->sustained_per_s);
	if (result->lost > 0)
		printf("  (%lu rounds were lost, and done again)", result->lost);
	printf("\n");
}

void bench_report_line(const struct bench_options *options, const struct bench_case *what,
		       const struct bench_result *result)
{
	if (options->csv)
		print_csv(what, result);
	else
		print_row(what, result);
	fflush(stdout);
}
