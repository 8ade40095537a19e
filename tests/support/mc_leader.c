/* mc_leader.c - see mc_leader.h. */
#include "mc_leader.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "mc_decide.h"
#include "mc_translate.h"

static char plain_dir[TEST_DIR_BYTES], our_dir[TEST_DIR_BYTES];
static struct test_server plain_server, our_server;
struct test_client test_mc_plain, test_mc_ours;
struct mc_parser *test_mc_parser;
struct mc_deadlines *test_mc_deadlines;
struct mc_limits test_mc_limits;

int test_mc_start(void **state)
{
	/*
	 * Its background threads may hold an item for a moment; an incr that
	 * becomes shorter is not padded just then. That is not to be compared.
	 */
	static const char options[] = "-m 64 -o no_lru_maintainer,no_lru_crawler";

	(void)state;
	test_dir_make(plain_dir);
	test_dir_make(our_dir);
	test_memcached_start(&plain_server, plain_dir, options);
	test_memcached_start(&our_server, our_dir, options);
	test_client_open(&test_mc_plain, plain_server.path, true);
	test_client_open(&test_mc_ours, our_server.path, true);
	mc_limits_init(&test_mc_limits);
	test_mc_parser = mc_parser_new(&test_mc_limits);
	test_mc_deadlines = calloc(1, sizeof(*test_mc_deadlines));
	return test_mc_parser && test_mc_deadlines ? 0 : -1;
}

int test_mc_stop(void **state)
{
	(void)state;
	test_client_close(&test_mc_plain);
	test_client_close(&test_mc_ours);
	mc_parser_free(test_mc_parser);
	free(test_mc_deadlines);
	test_server_kill(&plain_server, SIGTERM);
	test_server_kill(&our_server, SIGTERM);
	test_dir_remove(plain_dir);
	test_dir_remove(our_dir);
	return 0;
}

void test_mc_reconnect(void)
{
	mc_parser_free(test_mc_parser);
	test_mc_parser = mc_parser_new(&test_mc_limits);
	assert_non_null(test_mc_parser);
	test_client_close(&test_mc_plain);
	test_client_open(&test_mc_plain, plain_server.path, true);
}

/* Bytes that grow. */
struct text {
	char *data;
	size_t len, cap;
};

static char *reserve(struct text *text, size_t bytes)
{
	while (text->len + bytes + 1 > text->cap) {
		text->cap = text->cap ? text->cap * 2 : 4096;
		text->data = realloc(text->data, text->cap);
		assert_non_null(text->data);
	}
	return text->data + text->len;
}

static void add(struct text *text, const char *data, size_t len)
{
	memcpy(reserve(text, len), data, len);
	text->len += len;
	text->data[text->len] = '\0';
}

/* -------------------------------------------------------- what a leader does */

static void add_translated(const struct mc_request *r, struct mp_slice reply, struct text *out)
{
	struct mc_writer w = {NULL, 0, 0};
	size_t len;

	mc_translate(r, reply, TEST_MC_TERM, &w);
	len = w.bytes;
	w = (struct mc_writer){reserve(out, len), len, 0};
	mc_translate(r, reply, TEST_MC_TERM, &w);
	assert_int_equal(w.bytes, len);
	out->len += len;
	out->data[out->len] = '\0';
}

static void add_canned(struct mp_slice canned, struct mp_slice reply, struct text *out)
{
	struct mc_writer w = {reserve(out, canned.len + 32), canned.len + 32, 0};

	mc_fill_canned(canned, reply, TEST_MC_TERM, &w);
	assert_true(w.bytes <= w.cap);
	out->len += w.bytes;
	out->data[out->len] = '\0';
}

/* The last command's reply. */
static struct mp_slice execute(const struct text *record, int commands)
{
	struct mp_slice reply = {NULL, 0};

	if (commands > 0)
		test_client_send(&test_mc_ours, (struct mp_slice){record->data, record->len});
	while (commands-- > 0) {
		reply = test_client_reply(&test_mc_ours);
		assert_false(mc_is_error(reply));
	}
	return reply;
}

static void lead_decided(const struct mc_request *r, struct text *out)
{
	static struct text record;
	struct mc_decision decision;
	char fetch[MC_FETCH_BYTES];
	struct mp_slice reply;
	struct mc_item item;
	size_t len = mc_encode_fetch(r, fetch, sizeof(fetch));

	assert_true(len <= sizeof(fetch));
	reply = test_client_ask(&test_mc_ours, (struct mp_slice){fetch, len});
	assert_true(mc_parse_item(reply, &item));
	mc_decide(r, &item, TEST_MC_TERM, time(NULL), &test_mc_limits, test_mc_deadlines, NULL, 0,
		  &decision);
	record.len = 0;
	len = decision.record_bytes;
	reserve(&record, len);
	mc_decide(r, &item, TEST_MC_TERM, time(NULL), &test_mc_limits, test_mc_deadlines,
		  record.data, len, &decision);
	assert_int_equal(decision.record_bytes, len);
	record.len = len;
	reply = execute(&record, decision.commands);
	if (r->noreply)
		return;
	if (decision.reply_bytes > 0)
		add_canned((struct mp_slice){decision.reply, decision.reply_bytes}, reply, out);
	else if (mc_needs_translation(r))
		add_translated(r, reply, out);
	else
		add(out, reply.data, reply.len);
}

static void lead_plain(const struct mc_request *r, struct text *out)
{
	static struct text wire;
	size_t len = mc_encode(r, time(NULL), test_mc_deadlines, NULL, 0);
	struct mp_slice reply;

	wire.len = 0;
	reserve(&wire, len);
	assert_int_equal(mc_encode(r, time(NULL), test_mc_deadlines, wire.data, len), len);
	reply = test_client_ask(&test_mc_ours, (struct mp_slice){wire.data, len});
	if (r->noreply)
		return;
	if (mc_needs_translation(r))
		add_translated(r, reply, out);
	else
		add(out, reply.data, reply.len);
}

/* What a session does by itself. */
static void lead_local(const struct mc_request *r, struct text *out)
{
	struct mc_request part = *r;

	if (r->verb == MC_NOOP) {
		add(out, "MN\r\n", 4);
		return;
	}
	if (r->verb != MC_GAT && r->verb != MC_GATS)
		return;
	part.verb = r->verb == MC_GAT ? MC_GAT_PART : MC_GATS_PART;
	part.key_count = 1;
	for (int i = 0; i < r->key_count; i++) {
		part.keys = &r->keys[i];
		lead_decided(&part, out);
	}
	add(out, "END\r\n", 5);
}

/* What a client of ours gets for these bytes. */
static void lead(struct mp_slice input, struct text *out)
{
	size_t pos = 0;

	while (pos < input.len) {
		struct mc_request r;
		size_t used;
		enum mc_result result =
			mc_parse(test_mc_parser, input.data + pos, input.len - pos, &used, &r);

		pos += used;
		assert_int_not_equal(result, MC_FATAL);
		if (result == MC_MORE) {
			assert_true(used > 0);
			continue;
		}
		if (result == MC_BAD) {
			struct mp_slice answer = mc_parser_answer(test_mc_parser);

			add(out, answer.data, answer.len);
		}
		if (mc_class_of(&r) == MC_CLASS_DECIDED)
			lead_decided(&r, out);
		else if (mc_class_of(&r) != MC_CLASS_LOCAL)
			lead_plain(&r, out);
		else
			lead_local(&r, out);
	}
}

/* -------------------------------------------------------- what memcached does */

/* As many binary answers as it takes to see that of a noop of ours. */
static void ask_plain_binary(struct mp_slice input, struct text *out)
{
	static const char noop[24] = {(char)0x80, 0x0a, [12] = 'n', 'o', 'o', 'p'};

	test_client_send(&test_mc_plain, input);
	test_client_send(&test_mc_plain, (struct mp_slice){noop, sizeof(noop)});
	for (;;) {
		struct mp_slice frame = test_client_frame(&test_mc_plain);

		if (frame.len == 0)
			fail_msg("memcached has hung up");
		if (frame.len == 24 && memcmp(frame.data + 12, "noop", 4) == 0)
			return;
		add(out, frame.data, frame.len);
	}
}

static void ask_plain(struct mp_slice input, struct text *out)
{
	static const char ask[] = "mg the-end-of-it k\r\n", end[] = "EN kthe-end-of-it\r\n";

	test_client_send(&test_mc_plain, input);
	test_client_send(&test_mc_plain, (struct mp_slice){ask, sizeof(ask) - 1});
	for (;;) {
		struct mp_slice reply = test_client_reply(&test_mc_plain);

		if (reply.len == 0)
			fail_msg("memcached has hung up on '%.*s'", (int)input.len, input.data);
		if (reply.len == sizeof(end) - 1 && memcmp(reply.data, end, reply.len) == 0)
			break;
		add(out, reply.data, reply.len);
	}
}

void test_mc_compare(struct mp_slice for_plain, struct mp_slice for_ours)
{
	static struct text theirs, mine;
	bool is_binary = for_plain.len > 0 && (unsigned char)*for_plain.data == 0x80;

	theirs.len = mine.len = 0;
	add(&theirs, "", 0);
	add(&mine, "", 0);
	if (is_binary)
		ask_plain_binary(for_plain, &theirs);
	else
		ask_plain(for_plain, &theirs);
	lead(for_ours, &mine);
	if (theirs.len == mine.len && memcmp(theirs.data, mine.data, mine.len) == 0)
		return;
	for (size_t i = 0; is_binary && i < mine.len; i++)
		fprintf(stderr, "%zu: %02x %02x\n", i, i < theirs.len ? theirs.data[i] & 255 : 0,
			mine.data[i] & 255);
	fail_msg("for '%.*s' memcached says %zu bytes '%s', we say %zu '%s'",
		 (int)(for_ours.len < 200 ? for_ours.len : 200), for_ours.data, theirs.len,
		 theirs.data, mine.len, mine.data);
}
