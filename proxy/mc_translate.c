/* mc_translate.c - see mc_translate.h. */
#include "mc_translate.h"

#include <endian.h>
#include <string.h>

#include "config.h"
#include "backend.h"
#include "mc_answer.h"
#include "mc_binary.h"

#define OWN_VERSION " muproxy/" PACKAGE_VERSION

bool mc_is_error(struct mp_slice reply)
{
	return mp_starts_with(reply, "SERVER_ERROR") || mp_starts_with(reply, "CLIENT_ERROR") ||
	       mp_starts_with(reply, "ERROR");
}

/* The first line, without its end. *rest: what is behind it. */
static struct mp_slice first_line(struct mp_slice text, struct mp_slice *rest)
{
	const char *lf = text.len > 0 ? memchr(text.data, '\n', text.len) : NULL;
	size_t bytes = lf ? (size_t)(lf - text.data) + 1 : text.len;
	struct mp_slice line = {text.data, bytes};

	*rest = (struct mp_slice){text.data + bytes, text.len - bytes};
	while (line.len > 0 && (line.data[line.len - 1] == '\n' || line.data[line.len - 1] == '\r'))
		line.len--;
	return line;
}

/* Of what a server tells about items by name: is it about our own? */
static bool is_about_ours(struct mp_slice line)
{
	const char *s = line.data, *end = s + line.len;
	struct mp_slice kind = mc_next_word(&s, end), name = mc_next_word(&s, end);

	if (mp_slice_is(kind, "ITEM")) /* cachedump */
		return mp_starts_with(name, MP_MEMCACHED_OWN_PREFIX);
	/* detail dump: what stands before the colon */
	return mp_slice_is(kind, "PREFIX") && name.len + 1 == strlen(MP_MEMCACHED_OWN_PREFIX) &&
	       memcmp(name.data, MP_MEMCACHED_OWN_PREFIX, name.len) == 0;
}

static void put_statistics(struct mc_writer *out, struct mp_slice reply)
{
	while (reply.len > 0) {
		struct mp_slice rest, line = first_line(reply, &rest);

		if (!is_about_ours(line))
			mc_put(out, reply.data, reply.len - rest.len);
		reply = rest;
	}
}

/* -------------------------------------------------------------------- text */

/* "VALUE <key> <flags> <bytes> <cas>". Returns the block's length. */
static uint64_t put_value_line(struct mc_writer *out, struct mp_slice line, uint64_t term)
{
	const char *s = line.data, *end = s + line.len;
	struct mp_slice word = {0};
	uint64_t bytes = 0;

	for (int i = 0; i < 4; i++)
		word = mc_next_word(&s, end);
	bytes = mc_digits(word);
	mc_put(out, line.data, (size_t)(word.data + word.len - line.data));
	word = mc_next_word(&s, end);
	if (word.len > 0) {
		mc_put_text(out, " ");
		mc_put_u64(out, mc_cas_tag(term, mc_digits(word)));
	}
	mc_put_text(out, "\r\n");
	return bytes;
}

/* get's and gat's, with or without END. */
static void put_values(struct mc_writer *out, struct mp_slice reply, uint64_t term, bool is_part)
{
	while (reply.len > 0) {
		struct mp_slice rest, line = first_line(reply, &rest);
		size_t block;

		if (!mp_starts_with(line, "VALUE ")) {
			if (!is_part || mc_is_error(line))
				mc_put_slice(out, reply);
			return;
		}
		block = put_value_line(out, line, term) + 2;
		if (block > rest.len)
			block = rest.len;
		mc_put(out, rest.data, block);
		reply = (struct mp_slice){rest.data + block, rest.len - block};
	}
}

static void translate_text(const struct mc_request *r, struct mp_slice reply, uint64_t term,
			   struct mc_writer *out)
{
	struct mp_slice rest, line;

	if (r->verb == MC_STATS) {
		put_statistics(out, reply);
		return;
	}
	if (r->verb != MC_VERSION) {
		put_values(out, reply, term, mc_is_part(r));
		return;
	}
	line = first_line(reply, &rest);
	mc_put_slice(out, line);
	mc_put_text(out, mc_is_error(line) ? "\r\n" : OWN_VERSION "\r\n");
}

/* -------------------------------------------------------------------- meta */

/* Words of a line whose token is in the backend's form; start: what stands before it. */
static void put_tagged(struct mc_writer *out, struct mp_slice line, const char *start,
		       uint64_t term)
{
	const char *s = line.data, *end = s + line.len;
	size_t start_len = strlen(start);
	struct mp_slice word;
	bool first = true;

	while ((word = mc_next_word(&s, end)).len > 0) {
		if (!first)
			mc_put_text(out, " ");
		/* The first word is the code. An opaque, a key begin with letters of their own. */
		if (!first && mp_starts_with(word, start)) {
			mc_put_text(out, start);
			mc_put_u64(out,
				   mc_cas_tag(term,
					      mc_digits((struct mp_slice){word.data + start_len,
									  word.len - start_len})));
		} else {
			mc_put_slice(out, word);
		}
		first = false;
	}
}

/* "HD", "STORED", "DELETED", "NOT_FOUND" to ms and md: the code, and what is to be told again. */
static void put_code(const struct mc_request *r, struct mp_slice line, uint64_t term,
		     struct mc_writer *out)
{
	bool missed = mp_starts_with(line, "NOT_FOUND") || mp_starts_with(line, "NF");
	struct mc_result_facts facts = {0};
	struct mc_decision decision;
	struct mp_slice canned = {decision.reply, 0};

	mc_answer(r, missed ? MC_NOT_THERE : MC_DONE_WELL, &facts, &decision);
	canned.len = decision.reply_bytes;
	mc_fill_canned(canned, line, term, out);
}

static void translate_meta(const struct mc_request *r, struct mp_slice reply, uint64_t term,
			   struct mc_writer *out)
{
	struct mp_slice rest, line = first_line(reply, &rest);

	if (mc_is_error(line)) {
		mc_put_slice(out, reply);
	} else if (r->verb == MC_MG || r->verb == MC_ME) {
		if (r->quiet && mp_starts_with(line, "EN"))
			return;
		put_tagged(out, line, r->verb == MC_MG ? "c" : "cas=", term);
		mc_put_text(out, "\r\n");
		mc_put_slice(out, rest);
	} else {
		put_code(r, line, term, out);
	}
}

/* ------------------------------------------------------------------ binary */

static void put_item(const struct mc_request *r, struct mp_slice reply, uint64_t term,
		     struct mc_writer *out)
{
	struct mp_slice key = {0};
	struct mc_item item;
	uint32_t flags;

	if (!mc_parse_item(reply, &item)) {
		mc_put_error(out, r, MC_STATUS_INTERNAL, "muproxy: the backend's answer is none");
		return;
	}
	if (mc_returns_key(r))
		key = r->keys[0];
	if (!item.found) {
		if (r->quiet)
			return;
		if (key.len == 0) {
			mc_put_error(out, r, MC_STATUS_NOT_FOUND, NULL);
			return;
		}
		mc_put_header(out, r, MC_STATUS_NOT_FOUND, (struct mc_binary_body){.key = key.len},
			      0);
		mc_put_slice(out, key);
		return;
	}
	flags = htobe32(item.flags);
	mc_put_header(out, r, MC_STATUS_OK,
		      (struct mc_binary_body){sizeof(flags), key.len, item.value.len},
		      mc_cas_tag(term, item.cas));
	mc_put(out, (const char *)&flags, sizeof(flags));
	mc_put_slice(out, key);
	mc_put_slice(out, item.value);
}

static void put_stat(const struct mc_request *r, struct mp_slice name, struct mp_slice value,
		     struct mc_writer *out)
{
	mc_put_header(out, r, MC_STATUS_OK,
		      (struct mc_binary_body){.key = name.len, .value = value.len}, 0);
	mc_put_slice(out, name);
	mc_put_slice(out, value);
}

/* "STAT <name> <value>" lines, and an answer without a name behind them. */
static void put_stats(const struct mc_request *r, struct mp_slice reply, struct mc_writer *out)
{
	if (mp_starts_with(reply, "PREFIX ")) {
		struct mc_writer counted = {NULL, 0, 0};

		put_statistics(&counted, reply);
		mc_put_header(
			out, r, MC_STATUS_OK,
			(struct mc_binary_body){.key = strlen("detailed"), .value = counted.bytes},
			0);
		mc_put_text(out, "detailed");
		put_statistics(out, reply);
	}
	while (mp_starts_with(reply, "STAT ")) {
		struct mp_slice rest, line = first_line(reply, &rest), name;
		const char *s = line.data + 5, *end = line.data + line.len;

		name = mc_next_word(&s, end);
		s += s < end;
		put_stat(r, name, (struct mp_slice){s, (size_t)(end - s)}, out);
		reply = rest;
	}
	put_stat(r, (struct mp_slice){0}, (struct mp_slice){0}, out);
}

static void put_version(const struct mc_request *r, struct mp_slice reply, struct mc_writer *out)
{
	struct mp_slice rest, line = first_line(reply, &rest);
	size_t skip = mp_starts_with(line, "VERSION ") ? strlen("VERSION ") : 0;
	size_t len = line.len - skip;

	mc_put_header(out, r, MC_STATUS_OK,
		      (struct mc_binary_body){.value = len + strlen(OWN_VERSION)}, 0);
	mc_put(out, line.data + skip, len);
	mc_put_text(out, OWN_VERSION);
}

static void translate_binary(const struct mc_request *r, struct mp_slice reply, uint64_t term,
			     struct mc_writer *out)
{
	struct mp_slice rest, line = first_line(reply, &rest);

	if (mc_is_error(reply) && r->verb == MC_STATS)
		mc_put_error(out, r, MC_STATUS_NOT_FOUND, NULL);
	else if (mc_is_error(reply))
		mc_put_error_line(out, r, line);
	else if (r->verb == MC_GET || r->verb == MC_GAT)
		put_item(r, reply, term, out);
	else if (r->verb == MC_STATS)
		put_stats(r, reply, out);
	else if (r->verb == MC_VERSION)
		put_version(r, reply, out);
	else
		put_code(r, line, term, out);
}

/* --------------------------------------------------------------------- all */

void mc_translate(const struct mc_request *r, struct mp_slice reply, uint64_t term,
		  struct mc_writer *out)
{
	if (r->dialect == MC_BINARY)
		translate_binary(r, reply, term, out);
	else if (r->dialect == MC_META)
		translate_meta(r, reply, term, out);
	else
		translate_text(r, reply, term, out);
}

/* The token in "HD c<cas>" or "ME ... cas=<cas> ...", 0: there is none. */
static uint64_t stored_cas(struct mp_slice reply)
{
	struct mp_slice rest, line = first_line(reply, &rest), word;
	bool is_debug = mp_starts_with(line, "ME ");
	const char *s = line.data, *end = s + line.len, *start = is_debug ? "cas=" : "c";

	mc_next_word(&s, end);
	if (is_debug)
		mc_next_word(&s, end); /* the key */
	while ((word = mc_next_word(&s, end)).len > 0)
		if (mp_starts_with(word, start))
			return mc_digits((struct mp_slice){word.data + strlen(start),
							   word.len - strlen(start)});
	return 0;
}

static void put_canned_error(const struct mc_canned *canned, struct mp_slice reply,
			     struct mc_writer *out)
{
	struct mc_request r = {.opcode = canned->opcode, .opaque = canned->opaque};

	if (canned->dialect == MC_BINARY)
		mc_put_error_line(out, &r, reply);
	else
		mc_put_slice(out, reply);
}

void mc_fill_canned(struct mp_slice canned, struct mp_slice reply, uint64_t term,
		    struct mc_writer *out)
{
	struct mp_slice text = {canned.data + sizeof(struct mc_canned), 0};
	struct mc_canned head;
	uint64_t token;

	if (canned.len < sizeof(head))
		return;
	memcpy(&head, canned.data, sizeof(head));
	text.len = canned.len - sizeof(head);
	if (mc_is_error(reply)) {
		put_canned_error(&head, reply, out);
		return;
	}
	if (head.hole == 0 || head.hole > text.len) {
		mc_put_slice(out, text);
		return;
	}
	token = mc_cas_tag(term, stored_cas(reply));
	mc_put(out, text.data, head.hole);
	if (head.dialect == MC_BINARY) {
		token = htobe64(token);
		mc_put(out, (const char *)&token, sizeof(token));
		head.hole = (uint16_t)(head.hole + sizeof(token));
	} else {
		mc_put_u64(out, token);
	}
	mc_put(out, text.data + head.hole, text.len - head.hole);
}

bool mc_has_won(struct mp_slice reply)
{
	struct mc_item item;

	return mc_parse_item(reply, &item) && item.won;
}
