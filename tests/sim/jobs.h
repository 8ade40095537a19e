/*
 * jobs.h - runs in processes of their own, several at a time, so that a core
 * that crashes or does not return ends nothing but its run.
 */
#ifndef SIM_JOBS_H
#define SIM_JOBS_H

#include <sys/types.h>

#include "run.h"

#define JOBS_MAX 64

struct job {
	pid_t pid;
	struct recipe recipe;
	struct verdict *verdict; /* in memory shared with its process */
};

struct jobs {
	const char *program; /* how this one was called */
	enum run_voice voice;
	bool summaries; /* print a line about every run that passes */
	unsigned limit; /* at the same time */
	unsigned running;
	struct job job[JOBS_MAX];
};

void jobs_init(struct jobs *jobs, const char *program, unsigned limit);
/* The plan of a recipe, with the command that repeats it. False: no such schedule. */
bool jobs_plan(const struct jobs *jobs, const struct recipe *recipe, struct plan *plan);
/* Start a run; fewer than `limit` are running. */
void jobs_start(struct jobs *jobs, const struct recipe *recipe);
/* Wait until one of those running ends. Its verdict is FOUND_NOTHING if it passed. */
void jobs_wait(struct jobs *jobs, struct recipe *recipe, struct verdict *verdict);
/* One run alone. */
struct verdict jobs_try(struct jobs *jobs, const struct recipe *recipe);

const char *finding_name(enum finding finding);

#endif
