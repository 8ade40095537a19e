/* resp_reply.c - where Redis's replies end; see resp.h. */
#include "resp.h"

#include <string.h>

/* A value is complete. True: so is the reply. */
static bool end_value(struct resp_framer *f)
{
	if (f->pending > 0)
		f->pending--;
	return f->pending == 0;
}

/* An aggregate's header: `count` values follow. RESP_MORE: go on with them. */
static enum resp_result begin_aggregate(struct resp_framer *f, char type, int64_t count)
{
	uint64_t values = count < 0 ? 0 : (uint64_t)count;

	if (count < -1 || count > INT64_MAX / 4)
		return RESP_ERROR;
	if (type == '%' || type == '|')
		values *= 2;
	if (f->pending == 0)
		f->pending = 1; /* the reply itself */
	if (f->pending > INT64_MAX - values)
		return RESP_ERROR;
	f->pending += values;
	/* Attributes are no value of their own: they only precede one. */
	if (type == '|')
		return RESP_MORE;
	return end_value(f) ? RESP_DONE : RESP_MORE;
}

/* What a type byte begins. */
enum shape {
	NO_TYPE,
	LINE_ONLY, /* its line is all */
	BULK,      /* the line is the length of the bytes that follow */
	AGGREGATE, /* the line is the number of values that follow */
};

static enum shape shape_of(char type)
{
	switch (type) {
	case '+':
	case '-':
	case ':':
	case '_':
	case '#':
	case ',':
	case '(':
		return LINE_ONLY;
	case '$':
	case '=':
	case '!':
		return BULK;
	case '*':
	case '%':
	case '~':
	case '>':
	case '|':
		return AGGREGATE;
	default:
		return NO_TYPE;
	}
}

/* The line in f->line is whole. */
static enum resp_result end_line(struct resp_framer *f)
{
	char type = (char)f->in_line;
	enum shape shape = shape_of(type);
	int64_t n;

	f->in_line = 0;
	if (shape == LINE_ONLY)
		return end_value(f) ? RESP_DONE : RESP_MORE;
	if (f->line_len == 0 || f->line[f->line_len - 1] != '\r' ||
	    !mp_parse_i64((struct mp_slice){f->line, (size_t)f->line_len - 1}, &n))
		return RESP_ERROR;
	if (shape == AGGREGATE)
		return begin_aggregate(f, type, n);
	if (n < -1 || n > INT64_MAX / 2)
		return RESP_ERROR;
	if (n == -1)
		return end_value(f) ? RESP_DONE : RESP_MORE;
	f->skip = (uint64_t)n + 2;
	return RESP_MORE;
}

/* Bytes of the line under way; *pos moves behind what was taken. */
static enum resp_result frame_line(struct resp_framer *f, const char *data, size_t len, size_t *pos)
{
	if (shape_of((char)f->in_line) == LINE_ONLY) {
		const char *lf = memchr(data + *pos, '\n', len - *pos);

		*pos = lf ? (size_t)(lf - data) + 1 : len;
		return lf ? end_line(f) : RESP_MORE;
	}
	while (*pos < len) {
		char c = data[(*pos)++];

		if (c == '\n')
			return end_line(f);
		if (f->line_len == sizeof(f->line))
			return RESP_ERROR;
		f->line[f->line_len++] = c;
	}
	return RESP_MORE;
}

enum resp_result resp_frame(struct resp_framer *f, const char *data, size_t len, size_t *used)
{
	enum resp_result r = RESP_MORE;
	size_t pos = 0;

	while (r == RESP_MORE && pos < len) {
		if (f->skip > 0) {
			size_t n = f->skip < len - pos ? (size_t)f->skip : len - pos;

			pos += n;
			f->skip -= n;
			if (f->skip == 0 && end_value(f))
				r = RESP_DONE;
		} else if (f->in_line) {
			r = frame_line(f, data, len, &pos);
		} else if (shape_of(data[pos]) != NO_TYPE) {
			f->in_line = (uint8_t)data[pos++];
			f->line_len = 0;
		} else {
			r = RESP_ERROR;
		}
	}
	*used = pos;
	return r;
}

uint64_t resp_estimate(const char *data, size_t len)
{
	struct resp_framer f = {0}, item = {0};
	const char *lf = memchr(data, '\n', len);
	uint64_t items = 0, bytes;
	size_t pos = 0, used = 0;

	if (!lf || resp_frame(&f, data, (size_t)(lf - data) + 1, &pos) != RESP_MORE)
		return 0;
	if (f.skip > 0)
		return pos + f.skip;
	bytes = pos;
	for (; pos < len && items < f.pending; pos += used, items++) {
		if (resp_frame(&item, data + pos, len - pos, &used) == RESP_ERROR)
			return 0;
		bytes += used + item.skip;
	}
	return items ? bytes / items * f.pending : 0;
}

enum resp_result resp_array_header(const char *data, size_t len, size_t *used, int64_t *count)
{
	size_t end = 1;

	*used = 0;
	if (len == 0)
		return RESP_MORE;
	if (data[0] != '*' && data[0] != '_')
		return RESP_ERROR;
	while (end < len && data[end] != '\n')
		end++;
	if (end == len)
		return len > 32 ? RESP_ERROR : RESP_MORE;
	if (data[0] == '_')
		*count = -1;
	else if (data[end - 1] != '\r' ||
		 !mp_parse_i64((struct mp_slice){data + 1, end - 2}, count) || *count < -1)
		return RESP_ERROR;
	*used = end + 1;
	return RESP_DONE;
}
