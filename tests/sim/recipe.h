/*
 * recipe.h - all that decides how a run goes: a seed, from which the plan is
 * drawn (plan.h), and what the run is spared of it. A failing run is made
 * simpler by sparing it ever more (shrink.c); the command line that repeats a
 * run is its recipe in words.
 */
#ifndef SIM_RECIPE_H
#define SIM_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Faults of a run are numbered; higher numbers than this are as good as this one. */
#define FAULT_NUMBER_MAX 8191

struct fault_set {
	bool limited; /* else all faults happen */
	uint64_t bits[(FAULT_NUMBER_MAX + 1) / 64];
};

struct recipe {
	uint64_t seed;
	uint64_t steps;       /* things that happen in the fault phases, all together */
	unsigned replicas;    /* 0: drawn */
	const char *schedule; /* NULL: drawn */
	uint64_t spared;      /* mask of what spare_name() names */
	struct fault_set faults;
	unsigned mutant; /* of consensus/mutant.h, in a build that has them; 0: none */
};

bool fault_set_has(const struct fault_set *set, uint64_t number);
/* Only those faults happen that are put in from now on. */
void fault_set_limit(struct fault_set *set);
void fault_set_put(struct fault_set *set, uint64_t number);
unsigned fault_set_count(const struct fault_set *set);
/* "3,17,40-45" or "none". False if it is not of that form. */
bool fault_set_parse(struct fault_set *set, const char *text);

struct plan;
/* What can be left out of a plan; NULL behind the last. */
const char *spare_name(unsigned index);
const char *spare_help(unsigned index);
void spare_apply(struct plan *plan, uint64_t mask);

/* The arguments that say this recipe; cut short if they do not fit. */
void recipe_print(const struct recipe *recipe, char *out, size_t bytes);

#endif
