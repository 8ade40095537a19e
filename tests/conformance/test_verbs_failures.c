/*
 * test_verbs_failures.c - every way in which verbs were seen to fail: each is
 * reported in the contract's terms, and heals without a restart.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fabric/verbs.h"
#include "verbs_fixture.h"

#define WRITES 8

/* Replica 1 writes the log of replica 2. */
struct pair {
	struct group *group;
	struct mu_fabric *writer, *target;
	struct link link;
	uint64_t round;
};

static uint64_t ballot_of(const struct pair *pair)
{
	return BALLOT(pair->round, 1);
}

/* A write lands, after whatever it takes to get there; the target grants as it would in a group. */
static void heal(struct pair *pair)
{
	uint64_t since_ns = clock_ns();
	uint64_t word = ++pair->round;

	do {
		wait_turn(pair->group, since_ns, "a write that lands");
		link_grant(&pair->link, ballot_of(pair));
		link_reconnect(&pair->link);
	} while (link_write(&pair->link, LOG, 64, &word, 8, ballot_of(pair)) != MU_FABRIC_OK);
	assert_memory_equal((uint8_t *)pair->target->ops->local(pair->target, LOG) + 64, &word, 8);
}

static struct pair pair_new(void)
{
	struct pair pair = {.group = group_new()};

	pair.writer = group_open(pair.group, 1);
	pair.target = group_open(pair.group, 2);
	pair.link = link_up(pair.group, 1, DATA, 2);
	heal(&pair);
	return pair;
}

/* The ends of the connection, which the fabrics own. */
static struct verbs_out *posting_end(const struct pair *pair)
{
	return &verbs_of(pair->writer)->plane[DATA].out[2];
}

static struct verbs_in *serving_end(const struct pair *pair)
{
	return &verbs_of(pair->target)->in[DATA][1];
}

static void into_error(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	assert_int_equal(ibv_modify_qp(qp, &attr, IBV_QP_STATE), 0);
}

/* The first ends like this, and all behind it are unreachable, in order. */
static void write_in_vain(struct pair *pair, enum mu_fabric_status first)
{
	static const uint8_t bytes[64] = "not to be seen";
	uint8_t before[64];
	const uint8_t *memory = pair->target->ops->local(pair->target, LOG);

	memcpy(before, memory + 128, sizeof(before));
	for (uint64_t i = 0; i < WRITES; i++)
		if (pair->writer->ops->post_write(pair->writer, DATA, 2, LOG, 128, bytes,
						  sizeof(bytes), ballot_of(pair), i) != 0)
			fail_msg("write %u is refused", (unsigned)i);
	for (uint64_t i = 0; i < WRITES; i++) {
		struct mu_completion over = link_completion(&pair->link);

		assert_int_equal(over.cookie, i);
		assert_int_equal(over.status, i == 0 ? first : MU_FABRIC_UNREACHABLE);
	}
	assert_int_equal(link_state(&pair->link), MU_CONNECTION_DOWN);
	assert_memory_equal(memory + 128, before, sizeof(before));
}

/* ------------------------------------------------- what was seen of queue pairs */

/* Rights alone are missing: denied at once; what is behind it is flushed; both ends are in error.
 */
static void verbs_denied_and_flushed(void **state)
{
	struct pair pair = pair_new();
	struct ibv_qp_attr attr = {.qp_access_flags = IBV_ACCESS_REMOTE_READ};

	(void)state;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(ibv_modify_qp(serving_end(&pair)->qp, &attr, IBV_QP_ACCESS_FLAGS),
				 0);
		write_in_vain(&pair, MU_FABRIC_DENIED);
		heal(&pair);
	}
	group_free(pair.group);
}

/* The serving end is in error, and nobody was told: found out by a write... */
static void verbs_the_serving_end_in_error_fails_a_write(void **state)
{
	struct pair pair = pair_new();

	(void)state;
	for (int i = 0; i < 10; i++) {
		into_error(serving_end(&pair)->qp);
		write_in_vain(&pair, MU_FABRIC_UNREACHABLE);
		heal(&pair);
	}
	group_free(pair.group);
}

/* ... or, while nothing is posted, by whoever wants to grant. */
static void verbs_the_serving_end_in_error_is_found_by_a_grant(void **state)
{
	struct pair pair = pair_new();

	(void)state;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(pair.target->ops->revoke_write(pair.target), 0);
		WAIT_UNTIL(pair.group, link_state(&pair.link) != MU_CONNECTION_UP);
		link_reconnect(&pair.link);
		into_error(serving_end(&pair)->qp);
		link_grant(&pair.link, BALLOT(++pair.round, 1));
		heal(&pair);
	}
	group_free(pair.group);
}

static void verbs_the_posting_end_in_error_flushes(void **state)
{
	struct pair pair = pair_new();

	(void)state;
	for (int i = 0; i < 10; i++) {
		into_error(posting_end(&pair)->qp);
		write_in_vain(&pair, MU_FABRIC_UNREACHABLE);
		heal(&pair);
	}
	group_free(pair.group);
}

/* A device that would try for hours: the fabric's own clock ends it. */
static void verbs_slow_retries_end_within_the_operations_time(void **state)
{
	struct pair pair;

	(void)state;
	verbs_fixture_options.transport_timeout = 31;
	verbs_fixture_options.transport_retries = 6;
	pair = pair_new();
	into_error(serving_end(&pair)->qp);
	write_in_vain(&pair, MU_FABRIC_UNREACHABLE);
	heal(&pair);
	group_free(pair.group);
	mu_verbs_options_init(&verbs_fixture_options);
}

/* ------------------------------------------------------- what may get lost */

/* The word that the serving end is gone is lost, and the connection is idle. */
static void verbs_a_lost_word_of_a_destroyed_end_is_said_again(void **state)
{
	struct pair pair = pair_new();

	(void)state;
	for (int i = 0; i < 10; i++) {
		verbs_lose_messages(VERBS_GONE_SERVING, 1 + i % 3);
		assert_int_equal(pair.target->ops->revoke_write(pair.target), 0);
		assert_int_equal(link_state(&pair.link), MU_CONNECTION_UP);
		/* Connecting is no more to it than it is to a replica that only waits. */
		link_grant(&pair.link, BALLOT(++pair.round, 1));
		verbs_lose_messages(VERBS_GONE_SERVING, 0);
		heal(&pair);
	}
	group_free(pair.group);
}

static void verbs_any_message_may_be_lost(void **state)
{
	static const enum verbs_message_kind kinds[] = {VERBS_REQUEST, VERBS_ACCEPT};
	struct pair pair = pair_new();

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		verbs_lose_messages(kinds[i], 1);
		pair.writer->ops->disconnect(pair.writer, DATA, 2);
		heal(&pair);
	}
	group_close(pair.group, 2);
	/* All greetings but one. */
	verbs_lose_messages(VERBS_HELLO, 2);
	verbs_lose_messages(VERBS_WELCOME, 1);
	pair.target = group_open(pair.group, 2);
	heal(&pair);
	verbs_lose_messages(VERBS_HELLO, 0);
	verbs_lose_messages(VERBS_WELCOME, 0);
	group_free(pair.group);
}

/* The peer may be another by the time that the connection is made. */
static void verbs_a_loss_while_connecting_counts(void **state)
{
	struct pair pair = pair_new();

	(void)state;
	for (int i = 0; i < 10; i++) {
		pair.writer->ops->disconnect(pair.writer, DATA, 2);
		pair.writer->ops->connect(pair.writer, DATA, 2);
		if (link_state(&pair.link) != MU_CONNECTION_CONNECTING)
			continue;
		atomic_store(&posting_end(&pair)->is_lost, true);
		WAIT_UNTIL(pair.group, link_state(&pair.link) != MU_CONNECTION_CONNECTING);
		assert_int_equal(link_state(&pair.link), MU_CONNECTION_DOWN);
	}
	heal(&pair);
	group_free(pair.group);
}

/* ------------------------------------------------- what the device may refuse */

static void verbs_a_queue_pair_that_cannot_be_connected_is_made_anew(void **state)
{
	static const int masks[] = {
		IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS,
		IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
		IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_ACCESS_FLAGS,
	};
	struct pair pair = pair_new();
	struct verbs_holdings before = verbs_take_stock();

	(void)state;
	for (size_t i = 0; i < 4 * sizeof(masks) / sizeof(masks[0]); i++) {
		/* At the one end, and at the other as well. */
		verbs_fail_modifying(masks[i % 3], 1 + (int)(i / 3));
		pair.writer->ops->disconnect(pair.writer, DATA, 2);
		heal(&pair);
	}
	verbs_fail_modifying(0, 0);
	verbs_nothing_leaked(pair.group, &before);
	group_free(pair.group);
}

static void verbs_rights_that_cannot_be_changed_cost_a_connection(void **state)
{
	struct pair pair = pair_new();

	(void)state;
	for (int i = 0; i < 5; i++) {
		verbs_fail_modifying(IBV_QP_ACCESS_FLAGS, 1 + i);
		assert_int_equal(pair.target->ops->revoke_write(pair.target), 0);
		heal(&pair);
	}
	verbs_fail_modifying(0, 0);
	group_free(pair.group);
}

/* It is stopped instead: then nothing of it is under way, and its operations are over. */
static void verbs_a_queue_pair_that_cannot_be_destroyed_is_stopped(void **state)
{
	struct pair pair = pair_new();
	struct verbs_holdings before = verbs_take_stock();

	(void)state;
	for (int i = 0; i < 5; i++) {
		into_error(serving_end(&pair)->qp);
		verbs_fail_destroying(1 + i);
		write_in_vain(&pair, MU_FABRIC_UNREACHABLE);
		heal(&pair);
	}
	verbs_fail_destroying(0);
	verbs_nothing_leaked(pair.group, &before);
	group_free(pair.group);
}

/* Nor stopped: as long as it may send, no operation is over, and nothing is connected anew. */
static void verbs_a_queue_pair_that_cannot_be_stopped_keeps_its_operations(void **state)
{
	struct pair pair = pair_new();
	struct verbs_holdings before = verbs_take_stock();
	struct mu_completion over;
	uint64_t word = 0;

	(void)state;
	assert_int_equal(pair.writer->ops->post_read(pair.writer, DATA, 2, LOG, 0, &word, 8, 1), 0);
	verbs_fail_destroying(1 << 30);
	verbs_fail_modifying(IBV_QP_STATE, 1 << 30);
	pair.writer->ops->disconnect(pair.writer, DATA, 2);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(pair.writer->ops->poll(pair.writer, DATA, &over, 1), 0);
		pair.writer->ops->connect(pair.writer, DATA, 2);
		assert_int_equal(link_state(&pair.link), MU_CONNECTION_DOWN);
	}
	verbs_fail_modifying(0, 0);
	over = link_completion(&pair.link);
	assert_int_equal(over.cookie, 1);
	assert_int_equal(over.status, MU_FABRIC_UNREACHABLE);
	verbs_fail_destroying(0);
	heal(&pair);
	verbs_nothing_leaked(pair.group, &before);
	group_free(pair.group);
}

static void verbs_a_revocation_that_cannot_be_made_certain_says_so(void **state)
{
	struct pair pair = pair_new();

	(void)state;
	for (int i = 0; i < 5; i++) {
		verbs_fail_destroying(1);
		assert_int_equal(pair.target->ops->revoke_write(pair.target), -1);
		assert_int_equal(pair.target->ops->revoke_write(pair.target), 0);
		heal(&pair);
	}
	group_free(pair.group);
}

/* ---------------------------------------------------- the port gets another address */

/* In the virtual machine the device is on an interface of its own (scripts/rdma-vm). */
static const char *address_change(const char *from, const char *to)
{
	static char command[256];

	snprintf(command, sizeof(command),
		 "ip addr del %s/24 dev $RDMA_VM_INTERFACE && ip addr add %s/24 dev "
		 "$RDMA_VM_INTERFACE",
		 from, to);
	return command;
}

static void verbs_a_port_with_another_address_is_found_again(void **state)
{
	static const char *const addresses[] = {"10.77.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.1"};
	struct pair pair;

	(void)state;
	if (getenv("RDMA_VM_INTERFACE") == NULL)
		skip();
	pair = pair_new();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(system(address_change(addresses[i], addresses[i + 1])), 0);
		heal(&pair);
	}
	group_free(pair.group);
}

const struct CMUnitTest verbs_failure_tests[] = {
	cmocka_unit_test(verbs_denied_and_flushed),
	cmocka_unit_test(verbs_the_serving_end_in_error_fails_a_write),
	cmocka_unit_test(verbs_the_serving_end_in_error_is_found_by_a_grant),
	cmocka_unit_test(verbs_the_posting_end_in_error_flushes),
	cmocka_unit_test(verbs_slow_retries_end_within_the_operations_time),
	cmocka_unit_test(verbs_a_lost_word_of_a_destroyed_end_is_said_again),
	cmocka_unit_test(verbs_any_message_may_be_lost),
	cmocka_unit_test(verbs_a_loss_while_connecting_counts),
	cmocka_unit_test(verbs_a_queue_pair_that_cannot_be_connected_is_made_anew),
	cmocka_unit_test(verbs_rights_that_cannot_be_changed_cost_a_connection),
	cmocka_unit_test(verbs_a_queue_pair_that_cannot_be_destroyed_is_stopped),
	cmocka_unit_test(verbs_a_queue_pair_that_cannot_be_stopped_keeps_its_operations),
	cmocka_unit_test(verbs_a_revocation_that_cannot_be_made_certain_says_so),
	cmocka_unit_test(verbs_a_port_with_another_address_is_found_again),
	{0},
};
