/* jobs.c - see jobs.h. */
#include "jobs.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef MU_MUTANTS
#include "mutant.h"
#endif

#define REPEAT_EVERY 16
#define HUNG_SECONDS 300 /* of real time; only a core that does not return takes so long */

const char *finding_name(enum finding finding)
{
	static const char *const names[FINDINGS] = {
		[FOUND_NOTHING] = "nothing",   [FOUND_DISAGREEMENT] = "disagreement",
		[FOUND_DISORDER] = "disorder", [FOUND_INVENTION] = "invention",
		[FOUND_LOSS] = "loss",         [FOUND_STALE_READ] = "stale read",
		[FOUND_REUSE] = "reuse",       [FOUND_CONTRACT] = "contract",
		[FOUND_MISUSE] = "misuse",     [FOUND_NO_PROGRESS] = "no progress",
		[FOUND_CHANCE] = "chance",     [FOUND_DEATH] = "death",
		[FOUND_HANG] = "hang",
	};

	return names[finding];
}

void jobs_init(struct jobs *jobs, const char *program, unsigned limit)
{
	struct verdict *verdicts = mmap(NULL, JOBS_MAX * sizeof(*verdicts), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (verdicts == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	*jobs = (struct jobs){.program = program, .limit = limit, .voice = RUN_SAYS};
	for (unsigned i = 0; i < JOBS_MAX; i++)
		jobs->job[i].verdict = &verdicts[i];
}

bool jobs_plan(const struct jobs *jobs, const struct recipe *recipe, struct plan *plan)
{
	char arguments[sizeof(plan->repeat) - 200];

	if (!plan_draw(plan, recipe))
		return false;
	recipe_print(recipe, arguments, sizeof(arguments));
	snprintf(plan->repeat, sizeof(plan->repeat), "%.180s %s --trace", jobs->program, arguments);
	return true;
}

/* Every so often a run is made twice: the second time all its memory lies elsewhere. */
static void check_repeat(const struct plan *plan, struct verdict *verdict,
			 const struct run_summary *first)
{
	struct run_summary second;

	run_execute(plan, RUN_QUIET, verdict, &second);
	if (first->digest == second.digest)
		return;
	verdict->finding = FOUND_CHANCE;
	printf("seed %" PRIu64 " FAILED: two runs of it differ: digest %016" PRIx64
	       " and %016" PRIx64 "\n",
	       plan->recipe.seed, first->digest, second.digest);
	exit(1);
}

static void summarize(const struct plan *plan, const struct run_summary *summary)
{
	printf("seed %" PRIu64 ": %s, %u replicas: %" PRIu64 " events, %" PRIu64 " ms; %" PRIu64
	       " entries, %" PRIu64 " acknowledged, %" PRIu64 " elections, %" PRIu64
	       " fences, %" PRIu64 " deaths, %" PRIu64 " memories lost, %" PRIu64
	       " transfers, %" PRIu64 " written off, %" PRIu64 " eras; digest %016" PRIx64 "\n",
	       plan->recipe.seed, plan->schedule, plan->replicas, summary->events,
	       summary->virtual_ns / 1000000, summary->entries, summary->acknowledged,
	       summary->elections, summary->fences, summary->crashes, summary->losses,
	       summary->transfers, summary->written_off, summary->eras, summary->digest);
}

static void run_one(const struct jobs *jobs, const struct recipe *recipe, struct verdict *verdict)
{
	struct run_summary summary;
	struct plan plan;

	if (!jobs_plan(jobs, recipe, &plan))
		abort();
#ifdef MU_MUTANTS
	mu_mutant = recipe->mutant;
#endif
	run_execute(&plan, jobs->voice, verdict, &summary);
	if (recipe->seed % REPEAT_EVERY == 0 && jobs->voice != RUN_TRACES)
		check_repeat(&plan, verdict, &summary);
	if (jobs->summaries)
		summarize(&plan, &summary);
	fflush(stdout);
}

void jobs_start(struct jobs *jobs, const struct recipe *recipe)
{
	struct job *job = &jobs->job[jobs->running];

	assert(jobs->running < jobs->limit);
	fflush(stdout);
	*job->verdict = (struct verdict){.finding = FOUND_NOTHING};
	job->recipe = *recipe;
	job->pid = fork();
	if (job->pid < 0) {
		perror("fork");
		exit(2);
	}
	if (job->pid == 0) {
		alarm(HUNG_SECONDS);
		/* What an assertion says belongs to the run. */
		if (jobs->voice == RUN_QUIET && freopen("/dev/null", "w", stderr) == NULL)
			abort();
		run_one(jobs, recipe, job->verdict);
		exit(0);
	}
	jobs->running++;
}

/* The process ended without a word. */
static void judge_death(const struct jobs *jobs, struct job *job, int status)
{
	struct verdict *verdict = job->verdict;
	struct plan plan;

	if (!jobs_plan(jobs, &job->recipe, &plan))
		abort();
	verdict->finding = FOUND_DEATH;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		verdict->finding = FOUND_HANG;
	snprintf(verdict->what, sizeof(verdict->what), "%s, %s %d",
		 verdict->finding == FOUND_HANG ? "hung" : "died",
		 WIFSIGNALED(status) ? "signal" : "exit status",
		 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	if (jobs->voice != RUN_QUIET)
		printf("seed %" PRIu64 " FAILED (%u replicas, schedule %s): %s\n"
		       "  repeat with: %s\n",
		       job->recipe.seed, plan.replicas, plan.schedule, verdict->what, plan.repeat);
}

void jobs_wait(struct jobs *jobs, struct recipe *recipe, struct verdict *verdict)
{
	unsigned i = 0;
	struct job *job, last;
	int status;
	pid_t pid;

	assert(jobs->running > 0);
	do
		pid = waitpid(-1, &status, 0);
	while (pid < 0 && errno == EINTR);
	while (i < jobs->running && jobs->job[i].pid != pid)
		i++;
	assert(i < jobs->running);
	job = &jobs->job[i];
	if (status != 0 && job->verdict->finding == FOUND_NOTHING)
		judge_death(jobs, job, status);
	*recipe = job->recipe;
	*verdict = *job->verdict;
	/* The last one takes its place; the place's shared memory goes to the end. */
	last = jobs->job[--jobs->running];
	jobs->job[jobs->running].verdict = job->verdict;
	*job = last;
}

struct verdict jobs_try(struct jobs *jobs, const struct recipe *recipe)
{
	struct recipe done;
	struct verdict verdict;

	assert(jobs->running == 0);
	jobs_start(jobs, recipe);
	jobs_wait(jobs, &done, &verdict);
	return verdict;
}
