/* test_verbs.c - what is to be said of the verbs fabric alone, while nothing fails. */
#include "config.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "verbs_fixture.h"

#define MINE BALLOT(1, 1)

static unsigned count_descriptors(void)
{
	DIR *list = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(list);
	while (readdir(list) != NULL)
		count++;
	closedir(list);
	return count;
}

/* Anonymous memory alone: of files, more is mapped the more of them was touched. */
static long resident_kib(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[128];
	long kib = 0;

	assert_non_null(file);
	while (kib == 0 && fgets(line, sizeof(line), file) != NULL)
		sscanf(line, "RssAnon: %ld kB", &kib);
	fclose(file);
	assert_in_range(kib, 1, 1 << 30);
	return kib;
}

/*
 * From the first time on memory comes in small pages: where a stack happens to lie across 2 MiB
 * that the kernel can give as one, a step deeper into it would count as all that.
 */
struct verbs_holdings verbs_take_stock(void)
{
	struct verbs_holdings now = {0};
	FILE *rdma;

	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	now.descriptors = count_descriptors();
	now.resident_kib = resident_kib();
	rdma = popen("rdma resource", "re"); /* "0: rxe0: pd 4 cq 6 qp 8 cm_id 0 mr 8 ..." */
	assert_non_null(rdma);
	assert_int_equal(fscanf(rdma, "%*s %*s pd %u cq %u qp %u cm_id %*u mr %u", &now.domains,
				&now.queues, &now.pairs, &now.regions),
			 4);
	while (fgetc(rdma) != EOF)
		;
	assert_int_equal(pclose(rdma), 0);
	return now;
}

static bool is_no_more(const struct verbs_holdings *now, const struct verbs_holdings *before)
{
	return now->descriptors <= before->descriptors && now->domains <= before->domains &&
	       now->queues <= before->queues && now->pairs <= before->pairs &&
	       now->regions <= before->regions &&
	       /* A queue pair alone has 30 KiB. */
	       now->resident_kib <= before->resident_kib + 256;
}

/*
 * Queue pairs of an attempt that was given up go a moment later, and peers that
 * are not there are dialled now and then: what has leaked stays.
 */
void verbs_nothing_leaked(struct group *group, const struct verbs_holdings *before)
{
	struct verbs_holdings now = verbs_take_stock();
	uint64_t since_ns = clock_ns();
	char what[256];

	while (!is_no_more(&now, before)) {
		snprintf(what, sizeof(what),
			 "no more than before of: descriptors %u (before: %u), domains %u (%u), "
			 "queues %u (%u), pairs %u (%u), regions %u (%u), resident %ld KiB (%ld)",
			 now.descriptors, before->descriptors, now.domains, before->domains,
			 now.queues, before->queues, now.pairs, before->pairs, now.regions,
			 before->regions, now.resident_kib, before->resident_kib);
		wait_turn(group, since_ns, what);
		now = verbs_take_stock();
	}
}

static void lose_and_regain(const struct link *link, unsigned times)
{
	const struct mu_fabric_ops *ops = link->fabric->ops;
	uint64_t word = 1, seen = 0;

	for (unsigned i = 0; i < times; i++) {
		/* Sometimes in the middle of something, sometimes in the middle of connecting. */
		if (i % 3 == 0)
			ops->post_read(link->fabric, link->plane, link->peer, SLOTS, 0, &seen, 8,
				       i);
		ops->disconnect(link->fabric, link->plane, link->peer);
		if (i % 3 == 0)
			assert_int_not_equal(link_completion(link).status, MU_FABRIC_OK);
		if (i % 5 == 0) {
			ops->connect(link->fabric, link->plane, link->peer);
			ops->disconnect(link->fabric, link->plane, link->peer);
		}
		link_reconnect(link);
		assert_int_equal(link_write(link, SLOTS, 64, &word, 8, 0), MU_FABRIC_OK);
	}
}

/* Both ends at replicas 1 and 2, of both planes. */
static void verbs_who_is_forgotten_leaves_no_queue_pairs(void **state)
{
	struct group *group = group_new();
	struct verbs_holdings before;

	(void)state;
	group->members |= 1U << 4;
	for (unsigned id = 1; id <= 2; id++)
		group_open(group, id);
	link_up(group, 1, DATA, 2);
	before = verbs_take_stock();
	group_open(group, 4);
	for (unsigned id = 1; id <= 2; id++)
		for (int plane = 0; plane < MU_PLANES; plane++) {
			link_up(group, id, (enum mu_plane)plane, 4);
			link_up(group, 4, (enum mu_plane)plane, id);
		}
	group_close(group, 4);
	for (unsigned id = 1; id <= 2; id++) {
		struct mu_fabric *fabric = group->replica[id];

		fabric->ops->forget(fabric, 4);
		for (int plane = 0; plane < MU_PLANES; plane++)
			assert_int_not_equal(fabric->ops->state(fabric, (enum mu_plane)plane, 4),
					     MU_CONNECTION_UP);
	}
	verbs_nothing_leaked(group, &before);
	group_free(group);
}

static void verbs_a_peer_lost_a_thousand_times_leaks_nothing(void **state)
{
	struct group *group = group_new();
	struct verbs_holdings before;
	struct link link;

	(void)state;
	group_open(group, 1);
	group_open(group, 2);
	link = link_up(group, 1, BACKGROUND, 2);
	lose_and_regain(&link, 20);
	before = verbs_take_stock();
	lose_and_regain(&link, 1000);
	verbs_nothing_leaked(group, &before);
	group_free(group);
}

static void verbs_large_reads_leave_nothing_registered(void **state)
{
	struct group *group = group_new();
	uint8_t *in = malloc(LOG_BYTES);
	struct verbs_holdings before;
	struct link link;

	(void)state;
	group_open(group, 1);
	group_open(group, 2);
	link = link_up(group, 1, DATA, 2);
	before = verbs_take_stock();
	for (int i = 0; i < 20; i++)
		assert_int_equal(link_read(&link, LOG, 0, in, 1 << 20), MU_FABRIC_OK);
	/* And if it is cut off in the middle of one. */
	assert_int_equal(
		link.fabric->ops->post_read(link.fabric, DATA, 2, LOG, 0, in, LOG_BYTES, 1), 0);
	link.fabric->ops->disconnect(link.fabric, DATA, 2);
	assert_int_equal(link_completion(&link).status, MU_FABRIC_UNREACHABLE);
	link_reconnect(&link);
	assert_int_equal(verbs_take_stock().regions, before.regions);
	free(in);
	group_free(group);
}

/*
 * Every write that is said to have landed is there, whatever process stood behind the memory.
 * What is left of the last one may cost its successor a connection.
 */
static void verbs_a_target_killed_and_started_anew_is_found_again(void **state)
{
	struct group *group = group_new();
	struct link link;

	(void)state;
	group_open(group, 1);
	for (uint64_t round = 1; round <= 12; round++) {
		pid_t child = group_fork_target(group, MINE);
		uint64_t seen = 0;

		link = link_up(group, 1, DATA, 2);
		if (round > 1) {
			while (link_read(&link, LOG, 64, &seen, 8) != MU_FABRIC_OK)
				link_reconnect(&link);
			assert_int_equal(seen, round - 1);
		}
		while (link_write(&link, LOG, 64, &round, 8, MINE) != MU_FABRIC_OK)
			link_reconnect(&link);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_int_not_equal(link_write(&link, LOG, 64, "notthere", 8, MINE), MU_FABRIC_OK);
		assert_int_equal(link_state(&link), MU_CONNECTION_DOWN);
	}
	group_free(group);
}

static void verbs_a_stopped_target_can_be_read_and_written(void **state)
{
	struct group *group = group_new();
	struct link link;
	pid_t child;
	uint64_t word = 9, seen = 0;

	(void)state;
	child = group_fork_target(group, MINE);
	group_open(group, 1);
	link = link_up(group, 1, DATA, 2);
	while (link_write(&link, LOG, 64, &word, 8, MINE) != MU_FABRIC_OK)
		link_reconnect(&link);
	kill(child, SIGSTOP);
	assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
	word = 10;
	assert_int_equal(link_write(&link, LOG, 64, &word, 8, MINE), MU_FABRIC_OK);
	assert_int_equal(link_read(&link, LOG, 64, &seen, 8), MU_FABRIC_OK);
	assert_int_equal(seen, 10);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	group_free(group);
}

/* Replica 1, which sleeps until something happens on its link to 2. */
struct sleeper {
	struct group *group;
	struct mu_fabric *fabric, *target;
	struct link link;
	struct pollfd wait;
	struct mu_completion completion;
};

static struct sleeper sleeper_new(void)
{
	struct sleeper s = {.group = group_new()};

	s.fabric = group_open(s.group, 1);
	s.target = group_open(s.group, 2);
	s.link = link_up(s.group, 1, DATA, 2);
	s.wait = (struct pollfd){.fd = s.fabric->ops->wait_fd(s.fabric, DATA), .events = POLLIN};
	return s;
}

static int sleeper_poll(struct sleeper *s)
{
	return s->fabric->ops->poll(s->fabric, DATA, &s->completion, 1);
}

/* Nothing is there, and the descriptor does not say that there is. */
static bool sleeper_is_at_rest(struct sleeper *s)
{
	return sleeper_poll(s) == 0 && poll(&s->wait, 1, 0) == 0;
}

static void sleeper_post(struct sleeper *s, uint64_t *seen)
{
	assert_int_equal(s->fabric->ops->post_read(s->fabric, DATA, 2, LOG, 0, seen, 8, 7), 0);
}

static void sleeper_is_woken(struct sleeper *s)
{
	assert_int_equal(poll(&s->wait, 1, (int)(DEADLINE_NS / 1000000)), 1);
}

static void verbs_a_sleeper_is_woken_by_completions(void **state)
{
	struct sleeper s = sleeper_new();
	uint64_t seen = 0;

	(void)state;
	for (int i = 0; i < 200; i++) {
		assert_true(sleeper_is_at_rest(&s));
		sleeper_post(&s, &seen);
		sleeper_is_woken(&s);
		assert_int_equal(sleeper_poll(&s), 1);
		assert_int_equal(s.completion.status, MU_FABRIC_OK);
	}
	group_free(s.group);
}

/*
 * Who spins sees a completion before the event that tells sleepers of it. That
 * must not leave a descriptor behind which says for ever that there is something.
 */
static void verbs_an_event_behind_its_completion_wakes_nobody_for_long(void **state)
{
	struct sleeper s = sleeper_new();
	uint64_t seen = 0;

	(void)state;
	for (int i = 0; i < 200; i++) {
		assert_int_equal(sleeper_poll(&s), 0);
		verbs_delay_events(i % 4);
		sleeper_post(&s, &seen);
		WAIT_UNTIL(s.group, sleeper_poll(&s) == 1);
		WAIT_UNTIL(s.group, sleeper_is_at_rest(&s));
		/* And whoever sleeps now is still woken by the next one. */
		sleeper_post(&s, &seen);
		sleeper_is_woken(&s);
		WAIT_UNTIL(s.group, sleeper_poll(&s) == 1);
		WAIT_UNTIL(s.group, sleeper_is_at_rest(&s));
	}
	verbs_delay_events(0);
	group_free(s.group);
}

/* What ends a connection comes from no completion queue. */
static void verbs_a_sleeper_is_woken_by_a_lost_connection(void **state)
{
	struct sleeper s = sleeper_new();

	(void)state;
	for (uint64_t round = 1; round <= 20; round++) {
		link_grant(&s.link, BALLOT(round, 1));
		link_reconnect(&s.link);
		WAIT_UNTIL(s.group, sleeper_is_at_rest(&s));
		assert_int_equal(s.target->ops->revoke_write(s.target), 0);
		sleeper_is_woken(&s);
		WAIT_UNTIL(s.group,
			   sleeper_poll(&s) == 0 && link_state(&s.link) == MU_CONNECTION_DOWN);
	}
	group_free(s.group);
}

/* Without the capability that lets root register what it likes. */
static int open_with_little(struct group *group, size_t lockable_bytes)
{
	struct mu_fabric_config config = group_config(group, 1);
	const struct rlimit little = {lockable_bytes, lockable_bytes};
	struct mu_fabric *fabric;
	char err[256] = "";

	if (setrlimit(RLIMIT_MEMLOCK, &little) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
		return 3;
	if (fabric_under_test->open(group->place, &config, &fabric, err, sizeof(err)) == 0)
		return 4;
	fprintf(stderr, "%s\n", err);
	return strstr(err, "RLIMIT_MEMLOCK") && strstr(err, "ulimit -l") ? 0 : 5;
}

static void verbs_too_little_lockable_memory_is_told_with_the_remedy(void **state)
{
	struct group *group = group_new();
	const struct verbs_place *place = group->place;
	/* None of it can be registered; all of the log; not quite all. */
	const size_t lockable_bytes[] = {1 << 16, LOG_BYTES + (1 << 19), LOG_BYTES + (3 << 19)};
	char above[256];

	(void)state;
	/* Whoever it is that opens it. */
	assert_int_equal(chmod(place->directory, 0777), 0);
	snprintf(above, sizeof(above), "%s/..", place->directory);
	assert_int_equal(chmod(above, 0777), 0);
	for (size_t i = 0; i < sizeof(lockable_bytes) / sizeof(lockable_bytes[0]); i++) {
		pid_t child = fork();
		int status;

		if (child == 0)
			_exit(open_with_little(group, lockable_bytes[i]));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
	group_free(group);
}

static void verbs_options_out_of_range_are_refused(void **state)
{
	struct group *group = group_new();
	const struct verbs_place *place = group->place;
	struct mu_fabric_config config = group_config(group, 1);
	struct mu_verbs_options options;
	struct mu_fabric *fabric;
	char err[256];

	(void)state;
	mu_verbs_options_init(&options);
	options.service_level = 16;
	assert_int_not_equal(mu_fabric_verbs_open(&fabric, &config, &options, place->directory,
						  NULL, err, sizeof(err)),
			     0);
	assert_non_null(strstr(err, "service level 16"));
	mu_verbs_options_init(&options);
	options.traffic_class = 256;
	assert_int_not_equal(mu_fabric_verbs_open(&fabric, &config, &options, place->directory,
						  NULL, err, sizeof(err)),
			     0);
	assert_non_null(strstr(err, "traffic class 256"));
	mu_verbs_options_init(&options);
	options.pkey_index = 4097;
	assert_false(mu_verbs_is_usable(&options, err, sizeof(err)));
	assert_non_null(strstr(err, "no P_Key 4097"));
	mu_verbs_options_init(&options);
	options.device = "nosuch0";
	assert_false(mu_verbs_is_usable(&options, err, sizeof(err)));
	assert_non_null(strstr(err, "'nosuch0'"));
	mu_verbs_options_init(&options);
	options.gid_index = 200;
	assert_false(mu_verbs_is_usable(&options, err, sizeof(err)));
	assert_non_null(strstr(err, "GID 200"));
	/* Which means for ever to some devices. */
	mu_verbs_options_init(&options);
	options.transport_retries = 7;
	assert_int_not_equal(mu_fabric_verbs_open(&fabric, &config, &options, place->directory,
						  NULL, err, sizeof(err)),
			     0);
	assert_non_null(strstr(err, "7 transport retries"));
	group_free(group);
}

/* ------------------------------------------------------- what it costs */

enum { TAKINGS = 60 };

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static double median_us(uint64_t *ns)
{
	qsort(ns, TAKINGS, sizeof(*ns), compare);
	return (double)ns[TAKINGS / 2] / 1000;
}

/* No bound is put on it: it is for whoever reads the output. */
static void verbs_passing_the_permission_on_takes(void **state)
{
	struct group *group = group_new();
	uint64_t flags_ns[TAKINGS], barrier_ns[TAKINGS], grant_ns[TAKINGS], write_ns[TAKINGS];
	struct link link[2];
	struct mu_fabric *target;

	(void)state;
	group_open(group, 1);
	group_open(group, 3);
	target = group_open(group, 2);
	link[0] = link_up(group, 1, DATA, 2);
	link[1] = link_up(group, 3, DATA, 2);
	link_grant(&link[1], BALLOT(1, 3));
	for (unsigned i = 0; i < TAKINGS; i++) {
		const struct link *next = &link[i % 2];
		const uint64_t ballot = BALLOT(i + 2, i % 2 ? 3 : 1);
		struct mu_verbs_revocation took;
		uint64_t start_ns;

		/* The next one has been connected for long, as a rule. */
		link_reconnect(next);
		assert_int_equal(target->ops->revoke_write(target), 0);
		took = mu_verbs_last_revocation(target);
		start_ns = clock_ns();
		link_grant(next, ballot);
		grant_ns[i] = clock_ns() - start_ns;
		start_ns = clock_ns();
		assert_int_equal(link_write(next, LOG, 0, "first one", 8, ballot), MU_FABRIC_OK);
		write_ns[i] = clock_ns() - start_ns;
		flags_ns[i] = took.flags_ns;
		barrier_ns[i] = took.barrier_ns;
		/* Whose queue pair was destroyed may not have heard yet. */
		WAIT_UNTIL(group, link_state(&link[(i + 1) % 2]) != MU_CONNECTION_UP);
	}
	printf("# medians of %d: revoke %.1f us, barrier %.1f us, grant %.1f us, first write %.1f "
	       "us\n",
	       TAKINGS, median_us(flags_ns), median_us(barrier_ns), median_us(grant_ns),
	       median_us(write_ns));
	group_free(group);
}

const struct CMUnitTest verbs_tests[] = {
	cmocka_unit_test(verbs_who_is_forgotten_leaves_no_queue_pairs),
	cmocka_unit_test(verbs_a_peer_lost_a_thousand_times_leaks_nothing),
	cmocka_unit_test(verbs_large_reads_leave_nothing_registered),
	cmocka_unit_test(verbs_a_target_killed_and_started_anew_is_found_again),
	cmocka_unit_test(verbs_a_stopped_target_can_be_read_and_written),
	cmocka_unit_test(verbs_a_sleeper_is_woken_by_completions),
	cmocka_unit_test(verbs_an_event_behind_its_completion_wakes_nobody_for_long),
	cmocka_unit_test(verbs_a_sleeper_is_woken_by_a_lost_connection),
	cmocka_unit_test(verbs_too_little_lockable_memory_is_told_with_the_remedy),
	cmocka_unit_test(verbs_options_out_of_range_are_refused),
	cmocka_unit_test(verbs_passing_the_permission_on_takes),
	{0},
};
