/* options.h - what the simulator was asked to do. */
#ifndef SIM_OPTIONS_H
#define SIM_OPTIONS_H

#include "recipe.h"

struct options {
	const char *program;
	struct recipe recipe; /* of every run, but for its seed */
	bool has_seed;
	uint64_t seeds;
	const char *file;
	bool trace;
	bool verbose;
	bool keep_going;
	bool staged; /* seeds take the schedules in turn that none takes by itself */
	bool shrink;
	bool check_mutants;
	unsigned jobs;
	uint64_t seconds; /* 0: no limit */
};

/* many.c: run many seeds. Returns the exit status. */
int run_many(const struct options *options);
/* shrink.c: find a simpler run that fails likewise, and trace it. Returns the exit status. */
int run_shrunk(const struct options *options);
#ifdef MU_MUTANTS
/* mutants.c: break the core in every way of consensus/mutant.h, and catch each. */
int run_mutants(const struct options *options);
#endif

#endif
