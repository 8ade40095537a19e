/*
 * test_rewrite.c - deadlines made absolute. Every command is run twice, on
 * equal states in two databases of one real server: as the client sent it, and
 * as it was rewritten. Replies and what is left behind must be the same, and
 * where we refuse, the server's own reply must be our text.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <cmocka.h>

#include "client.h"
#include "command.h"
#include "deadline_effects.h"
#include "servers.h"
#include "ttl.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}
#define MAX_ARGS 16
#define DATABASES 4           /* that clients see; the server has one more */
#define TTL_TOLERANCE_MS 5000 /* between two readings of one deadline */

static char dir[TEST_DIR_BYTES];
static struct test_server redis;
static struct mp_commands *table;
static struct test_client plain, rewritten; /* in database 0 and 1 */
static char payload[512];                   /* of a DUMP */
static size_t payload_len;

static int64_t now_ms(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

static void ask_text(struct test_client *client, const char *text, char *reply, size_t bytes)
{
	char line[256];
	struct mp_slice got;

	snprintf(line, sizeof(line), "%s\r\n", text);
	got = test_client_ask(client, (struct mp_slice){line, strlen(line)});
	assert_true(got.len < bytes);
	memcpy(reply, got.data, got.len);
	reply[got.len] = '\0';
}

static int start_server(void **state)
{
	char err[256], reply[64];
	struct mp_slice dump;

	(void)state;
	test_dir_make(dir);
	test_redis_start(&redis, dir, "--databases 5");
	table = mp_commands_fetch(redis.address, NULL, 5000, err, sizeof(err));
	if (!table)
		return -1;
	test_client_open(&plain, redis.path, false);
	test_client_open(&rewritten, redis.path, false);
	ask_text(&rewritten, "SELECT 1", reply, sizeof(reply));
	ask_text(&plain, "SET k dumped", reply, sizeof(reply));
	dump = test_client_ask(&plain, (struct mp_slice)S("DUMP k\r\n"));
	dump.data = strchr(dump.data, '\n') + 1;
	payload_len = (size_t)atoi(plain.in + 1);
	assert_true(payload_len < sizeof(payload));
	memcpy(payload, dump.data, payload_len);
	return 0;
}

static int stop_server(void **state)
{
	(void)state;
	test_client_close(&plain);
	test_client_close(&rewritten);
	mp_commands_free(table);
	test_server_kill(&redis, SIGTERM);
	test_dir_remove(dir);
	return 0;
}

static uint64_t random_state = 11;

static uint64_t pick(uint64_t n)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random_state >> 33) % n;
}

/* -------------------------------------------------------------- differential */

static const char *const beginnings[] = {
	"DEL k",           /* no key */
	"SET k old",       /* without a deadline */
	"SET k old EX 50", /* with one */
	"RPUSH k old",     /* of another type */
};

static void begin(const char *beginning)
{
	char reply[64];

	ask_text(&plain, "DEL k", reply, sizeof(reply));
	ask_text(&rewritten, "DEL k", reply, sizeof(reply));
	ask_text(&plain, beginning, reply, sizeof(reply));
	ask_text(&rewritten, beginning, reply, sizeof(reply));
	/* As we would have logged it. */
	if (strstr(beginning, " EX 50")) {
		char line[128];

		snprintf(line, sizeof(line), "PEXPIREAT k %lld",
			 (long long)mp_deadline_pad(now_ms() + 50000));
		ask_text(&rewritten, line, reply, sizeof(reply));
	}
}

static void show(const char *what, const struct resp_request *r)
{
	print_error("%s:", what);
	for (int i = 0; i < r->argc; i++)
		print_error(" '%.*s'", (int)r->argv[i].len, r->argv[i].data);
	print_error("\n");
}

/* What the log does to keys that are due: no server does it by itself. */
static void expire(void)
{
	struct mp_slice key = S("k");
	char wire[1024];
	size_t len = mp_encode_expire(wire, sizeof(wire), 0, 1, &key, now_ms(), "\0");

	assert_true(len <= sizeof(wire));
	test_client_ask(&rewritten, (struct mp_slice){wire, len});
}

/* PTTL as ttl.c makes it. A deadline so far away that it cannot be padded is a little nearer. */
static long long our_pttl(void)
{
	char answer[64], reply[MP_TTL_REPLY_BYTES];

	ask_text(&rewritten, "PEXPIRETIME k", answer, sizeof(answer));
	return atoll(mp_ttl_reply(MP_REWRITE_PTTL, (struct mp_slice){answer, strlen(answer)},
				  (uint64_t)now_ms(), reply)
			     .data +
		     1);
}

static long long farthest_ms(void)
{
	return INT64_MAX - MP_DEADLINE_PAD_MS - now_ms();
}

/* What a client can see of the key. */
static void compare_states(const struct resp_request *r)
{
	static const char *const looks[] = {"TYPE k", "GET k", "LRANGE k 0 -1", "DBSIZE"};
	char a[512], b[512];
	long long ttl_a, ttl_b;

	expire();
	for (size_t i = 0; i < COUNT(looks); i++) {
		ask_text(&plain, looks[i], a, sizeof(a));
		ask_text(&rewritten, looks[i], b, sizeof(b));
		if (strcmp(a, b) != 0) {
			show("request", r);
			fail_msg("%s: the server's '%s', ours '%s'", looks[i], a, b);
		}
	}
	ask_text(&plain, "PTTL k", a, sizeof(a));
	ttl_a = atoll(a + 1);
	ttl_b = our_pttl();
	if (ttl_a > farthest_ms())
		ttl_a = farthest_ms();
	if (ttl_a < 0 || ttl_b < 0 ? ttl_a != ttl_b : llabs(ttl_a - ttl_b) > TTL_TOLERANCE_MS) {
		show("request", r);
		fail_msg("PTTL: the server's %lld, ours %lld", ttl_a, ttl_b);
	}
}

/* The one reply we must give, as bytes with the line's end. */
static struct mp_slice our_reply(const struct resp_request *r, char *out, size_t bytes)
{
	static char wire[4096];
	char error[MP_ERROR_BYTES];
	const struct mp_command *command = mp_command_find(table, r, error, sizeof(error));
	int commands = 0;
	size_t len;

	if (command) {
		len = mp_command_rewrite(command, r, now_ms(), DATABASES, wire, sizeof(wire),
					 &commands, error, sizeof(error));
		assert_true(len <= sizeof(wire));
		if (len > 0) {
			assert_int_equal(commands, 1);
			return test_client_ask(&rewritten, (struct mp_slice){wire, len});
		}
	}
	return (struct mp_slice){out, (size_t)snprintf(out, bytes, "-%s\r\n", error)};
}

static void check(const struct resp_request *request, const char *beginning)
{
	static char wire[4096];
	char theirs_text[MP_ERROR_BYTES + 8], ours_text[MP_ERROR_BYTES + 8];
	struct resp_request r = *request;
	struct mp_slice ours, theirs;

	begin(beginning);
	r.raw = (struct mp_slice){wire, resp_encode(wire, sizeof(wire), r.argc, r.argv)};
	assert_true(r.raw.len <= sizeof(wire));
	theirs = test_client_ask(&plain, r.raw);
	assert_true(theirs.len < sizeof(theirs_text));
	memcpy(theirs_text, theirs.data, theirs.len);
	ours = our_reply(&r, ours_text, sizeof(ours_text));
	if (ours.len != theirs.len || memcmp(ours.data, theirs_text, ours.len) != 0) {
		show("request", &r);
		fail_msg("the server's '%.*s', ours '%.*s'", (int)theirs.len, theirs_text,
			 (int)ours.len, ours.data);
	}
	compare_states(&r);
}

/* Numbers on every edge that there is, and what is none. */
static struct mp_slice random_number(char out[32], bool seconds)
{
	static const char *const odd[] = {
		"0",
		"-1",
		"-100",
		"abc",
		"",
		"010",
		" 5",
		"5 ",
		"+5",
		"1.5",
		"0x10",
		"9223372036854775807",
		"9223372036854775",
		"9223372036854776",
		"-9223372036854775808",
		"-9223372036854775",
		"-9223372036854776",
		"9223372036854775808",
		"9223370000000000",
		"9223370000000000000",
	};
	long long base = seconds ? now_ms() / 1000 : now_ms();
	static const int offsets[] = {100000, 1000000, -100}; /* none that a slow machine passes */

	if (pick(3) == 0) {
		snprintf(out, 32, "%s", odd[pick(COUNT(odd))]);
	} else if (pick(2)) {
		snprintf(out, 32, "%lld", base + offsets[pick(3)]);
	} else {
		snprintf(out, 32, "%d", seconds ? 100 : 100000);
	}
	return (struct mp_slice){out, strlen(out)};
}

static struct mp_slice text_of(const char *text)
{
	return (struct mp_slice){text, strlen(text)};
}

/* Options from the list, some followed by a number (those with a trailing blank). */
static int random_options(struct mp_slice *argv, int argc, char numbers[MAX_ARGS][32],
			  const char *const *options, size_t count)
{
	for (uint64_t n = pick(4); n > 0; n--) {
		const char *option = options[pick(count)];
		size_t len = strlen(option);
		bool number = option[len - 1] == ' ';

		argv[argc++] = (struct mp_slice){option, len - number};
		if (number && pick(12) > 0) {
			bool seconds = strncasecmp(option, "ex", 2) == 0;

			argv[argc] = random_number(numbers[argc], seconds);
			argc++;
		}
	}
	return argc;
}

static void set_is_the_servers(void **state)
{
	static const char *const options[] = {
		"NX",  "xx",  "GET",   "KEEPTTL", "EX ", "px ",     "EXAT ", "pxat ",
		"EX ", "PX ", "PxAt ", "keepttl", "nx",  "PERSIST", "junk",  "",
	};

	(void)state;
	for (int round = 0; round < 2500; round++) {
		struct mp_slice argv[MAX_ARGS] = {S("SET"), S("k"), S("new")};
		char numbers[MAX_ARGS][32];
		struct resp_request r = {.argv = argv};

		r.argc = random_options(argv, 3, numbers, options, COUNT(options) - 1);
		check(&r, beginnings[pick(COUNT(beginnings))]);
	}
}

static void getex_is_the_servers(void **state)
{
	static const char *const options[] = {
		"EX ", "px ", "EXAT ", "pxat ", "PERSIST", "persist", "KEEPTTL", "NX", "junk",
	};

	(void)state;
	for (int round = 0; round < 1200; round++) {
		struct mp_slice argv[MAX_ARGS] = {S("GetEx"), S("k")};
		char numbers[MAX_ARGS][32];
		struct resp_request r = {.argv = argv};

		r.argc = random_options(argv, 2, numbers, options, COUNT(options));
		check(&r, beginnings[pick(COUNT(beginnings))]);
	}
}

static void expire_is_the_servers(void **state)
{
	static const char *const names[] = {"EXPIRE", "pexpire", "ExpireAt", "PEXPIREAT"};
	static const char *const options[] = {"NX", "xx", "GT", "lt", "XX", "junk\r\nX\r\n"};

	(void)state;
	for (int round = 0; round < 1500; round++) {
		const char *name = names[pick(4)];
		struct mp_slice argv[MAX_ARGS] = {text_of(name), S("k")};
		char number[32], numbers[MAX_ARGS][32];
		struct resp_request r = {.argv = argv};
		int64_t value;

		argv[2] = random_number(number, strncasecmp(name, "ex", 2) == 0);
		/* GT and LT within the time that the test itself takes would be a matter of luck.
		 */
		if (mp_parse_i64(argv[2], &value) && value == 50)
			continue;
		r.argc = random_options(argv, 3, numbers, options,
					pick(8) ? COUNT(options) - 1 : COUNT(options));
		check(&r, beginnings[pick(COUNT(beginnings))]);
	}
}

static void setex_is_the_servers(void **state)
{
	(void)state;
	for (int round = 0; round < 600; round++) {
		bool seconds = pick(2);
		struct mp_slice argv[4] = {seconds ? (struct mp_slice)S("SETEX")
						   : (struct mp_slice)S("PSetEx"),
					   S("k"),
					   {0},
					   S("new")};
		struct resp_request r = {.argc = 4, .argv = argv};
		char number[32];

		argv[2] = random_number(number, seconds);
		check(&r, beginnings[pick(COUNT(beginnings))]);
	}
}

static void restore_is_the_servers(void **state)
{
	static const char *const options[] = {"REPLACE", "replace", "ABSTTL", "IDLETIME ",
					      "FREQ ",   "freq ",   "junk"};

	(void)state;
	for (int round = 0; round < 1500; round++) {
		struct mp_slice argv[MAX_ARGS] = {S("RESTORE"), S("k")};
		char number[32], numbers[MAX_ARGS][32];
		struct resp_request r = {.argv = argv};

		argv[2] = pick(3) ? random_number(number, false) : (struct mp_slice)S("0");
		argv[3] = (struct mp_slice){payload, payload_len - (pick(10) == 0)};
		r.argc = random_options(argv, 4, numbers, options, COUNT(options));
		check(&r, beginnings[pick(COUNT(beginnings))]);
	}
}

/* ---------------------------------------------------------------- databases */

/* The server has database 4; to clients of ours it does not exist. */
static void the_hidden_database_is_out_of_reach(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{"MOVE k 4", "ERR DB index is out of range"},
		{"MOVE k 3", NULL},
		{"MOVE k -1", "ERR DB index is out of range"},
		{"MOVE k 04", "ERR value is not an integer or out of range"},
		{"MOVE k 2147483648",
		 "ERR value is out of range, value must between -2147483648 and 2147483647"},
		{"COPY k k DB 4", "ERR DB index is out of range"},
		{"COPY k k REPLACE db 4", "ERR DB index is out of range"},
		{"COPY k k db 3 db 4", "ERR DB index is out of range"},
		{"COPY k k db 3 REPLACE", NULL},
		{"COPY k k db", "ERR syntax error"},
		{"COPY k k nonsense", "ERR syntax error"},
		{"COPY k k db x", "ERR value is not an integer or out of range"},
		{"SWAPDB 0 4", "ERR DB index is out of range"},
		{"SWAPDB 4 0", "ERR DB index is out of range"},
		{"SWAPDB x 0", "ERR invalid first DB index"},
		{"SWAPDB 0 x", "ERR invalid second DB index"},
		{"SWAPDB 2 3", NULL},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char copy[64], out[256], error[MP_ERROR_BYTES] = "";
		struct mp_slice argv[MAX_ARGS];
		struct resp_request r = {.argv = argv, .is_inline = true};
		const struct mp_command *command;
		int commands;
		size_t len;

		snprintf(copy, sizeof(copy), "%s", cases[i].text);
		for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
			argv[r.argc++] = text_of(word);
		command = mp_command_find(table, &r, error, sizeof(error));
		assert_non_null(command);
		len = mp_command_rewrite(command, &r, now_ms(), DATABASES, out, sizeof(out),
					 &commands, error, sizeof(error));
		if (cases[i].error)
			assert_string_equal(error, cases[i].error);
		assert_int_equal(len == 0, cases[i].error != NULL);
	}
}

/* Also with five databases visible: then it is the server who knows best. */
static void database_errors_are_the_servers(void **state)
{
	static const char *const numbers[] = {"0", "1", "4",          "5",          "-1",
					      "x", "",  "2147483647", "2147483648", "01"};
	static const char *const forms[] = {"MOVE k %s", "COPY k k2 DB %s", "SWAPDB %s 2",
					    "SWAPDB 2 %s"};

	(void)state;
	for (size_t i = 0; i < COUNT(numbers) * COUNT(forms); i++) {
		char text[64], error[MP_ERROR_BYTES], out[256], expected[MP_ERROR_BYTES + 8];
		struct mp_slice argv[MAX_ARGS], theirs;
		struct resp_request r = {.argv = argv, .is_inline = true};
		const char *number = numbers[i % COUNT(numbers)];
		int commands;
		size_t len;

		snprintf(text, sizeof(text), forms[i / COUNT(numbers)], "#");
		for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
			argv[r.argc++] = text_of(*word == '#' ? number : word);
		len = mp_command_rewrite(mp_command_find(table, &r, error, sizeof(error)), &r,
					 now_ms(), 5, out, sizeof(out), &commands, error,
					 sizeof(error));
		if (len > 0)
			continue;
		len = resp_encode(out, sizeof(out), r.argc, argv);
		theirs = test_client_ask(&plain, (struct mp_slice){out, len});
		len = (size_t)snprintf(expected, sizeof(expected), "-%s\r\n", error);
		assert_int_equal(len, theirs.len);
		assert_memory_equal(expected, theirs.data, len);
	}
}

static void flushall_spares_the_hidden_database(void **state)
{
	static const char *const forms[] = {"FLUSHALL", "flushall async", "FlushAll SYNC"};
	char error[MP_ERROR_BYTES], reply[64], out[1024];
	struct test_client client;
	int commands;

	(void)state;
	test_client_open(&client, redis.path, false);
	for (size_t i = 0; i < COUNT(forms); i++) {
		struct mp_slice argv[2] = {{forms[i], 8}, {forms[i] + 9, 0}};
		struct resp_request r = {.argc = 1, .argv = argv, .is_inline = true};
		const struct mp_command *command;
		size_t len;

		if (strlen(forms[i]) > 8) {
			argv[1].len = strlen(forms[i] + 9);
			r.argc = 2;
		}
		for (int db = 0; db <= DATABASES; db++) {
			char select[32];

			snprintf(select, sizeof(select), "SELECT %d", db);
			ask_text(&client, select, reply, sizeof(reply));
			ask_text(&client, "SET here 1", reply, sizeof(reply));
		}
		command = mp_command_find(table, &r, error, sizeof(error));
		/* It does not fit, and nothing is written too far. */
		memset(out, '#', sizeof(out));
		len = mp_command_rewrite(command, &r, 0, DATABASES, out, 50, &commands, error,
					 sizeof(error));
		assert_true(len > 50);
		assert_int_equal(out[50], '#');
		assert_int_equal(mp_command_rewrite(command, &r, 0, DATABASES, out, sizeof(out),
						    &commands, error, sizeof(error)),
				 len);
		assert_int_equal(commands, 2 * DATABASES);
		test_client_send(&client, (struct mp_slice){out, len});
		for (int c = 0; c < commands; c++)
			assert_memory_equal(test_client_reply(&client).data, "+OK\r\n", 5);
		for (int db = 0; db <= DATABASES; db++) {
			char select[32];

			snprintf(select, sizeof(select), "SELECT %d", db);
			ask_text(&client, select, reply, sizeof(reply));
			ask_text(&client, "DBSIZE", reply, sizeof(reply));
			assert_string_equal(reply, db == DATABASES ? ":1\r\n" : ":0\r\n");
		}
	}
	test_client_close(&client);
}

static void flush_errors_are_the_servers(void **state)
{
	static const struct mp_slice wrong[] = {S("FLUSHALL x"), S("FLUSHALL sync async"),
						S("FLUSHDB foo"), S("FLUSHDB ASYNC x")};
	char reply[64], error[MP_ERROR_BYTES], out[1024], expected[MP_ERROR_BYTES + 8];

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		char copy[64];
		struct mp_slice argv[MAX_ARGS];
		struct resp_request r = {.argv = argv, .is_inline = true};
		int commands;

		snprintf(copy, sizeof(copy), "%s", wrong[i].data);
		for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
			argv[r.argc++] = text_of(word);
		assert_int_equal(
			mp_command_rewrite(mp_command_find(table, &r, error, sizeof(error)), &r, 0,
					   DATABASES, out, sizeof(out), &commands, error,
					   sizeof(error)),
			0);
		ask_text(&plain, wrong[i].data, reply, sizeof(reply));
		snprintf(expected, sizeof(expected), "-%s\r\n", error);
		assert_string_equal(reply, expected);
	}
}

/* ------------------------------------------------------------------- forms */

/* The bytes that go into the log, to the letter: they may not depend on luck. */
static void forms_are_canonical(void **state)
{
	static const struct {
		const char *text, *form; /* NULL: it is refused */
	} cases[] = {
		{"SET k v", "SET k v"},
		{"SET k v NX", "SET k v NX"},
		{"SET k v EX 10", "SET k v PXAT 4399046522000"},
		{"SET k v px 10", "SET k v PXAT 4399046512010"},
		{"SET k v exat 10", "SET k v PXAT 4398046522000"},
		{"SET k v GET PX 10 get xx", "SET k v XX GET PXAT 4399046512010"},
		{"SET k v IFEQ ex PX 10", "SET k v IFEQ ex PXAT 4399046512010"},
		{"SET k v GET ifne nx", "SET k v GET ifne nx"},
		{"SETEX k 10 v", "SET k v PXAT 4399046522000"},
		{"PSETEX k 10 v", "SET k v PXAT 4399046512010"},
		{"EXPIRE k 10", "PEXPIREAT k 4399046522000"},
		{"EXPIRE k -10 xx GT", "PEXPIREAT k 1 xx gt"},
		{"PEXPIRE k 10 NX", "PEXPIREAT k 4399046512010 nx"},
		{"EXPIREAT k 10", "PEXPIREAT k 1"},
		{"GETEX k", "GETEX k"},
		{"GETEX k PERSIST", "GETEX k PERSIST"},
		{"GETEX k EX 10", "GETEX k PXAT 4399046522000"},
		{"RESTORE k 10 \x04", "RESTORE k 4399046512010 \x04 ABSTTL"},
		{"RESTORE k 10 \x04 FREQ 1 REPLACE",
		 "RESTORE k 4399046512010 \x04 ABSTTL REPLACE FREQ 1"},
		{"RESTORE k 10 \x15 ABSTTL", "RESTORE k 1 \x15 ABSTTL"},
		{"RESTORE k 0 of-a-newer-type", NULL},
		/* No dump at all: its errors are the server's. */
		{"RESTORE k 0 ...", "RESTORE k 0 ..."},
		{"RESTORE k 0 ... junk", "RESTORE k 0 ... junk"},
		{"INCR k", "INCR k"},
	};
	struct resp_limits limits;

	(void)state;
	resp_limits_init(&limits);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct resp_parser *parser = resp_parser_new(&limits);
		char line[128], out[256], form[256], error[MP_ERROR_BYTES];
		struct resp_request r;
		size_t used, len, at = 0;
		int commands;

		snprintf(line, sizeof(line), "%s\r\n", cases[i].text);
		assert_int_equal(resp_parse(parser, line, strlen(line), &used, &r), RESP_DONE);
		len = mp_command_rewrite(mp_command_find(table, &r, error, sizeof(error)), &r,
					 1000000000, DATABASES, out, sizeof(out), &commands, error,
					 sizeof(error));
		if (!cases[i].form) {
			assert_int_equal(len, 0);
			resp_parser_free(parser);
			continue;
		}
		assert_true(len > 0 && len <= sizeof(out));
		assert_int_equal(resp_parse(parser, out, len, &used, &r), RESP_DONE);
		assert_int_equal(used, len);
		assert_false(r.is_inline);
		for (int j = 0; j < r.argc; j++)
			at += (size_t)snprintf(form + at, sizeof(form) - at, "%s%.*s", j ? " " : "",
					       (int)r.argv[j].len, r.argv[j].data);
		assert_string_equal(form, cases[i].form);
		resp_parser_free(parser);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_are_canonical),
		cmocka_unit_test(set_is_the_servers),
		cmocka_unit_test(setex_is_the_servers),
		cmocka_unit_test(getex_is_the_servers),
		cmocka_unit_test(expire_is_the_servers),
		cmocka_unit_test(restore_is_the_servers),
		cmocka_unit_test(the_hidden_database_is_out_of_reach),
		cmocka_unit_test(database_errors_are_the_servers),
		cmocka_unit_test(flushall_spares_the_hidden_database),
		cmocka_unit_test(flush_errors_are_the_servers),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
