/*
 * many.c - run many seeds, several at once: those of a file first, then
 * consecutive ones. Each seed that fails is shrunk, when that is wished for.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "jobs.h"
#include "options.h"

#define PROGRESS_SECONDS 10
#define FILE_SEEDS_MAX 1024

struct tally {
	const struct options *options;
	struct jobs jobs;
	uint64_t passed;
	uint64_t failed;
	time_t began;
	time_t deadline; /* 0: none */
	time_t next_progress;
};

static uint64_t fresh_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
	return seed >> 24; /* short enough to be copied by hand */
}

static void take_one(struct tally *tally)
{
	struct recipe recipe;
	struct verdict verdict;

	jobs_wait(&tally->jobs, &recipe, &verdict);
	if (verdict.finding == FOUND_NOTHING)
		tally->passed++;
	else
		tally->failed++;
}

static bool enough(const struct tally *tally)
{
	if (tally->failed > 0 && !tally->options->keep_going)
		return true;
	return tally->deadline != 0 && time(NULL) >= tally->deadline;
}

/* Runs of minutes say that they are alive; those of `make check` need not. */
static void tell_progress(struct tally *tally)
{
	time_t now = time(NULL);

	if (now < tally->next_progress)
		return;
	if (tally->next_progress != 0)
		printf("%4jd s: %" PRIu64 " runs passed, %" PRIu64 " failed\n",
		       (intmax_t)(now - tally->began), tally->passed, tally->failed);
	tally->next_progress = now + PROGRESS_SECONDS;
}

static void start(struct tally *tally, const struct recipe *recipe)
{
	while (tally->jobs.running >= tally->jobs.limit)
		take_one(tally);
	if (enough(tally))
		return;
	tell_progress(tally);
	jobs_start(&tally->jobs, recipe);
}

/*
 * Lines of "seed [steps [replicas]]"; # begins a comment. All is read before
 * the first run: a child that exits takes the position of an open file, which
 * it shares with us, back to where it was when it was forked.
 */
static unsigned read_file(const struct options *options, const char *path,
			  struct recipe recipes[FILE_SEEDS_MAX])
{
	FILE *file = fopen(path, "r");
	unsigned count = 0;
	char line[256];

	if (file == NULL) {
		perror(path);
		exit(2);
	}
	while (fgets(line, sizeof(line), file) != NULL) {
		struct recipe recipe = options->recipe;

		if (sscanf(line, "%" SCNu64 " %" SCNu64 " %u", &recipe.seed, &recipe.steps,
			   &recipe.replicas) < 1)
			continue;
		if (count == FILE_SEEDS_MAX) {
			fprintf(stderr, "%s: more than %d seeds\n", path, FILE_SEEDS_MAX);
			exit(2);
		}
		recipes[count++] = recipe;
	}
	fclose(file);
	return count;
}

static void run_file(struct tally *tally, const char *path)
{
	static struct recipe recipes[FILE_SEEDS_MAX];
	unsigned count = read_file(tally->options, path, recipes);

	for (unsigned i = 0; i < count && !enough(tally); i++)
		start(tally, &recipes[i]);
	printf("%s: %u seeds\n", path, count);
}

int run_many(const struct options *options)
{
	struct tally tally = {.options = options, .began = time(NULL)};
	struct recipe recipe = options->recipe;

	jobs_init(&tally.jobs, options->program, options->jobs);
	tally.jobs.summaries = options->verbose;
	if (options->seconds != 0)
		tally.deadline = tally.began + (time_t)options->seconds;
	if (options->file != NULL)
		run_file(&tally, options->file);
	if (!options->has_seed)
		recipe.seed = fresh_seed();
	printf("%s seeds from %" PRIu64 " on, %" PRIu64 " steps each\n",
	       options->has_seed ? "fixed" : "fresh", recipe.seed, recipe.steps);
	for (uint64_t i = 0; i < options->seeds && !enough(&tally); i++, recipe.seed++) {
		if (options->staged)
			recipe.schedule = plan_staged_name(i);
		start(&tally, &recipe);
	}
	while (tally.jobs.running > 0)
		take_one(&tally);
	printf("%" PRIu64 " runs passed, %" PRIu64 " failed, in %jd s\n", tally.passed,
	       tally.failed, (intmax_t)(time(NULL) - tally.began));
	return tally.failed > 0 ? 1 : 0;
}
