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

#include "feed.h"
#include "mc_decide.h"
#include "mc_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

#define NOW_S 1700000000

static const struct mc_limits limits = {.max_value_bytes = 256, .max_line_bytes = 4096};
static struct mc_deadlines deadlines;

static void check_same(const struct test_notes *a, const struct test_notes *b)
{
	CHECK(a->len == b->len);
	CHECK(a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

static void check_pieces(struct mp_slice input, uint64_t seed)
{
	struct test_notes whole = {0}, pieces = {0}, bytes = {0};

	test_feed_mc(&limits, input, test_cut_whole, NULL, &whole);
	test_feed_mc(&limits, input, test_cut_random, &seed, &pieces);
	test_feed_mc(&limits, input, test_cut_bytes, NULL, &bytes);
	check_same(&whole, &pieces);
	check_same(&whole, &bytes);
	test_notes_free(&whole);
	test_notes_free(&pieces);
	test_notes_free(&bytes);
	test_feed_mc_framer(input, test_cut_whole, NULL, &whole);
	test_feed_mc_framer(input, test_cut_random, &seed, &pieces);
	check_same(&whole, &pieces);
	test_notes_free(&whole);
	test_notes_free(&pieces);
}

/* The one request that the wire form holds. */
static void parse_one(struct mc_parser *parser, const char *wire, size_t len, struct mc_request *r)
{
	size_t used;

	CHECK(mc_parse(parser, wire, len, &used, r) == MC_DONE);
	CHECK(used == len && !r->noreply);
}

static void check_encoded(const struct mc_request *r)
{
	/* A value may be as long as its request; decided ones are longer still. */
	struct mc_limits wide = {.max_value_bytes = 1 << 20, .max_line_bytes = 8192};
	struct mc_parser *parser = mc_parser_new(&wide);
	size_t len = mc_encode(r, NOW_S, &deadlines, NULL, 0);
	char *wire = malloc(len), *again_wire = malloc(len);
	struct mc_request again;

	CHECK(parser && wire && again_wire);
	CHECK(mc_encode(r, NOW_S, &deadlines, wire, len) == len);
	parse_one(parser, wire, len, &again);
	CHECK(again.verb == r->verb && again.key_count == r->key_count);
	CHECK(again.flags == r->flags && again.value.len == r->value.len);
	for (int i = 0; i < r->key_count; i++)
		CHECK(again.keys[i].len == r->keys[i].len &&
		      memcmp(again.keys[i].data, r->keys[i].data, r->keys[i].len) == 0);
	if (r->value.len > 0)
		CHECK(memcmp(again.value.data, r->value.data, r->value.len) == 0);
	/* At another time, too. */
	CHECK(mc_encode(&again, NOW_S + 12345, &deadlines, again_wire, len) == len);
	CHECK(memcmp(wire, again_wire, len) == 0);
	free(wire);
	free(again_wire);
	mc_parser_free(parser);
}

static void check_decided(const struct mc_request *r, struct mp_slice value)
{
	struct mc_limits wide = {.max_value_bytes = 1 << 20, .max_line_bytes = 8192};
	struct mc_item item = {.found = true,
			       .value = value,
			       .flags = 7,
			       .left_s = (int64_t)(value.len % 100) - 1,
			       .cas = r->number};
	struct mc_parser *parser = mc_parser_new(&wide);
	struct mc_decision decision;
	char fetch[MC_FETCH_BYTES];

	CHECK(parser && mc_encode_fetch(r, fetch, sizeof(fetch)) <= sizeof(fetch));
	for (int found = 0; found < 2; found++) {
		struct mc_request record;
		size_t len;
		char *wire;

		item.found = found;
		mc_decide(r, &item, 0, NOW_S, 1 << 20, &deadlines, NULL, 0, &decision);
		CHECK(decision.reply_bytes >= 2 && decision.reply_bytes <= sizeof(decision.reply));
		CHECK(memcmp(decision.reply + decision.reply_bytes - 2, "\r\n", 2) == 0);
		len = decision.record_bytes;
		if (len == 0)
			continue;
		wire = malloc(len);
		CHECK(wire);
		mc_decide(r, &item, 0, NOW_S, 1 << 20, &deadlines, wire, len, &decision);
		CHECK(decision.record_bytes == len);
		parse_one(parser, wire, len, &record);
		CHECK(record.verb == MC_SET || record.verb == MC_DELETE);
		CHECK(record.keys[0].len == r->keys[0].len &&
		      memcmp(record.keys[0].data, r->keys[0].data, r->keys[0].len) == 0);
		free(wire);
	}
	mc_parser_free(parser);
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
		if (result != MC_DONE)
			continue;
		if (mc_class_of(&r) == MC_CLASS_DECIDED)
			check_decided(&r, input);
		else if (mc_class_of(&r) != MC_CLASS_LOCAL)
			check_encoded(&r);
	} while (result == MC_DONE || result == MC_BAD);
	mc_parser_free(parser);
}

static void check_reply(struct mp_slice reply)
{
	struct mc_item item;
	size_t len = mc_cas_rewrite(8191, reply, NULL, 0);
	char *out = malloc(len ? len : 1);

	CHECK(out && len >= reply.len - reply.len / 2);
	CHECK(mc_cas_rewrite(8191, reply, out, len) == len);
	free(out);
	if (mc_parse_fetched(reply, &item) && item.found)
		CHECK(item.value.data >= reply.data &&
		      item.value.data + item.value.len + 2 == reply.data + reply.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mp_slice input = {(const char *)data, size};

	check_pieces(input, size);
	check_requests(input);
	check_reply(input);
	return 0;
}
