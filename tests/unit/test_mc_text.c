/* test_mc_text.c - the Memcached codec: however the bytes come, what they mean is the same. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mc_text.h"
#include "splits.h"

#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void parse_one(struct mp_slice input, struct mc_request *r)
{
	struct test_notes notes = {0};
	struct mc_limits limits;
	static struct mc_parser *parser;
	size_t used;

	mc_limits_init(&limits);
	test_splits(test_feed_mc, &limits, input, &notes);
	test_notes_free(&notes);
	mc_parser_free(parser);
	parser = mc_parser_new(&limits);
	assert_int_equal(mc_parse(parser, input.data, input.len, &used, r), MC_DONE);
	assert_int_equal(used, input.len);
	assert_int_equal(r->raw.len, input.len);
}

static void assert_slice(struct mp_slice s, const char *text)
{
	assert_int_equal(s.len, strlen(text));
	assert_memory_equal(s.data, text, s.len);
}

static void requests_are_taken_apart(void **state)
{
	struct mc_request r;

	(void)state;
	parse_one((struct mp_slice)S("set key 7 -3 5\r\na\r\nbc\r\n"), &r);
	assert_int_equal(r.verb, MC_SET);
	assert_int_equal(r.key_count, 1);
	assert_slice(r.keys[0], "key");
	assert_int_equal(r.flags, 7);
	assert_true(r.exptime == -3);
	assert_slice(r.value, "a\r\nbc");
	assert_false(r.noreply);

	parse_one((struct mp_slice)S(
			  "cas k 4294967295 2147483647 0 18446744073709551615 noreply\n\r\n"),
		  &r);
	assert_int_equal(r.verb, MC_CAS);
	assert_true(r.flags == UINT32_MAX && r.exptime == INT32_MAX && r.cas == UINT64_MAX);
	assert_true(r.noreply);
	assert_slice(r.value, "");

	parse_one((struct mp_slice)S("gets  a bb  ccc \r\n"), &r);
	assert_int_equal(r.verb, MC_GETS);
	assert_int_equal(r.key_count, 3);
	assert_slice(r.keys[2], "ccc");

	parse_one((struct mp_slice)S("gat 60 a b\r\n"), &r);
	assert_int_equal(r.verb, MC_GAT);
	assert_true(r.exptime == 60);
	assert_int_equal(r.key_count, 2);
	assert_slice(r.keys[0], "a");

	parse_one((struct mp_slice)S("incr n 18446744073709551615\r\n"), &r);
	assert_true(r.verb == MC_INCR && r.number == UINT64_MAX);
	parse_one((struct mp_slice)S("decr n 1 noreply\r\n"), &r);
	assert_true(r.verb == MC_DECR && r.number == 1 && r.noreply);
	parse_one((struct mp_slice)S("touch n 10\r\n"), &r);
	assert_true(r.verb == MC_TOUCH && r.exptime == 10);
	parse_one((struct mp_slice)S("delete n 0 noreply\r\n"), &r);
	assert_true(r.verb == MC_DELETE && r.noreply);
	parse_one((struct mp_slice)S("flush_all\r\n"), &r);
	assert_true(r.verb == MC_FLUSH_ALL && !r.noreply);
	parse_one((struct mp_slice)S("flush_all -1 noreply\r\n"), &r);
	assert_true(r.verb == MC_FLUSH_ALL && r.noreply);
	parse_one((struct mp_slice)S("version\r\n"), &r);
	assert_int_equal(r.verb, MC_VERSION);
	parse_one((struct mp_slice)S("stats items\r\n"), &r);
	assert_int_equal(r.verb, MC_STATS);
	assert_slice(r.args, "items");
	parse_one((struct mp_slice)S("quit\r\n"), &r);
	assert_int_equal(r.verb, MC_QUIT);
	/* The line ends at a NUL, as in memcached. */
	parse_one((struct mp_slice)S("get a b\0c d\r\n"), &r);
	assert_int_equal(r.key_count, 2);
	assert_slice(r.keys[1], "b");
}

static void what_is_not_served_is_refused(void **state)
{
	static const struct mp_slice inputs[] = {
		S("watch\r\n"),         S("watch fetchers\r\n"),
		S("shutdown\r\n"),      S("shutdown graceful\r\n"),
		S("misbehave\r\n"),     S("debugtime p\r\n"),
		S("refresh_certs\r\n"),
	};

	(void)state;
	for (size_t i = 0; i < COUNT(inputs); i++) {
		struct test_notes notes = {0};
		struct mc_limits limits;
		char expected[32];

		mc_limits_init(&limits);
		test_splits(test_feed_mc, &limits, inputs[i], &notes);
		assert_memory_equal(notes.text, "verb ", 5);
		assert_int_equal(atoi(notes.text + 5), MC_REFUSED);
		assert_null(strstr(notes.text, "refusal none"));
		snprintf(expected, sizeof(expected), "at %zu\n", inputs[i].len);
		assert_non_null(strstr(notes.text, expected));
		test_notes_free(&notes);
	}
}

/* The texts against the server: test_mc_decide.c. */
static void expect_error(const struct mc_limits *limits, struct mp_slice input, const char *error)
{
	struct test_notes notes = {0};
	char expected[128];

	test_splits(test_feed_mc, limits, input, &notes);
	snprintf(expected, sizeof(expected), "error '%s' verb", error);
	assert_non_null(notes.text);
	assert_memory_equal(notes.text, expected, strlen(expected));
	test_notes_free(&notes);
}

static void what_is_fatal_is_said(void **state)
{
	struct mc_limits limits = {.max_value_bytes = 10, .max_line_bytes = 2500};
	struct test_notes notes = {0};
	char *line = malloc(4000);

	(void)state;
	expect_error(&limits, (struct mp_slice)S("GET / HTTP/1.1\r\n"), "");
	memset(line, 'x', 4000);
	expect_error(&limits, (struct mp_slice){line, 2100}, "CLIENT_ERROR line too long");
	memcpy(line, "get ", 4);
	for (size_t i = 4; i < 4000; i++)
		line[i] = i % 3 ? 'x' : ' ';
	memcpy(line + 2490, "\r\n", 2);
	test_splits(test_feed_mc, &limits, (struct mp_slice){line, 2492}, &notes);
	assert_null(strstr(notes.text, "error"));
	test_notes_free(&notes);
	line[2490] = line[2491] = 'x';
	expect_error(&limits, (struct mp_slice){line, 2600}, "CLIENT_ERROR line too long");
	free(line);
}

/*
 * A set too large takes its old value away, before it is told so; others do not. The block never
 * needs a buffer.
 */
static void too_large_values_are_swallowed(void **state)
{
	static const struct mp_slice set = S("set k 0 0 20\r\nget a get b get c get\r\nget d\r\n");
	struct mc_limits limits = {.max_value_bytes = 10, .max_line_bytes = 4096};
	struct test_notes notes = {0};
	char expected[512];

	(void)state;
	test_splits(test_feed_mc, &limits, (struct mp_slice)S("set k 1 2 10\r\n0123456789\r\n"),
		    &notes);
	assert_non_null(strstr(notes.text, "[10]0123456789"));
	test_notes_free(&notes);

	test_splits(test_feed_mc, &limits, set, &notes);
	snprintf(expected, sizeof(expected),
		 "verb %d flags 0 exptime 0 number 0 noreply keys [1]k value [0] args [0] "
		 "refusal none\nat 14\n"
		 "error 'SERVER_ERROR object too large for cache' verb %d flags 0 "
		 "exptime 0 number 0 keys value [0] args [0] refusal none\nat 36\nerror 'ERROR' "
		 "verb %d flags 0 exptime 0 number 0 keys value [0] "
		 "args [0] refusal none\nat 37\nverb %d flags 0 exptime 0 number 0 keys "
		 "[1]d value [0] args [0] refusal none\nat 44\n",
		 MC_DELETE, MC_UNKNOWN, MC_UNKNOWN, MC_GET);
	assert_string_equal(notes.text, expected);
	test_notes_free(&notes);

	test_splits(test_feed_mc, &limits,
		    (struct mp_slice)S("add k 0 0 11 noreply\r\n0123456789a\r\n"), &notes);
	snprintf(expected, sizeof(expected),
		 "error '' verb %d flags 0 exptime 0 number 0 keys value [0] "
		 "args [0] refusal none\nat 35\n",
		 MC_UNKNOWN);
	assert_string_equal(notes.text, expected);
	test_notes_free(&notes);
}

static void swallowing_needs_no_memory(void **state)
{
	static const char line[] = "set k 0 0 2000000000\r\n";
	static char block[1 << 16];
	struct mc_limits limits;
	struct mc_parser *parser;
	struct mc_request r;
	size_t used, left = 2000000002;
	long before;
	enum mc_result result;

	(void)state;
	mc_limits_init(&limits);
	parser = mc_parser_new(&limits);
	assert_int_equal(mc_parse(parser, line, sizeof(line) - 1, &used, &r), MC_DONE);
	assert_int_equal(used, sizeof(line) - 1);
	assert_int_equal(r.verb, MC_DELETE);
	assert_slice(r.keys[0], "k");
	assert_slice(r.raw, "delete k\r\n");
	before = (long)mallinfo2().uordblks;
	do {
		size_t n = left < sizeof(block) ? left : sizeof(block);

		result = mc_parse(parser, block, n, &used, &r);
		assert_int_equal(used, n);
		left -= n;
	} while (result == MC_MORE && left > 0);
	assert_int_equal(result, MC_BAD);
	assert_int_equal(left, 0);
	assert_int_equal(r.verb, MC_UNKNOWN);
	assert_true((long)mallinfo2().uordblks - before < 1024);
	mc_parser_free(parser);
}

static void a_get_may_name_many_keys(void **state)
{
	enum { KEYS = 10000 };
	struct mc_limits limits;
	struct mc_parser *parser;
	struct mc_request r;
	char *line = malloc(4 + 2 * KEYS + 2);
	size_t used;

	(void)state;
	memcpy(line, "get", 3);
	for (int i = 0; i < KEYS; i++)
		memcpy(line + 3 + 2 * i, " k", 2);
	memcpy(line + 3 + 2 * KEYS, "\r\n", 2);
	mc_limits_init(&limits);
	parser = mc_parser_new(&limits);
	assert_int_equal(mc_parse(parser, line, 5 + 2 * KEYS, &used, &r), MC_DONE);
	assert_int_equal(r.key_count, KEYS);
	assert_slice(r.keys[KEYS - 1], "k");
	mc_parser_free(parser);
	free(line);
}

static void random_bytes_do_no_harm(void **state)
{
	static const char *const pieces[] = {
		"get ",
		"gets ",
		"set k 0 0 3\r\n",
		"add k 0 0 ",
		"cas k 0 0 1 2\r\n",
		"abc\r\n",
		"\r\n",
		"\n",
		" ",
		"noreply",
		"-1",
		"99",
		"incr k 1",
		"delete k",
		"gat 5 k",
		"ms k 4",
		"touch ",
		"\x80",
		"\x01\xff",
		"flush_all",
		"k",
		"stats",
		"set k 0 0 70\r\n",
		"0123456789",
		"append k 0 0 0\r\n\r\n",
	};
	struct mc_limits limits = {.max_value_bytes = 64, .max_line_bytes = 2000};
	uint64_t random = 5;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct test_notes whole = {0}, cut = {0};
		char bytes[512];
		struct mp_slice input = {bytes, 0};

		for (uint64_t n = 1 + test_random(&random) % 10; n > 0; n--) {
			const char *piece = pieces[test_random(&random) % COUNT(pieces)];

			memcpy(bytes + input.len, piece, strlen(piece));
			input.len += strlen(piece);
		}
		if (test_random(&random) % 4 == 0)
			bytes[test_random(&random) % input.len] = '\0';
		test_feed_mc(&limits, input, test_cut_whole, NULL, &whole);
		test_feed_mc(&limits, input, test_cut_random, &random, &cut);
		assert_int_equal(whole.len, cut.len);
		if (whole.len > 0)
			assert_memory_equal(whole.text, cut.text, whole.len);
		test_notes_free(&whole);
		test_notes_free(&cut);
	}
}

/* ----------------------------------------------------------------- replies */

static void expect_frames(struct mp_slice input, const char *expected)
{
	struct test_notes notes = {0};

	test_feed_mc_framer(input, test_cut_whole, NULL, &notes);
	assert_string_equal(notes.text ? notes.text : "", expected);
	test_notes_free(&notes);
	test_feed_mc_framer(input, test_cut_bytes, NULL, &notes);
	assert_string_equal(notes.text ? notes.text : "", expected);
	test_notes_free(&notes);
	for (size_t at = 1; at < input.len; at++) {
		test_feed_mc_framer(input, test_cut_at, &at, &notes);
		assert_string_equal(notes.text ? notes.text : "", expected);
		test_notes_free(&notes);
	}
}

/* Of so many bytes of the reply's, and no more. */
static void expect_bare(struct mp_slice reply, size_t bytes)
{
	struct mc_framer framer = {.is_bare = true};
	size_t used;

	assert_int_equal(mc_frame(&framer, reply.data, reply.len, &used), MC_DONE);
	assert_int_equal(used, bytes);
}

static void some_statistics_have_no_end(void **state)
{
	(void)state;
	assert_true(mc_is_bare((struct mp_slice)S("stats sizes_enable\r\n")));
	assert_true(mc_is_bare((struct mp_slice)S("stats sizes_disable x\r\n")));
	assert_false(mc_is_bare((struct mp_slice)S("stats sizes\r\n")));
	expect_bare((struct mp_slice)S("STAT sizes_status enabled\r\nSTORED\r\n"), 27);
	expect_bare((struct mp_slice)S("STAT sizes_status error\r\nSTAT sizes_error "
				       "no_memory\r\nSTAT a b\r\n"),
		    53);
	expect_bare((struct mp_slice)S("ERROR\r\nSTORED\r\n"), 7);
}

static void replies_are_framed(void **state)
{
	char long_line[700];

	(void)state;
	expect_frames((struct mp_slice)S("STORED\r\nEND\r\n5\r\nERROR\r\n"),
		      "end at 8\nend at 13\nend at 16\nend at 23\n");
	expect_frames(
		(struct mp_slice)S("VALUE a 0 5\r\nEND\r\n\r\nVALUE b 1 0 77\r\n\r\nEND\r\nOK\r\n"),
		"end at 43\nend at 47\n");
	expect_frames((struct mp_slice)S("STAT a b\r\nSTAT c d\r\nEND\r\nRESET\r\n"),
		      "end at 25\nend at 32\n");
	/* An error ends what it interrupts. */
	expect_frames((struct mp_slice)S("VALUE a 0 1\r\nx\r\nSERVER_ERROR out of memory\r\n"),
		      "end at 44\n");
	expect_frames((struct mp_slice)S("VA 3 f0 t-1 c5\r\nEN\r\r\nEN\r\nHD\r\n"),
		      "end at 21\nend at 25\nend at 29\n");
	expect_frames((struct mp_slice)S("VALUE a 0 x\r\n"), "error at 13\n");
	expect_frames((struct mp_slice)S("VALUE a 0\r\n"), "error at 11\n");
	expect_frames((struct mp_slice)S("VALUE \n"), "error at 7\n");
	expect_frames((struct mp_slice)S("VALUE a 0 -1\r\n"), "error at 14\n");
	memset(long_line, 'x', sizeof(long_line));
	memcpy(long_line, "STAT ", 5);
	memcpy(long_line + 500, "\r\nEND\r\n", 7);
	expect_frames((struct mp_slice){long_line, 507}, "end at 507\n");
	memcpy(long_line, "VALUE ", 6);
	expect_frames((struct mp_slice){long_line, 507}, "error at 502\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_taken_apart),
		cmocka_unit_test(what_is_not_served_is_refused),
		cmocka_unit_test(what_is_fatal_is_said),
		cmocka_unit_test(too_large_values_are_swallowed),
		cmocka_unit_test(swallowing_needs_no_memory),
		cmocka_unit_test(a_get_may_name_many_keys),
		cmocka_unit_test(random_bytes_do_no_harm),
		cmocka_unit_test(replies_are_framed),
		cmocka_unit_test(some_statistics_have_no_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
