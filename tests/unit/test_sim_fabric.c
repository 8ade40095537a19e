/*
 * test_sim_fabric.c - the sim fabric against F1..F9 of mu_fabric.h, each over
 * many seeds, and against its own promises: harsh where the contract leaves
 * room, and the same run from the same seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fabric/sim.h"

#define SEEDS 400
#define REGION_BYTES 4096
#define OP_TIMEOUT_NS 1000000
#define MARK 0x5a
#define BALLOT_1 0x101 /* round 1, replica 1 */
#define BALLOT_3 0x203

struct bench {
	struct sim_world *world;
	struct sim_clock *clock;
	struct mu_fabric *fabric[MU_ID_SLOTS];
	uint64_t digest;
	uint64_t completed_ns; /* the latest completion became ready */
	unsigned events[SIM_EVENT_KINDS];
	jmp_buf *expects_violation;
};

static void never_interrupt(void *ctx, unsigned id, enum mu_plane plane)
{
	(void)ctx, (void)id, (void)plane;
}

static void observe(void *ctx, const struct sim_event *event)
{
	struct bench *bench = ctx;

	bench->events[event->kind]++;
	if (event->kind == SIM_COMPLETE)
		bench->completed_ns = bench->clock->now_ns;
	bench->digest = sim_mix(bench->digest ^ bench->clock->now_ns);
	bench->digest = sim_mix(bench->digest ^ event->kind ^ event->number << 8 ^ event->bytes);
}

static void violation(void *ctx, const char *what)
{
	struct bench *bench = ctx;

	if (bench->expects_violation != NULL)
		longjmp(*bench->expects_violation, 1);
	fail_msg("contract broken: %s", what);
}

static void format(void *ctx, void *regions[MU_REGIONS])
{
	(void)ctx;
	for (unsigned region = 0; region < MU_REGIONS; region++)
		memset(regions[region], MARK, REGION_BYTES);
}

static void open_replica(struct bench *bench, unsigned id)
{
	struct mu_fabric_config config = {
		.id = id,
		.member_mask = 0xe,
		.region_bytes = {REGION_BYTES, REGION_BYTES, REGION_BYTES},
		.op_timeout_ns = OP_TIMEOUT_NS,
		.format = format,
	};

	bench->fabric[id] = sim_open(bench->world, &config);
}

static struct sim_config plain_config(struct bench *bench, uint64_t seed)
{
	return (struct sim_config){
		.seed = seed,
		.op_timeout_ns = OP_TIMEOUT_NS,
		.delay_min_ns = 500,
		.delay_max_ns = 2000,
		.tear_permille = 600,
		.late_permille = 700,
		.queue_max = 32,
		.passive_memory = seed & 1,
		.ballot_checked = seed >> 1 & 1,
		.revoke_breaks = seed >> 2 & 1,
		.interrupt = never_interrupt,
		.observe = observe,
		.violation = violation,
		.ctx = bench,
	};
}

static void bench_start(struct bench *bench, uint64_t seed)
{
	struct sim_config config = plain_config(bench, seed);

	memset(bench, 0, sizeof(*bench));
	bench->world = sim_world_new(&config);
	bench->clock = sim_world_clock(bench->world);
	for (unsigned id = 1; id <= 3; id++)
		open_replica(bench, id);
}

static void bench_end(struct bench *bench)
{
	for (unsigned id = 1; id <= 3; id++)
		if (sim_has_process(bench->world, id))
			bench->fabric[id]->ops->close(bench->fabric[id]);
	sim_world_free(bench->world);
}

static enum mu_connection state(struct bench *bench, unsigned from, unsigned to)
{
	struct mu_fabric *fabric = bench->fabric[from];

	return fabric->ops->state(fabric, MU_PLANE_DATA, to);
}

static void connect_up(struct bench *bench, unsigned from, unsigned to)
{
	struct mu_fabric *fabric = bench->fabric[from];

	fabric->ops->connect(fabric, MU_PLANE_DATA, to);
	while (state(bench, from, to) != MU_CONNECTION_UP)
		assert_true(sim_clock_advance(bench->clock));
}

static int write_to(struct bench *bench, unsigned from, unsigned to, uint64_t offset,
		    const void *src, size_t len, uint64_t ballot, uint64_t cookie)
{
	struct mu_fabric *fabric = bench->fabric[from];

	return fabric->ops->post_write(fabric, MU_PLANE_DATA, to, MU_REGION_REPLICATION, offset,
				       src, len, ballot, cookie);
}

static void grant(struct bench *bench, unsigned by, unsigned to, uint64_t ballot)
{
	assert_int_equal(bench->fabric[by]->ops->grant_write(bench->fabric[by], to, ballot), 0);
}

static int revoke(struct bench *bench, unsigned by)
{
	return bench->fabric[by]->ops->revoke_write(bench->fabric[by]);
}

static int poll_one(struct bench *bench, unsigned id, struct mu_completion *completion)
{
	struct mu_fabric *fabric = bench->fabric[id];

	return fabric->ops->poll(fabric, MU_PLANE_DATA, completion, 1);
}

static struct mu_completion wait_one(struct bench *bench, unsigned id)
{
	struct mu_completion completion;

	/* A poll may overlook what is there, but not for ever. */
	for (unsigned idle = 0; poll_one(bench, id, &completion) == 0;) {
		idle += !sim_clock_advance(bench->clock);
		assert_true(idle < 100);
	}
	return completion;
}

static void run_dry(struct bench *bench)
{
	while (sim_clock_advance(bench->clock))
		;
}

static const uint8_t *replication(struct bench *bench, unsigned id)
{
	return sim_memory(bench->world, id, MU_REGION_REPLICATION);
}

/* ---------------------------------------------------------------------- tests */

/* F1, and F2 between two writes: a word that counts up is never seen to go back. */
static void test_operations_of_a_connection_keep_their_order(void **unused)
{
	(void)unused;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct mu_completion completion;
		uint64_t values[20][8], seen = 0, word;
		struct bench bench;
		unsigned taken = 0;

		bench_start(&bench, seed);
		connect_up(&bench, 1, 2);
		grant(&bench, 2, 1, BALLOT_1);
		memset(values, 0, sizeof(values));
		memset((void *)(uintptr_t)replication(&bench, 2), 0, 64);
		for (unsigned i = 0; i < 20; i++) {
			values[i][3] = i + 1;
			assert_int_equal(write_to(&bench, 1, 2, 0, values[i], 64, BALLOT_1, i), 0);
		}
		while (taken < 20) {
			assert_true(sim_clock_advance(bench.clock));
			memcpy(&word, replication(&bench, 2) + 24, 8);
			assert_true(word >= seen);
			seen = word;
			while (poll_one(&bench, 1, &completion) == 1) {
				assert_int_equal(completion.cookie, taken++);
				assert_int_equal(completion.status, MU_FABRIC_OK);
				assert_true(seen >= taken);
			}
		}
		bench_end(&bench);
	}
}

/* F2 and F6: pieces in any order, but each aligned word whole; F5: all of it in the end. */
static void test_a_write_lands_piecewise_in_whole_words(void **unused)
{
	unsigned torn = 0, last_first = 0;

	(void)unused;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t source[512];
		struct bench bench;

		memset(source, 0xc3, sizeof(source));
		bench_start(&bench, seed);
		connect_up(&bench, 1, 2);
		grant(&bench, 2, 1, BALLOT_1);
		assert_int_equal(write_to(&bench, 1, 2, 64, source, 512, BALLOT_1, 7), 0);
		while (bench.events[SIM_COMPLETE] == 0) {
			const uint8_t *target = replication(&bench, 2) + 64;
			unsigned landed = 0;

			for (unsigned i = 0; i < 512; i += 8) {
				landed += target[i] == 0xc3;
				for (unsigned k = 1; k < 8; k++)
					assert_int_equal(target[i], target[i + k]);
			}
			torn += landed > 0 && landed < 64;
			last_first += target[0] != 0xc3 && target[504] == 0xc3;
			assert_true(sim_clock_advance(bench.clock));
		}
		assert_memory_equal(replication(&bench, 2) + 64, source, 512);
		assert_int_equal(wait_one(&bench, 1).status, MU_FABRIC_OK);
		bench_end(&bench);
	}
	assert_true(torn > SEEDS / 4);
	assert_true(last_first > SEEDS / 20);
}

/* F3 and F8. */
static void test_a_write_without_permission_changes_nothing(void **unused)
{
	(void)unused;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t source[64] = {0}, before[REGION_BYTES];
		struct mu_completion completion;
		struct bench bench;

		bench_start(&bench, seed);
		connect_up(&bench, 1, 2);
		connect_up(&bench, 3, 2);
		grant(&bench, 2, 3, BALLOT_3);
		memcpy(before, replication(&bench, 2), REGION_BYTES);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(write_to(&bench, 1, 2, i * 64, source, 64, BALLOT_1, i),
					 0);
		completion = wait_one(&bench, 1);
		assert_int_equal(completion.status, MU_FABRIC_DENIED);
		assert_int_equal(completion.cookie, 0);
		assert_int_equal(state(&bench, 1, 2), MU_CONNECTION_DOWN);
		assert_int_equal(write_to(&bench, 1, 2, 0, source, 64, BALLOT_1, 9), -1);
		for (unsigned i = 1; i < 3; i++) {
			completion = wait_one(&bench, 1);
			assert_int_equal(completion.cookie, i);
			assert_int_equal(completion.status, MU_FABRIC_UNREACHABLE);
		}
		run_dry(&bench);
		assert_memory_equal(replication(&bench, 2), before, REGION_BYTES);
		connect_up(&bench, 1, 2);
		bench_end(&bench);
	}
}

/* F4, with the writer running, dead, or cut off, and after a grant to another. */
static void test_nothing_lands_behind_a_revocation(void **unused)
{
	unsigned cut_in_the_middle = 0, cut_late = 0;

	(void)unused;
	for (uint64_t seed = 0; seed < SEEDS * 4; seed++) {
		struct sim_random random = sim_random_stream(seed, 'T');
		uint8_t source[1024], frozen[REGION_BYTES];
		struct bench bench;
		unsigned fate;

		memset(source, 0xc3, sizeof(source));
		bench_start(&bench, seed);
		connect_up(&bench, 1, 2);
		connect_up(&bench, 3, 2);
		grant(&bench, 2, 1, BALLOT_1);
		for (unsigned i = 0; i < 3; i++)
			write_to(&bench, 1, 2, i * 1024, source, 1024, BALLOT_1, i);
		for (uint64_t i = sim_random_below(&random, 12); i > 0; i--)
			sim_clock_advance(bench.clock);
		fate = (unsigned)sim_random_below(&random, 3);
		if (fate == 1) {
			sim_crash_begin(bench.world, 1);
			sim_crash_end(bench.world, 1);
		} else if (fate == 2) {
			bench.fabric[1]->ops->disconnect(bench.fabric[1], MU_PLANE_DATA, 2);
		}
		for (uint64_t i = sim_random_below(&random, 4); i > 0; i--)
			sim_clock_advance(bench.clock);
		cut_late += bench.events[SIM_LATE] > 0;

		assert_int_equal(revoke(&bench, 2), 0);
		memcpy(frozen, replication(&bench, 2), REGION_BYTES);
		cut_in_the_middle += frozen[0] == 0xc3 || frozen[1016] == 0xc3;
		if (sim_random_chance(&random, 500))
			grant(&bench, 2, 3, BALLOT_3);
		run_dry(&bench);
		assert_memory_equal(replication(&bench, 2), frozen, REGION_BYTES);
		bench_end(&bench);
	}
	assert_true(cut_in_the_middle > SEEDS / 4);
	assert_true(cut_late > SEEDS / 40);
}

/* F7: also without an answer; the write may have landed. */
static void test_an_operation_ends_in_time(void **unused)
{
	unsigned landed = 0;

	(void)unused;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t source[64] = {0};
		struct bench bench;
		uint64_t posted_ns;

		bench_start(&bench, seed);
		connect_up(&bench, 1, 2);
		grant(&bench, 2, 1, BALLOT_1);
		posted_ns = bench.clock->now_ns;
		write_to(&bench, 1, 2, 0, source, 64, BALLOT_1, 0);
		if (seed % 3)
			sim_block(bench.world, 1, 2, true);
		if (seed % 3 != 1)
			sim_block(bench.world, 2, 1, true);
		assert_int_equal(wait_one(&bench, 1).status, MU_FABRIC_UNREACHABLE);
		assert_true(bench.completed_ns <= posted_ns + OP_TIMEOUT_NS);
		landed += replication(&bench, 2)[0] == 0;
		bench_end(&bench);
	}
	assert_int_equal(landed, (SEEDS + 2) / 3);
}

/* F8: what was posted before a connection came UP has no effect after it. */
static void test_nothing_old_lands_on_a_new_connection(void **unused)
{
	unsigned late = 0;

	(void)unused;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t source[64] = {0}, frozen[REGION_BYTES];
		struct bench bench;

		bench_start(&bench, seed);
		connect_up(&bench, 1, 2);
		grant(&bench, 2, 1, BALLOT_1);
		for (unsigned i = 0; i < 6; i++)
			write_to(&bench, 1, 2, i * 64, source, 64, BALLOT_1, i);
		sim_block(bench.world, 1, 2, true);
		wait_one(&bench, 1);
		sim_block(bench.world, 1, 2, false);
		memset(source, 0x77, sizeof(source)); /* it is ours again */
		connect_up(&bench, 1, 2);
		late += bench.events[SIM_LATE];
		memcpy(frozen, replication(&bench, 2), REGION_BYTES);
		for (unsigned i = 0; i < 64 * 6; i++)
			assert_int_not_equal(frozen[i], 0x77);
		run_dry(&bench);
		assert_memory_equal(replication(&bench, 2), frozen, REGION_BYTES);
		bench_end(&bench);
	}
	assert_true(late > SEEDS / 10);
}

/* F6: reads ask nobody. F1: a read behind a write sees it. */
static void test_reads_follow_writes(void **unused)
{
	(void)unused;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t source[256], got[256];
		struct bench bench;

		memset(source, 0xc3, sizeof(source));
		bench_start(&bench, seed);
		connect_up(&bench, 1, 2);
		grant(&bench, 2, 1, BALLOT_1);
		write_to(&bench, 1, 2, 32, source, 256, BALLOT_1, 1);
		assert_int_equal(bench.fabric[1]->ops->post_read(bench.fabric[1], MU_PLANE_DATA, 2,
								 MU_REGION_REPLICATION, 32, got,
								 256, 2),
				 0);
		assert_int_equal(wait_one(&bench, 1).cookie, 1);
		assert_int_equal(wait_one(&bench, 1).cookie, 2);
		assert_memory_equal(got, source, 256);
		bench_end(&bench);
	}
}

/* F9, and a death leaves no trace of what the test does to close down. */
static void test_memory_outlives_the_process_or_is_formatted(void **unused)
{
	(void)unused;
	for (uint64_t seed = 0; seed < 8; seed++) {
		struct bench bench;
		uint64_t ballot;
		uint8_t *own;

		bench_start(&bench, seed);
		own = bench.fabric[2]->ops->local(bench.fabric[2], MU_REGION_PRIVATE);
		own[100] = 1;
		connect_up(&bench, 1, 2);
		grant(&bench, 2, 1, BALLOT_1);
		sim_crash_begin(bench.world, 2);
		own[100] = 2;
		assert_int_equal(revoke(&bench, 2), -1);
		sim_crash_end(bench.world, 2);
		assert_int_equal(sim_holder(bench.world, 2, &ballot), seed & 1 ? 1 : 0);

		open_replica(&bench, 2);
		own = bench.fabric[2]->ops->local(bench.fabric[2], MU_REGION_PRIVATE);
		assert_int_equal(own[100], 1);
		assert_int_equal(own[101], MARK);

		bench.fabric[2]->ops->close(bench.fabric[2]);
		sim_lose_memory(bench.world, 2);
		assert_null(sim_memory(bench.world, 2, MU_REGION_PRIVATE));
		open_replica(&bench, 2);
		own = bench.fabric[2]->ops->local(bench.fabric[2], MU_REGION_PRIVATE);
		assert_int_equal(own[100], MARK);
		assert_int_equal(sim_holder(bench.world, 2, &ballot), 0);
		bench_end(&bench);
	}
}

static void expect_violation(struct bench *bench, void (*act)(struct bench *))
{
	jmp_buf back;

	bench->expects_violation = &back;
	if (setjmp(back) == 0) {
		act(bench);
		fail_msg("nothing was said");
	}
	bench->expects_violation = NULL;
}

static void grant_over_another(struct bench *bench)
{
	grant(bench, 2, 3, BALLOT_3);
}

static void grant_lower(struct bench *bench)
{
	assert_int_equal(revoke(bench, 2), 0);
	grant(bench, 2, 3, 0x3);
}

static void write_beyond_the_end(struct bench *bench)
{
	static const uint8_t source[64];

	write_to(bench, 1, 2, REGION_BYTES - 32, source, 64, BALLOT_1, 0);
}

static void test_a_caller_that_breaks_the_contract_is_told(void **unused)
{
	struct bench bench;

	(void)unused;
	bench_start(&bench, 1);
	connect_up(&bench, 1, 2);
	grant(&bench, 2, 1, BALLOT_1);
	grant(&bench, 2, 1, BALLOT_1); /* again: allowed */
	expect_violation(&bench, grant_over_another);
	expect_violation(&bench, write_beyond_the_end);
	expect_violation(&bench, grant_lower);
	bench_end(&bench);
}

static void change_a_source(struct bench *bench)
{
	static uint64_t source = 1;

	assert_int_equal(write_to(bench, 1, 2, 0, &source, 8, BALLOT_1, 0), 0);
	source = 2;
	run_dry(bench);
}

/* The source belongs to the fabric until the completion: bytes are taken when they land. */
static void test_a_source_that_changes_is_noticed(void **unused)
{
	struct bench bench;
	uint64_t landed;

	(void)unused;
	bench_start(&bench, 1);
	connect_up(&bench, 1, 2);
	grant(&bench, 2, 1, BALLOT_1);
	expect_violation(&bench, change_a_source);
	memcpy(&landed, replication(&bench, 2), 8);
	assert_int_equal(landed, 2);
	bench_end(&bench);
}

static uint64_t busy_run(uint64_t seed)
{
	uint8_t source[300] = {0};
	struct bench bench;
	uint64_t digest;

	bench_start(&bench, seed);
	connect_up(&bench, 1, 2);
	connect_up(&bench, 3, 2);
	grant(&bench, 2, 1, BALLOT_1);
	for (unsigned i = 0; i < 20; i++) {
		write_to(&bench, 1, 2, i, source, 300, BALLOT_1, i);
		write_to(&bench, 3, 2, i, source, 300, BALLOT_3, i);
		sim_clock_advance(bench.clock);
	}
	run_dry(&bench);
	digest = bench.digest;
	bench_end(&bench);
	return digest;
}

static void test_a_seed_repeats_its_run(void **unused)
{
	(void)unused;
	for (uint64_t seed = 0; seed < 50; seed++)
		assert_true(busy_run(seed) == busy_run(seed));
	assert_true(busy_run(1) != busy_run(9));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operations_of_a_connection_keep_their_order),
		cmocka_unit_test(test_a_write_lands_piecewise_in_whole_words),
		cmocka_unit_test(test_a_source_that_changes_is_noticed),
		cmocka_unit_test(test_a_write_without_permission_changes_nothing),
		cmocka_unit_test(test_nothing_lands_behind_a_revocation),
		cmocka_unit_test(test_an_operation_ends_in_time),
		cmocka_unit_test(test_nothing_old_lands_on_a_new_connection),
		cmocka_unit_test(test_reads_follow_writes),
		cmocka_unit_test(test_memory_outlives_the_process_or_is_formatted),
		cmocka_unit_test(test_a_caller_that_breaks_the_contract_is_told),
		cmocka_unit_test(test_a_seed_repeats_its_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
