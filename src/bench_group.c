/* bench_group.c - see the header. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "bench_group.h"
#include "clock.h"

#define LEAD_TIMEOUT_NS 15000000000u
#define REST_MIN_NS 20000u
#define REST_MAX_NS 1000000u
#define REST_SHARE 64u /* of the ring: after more than that rests are short */

/* ----------------------------------------------------------- one replica */

/*
 * The state is empty, and level with an empty log. Only replica 1 says so: the
 * others are not eligible then, and nobody deposes it on a machine so busy that
 * heartbeats are late. Failing over is not what is measured here.
 */
static bool begin(struct bench_replica *replica, const struct bench_run *run, unsigned id)
{
	if (!bench_replica_open(replica, run, id, bench_extra_bytes(run->options)))
		return false;
	mu_set_backend(replica->mu, id == BENCH_LEADER ? MU_BACKEND_LEVEL : MU_BACKEND_DOWN);
	bench_apply(replica);
	if (bench_replica_start(replica))
		return true;
	bench_replica_close(replica);
	return false;
}

static void end(struct bench_replica *replica)
{
	bench_replica_stop(replica);
	bench_replica_close(replica);
}

void bench_apply(struct bench_replica *replica)
{
	struct mu_entry entry;
	struct mu_view view;

	if (mu_stale(replica->mu)) {
		/* Left behind and written anew. Here is no state to transfer: go on from now. */
		mu_view(replica->mu, &view);
		mu_seek(replica->mu, view.era, view.commit_lsn);
	}
	replica->placed = replica->placed || mu_seek(replica->mu, 0, 0) == MU_OK;
	while (mu_next(replica->mu, &entry))
		mu_applied(replica->mu, entry.lsn);
}

/*
 * Rests ever longer while there is little to do, as a muproxy that follows does:
 * cores are few. The ring must not be full before it wakes.
 */
static void follow(struct bench_replica *replica)
{
	uint64_t rest_ns = REST_MIN_NS, seen_lsn = 0;
	struct mu_view view;

	while (!bench_run_is_over(replica->run)) {
		mu_step(replica->mu, clock_ns());
		bench_apply(replica);
		mu_view(replica->mu, &view);
		if (view.commit_lsn - seen_lsn > replica->config.ring_bytes / REST_SHARE)
			rest_ns = REST_MIN_NS;
		seen_lsn = view.commit_lsn;
		bench_rest(rest_ns);
		rest_ns = rest_ns * 2 < REST_MAX_NS ? rest_ns * 2 : REST_MAX_NS;
	}
}

static int run_follower(void *ctx, unsigned id)
{
	const struct bench_group *group = ctx;
	struct bench_replica replica;

	if (!begin(&replica, &group->run, id))
		return 1;
	follow(&replica);
	end(&replica);
	return 0;
}

/* -------------------------------------------------------------- the group */

/* False, with a word about it, if a follower has ended. */
static bool followers_run(struct bench_group *group)
{
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		if (group->process[id] <= 0 || waitpid(group->process[id], NULL, WNOHANG) == 0)
			continue;
		fprintf(stderr, "mubench: the process of replica %u has ended\n", id);
		group->process[id] = 0;
		return false;
	}
	return true;
}

bool bench_group_is_whole(const struct bench_group *group)
{
	struct mu_group_status status;
	struct mu_view view;

	mu_view(group->leader.mu, &view);
	mu_group_status(group->leader.mu, &status);
	for (unsigned id = 2; id <= group->run.options->replicas; id++)
		if (!status.replica[id].confirmed)
			return false;
	return view.role == MU_ROLE_LEADER;
}

/* Whether every follower has applied what is committed, as far as is known here. */
static bool is_level(const struct bench_group *group)
{
	struct mu_group_status status;
	struct mu_view view;

	mu_view(group->leader.mu, &view);
	mu_group_status(group->leader.mu, &status);
	for (unsigned id = 1; id <= group->run.options->replicas; id++)
		if (status.replica[id].applied_lsn < view.commit_lsn)
			return false;
	return true;
}

static void explain_who_leads(const struct bench_group *group)
{
	struct mu_group_status status;

	mu_group_status(group->leader.mu, &status);
	fprintf(stderr, "mubench: replica 1 does not come to lead all the others (leader: %u)\n",
		status.leader);
	for (unsigned id = 1; id <= group->run.options->replicas; id++) {
		const struct mu_replica_status *replica = &status.replica[id];

		fprintf(stderr, "mubench:   replica %u: %s, %s, %s, backend %s, applied %llu\n", id,
			mu_role_name(replica->role), replica->alive ? "alive" : "not alive",
			replica->confirmed ? "confirmed" : "not confirmed",
			mu_backend_health_name(replica->backend),
			(unsigned long long)replica->applied_lsn);
	}
}

bool bench_group_lead(struct bench_group *group)
{
	struct bench_replica *leader = &group->leader;
	uint64_t since_ns = clock_ns();

	while (clock_ns() - since_ns < LEAD_TIMEOUT_NS && followers_run(group)) {
		mu_step(leader->mu, clock_ns());
		bench_apply(leader);
		if (bench_group_is_whole(group) && is_level(group))
			return true;
		if (bench_run_is_over(&group->run))
			return false;
		bench_rest(REST_MIN_NS);
	}
	explain_who_leads(group);
	return false;
}

static void end_followers(struct bench_group *group)
{
	atomic_store(group->run.quit, true);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (group->process[id] > 0)
			waitpid(group->process[id], NULL, 0);
	bench_run_end(&group->run);
}

bool bench_group_start(struct bench_group *group, const struct bench_options *options)
{
	bool started = true;

	*group = (struct bench_group){0};
	if (!bench_run_begin(&group->run, options))
		return false;
	for (unsigned id = 2; id <= options->replicas && started; id++) {
		group->process[id] = bench_run_fork(run_follower, group, id);
		started = group->process[id] != 0;
	}
	if (!started || !begin(&group->leader, &group->run, BENCH_LEADER)) {
		end_followers(group);
		return false;
	}
	if (bench_group_lead(group))
		return true;
	bench_group_stop(group);
	return false;
}

void bench_group_stop(struct bench_group *group)
{
	atomic_store(group->run.quit, true);
	end(&group->leader);
	end_followers(group);
}
