/* redis_wire.c - see redis_wire.h. */
#include "redis_wire.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decimal.h"
#include "resp.h"

static const char set_applied_head[] = "*3\r\n$3\r\nSET\r\n$15\r\n" REDIS_APPLIED_KEY "\r\n$57\r\n";
static_assert(sizeof(REDIS_APPLIED_KEY) - 1 == 15, "the length is in the template");
static_assert(sizeof(set_applied_head) - 1 + REDIS_APPLIED_BYTES + 2 == REDIS_SET_APPLIED_BYTES,
	      "the template, the value, and its end of line");

/* digits: how many; base 10 or 16. */
static void put_number(char *out, int digits, unsigned base, uint64_t number)
{
	while (digits-- > 0) {
		out[digits] = "0123456789abcdef"[number % base];
		number /= base;
	}
}

void redis_put_applied(char out[REDIS_APPLIED_BYTES], const struct redis_applied *applied)
{
	memcpy(out, "v2 ", 3);
	put_number(out + 3, 16, 16, applied->group_id);
	out[19] = ' ';
	put_number(out + 20, 16, 16, applied->era);
	out[36] = ' ';
	put_number(out + 37, 20, 10, applied->lsn);
}

void redis_put_set_applied(char out[REDIS_SET_APPLIED_BYTES], const struct redis_applied *applied)
{
	size_t head = sizeof(set_applied_head) - 1;

	memcpy(out, set_applied_head, head);
	redis_put_applied(out + head, applied);
	memcpy(out + head + REDIS_APPLIED_BYTES, "\r\n", 2);
}

static bool get_number(const char *text, int digits, unsigned base, uint64_t *number)
{
	int i;

	*number = 0;
	for (i = 0; i < digits; i++) {
		const char *all = "0123456789abcdef";
		const char *digit = memchr(all, text[i], base);

		if (!digit)
			return false;
		*number = *number * base + (uint64_t)(digit - all);
	}
	return true;
}

bool redis_get_applied(struct mp_slice value, struct redis_applied *applied, bool *failed)
{
	size_t mark = sizeof(REDIS_FAILED_MARK) - 1;

	*failed = value.len == REDIS_APPLIED_BYTES + mark &&
		  memcmp(value.data + REDIS_APPLIED_BYTES, REDIS_FAILED_MARK, mark) == 0;
	if (value.len != REDIS_APPLIED_BYTES && !*failed)
		return false;
	return memcmp(value.data, "v2 ", 3) == 0 && value.data[19] == ' ' &&
	       value.data[36] == ' ' && get_number(value.data + 3, 16, 16, &applied->group_id) &&
	       get_number(value.data + 20, 16, 16, &applied->era) &&
	       get_number(value.data + 37, 20, 10, &applied->lsn);
}

bool redis_put_request(struct mp_buffer *out, int argc, const struct mp_slice *argv)
{
	size_t len = resp_encode(NULL, 0, argc, argv);
	char *room = mp_buffer_reserve(out, len);

	if (!room)
		return false;
	resp_encode(room, len, argc, argv);
	mp_buffer_commit(out, len);
	return true;
}

size_t redis_put_select(char out[REDIS_SELECT_BYTES], uint32_t database)
{
	char digits[MP_DECIMAL_BYTES];
	size_t n = mp_format_u64(digits, database);
	static const char head[] = "*2\r\n$6\r\nSELECT\r\n$";
	size_t len = sizeof(head) - 1;

	assert(n < 10);
	memcpy(out, head, len);
	out[len++] = (char)('0' + n);
	memcpy(out + len, "\r\n", 2);
	memcpy(out + len + 2, digits, n);
	memcpy(out + len + 2 + n, "\r\n", 2);
	return len + n + 4;
}

/* A header line "<type><number>\r\n" at *pos, which moves behind it. */
static bool take_header(struct mp_slice bytes, size_t *pos, char type, int64_t *number)
{
	const char *start = bytes.data + *pos, *end;
	size_t left = bytes.len - *pos;

	if (left < 4 || start[0] != type)
		return false;
	end = memchr(start, '\r', left < 24 ? left : 24);
	if (!end || end + 1 == bytes.data + bytes.len || end[1] != '\n')
		return false;
	*pos += (size_t)(end - start) + 2;
	return mp_parse_i64((struct mp_slice){start + 1, (size_t)(end - start) - 1}, number) &&
	       *number >= 0;
}

/* An argument at *pos, which moves behind it. */
static bool take_word(struct mp_slice bytes, size_t *pos, struct mp_slice *word)
{
	int64_t len;

	if (!take_header(bytes, pos, '$', &len) || (uint64_t)len + 2 > bytes.len - *pos)
		return false;
	*word = (struct mp_slice){bytes.data + *pos, (size_t)len};
	*pos += (size_t)len + 2;
	return true;
}

int64_t redis_command_head(struct mp_slice bytes, struct mp_slice words[2])
{
	int64_t count, i;
	size_t pos = 0;

	words[0] = words[1] = (struct mp_slice){"", 0};
	if (!take_header(bytes, &pos, '*', &count))
		return 0;
	for (i = 0; i < count && i < 2; i++)
		if (!take_word(bytes, &pos, &words[i]))
			return 0;
	return count;
}

size_t redis_command_bytes(struct mp_slice bytes)
{
	struct mp_slice word;
	int64_t count;
	size_t pos = 0;

	if (!take_header(bytes, &pos, '*', &count) || count == 0)
		return 0;
	while (count-- > 0)
		if (!take_word(bytes, &pos, &word))
			return 0;
	return pos;
}

/* -------------------------------------------------------------------- INFO */

bool redis_info_field(const char *info, const char *field, char *out, size_t out_bytes)
{
	size_t len = strlen(field);
	const char *at = info;

	out[0] = '\0';
	while ((at = strstr(at, field)) && !((at == info || at[-1] == '\n') && at[len] == ':'))
		at += len;
	if (!at)
		return false;
	at += len + 1;
	snprintf(out, out_bytes, "%.*s", (int)strcspn(at, "\r\n"), at);
	return true;
}

uint64_t redis_info_number(const char *info, const char *field)
{
	char text[32];

	return redis_info_field(info, field, text, sizeof(text)) && text[0] != '-'
		       ? strtoull(text, NULL, 10)
		       : 0;
}
