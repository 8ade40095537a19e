/* conf_value.c - see conf_value.h. */
#include "config.h"

#include "conf_value.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit bytes_units[] = {
	{"", 1}, {"K", 1ULL << 10}, {"M", 1ULL << 20}, {"G", 1ULL << 30}, {NULL, 0},
};
static const struct unit time_units[] = {
	{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000}, {NULL, 0},
};

/* A whole number followed by a unit, no spaces, in range of 64 bits. */
static bool parse_with_unit(const char *text, const struct unit *unit, uint64_t *value)
{
	unsigned long long number;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno)
		return false;
	for (; unit->name; unit++) {
		if (strcmp(end, unit->name) == 0)
			return !__builtin_mul_overflow(number, unit->factor, value);
	}
	return false;
}

bool conf_parse_count(const char *text, uint64_t *value, char *err, size_t err_bytes)
{
	static const struct unit none[] = {{"", 1}, {NULL, 0}};
	uint64_t number;

	if (!parse_with_unit(text, none, &number)) {
		snprintf(err, err_bytes, "'%s' is not a whole number", text);
		return false;
	}
	*value = number;
	return true;
}

bool conf_parse_bytes(const char *text, uint64_t *value, char *err, size_t err_bytes)
{
	uint64_t number;

	if (!parse_with_unit(text, bytes_units, &number)) {
		snprintf(err, err_bytes,
			 "'%s' is not a number of bytes such as 65536, 64K, 16M or 1G", text);
		return false;
	}
	*value = number;
	return true;
}

bool conf_parse_ns(const char *text, uint64_t *value, char *err, size_t err_bytes)
{
	uint64_t number = 0;

	if (strcmp(text, "0") != 0 && !parse_with_unit(text, time_units, &number)) {
		snprintf(err, err_bytes,
			 "'%s' is not a time with its unit, such as 500us, 20ms, 5s or 1m", text);
		return false;
	}
	*value = number;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool conf_parse_key(const char *text, uint8_t key[32], char *err, size_t err_bytes)
{
	uint8_t parsed[32];
	size_t i;

	for (i = 0; i < 64; i++) {
		int digit = hex_digit(text[i]);

		/* Also where the text ends early: NUL is no digit. */
		if (digit < 0)
			break;
		parsed[i / 2] = (uint8_t)(i % 2 ? parsed[i / 2] | digit : digit << 4);
	}
	if (i != 64 || text[64] != '\0') {
		/* The text itself is not repeated: it may be most of the secret. */
		snprintf(err, err_bytes, "not 64 hexadecimal digits (try: openssl rand -hex 32)");
		return false;
	}
	memcpy(key, parsed, sizeof(parsed));
	return true;
}

bool conf_parse_word(const char *text, const char *const *words, uint64_t *value, char *err,
		     size_t err_bytes)
{
	size_t i, n;

	for (i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0) {
			*value = i;
			return true;
		}
	}
	n = (size_t)snprintf(err, err_bytes, "'%s' is not one of:", text);
	for (i = 0; words[i] && n < err_bytes; i++)
		n += (size_t)snprintf(err + n, err_bytes - n, " %s", words[i]);
	return false;
}
