/*
 * test_command.c - what is known of Redis commands, against a real server.
 *
 *     test_command           the tests
 *     test_command --dump    the table, in the manner of commands.txt, with reasons
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client.h"
#include "command.h"
#include "command_special.h"
#include "servers.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}
#define MAX_ARGS 16

static char dir[TEST_DIR_BYTES];
static struct test_server redis;
static struct mp_commands *table;

static const char *const class_names[] = {
	[MP_CLASS_READ] = "read",
	[MP_CLASS_WRITE] = "write",
	[MP_CLASS_LOCAL] = "local",
	[MP_CLASS_REFUSED] = "refused",
};

static int start_server(void **state)
{
	char err[256];

	(void)state;
	test_dir_make(dir);
	test_redis_start(&redis, dir, "");
	table = mp_commands_fetch(redis.address, NULL, 5000, err, sizeof(err));
	if (!table)
		fprintf(stderr, "%s\n", err);
	return table ? 0 : -1;
}

static int stop_server(void **state)
{
	(void)state;
	mp_commands_free(table);
	test_server_kill(&redis, SIGTERM);
	test_dir_remove(dir);
	return 0;
}

/* --------------------------------------------------------------- the table */

struct dump {
	const struct mp_command *command[512];
	size_t count;
};

static void collect(void *ctx, const struct mp_command *command)
{
	struct dump *dump = ctx;

	assert_true(dump->count < COUNT(dump->command));
	dump->command[dump->count++] = command;
}

static int by_name(const void *a, const void *b)
{
	const struct mp_command *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* "getex write rewritten": what was decided about a command. */
static void describe(const struct mp_command *command, char *out, size_t bytes)
{
	snprintf(out, bytes, "%s %s%s%s%s", command->name, class_names[command->class],
		 command->rewrite ? " rewritten" : "", command->blind ? " blind" : "",
		 command->refuses ? " sometimes refused" : "");
}

static const char *reason(const struct mp_command *command)
{
	return command->refused ? command->refused->refusal : command->refusal;
}

static int dump_table(void)
{
	struct dump dump = {.count = 0};

	if (start_server(NULL) != 0)
		return 1;
	mp_commands_each(table, collect, &dump);
	qsort(dump.command, dump.count, sizeof(dump.command[0]), by_name);
	for (size_t i = 0; i < dump.count; i++) {
		char line[256];

		describe(dump.command[i], line, sizeof(line));
		if (reason(dump.command[i]))
			printf("%s: %s\n", line, reason(dump.command[i]));
		else
			printf("%s\n", line);
	}
	stop_server(NULL);
	return 0;
}

/* Lines of commands.txt that are no comment. */
static size_t read_decisions(char lines[][128], size_t max)
{
	const char *srcdir = getenv("srcdir");
	char path[512];
	size_t count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/tests/unit/commands.txt", srcdir ? srcdir : ".");
	file = fopen(path, "r");
	if (!file)
		fail_msg("cannot open %s", path);
	while (count < max && fgets(lines[count], sizeof(lines[0]), file)) {
		lines[count][strcspn(lines[count], "\n")] = '\0';
		if (lines[count][0] != '#')
			count++;
	}
	fclose(file);
	return count;
}

static bool server_is_7_0(void)
{
	return strstr(test_exchange(&redis, "INFO server\r\n", "executable"), ":7.0.") != NULL;
}

/* The table is what commands.txt says, command for command. */
static void every_command_was_decided_about(void **state)
{
	static char lines[512][128];
	struct dump dump = {.count = 0};
	size_t count = read_decisions(lines, COUNT(lines));

	(void)state;
	if (!server_is_7_0()) {
		print_message("skipped: this server is no Redis 7.0\n");
		skip();
	}
	mp_commands_each(table, collect, &dump);
	qsort(dump.command, dump.count, sizeof(dump.command[0]), by_name);
	for (size_t i = 0; i < dump.count && i < count; i++) {
		char line[128];

		describe(dump.command[i], line, sizeof(line));
		assert_string_equal(line, lines[i]);
	}
	assert_int_equal(dump.count, count);
}

/* Refused ones say why, others have no reason to; of reads only those of deadlines are rewritten;
 * both may wait for a key.
 */
static void check_sound(void *ctx, const struct mp_command *command)
{
	(void)ctx;
	assert_int_equal(command->class == MP_CLASS_REFUSED, command->refusal != NULL);
	assert_int_equal(command->refuses != NULL, command->refused != NULL);
	if (command->rewrite >= MP_REWRITE_TTL)
		assert_int_equal(command->class, MP_CLASS_READ);
	else if ((command->rewrite && command->rewrite != MP_REWRITE_BLOCK) || command->blind)
		assert_int_equal(command->class, MP_CLASS_WRITE);
	if (command->refused) {
		assert_int_equal(command->refused->class, MP_CLASS_REFUSED);
		assert_non_null(command->refused->refusal);
		assert_string_equal(command->refused->name, command->name);
	}
}

static void the_table_is_sound(void **state)
{
	(void)state;
	mp_commands_each(table, check_sound, NULL);
}

/* ----------------------------------------------------------------- look-up */

struct request {
	struct mp_slice argv[MAX_ARGS];
	struct resp_request r;
};

/* A request of blank-separated words; the text is cut up. */
static void split(struct request *request, char *text)
{
	int argc = 0;

	for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
		assert_true(argc < MAX_ARGS);
		request->argv[argc++] = (struct mp_slice){word, strlen(word)};
	}
	request->r = (struct resp_request){.argc = argc, .argv = request->argv};
}

static const struct mp_command *find(const char *text, char *error)
{
	struct request request;
	char copy[512];

	snprintf(copy, sizeof(copy), "%s", text);
	split(&request, copy);
	return mp_command_find(table, &request.r, error, MP_ERROR_BYTES);
}

static void commands_are_found(void **state)
{
	static const struct {
		const char *text, *name;
		enum mp_class class;
	} cases[] = {
		{"get k", "get", MP_CLASS_READ},
		{"GeT k", "get", MP_CLASS_READ},
		{"SET k v", "set", MP_CLASS_WRITE},
		{"config GET save", "config|get", MP_CLASS_READ},
		{"CONFIG set dir x", "config|set", MP_CLASS_REFUSED},
		{"command", "command", MP_CLASS_READ},
		{"COMMAND DOCS", "command|docs", MP_CLASS_READ},
		{"object encoding k", "object|encoding", MP_CLASS_READ},
		{"xgroup create k g $", "xgroup|create", MP_CLASS_WRITE},
		{"georadiusbymember_ro k m 1 km", "georadiusbymember_ro", MP_CLASS_READ},
		{"cluster count-failure-reports x", "cluster|count-failure-reports",
		 MP_CLASS_REFUSED},
		/* By their arguments. */
		{"xread streams k 0", "xread", MP_CLASS_READ},
		{"xread count 2 streams block 0", "xread", MP_CLASS_READ},
		{"xread block 0 streams k $", "xread", MP_CLASS_READ},
		{"xread count 2 BLOCK 0 streams k $", "xread", MP_CLASS_READ},
		{"sort k by w_* alpha", "sort", MP_CLASS_WRITE},
		{"sort k by w_* store d", "sort", MP_CLASS_WRITE},
		{"sort k alpha store d", "sort", MP_CLASS_WRITE},
		{"sort k by nosort alpha store d", "sort", MP_CLASS_WRITE},
		{"sort k get alpha by w_* store d", "sort", MP_CLASS_WRITE},
		{"sort k by w_* limit 0 1 get # desc alpha store d", "sort", MP_CLASS_REFUSED},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char error[MP_ERROR_BYTES] = "";
		const struct mp_command *command = find(cases[i].text, error);

		if (!command)
			fail_msg("%s: %s", cases[i].text, error);
		assert_string_equal(command->name, cases[i].name);
		if (command->class != cases[i].class)
			fail_msg("%s: %s", cases[i].text, class_names[command->class]);
	}
}

static void what_is_unknown_is_not_forwarded(void **state)
{
	static const struct mp_slice names[] = {
		S("nosuchcommand"), S(""),     S("ge"),           S("gett"),          S("get\0"),
		S("config|get"),    S("get "), S("\xc7\xc5\xd4"), S("xgroup|create"),
	};
	char long_name[300];
	struct mp_slice argv[2] = {{long_name, sizeof(long_name)}, S("k")};
	struct resp_request r = {.argc = 2, .argv = argv};
	char error[MP_ERROR_BYTES];

	(void)state;
	memset(long_name, 'g', sizeof(long_name));
	assert_null(mp_command_find(table, &r, error, sizeof(error)));
	for (size_t i = 0; i < COUNT(names); i++) {
		argv[0] = names[i];
		assert_null(mp_command_find(table, &r, error, sizeof(error)));
		assert_memory_equal(error, "ERR unknown command '", 21);
	}
}

/* ------------------------------------------------------- against the server */

/* If we find fault with it, it is what the server says. True: we did. */
static bool check_error(struct test_client *client, const struct resp_request *r)
{
	static char wire[1 << 16], expected[MP_ERROR_BYTES + 8];
	char error[MP_ERROR_BYTES];
	struct mp_slice reply;
	size_t len;

	if (mp_command_find(table, r, error, sizeof(error)))
		return false;
	len = resp_encode(wire, sizeof(wire), r->argc, r->argv);
	assert_true(len <= sizeof(wire));
	reply = test_client_ask(client, (struct mp_slice){wire, len});
	len = (size_t)snprintf(expected, sizeof(expected), "-%s\r\n", error);
	if (reply.len != len || memcmp(reply.data, expected, len) != 0)
		fail_msg("the server says '%.*s', we say '%s'", (int)reply.len, reply.data,
			 expected);
	return true;
}

struct arity {
	struct test_client client;
	int compared;
};

/* Every number of arguments from none to many that is wrong for the command. */
static void check_arity(void *ctx, const struct mp_command *command)
{
	struct arity *arity = ctx;
	struct request request;
	char name[64];
	int own;

	snprintf(name, sizeof(name), "%s", command->name);
	if (strchr(name, '|'))
		*strchr(name, '|') = ' ';
	split(&request, name);
	own = request.r.argc;
	for (int i = own; i < MAX_ARGS; i++)
		request.argv[i] = (struct mp_slice)S("1");
	for (request.r.argc = own; request.r.argc < MAX_ARGS; request.r.argc++)
		arity->compared += check_error(&arity->client, &request.r);
}

static void wrong_arity_is_answered_as_by_the_server(void **state)
{
	struct arity arity = {.compared = 0};

	(void)state;
	test_client_open(&arity.client, redis.path, false);
	mp_commands_each(table, check_arity, &arity);
	test_client_close(&arity.client);
	print_message("compared %d replies\n", arity.compared);
	assert_true(arity.compared > 1000);
}

static uint64_t random_state = 7;

static uint64_t pick(uint64_t n)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random_state >> 33) % n;
}

/* Names and arguments of odd lengths and bytes, quoted back by the server. */
static void unknown_commands_are_answered_as_by_the_server(void **state)
{
	static const char *const containers[] = {"CONFIG", "object", "Client", "xgroup"};
	static char bytes[MAX_ARGS][300];
	struct test_client client;
	int compared = 0;

	(void)state;
	test_client_open(&client, redis.path, false);
	for (int round = 0; round < 3000; round++) {
		struct request request;
		int argc = 1 + (int)pick(5);

		for (int i = 0; i < argc; i++) {
			size_t len = pick(10) ? pick(20) : pick(300);

			for (size_t j = 0; j < len; j++)
				bytes[i][j] = (char)(pick(8) ? 'a' + pick(26) : pick(256));
			request.argv[i] = (struct mp_slice){bytes[i], len};
		}
		if (argc > 1 && pick(3) == 0) {
			const char *container = containers[pick(COUNT(containers))];

			request.argv[0] = (struct mp_slice){container, strlen(container)};
		}
		request.r = (struct resp_request){.argc = argc, .argv = request.argv};
		compared += check_error(&client, &request.r);
	}
	test_client_close(&client);
	print_message("compared %d replies\n", compared);
	assert_true(compared > 2900);
}

/* ------------------------------------------------------------------- fetch */

static void fetching_says_what_is_wrong(void **state)
{
	char secret_dir[TEST_DIR_BYTES], err[256] = "", path[128];
	struct mp_commands *commands;
	struct test_server secret;

	(void)state;
	test_dir_make(secret_dir);
	snprintf(path, sizeof(path), "unix:%s/none.sock", secret_dir);
	assert_null(mp_commands_fetch(path, NULL, 1000, err, sizeof(err)));
	assert_non_null(strstr(err, "No such file"));
	assert_null(mp_commands_fetch("127.0.0.1:1", NULL, 1000, err, sizeof(err)));
	assert_non_null(strstr(err, "refused"));

	test_redis_start(&secret, secret_dir, "--requirepass sesame");
	assert_null(mp_commands_fetch(secret.address, NULL, 1000, err, sizeof(err)));
	assert_non_null(strstr(err, "NOAUTH"));
	assert_null(mp_commands_fetch(secret.address, "open", 1000, err, sizeof(err)));
	assert_non_null(strstr(err, "WRONGPASS"));
	commands = mp_commands_fetch(secret.address, "sesame", 1000, err, sizeof(err));
	assert_non_null(commands);
	mp_commands_free(commands);

	/* A server that is there but does not answer. */
	test_server_stop(&secret);
	assert_null(mp_commands_fetch(secret.address, "sesame", 100, err, sizeof(err)));
	kill(secret.pid, SIGCONT);
	test_server_kill(&secret, SIGTERM);
	test_dir_remove(secret_dir);
}

static void blindness_depends_on_options(void **state)
{
	static const struct {
		const char *text;
		bool blind;
	} cases[] = {
		{"set k v", true},           {"set k v ex 10", true},
		{"set k v PXAT 10", true},   {"set k v px 5 px 6", true},
		{"set k v nx", false},       {"set k v ex 10 xx", false},
		{"set k v get", false},      {"set k v keepttl", false},
		{"set k v ifeq ex", false},  {"set k v ifeq nx px 5", false},
		{"set k v nonsense", false}, {"set k v ex", false},
		{"setex k 10 v", true},      {"mset k v k v", true},
		{"del k k", true},           {"unlink k", true},
		{"flushall", true},          {"flushdb async", true},
		{"msetnx k v", false},       {"getset k v", false},
		{"incr k", false},           {"expire k 10", false},
		{"append k v", false},       {"hset k f v", false},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char copy[64], error[MP_ERROR_BYTES];
		const struct mp_command *command;
		struct request request;

		snprintf(copy, sizeof(copy), "%s", cases[i].text);
		split(&request, copy);
		command = mp_command_find(table, &request.r, error, sizeof(error));
		assert_non_null(command);
		if (mp_command_is_blind(command, &request.r) != cases[i].blind)
			fail_msg("%s", cases[i].text);
	}
}

static void the_place_of_a_clocks_id(void **state)
{
	static const struct {
		const char *text;
		int star;
	} cases[] = {
		{"xadd k 1-1 f v", 0},          {"xadd k 5-* f v", 0},
		{"xadd k 1-1 * *", 0},          {"xadd k MAXLEN 10 7-7 f *", 0},
		{"xadd k maxlen", 0},           {"xadd k * f v", 2},
		{"xadd k nomkstream * f v", 3}, {"xadd k MAXLEN 10 * f v", 4},
		{"xadd k MINID = 10 * f v", 5}, {"xadd k MAXLEN ~ 10 LIMIT 5 * f v", 7},
		{"xadd k KEEPREF * f v", 3},    {"xadd k MAXLEN 10 acked * f v", 5},
		{"xadd k OPTION * f v", -1},    {"xadd k OPTION 1-1 f v", 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request request;
		char text[64];

		snprintf(text, sizeof(text), "%s", cases[i].text);
		split(&request, text);
		assert_int_equal(mp_xadd_star(&request.r), cases[i].star);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_command_was_decided_about),
		cmocka_unit_test(the_table_is_sound),
		cmocka_unit_test(commands_are_found),
		cmocka_unit_test(what_is_unknown_is_not_forwarded),
		cmocka_unit_test(wrong_arity_is_answered_as_by_the_server),
		cmocka_unit_test(unknown_commands_are_answered_as_by_the_server),
		cmocka_unit_test(fetching_says_what_is_wrong),
		cmocka_unit_test(blindness_depends_on_options),
		cmocka_unit_test(the_place_of_a_clocks_id),
	};

	if (argc > 1 && strcmp(argv[1], "--dump") == 0)
		return dump_table();
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
