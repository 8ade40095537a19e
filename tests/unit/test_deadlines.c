/*
 * test_deadlines.c - the index of deadlines against a plain table of the same
 * keys, under random calls; and what log entries are read to do to deadlines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "deadline_effects.h"
#include "deadlines.h"
#include "redis_scripts.h"
#include "ttl.h"

enum { KEYS = 3000, DATABASES = 3, ROUNDS = 200000 };

/* What the index has to know, by database and number of the key. */
static struct {
	int64_t due_ms;
	bool listed, is_exact;
	enum mp_deadline_state state;
} model[DATABASES][KEYS];
static struct mp_deadlines deadlines;
static size_t listed;

static uint64_t random_state = 5;

static uint64_t pick(uint64_t n)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random_state >> 33) % n;
}

/* Lengths on both sides of every class of memory. */
static struct mp_slice key_of(unsigned n)
{
	static char key[400];
	int len = snprintf(key, sizeof(key), "%u:", n);

	memset(key + len, 'x', n % 300);
	return (struct mp_slice){key, (size_t)len + n % 300};
}

static int64_t least_due(void)
{
	int64_t least = INT64_MAX;

	for (unsigned d = 0; d < DATABASES; d++)
		for (unsigned n = 0; n < KEYS; n++)
			if (model[d][n].listed && model[d][n].state == MP_DEADLINE_QUEUED &&
			    model[d][n].due_ms < least)
				least = model[d][n].due_ms;
	return least;
}

static void set(unsigned d, unsigned n, int64_t due_ms)
{
	assert_true(mp_deadlines_set(&deadlines, d, key_of(n), due_ms));
	listed += !model[d][n].listed;
	model[d][n].listed = model[d][n].is_exact = true;
	model[d][n].due_ms = due_ms;
	model[d][n].state = MP_DEADLINE_QUEUED;
}

static void lower(unsigned d, unsigned n, int64_t due_ms, bool is_exact)
{
	assert_true(mp_deadlines_lower(&deadlines, d, key_of(n), due_ms, is_exact));
	if (!model[d][n].listed) {
		listed++;
		model[d][n].listed = true;
		model[d][n].is_exact = is_exact;
		model[d][n].due_ms = due_ms;
		model[d][n].state = MP_DEADLINE_QUEUED;
		return;
	}
	model[d][n].is_exact = model[d][n].is_exact && is_exact && model[d][n].due_ms == due_ms;
	if (due_ms < model[d][n].due_ms)
		model[d][n].due_ms = due_ms;
}

static void change(unsigned d, unsigned n)
{
	struct mp_deadline *node = mp_deadlines_find(&deadlines, d, key_of(n));

	switch (pick(4)) {
	case 0:
		mp_deadlines_remove(&deadlines, node);
		model[d][n].listed = false;
		listed--;
		break;
	case 1:
		mp_deadlines_ask(&deadlines, node, 1);
		model[d][n].state = MP_DEADLINE_ASKED;
		model[d][n].is_exact = false;
		break;
	case 2:
		if (model[d][n].state != MP_DEADLINE_QUEUED)
			break;
		mp_deadlines_fire(&deadlines, node);
		model[d][n].state = MP_DEADLINE_FIRED;
		break;
	default:
		if (model[d][n].state == MP_DEADLINE_QUEUED)
			break;
		model[d][n].due_ms = (int64_t)pick(1000000);
		model[d][n].is_exact = true;
		model[d][n].state = MP_DEADLINE_QUEUED;
		mp_deadlines_requeue(&deadlines, node, model[d][n].due_ms, true);
		break;
	}
}

static void compare_all(void)
{
	assert_int_equal(deadlines.count, listed);
	for (unsigned d = 0; d < DATABASES; d++) {
		for (unsigned n = 0; n < KEYS; n++) {
			const struct mp_deadline *node =
				mp_deadlines_find(&deadlines, d, key_of(n));

			assert_int_equal(node != NULL, model[d][n].listed);
			if (!node)
				continue;
			assert_int_equal(node->due_ms, model[d][n].due_ms);
			assert_int_equal(node->is_exact, model[d][n].is_exact);
			assert_int_equal(node->state, model[d][n].state);
		}
	}
	assert_true(mp_deadlines_next_ms(&deadlines) == least_due());
}

static void model_flush(unsigned d)
{
	for (unsigned n = 0; n < KEYS; n++) {
		listed -= model[d][n].listed;
		model[d][n].listed = false;
	}
}

static void model_requeue(void)
{
	for (unsigned d = 0; d < DATABASES; d++)
		for (unsigned n = 0; n < KEYS; n++)
			model[d][n].state = MP_DEADLINE_QUEUED;
}

/* Swapping queues everything anew: what was under way is asked, or expired, again. */
static void model_swap(unsigned d, unsigned e)
{
	for (unsigned n = 0; d != e && n < KEYS; n++) {
		__typeof__(model[0][0]) one = model[d][n];

		model[d][n] = model[e][n];
		model[e][n] = one;
	}
	if (d != e)
		model_requeue();
}

static void the_index_is_a_table(void **state)
{
	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		unsigned d = (unsigned)pick(DATABASES), n = (unsigned)pick(KEYS);
		unsigned e = (unsigned)pick(DATABASES);
		uint64_t luck = pick(20000);

		if (luck == 0) {
			mp_deadlines_flush(&deadlines, d);
			model_flush(d);
		} else if (luck == 1) {
			assert_true(mp_deadlines_swap(&deadlines, d, e));
			model_swap(d, e);
		} else if (luck == 2) {
			mp_deadlines_requeue_all(&deadlines);
			model_requeue();
		} else if (luck % 3 == 0 && model[d][n].listed) {
			change(d, n);
		} else if (luck % 3 == 1) {
			set(d, n, (int64_t)pick(1000000));
		} else {
			/* Often to what it is already: then is_exact alone decides. */
			bool same = model[d][n].listed && pick(2) == 0;

			lower(d, n, same ? model[d][n].due_ms : (int64_t)pick(1000000),
			      pick(2) == 0);
		}
		if (round % 10000 == 0)
			compare_all();
	}
	compare_all();
	mp_deadlines_free(&deadlines);
}

static void due_ones_come_in_order(void **state)
{
	int64_t last_ms = 0;

	(void)state;
	for (unsigned n = 0; n < KEYS; n++)
		assert_true(mp_deadlines_set(&deadlines, 0, key_of(n), (int64_t)pick(5000)));
	for (unsigned n = 0; n < KEYS; n++) {
		struct mp_deadline *node = mp_deadlines_first(&deadlines);

		assert_true(node->due_ms >= last_ms);
		last_ms = node->due_ms;
		mp_deadlines_fire(&deadlines, node);
	}
	assert_null(mp_deadlines_first(&deadlines));
	mp_deadlines_free(&deadlines);
}

/* ------------------------------------------------------------------- effects */

static char seen[512];

static void write_down(void *ctx, const struct mp_effect *e)
{
	static const char *const names[] = {"set",   "maybe", "move",  "expire",
					    "flush", "swap",  "script"};
	size_t at = strlen(seen);

	(void)ctx;
	snprintf(seen + at, sizeof(seen) - at, "%s %u/%.*s", names[e->kind], e->database,
		 (int)e->key.len, e->key.len ? e->key.data : "");
	at = strlen(seen);
	if (e->kind == MP_EFFECT_MOVE || e->kind == MP_EFFECT_SWAP)
		snprintf(seen + at, sizeof(seen) - at, " %u/%.*s", e->to_database, (int)e->to.len,
			 e->to.len ? e->to.data : "");
	else if (e->when_ms)
		snprintf(seen + at, sizeof(seen) - at, " %lld", (long long)e->when_ms);
	strncat(seen, ";", sizeof(seen) - strlen(seen) - 1);
}

/* Lines are commands; P is the padding. */
static void effects_are_read_off_the_log(void **state)
{
	static const struct {
		const char *text, *effects;
		int commands;
	} cases[] = {
		{"SET k v\r\n", "", 1},
		{"SET k v PXAT 4398046512007\r\n", "set 2/k 7;", 1},
		{"SET k v NX PXAT 4398046512007\r\n", "maybe 2/k 7;", 1},
		{"SET PXAT PXAT KEEPTTL\r\n", "", 1},
		{"PEXPIREAT k 4398046512007\r\n", "set 2/k 7;", 1},
		{"PEXPIREAT k 4398046512007 gt\r\n", "maybe 2/k 7;", 1},
		{"PEXPIREAT k 1\r\n", "", 1},
		{"GETEX k PXAT 4398046512007\r\n", "maybe 2/k 7;", 1},
		{"GETEX k PERSIST\r\n", "", 1},
		{"RESTORE k 4398046512007 x ABSTTL\r\n", "maybe 2/k 7;", 1},
		{"RESTORE k 0 x\r\n", "", 1},
		{"rename a b\r\n", "move 2/a 2/b;", 1},
		{"RENAMENX a b\r\n", "move 2/a 2/b;", 1},
		{"COPY a b\r\n", "move 2/a 2/b;", 1},
		{"COPY a b REPLACE DB 5\r\n", "move 2/a 5/b;", 1},
		{"MOVE a 5\r\n", "move 2/a 5/a;", 1},
		{"SWAPDB 3 4\r\n", "swap 3/ 4/;", 1},
		{"SELECT 0\r\nFLUSHDB\r\nSELECT 1\r\nFLUSHDB\r\n", "flush 0/;flush 1/;", 4},
		{"FLUSHDB foo\r\nFLUSHDB async\r\n", "flush 2/;", 2},
		{"EVAL x 1 k 4398046512007\r\n", "", 1},
	};
	struct resp_limits limits;
	struct resp_parser *parser;

	(void)state;
	resp_limits_init(&limits);
	parser = resp_parser_new(&limits);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mp_slice wire = {cases[i].text, strlen(cases[i].text)};

		seen[0] = '\0';
		assert_true(mp_effects_each(parser, wire, cases[i].commands, 2, write_down, NULL));
		assert_string_equal(seen, cases[i].effects);
	}
	resp_parser_free(parser);
}

/* What a script sets is asked for; under which name, its record says. */
static void scripts_are_read_off_the_log(void **state)
{
	static const struct mp_slice words[] = {
		{"EVALSHA", 7}, {"return 1", 8}, {"1", 1}, {"k", 1}};
	const struct resp_request request = {.argc = 4, .argv = words};
	const struct mp_command command = {.name = "evalsha", .rewrite = MP_REWRITE_SCRIPT};
	const struct mp_script_terms terms = {
		.now_ms = 5, .seed = 6, .nonce = 0xa, .sequence = 0xb};
	struct resp_limits limits;
	struct resp_parser *parser;
	char wire[512], error[MP_ERROR_BYTES];
	size_t len = mp_script_rewrite(&command, &request, &terms, wire, sizeof(wire), error,
				       sizeof(error));

	(void)state;
	assert_true(len > 0 && len <= sizeof(wire));
	resp_limits_init(&limits);
	parser = resp_parser_new(&limits);
	seen[0] = '\0';
	assert_true(mp_effects_each(parser, (struct mp_slice){wire, len}, 1, 4, write_down, NULL));
	assert_string_equal(seen, "script 0/a-b;");
	resp_parser_free(parser);
}

static void what_expires_is_read_off_the_log(void **state)
{
	struct mp_slice keys[3] = {{"a", 1}, {"", 0}, {"ccc", 3}};
	struct resp_parser *parser;
	struct resp_limits limits;
	char wire[1024];
	size_t len = mp_encode_expire(wire, sizeof(wire), 0, 3, keys, 9, "KE");

	(void)state;
	assert_true(len <= sizeof(wire));
	resp_limits_init(&limits);
	parser = resp_parser_new(&limits);
	seen[0] = '\0';
	assert_true(mp_effects_each(parser, (struct mp_slice){wire, len}, 1, 4, write_down, NULL));
	assert_string_equal(seen, "expire 4/a 9;expire 4/ 9;expire 4/ccc 9;");
	resp_parser_free(parser);
}

/* ---------------------------------------------------------------------- replies */

static void replies_are_made_of_deadlines(void **state)
{
	static const struct {
		enum mp_rewrite kind;
		const char *answer;
		uint64_t now_ms;
		const char *reply;
	} cases[] = {
		{MP_REWRITE_TTL, ":-1\r\n", 5, ":-1\r\n"},
		{MP_REWRITE_PTTL, ":-2\r\n", 5, ":-2\r\n"},
		{MP_REWRITE_PTTL, "-ERR x\r\n", 5, "-ERR x\r\n"},
		{MP_REWRITE_PTTL, ":4398046522000\r\n", 5, ":9995\r\n"},
		{MP_REWRITE_PTTL, ":4398046522000\r\n", 20000, ":0\r\n"},
		{MP_REWRITE_TTL, ":4398046522000\r\n", 500, ":10\r\n"},
		{MP_REWRITE_TTL, ":4398046522000\r\n", 501, ":9\r\n"},
		{MP_REWRITE_EXPIRETIME, ":4398046522499\r\n", 7, ":10\r\n"},
		{MP_REWRITE_EXPIRETIME, ":4398046522500\r\n", 7, ":11\r\n"},
		{MP_REWRITE_PEXPIRETIME, ":4398046522499\r\n", 7, ":10499\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char out[MP_TTL_REPLY_BYTES + 1];
		struct mp_slice answer = {cases[i].answer, strlen(cases[i].answer)};
		struct mp_slice reply = mp_ttl_reply(cases[i].kind, answer, cases[i].now_ms, out);

		assert_int_equal(reply.len, strlen(cases[i].reply));
		assert_memory_equal(reply.data, cases[i].reply, reply.len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_index_is_a_table),
		cmocka_unit_test(due_ones_come_in_order),
		cmocka_unit_test(effects_are_read_off_the_log),
		cmocka_unit_test(what_expires_is_read_off_the_log),
		cmocka_unit_test(scripts_are_read_off_the_log),
		cmocka_unit_test(replies_are_made_of_deadlines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
