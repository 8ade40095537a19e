/*
 * fuzz_mc.c - libFuzzer harness for the Memcached codec. Whatever the bytes:
 * they mean the same in whatever pieces they come; what is written for the log
 * is one request, the same one, and is written the same again (nobody can
 * smuggle a second command into a record); decisions and replies stay within
 * their bounds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "mc_decide.h"
#include "mc_text.h"
#include "mc_token.h"
#include "mc_translate.h"

#define NOW_S 1700000000

static const struct mc_limits limits = {
	.news = MC_NEWS_ALL, .max_value_bytes = 256, .max_line_bytes = 4096};
static struct mc_deadlines deadlines;

/* The one request that the wire form holds. */
static void parse_one(struct mc_parser *parser, const char *wire, size_t len, struct mc_request *r)
{
	size_t used;

	CHECK(mc_parse(parser, wire, len, &used, r) == MC_DONE);
	CHECK(used == len && !r->noreply && (!r->quiet || r->dialect == MC_META));
}

static void check_key(const struct mc_request *a, const struct mc_request *b)
{
	CHECK(a->key_count == b->key_count);
	for (int i = 0; i < a->key_count; i++)
		CHECK(a->keys[i].len == b->keys[i].len &&
		      memcmp(a->keys[i].data, b->keys[i].data, a->keys[i].len) == 0);
}

static void check_encoded(const struct mc_request *r)
{
	/* A value may be as long as its request; decided ones are longer still. */
	struct mc_limits wide = {
		.news = MC_NEWS_ALL, .max_value_bytes = 1 << 20, .max_line_bytes = 8192};
	struct mc_parser *parser = mc_parser_new(&wide);
	size_t len = mc_encode(r, NOW_S, &deadlines, NULL, 0);
	char *wire = malloc(len), *again_wire = malloc(len);
	struct mc_request again;

	CHECK(parser && wire && again_wire);
	CHECK(mc_encode(r, NOW_S, &deadlines, wire, len) == len);
	parse_one(parser, wire, len, &again);
	/* A binary get goes as gets. */
	CHECK(again.verb == r->verb || again.verb == MC_GETS || again.verb == MC_MG);
	CHECK(again.value.len == r->value.len);
	/* What stores nothing (md) may name flags, which mean nothing and are left out. */
	CHECK(!mc_stores(r) || again.flags == r->flags);
	if (r->verb != MC_STATS)
		check_key(&again, r);
	if (r->value.len > 0)
		CHECK(memcmp(again.value.data, r->value.data, r->value.len) == 0);
	/* At another time, too. (Tokens are told as servers are to have them.) */
	again.chosen -= mc_has(&again, 'E') ? MC_CHOSEN_BASE : 0;
	CHECK(r->dialect == MC_BINARY ||
	      mc_encode(&again, NOW_S + 12345, &deadlines, again_wire, len) == len);
	CHECK(r->dialect == MC_BINARY || memcmp(wire, again_wire, len) == 0);
	free(wire);
	free(again_wire);
	mc_parser_free(parser);
}

/* Whatever the backend answers, it becomes an answer. */
static void check_canned(const struct mc_decision *decision, struct mp_slice reply)
{
	struct mp_slice canned = {decision->reply, decision->reply_bytes};
	char out[4096];
	struct mc_writer w = {out, sizeof(out), 0};

	if (canned.len > 0)
		mc_fill_canned(canned, reply, 8191, &w);
	CHECK(w.bytes <= canned.len + reply.len + 64);
}

static void check_translated(const struct mc_request *r, struct mp_slice reply)
{
	struct mc_writer w = {NULL, 0, 0};
	size_t len;
	char *out;

	mc_translate(r, reply, 8191, &w);
	len = w.bytes;
	out = malloc(len ? len : 1);
	CHECK(out);
	w = (struct mc_writer){out, len, 0};
	mc_translate(r, reply, 8191, &w);
	CHECK(w.bytes == len);
	free(out);
}

static void check_decided(const struct mc_request *r, struct mp_slice value)
{
	struct mc_limits wide = {
		.news = MC_NEWS_ALL, .max_value_bytes = 1 << 20, .max_line_bytes = 8192};
	struct mc_item item = {.found = true,
			       .value = value,
			       .flags = 7,
			       .left_s = (int64_t)(value.len % 100) - 1,
			       .cas = r->cas % MC_CHOSEN_MAX};
	struct mc_parser *parser = mc_parser_new(&wide);
	struct mc_decision decision;
	char fetch[MC_FETCH_BYTES];

	CHECK(parser && mc_encode_fetch(r, fetch, sizeof(fetch)) <= sizeof(fetch));
	for (int found = 0; found < 2; found++) {
		size_t len, pos = 0;
		char *wire;

		item.found = found;
		item.stale = value.len % 3 == 0;
		item.won = value.len % 2 == 0;
		mc_decide(r, &item, 0, NOW_S, &wide, &deadlines, NULL, 0, &decision);
		CHECK(decision.reply_bytes <= sizeof(decision.reply));
		CHECK((decision.record_bytes > 0) == (decision.commands > 0));
		CHECK(decision.reply_bytes > 0 || mc_needs_translation(r) || r->verb == MC_GAT);
		check_canned(&decision, value);
		len = decision.record_bytes;
		wire = malloc(len ? len : 1);
		CHECK(wire);
		mc_decide(r, &item, 0, NOW_S, &wide, &deadlines, wire, len, &decision);
		CHECK(decision.record_bytes == len);
		for (int i = 0; i < decision.commands; i++) {
			struct mc_request record;
			size_t used;

			CHECK(mc_parse(parser, wire + pos, len - pos, &used, &record) == MC_DONE);
			CHECK(!record.noreply && !record.quiet);
			check_key(&record, r);
			pos += used;
		}
		CHECK(pos == len);
		free(wire);
	}
	mc_parser_free(parser);
}

/* What servers are told of tokens goes beyond what clients may say, and this parser takes. */
static bool is_beyond_clients(const struct mc_request *r)
{
	return mc_has(r, 'E') && mc_cas_of_chosen(r->chosen) > MC_CHOSEN_MAX;
}

static void check_requests(struct mp_slice input)
{
	struct mc_parser *parser = mc_parser_new(&limits);
	enum mc_result result;
	struct mc_request r;
	size_t pos = 0, used;

	CHECK(parser);
	do {
		result = mc_parse(parser, input.data + pos, input.len - pos, &used, &r);
		pos += used;
		if (result != MC_DONE || is_beyond_clients(&r))
			continue;
		if (mc_class_of(&r) != MC_CLASS_LOCAL)
			check_translated(&r, input);
		if (mc_class_of(&r) == MC_CLASS_DECIDED)
			check_decided(&r, input);
		else if (mc_class_of(&r) != MC_CLASS_LOCAL)
			check_encoded(&r);
	} while (result == MC_DONE || result == MC_BAD);
	mc_parser_free(parser);
}

static void check_reply(struct mp_slice reply)
{
	struct mc_request gets = {.verb = MC_GETS};
	struct mc_item item;

	check_translated(&gets, reply);
	if (mc_parse_item(reply, &item) && item.value.len > 0)
		CHECK(item.value.data >= reply.data &&
		      item.value.data + item.value.len + 2 <= reply.data + reply.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mp_slice input = {(const char *)data, size};

	check_pieces(test_feed_mc, &limits, test_feed_mc_framer, input, size);
	check_requests(input);
	check_reply(input);
	return 0;
}
