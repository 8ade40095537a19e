/* test_group_key.c - keys made of the group's key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "group_key.h"

/* RFC 5869, appendix A.1: what is expanded, and the first block of what comes of it. */
static const uint8_t prk[GROUP_KEY_BYTES] = {0x07, 0x77, 0x09, 0x36, 0x2c, 0x2e, 0x32, 0xdf,
					     0x0d, 0xdc, 0x3f, 0x0d, 0xc4, 0x7b, 0xba, 0x63,
					     0x90, 0xb6, 0xc7, 0x3b, 0xb5, 0x0f, 0x9c, 0x31,
					     0x22, 0xec, 0x84, 0x4a, 0xd7, 0xc2, 0xb3, 0xe5};
static const uint8_t info[] = {0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9};
static const uint8_t okm[GROUP_KEY_BYTES] = {0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a,
					     0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36, 0x2f, 0x2a,
					     0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c,
					     0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf};

static void it_is_that_of_the_rfc(void **state)
{
	uint8_t out[GROUP_KEY_BYTES];

	(void)state;
	assert_true(group_key_expand(prk, info, sizeof(info), out));
	assert_memory_equal(out, okm, sizeof(out));
}

static void each_use_has_another(void **state)
{
	uint8_t one[GROUP_KEY_BYTES], other[GROUP_KEY_BYTES], key[GROUP_KEY_BYTES];

	(void)state;
	assert_true(group_key_expand(prk, "log", 3, one));
	assert_true(group_key_expand(prk, "lo", 2, other));
	assert_memory_not_equal(one, other, sizeof(one));
	assert_memory_not_equal(one, prk, sizeof(one));
	memcpy(key, prk, sizeof(key));
	key[31] ^= 1;
	assert_true(group_key_expand(key, "log", 3, other));
	assert_memory_not_equal(one, other, sizeof(one));
}

static void what_is_too_long_is_refused(void **state)
{
	static const uint8_t long_info[129];
	uint8_t out[GROUP_KEY_BYTES];

	(void)state;
	assert_true(group_key_expand(prk, long_info, 128, out));
	assert_false(group_key_expand(prk, long_info, 129, out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_that_of_the_rfc),
		cmocka_unit_test(each_use_has_another),
		cmocka_unit_test(what_is_too_long_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
