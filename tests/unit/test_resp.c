/* test_resp.c - the Redis codec: however the bytes come, what they mean is the same. */
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client.h"
#include "resp.h"
#include "servers.h"
#include "splits.h"

#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void expect_limited(const struct resp_limits *limits, struct mp_slice input,
			   const char *expected)
{
	struct test_notes notes = {0};

	test_splits(test_feed_resp, limits, input, &notes);
	assert_string_equal(notes.text ? notes.text : "", expected);
	test_notes_free(&notes);
}

static void expect(struct mp_slice input, const char *expected)
{
	struct resp_limits limits;

	resp_limits_init(&limits);
	expect_limited(&limits, input, expected);
}

static void requests_are_taken_apart(void **state)
{
	(void)state;
	expect((struct mp_slice)S("*1\r\n$4\r\nPING\r\n"), "14 bytes, 1 args: [4]PING\n");
	expect((struct mp_slice)S(
		       "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\n"
		       "k\r\n*1\r\n$4\r\nPI"),
	       "26 bytes, 3 args: [3]SET [1]k [0]\n20 bytes, 2 args: [3]GET [1]k\n");
	expect((struct mp_slice)S("*2\r\n$4\r\n\r\n\r\n\r\n$2\r\n$1\r\n"),
	       "22 bytes, 2 args: [4]\r\n\r\n [2]$1\n");
	/* Nothing in it: to be skipped. */
	expect((struct mp_slice)S("*0\r\n*-1\r\n*-100\r\n\r\n   \r\nPING\n"),
	       "4 bytes, 0 args:\n5 bytes, 0 args:\n7 bytes, 0 args:\n2 bytes unclean, 0 args:\n"
	       "5 bytes unclean, 0 args:\n5 bytes unclean, 1 args: [4]PING\n");
	/* Redis does not look at line ends; whoever reads it again might. */
	expect((struct mp_slice)S("*1\r\n$4\r\nPINGxy*1\rX$4\r\nPING\r\n"),
	       "14 bytes unclean, 1 args: [4]PING\n14 bytes unclean, 1 args: [4]PING\n");
}

/* What is logged may have more arguments than any client may send. */
static void limits_can_be_lifted(void **state)
{
	enum { ARGS = 1024 * 1024 + 5 };
	char *text = malloc(16 + ARGS * 7), *end = text + sprintf(text, "*%d\r\n", ARGS);
	struct resp_limits limits;
	size_t used;

	(void)state;
	for (int i = 0; i < ARGS; i++, end += 7)
		memcpy(end, "$1\r\nx\r\n", 7);
	for (int lifted = 0; lifted < 2; lifted++) {
		struct resp_parser *parser;
		struct resp_request r;

		resp_limits_init(&limits);
		if (lifted)
			resp_limits_lift(&limits);
		parser = resp_parser_new(&limits);
		assert_int_equal(resp_parse(parser, text, (size_t)(end - text), &used, &r),
				 lifted ? RESP_DONE : RESP_ERROR);
		if (lifted)
			assert_int_equal(r.argc, ARGS);
		resp_parser_free(parser);
	}
	free(text);
}

static void inline_commands_are_unquoted(void **state)
{
	(void)state;
	expect((struct mp_slice)S("SET k v\r\n"), "9 bytes unclean, 3 args: [3]SET [1]k [1]v\n");
	expect((struct mp_slice)S("  SET\tk \t v  \n"),
	       "14 bytes unclean, 3 args: [3]SET [1]k [1]v\n");
	expect((struct mp_slice)S("A \"b c\" 'd e' \"\" ''\n"),
	       "20 bytes unclean, 5 args: [1]A [3]b c [3]d e [0] [0]\n");
	expect((struct mp_slice)S("\"\\x41\\n\\t\\r\\a\\b\\q\\\"\\\\\\xZ1\"\n"),
	       "27 bytes unclean, 1 args: [12]A\n\t\r\a\bq\"\\xZ1\n");
	expect((struct mp_slice)S("'a\\'b\\n\\x41\"'\n"),
	       "14 bytes unclean, 1 args: [10]a'b\\n\\x41\"\n");
	expect((struct mp_slice)S("a\"b c\" d'e'\n"), "12 bytes unclean, 2 args: [4]ab c [2]de\n");
	expect((struct mp_slice)S("\"a\"\t'b'\v\n"), "9 bytes unclean, 2 args: [1]a [1]b\n");
	expect((struct mp_slice)S("GET a\0b\r\n"),
	       "error ERR Protocol error: NUL in inline request\n");
	expect((struct mp_slice)S("\"a\"b\n"), "error ERR Protocol error: unbalanced quotes in "
					       "request\n");
	expect((struct mp_slice)S("\"a\n"), "error ERR Protocol error: unbalanced quotes in "
					    "request\n");
	expect((struct mp_slice)S("'a\\'\n"), "error ERR Protocol error: unbalanced quotes in "
					      "request\n");
	expect((struct mp_slice)S("POST / HTTP/1.1\r\n"),
	       "error ERR Protocol error: this is no HTTP server\n");
	expect((struct mp_slice)S("Host: a\r\n"),
	       "error ERR Protocol error: this is no HTTP server\n");
}

static void garbage_is_refused(void **state)
{
	static const struct {
		struct mp_slice input;
		const char *error;
	} cases[] = {
		{S("*x\r\n"), "invalid multibulk length"},
		{S("*\r\n"), "invalid multibulk length"},
		{S("*1048577\r\n"), "invalid multibulk length"},
		{S("*99999999999999999999\r\n"), "invalid multibulk length"},
		{S("* 1\r\n"), "invalid multibulk length"},
		{S("*+1\r\n"), "invalid multibulk length"},
		{S("*01\r\n"), "invalid multibulk length"},
		{S("*1\r\nPING\r\n"), "expected '$', got 'P'"},
		{S("*1\r\n\r\nPING\r\n"), "expected '$', got ' '"},
		{S("*1\r\n$-1\r\n"), "invalid bulk length"},
		{S("*1\r\n$\r\n"), "invalid bulk length"},
		{S("*1\r\n$x\r\n"), "invalid bulk length"},
		{S("*1\r\n$536870913\r\n"), "invalid bulk length"},
		{S("*1\r\n$9223372036854775807\r\n"), "invalid bulk length"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char expected[128];

		snprintf(expected, sizeof(expected), "error ERR Protocol error: %s\n",
			 cases[i].error);
		expect(cases[i].input, expected);
	}
}

static void limits_hold(void **state)
{
	struct resp_limits limits = {.max_bulk_bytes = 10,
				     .max_request_bytes = 30,
				     .max_args = 3,
				     .max_inline_bytes = 12};

	(void)state;
	expect_limited(&limits, (struct mp_slice)S("*1\r\n$10\r\n0123456789\r\n"),
		       "21 bytes, 1 args: [10]0123456789\n");
	expect_limited(&limits, (struct mp_slice)S("*1\r\n$11\r\n0123456789a\r\n"),
		       "error ERR Protocol error: invalid bulk length\n");
	expect_limited(&limits, (struct mp_slice)S("*3\r\n$10\r\n0123456789\r\n$10\r\n012345678"),
		       "error ERR Protocol error: request too large\n");
	expect_limited(&limits, (struct mp_slice)S("*4\r\n"),
		       "error ERR Protocol error: invalid multibulk length\n");
	expect_limited(&limits, (struct mp_slice)S("*0000000000000000"),
		       "error ERR Protocol error: too big mbulk count string\n");
	expect_limited(&limits, (struct mp_slice)S("*1\r\n$00000000000000000"),
		       "error ERR Protocol error: too big bulk count string\n");
	expect_limited(&limits, (struct mp_slice)S("PING 1234567\r\n"),
		       "error ERR Protocol error: too big inline request\n");
	expect_limited(&limits, (struct mp_slice)S("PING 123456\r\n"),
		       "13 bytes unclean, 2 args: [4]PING [6]123456\n");
}

/* Allocated by now. (Under a sanitizer always 0.) */
static long in_use(void)
{
	struct mallinfo2 info = mallinfo2();

	return (long)(info.uordblks + info.hblkhd);
}

static void announcing_costs_nothing(void **state)
{
	static const char claim[] = "*1048576\r\n$536870912\r\nx";
	struct resp_limits limits;
	struct resp_parser *parser;
	struct resp_request r;
	size_t used;
	long before;

	(void)state;
	resp_limits_init(&limits);
	parser = resp_parser_new(&limits);
	before = in_use();
	assert_int_equal(resp_parse(parser, claim, sizeof(claim) - 1, &used, &r), RESP_MORE);
	assert_int_equal(resp_parser_wants(parser), 22 + 536870912 + 2);
	assert_true(in_use() - before < 4096);
	resp_parser_free(parser);
}

/* A request of many arguments is served, and its memory is not kept. */
static void many_arguments_are_let_go(void **state)
{
	enum { ARGS = 100000 };
	struct mp_slice *argv = calloc(ARGS, sizeof(*argv));
	struct resp_limits limits;
	struct resp_parser *parser;
	struct resp_request r;
	size_t len, used;
	long before;
	char *text;

	(void)state;
	for (int i = 0; i < ARGS; i++)
		argv[i] = (struct mp_slice)S("argument");
	len = resp_encode(NULL, 0, ARGS, argv);
	text = malloc(len);
	assert_int_equal(resp_encode(text, len, ARGS, argv), len);
	resp_limits_init(&limits);
	parser = resp_parser_new(&limits);
	before = in_use();
	assert_int_equal(resp_parse(parser, text, len, &used, &r), RESP_DONE);
	assert_int_equal(used, len);
	assert_int_equal(r.argc, ARGS);
	assert_memory_equal(r.argv[ARGS - 1].data, "argument", 8);
	assert_int_equal(resp_parse(parser, "PING\n", 5, &used, &r), RESP_DONE);
	assert_true(in_use() - before < 64 << 10);
	resp_parser_free(parser);
	free(text);
	free(argv);
}

static void random_bytes_do_no_harm(void **state)
{
	static const char alphabet[] = "**$$0123456789\r\n\r\n-ab \"'\\x\0PING";
	struct resp_limits limits = {.max_bulk_bytes = 64,
				     .max_request_bytes = 200,
				     .max_args = 20,
				     .max_inline_bytes = 50};
	uint64_t random = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct test_notes whole = {0}, pieces = {0};
		char bytes[80];
		struct mp_slice input = {bytes, 1 + test_random(&random) % sizeof(bytes)};

		for (size_t i = 0; i < input.len; i++)
			bytes[i] = alphabet[test_random(&random) % (sizeof(alphabet) - 1)];
		if (round % 2)
			memcpy(bytes, "*2\r\n$", input.len < 5 ? input.len : 5);
		test_feed_resp(&limits, input, test_cut_whole, NULL, &whole);
		test_feed_resp(&limits, input, test_cut_random, &random, &pieces);
		assert_int_equal(whole.len, pieces.len);
		if (whole.len > 0)
			assert_memory_equal(whole.text, pieces.text, whole.len);
		test_notes_free(&whole);
		test_notes_free(&pieces);
	}
}

/* ---------------------------------------------------------------- encoding */

static void encoding_round_trips(void **state)
{
	struct mp_slice argv[] = {S("SET"), S(""), S("a\r\nb\0c")};
	size_t len = resp_encode(NULL, 0, 3, argv);
	struct resp_limits limits;
	struct resp_parser *parser;
	struct resp_request r;
	char out[64];
	size_t used;

	(void)state;
	resp_limits_init(&limits);
	parser = resp_parser_new(&limits);
	for (size_t cap = 0; cap < len; cap++) {
		memset(out, '#', sizeof(out));
		assert_int_equal(resp_encode(out, cap, 3, argv), len);
		assert_int_equal(out[cap], '#');
	}
	assert_int_equal(resp_encode(out, sizeof(out), 3, argv), len);
	assert_int_equal(resp_parse(parser, out, len, &used, &r), RESP_DONE);
	assert_int_equal(r.argc, 3);
	assert_false(r.is_inline);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(r.argv[i].len, argv[i].len);
		assert_memory_equal(r.argv[i].data, argv[i].data, argv[i].len);
	}
	resp_parser_free(parser);
}

static void integers_are_strict(void **state)
{
	static const char *const good[] = {
		"0", "-1", "1", "10", "9223372036854775807", "-9223372036854775808"};
	static const char *const wrong[] = {"",
					    "-",
					    "+1",
					    "01",
					    "-0",
					    "00",
					    " 1",
					    "1 ",
					    "1x",
					    "0x1",
					    "1.0",
					    "9223372036854775808",
					    "-9223372036854775809",
					    "99999999999999999999"};
	int64_t value;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_true(mp_parse_i64((struct mp_slice){good[i], strlen(good[i])}, &value));
		assert_true(value == strtoll(good[i], NULL, 10));
	}
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_false(mp_parse_i64((struct mp_slice){wrong[i], strlen(wrong[i])}, &value));
}

/* ----------------------------------------------------------------- replies */

static void expect_frames(struct mp_slice input, const char *expected)
{
	struct test_notes notes = {0};

	test_feed_resp_framer(input, test_cut_whole, NULL, &notes);
	assert_string_equal(notes.text ? notes.text : "", expected);
	test_notes_free(&notes);
	test_feed_resp_framer(input, test_cut_bytes, NULL, &notes);
	assert_string_equal(notes.text ? notes.text : "", expected);
	test_notes_free(&notes);
	for (size_t at = 1; at < input.len; at++) {
		test_feed_resp_framer(input, test_cut_at, &at, &notes);
		assert_string_equal(notes.text ? notes.text : "", expected);
		test_notes_free(&notes);
	}
}

static void replies_are_framed(void **state)
{
	(void)state;
	expect_frames((struct mp_slice)S("+OK\r\n-ERR x\r\n:12\r\n$3\r\nabc\r\n$-1\r\n$0\r\n\r\n"),
		      "end at 5\nend at 13\nend at 18\nend at 27\nend at 32\nend at 38\n");
	expect_frames((struct mp_slice)S("*0\r\n*-1\r\n*2\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n+OK\r\n"),
		      "end at 4\nend at 9\nend at 32\nend at 37\n");
	/* RESP3: maps count twice, attributes precede a value. */
	expect_frames((struct mp_slice)S("%1\r\n+a\r\n:1\r\n~2\r\n#t\r\n,1.5\r\n_\r\n(123\r\n"
					 "=7\r\ntxt:abc\r\n>1\r\n+x\r\n!3\r\nERR\r\n"),
		      "end at 12\nend at 26\nend at 29\nend at 35\nend at 48\nend at 56\n"
		      "end at 65\n");
	expect_frames(
		(struct mp_slice)S("|1\r\n+a\r\n+b\r\n:1\r\n*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:1\r\n"
				   ":2\r\n|0\r\n+OK\r\n"),
		"end at 16\nend at 44\nend at 53\n");
	expect_frames((struct mp_slice)S("x"), "error at 0\n");
	expect_frames((struct mp_slice)S("*x\r\n"), "error at 4\n");
	expect_frames((struct mp_slice)S("$-2\r\n"), "error at 5\n");
	expect_frames((struct mp_slice)S("$1\n"), "error at 3\n");
	expect_frames((struct mp_slice)S("*1111111111111111111111111111111111111111"),
		      "error at 34\n");
}

/* A script that returns a table which contains itself is answered so: thousands deep. */
static void depth_is_not_bounded(void **state)
{
	enum { DEPTH = 10000, LAYER = 8, CORE = 5 };
	static char text[DEPTH * LAYER + CORE];
	struct resp_framer framer = {0};
	size_t used;

	(void)state;
	for (int i = 0; i < DEPTH; i++) {
		memcpy(text + 4 * i, "*2\r\n", 4);
		memcpy(text + 4 * (DEPTH + i) + CORE, ":1\r\n", 4);
	}
	memcpy(text + 4 * DEPTH, "-no\r\n", CORE);
	assert_int_equal(resp_frame(&framer, text, sizeof(text) - 1, &used), RESP_MORE);
	assert_int_equal(used, sizeof(text) - 1);
	assert_int_equal(resp_frame(&framer, text + used, 1, &used), RESP_DONE);
	assert_int_equal(framer.pending, 0);
}

static size_t random_reply(uint64_t *random, char *out, int depth)
{
	static const char *const simple[] = {
		"+OK\r\n",           "-ERR no\r\n", ":-5\r\n", "$-1\r\n",
		"$5\r\na\r\nb*\r\n", "*-1\r\n",     "*0\r\n",  "_\r\n"};
	size_t n = test_random(random) % 12, len;

	if (n < 8 || depth > 4) {
		strcpy(out, simple[n % 8]);
		return strlen(out);
	}
	len = (size_t)sprintf(out, "%c%zu\r\n", n % 2 ? '*' : '%', n % 3);
	for (size_t i = 0; i < (n % 2 ? n % 3 : 2 * (n % 3)); i++)
		len += random_reply(random, out + len, depth + 1);
	return len;
}

static void random_replies_end_where_they_end(void **state)
{
	static char text[1 << 16];
	uint64_t random = 2;

	(void)state;
	for (int round = 0; round < 5000; round++) {
		size_t len = random_reply(&random, text, 0);
		struct test_notes notes = {0};
		char expected[32];

		snprintf(expected, sizeof(expected), "end at %zu\n", len);
		test_feed_resp_framer((struct mp_slice){text, len}, test_cut_random, &random,
				      &notes);
		assert_string_equal(notes.text, expected);
		test_notes_free(&notes);
	}
}

static void exec_replies_are_opened(void **state)
{
	int64_t count;
	size_t used;

	(void)state;
	assert_int_equal(resp_array_header("*12\r\n+OK", 8, &used, &count), RESP_DONE);
	assert_int_equal(used, 5);
	assert_int_equal(count, 12);
	assert_int_equal(resp_array_header("*-1\r\n", 5, &used, &count), RESP_DONE);
	assert_int_equal(count, -1);
	assert_int_equal(resp_array_header("_\r\n", 3, &used, &count), RESP_DONE);
	assert_int_equal(count, -1);
	for (size_t len = 0; len < 5; len++)
		assert_int_equal(resp_array_header("*12\r\n", len, &used, &count), RESP_MORE);
	assert_int_equal(used, 0);
	assert_int_equal(resp_array_header("-EXECABORT x\r\n", 14, &used, &count), RESP_ERROR);
	assert_int_equal(used, 0);
	assert_int_equal(resp_array_header("*x\r\n", 4, &used, &count), RESP_ERROR);
	assert_int_equal(resp_array_header("*-2\r\n", 5, &used, &count), RESP_ERROR);
}

/* ------------------------------------------------------- against the server */

static char dir[TEST_DIR_BYTES];
static struct test_server redis;

static int start_server(void **state)
{
	(void)state;
	test_dir_make(dir);
	test_redis_start(&redis, dir, "");
	return 0;
}

static int stop_server(void **state)
{
	(void)state;
	test_server_kill(&redis, SIGTERM);
	test_dir_remove(dir);
	return 0;
}

/* What Redis answers to bytes that are no request is what we say is wrong with them. */
static void errors_are_the_servers(void **state)
{
	static const struct mp_slice inputs[] = {
		S("*x\r\n"),
		S("*\r\n"),
		S("*99999999999999999999\r\n"),
		S("*01\r\n"),
		S("*1\r\nPING\r\n"),
		S("*1\r\n\n\r\n"),
		S("*1\r\n\r\n"),
		S("*1\r\n$-1\r\n"),
		S("*1\r\n$x\r\n"),
		S("*1\r\n$536870913\r\n"),
		S("*2\r\n$4\r\nPING\r\n$007\r\n"),
		S("ECHO \"a\n"),
		S("ECHO \"a\"b\n"),
		S("ECHO 'a\n"),
		S("ECHO 'a'b\n"),
	};
	struct resp_limits limits;

	(void)state;
	resp_limits_init(&limits);
	for (size_t i = 0; i < COUNT(inputs); i++) {
		struct resp_parser *parser = resp_parser_new(&limits);
		struct resp_request r;
		struct test_client client;
		struct mp_slice reply;
		char expected[256];
		size_t used;

		assert_int_equal(resp_parse(parser, inputs[i].data, inputs[i].len, &used, &r),
				 RESP_ERROR);
		snprintf(expected, sizeof(expected), "-%s\r\n", resp_parser_error(parser));
		test_client_open(&client, redis.path, false);
		reply = test_client_ask(&client, inputs[i]);
		assert_int_equal(reply.len, strlen(expected));
		assert_memory_equal(reply.data, expected, reply.len);
		test_client_close(&client);
		resp_parser_free(parser);
	}
}

/* Lines without an end: Redis gives up behind 64 KiB, and so do we, with the same words. */
static void endless_lines_are_the_servers(void **state)
{
	static const char *const begins[] = {"*", "*1\r\n$", "PING "};
	enum { BYTES = 80 << 10 };
	char *text = malloc(BYTES);
	struct resp_limits limits;

	(void)state;
	resp_limits_init(&limits);
	for (size_t i = 0; i < COUNT(begins); i++) {
		struct resp_parser *parser = resp_parser_new(&limits);
		struct resp_request r;
		struct test_client client;
		struct mp_slice reply;
		char expected[256];
		size_t used;

		memset(text, '1', BYTES);
		memcpy(text, begins[i], strlen(begins[i]));
		assert_int_equal(resp_parse(parser, text, BYTES, &used, &r), RESP_ERROR);
		snprintf(expected, sizeof(expected), "-%s\r\n", resp_parser_error(parser));
		test_client_open(&client, redis.path, false);
		reply = test_client_ask(&client, (struct mp_slice){text, BYTES});
		assert_int_equal(reply.len, strlen(expected));
		assert_memory_equal(reply.data, expected, reply.len);
		test_client_close(&client);
		resp_parser_free(parser);
	}
	free(text);
}

/* RPUSH what we understood of a line, and what Redis did: the same arguments. */
static void inline_quoting_is_the_servers(void **state)
{
	static const char alphabet[] = "ab \t\"'\\xn41\v\rz";
	struct resp_limits limits;
	struct test_client client;
	uint64_t random = 3;
	int compared = 0;

	(void)state;
	resp_limits_init(&limits);
	test_client_open(&client, redis.path, false);
	for (int round = 0; round < 3000; round++) {
		struct resp_parser *parser = resp_parser_new(&limits);
		struct resp_request r;
		char line[64] = "RPUSH k1 x ", again[512];
		size_t len = strlen(line), n = 1 + test_random(&random) % 20, used;
		struct mp_slice first, second;
		char kept[512];

		for (size_t i = 0; i < n; i++)
			line[len++] = alphabet[test_random(&random) % (sizeof(alphabet) - 1)];
		line[len++] = '\n';
		if (resp_parse(parser, line, len, &used, &r) == RESP_DONE) {
			struct mp_slice *argv = (struct mp_slice *)r.argv;

			test_client_ask(&client, (struct mp_slice)S("DEL k1 k2\n"));
			test_client_ask(&client, (struct mp_slice){line, len});
			argv[1] = (struct mp_slice)S("k2");
			n = resp_encode(again, sizeof(again), r.argc, argv);
			test_client_ask(&client, (struct mp_slice){again, n});
			first = test_client_ask(&client, (struct mp_slice)S("LRANGE k1 0 -1\n"));
			assert_true(first.len < sizeof(kept));
			memcpy(kept, first.data, first.len);
			n = first.len;
			second = test_client_ask(&client, (struct mp_slice)S("LRANGE k2 0 -1\n"));
			assert_int_equal(n, second.len);
			assert_memory_equal(kept, second.data, n);
			compared++;
		}
		resp_parser_free(parser);
	}
	print_message("compared %d lines\n", compared);
	assert_true(compared > 500);
	test_client_close(&client);
}

/* Of a beginning: exact for a string, else what the items that are there let expect. */
static void replies_are_estimated(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{"$536870912\r\nab", 536870912 + 14},
		{"=9000000\r\ntxt:", 9000000 + 12},
		{"*1000000\r\n$3\r\nabc\r\n$3\r\nabc\r\n", 14000000}, /* (10 + 18) / 2 each */
		{"*2\r\n$100000000\r\nab", 2 * 100000018},
		{"%1000\r\n:1\r\n:2\r\n", 2000 * 7}, /* (7 + 8) / 2 */
		{"*3\r\n*2\r\n:1\r\n$6000\r\nab", 3 * 6021},
		{"*0\r\n", 0},
		{"$-1\r\n", 0},
		{"+OK\r\n", 0},
		{":12345\r\n", 0},
		{"$53687", 0},
		{"*10\r\n", 0},
		{"?", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(resp_estimate(cases[i].text, strlen(cases[i].text)),
				 cases[i].bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies_are_estimated),
		cmocka_unit_test(requests_are_taken_apart),
		cmocka_unit_test(limits_can_be_lifted),
		cmocka_unit_test(inline_commands_are_unquoted),
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(announcing_costs_nothing),
		cmocka_unit_test(many_arguments_are_let_go),
		cmocka_unit_test(random_bytes_do_no_harm),
		cmocka_unit_test(encoding_round_trips),
		cmocka_unit_test(integers_are_strict),
		cmocka_unit_test(replies_are_framed),
		cmocka_unit_test(depth_is_not_bounded),
		cmocka_unit_test(random_replies_end_where_they_end),
		cmocka_unit_test(exec_replies_are_opened),
		cmocka_unit_test(errors_are_the_servers),
		cmocka_unit_test(endless_lines_are_the_servers),
		cmocka_unit_test(inline_quoting_is_the_servers),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
