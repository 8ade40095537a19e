/*
 * resp.c - see resp.h.
 *
 * The parser walks a request part by part: the count line, then for every
 * argument its length line and its bytes. `pos` is where the part under way
 * begins and `scanned` how far its line end was looked for; that is all that
 * must survive a pause. A bulk's bytes are never looked at: its end follows
 * from its length.
 *
 * What is accepted is what Redis 7.0 accepts (processMultibulkBuffer and
 * processInlineBuffer in its networking.c were the reference for behaviour and
 * error texts).
 */
#include "resp.h"

#include <assert.h>
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "decimal.h"

#define KEEP_ARGS 1024       /* of memory for arguments kept from request to request */
#define KEEP_TEXT_BYTES 4096 /* the same for unquoted inline arguments */

/* An argument under way is an offset, since the buffer may move; then a slice. */
union arg {
	struct mp_slice slice;
	struct {
		size_t offset;
		size_t len;
	} at;
};
static_assert(sizeof(union arg) == sizeof(struct mp_slice), "argv is an array of slices");

struct resp_parser {
	struct resp_limits limits;
	bool is_distrusted;
	size_t pos;        /* the part under way begins here */
	size_t scanned;    /* of its line, up to here there is no end */
	int64_t args_left; /* -1: the count line is not read yet */
	int64_t bulk_len;  /* -1: the length line is not read yet */
	int argc;
	int arg_slots;
	bool clean;    /* every line so far ended in CRLF */
	bool finished; /* the next call starts a new request */
	union arg *args;
	char *text; /* inline arguments without their quotes */
	size_t text_bytes;
	char error[96];
};

void resp_limits_init(struct resp_limits *limits)
{
	limits->max_bulk_bytes = 512UL << 20;
	limits->max_request_bytes = 1UL << 30;
	limits->max_args = 1024 * 1024;
	limits->max_inline_bytes = 64 << 10;
}

void resp_limits_lift(struct resp_limits *limits)
{
	limits->max_bulk_bytes = limits->max_request_bytes = SIZE_MAX / 4;
	limits->max_args = INT_MAX - 1;
	limits->max_inline_bytes = SIZE_MAX / 4;
}

static void start_request(struct resp_parser *p)
{
	p->pos = 0;
	p->scanned = 0;
	p->args_left = -1;
	p->bulk_len = -1;
	p->argc = 0;
	p->clean = true;
	p->finished = false;
	if (p->arg_slots > KEEP_ARGS) {
		free(p->args);
		p->args = NULL;
		p->arg_slots = 0;
	}
	if (p->text_bytes > KEEP_TEXT_BYTES) {
		free(p->text);
		p->text = NULL;
		p->text_bytes = 0;
	}
}

enum { DISTRUSTED_ARGS = 10, DISTRUSTED_BULK_BYTES = 16 << 10 };

void resp_parser_distrust(struct resp_parser *p, bool distrusted)
{
	p->is_distrusted = distrusted;
}

struct resp_parser *resp_parser_new(const struct resp_limits *limits)
{
	struct resp_parser *p = calloc(1, sizeof(*p));

	assert(limits->max_args > 0 && limits->max_inline_bytes > 0);
	if (!p)
		return NULL;
	p->limits = *limits;
	start_request(p);
	return p;
}

void resp_parser_free(struct resp_parser *p)
{
	if (!p)
		return;
	free(p->args);
	free(p->text);
	free(p);
}

const char *resp_parser_error(const struct resp_parser *p)
{
	return p->error;
}

size_t resp_parser_wants(const struct resp_parser *p)
{
	return p->finished || p->bulk_len < 0 ? 0 : p->pos + (size_t)p->bulk_len + 2;
}

static enum resp_result fail(struct resp_parser *p, const char *what)
{
	snprintf(p->error, sizeof(p->error), "ERR Protocol error: %s", what);
	return RESP_ERROR;
}

bool mp_parse_i64(struct mp_slice text, int64_t *value)
{
	bool negative = text.len > 0 && text.data[0] == '-';
	const char *s = text.data + negative;
	size_t n = text.len - negative;
	uint64_t v = 0;

	if (n == 0 || n > 19)
		return false;
	if (s[0] == '0' && (n > 1 || negative))
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned digit = (unsigned char)s[i] - (unsigned)'0';

		if (digit > 9)
			return false;
		v = v * 10 + digit; /* 19 digits fit into 64 bits */
	}
	if (v > (uint64_t)INT64_MAX + negative)
		return false;
	*value = negative ? (int64_t)(0 - v) : (int64_t)v;
	return true;
}

/*
 * Find the end of the line at p->pos, whose first byte is its type. RESP_DONE:
 * *line is what lies between type and line end, p->pos is behind it.
 */
static enum resp_result take_line(struct resp_parser *p, const char *data, size_t len,
				  const char *too_big, struct mp_slice *line)
{
	size_t end = p->scanned > p->pos ? p->scanned : p->pos;
	size_t limit = p->pos + p->limits.max_inline_bytes;
	size_t stop = len <= limit ? len : limit + 1;

	while (end < stop && data[end] != '\r')
		end++;
	p->scanned = end;
	if (end == stop)
		return len > limit ? fail(p, too_big) : RESP_MORE;
	if (end + 1 == len)
		return RESP_MORE; /* its LF is still to come */
	p->clean &= data[end + 1] == '\n';
	*line = (struct mp_slice){data + p->pos + 1, end - p->pos - 1};
	p->pos = end + 2;
	return RESP_DONE;
}

/*
 * The same for a line that is all here and as every client writes it: a few
 * digits and CRLF. False: nothing was taken, it is for take_line() to judge.
 */
static bool take_number(struct resp_parser *p, const char *data, size_t len, int64_t *number)
{
	size_t at = p->pos + 1;
	int64_t n = 0;

	if (p->scanned > p->pos || len - p->pos < 12 || data[at] < '1' || data[at] > '9')
		return false;
	while (data[at] >= '0' && data[at] <= '9' && at < p->pos + 9)
		n = n * 10 + (data[at++] - '0');
	if (data[at] != '\r' || data[at + 1] != '\n')
		return false;
	p->pos = at + 2;
	*number = n;
	return true;
}

static bool grow_args(struct resp_parser *p)
{
	int slots = p->arg_slots ? p->arg_slots * 2 : 16;
	union arg *args = realloc(p->args, (size_t)slots * sizeof(*args));

	if (!args) {
		fail(p, "out of memory");
		return false;
	}
	p->args = args;
	p->arg_slots = slots;
	return true;
}

/* The "$<len>" line of the next argument. */
static enum resp_result take_bulk_header(struct resp_parser *p, const char *data, size_t len)
{
	struct mp_slice line = {0};
	enum resp_result r;
	int64_t bulk_len;

	if (p->pos == len)
		return RESP_MORE;
	if (data[p->pos] != '$') {
		char c = data[p->pos];

		snprintf(p->error, sizeof(p->error), "ERR Protocol error: expected '$', got '%c'",
			 c == '\r' || c == '\n' || c == '\0' ? ' ' : c);
		return RESP_ERROR;
	}
	if (!take_number(p, data, len, &bulk_len)) {
		r = take_line(p, data, len, "too big bulk count string", &line);
		if (r != RESP_DONE)
			return r;
		if (!mp_parse_i64(line, &bulk_len) || bulk_len < 0)
			return fail(p, "invalid bulk length");
	}
	if (p->is_distrusted && bulk_len > DISTRUSTED_BULK_BYTES)
		return fail(p, "unauthenticated bulk length");
	if ((uint64_t)bulk_len > p->limits.max_bulk_bytes)
		return fail(p, "invalid bulk length");
	p->bulk_len = bulk_len;
	if (p->pos + (size_t)p->bulk_len + 2 > p->limits.max_request_bytes)
		return fail(p, "request too large");
	return RESP_DONE;
}

/* The arguments, from wherever the last call stopped. */
static enum resp_result take_args(struct resp_parser *p, const char *data, size_t len)
{
	while (p->args_left > 0) {
		size_t end;

		if (p->bulk_len < 0) {
			enum resp_result r = take_bulk_header(p, data, len);

			if (r != RESP_DONE)
				return r;
		}
		end = p->pos + (size_t)p->bulk_len;
		if (len < end + 2)
			return RESP_MORE;
		p->clean &= data[end] == '\r' && data[end + 1] == '\n';
		if (p->argc == p->arg_slots && !grow_args(p))
			return RESP_ERROR;
		p->args[p->argc].at.offset = p->pos;
		p->args[p->argc].at.len = (size_t)p->bulk_len;
		p->argc++;
		p->pos = end + 2;
		p->bulk_len = -1;
		p->args_left--;
	}
	return RESP_DONE;
}

/* The "*<count>" line. */
static enum resp_result take_count(struct resp_parser *p, const char *data, size_t len)
{
	struct mp_slice line = {0};
	enum resp_result r;
	int64_t count;

	if (!take_number(p, data, len, &count)) {
		r = take_line(p, data, len, "too big mbulk count string", &line);
		if (r != RESP_DONE)
			return r;
		if (!mp_parse_i64(line, &count))
			return fail(p, "invalid multibulk length");
	}
	if (p->is_distrusted && count > DISTRUSTED_ARGS)
		return fail(p, "unauthenticated multibulk length");
	if (count > p->limits.max_args)
		return fail(p, "invalid multibulk length");
	p->args_left = count > 0 ? count : 0;
	return RESP_DONE;
}

static enum resp_result parse_multibulk(struct resp_parser *p, const char *data, size_t len)
{
	enum resp_result r;

	if (p->args_left < 0) {
		r = take_count(p, data, len);
		if (r != RESP_DONE)
			return r;
	}
	r = take_args(p, data, len);
	if (r != RESP_DONE)
		return r;
	for (int i = 0; i < p->argc; i++) {
		union arg *arg = &p->args[i];

		arg->slice = (struct mp_slice){data + arg->at.offset, arg->at.len};
	}
	return RESP_DONE;
}

/* ------------------------------------------------------------------ inline */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What stands for the character at s behind a backslash in double quotes; *n: bytes taken. */
static char unescape(const char *s, const char *end, size_t *n)
{
	static const char from[] = "nrtba", to[] = "\n\r\t\b\a";
	const char *found;

	if (s[0] == 'x' && end - s >= 3 && hex_digit(s[1]) >= 0 && hex_digit(s[2]) >= 0) {
		*n = 3;
		return (char)(hex_digit(s[1]) << 4 | hex_digit(s[2]));
	}
	*n = 1;
	found = memchr(from, s[0], sizeof(from) - 1);
	return found ? to[found - from] : s[0];
}

/*
 * Copy a quoted stretch that begins behind the quote at s[0] to out; returns
 * where it goes on behind the closing quote, NULL if there is none or if it is
 * not followed by a blank or the end of the line.
 */
static const char *unquote(const char *s, const char *end, char **out)
{
	char quote = *s++;

	while (s < end && *s != quote) {
		size_t n = 1;

		if (*s == '\\' && s + 1 < end && quote == '"')
			*(*out)++ = unescape(++s, end, &n);
		else if (*s == '\\' && s + 1 < end && s[1] == '\'')
			*(*out)++ = *++s;
		else
			*(*out)++ = *s;
		s += n;
	}
	if (s == end || (s + 1 < end && !isspace((unsigned char)s[1])))
		return NULL;
	return s + 1;
}

/* One argument, by the rules of Redis's sdssplitargs; a quote may open in its middle. */
static const char *take_word(const char *s, const char *end, char **out)
{
	while (s < end && *s != ' ' && *s != '\n' && *s != '\r' && *s != '\t') {
		if (*s == '"' || *s == '\'')
			return unquote(s, end, out); /* a closing quote ends the word */
		*(*out)++ = *s++;
	}
	return s;
}

static enum resp_result split_inline(struct resp_parser *p, const char *s, const char *end)
{
	size_t bytes = (size_t)(end - s);
	char *out;

	if (bytes > p->text_bytes) {
		free(p->text);
		p->text_bytes = bytes < 256 ? 256 : bytes;
		p->text = malloc(p->text_bytes);
		if (!p->text) {
			p->text_bytes = 0;
			return fail(p, "out of memory");
		}
	}
	out = p->text;
	for (;;) {
		char *word = out;

		while (s < end && isspace((unsigned char)*s))
			s++;
		if (s == end)
			return RESP_DONE;
		s = take_word(s, end, &out);
		if (!s)
			return fail(p, "unbalanced quotes in request");
		if (p->argc == p->arg_slots && !grow_args(p))
			return RESP_ERROR;
		p->args[p->argc++].slice = (struct mp_slice){word, (size_t)(out - word)};
	}
}

/*
 * A web page can make a browser POST to us; a line of HTTP's head followed by
 * a body full of inline commands must not do anything. Redis hangs up as well.
 */
static bool is_http(const struct resp_parser *p)
{
	static const struct mp_slice heads[] = {{"post", 4}, {"host:", 5}};

	for (size_t i = 0; p->argc > 0 && i < 2; i++)
		if (p->args[0].slice.len == heads[i].len &&
		    strncasecmp(p->args[0].slice.data, heads[i].data, heads[i].len) == 0)
			return true;
	return false;
}

static enum resp_result parse_inline(struct resp_parser *p, const char *data, size_t len)
{
	size_t limit = p->limits.max_inline_bytes;
	size_t stop = len <= limit ? len : limit + 1;
	const char *lf = memchr(data + p->scanned, '\n', stop - p->scanned);
	const char *end;
	enum resp_result r;

	p->scanned = stop;
	if (!lf)
		return len > limit ? fail(p, "too big inline request") : RESP_MORE;
	p->pos = (size_t)(lf - data) + 1;
	end = lf > data && lf[-1] == '\r' ? lf - 1 : lf;
	if (memchr(data, '\0', (size_t)(end - data)))
		return fail(p, "NUL in inline request"); /* which Redis never answers */
	p->clean = false;
	r = split_inline(p, data, end);
	if (r == RESP_DONE && is_http(p))
		return fail(p, "this is no HTTP server");
	return r;
}

enum resp_result resp_parse(struct resp_parser *p, const char *data, size_t len, size_t *used,
			    struct resp_request *request)
{
	enum resp_result r;

	*used = 0;
	if (p->finished)
		start_request(p);
	if (len == 0)
		return RESP_MORE;
	r = data[0] == '*' ? parse_multibulk(p, data, len) : parse_inline(p, data, len);
	if (r != RESP_DONE)
		return r;
	assert(p->pos <= len && p->pos > 0);
	p->finished = true;
	*used = p->pos;
	request->argc = p->argc;
	request->argv = p->argc ? &p->args[0].slice : NULL;
	request->raw = (struct mp_slice){data, p->pos};
	request->is_inline = !p->clean;
	return RESP_DONE;
}

/* ---------------------------------------------------------------- encoding */

/* "<type><n>\r\n" at out; returns its length. */
static size_t encode_header(char out[MP_DECIMAL_BYTES + 3], char type, size_t n)
{
	size_t len = 1 + mp_format_u64(out + 1, n);

	out[0] = type;
	out[len++] = '\r';
	out[len++] = '\n';
	return len;
}

size_t resp_encode(char *out, size_t cap, int argc, const struct mp_slice *argv)
{
	char header[MP_DECIMAL_BYTES + 3];
	size_t bytes = encode_header(header, '*', (size_t)argc);

	assert(argc >= 0);
	if (bytes <= cap)
		memcpy(out, header, bytes);
	for (int i = 0; i < argc; i++) {
		size_t n = encode_header(header, '$', argv[i].len);
		size_t total = bytes + n + argv[i].len + 2;

		if (total <= cap) {
			memcpy(out + bytes, header, n);
			if (argv[i].len > 0)
				memcpy(out + bytes + n, argv[i].data, argv[i].len);
			memcpy(out + total - 2, "\r\n", 2);
		}
		bytes = total;
	}
	return bytes;
}
