/*
 * test_newcomers.c - peers that come after a fabric was opened, and peers that go for good:
 * the fabrics of those that are there have been told that replica 4 may come, no more.
 */
#include "config.h"

#include <string.h>

#include "conformance.h"

#define COMER 4
#define MINE BALLOT(3, 1)
#define ITS BALLOT(4, COMER)
#define NEXT BALLOT(5, 1)

/* Replicas 1 and 2 of a group that may grow; 1 may write 2's log. */
static struct link open_before(struct group *group)
{
	struct link link;

	group->members |= 1U << COMER;
	group_open(group, 1);
	group_open(group, 2);
	link = link_up(group, 1, DATA, 2);
	link_grant(&link, MINE);
	assert_int_equal(link_write(&link, LOG, 0, "before", 6, MINE), MU_FABRIC_OK);
	return link;
}

/* Whoever came or went, it was no matter between replicas 1 and 2. */
static void assert_undisturbed(const struct link *link, uint64_t ballot)
{
	struct mu_fabric *target = link->group->replica[link->peer];

	assert_int_equal(link_state(link), MU_CONNECTION_UP);
	assert_int_equal(link_write(link, LOG, 64, "after", 5, ballot), MU_FABRIC_OK);
	assert_memory_equal((char *)target->ops->local(target, LOG) + 64, "after", 5);
}

static void who_is_not_there_yet_is_not_reached(void **state)
{
	struct group *group = group_new();
	struct link link = open_before(group);
	struct mu_fabric *fabric = link.fabric;

	(void)state;
	for (int plane = 0; plane < MU_PLANES; plane++) {
		fabric->ops->connect(fabric, (enum mu_plane)plane, COMER);
		assert_int_not_equal(fabric->ops->state(fabric, (enum mu_plane)plane, COMER),
				     MU_CONNECTION_UP);
	}
	assert_int_equal(
		fabric->ops->post_write(fabric, BACKGROUND, COMER, SLOTS, 0, "slot", 4, 0, 1), -1);
	assert_undisturbed(&link, MINE);
	group_free(group);
}

static void who_comes_later_is_a_peer_like_any_other(void **state)
{
	struct group *group = group_new();
	struct link old = open_before(group), link;
	struct mu_fabric *comer;
	char in[6];

	(void)state;
	comer = group_open(group, COMER);
	link = link_up(group, 2, BACKGROUND, COMER);
	assert_int_equal(link_write(&link, SLOTS, 64, "slot", 4, 0), MU_FABRIC_OK);
	assert_memory_equal((char *)comer->ops->local(comer, SLOTS) + 64, "slot", 4);
	link = link_up(group, 1, DATA, COMER);
	link_grant(&link, MINE);
	assert_int_equal(link_write(&link, LOG, 4096, "to it", 5, MINE), MU_FABRIC_OK);
	assert_memory_equal((char *)comer->ops->local(comer, LOG) + 4096, "to it", 5);

	link = link_up(group, COMER, DATA, 2);
	assert_int_equal(link_read(&link, LOG, 0, in, sizeof(in)), MU_FABRIC_OK);
	assert_memory_equal(in, "before", 6);
	assert_int_not_equal(link_write(&link, LOG, 0, "denied", 6, ITS), MU_FABRIC_OK);
	assert_memory_equal(group->replica[2]->ops->local(group->replica[2], LOG), "before", 6);
	assert_undisturbed(&old, MINE);
	group_free(group);
}

static void forget(struct group *group, unsigned id)
{
	struct mu_fabric *fabric = group->replica[id];

	if (fabric->ops->forget != NULL)
		fabric->ops->forget(fabric, COMER);
}

/* It had the permission, even; which goes to another, as from anybody. */
static void who_has_gone_and_is_forgotten_may_come_again(void **state)
{
	struct group *group = group_new();
	struct link old = open_before(group), link;
	struct mu_fabric *target = group->replica[2], *comer;

	(void)state;
	group_open(group, COMER);
	link_up(group, 1, BACKGROUND, COMER);
	link = link_up(group, COMER, DATA, 2);
	assert_int_equal(target->ops->revoke_write(target), 0);
	link_grant(&link, ITS);
	link_reconnect(&link);
	assert_int_equal(link_write(&link, LOG, 128, "its word", 8, ITS), MU_FABRIC_OK);
	group_close(group, COMER);
	forget(group, 1);
	forget(group, 2);

	assert_int_equal(target->ops->revoke_write(target), 0);
	link_reconnect(&old);
	link_grant(&old, NEXT);
	link_reconnect(&old);
	assert_undisturbed(&old, NEXT);
	assert_memory_equal((char *)target->ops->local(target, LOG) + 128, "its word", 8);

	comer = group_open(group, COMER);
	link = (struct link){group, group->replica[1], BACKGROUND, COMER};
	/* What was there of the connection may be found out to be none by being used. */
	link_reconnect(&link);
	if (link_write(&link, SLOTS, 128, "again", 5, 0) != MU_FABRIC_OK) {
		link_reconnect(&link);
		assert_int_equal(link_write(&link, SLOTS, 128, "again", 5, 0), MU_FABRIC_OK);
	}
	assert_memory_equal((char *)comer->ops->local(comer, SLOTS) + 128, "again", 5);
	group_free(group);
}

const struct CMUnitTest newcomer_tests[] = {
	cmocka_unit_test(who_is_not_there_yet_is_not_reached),
	cmocka_unit_test(who_comes_later_is_a_peer_like_any_other),
	cmocka_unit_test(who_has_gone_and_is_forgotten_may_come_again),
	{0},
};
