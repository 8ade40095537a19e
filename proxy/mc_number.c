/* mc_number.c - numbers as memcached reads them; see mc_parser.h. */
#include "mc_parser.h"

#include <ctype.h>
#include <string.h>

/*
 * A number as strtol(3) reads it, if nothing but blanks follows: a sign is
 * allowed even where it makes no sense. False: no number, or above 2^64 - 1.
 */
static bool read_number(struct mp_slice word, bool *negative, uint64_t *magnitude)
{
	const char *s = word.data, *end = s + word.len;
	const char *digits;
	uint64_t n = 0;

	while (s < end && isspace((unsigned char)*s))
		s++;
	*negative = s < end && *s == '-';
	if (s < end && (*s == '-' || *s == '+'))
		s++;
	for (digits = s; s < end && *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*s - '0'), &n))
			return false;
	*magnitude = n;
	return s > digits && (s == end || isspace((unsigned char)*s));
}

/* As C's conversions to unsigned do: -1 is the greatest number, which is refused; -0 is 0. */
bool mc_read_u64(struct mp_slice word, uint64_t *value)
{
	bool negative;
	uint64_t n;

	if (!read_number(word, &negative, &n))
		return false;
	*value = negative ? 0 - n : n;
	return (int64_t)*value >= 0 || !memchr(word.data, '-', word.len);
}

bool mc_read_u32(struct mp_slice word, uint32_t *value)
{
	uint64_t wide;

	if (!mc_read_u64(word, &wide))
		return false;
	*value = (uint32_t)wide;
	return true;
}

bool mc_read_i32(struct mp_slice word, int32_t *value)
{
	bool negative;
	uint64_t n;

	if (!read_number(word, &negative, &n) || n > (uint64_t)INT64_MAX + negative)
		return false;
	*value = (int32_t)(uint32_t)(negative ? 0 - n : n);
	return true;
}
