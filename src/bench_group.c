/* bench_group.c - see the header. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_group.h"
#include "clock.h"

#define LEAD_TIMEOUT_NS 15000000000u
/* So that it can be mapped by itself, also where pages are huge. */
#define FLOOR_ALIGN (2u << 20)
#define REST_MIN_NS 20000u
#define REST_MAX_NS 1000000u

static void rest(uint64_t ns)
{
	struct timespec pause = clock_timespec(ns);

	nanosleep(&pause, NULL);
}

bool bench_is_over(const struct bench_replica *replica)
{
	return atomic_load_explicit(replica->quit, memory_order_relaxed);
}

/* ----------------------------------------------------------- one replica */

static void format(void *ctx, void *regions[MU_REGIONS])
{
	uint64_t incarnation = 0;

	while (incarnation == 0)
		if (getrandom(&incarnation, sizeof(incarnation), 0) < 0)
			incarnation = clock_ns();
	mu_format(ctx, incarnation, regions);
}

static void configure(struct bench_replica *replica, const struct bench_group *group, unsigned id)
{
	const struct bench_options *options = group->options;

	mu_config_init(&replica->config);
	replica->config.id = id;
	replica->config.group_id = 1;
	replica->config.member_mask = ((1u << options->replicas) - 1) << 1;
	replica->config.ring_bytes = options->ring_bytes;
	replica->config.max_proposal_bytes = options->ring_bytes / 8;
	if (replica->config.max_entry_bytes > options->ring_bytes / 16)
		replica->config.max_entry_bytes = (uint32_t)(options->ring_bytes / 16);
	replica->quit = group->quit;
}

static bool open_replica(struct bench_replica *replica, const struct bench_group *group)
{
	struct mu_fabric_config fabric = {
		.group_id = replica->config.group_id,
		.id = replica->config.id,
		.member_mask = replica->config.member_mask,
		.op_timeout_ns = 10 * replica->config.tick_ns,
		.format = format,
		.format_ctx = &replica->config,
	};
	char err[256] = "";
	enum mu_error error;

	for (int i = 0; i < MU_REGIONS; i++)
		fabric.region_bytes[i] = mu_region_bytes(&replica->config, (enum mu_region)i);
	fabric.region_bytes[MU_REGION_REPLICATION] =
		group->floor_offset + group->options->ring_bytes;
	if (group->options->fabric->open(&replica->fabric, &fabric, group->directory, err,
					 sizeof(err)) != 0) {
		fprintf(stderr, "mubench: replica %u: %s\n", replica->config.id, err);
		return false;
	}
	error = mu_open(&replica->mu, &replica->config, replica->fabric);
	if (error == MU_OK)
		return true;
	fprintf(stderr, "mubench: replica %u: %s\n", replica->config.id, mu_strerror(error));
	replica->fabric->ops->close(replica->fabric);
	return false;
}

/* As in the proxy: heartbeats are to be on time however busy the machine is, if allowed. */
static void ask_for_realtime(void)
{
	const struct sched_param param = {.sched_priority = 1};

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
}

static void *run_background(void *arg)
{
	struct bench_replica *replica = arg;

	ask_for_realtime();
	while (!bench_is_over(replica)) {
		uint64_t now_ns = clock_ns();
		uint64_t next_ns = mu_background_step(replica->mu, now_ns);

		/* The data thread polls anyway; asking is what clears the wish. */
		mu_data_wanted(replica->mu);
		rest(next_ns < now_ns + REST_MIN_NS ? REST_MIN_NS : next_ns - now_ns);
	}
	return NULL;
}

/*
 * The state is empty, and level with an empty log. Only replica 1 says so: the
 * others are not eligible then, and nobody deposes it on a machine so busy that
 * heartbeats are late. Failing over is not what is measured here.
 */
static bool begin(struct bench_replica *replica)
{
	mu_set_backend(replica->mu,
		       replica->config.id == BENCH_LEADER ? MU_BACKEND_LEVEL : MU_BACKEND_DOWN);
	bench_apply(replica);
	if (pthread_create(&replica->background, NULL, run_background, replica) == 0)
		return true;
	fprintf(stderr, "mubench: replica %u: no thread\n", replica->config.id);
	mu_close(replica->mu);
	replica->fabric->ops->close(replica->fabric);
	return false;
}

static void end(struct bench_replica *replica)
{
	pthread_join(replica->background, NULL);
	mu_close(replica->mu);
	replica->fabric->ops->close(replica->fabric);
}

unsigned bench_apply(struct bench_replica *replica)
{
	struct mu_entry entry;
	struct mu_view view;
	unsigned applied = 0;

	if (mu_stale(replica->mu)) {
		/* Left behind and written anew. Here is no state to transfer: go on from now. */
		mu_view(replica->mu, &view);
		mu_seek(replica->mu, view.commit_lsn);
	}
	replica->placed = replica->placed || mu_seek(replica->mu, 0) == MU_OK;
	for (; mu_next(replica->mu, &entry); applied++)
		mu_applied(replica->mu, entry.lsn);
	return applied;
}

/* Rests ever longer while there is nothing to do: cores are few. */
static void follow(struct bench_replica *replica)
{
	uint64_t rest_ns = REST_MIN_NS;

	while (!bench_is_over(replica)) {
		mu_step(replica->mu, clock_ns());
		if (bench_apply(replica) > 0)
			rest_ns = REST_MIN_NS;
		rest(rest_ns);
		rest_ns = rest_ns * 2 < REST_MAX_NS ? rest_ns * 2 : REST_MAX_NS;
	}
}

static int run_follower(const struct bench_group *group, unsigned id)
{
	struct bench_replica replica = {0};

	configure(&replica, group, id);
	if (!open_replica(&replica, group) || !begin(&replica))
		return 1;
	follow(&replica);
	end(&replica);
	return 0;
}

/* -------------------------------------------------------------- the group */

static bool start_follower(struct bench_group *group, unsigned id)
{
	pid_t parent = getpid();

	group->process[id] = fork();
	if (group->process[id] < 0) {
		fprintf(stderr, "mubench: fork: %s\n", strerror(errno));
		return false;
	}
	if (group->process[id] == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(getppid() == parent ? run_follower(group, id) : 1);
	}
	return true;
}

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
	for (unsigned id = 2; id <= group->options->replicas; id++)
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
	for (unsigned id = 1; id <= group->options->replicas; id++)
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
	for (unsigned id = 1; id <= group->options->replicas; id++) {
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
		if (bench_is_over(leader))
			return false;
		rest(REST_MIN_NS);
	}
	explain_who_leads(group);
	return false;
}

static bool make_directory(struct bench_group *group)
{
	int length = snprintf(group->directory, sizeof(group->directory), "%s/mubench-XXXXXX",
			      group->options->directory);

	if (length < (int)sizeof(group->directory) && mkdtemp(group->directory) != NULL)
		return true;
	fprintf(stderr, "mubench: --dir %s: %s\n", group->options->directory,
		length < (int)sizeof(group->directory) ? strerror(errno) : "is too long");
	return false;
}

static void delete_directory(const struct bench_group *group)
{
	DIR *list = opendir(group->directory);
	struct dirent *entry;

	if (list == NULL)
		return;
	while ((entry = readdir(list)) != NULL)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(list), entry->d_name, 0);
	closedir(list);
	rmdir(group->directory);
}

static void end_followers(struct bench_group *group)
{
	atomic_store(group->quit, true);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (group->process[id] > 0)
			waitpid(group->process[id], NULL, 0);
	delete_directory(group);
	munmap(group->quit, sizeof(*group->quit));
}

/* Of this process, and of those that it forks. */
static atomic_bool *quit_at_signal;

static void on_signal(int number)
{
	(void)number;
	atomic_store(quit_at_signal, true);
}

bool bench_group_start(struct bench_group *group, const struct bench_options *options)
{
	struct bench_replica *leader = &group->leader;
	bool started = true;

	*group = (struct bench_group){.options = options};
	group->quit = mmap(NULL, sizeof(*group->quit), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (group->quit == MAP_FAILED || !make_directory(group))
		return false;
	quit_at_signal = group->quit;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	configure(leader, group, BENCH_LEADER);
	group->floor_offset =
		(mu_region_bytes(&leader->config, MU_REGION_REPLICATION) + FLOOR_ALIGN - 1) &
		~(uint64_t)(FLOOR_ALIGN - 1);
	for (unsigned id = 2; id <= options->replicas && started; id++)
		started = start_follower(group, id);
	if (!started || !open_replica(leader, group) || !begin(leader)) {
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
	atomic_store(group->quit, true);
	end(&group->leader);
	end_followers(group);
}
