/*
 * test_stepped.c - F4 and F5 where the test itself moves time on, step by step:
 * a revocation strikes at every stage of a write, without a second thread.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance.h"

#define WRITES 3
#define WRITE_BYTES 512

/* Replica 1 writes into replica 2's log. */
struct strike {
	struct group *group;
	struct mu_fabric *target;
	const uint8_t *memory;
	struct link link;
	uint8_t source[WRITES][WRITE_BYTES];
	unsigned completed;          /* writes that were over when permission was revoked, all OK */
	unsigned struck[WRITES + 1]; /* rounds in which so many were */
	uint8_t after_revoke[WRITES * WRITE_BYTES];
};

static void strike_new(struct strike *strike)
{
	memset(strike, 0, sizeof(*strike));
	strike->group = group_new();
	group_open(strike->group, 1);
	strike->target = group_open(strike->group, 2);
	strike->memory = strike->target->ops->local(strike->target, LOG);
	link_up(strike->group, 2, DATA, 1);
	link_up(strike->group, 2, BACKGROUND, 1);
	strike->link = link_up(strike->group, 1, DATA, 2);
}

/* How many more writes are over; while permission stands, they have succeeded. */
static unsigned take_completions(struct strike *strike, unsigned most, bool revoked)
{
	struct mu_completion done[WRITES];
	int count = strike->link.fabric->ops->poll(strike->link.fabric, DATA, done, (int)most);

	assert_in_range(count, 0, WRITES);
	for (int i = 0; i < count; i++)
		assert_true(revoked || done[i].status == MU_FABRIC_OK);
	return (unsigned)count;
}

static void post_writes(struct strike *strike, unsigned round, uint64_t ballot)
{
	struct mu_fabric *fabric = strike->link.fabric;

	for (unsigned i = 0; i < WRITES; i++) {
		fill(strike->source[i], WRITE_BYTES, round * WRITES + i + 1);
		assert_int_equal(fabric->ops->post_write(fabric, DATA, 2, LOG, i * WRITE_BYTES,
							 strike->source[i], WRITE_BYTES, ballot, i),
				 0);
	}
}

/*
 * Writes are posted, time moves on by `turns`, permission is revoked, and time
 * moves on until all is over. True if not a byte changed after the revocation.
 */
static bool strike_at(struct strike *strike, unsigned round, unsigned turns)
{
	uint64_t ballot = BALLOT(round + 1, 1), since_ns = clock_ns();
	unsigned over;

	assert_int_equal(strike->target->ops->revoke_write(strike->target), 0);
	/* With the permission the connection may have gone, which is not heard of at once. */
	link_grant(&strike->link, ballot);
	link_reconnect(&strike->link);
	post_writes(strike, round, ballot);
	for (; turns > 0; turns--)
		wait_turn(strike->group, since_ns, "turns");
	over = strike->completed = take_completions(strike, WRITES, false);
	assert_int_equal(strike->target->ops->revoke_write(strike->target), 0);
	memcpy(strike->after_revoke, strike->memory, sizeof(strike->after_revoke));
	for (unsigned i = 0; i < strike->completed; i++)
		assert_memory_equal(strike->memory + i * WRITE_BYTES, strike->source[i],
				    WRITE_BYTES);
	while (over < WRITES) {
		wait_turn(strike->group, since_ns, "completions");
		over += take_completions(strike, WRITES - over, true);
	}
	return memcmp(strike->after_revoke, strike->memory, sizeof(strike->after_revoke)) == 0;
}

/* Up to so many rounds, fewer if a byte changes when it must not: returns how many were clean. */
static unsigned strike_rounds(struct strike *strike, unsigned rounds)
{
	/* The writes of a slow fabric take more turns. */
	unsigned stride = fabric_under_test->slowness ? 3 : 1;
	unsigned clean = 0;

	while (clean < rounds && strike_at(strike, clean, clean % 40 * stride)) {
		strike->struck[strike->completed]++;
		clean++;
	}
	return clean;
}

static void f4_a_revocation_at_every_stage_of_a_write(void **state)
{
	struct strike strike;
	const unsigned rounds = 400;

	(void)state;
	strike_new(&strike);
	assert_int_equal(strike_rounds(&strike, rounds), rounds);
	printf("# %u revocations, with 0 to %d of %d writes over:", rounds, WRITES, WRITES);
	for (unsigned i = 0; i <= WRITES; i++)
		printf(" %u", strike.struck[i]);
	printf("\n");
	group_free(strike.group);
}

const struct CMUnitTest stepped_tests[] = {
	cmocka_unit_test(f4_a_revocation_at_every_stage_of_a_write),
	{0},
};

/* ---------------------------------------------------------------- self-check */

static void notices(enum conformance_fault fault)
{
	struct strike strike;

	strike_new(&strike);
	fabric_under_test->break_revocation(fault);
	assert_in_range(strike_rounds(&strike, 400), 0, 399);
	fabric_under_test->break_revocation(FAULT_NONE);
	group_free(strike.group);
}

static void every_stage_notices_a_revoker_that_does_not_wait(void **state)
{
	(void)state;
	notices(FAULT_NO_WAIT);
}

static void every_stage_notices_a_revoker_that_takes_nothing(void **state)
{
	(void)state;
	notices(FAULT_NO_TAKING);
}

const struct CMUnitTest stepped_self_check_tests[] = {
	cmocka_unit_test(every_stage_notices_a_revoker_that_does_not_wait),
	cmocka_unit_test(every_stage_notices_a_revoker_that_takes_nothing),
	{0},
};
