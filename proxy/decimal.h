/* decimal.h - numbers to text. */
#ifndef MP_DECIMAL_H
#define MP_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

#define MP_DECIMAL_BYTES 20

/* To out, which has MP_DECIMAL_BYTES of room. Not terminated; returns the length. */
static inline size_t mp_format_u64(char *out, uint64_t value)
{
	char digits[MP_DECIMAL_BYTES];
	size_t count = 0, len = 0;

	do {
		digits[count++] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	while (count > 0)
		out[len++] = digits[--count];
	return len;
}

static inline size_t mp_format_i64(char *out, int64_t value)
{
	if (value >= 0)
		return mp_format_u64(out, (uint64_t)value);
	out[0] = '-';
	return 1 + mp_format_u64(out + 1, 0 - (uint64_t)value);
}
#endif
