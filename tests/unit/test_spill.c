/* test_spill.c - bytes that wait in files. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "spill.h"

enum { MIB = 1 << 20 };

/* Takes the oldest bytes, and looks whether they are what comes next. */
static void take(struct mp_spill *spill, unsigned char *next)
{
	struct mp_buffer buffer = {0};

	assert_true(mp_spill_take(spill, &buffer));
	assert_true(mp_buffer_len(&buffer) > 0);
	for (size_t i = 0; i < mp_buffer_len(&buffer); i++)
		assert_int_equal((unsigned char)mp_buffer_data(&buffer)[i], (*next)++);
	mp_buffer_free(&buffer);
}

static void bytes_come_out_in_order(void **state)
{
	struct mp_spills spills = {.directory = "/var/tmp", .most_bytes = 64 * MIB};
	struct mp_spill *spill = mp_spill_open(&spills);
	static unsigned char piece[3 * MIB];
	unsigned char next_in = 0, next_out = 0;
	unsigned seed = 1;

	(void)state;
	assert_non_null(spill);
	for (int round = 0; round < 200; round++) {
		size_t len = (size_t)rand_r(&seed) % sizeof(piece);
		uint64_t before = mp_spill_len(spill);

		if (before > 20 * MIB || (before > 0 && rand_r(&seed) % 2)) {
			take(spill, &next_out);
			continue;
		}
		for (size_t i = 0; i < len; i++)
			piece[i] = next_in++;
		assert_true(mp_spill_append(spill, (struct mp_slice){(char *)piece, len}));
		assert_int_equal(mp_spill_len(spill), before + len);
		assert_int_equal(spills.bytes, mp_spill_len(spill));
	}
	while (mp_spill_len(spill) > 0)
		take(spill, &next_out);
	assert_int_equal(next_in, next_out);
	mp_spill_close(spill);
	assert_int_equal(spills.bytes, 0);
}

/* Of all of them together; who is refused has lost nothing. */
static void they_are_bounded(void **state)
{
	struct mp_spills spills = {.directory = "/var/tmp", .most_bytes = 3 * MIB};
	struct mp_spill *one = mp_spill_open(&spills), *other = mp_spill_open(&spills);
	static char bytes[2 * MIB];

	(void)state;
	assert_true(mp_spill_append(one, (struct mp_slice){bytes, 2 * MIB}));
	assert_false(mp_spill_append(other, (struct mp_slice){bytes, MIB + 1}));
	assert_int_equal(errno, EDQUOT);
	assert_int_equal(mp_spill_len(other), 0);
	assert_true(mp_spill_append(other, (struct mp_slice){bytes, MIB}));
	mp_spill_close(one);
	assert_true(mp_spill_append(other, (struct mp_slice){bytes, 2 * MIB}));
	assert_int_equal(spills.bytes, 3 * MIB);
	mp_spill_close(other);
	assert_int_equal(spills.bytes, 0);
	spills.most_bytes = 0;
	assert_null(mp_spill_open(&spills));
}

static void what_is_taken_takes_no_room(void **state)
{
	struct mp_spills spills = {.directory = "/var/tmp", .most_bytes = 64 * MIB};
	struct mp_spill *spill = mp_spill_open(&spills);
	struct mp_buffer buffer = {0};
	static char bytes[16 * MIB];
	struct stat before, after;

	(void)state;
	memset(bytes, 'b', sizeof(bytes));
	assert_true(mp_spill_append(spill, (struct mp_slice){bytes, sizeof(bytes)}));
	assert_int_equal(fstat(spill->fd, &before), 0);
	assert_int_equal(before.st_nlink, 0);
	if (fallocate(spill->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 15 * MIB, 1) != 0)
		skip(); /* not on this file system */
	for (int n = 0; n < 12; n++)
		assert_true(mp_spill_take(spill, &buffer));
	assert_int_equal(fstat(spill->fd, &after), 0);
	/* In blocks of 512. */
	assert_true(after.st_blocks <= before.st_blocks - 12 * MIB / 512);
	assert_int_equal(mp_buffer_len(&buffer), 12 * MIB);
	mp_buffer_free(&buffer);
	mp_spill_close(spill);
}

static void there_has_to_be_a_place(void **state)
{
	struct mp_spills spills = {.directory = "/nonexistent", .most_bytes = MIB};

	(void)state;
	assert_null(mp_spill_open(&spills));
	assert_int_equal(errno, ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_out_in_order),
		cmocka_unit_test(they_are_bounded),
		cmocka_unit_test(what_is_taken_takes_no_room),
		cmocka_unit_test(there_has_to_be_a_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
