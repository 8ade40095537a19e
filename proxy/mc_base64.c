/* mc_base64.c - see mc_base64.h. */
#include "mc_base64.h"

#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t mc_base64_encode(struct mp_slice in, char *out)
{
	const unsigned char *s = (const unsigned char *)in.data;
	size_t len = 0;

	for (size_t i = 0; i < in.len; i += 3) {
		size_t left = in.len - i;
		uint32_t bits = (uint32_t)s[i] << 16;

		if (left > 1)
			bits |= (uint32_t)s[i + 1] << 8;
		if (left > 2)
			bits |= s[i + 2];
		out[len++] = alphabet[bits >> 18];
		out[len++] = alphabet[bits >> 12 & 63];
		out[len++] = left > 1 ? alphabet[bits >> 6 & 63] : '=';
		out[len++] = left > 2 ? alphabet[bits & 63] : '=';
	}
	return len;
}

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Bytes that are no digits are passed over, as memcached does. */
size_t mc_base64_decode(struct mp_slice in, char *out)
{
	size_t len = 0, digits = 0, padding = 0;
	uint32_t bits = 0;

	for (size_t i = 0; i < in.len; i++) {
		int value = in.data[i] == '=' ? 0 : digit(in.data[i]);

		if (value < 0)
			continue;
		if (in.data[i] == '=')
			padding++;
		else if (padding > 0)
			return 0;
		bits = bits << 6 | (uint32_t)value;
		if (++digits % 4 != 0)
			continue;
		out[len++] = (char)(bits >> 16 & 255);
		out[len++] = (char)(bits >> 8 & 255);
		out[len++] = (char)(bits & 255);
	}
	if (digits == 0 || digits % 4 != 0 || padding > 2)
		return 0;
	return len - padding;
}
