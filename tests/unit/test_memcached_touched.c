/* test_memcached_touched.c - the set of keys that a fill leaves alone, up to its bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "memcached_touched.h"

static bool has(const struct mp_touched *touched, const char *key)
{
	char line[64];

	snprintf(line, sizeof(line), "ms %s 1 ME F0 T0\r\n", key);
	return mp_touched_has(touched, mp_slice_of(line));
}

static void note(struct mp_touched *touched, unsigned n)
{
	char command[64];

	snprintf(command, sizeof(command), "delete key-%u\r\n", n);
	mp_touched_note(touched, mp_slice_of(command));
}

static void test_commands(void **state)
{
	struct mp_touched touched = {0};

	(void)state;
	mp_touched_note(&touched, mp_slice_of("delete before\r\n")); /* not in use yet */
	assert_true(mp_touched_open(&touched));
	mp_touched_note(&touched, mp_slice_of("set a 0 0 8\r\ndelete b\r\nms Yw== 1 b T0\r\nx\r\n"
					      "gat 100 d\r\nverbosity 1\r\n"));
	assert_true(has(&touched, "a"));
	assert_false(has(&touched, "b")); /* a's value */
	assert_true(has(&touched, "c"));
	assert_true(has(&touched, "d"));
	assert_false(has(&touched, "before"));
	assert_null(touched.all);
	mp_touched_note(&touched, mp_slice_of("flush_all 0\r\n"));
	assert_non_null(touched.all);
	assert_true(has(&touched, "b"));
	mp_touched_close(&touched);
}

/* As many as there may be, and one more. */
static void test_bound(void **state)
{
	struct mp_touched touched = {0};

	(void)state;
	assert_true(mp_touched_open(&touched));
	for (unsigned n = 0; n < MP_TOUCHED_MAX; n++)
		note(&touched, n);
	assert_null(touched.all);
	assert_int_equal(touched.count, MP_TOUCHED_MAX);
	assert_false(has(&touched, "other"));
	note(&touched, 7);
	assert_null(touched.all);
	note(&touched, MP_TOUCHED_MAX);
	assert_string_equal(touched.all, "too many keys were written meanwhile");
	assert_true(has(&touched, "other"));
	note(&touched, MP_TOUCHED_MAX + 1);
	assert_int_equal(touched.count, MP_TOUCHED_MAX);
	assert_true(touched.cap <= 2 * MP_TOUCHED_MAX * 2);
	mp_touched_close(&touched);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
