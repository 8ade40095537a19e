/*
 * test_mc_newer.c - what memcached has added to the meta commands since 1.6.18: which
 * flags are taken in front of which server, what is logged of them, and what an older
 * server is given of that. Without a server; test_memcached_newer.py has one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mc_decide.h"
#include "mc_translate.h"
#include "memcached_older.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOW_S 1700000000
#define TERM 5
#define E5 "E281474976710661" /* 2^48 + 5 */

static struct mp_slice slice(const char *text)
{
	return (struct mp_slice){text, strlen(text)};
}

/* What a parser makes of a whole request, in front of a server with these news. */
struct parsed {
	struct mc_limits limits;
	struct mc_parser *parser;
	struct mc_request request;
	enum mc_result result;
};

static void parse(struct parsed *p, const char *text, unsigned news, bool is_internal)
{
	size_t used = 0;

	mc_limits_init(&p->limits);
	p->limits.news = news;
	p->parser = is_internal ? mc_parser_internal(&p->limits) : mc_parser_new(&p->limits);
	assert_non_null(p->parser);
	do {
		text += used;
		p->result = mc_parse(p->parser, text, strlen(text), &used, &p->request);
	} while (p->result == MC_MORE && used > 0);
}

/* ------------------------------------------------------------- which are flags */

static void flags_are_the_servers(void **state)
{
	static const struct {
		const char *request;
		unsigned news; /* with which it is well */
	} cases[] = {
		{"mg a E1 v\r\n", MC_NEWS_TOKENS},
		{"ms a 1 E1\r\nx\r\n", MC_NEWS_TOKENS},
		{"ma a E1\r\n", MC_NEWS_TOKENS},
		{"md a I E1\r\n", MC_NEWS_TOKENS},
		{"md a x\r\n", MC_NEWS_TOMBSTONES},
		{"md a x I E1\r\n", MC_NEWS_TOMBSTONES | MC_NEWS_TOKENS},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		for (unsigned news = 0; news <= MC_NEWS_ALL; news++) {
			bool well = (news & cases[i].news) == cases[i].news;
			struct parsed p;

			parse(&p, cases[i].request, news, false);
			assert_int_equal(p.result, well ? MC_DONE : MC_BAD);
			mc_parser_free(p.parser);
			/* Who leads takes what another replica's client was allowed to say. */
			parse(&p, cases[i].request, news, true);
			assert_int_equal(p.result, MC_DONE);
			mc_parser_free(p.parser);
		}
	}
}

static void wrong_tokens_are_refused(void **state)
{
	static const char *const requests[] = {
		"ms a 1 E\r\nx\r\n",
		"ms a 1 Ex\r\nx\r\n",
		"ms a 1 E-1\r\nx\r\n",
		"ms a 1 E18446462598732840960\r\nx\r\n", /* 2^64 - 2^48 */
		"mg a N0 E18446744073709551615\r\n",
		"ms a 1 E1 E2\r\nx\r\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(requests); i++) {
		struct parsed p;

		parse(&p, requests[i], MC_NEWS_ALL, false);
		assert_int_equal(p.result, MC_BAD);
		mc_parser_free(p.parser);
	}
}

/* --------------------------------------------------------------- what is logged */

/* A request, the item that is there (found, if it has a value), what is logged and answered. */
struct decided {
	const char *request;
	struct mc_item item;
	const char *record, *reply; /* the reply's hole for a token shows as nothing */
};

#define THERE(text) .found = true, .left_s = -1, .value = {text, sizeof(text) - 1}

static void check_decided(const struct decided *c, unsigned news)
{
	static struct mc_deadlines deadlines;
	struct mc_decision decision;
	char record[1024];
	struct mp_slice reply;
	struct parsed p;

	memset(&deadlines, 0, sizeof(deadlines));
	parse(&p, c->request, news, true);
	assert_int_equal(p.result, MC_DONE);
	assert_int_equal(mc_class_of(&p.request), MC_CLASS_DECIDED);
	mc_decide(&p.request, &c->item, TERM, NOW_S, &p.limits, &deadlines, record, sizeof(record),
		  &decision);
	assert_true(decision.record_bytes < sizeof(record));
	record[decision.record_bytes] = '\0';
	assert_string_equal(record, c->record);
	reply = (struct mp_slice){decision.reply, decision.reply_bytes};
	if (reply.len > 0)
		reply = (struct mp_slice){reply.data + sizeof(struct mc_canned),
					  reply.len - sizeof(struct mc_canned)};
	assert_int_equal(reply.len, strlen(c->reply));
	assert_memory_equal(reply.data, c->reply, reply.len);
	mc_parser_free(p.parser);
}

static void decisions_are_logged_for_all(void **state)
{
	static const struct decided cases[] = {
		/* E goes with whatever becomes an item. */
		{"ms a 1 ME E5\r\nx\r\n", {0}, "ms a 1 F0 T0 " E5 "\r\nx\r\n", "HD\r\n"},
		{"ms a 1 MA E5 c\r\nx\r\n",
		 {THERE("ab"), .flags = 3},
		 "ms a 3 F3 T0 " E5 " c\r\nabx\r\n",
		 "HD c\r\n"},
		{"ms a 1 C7 E5\r\nx\r\n",
		 {THERE("ab"), .cas = MC_CHOSEN_BASE + 7},
		 "ms a 1 F0 T0 " E5 "\r\nx\r\n",
		 "HD\r\n"},
		{"ms a 1 C8 E5\r\nx\r\n", {THERE("ab"), .cas = MC_CHOSEN_BASE + 7}, "", "EX\r\n"},
		{"ms a 1 C0 E5\r\nx\r\n", {THERE("ab"), .cas = MC_CHOSEN_BASE}, "", "EX\r\n"},
		{"ms a 1 C6 I E5\r\nx\r\n",
		 {THERE("ab"), .cas = MC_CHOSEN_BASE + 7},
		 "ms a 1 F0 T0 " E5 "\r\nx\r\nmd a I " E5 "\r\n",
		 "HD\r\n"},
		{"ms a 1 ME E0\r\nx\r\n", {0}, "set a 0 0 1\r\nx\r\n", "HD\r\n"},
		{"ma a E5\r\n", {THERE("7")}, "ms a 1 F0 T0 " E5 "\r\n8\r\n", "HD\r\n"},
		{"ma a E0\r\n", {THERE("7")}, "ms a 1 F0 T0 E281474976710656\r\n8\r\n", "HD\r\n"},
		{"ma a E5 v\r\n",
		 {THERE("7"), .stale = true},
		 "ms a 1 F0 T0 " E5 "\r\n8\r\nmd a I " E5 "\r\n",
		 "VA 1\r\n8\r\n"},
		/* What was won is won again, which takes a deadline. */
		{"ma a E5 t\r\n",
		 {THERE("7"), .sent = true},
		 "ms a 1 F0 T2115947647 " E5 "\r\n8\r\nmg a u R2147483647 T0\r\n",
		 "HD t-1\r\n"},
		{"ma a T60 t\r\n",
		 {THERE("7"), .sent = true, .fetched = true},
		 "set a 0 1700000060 1\r\n8\r\nmg a R2147483647\r\n",
		 "HD t60\r\n"},
		{"ma a N0 J3 E5\r\n", {0}, "ms a 1 F0 T0 " E5 "\r\n3\r\n", "HD\r\n"},
		{"mg a N0 E5 v\r\n", {0}, "delete a\r\nmg a N0 " E5 " v\r\n", ""},
		{"mg a N0 E5 v\r\n", {THERE("ab")}, "mg a v\r\n", ""},
		{"mg a T0 E5 v\r\n", {THERE("ab")}, "mg a T0 v\r\n", ""},
		{"md a I E5\r\n", {THERE("ab")}, "md a I " E5 "\r\n", "HD\r\n"},
		/* What stays as it is keeps the token that somebody has chosen. */
		{"add a 0 0 1\r\nx\r\n",
		 {THERE("ab"), .stale = true, .won = true, .cas = MC_CHOSEN_BASE + 5},
		 "md a I " E5 "\r\n",
		 "NOT_STORED\r\n"},
		{"add a 0 0 1\r\nx\r\n",
		 {THERE("ab"), .stale = true, .won = true, .cas = 5},
		 "md a I\r\n",
		 "NOT_STORED\r\n"},
		/* ms: s, and N for what is missing. */
		{"ms a 1 MP s k\r\nx\r\n", {THERE("ab")}, "set a 0 0 3\r\nxab\r\n", "HD s3 ka\r\n"},
		{"ms a 1 MR s\r\nx\r\n", {0}, "delete a\r\n", "NS s1\r\n"},
		{"ms a 1 MA N-1 F7 s\r\nx\r\n", {0}, "set a 7 -1 1\r\nx\r\n", "HD s1\r\n"},
		{"ms a 1 MP N0 F7 C5\r\nx\r\n", {0}, "set a 7 0 1\r\nx\r\n", "HD\r\n"},
		{"ms a 1 MA N-1 F7\r\nx\r\n", {THERE("ab")}, "set a 0 0 3\r\nabx\r\n", "HD\r\n"},
		{"ms a 1 MR N0\r\nx\r\n", {0}, "delete a\r\n", "NS\r\n"},
		/* md x: a tombstone. */
		{"md a x\r\n", {THERE("ab")}, "md a x F0\r\n", "HD\r\n"},
		{"md a x I T-1 F9 E5 k\r\n",
		 {THERE("ab")},
		 "md a x F9 I T-1 " E5 "\r\n",
		 "HD ka\r\n"},
		{"md a x\r\n", {0}, "delete a\r\n", "NF\r\n"},
		{"md a x C4\r\n", {THERE("ab"), .cas = MC_CHOSEN_BASE + 5}, "", "EX\r\n"},
		/* Keys that text cannot say are never without their mark; YSBi is "a b". */
		{"md YSBi b x I E5\r\n",
		 {THERE("ab")},
		 "ms YSBi 0 b F0 T0 " E5 "\r\n\r\nmd YSBi b I " E5 "\r\n",
		 "HD\r\n"},
		{"mg YSBi b v N-1 E5 k\r\n",
		 {0},
		 "md YSBi b\r\nms YSBi 0 b F0 T1700003600 " E5
		 "\r\n\r\nmg YSBi b R2147483647 v T-1 k\r\n",
		 ""},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		check_decided(&cases[i], MC_NEWS_ALL);
}

/* In front of 1.6.18 s and N mean nothing to ms, as there. */
static void an_older_server_has_no_news(void **state)
{
	static const struct decided cases[] = {
		{"ms a 1 MP s\r\nx\r\n", {THERE("ab")}, "set a 0 0 3\r\nxab\r\n", "HD\r\n"},
		{"ms a 1 MA N0\r\nx\r\n", {0}, "delete a\r\n", "NS\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		check_decided(&cases[i], 0);
}

/* Whoever leads, a client hears the token that was chosen. */
static void chosen_tokens_are_of_no_term(void **state)
{
	static const uint64_t tokens[] = {0, 5, (1ULL << 53) + 1, MC_CHOSEN_MAX};

	(void)state;
	for (size_t i = 0; i < COUNT(tokens); i++) {
		uint64_t cas = mc_cas_of_chosen(tokens[i]);

		assert_true(mc_cas_is_chosen(cas));
		for (uint64_t term = 0; term < 3; term++) {
			assert_true(mc_cas_tag(term, cas) == tokens[i]);
			assert_true(mc_cas_matches(tokens[i], term, cas));
			assert_false(mc_cas_matches(tokens[i] + 1, term, cas));
		}
	}
	assert_false(mc_cas_is_chosen(MC_CHOSEN_BASE - 1));
}

/* -------------------------------------------------------- what an older one gets */

static void older_servers_get_what_they_know(void **state)
{
	static const struct {
		const char *line;
		unsigned news;
		const char *older; /* NULL: it stays as it is */
	} cases[] = {
		{"ms a 1 F0 T0 " E5 " c\r\n", 0, "ms a 1 F0 T0 c\r\n"},
		{"ms a 1 b F0 T0 " E5 "\r\n", MC_NEWS_TOMBSTONES, "ms a 1 b F0 T0\r\n"},
		{"ms a 1 b F0 T0 " E5 "\r\n", MC_NEWS_TOKENS, NULL},
		{"ms E1 1 F0 T0\r\n", 0, NULL},
		{"mg a N0 " E5 " v\r\n", 0, "mg a N0 v\r\n"},
		{"mg a OxE5 v\r\n", 0, NULL},
		{"md a I " E5 "\r\n", 0, "md a I\r\n"},
		{"md a x F0\r\n", 0, "delete a\r\n"},
		{"md a x F0 I " E5 "\r\n", MC_NEWS_TOKENS, "delete a\r\n"},
		{"md YSBi b x F0 " E5 "\r\n", 0, "md YSBi b\r\n"},
		{"md a x F0 " E5 "\r\n", MC_NEWS_TOMBSTONES, "md a x F0\r\n"},
		{"md a x F0 " E5 "\r\n", MC_NEWS_ALL, NULL},
		{"set E1 0 0 1\r\n", 0, NULL},
		{"delete x\r\n", 0, NULL},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mp_slice line = slice(cases[i].line);
		char out[128];
		struct mc_writer w = {out, sizeof(out) - 1, 0};

		assert_int_equal(memcached_is_too_new(line, cases[i].news), cases[i].older != NULL);
		if (!cases[i].older)
			continue;
		memcached_put_older(&w, line, cases[i].news);
		out[w.bytes] = '\0';
		assert_string_equal(out, cases[i].older);
	}
	assert_true(memcached_empties(slice("md YSBi b x F0\r\n")));
	assert_false(memcached_empties(slice("md x I\r\n")));
	assert_false(memcached_empties(slice("mg a x\r\n")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_are_the_servers),
		cmocka_unit_test(wrong_tokens_are_refused),
		cmocka_unit_test(decisions_are_logged_for_all),
		cmocka_unit_test(an_older_server_has_no_news),
		cmocka_unit_test(chosen_tokens_are_of_no_term),
		cmocka_unit_test(older_servers_get_what_they_know),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
