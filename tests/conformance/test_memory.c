/* test_memory.c - F9: what a replica finds when it is opened, and what it refuses. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

#define MINE BALLOT(3, 1)
#define HUGE_KIB 2048

static void f9_fresh_memory_is_formatted_once(void **state)
{
	struct group *group = group_new();
	struct mu_fabric *fabric = group_open(group, 1);

	(void)state;
	assert_int_equal(group->formats[1], 1);
	assert_memory_equal(fabric->ops->local(fabric, MU_REGION_PRIVATE), "formatted", 9);
	for (int region = 0; region < MU_REGIONS; region++)
		assert_int_equal((uintptr_t)fabric->ops->local(fabric, (enum mu_region)region) % 64,
				 0);
	group_free(group);
}

/* A group in which replica 1 has written into replica 2's log, and 2 has closed. */
static struct group *group_with_closed_target(void)
{
	struct group *group = group_new();
	struct mu_fabric *target = group_open(group, 2);
	struct link link;

	group_open(group, 1);
	link = link_up(group, 1, DATA, 2);
	link_grant(&link, MINE);
	assert_int_equal(link_write(&link, LOG, 1000, "remembered", 10, MINE), MU_FABRIC_OK);
	link = link_up(group, 1, BACKGROUND, 2);
	assert_int_equal(link_write(&link, SLOTS, 64, "slot", 4, 0), MU_FABRIC_OK);
	memcpy(target->ops->local(target, MU_REGION_PRIVATE), "private", 7);
	group_close(group, 2);
	return group;
}

static void f9_memory_and_permission_outlive_the_process(void **state)
{
	struct group *group;
	struct mu_fabric *target;
	struct link link;
	const char *memory;

	(void)state;
	if (fabric_under_test->lose_memory == NULL)
		skip();
	group = group_with_closed_target();
	target = group_open(group, 2);
	memory = target->ops->local(target, LOG);
	assert_int_equal(group->formats[2], 1);
	assert_memory_equal(memory + 1000, "remembered", 10);
	assert_memory_equal((char *)target->ops->local(target, SLOTS) + 64, "slot", 4);
	assert_memory_equal(target->ops->local(target, MU_REGION_PRIVATE), "private", 7);
	link = link_up(group, 1, DATA, 2);
	/* A connection of the time before may say that it is no more; then it is renewed. */
	if (link_write(&link, LOG, 1000, "REMEMBERED", 10, MINE) != MU_FABRIC_OK) {
		link_reconnect(&link);
		assert_int_equal(link_write(&link, LOG, 1000, "REMEMBERED", 10, MINE),
				 MU_FABRIC_OK);
	}
	assert_memory_equal(memory + 1000, "REMEMBERED", 10);
	assert_int_equal(target->ops->revoke_write(target), 0);
	assert_int_not_equal(link_write(&link, LOG, 1000, "forbidden.", 10, MINE), MU_FABRIC_OK);
	assert_memory_equal(memory + 1000, "REMEMBERED", 10);
	group_free(group);
}

static void f9_lost_memory_is_formatted_and_nobody_may_write_it(void **state)
{
	static const uint8_t zeros[64];
	struct group *group = group_with_closed_target();
	struct mu_fabric *target;
	struct link link = {group, group->replica[1], DATA, 2};
	const uint8_t *memory;
	uint8_t in[64];

	(void)state;
	if (fabric_under_test->lose_memory != NULL)
		fabric_under_test->lose_memory(group->place, 2);
	target = group_open(group, 2);
	memory = target->ops->local(target, LOG);
	assert_int_equal(group->formats[2], 2);
	/* Who was connected to the old memory may learn of it late, but never writes to it OK. */
	if (link_state(&link) == MU_CONNECTION_UP)
		assert_int_not_equal(link_write(&link, LOG, 1000, "too late", 8, MINE),
				     MU_FABRIC_OK);
	link_reconnect(&link);
	assert_int_not_equal(link_write(&link, LOG, 1000, "too late", 8, MINE), MU_FABRIC_OK);
	for (size_t i = 0; i < LOG_BYTES; i += sizeof(zeros))
		assert_memory_equal(memory + i, zeros, sizeof(zeros));
	/* A reader is not shown the old memory either. */
	link_reconnect(&link);
	assert_int_equal(link_read(&link, LOG, 1000 / 64 * 64, in, 64), MU_FABRIC_OK);
	assert_memory_equal(in, zeros, 64);
	group_free(group);
}

static void f9_an_idle_plane_hears_of_lost_memory_too(void **state)
{
	struct group *group = group_with_closed_target();
	struct link link = {group, group->replica[1], BACKGROUND, 2};
	uint64_t word = 0;

	(void)state;
	if (fabric_under_test->lose_memory != NULL)
		fabric_under_test->lose_memory(group->place, 2);
	group_open(group, 2);
	if (link_state(&link) == MU_CONNECTION_UP)
		assert_int_equal(link_read(&link, SLOTS, 64, &word, 8), MU_FABRIC_UNREACHABLE);
	link_reconnect(&link);
	assert_int_equal(link_read(&link, SLOTS, 64, &word, 8), MU_FABRIC_OK);
	assert_int_equal(word, 0);
	group_free(group);
}

/* ------------------------------------------------------------------ refusals */

/* Opening must fail with a reason that names `about`, and must not format. */
static void assert_open_refused(struct group *group, const struct mu_fabric_config *config,
				const char *about)
{
	unsigned formats = group->formats[config->id];
	struct mu_fabric *fabric = NULL;
	char err[256] = "";

	assert_int_not_equal(
		fabric_under_test->open(group->place, config, &fabric, err, sizeof(err)), 0);
	assert_null(fabric);
	if (strstr(err, about) == NULL || strchr(err, '\n') != NULL)
		fail_msg("wanted a line about '%s', got '%s'", about, err);
	assert_int_equal(group->formats[config->id], formats);
}

static void f9_an_id_runs_once(void **state)
{
	struct group *group = group_new();
	struct mu_fabric_config config = group_config(group, 2);
	int status;
	pid_t child;

	(void)state;
	group_open(group, 2);
	assert_open_refused(group, &config, "already running");
	if (group_may_fork()) {
		child = fork();
		if (child == 0) {
			struct mu_fabric *fabric;
			char err[256];

			_exit(fabric_under_test->open(group->place, &config, &fabric, err,
						      sizeof(err)) == 0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
	/* Even if its memory is deleted under it. */
	if (fabric_under_test->lose_memory != NULL)
		fabric_under_test->lose_memory(group->place, 2);
	assert_open_refused(group, &config, "already running");
	group_close(group, 2);
	group_open(group, 2);
	group_free(group);
}

static void f9_memory_of_another_group_or_size_is_refused(void **state)
{
	struct group *group;
	struct mu_fabric_config config;

	(void)state;
	if (fabric_under_test->lose_memory == NULL)
		skip();
	group = group_with_closed_target();
	config = group_config(group, 2);
	config.group_id++;
	assert_open_refused(group, &config, "another group");
	config = group_config(group, 2);
	config.region_bytes[MU_REGION_REPLICATION] *= 2;
	assert_open_refused(group, &config, "another size");
	config = group_config(group, 2);
	config.region_bytes[MU_REGION_PRIVATE] -= 64;
	assert_open_refused(group, &config, "another size");
	/* None of this has done any harm. */
	group_open(group, 2);
	assert_int_equal(group->formats[2], 1);
	group_free(group);
}

static void f9_groups_do_not_reach_each_other(void **state)
{
	struct group *group = group_new();
	struct mu_fabric_config config = group_config(group, 2);
	struct mu_fabric *ours = group_open(group, 1), *stranger;
	char err[256];

	(void)state;
	config.group_id++;
	assert_int_equal(
		fabric_under_test->open(group->place, &config, &stranger, err, sizeof(err)), 0);
	for (int i = 0; i < 100; i++) {
		ours->ops->connect(ours, DATA, 2);
		stranger->ops->connect(stranger, DATA, 1);
		if (fabric_under_test->advance != NULL)
			fabric_under_test->advance(group->place);
		assert_int_not_equal(ours->ops->state(ours, DATA, 2), MU_CONNECTION_UP);
		assert_int_not_equal(stranger->ops->state(stranger, DATA, 1), MU_CONNECTION_UP);
	}
	stranger->ops->close(stranger);
	group_free(group);
}

/* What the kernel says of the mapping in which `at` lies, in KiB; 0: nothing. */
static size_t mapping_kib(const void *at, const char *what)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long first, end;
	size_t kib = 0, value;
	bool here = false;
	char line[400], field[64];

	assert_non_null(smaps);
	while (kib == 0 && fgets(line, sizeof(line), smaps) != NULL) {
		if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
			here = (uintptr_t)at >= first && (uintptr_t)at < end;
		else if (here && sscanf(line, "%63[^:]: %zu kB", field, &value) == 2 &&
			 strcmp(field, what) == 0)
			kib = value;
	}
	fclose(smaps);
	return kib;
}

/* Where they are for certain is tests/conformance/huge-pages' business. */
static void memory_is_in_huge_pages_where_there_are_any(void **state)
{
	struct group *group = group_new();
	struct mu_fabric *fabric = group_open(group, 1);
	const void *log = fabric->ops->local(fabric, LOG);
	bool huge = mapping_kib(log, "KernelPageSize") >= HUGE_KIB ||
		    mapping_kib(log, "ShmemPmdMapped") >= HUGE_KIB;

	(void)state;
	group_free(group);
	if (huge)
		return;
	assert_null(getenv("CONFORMANCE_HUGE_PAGES"));
	printf("SKIPPED: huge pages: the directory of the replicas' memory gives none\n");
	skip();
}

const struct CMUnitTest memory_tests[] = {
	cmocka_unit_test(f9_fresh_memory_is_formatted_once),
	cmocka_unit_test(f9_memory_and_permission_outlive_the_process),
	cmocka_unit_test(f9_lost_memory_is_formatted_and_nobody_may_write_it),
	cmocka_unit_test(f9_an_idle_plane_hears_of_lost_memory_too),
	cmocka_unit_test(f9_an_id_runs_once),
	cmocka_unit_test(f9_memory_of_another_group_or_size_is_refused),
	cmocka_unit_test(f9_groups_do_not_reach_each_other),
	cmocka_unit_test(memory_is_in_huge_pages_where_there_are_any),
	{0},
};
