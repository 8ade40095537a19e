/* The log's entries and lines: what counts as one, and what does not (consensus/log.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "log.h"

#define RING_BYTES 4096
#define MAX_ENTRY 448
/* Some more, for what is sealed across the ring's end. */
#define REGION_BYTES (MU_RING_OFFSET + RING_BYTES + 4096)

static struct mu_config config;
static struct mu_ring ring;
static uint8_t *region;

static int set_up(void **state)
{
	(void)state;
	mu_config_init(&config);
	config.ring_bytes = RING_BYTES;
	config.max_entry_bytes = MAX_ENTRY;
	memset(config.checksum_key, 1, sizeof(config.checksum_key));
	region = aligned_alloc(64, REGION_BYTES);
	assert_non_null(region);
	memset(region, 0, REGION_BYTES);
	mu_ring_init(&ring, &config, region);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(region);
	return 0;
}

/* An entry of a payload that begins with its length, behind `previous`. */
static struct mu_position write_entry(const struct mu_position *previous, uint64_t ballot,
				      enum mu_kind kind, uint32_t length)
{
	struct mu_entry_header *entry = mu_ring_at(&ring, previous->end);
	struct mu_position position;

	*entry = (struct mu_entry_header){
		.lsn = previous->end,
		.ballot = ballot,
		.commit_lsn = previous->lsn,
		.prev_checksum = previous->checksum,
		.prev_lsn = previous->lsn,
		.length = length,
		.kind = (uint8_t)kind,
	};
	if (kind != MU_KIND_SKIP)
		memset(entry + 1, (int)length, length);
	mu_entry_seal(&ring, entry);
	mu_ring_position(&ring, previous->end, &position);
	return position;
}

static struct mu_position write_genesis(uint64_t nonce)
{
	struct mu_position position;

	mu_ring_genesis(&ring, 0, nonce);
	assert_true(mu_ring_entry(&ring, 0, &position));
	return position;
}

static void test_an_entry_is_what_was_written(void **state)
{
	struct mu_position genesis = write_genesis(7), found;
	struct mu_position written = write_entry(&genesis, 0x101, MU_KIND_APPLICATION, 100);

	(void)state;
	assert_int_equal(genesis.end, 64);
	assert_true(mu_ring_next(&ring, &genesis, &found));
	assert_memory_equal(&found, &written, sizeof(found));
	assert_int_equal(found.lsn, 64);
	assert_int_equal(found.end, 64 + 64 + 128); /* 100 bytes take two lines */
	assert_int_equal(found.ballot, 0x101);
	assert_false(mu_ring_next(&ring, &written, &found));
}

static void test_an_entry_is_valid_at_its_own_lsn_alone(void **state)
{
	struct mu_position genesis = write_genesis(7), found;
	struct mu_position written = write_entry(&genesis, 0x101, MU_KIND_APPLICATION, 100);

	(void)state;
	/* The same place, a round later: nobody has zeroed it, and it is no entry. */
	assert_false(mu_ring_entry(&ring, written.lsn + RING_BYTES, &found));
	assert_false(mu_ring_entry(&ring, written.lsn + 64, &found));
}

static void test_any_bit_that_differs_makes_it_invalid(void **state)
{
	struct mu_position genesis = write_genesis(7), found;
	struct mu_position written = write_entry(&genesis, 0x101, MU_KIND_APPLICATION, 100);
	uint8_t *bytes = (uint8_t *)mu_ring_at(&ring, written.lsn);

	(void)state;
	for (unsigned bit = 0; bit < 8 * (64 + 100); bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (mu_ring_entry(&ring, written.lsn, &found))
			fail_msg("valid with bit %u of byte %u flipped", bit % 8, bit / 8);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(mu_ring_entry(&ring, written.lsn, &found));
}

static void test_what_is_out_of_bounds_is_no_entry(void **state)
{
	struct mu_position genesis = write_genesis(7), found;
	struct mu_entry_header *entry;
	struct mu_position near_end = {.lsn = 0, .end = RING_BYTES - 128};

	(void)state;
	write_entry(&genesis, 0x101, MU_KIND_APPLICATION, MAX_ENTRY);
	assert_true(mu_ring_entry(&ring, 64, &found));
	write_entry(&genesis, 0x101, MU_KIND_APPLICATION, MAX_ENTRY + 1);
	assert_false(mu_ring_entry(&ring, 64, &found));
	/* Across the ring's end, though it is sealed well. */
	write_entry(&near_end, 0x101, MU_KIND_APPLICATION, 64);
	assert_true(mu_ring_entry(&ring, near_end.end, &found));
	write_entry(&near_end, 0x101, MU_KIND_APPLICATION, 65);
	assert_false(mu_ring_entry(&ring, near_end.end, &found));
	/* Nothing behind it can have been committed when it was written. */
	entry = mu_ring_at(&ring, 64);
	*entry = (struct mu_entry_header){
		.lsn = 64, .commit_lsn = 128, .kind = MU_KIND_APPLICATION, .length = 8};
	mu_entry_seal(&ring, entry);
	assert_false(mu_ring_entry(&ring, 64, &found));
	entry->commit_lsn = 64;
	mu_entry_seal(&ring, entry);
	assert_true(mu_ring_entry(&ring, 64, &found));
}

static void test_a_piece_that_is_too_short_is_told_from_a_log_that_ends(void **state)
{
	struct mu_position genesis = write_genesis(7), found;
	struct mu_position written = write_entry(&genesis, 0x101, MU_KIND_APPLICATION, 100);
	const struct mu_entry_header *entry = mu_ring_at(&ring, written.lsn);
	bool short_of = false;

	(void)state;
	assert_false(mu_entry_valid(&ring, entry, 64, 63, &found, &short_of));
	assert_true(short_of);
	assert_false(mu_entry_valid(&ring, entry, 64, 64 + 127, &found, &short_of));
	assert_true(short_of);
	assert_false(mu_entry_valid(&ring, entry, 64, 64 + 127, &found, NULL));
	assert_true(mu_entry_valid(&ring, entry, 64, 64 + 128, &found, &short_of));
	assert_false(short_of);
	assert_false(mu_entry_valid(&ring, entry, 128, 64 + 128, &found, &short_of));
	assert_false(short_of);
}

static void test_what_may_follow(void **state)
{
	struct mu_position genesis = write_genesis(7);
	struct mu_position first = write_entry(&genesis, 0x201, MU_KIND_LEADER, 16);
	struct mu_position second = write_entry(&first, 0x201, MU_KIND_APPLICATION, 8), other;

	(void)state;
	assert_true(mu_entry_follows(&first, &second));
	other = second;
	other.ballot = 0x302;
	assert_true(mu_entry_follows(&first, &other));
	other.ballot = 0x102;
	assert_false(mu_entry_follows(&first, &other));
	other = second;
	other.prev_lsn--;
	assert_false(mu_entry_follows(&first, &other));
	other = second;
	other.prev_checksum++;
	assert_false(mu_entry_follows(&first, &other));
}

static void test_leftovers_behind_another_entry_are_no_tail(void **state)
{
	struct mu_position genesis = write_genesis(7), found;
	struct mu_position old = write_entry(&genesis, 0x101, MU_KIND_APPLICATION, 16);
	struct mu_position left = write_entry(&old, 0x101, MU_KIND_APPLICATION, 16);
	struct mu_position newer = write_entry(&genesis, 0x202, MU_KIND_LEADER, 16);

	(void)state;
	assert_int_equal(newer.end, left.lsn);
	assert_true(mu_ring_entry(&ring, left.lsn, &found));
	assert_false(mu_ring_next(&ring, &newer, &found));
}

static void test_a_skip_reaches_to_the_end_and_covers_no_payload(void **state)
{
	struct mu_position genesis = write_genesis(7), found, behind;
	struct mu_position skip = write_entry(&genesis, 0x101, MU_KIND_SKIP, 0);

	(void)state;
	assert_int_equal(skip.end, RING_BYTES);
	memset(ring.base + 128, 0xff, 64);
	assert_true(mu_ring_next(&ring, &genesis, &found));
	assert_int_equal(found.end, RING_BYTES);
	behind = write_entry(&skip, 0x101, MU_KIND_APPLICATION, 16);
	assert_int_equal(behind.lsn, RING_BYTES);
	assert_true(mu_ring_next(&ring, &skip, &found));
	/* It stands where the genesis entry stood. */
	assert_false(mu_ring_entry(&ring, 0, &found));
}

static void test_nobody_without_the_key_can_make_an_entry(void **state)
{
	struct mu_position genesis = write_genesis(7), found;

	(void)state;
	write_entry(&genesis, 0x101, MU_KIND_APPLICATION, 100);
	config.checksum_key[31] ^= 1;
	mu_ring_init(&ring, &config, region);
	assert_false(mu_ring_entry(&ring, 64, &found));
}

static void test_cold_starts_of_different_nonces_share_nothing(void **state)
{
	struct mu_position one = write_genesis(7), found;
	struct mu_position left = write_entry(&one, 0x101, MU_KIND_APPLICATION, 16);
	struct mu_position two = write_genesis(8);

	(void)state;
	assert_int_not_equal(one.checksum, two.checksum);
	assert_true(mu_ring_entry(&ring, left.lsn, &found));
	assert_false(mu_ring_next(&ring, &two, &found));
}

static void test_lines(void **state)
{
	struct mu_line line = {{1, 2, 3, 4, 5, 6, 7}, 0}, shared = {{0}, 0}, copy;

	(void)state;
	assert_false(mu_line_read(&copy, &shared)); /* never written */
	mu_line_publish(&shared, &line);
	assert_true(mu_line_read(&copy, &shared));
	assert_memory_equal(copy.word, line.word, sizeof(line.word));
	for (unsigned i = 0; i < 7; i++) { /* torn: one word is of another version */
		shared.word[i]++;
		assert_false(mu_line_read(&copy, &shared));
		shared.word[i]--;
	}
	shared.check++;
	assert_false(mu_line_read(&copy, &shared));
	mu_line_seal(&shared);
	assert_true(mu_line_intact(&shared));
}

/* Another processor's replica computes it otherwise: the log would not be one. */
static void test_the_hash_is_the_same_however_it_is_computed(void **state)
{
	static uint8_t bytes[5000];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 167 >> 3);
	for (size_t length = 0; length < sizeof(bytes) - 8; length++) {
		const uint8_t *at = bytes + length % 8;

		assert_int_equal(mu_hash(at, length, ring.secret),
				 mu_hash_portable(at, length, ring.secret));
	}
}

/* A header alone says where the log goes on, whatever has become of the payload... */
static void test_a_header_alone(void **state)
{
	struct mu_position first, second, at;

	(void)state;
	mu_ring_genesis(&ring, 0, 7);
	assert_true(mu_ring_entry(&ring, 0, &first));
	second = write_entry(&first, 257, MU_KIND_APPLICATION, 100);
	((uint8_t *)(mu_ring_at(&ring, second.lsn) + 1))[50] ^= 1;
	assert_false(mu_ring_entry(&ring, second.lsn, &at));
	assert_true(mu_ring_header(&ring, second.lsn, &at));
	assert_int_equal(at.end, second.end);
	assert_true(mu_entry_follows(&first, &at));

	/* ...but who does not know the predecessor's checksum cannot have made it. */
	mu_ring_at(&ring, second.lsn)->prev_checksum ^= 1;
	assert_true(mu_ring_header(&ring, second.lsn, &at));
	assert_false(mu_entry_follows(&first, &at));

	mu_ring_at(&ring, second.lsn)->lsn += RING_BYTES;
	assert_false(mu_ring_header(&ring, second.lsn, &at));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_entry_is_what_was_written),
		TEST(test_an_entry_is_valid_at_its_own_lsn_alone),
		TEST(test_any_bit_that_differs_makes_it_invalid),
		TEST(test_what_is_out_of_bounds_is_no_entry),
		TEST(test_a_piece_that_is_too_short_is_told_from_a_log_that_ends),
		TEST(test_what_may_follow),
		TEST(test_leftovers_behind_another_entry_are_no_tail),
		TEST(test_a_skip_reaches_to_the_end_and_covers_no_payload),
		TEST(test_nobody_without_the_key_can_make_an_entry),
		TEST(test_cold_starts_of_different_nonces_share_nothing),
		TEST(test_lines),
		TEST(test_the_hash_is_the_same_however_it_is_computed),
		TEST(test_a_header_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
