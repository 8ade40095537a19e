/*
 * shrink.c - from a run that fails to the shortest one that can be found to
 * fail in the same way: fewer replicas, less that may go wrong, fewer faults,
 * fewer events. Each attempt is a run of its own, from a recipe of its own; it
 * is kept if the same check fails as at first; and, if it is that of progress, where
 * the same was demanded of the group: none after faults have stopped is another
 * fault than none after most memories were lost, which a run that is spared the
 * faults before may well come to.
 *
 * Which of the faults it takes is found by delta debugging (Zeller and
 * Hildebrandt, "Simplifying and isolating failure-inducing input", 2002): leave
 * out ever smaller parts of what is left until nothing more can be left out.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "jobs.h"
#include "options.h"

#define SECONDS_DEFAULT 60

struct shrinking {
	struct jobs jobs;
	struct recipe best;
	struct verdict verdict; /* of the best */
	time_t deadline;
	unsigned attempts;
};

static bool is_over(const struct shrinking *shrinking)
{
	return time(NULL) >= shrinking->deadline;
}

static bool is_alike(const struct verdict *a, const struct verdict *b)
{
	return a->finding == b->finding &&
	       (a->finding != FOUND_NO_PROGRESS || a->demand == b->demand);
}

/* Keep this recipe if it fails likewise. */
static bool attempt(struct shrinking *shrinking, const struct recipe *recipe)
{
	struct verdict verdict;

	if (is_over(shrinking))
		return false;
	shrinking->attempts++;
	verdict = jobs_try(&shrinking->jobs, recipe);
	if (!is_alike(&verdict, &shrinking->verdict))
		return false;
	shrinking->best = *recipe;
	shrinking->verdict = verdict;
	return true;
}

static void spare_replicas(struct shrinking *shrinking)
{
	for (unsigned replicas = 3; replicas <= 5; replicas += 2) {
		struct recipe recipe = shrinking->best;

		recipe.replicas = replicas;
		if (attempt(shrinking, &recipe))
			return;
	}
}

static void spare_what_can_be(struct shrinking *shrinking)
{
	for (unsigned i = 0; spare_name(i) != NULL; i++) {
		struct recipe recipe = shrinking->best;

		recipe.spared |= UINT64_C(1) << i;
		if (recipe.spared != shrinking->best.spared)
			attempt(shrinking, &recipe);
	}
}

/* ------------------------------------------------------------------------- faults */

struct numbers {
	unsigned count;
	uint16_t number[FAULT_NUMBER_MAX + 1];
};

static void list(const struct fault_set *set, struct numbers *numbers)
{
	numbers->count = 0;
	for (unsigned number = 0; number <= FAULT_NUMBER_MAX; number++)
		if (fault_set_has(set, number))
			numbers->number[numbers->count++] = (uint16_t)number;
}

/* Try without the faults from index `first` to before `end`. */
static bool attempt_without(struct shrinking *shrinking, const struct numbers *numbers,
			    unsigned first, unsigned end)
{
	struct recipe recipe = shrinking->best;

	fault_set_limit(&recipe.faults);
	for (unsigned i = 0; i < numbers->count; i++)
		if (i < first || i >= end)
			fault_set_put(&recipe.faults, numbers->number[i]);
	return attempt(shrinking, &recipe);
}

/* One pass that leaves out parts of this size; true if any could be left out. */
static bool leave_out_parts(struct shrinking *shrinking, unsigned part)
{
	struct numbers numbers;
	bool any = false;
	unsigned end;

	list(&shrinking->best.faults, &numbers);
	/* From the end: what came last is most often in vain. */
	for (end = numbers.count; end > 0; end = end > part ? end - part : 0) {
		unsigned first = end > part ? end - part : 0;

		if (!attempt_without(shrinking, &numbers, first, end))
			continue;
		any = true;
		list(&shrinking->best.faults, &numbers);
	}
	return any;
}

static void spare_faults(struct shrinking *shrinking)
{
	struct recipe recipe = shrinking->best;
	unsigned part = (FAULT_NUMBER_MAX + 1) / 2;

	if (!recipe.faults.limited) {
		fault_set_limit(&recipe.faults);
		if (attempt(shrinking, &recipe))
			return; /* it takes none at all */
		for (unsigned number = 0; number <= FAULT_NUMBER_MAX; number++)
			fault_set_put(&recipe.faults, number);
		shrinking->best.faults = recipe.faults;
	}
	while (part > 0 && !is_over(shrinking)) {
		unsigned count = fault_set_count(&shrinking->best.faults);

		if (part > (count + 1) / 2)
			part = (count + 1) / 2;
		if (!leave_out_parts(shrinking, part) || part > 1)
			part /= 2;
	}
}

/* ------------------------------------------------------------------------- steps */

static void spare_steps(struct shrinking *shrinking)
{
	uint64_t low = 0;

	while (shrinking->best.steps - low > 1 && !is_over(shrinking)) {
		struct recipe recipe = shrinking->best;

		recipe.steps = low + (shrinking->best.steps - low) / 2;
		if (!attempt(shrinking, &recipe))
			low = recipe.steps;
	}
}

/* --------------------------------------------------------------------- the outcome */

static void say(const struct shrinking *shrinking, const char *when)
{
	char arguments[2048];

	recipe_print(&shrinking->best, arguments, sizeof(arguments));
	printf("%s: %s at event %" PRIu64 ": %s\n  %s %s\n", when,
	       finding_name(shrinking->verdict.finding), shrinking->verdict.events,
	       shrinking->verdict.what, shrinking->jobs.program, arguments);
	fflush(stdout);
}

static void shrink(struct shrinking *shrinking)
{
	uint64_t events;

	do {
		events = shrinking->verdict.events;
		spare_replicas(shrinking);
		spare_what_can_be(shrinking);
		spare_faults(shrinking);
		spare_steps(shrinking);
	} while (shrinking->verdict.events < events && !is_over(shrinking));
}

int run_shrunk(const struct options *options)
{
	struct shrinking shrinking = {.best = options->recipe};

	jobs_init(&shrinking.jobs, options->program, 1);
	shrinking.jobs.voice = RUN_QUIET;
	shrinking.deadline =
		time(NULL) + (time_t)(options->seconds != 0 ? options->seconds : SECONDS_DEFAULT);
	shrinking.verdict = jobs_try(&shrinking.jobs, &shrinking.best);
	if (shrinking.verdict.finding == FOUND_NOTHING) {
		printf("seed %" PRIu64 " does not fail: nothing to shrink\n", options->recipe.seed);
		return 0;
	}
	say(&shrinking, "before");
	shrink(&shrinking);
	say(&shrinking, "shortest found");
	printf("  (%u attempts)\n", shrinking.attempts);
	if (options->trace) {
		shrinking.jobs.voice = RUN_TRACES;
		jobs_try(&shrinking.jobs, &shrinking.best);
	}
	return 1;
}
