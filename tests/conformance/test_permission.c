/* test_permission.c - F3, F8: who may write, and what becomes of a connection that may not. */
#include "config.h"

#include <string.h>

#include "conformance.h"

/* Three replicas; replica 2 is the target, and nobody may write. */
struct trio {
	struct group *group;
	struct mu_fabric *target;
	const uint8_t *memory;
	struct link one, three;
};

static struct trio trio_new(void)
{
	struct trio trio = {.group = group_new()};

	group_open(trio.group, 1);
	trio.target = group_open(trio.group, 2);
	group_open(trio.group, 3);
	trio.memory = trio.target->ops->local(trio.target, LOG);
	trio.one = link_up(trio.group, 1, DATA, 2);
	trio.three = link_up(trio.group, 3, DATA, 2);
	assert_int_equal(trio.target->ops->revoke_write(trio.target), 0);
	return trio;
}

static void pass_permission(struct trio *trio, unsigned peer, uint64_t ballot)
{
	assert_int_equal(trio->target->ops->revoke_write(trio->target), 0);
	link_grant(peer == 1 ? &trio->one : &trio->three, ballot);
}

/* The write must fail, change nothing, and take its connection down. */
static void assert_refused(struct trio *trio, const struct link *link, uint64_t ballot)
{
	uint8_t before[64], src[64];
	enum mu_fabric_status status;

	memcpy(before, trio->memory + 128, sizeof(before));
	fill(src, sizeof(src), 77);
	link_reconnect(link);
	status = link_write(link, LOG, 128, src, sizeof(src), ballot);
	assert_true(status == MU_FABRIC_DENIED || status == MU_FABRIC_UNREACHABLE);
	assert_memory_equal(trio->memory + 128, before, sizeof(before));
	assert_int_equal(link_state(link), MU_CONNECTION_DOWN);
}

static void assert_accepted(struct trio *trio, const struct link *link, uint64_t ballot,
			    unsigned seed)
{
	uint8_t src[64];

	fill(src, sizeof(src), seed);
	link_reconnect(link);
	assert_int_equal(link_write(link, LOG, 128, src, sizeof(src), ballot), MU_FABRIC_OK);
	assert_memory_equal(trio->memory + 128, src, sizeof(src));
}

static void f3_nobody_may_write_fresh_memory(void **state)
{
	struct trio trio = trio_new();

	(void)state;
	assert_refused(&trio, &trio.one, BALLOT(1, 1));
	assert_refused(&trio, &trio.three, BALLOT(1, 3));
	group_free(trio.group);
}

static void f3_only_the_holder_may_write(void **state)
{
	struct trio trio = trio_new();

	(void)state;
	pass_permission(&trio, 1, BALLOT(1, 1));
	assert_accepted(&trio, &trio.one, BALLOT(1, 1), 1);
	assert_refused(&trio, &trio.three, BALLOT(1, 3));
	assert_refused(&trio, &trio.three, BALLOT(2, 3));
	/* Not even by naming the holder's ballot. */
	assert_refused(&trio, &trio.three, BALLOT(1, 1));
	assert_accepted(&trio, &trio.one, BALLOT(1, 1), 2);
	group_free(trio.group);
}

static void f3_permission_passes_from_peer_to_peer(void **state)
{
	struct trio trio = trio_new();

	(void)state;
	for (unsigned round = 1; round < group_rounds(50); round++) {
		pass_permission(&trio, 1, BALLOT(round, 1));
		assert_accepted(&trio, &trio.one, BALLOT(round, 1), round);
		assert_refused(&trio, &trio.three, BALLOT(round, 3));
		pass_permission(&trio, 3, BALLOT(round, 3));
		assert_refused(&trio, &trio.one, BALLOT(round, 1));
		assert_accepted(&trio, &trio.three, BALLOT(round, 3), round + 100);
	}
	assert_int_equal(trio.target->ops->revoke_write(trio.target), 0);
	assert_refused(&trio, &trio.three, BALLOT(group_rounds(50) - 1, 3));
	assert_refused(&trio, &trio.one, BALLOT(group_rounds(50) - 1, 1));
	group_free(trio.group);
}

static void f3_the_same_grant_twice_changes_nothing(void **state)
{
	struct trio trio = trio_new();

	(void)state;
	pass_permission(&trio, 1, BALLOT(4, 1));
	assert_accepted(&trio, &trio.one, BALLOT(4, 1), 1);
	assert_int_equal(trio.target->ops->grant_write(trio.target, 1, BALLOT(4, 1)), 0);
	assert_int_equal(link_state(&trio.one), MU_CONNECTION_UP);
	assert_accepted(&trio, &trio.one, BALLOT(4, 1), 2);
	/* Taken and given back, under the same ballot. */
	pass_permission(&trio, 1, BALLOT(4, 1));
	assert_accepted(&trio, &trio.one, BALLOT(4, 1), 3);
	group_free(trio.group);
}

static void f3_reads_and_slots_need_no_permission(void **state)
{
	struct trio trio = trio_new();
	struct link one = link_up(trio.group, 1, BACKGROUND, 2);
	struct link three = link_up(trio.group, 3, BACKGROUND, 2);
	uint64_t word = 42, seen = 0;

	(void)state;
	assert_int_equal(link_read(&trio.one, LOG, 0, &seen, 8), MU_FABRIC_OK);
	assert_int_equal(link_write(&one, SLOTS, 64, &word, 8, 0), MU_FABRIC_OK);
	assert_int_equal(link_write(&three, SLOTS, 128, &word, 8, 0), MU_FABRIC_OK);
	assert_int_equal(link_read(&three, SLOTS, 64, &seen, 8), MU_FABRIC_OK);
	assert_int_equal(seen, 42);
	group_free(trio.group);
}

static void f8_a_connection_with_an_error_refuses_work(void **state)
{
	struct trio trio = trio_new();
	struct link background = link_up(trio.group, 1, BACKGROUND, 2);
	const struct link *link = &background;
	uint64_t words[4] = {1, 2, 3, 4}, seen[4] = {0};
	struct mu_completion completion;
	int posted = 0;

	(void)state;
	/* Posted in one go: what is behind the denied write must have no effect. */
	assert_int_equal(link->fabric->ops->post_write(link->fabric, BACKGROUND, 2, LOG, 0, words,
						       8, BALLOT(1, 1), 100),
			 0);
	for (uint64_t i = 1; i < 4; i++)
		posted += link->fabric->ops->post_write(link->fabric, BACKGROUND, 2, SLOTS, i * 64,
							&words[i], 8, 0, 100 + i) == 0;
	completion = link_completion(link);
	assert_int_equal(completion.cookie, 100);
	assert_int_not_equal(completion.status, MU_FABRIC_OK);
	for (int i = 1; i <= posted; i++) {
		completion = link_completion(link);
		assert_int_equal(completion.cookie, 100 + i);
		assert_int_equal(completion.status, MU_FABRIC_UNREACHABLE);
	}
	assert_int_equal(link_state(link), MU_CONNECTION_DOWN);
	assert_int_equal(
		link->fabric->ops->post_read(link->fabric, BACKGROUND, 2, LOG, 0, seen, 8, 200),
		-1);
	assert_int_equal(link->fabric->ops->post_write(link->fabric, BACKGROUND, 2, SLOTS, 64,
						       words, 8, 0, 201),
			 -1);
	link_reconnect(link);
	for (uint64_t i = 1; i < 4; i++) {
		assert_int_equal(link_read(link, SLOTS, i * 64, &seen[i], 8), MU_FABRIC_OK);
		assert_int_equal(seen[i], 0);
	}
	group_free(trio.group);
}

static void f8_disconnecting_and_connecting_again(void **state)
{
	struct trio trio = trio_new();
	const struct link *link = &trio.one;
	uint64_t word = 3;

	(void)state;
	pass_permission(&trio, 1, BALLOT(1, 1));
	for (int round = 0; round < 20; round++) {
		assert_accepted(&trio, link, BALLOT(1, 1), (unsigned)round);
		link->fabric->ops->disconnect(link->fabric, DATA, 2);
		assert_int_equal(link_state(link), MU_CONNECTION_DOWN);
		assert_int_equal(link->fabric->ops->post_write(link->fabric, DATA, 2, LOG, 0, &word,
							       8, BALLOT(1, 1), 1),
				 -1);
	}
	/* Connecting when UP is nothing. */
	link_reconnect(link);
	link->fabric->ops->connect(link->fabric, DATA, 2);
	assert_int_equal(link_state(link), MU_CONNECTION_UP);
	group_free(trio.group);
}

static void f8_those_who_are_no_members_are_not_reached(void **state)
{
	struct trio trio = trio_new();
	struct mu_fabric *fabric = trio.one.fabric;

	(void)state;
	fabric->ops->connect(fabric, DATA, 7);
	assert_int_equal(fabric->ops->state(fabric, DATA, 7), MU_CONNECTION_DOWN);
	group_free(trio.group);
}

const struct CMUnitTest permission_tests[] = {
	cmocka_unit_test(f3_nobody_may_write_fresh_memory),
	cmocka_unit_test(f3_only_the_holder_may_write),
	cmocka_unit_test(f3_permission_passes_from_peer_to_peer),
	cmocka_unit_test(f3_the_same_grant_twice_changes_nothing),
	cmocka_unit_test(f3_reads_and_slots_need_no_permission),
	cmocka_unit_test(f8_a_connection_with_an_error_refuses_work),
	cmocka_unit_test(f8_disconnecting_and_connecting_again),
	cmocka_unit_test(f8_those_who_are_no_members_are_not_reached),
	{0},
};
