/*
 * mc_meta.c - the lines of the meta commands; see mc_parser.h. What is accepted
 * and the error texts are those of memcached 1.6.18, and what its successors have
 * added, if the server is one (mc_limits.news).
 */
#include <limits.h>
#include <string.h>

#include "mc_base64.h"
#include "mc_parser.h"
#include "mc_token.h"

enum {
	MAX_META_WORDS = 19,
	MAX_OPAQUE_BYTES = 32, /* its letter included */
};

#define KNOWN_FLAGS "bNTRFCMJDOqPLlkstcfvhuI"
#define BAD_TOKEN "CLIENT_ERROR bad token in command line format"

static bool is_known(const struct mc_parser *p, char flag)
{
	unsigned news = p->is_internal ? MC_NEWS_ALL : p->limits->news;

	if (flag == 'E')
		return news & MC_NEWS_TOKENS;
	if (flag == 'x')
		return news & MC_NEWS_TOMBSTONES;
	return strchr(KNOWN_FLAGS, flag);
}

/* The token that a client chooses. */
static const char *take_chosen(struct mp_slice digits, uint64_t *token)
{
	if (!mc_read_u64(digits, token))
		return BAD_TOKEN;
	return *token <= MC_CHOSEN_MAX ? NULL
				       : "CLIENT_ERROR muproxy: E takes tokens below 2^64 - 2^48";
}

/* A flag with a time behind it. */
static const char *take_time(struct mp_slice digits, int64_t *time_s)
{
	int32_t value;

	if (!mc_read_i32(digits, &value))
		return BAD_TOKEN;
	*time_s = value;
	return NULL;
}

/* The key, which is in base64. */
static const char *take_base64(struct mc_parser *p, struct mc_request *r)
{
	size_t len = mc_base64_decode(p->keys[0], p->decoded);

	if (len == 0)
		return "CLIENT_ERROR error decoding key";
	r->key_is_base64 = true;
	p->keys[0] = (struct mp_slice){p->decoded, len};
	return NULL;
}

/* What stands behind a known flag. NULL: well. */
static const char *take_flag(struct mc_parser *p, struct mp_slice word, struct mc_request *r)
{
	struct mp_slice token = {word.data + 1, word.len - 1};

	switch (*word.data) {
	case 'b':
		return take_base64(p, r);
	case 'N':
		r->vivify = true;
		return take_time(token, &r->vivify_exptime);
	case 'T':
		return take_time(token, &r->exptime);
	case 'R':
		return take_time(token, &r->recache_exptime);
	case 'F':
		return mc_read_u32(token, &r->flags) ? NULL : MC_BAD_FORMAT;
	case 'C':
		r->compare = true;
		return mc_read_u64(token, &r->cas) ? NULL : BAD_TOKEN;
	case 'E':
		return take_chosen(token, &r->chosen);
	case 'M':
		return token.len == 1 ? NULL : "CLIENT_ERROR incorrect length for M token";
	case 'J':
		return mc_read_u64(token, &r->initial)
			       ? NULL
			       : "CLIENT_ERROR invalid numeric initial value";
	case 'D':
		return mc_read_u64(token, &r->number) ? NULL
						      : "CLIENT_ERROR invalid numeric delta value";
	case 'O':
		return word.len <= MAX_OPAQUE_BYTES ? NULL : "CLIENT_ERROR opaque token too long";
	case 'q':
		r->quiet = true;
		return NULL;
	default:
		return NULL; /* nothing stands behind it */
	}
}

/*
 * NULL: well. Of several errors the last one is told, as memcached does it, but
 * an unknown flag ends it all, F has nothing to add, and opaques are looked at
 * when everything else is well.
 */
static const char *take_flags_of(struct mc_parser *p, const struct mc_words *w, int n,
				 struct mc_request *r, char *mode)
{
	const char *wrong = NULL, *long_opaque = NULL;

	for (int i = n; i < w->count; i++) {
		struct mp_slice word = w->word[i];
		unsigned letter = (unsigned char)*word.data;
		const char *error;

		if (letter > 126 || (letter >= 'A' && letter <= 'z' && mc_has(r, *word.data)))
			return "CLIENT_ERROR duplicate flag";
		if (letter < 'A' || letter > 'z' || !is_known(p, *word.data))
			return "CLIENT_ERROR invalid flag";
		r->has |= mc_flag(*word.data);
		error = take_flag(p, word, r);
		if (error && letter == 'O')
			long_opaque = error;
		else if (error && (!wrong || letter != 'F'))
			wrong = error;
		else if (!error && letter == 'M')
			*mode = word.data[1];
	}
	return wrong ? wrong : long_opaque;
}

/* The flags, from the n-th word on. NULL: well. *mode: the letter behind M, 0: none. */
static const char *take_flags(struct mc_parser *p, const struct mc_words *w, int n,
			      struct mc_request *r, char *mode)
{
	const char *error;

	*mode = '\0';
	error = take_flags_of(p, w, n, r, mode);
	if (error || w->count <= n)
		return error;
	r->args.data = w->word[n].data;
	r->args.len =
		(size_t)(w->word[w->count - 1].data + w->word[w->count - 1].len - r->args.data);
	return NULL;
}

/* Which verb a mode makes of it, MC_UNKNOWN: there is none such. */
static enum mc_verb store_verb(char mode, bool compare)
{
	switch (mode) {
	case '\0':
	case 'S':
		return compare ? MC_CAS : MC_SET;
	case 'R':
		return compare ? MC_CAS : MC_REPLACE;
	case 'E':
		return MC_ADD;
	case 'A':
		return MC_APPEND;
	case 'P':
		return MC_PREPEND;
	default:
		return MC_UNKNOWN;
	}
}

/* ms takes some flags otherwise than the other commands. */
static void take_mset_flags(const struct mc_parser *p, struct mc_request *r)
{
	if (r->chosen == 0)
		r->has &= ~mc_flag('E'); /* ms E0: memcached chooses */
	r->vivify = r->vivify && p->limits->news & MC_NEWS_APPEND;
	r->tells_size = mc_has(r, 's') && p->limits->news & MC_NEWS_APPEND;
}

static enum mc_result parse_mset(struct mc_parser *p, const struct mc_words *w,
				 struct mc_request *r)
{
	struct mp_slice key = w->word[1];
	const char *error;
	int32_t bytes;
	char mode;

	if (w->count == 2)
		return mc_bad(p, r, MC_BAD_FORMAT);
	if (w->count > MAX_META_WORDS)
		return mc_bad(p, r, "CLIENT_ERROR options flags too long");
	if (!mc_read_i32(w->word[2], &bytes) || bytes < 0 || bytes > INT_MAX - 2)
		return mc_bad(p, r, MC_BAD_FORMAT);
	error = take_flags(p, w, 3, r, &mode);
	take_mset_flags(p, r);
	r->verb = store_verb(mode, r->compare);
	if (!error && r->verb == MC_UNKNOWN)
		error = "CLIENT_ERROR invalid mode for ms M token";
	if (!error && mc_fits(p->limits, p->keys[0].len, r->flags, (size_t)bytes))
		return mc_expect_block(p, r, (size_t)bytes);
	mc_bad(p, r, error ? error : MC_TOO_LARGE);
	mc_swallow(p, (size_t)bytes + 2, MC_BAD);
	if (!error)
		mc_delete_instead(p, key, r->key_is_base64);
	return MC_MORE;
}

static enum mc_result parse_marithmetic(struct mc_parser *p, struct mc_request *r, char mode)
{
	if (!mc_has(r, 'D'))
		r->number = 1;
	switch (mode) {
	case '\0':
	case 'I':
	case '+':
		return MC_DONE;
	case 'D':
	case '-':
		r->verb = MC_DECR;
		return MC_DONE;
	default:
		return mc_bad(p, r, "CLIENT_ERROR invalid mode for ma M token");
	}
}

/* mg, md, ma */
static enum mc_result parse_others(struct mc_parser *p, const struct mc_words *w,
				   struct mc_request *r)
{
	bool is_get = r->verb == MC_MG;
	const char *error;
	char mode;

	if (w->count > MAX_META_WORDS)
		return mc_bad(p, r,
			      is_get ? "CLIENT_ERROR options flags are too long"
				     : "CLIENT_ERROR options flags too long");
	error = take_flags(p, w, 2, r, &mode);
	if (error && !is_get && strcmp(error, "CLIENT_ERROR opaque token too long") != 0)
		error = "CLIENT_ERROR invalid or duplicate flag";
	if (error)
		return mc_bad(p, r, error);
	return r->verb == MC_INCR ? parse_marithmetic(p, r, mode) : MC_DONE;
}

/* me: of flags it knows b alone, as the first */
static enum mc_result parse_debug(struct mc_parser *p, const struct mc_words *w,
				  struct mc_request *r)
{
	if (w->count > 2 && mp_slice_is(w->word[2], "b") && take_base64(p, r) != NULL)
		return mc_bad(p, r, MC_BAD_FORMAT);
	return MC_DONE;
}

enum mc_result mc_parse_meta(struct mc_parser *p, const struct mc_words *w, struct mc_request *r)
{
	r->dialect = MC_META;
	if (r->verb == MC_NOOP)
		return MC_DONE;
	if (w->count < 2)
		return mc_bad(p, r, r->verb == MC_ME ? MC_BAD_FORMAT : "ERROR");
	if (w->word[1].len > MC_MAX_KEY_BYTES)
		return mc_bad(p, r, MC_BAD_FORMAT);
	if (!mc_keep_key(p, 0, w->word[1]))
		return mc_bad(p, r, "SERVER_ERROR out of memory");
	r->key_count = 1;
	if (r->verb == MC_ME)
		return parse_debug(p, w, r);
	return r->verb == MC_SET ? parse_mset(p, w, r) : parse_others(p, w, r);
}
