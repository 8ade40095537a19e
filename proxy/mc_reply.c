/* mc_reply.c - where Memcached's replies end; see mc_text.h. */
#include "mc_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool starts(const char *line, size_t len, const char *with)
{
	size_t n = strlen(with);

	return len >= n && memcmp(line, with, n) == 0;
}

/* The n-th word (from 0) of a line as a number. */
static bool nth_number(const char *line, size_t len, int n, uint64_t *value)
{
	const char *s = line, *end = line + len;

	while (n-- > 0) {
		s = memchr(s, ' ', (size_t)(end - s));
		if (!s)
			return false;
		s++;
	}
	*value = 0;
	if (s == end || *s < '0' || *s > '9')
		return false;
	while (s < end && *s >= '0' && *s <= '9' && *value <= UINT32_MAX)
		*value = *value * 10 + (uint64_t)(*s++ - '0');
	return *value <= UINT32_MAX && (s == end || *s == ' ' || *s == '\r');
}

bool mc_is_bare(struct mp_slice line)
{
	return mp_starts_with(line, "stats sizes_enable") ||
	       mp_starts_with(line, "stats sizes_disable");
}

/* Another line says why. */
static bool is_bare_end(const char *line, size_t len)
{
	return starts(line, len, "STAT ") && !starts(line, len, "STAT sizes_status error");
}

/* A whole line (a long one: its beginning), without its LF. */
static enum mc_result frame_line(struct mc_framer *f, const char *line, size_t len)
{
	bool value = starts(line, len, "VALUE "), meta = starts(line, len, "VA ");
	uint64_t bytes;

	if (value || meta) {
		if (len >= sizeof(f->line) || !nth_number(line, len, value ? 3 : 1, &bytes))
			return MC_FATAL;
		f->skip = bytes + 2;
		f->last = meta;
		return MC_MORE;
	}
	if (f->is_bare && is_bare_end(line, len))
		return MC_DONE;
	return starts(line, len, "STAT ") || starts(line, len, "ITEM ") ||
			       starts(line, len, "PREFIX ")
		       ? MC_MORE
		       : MC_DONE;
}

/* A piece of a line. */
static enum mc_result frame_piece(struct mc_framer *f, const char *data, size_t len, size_t *used)
{
	const char *lf = memchr(data, '\n', len);
	size_t room = sizeof(f->line) - f->line_len;
	size_t bytes = lf ? (size_t)(lf - data) : len;
	size_t kept = bytes < room ? bytes : room;
	size_t line_len;

	*used = bytes + (lf != NULL);
	if (lf && f->line_len == 0)
		return frame_line(f, data, bytes);
	memcpy(f->line + f->line_len, data, kept);
	f->line_len = (uint16_t)(f->line_len + kept);
	if (!lf)
		return MC_MORE;
	line_len = f->line_len;
	f->line_len = 0;
	return frame_line(f, f->line, line_len);
}

enum mc_result mc_frame(struct mc_framer *f, const char *data, size_t len, size_t *used)
{
	enum mc_result result = MC_MORE;
	size_t pos = 0;

	while (result == MC_MORE && pos < len) {
		size_t n;

		if (f->skip > 0) {
			n = f->skip < len - pos ? (size_t)f->skip : len - pos;
			f->skip -= n;
			if (f->skip == 0 && f->last) {
				f->last = false;
				result = MC_DONE;
			}
		} else {
			result = frame_piece(f, data + pos, len - pos, &n);
		}
		pos += n;
	}
	*used = pos;
	return result;
}

uint64_t mc_stat_number(const char *text, const char *name)
{
	char start[64];
	const char *at;

	snprintf(start, sizeof(start), "STAT %s ", name);
	at = strstr(text, start);
	return at ? strtoull(at + strlen(start), NULL, 10) : 0;
}
