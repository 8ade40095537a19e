/*
 * mc_text.c - see mc_text.h.
 *
 * A request is a line, and for storage commands a block of announced length
 * behind it. The line is looked at once it is whole; while the block is still
 * coming, what the line said waits in `line`. memcached 1.6's proto_text.c was
 * the reference for what is accepted and for error texts: its quirks are kept
 * where a client can see them (numbers are read with strtol and truncated, an
 * unknown last argument is ignored, a NUL ends the line).
 */
#include "mc_text.h"

#include <assert.h>
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHORT_LINE_BYTES 2000 /* memcached hangs up on longer ones that are no get (2048) */
#define MAX_TOKENS 8          /* the longest that is accepted, and one more */
#define KEEP_KEYS 256         /* of memory for keys kept from request to request */

#define BAD_FORMAT "CLIENT_ERROR bad command line format"
#define BAD_EXPTIME "CLIENT_ERROR invalid exptime argument"
#define BAD_DELTA "CLIENT_ERROR invalid numeric delta argument"
#define BAD_DELETE "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
#define BAD_CHUNK "CLIENT_ERROR bad data chunk"
#define TOO_LARGE "SERVER_ERROR object too large for cache"
#define NO_MEMORY "SERVER_ERROR out of memory"

/* Why not. A reason ends a sentence that begins with the command's name. */
#define META "meta commands are not served yet"
#define OPERATOR "it concerns one server alone: send it to the backend itself"
#define DELAYED_FLUSH "a flush_all with a delay is not served yet"

enum state {
	IN_LINE,
	IN_BLOCK,   /* the line is read, its block is to come */
	IN_GARBAGE, /* a block that nobody wants is to be passed over */
};

struct mc_parser {
	struct mc_limits limits;
	enum state state;
	size_t scanned;         /* bytes of the line that hold no LF */
	struct mc_request line; /* IN_BLOCK: what the line said; slices are not valid */
	size_t key_offset;      /* of its key */
	size_t line_bytes;      /* of it, with its end */
	size_t block_bytes;     /* of the block, with its CRLF; IN_GARBAGE: what is left of it */
	enum mc_result verdict; /* IN_GARBAGE: what is to be said when it is over */
	const char *error;
	struct mp_slice *keys;
	int key_slots;
	struct mp_slice own_key; /* IN_GARBAGE: the key, in `own` */
	char own[MC_MAX_KEY_BYTES + 32];
};

/* A line cut into words at blanks. */
struct words {
	int count; /* may exceed MAX_TOKENS: those are not kept */
	struct mp_slice word[MAX_TOKENS];
};

void mc_limits_init(struct mc_limits *limits)
{
	limits->max_value_bytes = 1 << 20;
	limits->max_line_bytes = 1 << 20;
}

struct mc_parser *mc_parser_new(const struct mc_limits *limits)
{
	struct mc_parser *p = calloc(1, sizeof(*p));

	assert(limits->max_line_bytes >= SHORT_LINE_BYTES);
	if (p)
		p->limits = *limits;
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

size_t mc_parser_wants(const struct mc_parser *p)
{
	return p->state == IN_BLOCK ? p->line_bytes + p->block_bytes : 0;
}

/* ----------------------------------------------------------------- numbers */

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
static bool read_u64(struct mp_slice word, uint64_t *value)
{
	bool negative;
	uint64_t n;

	if (!read_number(word, &negative, &n))
		return false;
	*value = negative ? 0 - n : n;
	return (int64_t)*value >= 0 || !memchr(word.data, '-', word.len);
}

static bool read_u32(struct mp_slice word, uint32_t *value)
{
	uint64_t wide;

	if (!read_u64(word, &wide))
		return false;
	*value = (uint32_t)wide;
	return true;
}

static bool read_i32(struct mp_slice word, int32_t *value)
{
	bool negative;
	uint64_t n;

	if (!read_number(word, &negative, &n) || n > (uint64_t)INT64_MAX + negative)
		return false;
	*value = (int32_t)(uint32_t)(negative ? 0 - n : n);
	return true;
}

/* ------------------------------------------------------------------- lines */

static bool is(struct mp_slice word, const char *text)
{
	return word.len == strlen(text) && memcmp(word.data, text, word.len) == 0;
}

/* The next word of [*s, end), *s moves behind it. Empty: there is none. */
static struct mp_slice next_word(const char **s, const char *end)
{
	const char *start = *s;

	while (start < end && *start == ' ')
		start++;
	*s = start;
	while (*s < end && **s != ' ')
		(*s)++;
	return (struct mp_slice){start, (size_t)(*s - start)};
}

static void split(const char *s, const char *end, struct words *w)
{
	w->count = 0;
	for (;;) {
		struct mp_slice word = next_word(&s, end);

		if (word.len == 0)
			return;
		if (w->count < MAX_TOKENS)
			w->word[w->count] = word;
		w->count++;
	}
}

static enum mc_result bad(struct mc_parser *p, const struct mc_request *r, const char *error)
{
	p->error = r->noreply ? "" : error;
	return MC_BAD;
}

static enum mc_result fatal(struct mc_parser *p, const char *error)
{
	p->error = error;
	return MC_FATAL;
}

static bool keep_key(struct mc_parser *p, int count, struct mp_slice key)
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

/* A request's one key, the second word. */
static bool take_key(struct mc_parser *p, const struct words *w, struct mc_request *r)
{
	r->key_count = 1;
	return w->word[1].len <= MC_MAX_KEY_BYTES && keep_key(p, 0, w->word[1]);
}

static void note_noreply(const struct words *w, struct mc_request *r)
{
	r->noreply = w->count > 1 && is(w->word[w->count - 1], "noreply");
}

/* A data block of so many bytes is to be passed over; then verdict. */
static enum mc_result swallow(struct mc_parser *p, size_t bytes, enum mc_result verdict)
{
	p->state = IN_GARBAGE;
	p->block_bytes = bytes + 2;
	p->verdict = verdict;
	return MC_MORE;
}

/* <verb> <key> <flags> <exptime> <bytes> [<cas unique>] [noreply] */
static enum mc_result parse_storage(struct mc_parser *p, const struct words *w,
				    struct mc_request *r)
{
	bool cas = r->verb == MC_CAS;
	int32_t exptime, bytes;

	if (w->count != 5 + cas && w->count != 6 + cas)
		return bad(p, r, "ERROR");
	note_noreply(w, r);
	if (!take_key(p, w, r) || !read_u32(w->word[2], &r->flags) ||
	    !read_i32(w->word[3], &exptime) || !read_i32(w->word[4], &bytes) ||
	    (cas && !read_u64(w->word[5], &r->number)) || bytes < 0 || bytes > INT_MAX - 2)
		return bad(p, r, BAD_FORMAT);
	r->exptime = exptime;
	r->value.len = (size_t)bytes;
	if (r->value.len <= p->limits.max_value_bytes) {
		p->state = IN_BLOCK;
		p->block_bytes = r->value.len + 2;
		return MC_MORE;
	}
	bad(p, r, TOO_LARGE);
	p->own_key = (struct mp_slice){0};
	if (r->verb == MC_SET) {
		char *own = p->own + strlen("delete ");

		memcpy(own, p->keys[0].data, p->keys[0].len);
		p->own_key = (struct mp_slice){own, p->keys[0].len};
	}
	return swallow(p, r->value.len, MC_BAD);
}

static enum mc_result parse_delete(struct mc_parser *p, const struct words *w, struct mc_request *r)
{
	bool zero = w->count > 2 && is(w->word[2], "0");

	if (w->count < 2 || w->count > 4)
		return bad(p, r, "ERROR");
	if (w->count > 2)
		note_noreply(w, r);
	if ((w->count == 3 && !zero && !r->noreply) || (w->count == 4 && !(zero && r->noreply)))
		return bad(p, r, BAD_DELETE);
	return take_key(p, w, r) ? MC_DONE : bad(p, r, BAD_FORMAT);
}

/* incr, decr: <verb> <key> <delta> [noreply] */
static enum mc_result parse_delta(struct mc_parser *p, const struct words *w, struct mc_request *r)
{
	if (w->count != 3 && w->count != 4)
		return bad(p, r, "ERROR");
	note_noreply(w, r);
	if (!take_key(p, w, r))
		return bad(p, r, BAD_FORMAT);
	return read_u64(w->word[2], &r->number) ? MC_DONE : bad(p, r, BAD_DELTA);
}

static enum mc_result parse_touch(struct mc_parser *p, const struct words *w, struct mc_request *r)
{
	int32_t exptime;

	if (w->count != 3 && w->count != 4)
		return bad(p, r, "ERROR");
	note_noreply(w, r);
	if (!take_key(p, w, r))
		return bad(p, r, BAD_FORMAT);
	if (!read_i32(w->word[2], &exptime))
		return bad(p, r, BAD_EXPTIME);
	r->exptime = exptime;
	return MC_DONE;
}

static enum mc_result parse_flush_all(struct mc_parser *p, const struct words *w,
				      struct mc_request *r)
{
	int32_t delay = 0;

	if (w->count > 3)
		return bad(p, r, "ERROR");
	note_noreply(w, r);
	if (w->count != 1 + r->noreply && !read_i32(w->word[1], &delay))
		return bad(p, r, BAD_EXPTIME);
	if (delay > 0) {
		r->verb = MC_REFUSED;
		r->refusal = DELAYED_FLUSH;
	}
	return MC_DONE;
}

static enum mc_result parse_stats(struct mc_parser *p, const struct words *w, struct mc_request *r)
{
	static const char *const served[] = {"settings", "items", "slabs", "sizes", "conns"};
	static const char *const refused[] = {"reset", "detail", "cachedump", "sizes_enable",
					      "sizes_disable"};

	if (w->count == 1)
		return MC_DONE;
	r->args = w->word[1];
	for (size_t i = 0; i < sizeof(served) / sizeof(served[0]); i++)
		if (is(r->args, served[i]))
			return MC_DONE;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (is(r->args, refused[i])) {
			r->verb = MC_REFUSED;
			r->refusal = OPERATOR;
			return MC_DONE;
		}
	}
	return bad(p, r, "ERROR");
}

static enum mc_result parse_bare(struct mc_parser *p, const struct words *w, struct mc_request *r)
{
	(void)p;
	(void)w;
	(void)r;
	return MC_DONE;
}

static enum mc_result parse_operator(struct mc_parser *p, const struct words *w,
				     struct mc_request *r)
{
	(void)p;
	note_noreply(w, r);
	r->refusal = OPERATOR;
	return MC_DONE;
}

/* Meta commands. That of `ms <key> <bytes>` is followed by a block. */
static enum mc_result parse_meta(struct mc_parser *p, const struct words *w, struct mc_request *r)
{
	int32_t bytes;

	r->refusal = META;
	if (is(w->word[0], "ms") && w->count > 2 && read_i32(w->word[2], &bytes) && bytes >= 0)
		return swallow(p, (size_t)bytes, MC_DONE);
	return MC_DONE;
}

/* get, gets: <verb> <key>+; gat, gats: <verb> <exptime> <key>* */
static enum mc_result parse_get(struct mc_parser *p, const char *s, const char *end,
				struct mc_request *r)
{
	struct mp_slice word = next_word(&s, end);
	int32_t exptime;

	if (word.len == 0)
		return bad(p, r, "ERROR");
	if (r->verb == MC_GAT || r->verb == MC_GATS) {
		if (!read_i32(word, &exptime))
			return bad(p, r, BAD_EXPTIME);
		r->exptime = exptime;
		word = next_word(&s, end);
	}
	for (; word.len > 0; word = next_word(&s, end)) {
		if (word.len > MC_MAX_KEY_BYTES)
			return bad(p, r, BAD_FORMAT);
		if (!keep_key(p, r->key_count, word))
			return bad(p, r, NO_MEMORY " writing get response");
		r->key_count++;
	}
	return MC_DONE;
}

/* The verbs, most frequent first. parse NULL: parse_get. */
static const struct verb {
	const char *name;
	size_t len;
	enum mc_verb verb;
	enum mc_result (*parse)(struct mc_parser *, const struct words *, struct mc_request *);
} verbs[] = {
#define VERB(name, verb, parse)                     \
	{                                           \
		name, sizeof(name) - 1, verb, parse \
	}
	VERB("get", MC_GET, NULL),
	VERB("set", MC_SET, parse_storage),
	VERB("gets", MC_GETS, NULL),
	VERB("delete", MC_DELETE, parse_delete),
	VERB("incr", MC_INCR, parse_delta),
	VERB("decr", MC_DECR, parse_delta),
	VERB("add", MC_ADD, parse_storage),
	VERB("cas", MC_CAS, parse_storage),
	VERB("touch", MC_TOUCH, parse_touch),
	VERB("gat", MC_GAT, NULL),
	VERB("gats", MC_GATS, NULL),
	VERB("replace", MC_REPLACE, parse_storage),
	VERB("append", MC_APPEND, parse_storage),
	VERB("prepend", MC_PREPEND, parse_storage),
	VERB("bget", MC_GET, NULL),
	VERB("version", MC_VERSION, parse_bare),
	VERB("stats", MC_STATS, parse_stats),
	VERB("flush_all", MC_FLUSH_ALL, parse_flush_all),
	VERB("quit", MC_QUIT, parse_bare),
	VERB("mg", MC_REFUSED, parse_meta),
	VERB("ms", MC_REFUSED, parse_meta),
	VERB("md", MC_REFUSED, parse_meta),
	VERB("ma", MC_REFUSED, parse_meta),
	VERB("mn", MC_REFUSED, parse_meta),
	VERB("me", MC_REFUSED, parse_meta),
	VERB("verbosity", MC_REFUSED, parse_operator),
	VERB("watch", MC_REFUSED, parse_operator),
	VERB("slabs", MC_REFUSED, parse_operator),
	VERB("lru", MC_REFUSED, parse_operator),
	VERB("lru_crawler", MC_REFUSED, parse_operator),
	VERB("cache_memlimit", MC_REFUSED, parse_operator),
	VERB("extstore", MC_REFUSED, parse_operator),
	VERB("refresh_certs", MC_REFUSED, parse_operator),
	VERB("shutdown", MC_REFUSED, parse_operator),
	VERB("misbehave", MC_REFUSED, parse_operator),
	VERB("debugtime", MC_REFUSED, parse_operator),
#undef VERB
};

static const struct verb *find_verb(struct mp_slice word)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (word.len == verbs[i].len && memcmp(word.data, verbs[i].name, word.len) == 0)
			return &verbs[i];
	return NULL;
}

/* A whole line without its end. MC_MORE: p->state says what follows it. */
static enum mc_result parse_line(struct mc_parser *p, const char *s, const char *end,
				 struct mc_request *r)
{
	const char *rest = s;
	const struct verb *verb = find_verb(next_word(&rest, end));
	struct words w;

	if (!verb)
		return bad(p, r, "ERROR");
	r->verb = verb->verb;
	if (!verb->parse)
		return parse_get(p, rest, end, r);
	split(s, end, &w);
	/* Nothing with more words than we keep is accepted; the last is looked at. */
	if (w.count > MAX_TOKENS)
		w.count = MAX_TOKENS;
	return verb->parse(p, &w, r);
}

/* ------------------------------------------------------------------- input */

/* May a line be longer than SHORT_LINE_BYTES? As in memcached, if it is a get. */
static bool is_get_line(const char *data, size_t len)
{
	size_t at = 0;

	while (at < len && at <= 100 && data[at] == ' ')
		at++;
	return len - at >= 5 &&
	       (memcmp(data + at, "get ", 4) == 0 || memcmp(data + at, "gets ", 5) == 0);
}

/* The line's LF, NULL: not there yet, or *too_long. */
static const char *find_line_end(struct mc_parser *p, const char *data, size_t len, bool *too_long)
{
	size_t limit = p->limits.max_line_bytes;
	size_t stop = len < limit ? len : limit;
	const char *lf = memchr(data + p->scanned, '\n', stop - p->scanned);
	size_t line = lf ? (size_t)(lf - data) : len;

	p->scanned = stop;
	*too_long = (!lf && len >= limit) ||
		    (line > SHORT_LINE_BYTES && !is_get_line(data, SHORT_LINE_BYTES));
	return *too_long ? NULL : lf;
}

/* Start over with the next request. */
static void finish(struct mc_parser *p)
{
	p->state = IN_LINE;
	p->scanned = 0;
}

static enum mc_result take_line(struct mc_parser *p, const char *data, size_t len, size_t *used,
				struct mc_request *r)
{
	const char *lf, *end, *nul;
	enum mc_result result;
	bool too_long;

	if (len > 0 && (unsigned char)data[0] == 0x80)
		return fatal(p, "SERVER_ERROR the binary protocol is not served");
	lf = find_line_end(p, data, len, &too_long);
	if (!lf)
		return too_long ? fatal(p, "CLIENT_ERROR line too long") : MC_MORE;
	end = lf > data && lf[-1] == '\r' ? lf - 1 : lf;
	nul = memchr(data, '\0', (size_t)(end - data));
	if (p->key_slots > KEEP_KEYS) {
		free(p->keys);
		p->keys = NULL;
		p->key_slots = 0;
	}
	p->line_bytes = (size_t)(lf - data) + 1;
	result = parse_line(p, data, nul ? nul : end, r);
	if (result == MC_MORE && p->state == IN_BLOCK) {
		p->line = *r;
		p->key_offset = (size_t)(p->keys[0].data - data);
		return MC_MORE;
	}
	*used = p->line_bytes;
	r->keys = r->key_count ? p->keys : NULL;
	r->raw = (struct mp_slice){data, *used};
	if (result == MC_MORE)
		p->line = *r; /* IN_GARBAGE */
	else
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
	finish(p);
	*r = p->line;
	if (memcmp(data + *used - 2, "\r\n", 2) != 0)
		return bad(p, r, BAD_CHUNK);
	p->keys[0].data = data + p->key_offset;
	r->keys = p->keys;
	r->value = (struct mp_slice){data + p->line_bytes, value_len};
	r->raw = (struct mp_slice){data, *used};
	return MC_DONE;
}

/* The delete that a set too large comes down to. */
static void make_delete(struct mc_parser *p, struct mc_request *r)
{
	static const char verb[] = "delete ", rest[] = " noreply\r\n";
	size_t bytes = sizeof(verb) - 1;

	memcpy(p->own, verb, bytes);
	bytes += p->own_key.len;
	memcpy(p->own + bytes, rest, sizeof(rest) - 1);
	bytes += sizeof(rest) - 1;
	assert(bytes <= sizeof(p->own));
	*r = (struct mc_request){.verb = MC_DELETE, .key_count = 1, .noreply = true};
	p->keys[0] = p->own_key;
	r->keys = p->keys;
	r->raw = (struct mp_slice){p->own, bytes};
}

static enum mc_result take_garbage(struct mc_parser *p, size_t len, size_t *used,
				   struct mc_request *r)
{
	*used = len < p->block_bytes ? len : p->block_bytes;
	p->block_bytes -= *used;
	if (p->block_bytes > 0)
		return MC_MORE;
	finish(p);
	if (p->verdict == MC_BAD) {
		if (p->own_key.len > 0)
			make_delete(p, r);
		return MC_BAD;
	}
	*r = p->line;
	r->raw = (struct mp_slice){0};
	return p->verdict;
}

enum mc_result mc_parse(struct mc_parser *p, const char *data, size_t len, size_t *used,
			struct mc_request *r)
{
	enum mc_result result = MC_MORE;
	bool to_delete = false;

	*used = 0;
	*r = (struct mc_request){.verb = MC_UNKNOWN};
	if (p->state == IN_LINE)
		result = take_line(p, data, len, used, r);
	/* The block of an unwanted one may be here already, behind the line. */
	if (result == MC_MORE && p->state == IN_GARBAGE) {
		size_t line = *used;

		to_delete = p->own_key.len > 0;
		*r = (struct mc_request){.verb = MC_UNKNOWN};
		result = take_garbage(p, len - line, used, r);
		*used += line;
	} else if (result == MC_MORE && p->state == IN_BLOCK) {
		result = take_block(p, data, len, used, r);
	}
	if (result == MC_BAD && !to_delete)
		*r = (struct mc_request){.verb = MC_UNKNOWN};
	return result;
}
