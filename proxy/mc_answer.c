/* mc_answer.c - see mc_answer.h. */
#include "mc_answer.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "mc_base64.h"
#include "mc_binary.h"

#define NON_NUMERIC "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"

static bool is_delta(const struct mc_request *r)
{
	return r->verb == MC_INCR || r->verb == MC_DECR;
}

/* -------------------------------------------------------------------- text */

static const char *done_line(const struct mc_request *r)
{
	return r->verb == MC_TOUCH    ? "TOUCHED\r\n"
	       : r->verb == MC_DELETE ? "DELETED\r\n"
				      : "STORED\r\n";
}

static void put_text_answer(struct mc_writer *w, const struct mc_request *r,
			    enum mc_outcome outcome, const struct mc_result_facts *facts)
{
	bool is_get = r->verb == MC_GAT || r->verb == MC_GATS;

	switch (outcome) {
	case MC_DONE_WELL:
		if (is_delta(r))
			mc_put_u64(w, facts->number);
		mc_put_text(w, is_delta(r) ? "\r\n" : done_line(r));
		break;
	case MC_IS_THERE:
		mc_put_text(w, "EXISTS\r\n");
		break;
	case MC_NOT_THERE:
		if (r->verb != MC_GAT_PART && r->verb != MC_GATS_PART)
			mc_put_text(w, is_get ? "END\r\n" : "NOT_FOUND\r\n");
		break;
	case MC_NOT_PUT:
		mc_put_text(w, "NOT_STORED\r\n");
		break;
	case MC_NO_NUMBER:
		mc_put_text(w, NON_NUMERIC);
		break;
	}
}

/* -------------------------------------------------------------------- meta */

static void put_meta_key(struct mc_writer *w, const struct mc_request *r)
{
	char text[MC_MAX_KEY_BYTES + 8];

	mc_put_text(w, " k");
	if (!r->key_is_base64) {
		mc_put_slice(w, r->keys[0]);
		return;
	}
	mc_put(w, text, mc_base64_encode(r->keys[0], text));
	mc_put_text(w, " b");
}

static void put_meta_ttl(struct mc_writer *w, int64_t deadline_s, int64_t now_s)
{
	mc_put_flag(w, 't', deadline_s == 0 ? -1 : deadline_s - now_s);
}

/* What the client wants to be told again, in the order of its flags. */
static void put_meta_flags(struct mc_writer *w, const struct mc_request *r, bool well,
			   const struct mc_result_facts *facts, struct mc_canned *canned)
{
	const char *s = r->args.len > 0 ? r->args.data : "", *end = s + r->args.len;
	int64_t deadline_s = facts->old_deadline_s; /* so far */

	for (;;) {
		struct mp_slice word = mc_next_word(&s, end);

		if (word.len == 0)
			return;
		switch (*word.data) {
		case 'O':
			mc_put_text(w, " ");
			mc_put_slice(w, word);
			break;
		case 'k':
			put_meta_key(w, r);
			break;
		case 'T':
		case 'N':
			if (*word.data == 'T' || facts->is_new)
				deadline_s = facts->deadline_s;
			break;
		case 's':
			if (r->tells_size)
				mc_put_flag(w, 's', (int64_t)(facts->old_bytes + r->value.len));
			break;
		case 't':
			if (is_delta(r) && well)
				put_meta_ttl(w, deadline_s, facts->now_s);
			break;
		case 'c':
			if (r->verb == MC_DELETE || r->verb == MC_MG || (is_delta(r) && !well))
				break;
			mc_put_text(w, well ? " c" : " c0");
			if (well)
				canned->hole = (uint16_t)(w->bytes);
			break;
		default:
			break;
		}
	}
}

static const char *meta_code(enum mc_outcome outcome, const struct mc_request *r)
{
	switch (outcome) {
	case MC_IS_THERE:
		return "EX";
	case MC_NOT_THERE:
		return r->verb == MC_MG ? "EN" : "NF";
	case MC_NOT_PUT:
		return "NS";
	default:
		return "HD";
	}
}

static void put_meta_answer(struct mc_writer *w, const struct mc_request *r,
			    enum mc_outcome outcome, const struct mc_result_facts *facts,
			    struct mc_canned *canned)
{
	bool well = outcome == MC_DONE_WELL, with_value = well && is_delta(r) && mc_has(r, 'v');
	char digits[MP_DECIMAL_BYTES];
	size_t len = mp_format_u64(digits, facts->number);

	if (r->quiet && ((well && !facts->is_new) || (r->verb == MC_MG && outcome == MC_NOT_THERE)))
		return;
	if (outcome == MC_NO_NUMBER) {
		mc_put_text(w, NON_NUMERIC);
		return;
	}
	mc_put_text(w, with_value ? "VA " : meta_code(outcome, r));
	if (with_value)
		mc_put_u64(w, len);
	put_meta_flags(w, r, well, facts, canned);
	mc_put_text(w, "\r\n");
	if (!with_value)
		return;
	mc_put(w, digits, len);
	mc_put_text(w, "\r\n");
}

/* ------------------------------------------------------------------ binary */

static enum mc_status binary_status(const struct mc_request *r, enum mc_outcome outcome)
{
	switch (outcome) {
	case MC_IS_THERE:
		return MC_STATUS_EXISTS;
	case MC_NOT_THERE:
		return MC_STATUS_NOT_FOUND;
	case MC_NOT_PUT:
		return r->verb == MC_ADD       ? MC_STATUS_EXISTS
		       : r->verb == MC_REPLACE ? MC_STATUS_NOT_FOUND
					       : MC_STATUS_NOT_STORED;
	case MC_NO_NUMBER:
		return MC_STATUS_NON_NUMERIC;
	case MC_DONE_WELL:
		break;
	}
	return MC_STATUS_OK;
}

static void put_binary_done(struct mc_writer *w, const struct mc_request *r,
			    const struct mc_result_facts *facts, struct mc_canned *canned)
{
	uint64_t number = htobe64(facts->number);
	uint32_t flags = htobe32(facts->flags);

	if (r->quiet)
		return;
	if (r->verb == MC_TOUCH) {
		mc_put_header(w, r, MC_STATUS_OK, (struct mc_binary_body){.extras = sizeof(flags)},
			      facts->token);
		mc_put(w, (const char *)&flags, sizeof(flags));
		return;
	}
	if (is_delta(r)) {
		mc_put_header(w, r, MC_STATUS_OK, (struct mc_binary_body){.value = sizeof(number)},
			      0);
		mc_put(w, (const char *)&number, sizeof(number));
	} else {
		mc_put_header(w, r, MC_STATUS_OK, (struct mc_binary_body){0}, 0);
	}
	if (mc_stores(r))
		canned->hole = MC_BINARY_CAS_OFFSET;
}

static void put_binary_answer(struct mc_writer *w, const struct mc_request *r,
			      enum mc_outcome outcome, const struct mc_result_facts *facts,
			      struct mc_canned *canned)
{
	if (outcome == MC_DONE_WELL) {
		put_binary_done(w, r, facts, canned);
		return;
	}
	if (r->verb == MC_GAT && outcome == MC_NOT_THERE) {
		if (r->quiet)
			return;
		if (mc_returns_key(r)) {
			mc_put_header(w, r, MC_STATUS_NOT_FOUND,
				      (struct mc_binary_body){.key = r->keys[0].len}, 0);
			mc_put_slice(w, r->keys[0]);
			return;
		}
	}
	mc_put_error(w, r, binary_status(r, outcome), NULL);
}

void mc_answer(const struct mc_request *r, enum mc_outcome outcome,
	       const struct mc_result_facts *facts, struct mc_decision *decision)
{
	struct mc_canned canned = {
		.dialect = (uint8_t)r->dialect, .opcode = r->opcode, .opaque = r->opaque};
	struct mc_writer w = {decision->reply + sizeof(canned),
			      sizeof(decision->reply) - sizeof(canned), 0};

	if (r->dialect == MC_BINARY)
		put_binary_answer(&w, r, outcome, facts, &canned);
	else if (r->dialect == MC_META)
		put_meta_answer(&w, r, outcome, facts, &canned);
	else
		put_text_answer(&w, r, outcome, facts);
	assert(w.bytes <= w.cap);
	memcpy(decision->reply, &canned, sizeof(canned));
	decision->reply_bytes = sizeof(canned) + w.bytes;
}
