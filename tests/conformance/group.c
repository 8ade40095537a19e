/* group.c - what the tests of a fabric's contract have in common. */
#include "config.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../support/sanitizers.h"
#include "conformance.h"

const struct conformance_fabric *fabric_under_test;

struct group *group_new(void)
{
	struct group *group = calloc(1, sizeof(*group));

	assert_non_null(group);
	group->place = fabric_under_test->group_new();
	group->members = FOUNDERS;
	return group;
}

void group_free(struct group *group)
{
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		group_close(group, id);
	fabric_under_test->group_free(group->place);
	free(group);
}

/* Checks that regions come zeroed (mu_format_fn), and marks them. */
static void format(void *ctx, void *regions[MU_REGIONS])
{
	static const size_t bytes[MU_REGIONS] = {SLOTS_BYTES, LOG_BYTES, PRIVATE_BYTES};
	unsigned *formats = ctx;

	for (int i = 0; i < MU_REGIONS; i++)
		for (size_t at = 0; at < bytes[i]; at++)
			if (((const uint8_t *)regions[i])[at] != 0)
				fail_msg("region %d is not zeroed at %zu", i, at);
	memcpy(regions[MU_REGION_PRIVATE], "formatted", 9);
	++*formats;
}

uint64_t group_op_timeout_ns(void)
{
	return fabric_under_test->op_timeout_ns ? fabric_under_test->op_timeout_ns : OP_TIMEOUT_NS;
}

bool group_may_fork(void)
{
/* A sanitizer's allocator does not survive the fork of a process that has threads. */
#if defined(UNDER_THREAD_SANITIZER) || defined(UNDER_ADDRESS_SANITIZER)
	return fabric_under_test->concurrent && !fabric_under_test->has_threads;
#else
	return fabric_under_test->concurrent;
#endif
}

/* For ever: the connection on which replica 1 would write may be there only later. */
static _Noreturn void run_target(struct group *group, uint64_t ballot, int ready)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	struct mu_fabric_config config = group_config(group, 2);
	struct mu_fabric *target;
	char err[256];

	if (fabric_under_test->open(group->place, &config, &target, err, sizeof(err)) != 0)
		_exit(1);
	target->ops->grant_write(target, 1, ballot);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	for (;;) {
		nanosleep(&pause, NULL);
		target->ops->grant_write(target, 1, ballot);
	}
}

pid_t group_fork_target(struct group *group, uint64_t ballot)
{
	int ready[2];
	pid_t child;
	char byte;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0)
		run_target(group, ballot, ready[1]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return child;
}

unsigned group_rounds(unsigned rounds)
{
	return fabric_under_test->slowness ? rounds / fabric_under_test->slowness : rounds;
}

unsigned group_hard_rounds(unsigned usual)
{
	const char *given = getenv("CONFORMANCE_ROUNDS");

	return given ? (unsigned)strtoul(given, NULL, 10) : usual;
}

struct mu_fabric_config group_config(struct group *group, unsigned id)
{
	return (struct mu_fabric_config){
		.group_id = 0x5eed,
		.id = id,
		.member_mask = group->members,
		.region_bytes = {SLOTS_BYTES, LOG_BYTES, PRIVATE_BYTES},
		.op_timeout_ns = group_op_timeout_ns(),
		.format = format,
		.format_ctx = &group->formats[id],
	};
}

struct mu_fabric *group_open(struct group *group, unsigned id)
{
	struct mu_fabric_config config = group_config(group, id);
	char err[256] = "";

	assert_null(group->replica[id]);
	if (fabric_under_test->open(group->place, &config, &group->replica[id], err, sizeof(err)))
		fail_msg("replica %u: %s", id, err);
	return group->replica[id];
}

void group_close(struct group *group, unsigned id)
{
	if (group->replica[id] != NULL)
		group->replica[id]->ops->close(group->replica[id]);
	group->replica[id] = NULL;
}

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void wait_turn(struct group *group, uint64_t since_ns, const char *what)
{
	if (fabric_under_test->advance != NULL)
		fabric_under_test->advance(group->place);
	else
		sched_yield();
	if (clock_ns() - since_ns > DEADLINE_NS)
		fail_msg("waited in vain for: %s", what);
}

/* ------------------------------------------------------------------- links */

enum mu_connection link_state(const struct link *link)
{
	return link->fabric->ops->state(link->fabric, link->plane, link->peer);
}

void link_reconnect(const struct link *link)
{
	uint64_t since_ns = clock_ns();

	while (link_state(link) != MU_CONNECTION_UP) {
		link->fabric->ops->connect(link->fabric, link->plane, link->peer);
		wait_turn(link->group, since_ns, "a connection");
	}
}

struct link link_up(struct group *group, unsigned from, enum mu_plane plane, unsigned to)
{
	struct link link = {group, group->replica[from], plane, to};

	link_reconnect(&link);
	return link;
}

void link_grant(const struct link *link, uint64_t ballot)
{
	struct mu_fabric *target = link->group->replica[link->peer];
	unsigned id = (unsigned)(ballot & 0xff);
	uint64_t since_ns = clock_ns();

	while (target->ops->grant_write(target, id, ballot) != 0) {
		link->fabric->ops->connect(link->fabric, link->plane, link->peer);
		wait_turn(link->group, since_ns, "a permission");
	}
}

struct mu_completion link_completion(const struct link *link)
{
	struct mu_completion completion;
	uint64_t since_ns = clock_ns();

	while (link->fabric->ops->poll(link->fabric, link->plane, &completion, 1) == 0)
		wait_turn(link->group, since_ns, "a completion");
	return completion;
}

static uint64_t next_cookie;

static enum mu_fabric_status status_of(const struct link *link, int posted, uint64_t cookie)
{
	struct mu_completion completion;

	/* Lost since it was seen up. */
	if (posted != 0) {
		assert_int_equal(link_state(link), MU_CONNECTION_DOWN);
		return MU_FABRIC_UNREACHABLE;
	}
	completion = link_completion(link);
	assert_int_equal(completion.cookie, cookie);
	assert_int_equal(completion.peer, link->peer);
	return (enum mu_fabric_status)completion.status;
}

enum mu_fabric_status link_write(const struct link *link, enum mu_region region, uint64_t offset,
				 const void *src, size_t len, uint64_t ballot)
{
	uint64_t cookie = ++next_cookie;

	return status_of(link,
			 link->fabric->ops->post_write(link->fabric, link->plane, link->peer,
						       region, offset, src, len, ballot, cookie),
			 cookie);
}

enum mu_fabric_status link_read(const struct link *link, enum mu_region region, uint64_t offset,
				void *dst, size_t len)
{
	uint64_t cookie = ++next_cookie;

	return status_of(link,
			 link->fabric->ops->post_read(link->fabric, link->plane, link->peer, region,
						      offset, dst, len, cookie),
			 cookie);
}

void fill(void *dst, size_t len, unsigned seed)
{
	uint8_t *bytes = dst;

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8) + 1);
}
