/*
 * test_mc_decide.c - Memcached commands decided by us against a real memcached.
 *
 * The text protocol; the others are test_mc_dialects.c's.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "feed.h"
#include "mc_decide.h"
#include "mc_leader.h"
#include "mc_translate.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}
#define TERM TEST_MC_TERM
#define plain test_mc_plain
#define ours test_mc_ours
#define parser test_mc_parser
#define deadlines test_mc_deadlines
#define limits test_mc_limits
#define compare test_mc_compare
#define start_servers test_mc_start
#define stop_servers test_mc_stop

/* ------------------------------------------------------------- the same text */

#define K250                                                                                    \
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234" \
	"5678901234567890123456789012345678901234567890123456789012345678901234567890123456789" \
	"01234567890123456789012345678901234567890123456789012345678901234567890123456789"
#define K251 K250 "x"

static void answers_are_the_servers(void **state)
{
	static const struct mp_slice inputs[] = {
		S("set a 0 0 3\r\nabc\r\n"),
		S("set a 0 0 3\r\nabcd\r\n"),
		S("set a 0 0 3\r\nab\r\n\n"),
		S("set a 0 0 3 noreply\r\nabcd\r\nget a\r\n"),
		S("set a 0 0 -1\r\nabc\r\n"),
		S("set a 0 0 -1 noreply\r\nabc\r\n"),
		S("set a 0 0 2147483646\r\n"),
		S("set a 0 0 4294967299\r\nabc\r\nget a\r\n"),
		S("set a 0 0\r\n"),
		S("set a 0 noreply\r\n"),
		S("set a 0 0 noreply\r\n"),
		S("set\r\n"),
		S("set a 0 0 abc\r\nabc\r\n"),
		S("set a x 0 3\r\nabc\r\n"),
		S("set a 0 x 3\r\nabc\r\n"),
		S("set a -1 0 3\r\nabc\r\n"),
		S("set a 4294967295 0 3\r\nabc\r\nget a\r\n"),
		S("set a 4294967297 0 3\r\nabc\r\nget a\r\n"),
		S("set a 18446744073709551615 0 3\r\nabc\r\nget a\r\n"),
		S("set a 18446744073709551616 0 3\r\nabc\r\nget a\r\n"),
		S("set a -18446744073709551615 0 3\r\nabc\r\nget a\r\n"),
		S("set a 0 2147483647 3\r\nabc\r\nget a\r\n"),
		S("set a 0 2147483648 3\r\nabc\r\nget a\r\n"),
		S("set a 0 4294967296 3\r\nabc\r\nget a\r\n"),
		S("set a 0 9223372036854775808 3\r\nabc\r\nget a\r\n"),
		S("set a 0 -5 3\r\nabc\r\nget a\r\n"),
		S("set a +1 +1 +1\r\nx\r\nget a\r\n"),
		S("set a 01 01 01\r\nx\r\nget a\r\n"),
		S("set a \t1 0 1\r\nx\r\nget a\r\n"),
		S("set a 1\t 0 1\r\nx\r\nget a\r\n"),
		S("set a 0 0 3 foo\r\nabc\r\nget a\r\n"),
		S("set a 0 0 3 noreply x\r\nabc\r\n"),
		S("set " K250 " 0 0 1\r\na\r\nget " K250 "\r\n"),
		S("set " K251 " 0 0 1\r\na\r\nget a\r\n"),
		S("get " K251 "\r\n"),
		S("get a " K251 "\r\n"),
		S("gets a b " K251 " c\r\n"),
		S("gat 0 " K251 "\r\n"),
		S("touch " K251 " 0\r\n"),
		S("incr " K251 " 1\r\n"),
		S("delete " K251 "\r\n"),
		S("get\r\n"),
		S("get \r\n"),
		S("gets\r\n"),
		S("\r\n"),
		S("\n"),
		S("  \r\n"),
		S("\r\r\n"),
		S("get a\n"),
		S("GET a\r\n"),
		S("foo\r\n"),
		S("gett a\r\n"),
		S("  get a\r\n"),
		S("get   a  a  \r\n"),
		S("get\ta\r\n"),
		S("get a\0b\r\n"),
		S("get a\rb\r\n"),
		S("get a\r\r\n"),
		S("get noreply\r\n"),
		S("bget a\r\n"),
		S("gat\r\n"),
		S("gat 0\r\n"),
		S("gat x a\r\n"),
		S("gat 10 a b\r\n"),
		S("gat -1 a\r\nget a\r\n"),
		S("delete\r\n"),
		S("delete a b\r\n"),
		S("delete a 0\r\n"),
		S("delete a 1\r\n"),
		S("delete a 0 noreply\r\n"),
		S("delete a foo noreply\r\n"),
		S("delete a 0 foo\r\n"),
		S("delete a noreply foo\r\n"),
		S("delete a b c d\r\n"),
		S("incr\r\n"),
		S("incr a\r\n"),
		S("incr a x\r\n"),
		S("incr a -1\r\n"),
		S("incr a 18446744073709551616\r\n"),
		S("incr a 0x1\r\n"),
		S("incr a 1 2\r\n"),
		S("incr a 1 2 3\r\n"),
		S("incr a 1 noreply\r\n"),
		S("decr a noreply\r\n"),
		S("touch\r\n"),
		S("touch a\r\n"),
		S("touch a x\r\n"),
		S("touch a x noreply\r\n"),
		S("touch a 99999999999999999999\r\n"),
		S("touch a 1 2\r\n"),
		S("touch a 1 2 3\r\n"),
		S("cas a 0 0 1\r\nx\r\n"),
		S("cas a 0 0 1 x\r\nx\r\n"),
		S("cas a 0 0 1 -1\r\nx\r\n"),
		S("cas a 0 0 1 5\r\nx\r\n"),
		S("cas a 0 0 1 noreply\r\nx\r\n"),
		S("cas a 0 0 1 5 x y\r\n"),
		S("flush_all x\r\n"),
		S("flush_all 1 2 3\r\n"),
		S("flush_all noreply\r\n"),
		S("flush_all 0 noreply\r\n"),
		S("flush_all -1\r\n"),
		S("flush_all\r\nget a\r\n"),
		S("stats foo\r\n"),
		S("stats noreply\r\n"),
		S("set a\x01\x7f\xff 0 0 1\r\nx\r\nget a\x01\x7f\xff\r\n"),
		S("set\x01 a\r\n"),
		S("a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3\r\n"),
		S("set a b c d e f g h i j k l m n o p q r s t u v w x y z noreply\r\n"),
	};

	(void)state;
	for (size_t i = 0; i < COUNT(inputs); i++)
		compare(inputs[i], inputs[i]);
}

/* What is too large: the same answer, and of a set the old value is gone. */
static void large_values_are_treated_as_by_the_server(void **state)
{
	static const char *const verbs[] = {"set a", "add a", "append a", "prepend b", "replace a"};
	enum { BYTES = 2 << 20 };
	char *text = malloc(BYTES + 64);

	(void)state;
	for (size_t i = 0; i < COUNT(verbs); i++) {
		int n = snprintf(text, 64, "%s 0 0 %d\r\n", verbs[i], BYTES);

		compare((struct mp_slice)S("set a 0 0 1\r\nx\r\n"),
			(struct mp_slice)S("set a 0 0 1\r\nx\r\n"));
		memset(text + n, 'x', BYTES);
		memcpy(text + n + BYTES, "\r\n", 2);
		compare((struct mp_slice){text, (size_t)n + BYTES + 2},
			(struct mp_slice){text, (size_t)n + BYTES + 2});
		compare((struct mp_slice)S("get a\r\n"), (struct mp_slice)S("get a\r\n"));
	}
	free(text);
}

/* What a number is to incr and decr. (Not of blanks alone: memcached reads on behind them.) */
static void numbers_are_read_as_by_the_server(void **state)
{
	static const char *const values[] = {
		"18446744073709551615",
		"18446744073709551614",
		"18446744073709551616",
		"9223372036854775808",
		"9223372036854775807",
		"0",
		"",
		"5",
		"+5",
		"++5",
		" 5",
		"\t5",
		"5 ",
		"5 x",
		"5x",
		"x",
		" x",
		"x5",
		"0x5",
		"005",
		"5.5",
		"5\r\n6",
		"5\r",
		"99999999999999999999999999",
		"000000000000000000000000000000000007",
		"7                                      ",
		"-1",
		"-0",
		"- 1",
		"-5 ",
		"5 -",
		"9223372036854775808 -",
		"-9223372036854775808",
		"-9223372036854775809",
		"-18446744073709551615",
	};
	static const char *const deltas[] = {"incr n 5", "decr n 5", "incr n 18446744073709551615",
					     "decr n 0"};

	(void)state;
	for (size_t i = 0; i < COUNT(values) * COUNT(deltas); i++) {
		const char *value = values[i / COUNT(deltas)];
		struct mp_slice all;
		char text[256];

		all.data = text;
		all.len = (size_t)snprintf(text, sizeof(text),
					   "set n 0 0 %zu\r\n%s\r\n%s\r\nget n\r\n", strlen(value),
					   value, deltas[i % COUNT(deltas)]);
		compare(all, all);
	}
}

/* ------------------------------------------------------------ the same deeds */

/* A token that the server gave us for a key last; of term 0 they are the clients' as they are. */
static uint64_t last_token(struct test_client *client, const char *key)
{
	struct mp_slice input, got;
	char line[64], text[64];
	unsigned long long token = 0;

	input = (struct mp_slice){line, (size_t)snprintf(line, sizeof(line), "gets %s\r\n", key)};
	got = test_client_ask(client, input);
	snprintf(text, sizeof(text), "%.*s", (int)(got.len < 63 ? got.len : 63), got.data);
	sscanf(text, "VALUE %*s %*u %*u %llu", &token);
	return token;
}

static uint64_t random_state = 21;

static uint64_t pick(uint64_t n)
{
	return test_random(&random_state) % n;
}

/*
 * Nothing with a minus: for numbers of 2^63 and more memcached looks for one
 * beyond the item's end, too, where it may find what is left of another.
 */
static const char *random_value(void)
{
	static const char *const values[] = {
		"",
		"0",
		"1",
		"9",
		"10",
		"99",
		"100",
		"+5",
		" 5",
		"5 ",
		"5 x",
		"5x",
		"abc",
		" x",
		"007",
		"18446744073709551615",
		"18446744073709551614",
		"18446744073709551616",
		"9223372036854775808",
		"a\r\nb",
		"1                                                      ",
	};

	return values[pick(COUNT(values))];
}

static const char *random_exptime(void)
{
	static char text[32];

	switch (pick(6)) {
	case 0:
		return "-1";
	case 1:
		return "1000";
	case 2:
		snprintf(text, sizeof(text), "%ld", (long)time(NULL) + 5000);
		return text;
	case 3:
		return "5"; /* absolute, long past: see below */
	default:
		return "0";
	}
}

/* One command at random; of a cas the token differs between the two. */
static void random_command(char *text, size_t bytes, const char *key, uint64_t token)
{
	static const char *const storage[] = {"set", "add", "replace", "append", "prepend"};
	const char *noreply = pick(6) ? "" : " noreply";
	const char *value = random_value();

	switch (pick(10)) {
	case 0:
		snprintf(text, bytes, "%s %s %d%s\r\n", pick(2) ? "incr" : "decr", key,
			 (int)pick(20), noreply);
		break;
	case 1:
		snprintf(text, bytes, "%s %s %s%s\r\n", pick(2) ? "incr" : "decr", key,
			 pick(2) ? "18446744073709551615" : "9223372036854775807", noreply);
		break;
	case 2:
		snprintf(text, bytes, "touch %s %s%s\r\n", key, random_exptime(), noreply);
		break;
	case 3:
		snprintf(text, bytes, "gat %s %s other\r\n", random_exptime(), key);
		break;
	case 4:
		if (pick(3) == 0) {
			snprintf(text, bytes, "delete %s%s\r\n", key, noreply);
			break;
		}
		/* fall through */
	case 5:
		snprintf(text, bytes, "cas %s %d %s %zu %lu%s\r\n%s\r\n", key, (int)pick(3),
			 random_exptime(), strlen(value), token, noreply, value);
		break;
	default:
		snprintf(text, bytes, "%s %s %d %s %zu%s\r\n%s\r\n", storage[pick(5)], key,
			 (int)pick(3), random_exptime(), strlen(value), noreply, value);
		break;
	}
}

/* Seconds left, from memcached itself; -1 none, -2 no item. */
static long seconds_left(struct test_client *client, const char *key)
{
	struct mp_slice reply;
	char line[64];
	long left = -2;

	reply = (struct mp_slice){line, (size_t)snprintf(line, sizeof(line), "mg %s t\r\n", key)};
	reply = test_client_ask(client, reply);
	if (memcmp(reply.data, "HD t", 4) == 0)
		left = strtol(reply.data + 4, NULL, 10);
	return left;
}

static void random_commands_do_the_same(void **state)
{
	static const char *const keys[] = {"a", "b", "counter"};

	(void)state;
	compare((struct mp_slice)S("flush_all\r\n"), (struct mp_slice)S("flush_all\r\n"));
	for (int round = 0; round < 6000; round++) {
		char for_plain[512], for_ours[512], get[64];
		const char *key = keys[pick(COUNT(keys))];
		uint64_t plain_token = 1, our_token = 1, before;
		struct mp_slice look;
		long a, b;

		/* Good tokens, and stale ones. */
		if (pick(4)) {
			plain_token = last_token(&plain, key);
			our_token = last_token(&ours, key);
		}
		before = random_state;
		random_command(for_plain, sizeof(for_plain), key, plain_token);
		random_state = before;
		random_command(for_ours, sizeof(for_ours), key, our_token);
		compare((struct mp_slice){for_plain, strlen(for_plain)},
			(struct mp_slice){for_ours, strlen(for_ours)});
		look = (struct mp_slice){
			get, (size_t)snprintf(get, sizeof(get), "get %s other\r\n", key)};
		compare(look, look);
		a = seconds_left(&plain, key);
		b = seconds_left(&ours, key);
		if (a < 0 || b < 0 ? a != b : labs(a - b) > 2)
			fail_msg("after '%s' %ld seconds are left with memcached, %ld with us",
				 for_ours, a, b);
	}
}

/* ---------------------------------------------------------------- deadlines */

static void parse(const char *text, struct mc_request *r)
{
	size_t used;

	assert_int_equal(mc_parse(parser, text, strlen(text), &used, r), MC_DONE);
}

static void expect_form(const char *request, int64_t now_s, const char *form)
{
	struct mc_request r;
	char out[256];
	size_t len;

	parse(request, &r);
	len = mc_encode(&r, now_s, deadlines, out, sizeof(out));
	assert_int_equal(len, strlen(form));
	assert_memory_equal(out, form, len);
}

static void forms_are_canonical(void **state)
{
	(void)state;
	expect_form("set  k 07 0 1 noreply\nx\r\n", 1000, "set k 7 0 1\r\nx\r\n");
	expect_form("set k 0 60 1\r\nx\r\n", 1700000000, "set k 0 1700000060 1\r\nx\r\n");
	expect_form("set k 0 2592000 1\r\nx\r\n", 1700000000, "set k 0 1702592000 1\r\nx\r\n");
	expect_form("set k 0 2592001 1\r\nx\r\n", 1700000000, "set k 0 2592001 1\r\nx\r\n");
	expect_form("set k 0 -7 1\r\nx\r\n", 1700000000, "set k 0 -1 1\r\nx\r\n");
	expect_form("set k 0 2000000 1\r\nx\r\n", 2147000000, "set k 0 2147483647 1\r\nx\r\n");
	expect_form("delete k 0 noreply\r\n", 0, "delete k\r\n");
	expect_form("flush_all 10\r\n", 1700000000, "flush_all 1700000010\r\n");
	expect_form("ms k 1 T10 F5 q\r\nx\r\n", 1700000000, "set k 5 1700000010 1\r\nx\r\n");
	expect_form("ms k 1 c\r\nx\r\n", 0, "ms k 1 F0 T0 c\r\nx\r\n");
	expect_form("ms YSBi 1 b\r\nx\r\n", 0, "ms YSBi 1 b F0 T0\r\nx\r\n");
	expect_form("md YSBi b q\r\n", 0, "md YSBi b\r\n");
	expect_form("md YSBi F5 T6 b\r\n", 0, "md YSBi b\r\n");
	expect_form("md k F5 T6\r\n", 0, "delete k\r\n");
	expect_form("mg k q  v Oabc k\r\n", 0, "mg k v Oabc k\r\n");
	expect_form("me YSBi b\r\n", 0, "me YSBi b\r\n");
	expect_form("lru  tune 1 2 3 4 noreply\r\n", 0, "lru  tune 1 2 3 4\r\n");
	expect_form("flush_all 0 noreply\r\n", 0, "flush_all\r\n");
	expect_form("get   a   b\r\n", 0, "get a b\r\n");
	expect_form("stats items foo\r\n", 0, "stats items foo\r\n");
	expect_form("version foo\r\n", 0, "version\r\n");
}

/* What an item read back with these seconds left is logged with after an incr. */
static int64_t deadline_after_incr(int64_t now_s, int64_t left_s)
{
	struct mc_item item = {.found = true, .value = S("5"), .left_s = left_s};
	struct mc_decision decision;
	struct mc_request r;
	char out[256];
	long deadline;

	parse("incr counter 1\r\n", &r);
	mc_decide(&r, &item, TERM, now_s, &limits, deadlines, out, sizeof(out) - 1, &decision);
	out[decision.record_bytes] = '\0';
	assert_int_equal(sscanf(out, "set counter 0 %ld", &deadline), 1);
	return deadline;
}

/* However often it is read back a second wrong, the deadline does not move. */
static void deadlines_do_not_drift(void **state)
{
	const int64_t start_s = 1700000000;
	struct mc_request r;
	char out[256];

	(void)state;
	parse("set counter 0 100 1\r\n5\r\n", &r);
	mc_encode(&r, start_s, deadlines, out, sizeof(out));
	for (int64_t s = 0; s < 90; s++) {
		assert_true(deadline_after_incr(start_s + s, 101 - s) == start_s + 100);
		assert_true(deadline_after_incr(start_s + s, 98 - s) == start_s + 100);
	}
	/* Another deadline is another deadline, and becomes the one that is kept. */
	assert_true(deadline_after_incr(start_s, 500) == start_s + 500);
	assert_true(deadline_after_incr(start_s + 1, 500) == start_s + 500);
	assert_true(deadline_after_incr(start_s, -1) == 0);
	/* Nothing known of the key: a second off at most, and then no more. */
	memset(deadlines, 0, sizeof(*deadlines));
	assert_true(deadline_after_incr(start_s, 101) == start_s + 101);
	assert_true(deadline_after_incr(start_s + 9, 90) == start_s + 101);
}

/* ------------------------------------------------------------------- tokens */

static void tokens_are_of_one_term(void **state)
{
	const uint64_t cas = 123456789012;
	uint64_t term = mc_term(5 << 8 | 3), token = mc_cas_tag(term, cas);

	(void)state;
	assert_true(token < 1ULL << 53);
	assert_true(mc_cas_tag(UINT64_MAX, (1ULL << 48) - 1) == (1ULL << 53) - 1);
	assert_true(mc_cas_matches(token, term, cas));
	assert_false(mc_cas_matches(token, term, cas + 1));
	assert_false(mc_cas_matches(cas, term, cas));
	assert_false(mc_cas_matches(token + (1ULL << 53), term, cas));
	/* The next rounds, whoever wins them. */
	for (uint64_t round = 5; round < 5 + 1023; round++)
		for (uint64_t id = 1; id <= 7; id++)
			assert_int_equal(mc_cas_matches(token, mc_term(round << 8 | id), cas),
					 round == 5 && id == 3);
}

/* The reply to a gets, in the second term. */
static size_t rewrite(struct mp_slice reply, char *out, size_t cap)
{
	struct mc_request gets = {.verb = MC_GETS};
	struct mc_writer w = {out, cap, 0};

	mc_translate(&gets, reply, 2, &w);
	return w.bytes;
}

static void tokens_are_put_into_replies(void **state)
{
	static const struct mp_slice reply = S("VALUE a 0 3 5\r\nEND\r\nVALUE b 7 0 "
					       "18\r\n\r\nVALUE c 0 9 7\r\nVALUE x 1\r\nEND\r\n");
	char expected[256], out[256];
	size_t len;

	(void)state;
	len = (size_t)snprintf(expected, sizeof(expected),
			       "VALUE a 0 3 %llu\r\nEND\r\nVALUE b 7 0 %llu\r\n\r\nVALUE c 0 9 %llu"
			       "\r\nVALUE x 1\r\nEND\r\n",
			       2ULL << 40 | 5, 2ULL << 40 | 18, 2ULL << 40 | 7);
	assert_int_equal(rewrite(reply, NULL, 0), len);
	for (size_t cap = 0; cap < len; cap++) {
		memset(out, '#', sizeof(out));
		assert_int_equal(rewrite(reply, out, cap), len);
		assert_int_equal(out[cap], '#');
	}
	assert_int_equal(rewrite(reply, out, len), len);
	assert_memory_equal(out, expected, len);
	/* Whatever is cut off or no reply at all is passed on as it is. */
	for (size_t cut = 0; cut < reply.len; cut++)
		assert_true(rewrite((struct mp_slice){reply.data, cut}, out, sizeof(out)) <=
			    sizeof(out));
	assert_int_equal(rewrite((struct mp_slice)S("SERVER_ERROR x\r\n"), out, sizeof(out)), 16);
	assert_memory_equal(out, "SERVER_ERROR x\r\n", 16);
}

static void only_items_are_taken_for_items(void **state)
{
	static const struct mp_slice wrong[] = {
		S(""),
		S("EN"),
		S("EN\n"),
		S("VA \r\n"),
		S("VA x\r\n"),
		S("VA 1\r\n"),
		S("VA 1 f0 t-1 c1\r\nx\r"),
		S("VA -1\r\n"),
		S("ERROR\r\n"),
		S("VA 1 fx t-1 c1\r\nx\r\n"),
		S("VA 1 f0 t-1 c1\r\nxy\r\n"),
		S("SERVER_ERROR out of memory\r\n"),
	};
	struct mc_item item;

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_false(mc_parse_item(wrong[i], &item));
	assert_true(mc_parse_item((struct mp_slice)S("EN\r\n"), &item));
	assert_false(item.found);
	assert_true(mc_parse_item((struct mp_slice)S("VA 4 f4294967295 t77 "
						     "c18446744073709551615 W\r\na\r\nb\r\n"),
				  &item));
	assert_true(item.found && item.flags == UINT32_MAX && item.left_s == 77 &&
		    item.cas == UINT64_MAX && item.value.len == 4);
	assert_memory_equal(item.value.data, "a\r\nb", 4);
}

/* A miss that fails is logged: on the other replicas the item may still be there. */
static void misses_are_logged(void **state)
{
	static const struct {
		const char *request, *reply;
	} cases[] = {
		{"incr k 1\r\n", "NOT_FOUND\r\n"},
		{"decr k 1\r\n", "NOT_FOUND\r\n"},
		{"cas k 0 0 1 5\r\nx\r\n", "NOT_FOUND\r\n"},
		{"replace k 0 0 1\r\nx\r\n", "NOT_STORED\r\n"},
		{"append k 0 0 1\r\nx\r\n", "NOT_STORED\r\n"},
		{"prepend k 0 0 1\r\nx\r\n", "NOT_STORED\r\n"},
	};
	struct mc_item nothing = {.left_s = -1};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mc_decision decision;
		struct mc_request r;
		char out[64];

		parse(cases[i].request, &r);
		mc_decide(&r, &nothing, TERM, 0, &limits, deadlines, out, sizeof(out), &decision);
		assert_int_equal(decision.record_bytes, 10);
		assert_memory_equal(out, "delete k\r\n", 10);
		assert_int_equal(decision.reply_bytes,
				 sizeof(struct mc_canned) + strlen(cases[i].reply));
		assert_memory_equal(decision.reply + sizeof(struct mc_canned), cases[i].reply,
				    strlen(cases[i].reply));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_are_canonical),
		cmocka_unit_test(deadlines_do_not_drift),
		cmocka_unit_test(tokens_are_of_one_term),
		cmocka_unit_test(tokens_are_put_into_replies),
		cmocka_unit_test(only_items_are_taken_for_items),
		cmocka_unit_test(misses_are_logged),
		cmocka_unit_test(answers_are_the_servers),
		cmocka_unit_test(large_values_are_treated_as_by_the_server),
		cmocka_unit_test(random_commands_do_the_same),
		cmocka_unit_test(numbers_are_read_as_by_the_server),
	};

	return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
