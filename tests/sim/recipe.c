/* recipe.c - see recipe.h. */
#include "recipe.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#ifdef MU_MUTANTS
#include "mutant.h"
#endif

/* ----------------------------------------------------------------------- fault sets */

static uint64_t bounded(uint64_t number)
{
	return number < FAULT_NUMBER_MAX ? number : FAULT_NUMBER_MAX;
}

bool fault_set_has(const struct fault_set *set, uint64_t number)
{
	number = bounded(number);
	return !set->limited || (set->bits[number / 64] >> number % 64 & 1);
}

void fault_set_limit(struct fault_set *set)
{
	*set = (struct fault_set){.limited = true};
}

void fault_set_put(struct fault_set *set, uint64_t number)
{
	number = bounded(number);
	set->bits[number / 64] |= UINT64_C(1) << number % 64;
}

unsigned fault_set_count(const struct fault_set *set)
{
	unsigned count = 0;

	for (size_t i = 0; i < sizeof(set->bits) / sizeof(*set->bits); i++)
		count += (unsigned)__builtin_popcountll(set->bits[i]);
	return count;
}

static bool parse_range(struct fault_set *set, const char **text)
{
	char *end;
	unsigned long first = strtoul(*text, &end, 10), last = first;

	if (end == *text || **text == '-')
		return false;
	if (*end == '-') {
		const char *second = end + 1;

		last = strtoul(second, &end, 10);
		if (end == second)
			return false;
	}
	if (first > last || last > FAULT_NUMBER_MAX)
		return false;
	for (; first <= last; first++)
		fault_set_put(set, first);
	*text = end;
	return true;
}

bool fault_set_parse(struct fault_set *set, const char *text)
{
	fault_set_limit(set);
	if (strcmp(text, "none") == 0)
		return true;
	for (;; text++) {
		if (!parse_range(set, &text))
			return false;
		if (*text != ',')
			return *text == '\0';
	}
}

/* -------------------------------------------------------------------------- sparing */

/* What a plan can do without: a setting of it, and what that then is. */
static const struct {
	const char *name;
	const char *help;
	size_t offset; /* of an unsigned in struct plan */
	unsigned value;
} spares[] = {
#define SPARE(name, help, field, value)                         \
	{                                                       \
		name, help, offsetof(struct plan, field), value \
	}
	SPARE("rounds", "one round of faults only", rounds, 1),
	SPARE("degrading", "no replica stays away, no link stays broken", spare_degrading, 1),
	SPARE("strikes", "no faults provoked by changes of role", strike_permille, 0),
	SPARE("interrupts", "no plane stopped inside a call", interrupt_permille, 0),
	SPARE("tearing", "writes become visible whole", world.tear_permille, 0),
	SPARE("late", "nothing lands after its connection was lost", world.late_permille, 0),
	SPARE("stragglers", "no message takes much longer than others", world.straggler_permille,
	      0),
	SPARE("refusals", "no posting refused", world.refuse_permille, 0),
	SPARE("vain-revocations", "each revocation is certain", world.revoke_fail_permille, 0),
	SPARE("vain-grants", "each grant succeeds", world.grant_fail_permille, 0),
	SPARE("fences", "no fenced reads", fence_permille, 0),
	SPARE("outstanding", "one proposal at a time", outstanding_max, 1),
	SPARE("slow-backend", "no backend far slower than the rest", slow_backend, 0),
#undef SPARE
};
#define SPARES (sizeof(spares) / sizeof(*spares))

const char *spare_name(unsigned index)
{
	return index < SPARES ? spares[index].name : NULL;
}

const char *spare_help(unsigned index)
{
	return index < SPARES ? spares[index].help : NULL;
}

void spare_apply(struct plan *plan, uint64_t mask)
{
	for (unsigned i = 0; i < SPARES; i++)
		if (mask >> i & 1)
			memcpy((char *)plan + spares[i].offset, &spares[i].value,
			       sizeof(spares[i].value));
}

/* ------------------------------------------------------------------------- in words */

struct text {
	char *at;
	size_t left;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text->at, text->left, format, arguments);
	va_end(arguments);
	if ((size_t)length >= text->left)
		length = (int)text->left - 1;
	text->at += length;
	text->left -= (size_t)length;
}

static void put_faults(struct text *text, const struct fault_set *set)
{
	const char *between = " --faults ";

	if (!set->limited)
		return;
	for (unsigned first = 0; first <= FAULT_NUMBER_MAX; first++) {
		unsigned last = first;

		if (!fault_set_has(set, first))
			continue;
		while (last < FAULT_NUMBER_MAX && fault_set_has(set, last + 1))
			last++;
		put(text, last > first ? "%s%u-%u" : "%s%u", between, first, last);
		between = ",";
		first = last;
	}
	if (*between == ' ')
		put(text, " --faults none");
}

void recipe_print(const struct recipe *recipe, char *out, size_t bytes)
{
	struct text text = {out, bytes};
	const char *between = " --spare ";

	put(&text, "--seed %" PRIu64 " --steps %" PRIu64, recipe->seed, recipe->steps);
	if (recipe->replicas != 0)
		put(&text, " --replicas %u", recipe->replicas);
	if (recipe->schedule != NULL)
		put(&text, " --schedule %s", recipe->schedule);
	for (unsigned i = 0; i < SPARES; i++) {
		if (!(recipe->spared >> i & 1))
			continue;
		put(&text, "%s%s", between, spares[i].name);
		between = ",";
	}
	put_faults(&text, &recipe->faults);
#ifdef MU_MUTANTS
	if (recipe->mutant != 0)
		put(&text, " --mutant %s", mu_mutant_name(recipe->mutant));
#endif
}
