/* bench_watch.c - see the header. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "bench_replica.h"
#include "bench_watch.h"
#include "clock.h"

#define PATIENCE_NS 30000000000u
#define LOOK_NS 200000u

static unsigned replicas_of(const struct bench_watch *watch)
{
	return watch->run.options->replicas;
}

static uint64_t all_of(const struct bench_watch *watch)
{
	return ((1ull << replicas_of(watch)) - 1) << 1;
}

/* ------------------------------------------------------------- processes */

bool bench_watch_launch(struct bench_watch *watch, unsigned id)
{
	watch->process[id] = bench_run_fork(bench_member_run, &watch->task, id);
	return watch->process[id] != 0;
}

void bench_watch_kill(struct bench_watch *watch, unsigned id)
{
	if (watch->process[id] <= 0)
		return;
	kill(watch->process[id], SIGKILL);
	waitpid(watch->process[id], NULL, 0);
	watch->process[id] = 0;
}

static int spin(void *ctx, unsigned id)
{
	const struct bench_run *run = ctx;

	(void)id;
	while (!bench_run_is_over(run))
		;
	return 0;
}

static bool launch_all(struct bench_watch *watch)
{
	const struct bench_options *options = watch->run.options;

	watch->busy = calloc(options->busy + 1, sizeof(*watch->busy));
	if (watch->busy == NULL)
		return false;
	for (unsigned i = 0; i < options->busy; i++)
		if ((watch->busy[i] = bench_run_fork(spin, &watch->run, i)) == 0)
			return false;
	for (unsigned id = 1; id <= options->replicas; id++)
		if (!bench_watch_launch(watch, id))
			return false;
	return bench_watch_whole(watch) != 0;
}

bool bench_watch_start(struct bench_watch *watch, const struct bench_options *options)
{
	*watch = (struct bench_watch){0};
	if (!bench_run_begin(&watch->run, options))
		return false;
	watch->board = mmap(NULL, sizeof(*watch->board), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (watch->board == MAP_FAILED) {
		fprintf(stderr, "mubench: %s\n", strerror(errno));
		bench_run_end(&watch->run);
		return false;
	}
	watch->task = (struct bench_member_task){&watch->run, watch->board};
	/* What is waited for here is looked at often, and on time. */
	prctl(PR_SET_TIMERSLACK, 1);
	if (launch_all(watch))
		return true;
	bench_watch_stop(watch);
	return false;
}

void bench_watch_stop(struct bench_watch *watch)
{
	atomic_store(watch->run.quit, true);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (watch->process[id] > 0) {
			kill(watch->process[id], SIGCONT);
			waitpid(watch->process[id], NULL, 0);
		}
	for (unsigned i = 0; watch->busy != NULL && i < watch->run.options->busy; i++)
		if (watch->busy[i] > 0)
			waitpid(watch->busy[i], NULL, 0);
	free(watch->busy);
	munmap(watch->board, sizeof(*watch->board));
	bench_run_end(&watch->run);
}

/* False, with a word about it, if a replica has ended by itself. */
static bool all_run(struct bench_watch *watch)
{
	for (unsigned id = 1; id <= replicas_of(watch); id++) {
		if (watch->process[id] <= 0 || waitpid(watch->process[id], NULL, WNOHANG) == 0)
			continue;
		fprintf(stderr, "mubench: the process of replica %u has ended\n", id);
		watch->process[id] = 0;
		return false;
	}
	return true;
}

/* --------------------------------------------------------------- waiting */

/* What each tells is not older than this call. */
static void ask_all(struct bench_watch *watch)
{
	for (unsigned id = 1; id <= replicas_of(watch); id++)
		atomic_fetch_add(&watch->board->seat[id].question, 1);
}

static unsigned leader_of_all(const struct bench_watch *watch)
{
	unsigned leader = atomic_load(&watch->board->seat[1].leader);

	if (leader == 0 || atomic_load(&watch->board->seat[leader].confirmed) != all_of(watch))
		return 0;
	for (unsigned id = 1; id <= replicas_of(watch); id++) {
		const struct bench_seat *seat = &watch->board->seat[id];
		unsigned role = id == leader ? MU_ROLE_LEADER : MU_ROLE_FOLLOWER;

		if (atomic_load(&seat->answer) != atomic_load(&seat->question) ||
		    atomic_load(&seat->leader) != leader || atomic_load(&seat->role) != role ||
		    atomic_load(&seat->alive) != (all_of(watch) & ~(1ull << id)) ||
		    !atomic_load(&seat->settled))
			return 0;
	}
	return leader;
}

static void explain(const struct bench_watch *watch)
{
	fputs("mubench: the group does not come together\n", stderr);
	for (unsigned id = 1; id <= replicas_of(watch); id++) {
		const struct bench_seat *seat = &watch->board->seat[id];

		fprintf(stderr,
			"mubench:   replica %u%s: %s, sees leader %u, alive 0x%llx, followers "
			"0x%llx, applied %llu\n",
			id,
			atomic_load(&seat->answer) == atomic_load(&seat->question) ? ""
										   : " (silent)",
			mu_role_name((enum mu_role)atomic_load(&seat->role)),
			atomic_load(&seat->leader), (unsigned long long)atomic_load(&seat->alive),
			(unsigned long long)atomic_load(&seat->confirmed),
			(unsigned long long)atomic_load(&seat->applied));
	}
}

unsigned bench_watch_whole(struct bench_watch *watch)
{
	uint64_t since_ns = clock_ns();
	unsigned leader;

	ask_all(watch);
	while (clock_ns() - since_ns < PATIENCE_NS && all_run(watch)) {
		leader = leader_of_all(watch);
		if (leader != 0 || bench_run_is_over(&watch->run))
			return bench_run_is_over(&watch->run) ? 0 : leader;
		bench_rest(LOOK_NS);
	}
	explain(watch);
	return 0;
}

static uint64_t furthest(const struct bench_watch *watch)
{
	uint64_t most = 0;

	for (unsigned id = 1; id <= replicas_of(watch); id++) {
		uint64_t applied = atomic_load(&watch->board->seat[id].applied);

		most = applied > most ? applied : most;
	}
	return most;
}

static bool all_have(const struct bench_watch *watch, uint64_t applied)
{
	for (unsigned id = 1; id <= replicas_of(watch); id++)
		if (atomic_load(&watch->board->seat[id].applied) < applied)
			return false;
	return true;
}

bool bench_watch_audit(struct bench_watch *watch)
{
	uint64_t since_ns = clock_ns(), applied;

	bench_audit_note(&watch->audit, watch->board, replicas_of(watch));
	applied = furthest(watch);
	while (!all_have(watch, applied)) {
		if (clock_ns() - since_ns > PATIENCE_NS || !all_run(watch)) {
			explain(watch);
			return false;
		}
		if (bench_run_is_over(&watch->run))
			return false;
		bench_rest(LOOK_NS);
	}
	bench_audit_compare(&watch->audit, watch->board, replicas_of(watch), applied);
	return true;
}

uint64_t bench_watch_terms(const struct bench_watch *watch)
{
	uint64_t terms = 0;

	for (unsigned id = 1; id <= replicas_of(watch); id++)
		terms += atomic_load(&watch->board->seat[id].terms);
	return terms;
}
