/* test_memcached_digest.c - lists of keys, and what is said of an item compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "memcached_digest_judge.h"
#include "memcached_keys.h"

static struct memcached_verdict judge(const struct memcached_word words[3], unsigned answers)
{
	const struct memcached_word *word[MU_ID_SLOTS] = {NULL};

	for (unsigned i = 0; i < answers; i++)
		word[i + 1] = &words[i];
	return memcached_judge(word);
}

static void test_same(void **state)
{
	const struct memcached_word none[3] = {{0}}, same[3] = {{7, 100}, {7, 105}, {7, 103}},
				    evicted[3] = {{7, 0}, {0}, {7, 0}}, one[3] = {{0}, {7, 9}, {0}};

	(void)state;
	assert_false(judge(none, 3).differs);
	assert_false(judge(same, 3).differs);
	assert_false(judge(evicted, 3).differs);
	assert_false(judge(one, 3).differs);
	assert_false(judge(same, 0).differs);
}

static void expect(const struct memcached_word words[3], unsigned answers, bool has_majority,
		   uint32_t wrong)
{
	struct memcached_verdict verdict = judge(words, answers);

	assert_true(verdict.differs);
	assert_int_equal(verdict.has_majority, has_majority);
	assert_int_equal(verdict.wrong, wrong);
}

static void test_different(void **state)
{
	const struct memcached_word value[3] = {{7, 0}, {8, 0}, {7, 0}},
				    deadline[3] = {{7, 100}, {7, 100}, {7, 106}},
				    none[3] = {{7, 0}, {7, 100}, {7, 100}},
				    two[3] = {{7, 0}, {0}, {8, 0}},
				    all[3] = {{7, 0}, {8, 0}, {9, 0}};

	(void)state;
	expect(value, 3, true, 1 << 2);
	expect(deadline, 3, true, 1 << 3);
	expect(none, 3, true, 1 << 1);
	expect(value, 2, false, 1 << 1 | 1 << 2);
	expect(two, 3, false, 1 << 1 | 1 << 3);
	expect(all, 3, false, 1 << 1 | 1 << 2 | 1 << 3);
}

static void test_lists(void **state)
{
	struct mp_buffer list = {0};
	struct mp_slice rest, key;

	(void)state;
	assert_true(memcached_keys_put(&list, mp_slice_of("a")));
	assert_true(memcached_keys_put(&list, (struct mp_slice){"b\0 c", 4}));
	rest = mp_buffer_slice(&list);
	assert_true(memcached_keys_next(&rest, &key));
	assert_true(mp_slice_is(key, "a"));
	assert_true(memcached_keys_next(&rest, &key));
	assert_true(mp_slice_equal(key, (struct mp_slice){"b\0 c", 4}));
	assert_false(memcached_keys_next(&rest, &key));
	mp_buffer_free(&list);
}

static void test_what_is_no_list(void **state)
{
	static const struct mp_slice bad[] = {{"", 0}, {"\0a", 2}, {"\2a", 2}, {"\373aaa", 4}};
	struct mp_slice rest, key;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rest = bad[i];
		assert_false(memcached_keys_next(&rest, &key));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_different),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_what_is_no_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
