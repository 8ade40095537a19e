/*
 * mc_parser.c - the parser's state machine; see mc_text.h and mc_parser.h.
 *
 * A request is a line, and for storage commands a block of announced length
 * behind it, or a binary frame. The line is looked at once it is whole; while
 * the block is still coming, what the line said waits in `line`.
 */
#include "mc_parser.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mc_binary.h"

#define SHORT_LINE_BYTES 2000 /* memcached hangs up on longer ones that are no get (2048) */
#define GAT_LINE_BYTES 16384  /* what memcached reads at once, and so takes if it comes at once */
#define KEEP_KEYS 256         /* of memory for keys kept from request to request */
#define ITEM_HEADER_BYTES 56  /* of memcached's items, with the cas */

#define BAD_CHUNK "CLIENT_ERROR bad data chunk"

void mc_limits_init(struct mc_limits *limits)
{
	limits->news = 0;
	limits->max_value_bytes = 1 << 20;
	limits->max_item_bytes = 0;
	limits->max_line_bytes = 1 << 20;
}

bool mc_fits(const struct mc_limits *limits, size_t key_bytes, uint32_t flags, size_t value_bytes)
{
	size_t around = ITEM_HEADER_BYTES + key_bytes + 1 + (flags ? sizeof(flags) : 0) + 2;

	return value_bytes <= limits->max_value_bytes &&
	       (limits->max_item_bytes == 0 || value_bytes + around <= limits->max_item_bytes);
}

struct mc_parser *mc_parser_new(const struct mc_limits *limits)
{
	struct mc_parser *p = calloc(1, sizeof(*p));

	assert(limits->max_line_bytes >= SHORT_LINE_BYTES);
	if (p)
		p->limits = limits;
	return p;
}

struct mc_parser *mc_parser_internal(const struct mc_limits *limits)
{
	struct mc_parser *p = mc_parser_new(limits);

	if (p)
		p->is_internal = true;
	return p;
}

void mc_parser_free(struct mc_parser *p)
{
	if (!p)
		return;
	free(p->keys);
	free(p);
}

const char *mc_parser_error(const struct mc_parser *p)
{
	return p->error;
}

bool mc_parser_is_binary(const struct mc_parser *p)
{
	return p->protocol == MC_FRAMES;
}

struct mp_slice mc_parser_answer(struct mc_parser *p)
{
	struct mp_slice answer = {p->answer, 0};

	if (!*p->error)
		return answer;
	if (p->protocol == MC_FRAMES)
		answer.len = mc_binary_error(&p->line, p->status, p->error, p->answer,
					     sizeof(p->answer));
	else
		answer.len = (size_t)snprintf(p->answer, sizeof(p->answer), "%s\r\n", p->error);
	assert(answer.len <= sizeof(p->answer));
	return answer;
}

size_t mc_parser_wants(const struct mc_parser *p)
{
	if (p->state == MC_IN_BLOCK)
		return p->line_bytes + p->block_bytes;
	return p->protocol == MC_FRAMES ? p->line_bytes : 0;
}

/* --------------------------------------------------------- for the grammars */

bool mc_keep_key(struct mc_parser *p, int count, struct mp_slice key)
{
	if (count >= p->key_slots) {
		int slots = p->key_slots ? p->key_slots * 2 : 16;
		struct mp_slice *keys = realloc(p->keys, (size_t)slots * sizeof(*keys));

		if (!keys)
			return false;
		p->keys = keys;
		p->key_slots = slots;
	}
	p->keys[count] = key;
	return true;
}

enum mc_result mc_bad(struct mc_parser *p, const struct mc_request *r, const char *error)
{
	p->error = r->noreply ? "" : error;
	return MC_BAD;
}

enum mc_result mc_fatal(struct mc_parser *p, const char *error)
{
	p->error = error;
	return MC_FATAL;
}

enum mc_result mc_expect_block(struct mc_parser *p, struct mc_request *r, size_t bytes)
{
	r->value.len = bytes;
	p->state = MC_IN_BLOCK;
	p->block_bytes = bytes + 2;
	return MC_MORE;
}

enum mc_result mc_swallow(struct mc_parser *p, size_t bytes, enum mc_result verdict)
{
	p->state = MC_IN_GARBAGE;
	p->block_bytes = bytes;
	p->verdict = verdict;
	p->own_bytes = 0;
	return MC_MORE;
}

void mc_delete_instead(struct mc_parser *p, struct mp_slice key, bool is_base64)
{
	struct mc_writer w = {p->own, sizeof(p->own), 0};

	mc_put_delete_line(&w, key, is_base64);
	assert(w.bytes <= sizeof(p->own));
	p->own_bytes = w.bytes;
}

/* ------------------------------------------------------------------- input */

/* How long may a line be that is longer than SHORT_LINE_BYTES? As in memcached a get. */
static size_t longest_line(const struct mc_parser *p, const char *data)
{
	size_t at = 0;

	while (at <= 100 && data[at] == ' ')
		at++;
	data += at;
	if (memcmp(data, "get ", 4) == 0 || memcmp(data, "gets ", 5) == 0)
		return p->limits->max_line_bytes;
	/* Each key is a request of its own: so many that they need no bound else. */
	if (memcmp(data, "gat ", 4) == 0 || memcmp(data, "gats ", 5) == 0)
		return GAT_LINE_BYTES;
	return SHORT_LINE_BYTES;
}

/* The line's LF, NULL: not there yet, or *too_long. */
static const char *find_line_end(struct mc_parser *p, const char *data, size_t len, bool *too_long)
{
	size_t limit = p->limits->max_line_bytes;
	size_t stop = len < limit ? len : limit;
	const char *lf = memchr(data + p->scanned, '\n', stop - p->scanned);
	size_t line = lf ? (size_t)(lf - data) : len;

	p->scanned = stop;
	*too_long =
		(!lf && len >= limit) || (line > SHORT_LINE_BYTES && line > longest_line(p, data));
	return *too_long ? NULL : lf;
}

/* Start over with the next request. */
static void finish(struct mc_parser *p)
{
	p->state = MC_IN_LINE;
	p->scanned = 0;
	p->line_bytes = 0;
	if (p->is_internal)
		p->protocol = MC_UNDECIDED;
}

static void shrink_keys(struct mc_parser *p)
{
	if (p->key_slots <= KEEP_KEYS)
		return;
	free(p->keys);
	p->keys = NULL;
	p->key_slots = 0;
}

static enum mc_result take_line(struct mc_parser *p, const char *data, size_t len, size_t *used,
				struct mc_request *r)
{
	const char *lf, *end, *nul;
	enum mc_result result;
	bool too_long;

	lf = find_line_end(p, data, len, &too_long);
	if (!lf)
		return too_long ? mc_fatal(p, "CLIENT_ERROR line too long") : MC_MORE;
	end = lf > data && lf[-1] == '\r' ? lf - 1 : lf;
	nul = memchr(data, '\0', (size_t)(end - data));
	shrink_keys(p);
	p->line_bytes = (size_t)(lf - data) + 1;
	result = mc_parse_line(p, data, nul ? nul : end, r);
	if (result == MC_MORE && p->state == MC_IN_BLOCK) {
		p->line = *r;
		p->key_offset = (size_t)(p->keys[0].data - data);
		p->args_offset = r->args.len ? (size_t)(r->args.data - data) : 0;
		return MC_MORE;
	}
	*used = p->line_bytes;
	r->keys = r->key_count ? p->keys : NULL;
	r->raw = (struct mp_slice){data, *used};
	if (result != MC_MORE)
		finish(p);
	return result;
}

static enum mc_result take_block(struct mc_parser *p, const char *data, size_t len, size_t *used,
				 struct mc_request *r)
{
	size_t value_len = p->block_bytes - 2;

	if (len < p->line_bytes + p->block_bytes)
		return MC_MORE;
	*used = p->line_bytes + p->block_bytes;
	*r = p->line;
	r->value = (struct mp_slice){data + p->line_bytes, value_len};
	finish(p);
	if (memcmp(data + *used - 2, "\r\n", 2) != 0)
		return mc_bad(p, r, BAD_CHUNK);
	if (p->keys[0].data != p->decoded)
		p->keys[0].data = data + p->key_offset;
	r->keys = p->keys;
	if (r->args.len > 0)
		r->args.data = data + p->args_offset;
	r->raw = (struct mp_slice){data, *used};
	return MC_DONE;
}

/*
 * The request in `own`, which nobody waits for the answer to. It comes before the
 * garbage: who is told that his value was too large finds the old one gone.
 */
static enum mc_result take_own(struct mc_parser *p, struct mc_request *r)
{
	size_t bytes = p->own_bytes;
	const char *error = p->error;
	enum mc_result result;

	*r = (struct mc_request){.verb = MC_UNKNOWN};
	result = mc_parse_line(p, p->own, p->own + bytes - 2, r);
	assert(result == MC_DONE && r->verb == MC_DELETE);
	p->own_bytes = 0;
	p->error = error;
	r->noreply = true;
	r->keys = p->keys;
	r->raw = (struct mp_slice){p->own, bytes};
	return MC_DONE;
}

static enum mc_result take_garbage(struct mc_parser *p, size_t len, size_t *used)
{
	*used = len < p->block_bytes ? len : p->block_bytes;
	p->block_bytes -= *used;
	return p->block_bytes > 0 ? MC_MORE : p->verdict;
}

static void choose_protocol(struct mc_parser *p, const char *data)
{
	bool is_binary = (unsigned char)*data == MC_BINARY_REQUEST;

	p->protocol = is_binary ? MC_FRAMES : MC_LINES;
}

static enum mc_result take_first(struct mc_parser *p, const char *data, size_t len, size_t *used,
				 struct mc_request *r)
{
	enum mc_result result;

	if (p->protocol == MC_LINES)
		return take_line(p, data, len, used, r);
	result = mc_parse_frame(p, data, len, used, r);
	if (result != MC_MORE && p->state == MC_IN_LINE)
		finish(p);
	return result;
}

enum mc_result mc_parse(struct mc_parser *p, const char *data, size_t len, size_t *used,
			struct mc_request *r)
{
	enum mc_result result = MC_MORE;

	*used = 0;
	*r = (struct mc_request){.verb = MC_UNKNOWN};
	if (len == 0)
		return MC_MORE;
	if (p->protocol == MC_UNDECIDED)
		choose_protocol(p, data);
	if (p->state == MC_IN_LINE)
		result = take_first(p, data, len, used, r);
	/* The block of an unwanted one may be here already, behind the line. */
	if (result == MC_MORE && p->state == MC_IN_GARBAGE) {
		size_t line = *used;

		if (p->own_bytes > 0)
			return take_own(p, r);
		*r = (struct mc_request){.verb = MC_UNKNOWN};
		result = take_garbage(p, len - line, used);
		*used += line;
		if (result != MC_MORE)
			finish(p);
	} else if (result == MC_MORE && p->state == MC_IN_BLOCK) {
		result = take_block(p, data, len, used, r);
	}
	if (result == MC_BAD)
		*r = (struct mc_request){.verb = MC_UNKNOWN};
	return result;
}
