/*
 * main.c - the simulator's command line. Each run is made in a process of its
 * own, so that an assertion that fails in the core is reported with the seed
 * that made it fail.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jobs.h"
#include "options.h"
#ifdef MU_MUTANTS
#include "mutant.h"
#endif

#define DEFAULT_STEPS 100000
#define DEFAULT_SEEDS 300

static void list_names(FILE *out, const char *(*name)(unsigned index))
{
	for (unsigned i = 0; name(i) != NULL; i++)
		fprintf(out, " %s", name(i));
	fprintf(out, "\n");
}

static void usage(FILE *out)
{
	fprintf(out,
		"usage: sim [options]\n"
		"Run groups of replicas against simulated faults, each run from one seed.\n"
		"Without options: the seeds of tests/sim/seeds.txt, then the first %d.\n"
		"  --seed N         run this seed, or begin with it\n"
		"  --seeds COUNT    run so many seeds; fresh ones unless --seed is given\n"
		"  --minutes M      run fresh seeds for so long\n"
		"  --seconds S      the same; with --shrink, search for so long\n"
		"  --steps N        events of the fault phases of a run (%d)\n"
		"  --replicas N     3, 5 or 7 instead of what the seed says\n"
		"  --file FILE      run the seeds listed in FILE first\n"
		"  --jobs N         runs at the same time (2)\n"
		"  --staged         seeds take the schedules in turn that none takes by itself\n"
		"  --keep-going     do not stop at the first seed that fails\n"
		"  --verbose        a line about every run\n"
		"  --trace          print all that happens (with --seed)\n"
		"  --shrink         search the shortest run that fails as --seed does\n"
		"  --faults LIST    only these faults happen, as in 3,17,40-45, or none\n",
		DEFAULT_SEEDS, DEFAULT_STEPS);
	fprintf(out,
		"  --schedule NAME  a bias instead of what the seed says:\n                  ");
	list_names(out, plan_schedule_name);
	fprintf(out, "  --spare LIST     do without some of what may go wrong:\n");
	for (unsigned i = 0; spare_name(i) != NULL; i++)
		fprintf(out, "                   %-16s %s\n", spare_name(i), spare_help(i));
#ifdef MU_MUTANTS
	fprintf(out, "  --mutant NAME    break the core in this way\n"
		     "  --list-mutants   all ways to break it, and the rules that these leave out\n"
		     "  --check-mutants  catch them all, or those named by --mutant\n");
#endif
}

_Noreturn static void bad(const char *format, const char *text)
{
	fprintf(stderr, "sim: ");
	fprintf(stderr, format, text);
	fprintf(stderr, "\n");
	exit(2);
}

static uint64_t number(const char *option, const char *text, uint64_t low, uint64_t high)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < low ||
	    value > high) {
		fprintf(stderr, "sim: --%s: '%s' is not a number from %" PRIu64 " to %" PRIu64 "\n",
			option, text, low, high);
		exit(2);
	}
	return value;
}

static uint64_t parse_spared(char *list)
{
	uint64_t mask = 0;

	for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
		unsigned i = 0;

		while (spare_name(i) != NULL && strcmp(spare_name(i), name) != 0)
			i++;
		if (spare_name(i) == NULL)
			bad("--spare: there is no '%s'", name);
		mask |= UINT64_C(1) << i;
	}
	return mask;
}

static const char *parse_schedule(const char *name)
{
	for (unsigned i = 0; plan_schedule_name(i) != NULL; i++)
		if (strcmp(plan_schedule_name(i), name) == 0)
			return name;
	bad("there is no schedule '%s'", name);
}

#ifdef MU_MUTANTS
static unsigned parse_mutant(const char *name)
{
	for (unsigned i = 1; i < MU_MUTANTS_END; i++)
		if (strcmp(mu_mutant_name(i), name) == 0)
			return i;
	bad("there is no mutant '%s'", name);
}

static void list_mutants(void)
{
	for (unsigned i = 1; i < MU_MUTANTS_END; i++)
		printf("%-28s %-6s %s\n", mu_mutant_name(i), mu_mutant_rule(i), mu_mutant_what(i));
}
#endif

enum {
	OPT_SEED = 1,
	OPT_SEEDS,
	OPT_MINUTES,
	OPT_SECONDS,
	OPT_STEPS,
	OPT_REPLICAS,
	OPT_SCHEDULE,
	OPT_FILE,
	OPT_JOBS,
	OPT_KEEP_GOING,
	OPT_STAGED,
	OPT_VERBOSE,
	OPT_TRACE,
	OPT_SHRINK,
	OPT_FAULTS,
	OPT_SPARE,
	OPT_MUTANT,
	OPT_LIST_MUTANTS,
	OPT_CHECK_MUTANTS,
	OPT_HELP,
};

static const struct option names[] = {
	{"seed", required_argument, NULL, OPT_SEED},
	{"seeds", required_argument, NULL, OPT_SEEDS},
	{"minutes", required_argument, NULL, OPT_MINUTES},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{"steps", required_argument, NULL, OPT_STEPS},
	{"replicas", required_argument, NULL, OPT_REPLICAS},
	{"schedule", required_argument, NULL, OPT_SCHEDULE},
	{"file", required_argument, NULL, OPT_FILE},
	{"jobs", required_argument, NULL, OPT_JOBS},
	{"keep-going", no_argument, NULL, OPT_KEEP_GOING},
	{"staged", no_argument, NULL, OPT_STAGED},
	{"verbose", no_argument, NULL, OPT_VERBOSE},
	{"trace", no_argument, NULL, OPT_TRACE},
	{"shrink", no_argument, NULL, OPT_SHRINK},
	{"faults", required_argument, NULL, OPT_FAULTS},
	{"spare", required_argument, NULL, OPT_SPARE},
#ifdef MU_MUTANTS
	{"mutant", required_argument, NULL, OPT_MUTANT},
	{"list-mutants", no_argument, NULL, OPT_LIST_MUTANTS},
	{"check-mutants", no_argument, NULL, OPT_CHECK_MUTANTS},
#endif
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

/* What shapes each run. False: it is another option. */
static bool parse_recipe(int option, const char *name, struct recipe *recipe)
{
	switch (option) {
	case OPT_SEED:
		recipe->seed = number(name, optarg, 0, UINT64_MAX);
		return true;
	case OPT_STEPS:
		recipe->steps = number(name, optarg, 1, UINT64_MAX);
		return true;
	case OPT_REPLICAS:
		recipe->replicas = (unsigned)number(name, optarg, 1, MU_MAX_REPLICAS);
		return true;
	case OPT_SCHEDULE:
		recipe->schedule = parse_schedule(optarg);
		return true;
	case OPT_FAULTS:
		if (!fault_set_parse(&recipe->faults, optarg))
			bad("--faults: '%s' is no list like 3,17,40-45", optarg);
		return true;
	case OPT_SPARE:
		recipe->spared |= parse_spared(optarg);
		return true;
#ifdef MU_MUTANTS
	case OPT_MUTANT:
		recipe->mutant = parse_mutant(optarg);
		return true;
#endif
	default:
		return false;
	}
}

static void parse_option(int option, const char *name, struct options *options)
{
	switch (option) {
	case OPT_SEEDS:
		options->seeds = number(name, optarg, 1, UINT64_MAX);
		break;
	case OPT_MINUTES:
		options->seconds = 60 * number(name, optarg, 1, 100000);
		break;
	case OPT_SECONDS:
		options->seconds = number(name, optarg, 1, 1000000);
		break;
	case OPT_FILE:
		options->file = optarg;
		break;
	case OPT_JOBS:
		options->jobs = (unsigned)number(name, optarg, 1, JOBS_MAX);
		break;
	case OPT_KEEP_GOING:
		options->keep_going = true;
		break;
	case OPT_STAGED:
		options->staged = true;
		break;
	case OPT_VERBOSE:
		options->verbose = true;
		break;
	case OPT_TRACE:
		options->trace = true;
		break;
	case OPT_SHRINK:
		options->shrink = true;
		break;
#ifdef MU_MUTANTS
	case OPT_LIST_MUTANTS:
		list_mutants();
		exit(0);
	case OPT_CHECK_MUTANTS:
		options->check_mutants = true;
		break;
#endif
	case OPT_HELP:
		usage(stdout);
		exit(0);
	default:
		usage(stderr);
		exit(2);
	}
}

static void parse(int argc, char **argv, struct options *options)
{
	int option, index = 0;

	while ((option = getopt_long(argc, argv, "", names, &index)) != -1) {
		const char *name = names[index].name;

		options->has_seed |= option == OPT_SEED;
		if (!parse_recipe(option, name, &options->recipe))
			parse_option(option, name, options);
	}
	if (optind < argc)
		bad("'%s' is no option", argv[optind]);
	if ((options->shrink || options->trace) && !options->has_seed)
		bad("%s wants --seed", options->shrink ? "--shrink" : "--trace");
}

/* What `make check` runs. */
static void take_defaults(struct options *options, char *path, size_t path_bytes)
{
	const char *srcdir = getenv("srcdir");

	/* The same ones each time: a change is judged by itself, and fresh ones are for soaking. */
	options->has_seed = true;
	options->recipe.seed = 1;
	options->seeds = DEFAULT_SEEDS;
	snprintf(path, path_bytes, "%s/tests/sim/seeds.txt", srcdir != NULL ? srcdir : ".");
	if (access(path, R_OK) == 0)
		options->file = path;
}

static int run_single(const struct options *options)
{
	struct verdict verdict;
	struct jobs jobs;

	jobs_init(&jobs, options->program, 1);
	jobs.summaries = true;
	jobs.voice = options->trace ? RUN_TRACES : RUN_SAYS;
	verdict = jobs_try(&jobs, &options->recipe);
	return verdict.finding == FOUND_NOTHING ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct options options = {
		.program = argv[0], .recipe = {.steps = DEFAULT_STEPS}, .jobs = 2};
	char path[4096];

	parse(argc, argv, &options);
	if (argc == 1)
		take_defaults(&options, path, sizeof(path));
#ifdef MU_MUTANTS
	if (options.check_mutants)
		return run_mutants(&options);
#endif
	if (options.shrink)
		return run_shrunk(&options);
	if (options.has_seed && options.seeds == 0 && options.file == NULL && options.seconds == 0)
		return run_single(&options);
	if (options.seeds == 0)
		options.seeds = options.seconds != 0   ? UINT64_MAX
				: options.file != NULL ? 0
						       : DEFAULT_SEEDS;
	return run_many(&options);
}
