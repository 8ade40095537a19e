/* mc_decide.c - see mc_decide.h. */
#include "mc_decide.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "decimal.h"

#define RELATIVE_MAX_S (60 * 60 * 24 * 30) /* memcached's REALTIME_MAXDELTA */
#define DEADLINE_JITTER_S 5                /* how wrong a deadline read back may be */
#define CAS_BITS 40
#define TERM_BITS 13
static_assert(CAS_BITS + TERM_BITS == 53, "tokens are exact in a double");

#define NON_NUMERIC "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"

enum mc_class mc_class_of(const struct mc_request *r)
{
	switch (r->verb) {
	case MC_GET:
	case MC_GETS:
	case MC_STATS:
	case MC_VERSION:
		return MC_CLASS_READ;
	case MC_SET:
	case MC_DELETE:
	case MC_TOUCH:
	case MC_GAT:
	case MC_GATS:
	case MC_FLUSH_ALL:
		return MC_CLASS_WRITE;
	case MC_ADD:
	case MC_REPLACE:
	case MC_APPEND:
	case MC_PREPEND:
	case MC_CAS:
	case MC_INCR:
	case MC_DECR:
		return MC_CLASS_DECIDED;
	case MC_QUIT:
	case MC_REFUSED:
	case MC_UNKNOWN:
		break;
	}
	return MC_CLASS_LOCAL;
}

bool mc_is_blind(const struct mc_request *r)
{
	return mc_class_of(r) == MC_CLASS_WRITE;
}

bool mc_has_tokens(const struct mc_request *r)
{
	return r->verb == MC_GETS || r->verb == MC_GATS;
}

/* ------------------------------------------------------------------ output */

/* Bytes written one behind the other; those that find no room are counted only. */
struct writer {
	char *out;
	size_t cap, bytes;
};

static void put(struct writer *w, const char *data, size_t len)
{
	if (len > 0 && w->bytes + len <= w->cap)
		memcpy(w->out + w->bytes, data, len);
	w->bytes += len;
}

static void put_text(struct writer *w, const char *text)
{
	put(w, text, strlen(text));
}

static void put_slice(struct writer *w, struct mp_slice s)
{
	put(w, s.data, s.len);
}

static void put_u64(struct writer *w, uint64_t value)
{
	char digits[MP_DECIMAL_BYTES];

	put(w, digits, mp_format_u64(digits, value));
}

static void put_i64(struct writer *w, int64_t value)
{
	char digits[MP_DECIMAL_BYTES];

	put(w, digits, mp_format_i64(digits, value));
}

/* --------------------------------------------------------------- deadlines */

/* FNV-1a. Two keys of one hash would at worst exchange deadlines that are within jitter anyway. */
static uint64_t hash_key(struct mp_slice key)
{
	uint64_t hash = 14695981039346656037ULL;

	for (size_t i = 0; i < key.len; i++)
		hash = (hash ^ (unsigned char)key.data[i]) * 1099511628211ULL;
	return hash;
}

static void remember(struct mc_deadlines *deadlines, struct mp_slice key, int64_t deadline_s)
{
	uint64_t hash = hash_key(key);
	size_t at = hash % MC_DEADLINE_SLOTS;

	deadlines->slot[at].key_hash = hash;
	deadlines->slot[at].deadline_s = deadline_s;
}

/* An exptime as sent, absolute; it is remembered as the key's. */
static int64_t absolute(struct mc_deadlines *deadlines, struct mp_slice key, int64_t exptime,
			int64_t now_s)
{
	int64_t deadline_s = exptime;

	if (exptime <= 0)
		return exptime < 0 ? -1 : 0; /* at once; never */
	if (exptime <= RELATIVE_MAX_S)
		deadline_s = now_s + exptime;
	if (deadline_s > INT32_MAX)
		deadline_s = INT32_MAX; /* memcached 1.6 cuts what is above to 32 bits */
	remember(deadlines, key, deadline_s);
	return deadline_s;
}

/* The deadline of an item that is to keep it. */
static int64_t kept(struct mc_deadlines *deadlines, struct mp_slice key, const struct mc_item *item,
		    int64_t now_s)
{
	uint64_t hash = hash_key(key);
	size_t at = hash % MC_DEADLINE_SLOTS;
	int64_t known_s = deadlines->slot[at].deadline_s;
	int64_t deadline_s = now_s + item->left_s;

	if (item->left_s < 0)
		return 0;
	if (deadlines->slot[at].key_hash == hash && known_s >= deadline_s - DEADLINE_JITTER_S &&
	    known_s <= deadline_s + DEADLINE_JITTER_S)
		return known_s;
	remember(deadlines, key, deadline_s);
	return deadline_s;
}

/* ---------------------------------------------------------------- encoding */

/* A value: two parts, and blanks to fill it up. */
struct value {
	struct mp_slice head, tail;
	size_t blanks;
};

static void put_set(struct writer *w, struct mp_slice key, uint32_t flags, int64_t deadline_s,
		    const struct value *value)
{
	put_text(w, "set ");
	put_slice(w, key);
	put_text(w, " ");
	put_u64(w, flags);
	put_text(w, " ");
	put_i64(w, deadline_s);
	put_text(w, " ");
	put_u64(w, value->head.len + value->tail.len + value->blanks);
	put_text(w, "\r\n");
	put_slice(w, value->head);
	put_slice(w, value->tail);
	for (size_t i = 0; i < value->blanks; i++)
		put_text(w, " ");
	put_text(w, "\r\n");
}

static void put_delete(struct writer *w, struct mp_slice key)
{
	put_text(w, "delete ");
	put_slice(w, key);
	put_text(w, "\r\n");
}

static void put_keys(struct writer *w, const struct mc_request *r)
{
	for (int i = 0; i < r->key_count; i++) {
		put_text(w, " ");
		put_slice(w, r->keys[i]);
	}
}

/* gat and gats: every key gets the same deadline. */
static void put_gat(struct writer *w, const struct mc_request *r, int64_t now_s,
		    struct mc_deadlines *deadlines)
{
	int64_t deadline_s = absolute(deadlines, (struct mp_slice){0}, r->exptime, now_s);

	for (int i = 0; i < r->key_count && deadline_s > 0; i++)
		remember(deadlines, r->keys[i], deadline_s);
	put_text(w, r->verb == MC_GAT ? "gat " : "gats ");
	put_i64(w, deadline_s);
	put_keys(w, r);
}

size_t mc_encode(const struct mc_request *r, int64_t now_s, struct mc_deadlines *deadlines,
		 char *out, size_t cap)
{
	struct writer w = {out, cap, 0};

	assert(mc_class_of(r) == MC_CLASS_READ || mc_class_of(r) == MC_CLASS_WRITE);
	switch (r->verb) {
	case MC_SET:
		put_set(&w, r->keys[0], r->flags,
			absolute(deadlines, r->keys[0], r->exptime, now_s),
			&(struct value){.head = r->value});
		return w.bytes;
	case MC_DELETE:
		put_delete(&w, r->keys[0]);
		return w.bytes;
	case MC_GET:
		put_text(&w, "get");
		put_keys(&w, r);
		break;
	case MC_GETS:
		put_text(&w, "gets");
		put_keys(&w, r);
		break;
	case MC_TOUCH:
		put_text(&w, "touch");
		put_keys(&w, r);
		put_text(&w, " ");
		put_i64(&w, absolute(deadlines, r->keys[0], r->exptime, now_s));
		break;
	case MC_FLUSH_ALL:
		put_text(&w, "flush_all");
		break;
	case MC_STATS:
		put_text(&w, r->args.len > 0 ? "stats " : "stats");
		put_slice(&w, r->args);
		break;
	case MC_VERSION:
		put_text(&w, "version");
		break;
	default:
		put_gat(&w, r, now_s, deadlines);
		break;
	}
	put_text(&w, "\r\n");
	return w.bytes;
}

/* ------------------------------------------------------------------- fetch */

size_t mc_encode_fetch(const struct mc_request *r, char *out, size_t cap)
{
	struct writer w = {out, cap, 0};

	assert(r->key_count == 1);
	put_text(&w, "mg ");
	put_slice(&w, r->keys[0]);
	put_text(&w, " v f t c\r\n");
	return w.bytes;
}

/* A word of digits (or -1) behind a flag's letter. */
static bool read_word(const char *s, const char *end, int64_t *value)
{
	bool negative = s < end && *s == '-';
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

/* "VA <bytes> f<flags> t<seconds left> c<cas>": a word of it. */
static bool read_flag(const char *s, const char *end, struct mc_item *item)
{
	int64_t value;

	if (!read_word(s + 1, end, &value))
		return *s != 'f' && *s != 't' && *s != 'c'; /* others do not concern us */
	if (*s == 'f')
		item->flags = (uint32_t)value;
	else if (*s == 't')
		item->left_s = value;
	else if (*s == 'c')
		item->cas = (uint64_t)value;
	return true;
}

bool mc_parse_fetched(struct mp_slice reply, struct mc_item *item)
{
	const char *lf = reply.len > 3 ? memchr(reply.data, '\n', reply.len) : NULL;
	const char *end = lf && lf > reply.data && lf[-1] == '\r' ? lf - 1 : NULL;
	const char *s;
	int64_t bytes = -1;

	*item = (struct mc_item){.left_s = -1};
	if (!end)
		return false;
	if (end - reply.data == 2 && memcmp(reply.data, "EN", 2) == 0)
		return true;
	if (end - reply.data < 4 || memcmp(reply.data, "VA ", 3) != 0)
		return false;
	s = reply.data + 3;
	while (s < end) {
		const char *word_end = memchr(s, ' ', (size_t)(end - s));

		if (!word_end)
			word_end = end;
		if (bytes < 0) {
			if (!read_word(s, word_end, &bytes) || bytes < 0)
				return false;
		} else if (word_end > s && !read_flag(s, word_end, item)) {
			return false;
		}
		s = word_end + (word_end < end);
	}
	if (bytes < 0 || (uint64_t)bytes + 2 != reply.len - (size_t)(lf + 1 - reply.data))
		return false;
	item->found = true;
	item->value = (struct mp_slice){lf + 1, (size_t)bytes};
	return true;
}

/* ------------------------------------------------------------------ decide */

/* What a decision works with. */
struct deciding {
	const struct mc_request *request;
	const struct mc_item *item;
	int64_t now_s;
	struct mc_deadlines *deadlines;
	struct writer record;
	struct mc_decision *decision;
};

static void reply(struct deciding *d, const char *text)
{
	size_t bytes = strlen(text);

	assert(bytes <= sizeof(d->decision->reply));
	memcpy(d->decision->reply, text, bytes);
	d->decision->reply_bytes = bytes;
}

/* The key is missing, and the command wants it. */
static void miss(struct deciding *d, const char *text)
{
	put_delete(&d->record, d->request->keys[0]);
	reply(d, text);
}

/* What the client sent becomes the item. */
static void store(struct deciding *d)
{
	const struct mc_request *r = d->request;

	put_set(&d->record, r->keys[0], r->flags,
		absolute(d->deadlines, r->keys[0], r->exptime, d->now_s),
		&(struct value){.head = r->value});
	reply(d, "STORED\r\n");
}

/* The item gets another value and keeps what else it has. */
static void change(struct deciding *d, const struct value *value)
{
	struct mp_slice key = d->request->keys[0];

	put_set(&d->record, key, d->item->flags, kept(d->deadlines, key, d->item, d->now_s), value);
}

static void decide_cas(struct deciding *d, uint64_t term)
{
	if (!d->item->found)
		miss(d, "NOT_FOUND\r\n");
	else if (mc_cas_matches(d->request->number, term, d->item->cas))
		store(d);
	else
		reply(d, "EXISTS\r\n");
}

/* append, prepend */
static void decide_extend(struct deciding *d, size_t max_value_bytes)
{
	struct mp_slice old = d->item->value, more = d->request->value;

	if (!d->item->found) {
		miss(d, "NOT_STORED\r\n");
		return;
	}
	if (old.len + more.len > max_value_bytes) {
		reply(d, "SERVER_ERROR object too large for cache\r\n");
		return;
	}
	if (d->request->verb == MC_APPEND)
		change(d, &(struct value){.head = old, .tail = more});
	else
		change(d, &(struct value){.head = more, .tail = old});
	reply(d, "STORED\r\n");
}

/*
 * The number that a value is to incr and decr, as strtoull(3) reads it: blanks
 * before, a sign, and behind the digits nothing but a blank. What follows that
 * does not count, but a minus anywhere makes what would be 2^63 or more no
 * number at all: so -1 is none.
 */
static bool read_value(struct mp_slice value, uint64_t *number)
{
	const char *s = value.data, *end = s + value.len, *digits;
	bool negative;
	uint64_t n = 0;

	while (s < end && isspace((unsigned char)*s))
		s++;
	negative = s < end && *s == '-';
	if (s < end && (*s == '-' || *s == '+'))
		s++;
	for (digits = s; s < end && *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*s - '0'), &n))
			return false;
	if (s == digits || (s < end && !isspace((unsigned char)*s)))
		return false;
	*number = negative ? 0 - n : n;
	return (int64_t)*number >= 0 || !memchr(value.data, '-', value.len);
}

/* incr wraps at 2^64, decr stops at 0. A shorter result is padded to the old length. */
static void decide_delta(struct deciding *d)
{
	uint64_t delta = d->request->number, number;
	char digits[MP_DECIMAL_BYTES];
	struct value value = {0};
	size_t len;

	if (!d->item->found) {
		miss(d, "NOT_FOUND\r\n");
		return;
	}
	if (!read_value(d->item->value, &number)) {
		reply(d, NON_NUMERIC);
		return;
	}
	if (d->request->verb == MC_INCR)
		number += delta;
	else
		number = number > delta ? number - delta : 0;
	len = mp_format_u64(digits, number);
	value.head = (struct mp_slice){digits, len};
	if (d->item->value.len > len)
		value.blanks = d->item->value.len - len;
	change(d, &value);
	memcpy(d->decision->reply, digits, len);
	memcpy(d->decision->reply + len, "\r\n", 2);
	d->decision->reply_bytes = len + 2;
}

void mc_decide(const struct mc_request *r, const struct mc_item *item, uint64_t term, int64_t now_s,
	       size_t max_value_bytes, struct mc_deadlines *deadlines, char *out, size_t cap,
	       struct mc_decision *decision)
{
	struct deciding d = {r, item, now_s, deadlines, {out, cap, 0}, decision};

	assert(mc_class_of(r) == MC_CLASS_DECIDED && r->key_count == 1);
	switch (r->verb) {
	case MC_ADD:
		if (item->found)
			reply(&d, "NOT_STORED\r\n");
		else
			store(&d);
		break;
	case MC_REPLACE:
		if (item->found)
			store(&d);
		else
			miss(&d, "NOT_STORED\r\n");
		break;
	case MC_CAS:
		decide_cas(&d, term);
		break;
	case MC_APPEND:
	case MC_PREPEND:
		decide_extend(&d, max_value_bytes);
		break;
	default:
		decide_delta(&d);
		break;
	}
	decision->record_bytes = d.record.bytes;
}

/* ------------------------------------------------------------------ tokens */

uint64_t mc_term(uint64_t ballot)
{
	return (ballot >> 8) * 8 + (ballot & 7);
}

uint64_t mc_cas_tag(uint64_t term, uint64_t backend_cas)
{
	uint64_t term_part = term & ((1ULL << TERM_BITS) - 1);

	return term_part << CAS_BITS | (backend_cas & ((1ULL << CAS_BITS) - 1));
}

bool mc_cas_matches(uint64_t token, uint64_t term, uint64_t backend_cas)
{
	return token == mc_cas_tag(term, backend_cas);
}

/* The last word of [s, end) as a number, NULL if it is none; else where it begins. */
static const char *last_number(const char *s, const char *end, uint64_t *value)
{
	const char *word = end;
	int64_t number;

	while (word > s && word[-1] != ' ')
		word--;
	if (!read_word(word, end, &number))
		return NULL;
	*value = (uint64_t)number;
	return word;
}

/* "VALUE <key> <flags> <bytes> <cas>" without its end. Returns the block's length. */
static uint64_t rewrite_value(struct writer *w, uint64_t term, const char *s, const char *end)
{
	uint64_t cas, bytes;
	const char *cas_word = last_number(s, end, &cas);

	if (!cas_word || !last_number(s, cas_word - 1, &bytes)) {
		put(w, s, (size_t)(end - s));
		return 0;
	}
	put(w, s, (size_t)(cas_word - s));
	put_u64(w, mc_cas_tag(term, cas));
	return bytes;
}

size_t mc_cas_rewrite(uint64_t term, struct mp_slice text, char *out, size_t cap)
{
	const char *s = text.data, *end = s + text.len;
	struct writer w = {out, cap, 0};

	while (s < end) {
		const char *lf = memchr(s, '\n', (size_t)(end - s));
		const char *line_end = lf && lf > s && lf[-1] == '\r' ? lf - 1 : NULL;
		size_t left, rest; /* the line's end, and the block with its CRLF */
		uint64_t block;

		if (!line_end || line_end - s < 6 || memcmp(s, "VALUE ", 6) != 0) {
			put(&w, s, (size_t)(end - s));
			break;
		}
		left = (size_t)(end - line_end);
		block = rewrite_value(&w, term, s, line_end);
		rest = block < left ? (size_t)block + 4 : left;
		if (rest > left)
			rest = left;
		put(&w, line_end, rest);
		s = line_end + rest;
	}
	return w.bytes;
}
