/*
 * fuzz_rewrite.c - libFuzzer harness for what becomes of a Redis write on its
 * way into the log. Whatever its arguments: what comes out are so many clean
 * requests as it says, and rewriting those again, at another time, pads their
 * deadlines once more and changes nothing else: no time is left in them that
 * depends on when they are run.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "deadline_effects.h"
#include "fuzz.h"
#include "resp.h"

#define NOW_MS 1700000000000

/* Stand-ins for what a server's COMMAND would have made of them. */
static const struct mp_command commands[] = {
	{.name = "set", .rewrite = MP_REWRITE_SET, .arity = -3},
	{.name = "setex", .rewrite = MP_REWRITE_SETEX, .arity = 4},
	{.name = "psetex", .rewrite = MP_REWRITE_SETEX, .arity = 4},
	{.name = "expire", .rewrite = MP_REWRITE_EXPIRE, .arity = -3},
	{.name = "pexpire", .rewrite = MP_REWRITE_EXPIRE, .arity = -3},
	{.name = "expireat", .rewrite = MP_REWRITE_EXPIRE, .arity = -3},
	{.name = "pexpireat", .rewrite = MP_REWRITE_EXPIRE, .arity = -3},
	{.name = "getex", .rewrite = MP_REWRITE_GETEX, .arity = -2},
	{.name = "restore", .rewrite = MP_REWRITE_RESTORE, .arity = -4},
	{.name = "flushall", .rewrite = MP_REWRITE_FLUSHALL, .arity = -1},
	{.name = "flushdb", .rewrite = MP_REWRITE_NONE, .arity = -1},
	{.name = "select", .rewrite = MP_REWRITE_NONE, .arity = 2},
	{.name = "move", .rewrite = MP_REWRITE_MOVE, .arity = 3},
	{.name = "copy", .rewrite = MP_REWRITE_COPY, .arity = -3},
	{.name = "swapdb", .rewrite = MP_REWRITE_SWAPDB, .arity = 3},
};

static bool is_named(struct mp_slice arg, const char *name)
{
	return arg.len == strlen(name) && strncasecmp(arg.data, name, arg.len) == 0;
}

static bool find(const struct resp_request *r, struct mp_command *command)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		int arity = commands[i].arity;

		if (!is_named(r->argv[0], commands[i].name))
			continue;
		*command = commands[i];
		command->class = MP_CLASS_WRITE;
		command->blind = true;
		return arity > 0 ? r->argc == arity : r->argc >= -arity;
	}
	return false;
}

/* Rewrites to memory of exactly the size; 0: refused. */
static size_t rewrite(const struct resp_request *r, int64_t now_ms, char **out, int *count)
{
	char error[MP_ERROR_BYTES] = "";
	struct mp_command command;
	size_t len;

	CHECK(find(r, &command));
	len = mp_command_rewrite(&command, r, now_ms, 3, NULL, 0, count, error, sizeof(error));
	if (len == 0) {
		CHECK(memcmp(error, "ERR ", 4) == 0 && strlen(error) < sizeof(error));
		CHECK(!strchr(error, '\r') && !strchr(error, '\n'));
		return 0;
	}
	*out = malloc(len);
	CHECK(*out);
	CHECK(mp_command_rewrite(&command, r, now_ms, 3, *out, len, count, error, sizeof(error)) ==
	      len);
	mp_command_is_blind(&command, r);
	return len;
}

static int64_t number(struct mp_slice arg)
{
	char text[24];

	CHECK(arg.len > 0 && arg.len < sizeof(text));
	memcpy(text, arg.data, arg.len);
	text[arg.len] = 0;
	return strtoll(text, NULL, 10);
}

static void check_again(const struct resp_limits *limits, const struct resp_request *r)
{
	struct resp_parser *parser = resp_parser_new(limits);
	struct resp_request twice;
	char *again = NULL;
	size_t len, used;
	int count;

	CHECK(parser);
	len = rewrite(r, NOW_MS + 1234567, &again, &count);
	CHECK(len > 0 && count == 1);
	CHECK(resp_parse(parser, again, len, &used, &twice) == RESP_DONE);
	CHECK(used == len && twice.argc == r->argc);
	for (int i = 0; i < r->argc; i++) {
		struct mp_slice once = r->argv[i], now = twice.argv[i];

		if (once.len == now.len && memcmp(once.data, now.data, now.len) == 0)
			continue;
		CHECK(number(once) >= MP_DEADLINE_PAD_MS);
		CHECK(number(now) == mp_deadline_pad(number(once)));
	}
	free(again);
	resp_parser_free(parser);
}

static void check(const struct resp_limits *limits, const struct resp_request *request)
{
	struct resp_parser *parser = resp_parser_new(limits);
	char *wire = NULL;
	int count = 0;
	size_t len = rewrite(request, NOW_MS, &wire, &count);

	CHECK(parser);
	for (size_t pos = 0; pos < len; count--) {
		struct resp_request r;
		size_t used;

		CHECK(resp_parse(parser, wire + pos, len - pos, &used, &r) == RESP_DONE);
		CHECK(!r.is_inline && r.argc > 0);
		check_again(limits, &r);
		pos += used;
	}
	CHECK(len == 0 || count == 0);
	free(wire);
	resp_parser_free(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct resp_parser *parser;
	struct resp_limits limits;
	struct resp_request r;
	struct mp_command command;
	size_t used;

	resp_limits_init(&limits);
	limits.max_bulk_bytes = 4096;
	parser = resp_parser_new(&limits);
	CHECK(parser);
	if (resp_parse(parser, (const char *)data, size, &used, &r) == RESP_DONE && r.argc > 0 &&
	    find(&r, &command))
		check(&limits, &r);
	resp_parser_free(parser);
	return 0;
}
