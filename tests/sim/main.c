/*
 * main.c - the simulator's command line: which seeds to run, several at once,
 * each in a process of its own so that an assertion that fails in the core is
 * reported with the seed that made it fail.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

#define DEFAULT_STEPS 100000
#define DEFAULT_SEEDS 300
#define DEFAULT_SECONDS 15
#define MAX_JOBS 64
#define REPEAT_EVERY 16
#define HUNG_SECONDS 300 /* of real time; only a core that does not return takes so long */

struct options {
	uint64_t seed;
	bool has_seed;
	uint64_t seeds;
	uint64_t steps;
	unsigned replicas;
	const char *schedule;
	const char *file;
	bool trace;
	bool verbose;
	bool keep_going;
	unsigned jobs;
	uint64_t seconds; /* 0: no limit */
};

/* A seed, and what to run it with. */
struct work {
	uint64_t seed;
	uint64_t steps;
	unsigned replicas;
};

struct tally {
	const char *program;
	const struct options *options;
	struct {
		pid_t pid;
		struct work work;
	} running[MAX_JOBS];
	unsigned jobs;
	uint64_t passed;
	uint64_t failed;
	time_t deadline;
};

static void usage(FILE *out)
{
	fprintf(out,
		"usage: sim [options]\n"
		"Run groups of replicas against simulated faults, each run from one seed.\n"
		"Without options: the seeds of tests/sim/seeds.txt, then the first %d, %d s at "
		"most.\n"
		"  --seed N         run this seed, or begin with it\n"
		"  --seeds COUNT    run so many seeds; fresh ones unless --seed is given\n"
		"  --minutes M      run fresh seeds for so long\n"
		"  --steps N        events of the fault phases of a run (%d)\n"
		"  --replicas N     3, 5 or 7 instead of what the seed says\n"
		"  --schedule NAME  a bias instead of what the seed says:",
		DEFAULT_SEEDS, DEFAULT_SECONDS, DEFAULT_STEPS);
	for (unsigned i = 0; plan_schedule_name(i) != NULL; i++)
		fprintf(out, " %s", plan_schedule_name(i));
	fprintf(out, "\n"
		     "  --file FILE      run the seeds listed in FILE first\n"
		     "  --jobs N         runs at the same time (2)\n"
		     "  --keep-going     do not stop at the first seed that fails\n"
		     "  --verbose        a line about every run\n"
		     "  --trace          print all that happens (with --seed)\n");
}

/* ------------------------------------------------------------------------ one run */

static bool make_plan(const struct tally *tally, const struct work *work, struct plan *plan)
{
	const struct options *options = tally->options;
	int at;

	if (!plan_draw(plan, work->seed, work->steps, work->replicas, options->schedule))
		return false;
	at = snprintf(plan->repeat, sizeof(plan->repeat), "%s --seed %" PRIu64 " --steps %" PRIu64,
		      tally->program, work->seed, work->steps);
	if (work->replicas != 0)
		at += snprintf(plan->repeat + at, sizeof(plan->repeat) - (size_t)at,
			       " --replicas %u", work->replicas);
	if (options->schedule != NULL)
		at += snprintf(plan->repeat + at, sizeof(plan->repeat) - (size_t)at,
			       " --schedule %s", options->schedule);
	snprintf(plan->repeat + at, sizeof(plan->repeat) - (size_t)at, " --trace");
	return true;
}

/* Every so often a run is made twice: the second time all its memory lies elsewhere. */
static bool repeats(const struct work *work, const struct options *options)
{
	return work->seed % REPEAT_EVERY == 0 && !options->trace;
}

static void check_repeat(const struct plan *plan, const struct run_summary *first)
{
	struct run_summary second;

	run_execute(plan, false, &second);
	if (first->digest == second.digest)
		return;
	printf("seed %" PRIu64 " FAILED: two runs of it differ: digest %016" PRIx64
	       " and %016" PRIx64 "\n",
	       plan->seed, first->digest, second.digest);
	exit(1);
}

static void run_one(const struct tally *tally, const struct work *work)
{
	const struct options *options = tally->options;
	struct run_summary summary;
	struct plan plan;

	if (!make_plan(tally, work, &plan))
		abort();
	run_execute(&plan, options->trace, &summary);
	if (repeats(work, options))
		check_repeat(&plan, &summary);
	if (options->verbose || options->trace)
		printf("seed %" PRIu64 ": %s, %u replicas: %" PRIu64 " events, %" PRIu64
		       " ms; %" PRIu64 " entries, %" PRIu64 " acknowledged, %" PRIu64
		       " elections, %" PRIu64 " fences, %" PRIu64 " deaths, %" PRIu64
		       " memories lost, %" PRIu64 " transfers, %" PRIu64 " written off, %" PRIu64
		       " eras; digest %016" PRIx64 "\n",
		       work->seed, plan.schedule, plan.replicas, summary.events,
		       summary.virtual_ns / 1000000, summary.entries, summary.acknowledged,
		       summary.elections, summary.fences, summary.crashes, summary.losses,
		       summary.transfers, summary.written_off, summary.eras, summary.digest);
	fflush(stdout);
}

/* ----------------------------------------------------------------------- many runs */

static void report(struct tally *tally, const struct work *work, int status)
{
	struct plan plan;

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		tally->passed++;
		return;
	}
	tally->failed++;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		return; /* it has said why */
	if (!make_plan(tally, work, &plan))
		abort();
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		printf("seed %" PRIu64 " FAILED (%u replicas, schedule %s): hung\n", work->seed,
		       plan.replicas, plan.schedule);
	else
		printf("seed %" PRIu64 " FAILED (%u replicas, schedule %s): died, %s %d\n",
		       work->seed, plan.replicas, plan.schedule,
		       WIFSIGNALED(status) ? "signal" : "exit status",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	printf("  repeat with: %s\n", plan.repeat);
}

static void wait_for_one(struct tally *tally)
{
	int status;
	pid_t pid;

	do
		pid = waitpid(-1, &status, 0);
	while (pid < 0 && errno == EINTR);
	for (unsigned i = 0; i < tally->jobs; i++) {
		if (tally->running[i].pid != pid)
			continue;
		report(tally, &tally->running[i].work, status);
		tally->running[i] = tally->running[--tally->jobs];
		return;
	}
}

static bool enough(const struct tally *tally)
{
	if (tally->failed > 0 && !tally->options->keep_going)
		return true;
	return tally->deadline != 0 && time(NULL) >= tally->deadline;
}

static void run_in_child(struct tally *tally, const struct work *work)
{
	pid_t pid;

	while (tally->jobs >= tally->options->jobs)
		wait_for_one(tally);
	if (enough(tally))
		return;
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0) {
		alarm(HUNG_SECONDS);
		run_one(tally, work);
		exit(0);
	}
	tally->running[tally->jobs].pid = pid;
	tally->running[tally->jobs++].work = *work;
}

/* Lines of "seed [steps [replicas]]"; # begins a comment. */
static void run_file(struct tally *tally, const char *path)
{
	FILE *file = fopen(path, "r");
	char line[256];

	if (file == NULL) {
		perror(path);
		exit(2);
	}
	while (fgets(line, sizeof(line), file) != NULL) {
		struct work work = {.steps = tally->options->steps};

		if (sscanf(line, "%" SCNu64 " %" SCNu64 " %u", &work.seed, &work.steps,
			   &work.replicas) >= 1)
			run_in_child(tally, &work);
	}
	fclose(file);
}

static int run_many(struct tally *tally, uint64_t first_seed)
{
	const struct options *options = tally->options;

	if (options->seconds != 0)
		tally->deadline = time(NULL) + (time_t)options->seconds;
	if (options->file != NULL)
		run_file(tally, options->file);
	printf("seeds from %" PRIu64 " on, %" PRIu64 " steps each\n", first_seed, options->steps);
	for (uint64_t i = 0; i < options->seeds && !enough(tally); i++) {
		struct work work = {
			.seed = first_seed + i,
			.steps = options->steps,
			.replicas = options->replicas,
		};

		run_in_child(tally, &work);
	}
	while (tally->jobs > 0)
		wait_for_one(tally);
	printf("%" PRIu64 " runs passed, %" PRIu64 " failed\n", tally->passed, tally->failed);
	return tally->failed > 0 ? 1 : 0;
}

/* ------------------------------------------------------------------------- options */

static uint64_t number(const char *option, const char *text, uint64_t low, uint64_t high)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
		fprintf(stderr, "sim: --%s: '%s' is not a number from %" PRIu64 " to %" PRIu64 "\n",
			option, text, low, high);
		exit(2);
	}
	return value;
}

static void parse(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
		{"seed", required_argument, NULL, 's'},
		{"seeds", required_argument, NULL, 'c'},
		{"minutes", required_argument, NULL, 'm'},
		{"steps", required_argument, NULL, 'n'},
		{"replicas", required_argument, NULL, 'r'},
		{"schedule", required_argument, NULL, 'b'},
		{"file", required_argument, NULL, 'f'},
		{"jobs", required_argument, NULL, 'j'},
		{"keep-going", no_argument, NULL, 'k'},
		{"verbose", no_argument, NULL, 'v'},
		{"trace", no_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option, index = 0;

	while ((option = getopt_long(argc, argv, "", names, &index)) != -1) {
		const char *name = names[index].name;

		switch (option) {
		case 's':
			options->seed = number(name, optarg, 0, UINT64_MAX);
			options->has_seed = true;
			break;
		case 'c':
			options->seeds = number(name, optarg, 1, UINT64_MAX);
			break;
		case 'm':
			options->seconds = 60 * number(name, optarg, 1, 100000);
			options->seeds = UINT64_MAX;
			break;
		case 'n':
			options->steps = number(name, optarg, 1, UINT64_MAX);
			break;
		case 'r':
			options->replicas = (unsigned)number(name, optarg, 1, MU_MAX_REPLICAS);
			break;
		case 'b':
			options->schedule = optarg;
			break;
		case 'f':
			options->file = optarg;
			break;
		case 'j':
			options->jobs = (unsigned)number(name, optarg, 1, MAX_JOBS);
			break;
		case 'k':
			options->keep_going = true;
			break;
		case 'v':
			options->verbose = true;
			break;
		case 't':
			options->trace = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind < argc) {
		usage(stderr);
		exit(2);
	}
}

static bool known_schedule(const char *name)
{
	for (unsigned i = 0; plan_schedule_name(i) != NULL; i++)
		if (strcmp(plan_schedule_name(i), name) == 0)
			return true;
	return false;
}

static uint64_t fresh_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
	return seed >> 24; /* short enough to be copied by hand */
}

/* What `make check` runs. */
static void take_defaults(struct options *options, char *path, size_t path_bytes)
{
	const char *srcdir = getenv("srcdir");

	/* The same ones each time: a change is judged by itself, and fresh ones are for soaking. */
	options->has_seed = true;
	options->seed = 1;
	options->seeds = DEFAULT_SEEDS;
	options->seconds = DEFAULT_SECONDS;
	snprintf(path, path_bytes, "%s/tests/sim/seeds.txt", srcdir != NULL ? srcdir : ".");
	if (access(path, R_OK) == 0)
		options->file = path;
}

int main(int argc, char **argv)
{
	struct options options = {.steps = DEFAULT_STEPS, .jobs = 2};
	struct tally tally = {.program = argv[0], .options = &options};
	char path[4096];

	parse(argc, argv, &options);
	if (options.schedule != NULL && !known_schedule(options.schedule)) {
		fprintf(stderr, "sim: there is no schedule '%s'\n", options.schedule);
		return 2;
	}
	if (argc == 1)
		take_defaults(&options, path, sizeof(path));
	if (options.has_seed && options.seeds == 0 && options.file == NULL) {
		struct work work = {options.seed, options.steps, options.replicas};

		options.verbose = true;
		run_one(&tally, &work);
		return 0;
	}
	if (options.seeds == 0 && options.file == NULL)
		options.seeds = DEFAULT_SEEDS;
	return run_many(&tally, options.has_seed ? options.seed : fresh_seed());
}
