/*
 * mc_text.c - the lines of the text protocol; see mc_parser.h.
 *
 * memcached 1.6's proto_text.c was the reference for what is accepted and for
 * error texts: its quirks are kept where a client can see them (numbers are
 * read with strtol and truncated, an unknown last argument is ignored, a NUL
 * ends the line).
 */
#include <limits.h>
#include <string.h>

#include "mc_parser.h"

#define BAD_EXPTIME "CLIENT_ERROR invalid exptime argument"
#define BAD_DELTA "CLIENT_ERROR invalid numeric delta argument"
#define BAD_DELETE "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
#define NO_MEMORY "SERVER_ERROR out of memory"

/* Why not. A reason ends a sentence that begins with the command's name. */
#define OPERATOR "it concerns one server alone: send it to the backend itself"

static void split(const char *s, const char *end, struct mc_words *w)
{
	w->count = 0;
	for (;;) {
		struct mp_slice word = mc_next_word(&s, end);

		if (word.len == 0)
			return;
		if (w->count < MC_MAX_WORDS)
			w->word[w->count] = word;
		w->count++;
	}
}

/* A request's one key, the second word. */
static bool take_key(struct mc_parser *p, const struct mc_words *w, struct mc_request *r)
{
	r->key_count = 1;
	return w->word[1].len <= MC_MAX_KEY_BYTES && mc_keep_key(p, 0, w->word[1]);
}

static void note_noreply(const struct mc_words *w, struct mc_request *r)
{
	r->noreply = w->count > 1 && mp_slice_is(w->word[w->count - 1], "noreply");
}

/* <verb> <key> <flags> <exptime> <bytes> [<cas unique>] [noreply] */
static enum mc_result parse_storage(struct mc_parser *p, const struct mc_words *w,
				    struct mc_request *r)
{
	bool cas = r->verb == MC_CAS;
	int32_t exptime, bytes;

	r->compare = cas;
	if (w->count != 5 + cas && w->count != 6 + cas)
		return mc_bad(p, r, "ERROR");
	note_noreply(w, r);
	if (!take_key(p, w, r) || !mc_read_u32(w->word[2], &r->flags) ||
	    !mc_read_i32(w->word[3], &exptime) || !mc_read_i32(w->word[4], &bytes) ||
	    (cas && !mc_read_u64(w->word[5], &r->cas)) || bytes < 0 || bytes > INT_MAX - 2)
		return mc_bad(p, r, MC_BAD_FORMAT);
	r->exptime = exptime;
	if (mc_fits(p->limits, p->keys[0].len, r->flags, (size_t)bytes))
		return mc_expect_block(p, r, (size_t)bytes);
	mc_bad(p, r, MC_TOO_LARGE);
	mc_swallow(p, (size_t)bytes + 2, MC_BAD);
	if (r->verb == MC_SET)
		mc_delete_instead(p, p->keys[0], false);
	return MC_MORE;
}

static enum mc_result parse_delete(struct mc_parser *p, const struct mc_words *w,
				   struct mc_request *r)
{
	bool zero = w->count > 2 && mp_slice_is(w->word[2], "0");

	if (w->count < 2 || w->count > 4)
		return mc_bad(p, r, "ERROR");
	if (w->count > 2)
		note_noreply(w, r);
	if ((w->count == 3 && !zero && !r->noreply) || (w->count == 4 && !(zero && r->noreply)))
		return mc_bad(p, r, BAD_DELETE);
	return take_key(p, w, r) ? MC_DONE : mc_bad(p, r, MC_BAD_FORMAT);
}

/* incr, decr: <verb> <key> <delta> [noreply] */
static enum mc_result parse_delta(struct mc_parser *p, const struct mc_words *w,
				  struct mc_request *r)
{
	if (w->count != 3 && w->count != 4)
		return mc_bad(p, r, "ERROR");
	note_noreply(w, r);
	if (!take_key(p, w, r))
		return mc_bad(p, r, MC_BAD_FORMAT);
	return mc_read_u64(w->word[2], &r->number) ? MC_DONE : mc_bad(p, r, BAD_DELTA);
}

static enum mc_result parse_touch(struct mc_parser *p, const struct mc_words *w,
				  struct mc_request *r)
{
	int32_t exptime;

	if (w->count != 3 && w->count != 4)
		return mc_bad(p, r, "ERROR");
	note_noreply(w, r);
	if (!take_key(p, w, r))
		return mc_bad(p, r, MC_BAD_FORMAT);
	if (!mc_read_i32(w->word[2], &exptime))
		return mc_bad(p, r, BAD_EXPTIME);
	r->exptime = exptime;
	return MC_DONE;
}

static enum mc_result parse_flush_all(struct mc_parser *p, const struct mc_words *w,
				      struct mc_request *r)
{
	int32_t delay = 0;

	if (w->count > 3)
		return mc_bad(p, r, "ERROR");
	note_noreply(w, r);
	if (w->count != 1 + r->noreply && !mc_read_i32(w->word[1], &delay))
		return mc_bad(p, r, BAD_EXPTIME);
	r->exptime = delay > 0 ? delay : 0;
	return MC_DONE;
}

/* From the n-th word to the last (noreply left out), as it stands in the line. */
static struct mp_slice words_from(const struct mc_words *w, const struct mc_request *r, int n)
{
	int last = w->count - 1 - r->noreply;
	const char *start = w->word[n].data;

	return (struct mp_slice){start, (size_t)(w->word[last].data + w->word[last].len - start)};
}

static enum mc_result parse_stats(struct mc_parser *p, const struct mc_words *w,
				  struct mc_request *r)
{
	(void)p;
	if (w->count == 1)
		return MC_DONE;
	if (mp_slice_is(w->word[1], "muproxy"))
		r->verb = MC_OWN_STATS;
	r->args = words_from(w, r, 1);
	return MC_DONE;
}

static enum mc_result parse_bare(struct mc_parser *p, const struct mc_words *w,
				 struct mc_request *r)
{
	(void)p;
	(void)w;
	(void)r;
	return MC_DONE;
}

static enum mc_result parse_operator(struct mc_parser *p, const struct mc_words *w,
				     struct mc_request *r)
{
	(void)p;
	note_noreply(w, r);
	r->refusal = OPERATOR;
	return MC_DONE;
}

static enum mc_result parse_meta(struct mc_parser *p, const struct mc_words *w,
				 struct mc_request *r)
{
	return mc_parse_meta(p, w, r);
}

/* A setting of the server, which all replicas' get. Whether it makes sense they say. */
static enum mc_result take_setting(struct mc_parser *p, const struct mc_words *w,
				   struct mc_request *r)
{
	if (w->count < 2 + r->noreply)
		return mc_bad(p, r, "ERROR");
	r->args = words_from(w, r, 0);
	return MC_DONE;
}

static enum mc_result parse_admin(struct mc_parser *p, const struct mc_words *w,
				  struct mc_request *r)
{
	note_noreply(w, r);
	return take_setting(p, w, r);
}

/* Of all there is about slabs, only automove knows noreply; lru_crawler never does. */
static enum mc_result parse_slabs(struct mc_parser *p, const struct mc_words *w,
				  struct mc_request *r)
{
	if (w->count > 1 && mp_slice_is(w->word[1], "automove"))
		note_noreply(w, r);
	return take_setting(p, w, r);
}

/* verbosity, cache_memlimit: <verb> <number> [noreply] */
static enum mc_result parse_number(struct mc_parser *p, const struct mc_words *w,
				   struct mc_request *r)
{
	if (w->count != 2 && w->count != 3)
		return mc_bad(p, r, "ERROR");
	return parse_admin(p, w, r);
}

static enum mc_result parse_lru_crawler(struct mc_parser *p, const struct mc_words *w,
					struct mc_request *r)
{
	if (w->count < 2 ||
	    (!mp_slice_is(w->word[1], "metadump") && !mp_slice_is(w->word[1], "mgdump")))
		return take_setting(p, w, r);
	if (w->count != 3)
		return mc_bad(p, r, "ERROR");
	r->verb = MC_LISTING;
	r->args = words_from(w, r, 0);
	return MC_DONE;
}

/* get, gets: <verb> <key>+; gat, gats: <verb> <exptime> <key>* */
static enum mc_result parse_get(struct mc_parser *p, const char *s, const char *end,
				struct mc_request *r)
{
	struct mp_slice word = mc_next_word(&s, end);
	int32_t exptime;

	if (word.len == 0)
		return mc_bad(p, r, "ERROR");
	if (r->verb != MC_GET && r->verb != MC_GETS && r->verb != MC_GETS_PART) {
		if (!mc_read_i32(word, &exptime))
			return mc_bad(p, r, BAD_EXPTIME);
		r->exptime = exptime;
		word = mc_next_word(&s, end);
	}
	for (; word.len > 0; word = mc_next_word(&s, end)) {
		if (word.len > MC_MAX_KEY_BYTES)
			return mc_bad(p, r, MC_BAD_FORMAT);
		if (!mc_keep_key(p, r->key_count, word))
			return mc_bad(p, r, NO_MEMORY " writing get response");
		r->key_count++;
	}
	return MC_DONE;
}

/* The verbs, most frequent first. parse NULL: parse_get. */
static const struct verb {
	const char *name;
	size_t len;
	enum mc_verb verb;
	enum mc_result (*parse)(struct mc_parser *, const struct mc_words *, struct mc_request *);
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
	VERB("mg", MC_MG, parse_meta),
	VERB("ms", MC_SET, parse_meta),
	VERB("md", MC_DELETE, parse_meta),
	VERB("ma", MC_INCR, parse_meta),
	VERB("mn", MC_NOOP, parse_meta),
	VERB("me", MC_ME, parse_meta),
	VERB("+gat", MC_GAT_PART, NULL),
	VERB("+gats", MC_GATS_PART, NULL),
	VERB("+gets", MC_GETS_PART, NULL),
	VERB("verbosity", MC_ADMIN, parse_number),
	VERB("cache_memlimit", MC_ADMIN, parse_number),
	VERB("slabs", MC_ADMIN, parse_slabs),
	VERB("lru", MC_ADMIN, parse_admin),
	VERB("lru_crawler", MC_ADMIN, parse_lru_crawler),
	VERB("extstore", MC_ADMIN, parse_admin),
	VERB("watch", MC_REFUSED, parse_operator),
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

/* What is no command. A web browser's request is not even answered. */
static enum mc_result parse_unknown(struct mc_parser *p, const struct mc_words *w,
				    const struct mc_request *r)
{
	if (w->count > 0 && w->count <= MC_MAX_WORDS && w->word[w->count - 1].len >= 5 &&
	    memcmp(w->word[w->count - 1].data, "HTTP/", 5) == 0)
		return mc_fatal(p, "");
	return mc_bad(p, r, "ERROR");
}

enum mc_result mc_parse_line(struct mc_parser *p, const char *s, const char *end,
			     struct mc_request *r)
{
	const char *rest = s;
	const struct verb *verb = find_verb(mc_next_word(&rest, end));
	struct mc_words w;

	if (verb && *verb->name == '+' && !p->is_internal)
		verb = NULL;
	if (verb && !verb->parse) {
		r->verb = verb->verb;
		return parse_get(p, rest, end, r);
	}
	split(s, end, &w);
	if (!verb)
		return parse_unknown(p, &w, r);
	/* Nothing with more words than we keep is accepted; the last is looked at. */
	if (w.count > MC_MAX_WORDS)
		w.count = MC_MAX_WORDS;
	r->verb = verb->verb;
	return verb->parse(p, &w, r);
}
