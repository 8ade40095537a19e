/* mc_item.c - see mc_item.h. */
#include "mc_item.h"

#include <string.h>

#include "mc_request.h"

/* A word of digits (or -1). */
static bool read_word(struct mp_slice word, int64_t *value)
{
	const char *s = word.data, *end = s + word.len;
	bool negative = word.len > 0 && *s == '-';
	uint64_t n = 0;

	s += negative;
	if (s == end || end - s > 20)
		return false;
	for (; s < end; s++) {
		if (*s < '0' || *s > '9')
			return false;
		n = n * 10 + (uint64_t)(*s - '0');
	}
	*value = (int64_t)(negative ? 0 - n : n);
	return true;
}

static bool take_flag(struct mp_slice word, struct mc_item *item)
{
	int64_t number = 0;

	switch (*word.data) {
	case 'X':
		item->stale = true;
		return true;
	case 'W':
		item->won = true;
		return true;
	case 'Z':
		item->sent = true;
		return true;
	case 'h':
		item->fetched = mp_slice_is(word, "h1");
		return true;
	case 'f':
	case 't':
	case 'c':
		break;
	default:
		return true; /* others do not concern us */
	}
	if (!read_word((struct mp_slice){word.data + 1, word.len - 1}, &number))
		return false;
	if (*word.data == 'f')
		item->flags = (uint32_t)number;
	else if (*word.data == 't')
		item->left_s = number;
	else
		item->cas = (uint64_t)number;
	return true;
}

/* "VA <bytes> <flag>*" or "HD <flag>*" */
static bool parse_meta(const char *s, const char *end, bool has_value, int64_t *bytes,
		       struct mc_item *item)
{
	if (has_value && !read_word(mc_next_word(&s, end), bytes))
		return false;
	for (;;) {
		struct mp_slice word = mc_next_word(&s, end);

		if (word.len == 0)
			return true;
		if (!take_flag(word, item))
			return false;
	}
}

/* "VALUE <key> <flags> <bytes> [<cas>]" */
static bool parse_value(const char *s, const char *end, int64_t *bytes, struct mc_item *item)
{
	struct mp_slice cas_word;
	int64_t flags, cas = 0;

	mc_next_word(&s, end);
	if (!read_word(mc_next_word(&s, end), &flags) || !read_word(mc_next_word(&s, end), bytes))
		return false;
	cas_word = mc_next_word(&s, end);
	if (cas_word.len > 0 && !read_word(cas_word, &cas))
		return false;
	item->flags = (uint32_t)flags;
	item->cas = (uint64_t)cas;
	return true;
}

static bool is_line(const char *line, const char *end, const char *text)
{
	size_t len = strlen(text);

	return (size_t)(end - line) == len && memcmp(line, text, len) == 0;
}

static bool starts(const char *line, const char *end, const char *text)
{
	size_t len = strlen(text);

	return (size_t)(end - line) >= len && memcmp(line, text, len) == 0;
}

bool mc_parse_item(struct mp_slice reply, struct mc_item *item)
{
	const char *lf = reply.len > 3 ? memchr(reply.data, '\n', reply.len) : NULL;
	const char *line = reply.data, *end = lf && lf > line && lf[-1] == '\r' ? lf - 1 : NULL;
	size_t tail = 2; /* bytes behind the value */
	int64_t bytes = -1;

	*item = (struct mc_item){.left_s = -1};
	if (!end)
		return false;
	if (is_line(line, end, "EN") || starts(line, end, "EN ") || is_line(line, end, "END"))
		return true;
	if (is_line(line, end, "HD") || starts(line, end, "HD ")) {
		item->found = true;
		return parse_meta(line + 2, end, false, &bytes, item);
	}
	if (starts(line, end, "VA ")) {
		if (!parse_meta(line + 3, end, true, &bytes, item))
			return false;
	} else if (starts(line, end, "VALUE ")) {
		tail = strlen("\r\nEND\r\n");
		if (!parse_value(line + 6, end, &bytes, item))
			return false;
	}
	if (bytes < 0 || (uint64_t)bytes + tail != reply.len - (size_t)(lf + 1 - reply.data))
		return false;
	item->found = true;
	item->value = (struct mp_slice){lf + 1, (size_t)bytes};
	return true;
}
