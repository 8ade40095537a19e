/*
 * bench_codec.c - what a request costs in the codecs, in nanoseconds: the best
 * of several rounds, on one core.
 *
 *     bench_codec [redis address, e.g. unix:/tmp/redis.sock]
 *
 * With an address, looking commands up and rewriting them is measured, too.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command.h"
#include "mc_decide.h"
#include "mc_text.h"
#include "resp.h"

enum { ROUNDS = 7, OPERATIONS = 200000 };

static volatile uint64_t sink; /* so that nothing is optimised away */
static struct mp_commands *table;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Time operation() on the text, which holds `per_call` requests. */
static void measure(const char *name, void (*operation)(const char *, size_t), const char *text,
		    size_t len, int per_call)
{
	double best = 1e9;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t begin = now_ns();

		for (int i = 0; i < OPERATIONS; i += per_call)
			operation(text, len);
		if ((double)(now_ns() - begin) / OPERATIONS < best)
			best = (double)(now_ns() - begin) / OPERATIONS;
	}
	printf("%-44s %8.1f ns\n", name, best);
}

static void redis_requests(const char *text, size_t len)
{
	static struct resp_parser *parser;
	struct resp_limits limits;
	struct resp_request r;
	size_t used = 0;

	if (!parser) {
		resp_limits_init(&limits);
		parser = resp_parser_new(&limits);
	}
	for (size_t pos = 0; pos < len; pos += used) {
		enum resp_result result = resp_parse(parser, text + pos, len - pos, &used, &r);

		assert(result == RESP_DONE);
		sink += r.argv[r.argc - 1].len;
	}
}

static void redis_replies(const char *text, size_t len)
{
	static struct resp_framer framer;
	size_t used = 0;

	for (size_t pos = 0; pos < len; pos += used) {
		enum resp_result result = resp_frame(&framer, text + pos, len - pos, &used);

		assert(result == RESP_DONE);
	}
	sink += used;
}

static void redis_logged(const char *text, size_t len)
{
	static struct resp_parser *parser;
	char out[512], error[MP_ERROR_BYTES];
	const struct mp_command *command;
	struct resp_limits limits;
	struct resp_request r;
	size_t used = 0;
	int commands;

	if (!parser) {
		resp_limits_init(&limits);
		parser = resp_parser_new(&limits);
	}
	resp_parse(parser, text, len, &used, &r);
	command = mp_command_find(table, &r, error, sizeof(error));
	sink += command->blind;
	if (command->class == MP_CLASS_WRITE)
		sink += mp_command_rewrite(command, &r, 1700000000000, 16, out, sizeof(out),
					   &commands, error, sizeof(error));
}

static void memcached_requests(const char *text, size_t len)
{
	static struct mc_parser *parser;
	struct mc_limits limits;
	struct mc_request r;
	size_t used = 0;

	if (!parser) {
		mc_limits_init(&limits);
		parser = mc_parser_new(&limits);
	}
	for (size_t pos = 0; pos < len; pos += used) {
		enum mc_result result = mc_parse(parser, text + pos, len - pos, &used, &r);

		assert(result == MC_DONE);
		sink += r.keys[0].len;
	}
}

static void memcached_logged(const char *text, size_t len)
{
	static struct mc_deadlines deadlines;
	static struct mc_parser *parser;
	struct mc_limits limits;
	struct mc_request r;
	char out[512];
	size_t used = 0;

	if (!parser) {
		mc_limits_init(&limits);
		parser = mc_parser_new(&limits);
	}
	mc_parse(parser, text, len, &used, &r);
	sink += mc_encode(&r, 1700000000, &deadlines, out, sizeof(out));
}

static void memcached_replies(const char *text, size_t len)
{
	static struct mc_framer framer;
	size_t used = 0;

	for (size_t pos = 0; pos < len; pos += used) {
		enum mc_result result = mc_frame(&framer, text + pos, len - pos, &used);

		assert(result == MC_DONE);
	}
	sink += used;
}

#define VALUE64 "0123456789012345678901234567890123456789012345678901234567890123"
#define SET "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$64\r\n" VALUE64 "\r\n"
#define GET "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n"
#define SETEX                                                                                    \
	"*5\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$64\r\n" VALUE64 "\r\n$2\r\nEX\r\n$3\r\n" \
	"100\r\n"
#define X16(text) text text text text text text text text text text text text text text text text
#define MEASURE(name, operation, text, per_call) \
	measure(name, operation, text, sizeof(text) - 1, per_call)

int main(int argc, char **argv)
{
	char err[256];

	MEASURE("redis: parse SET, 64 bytes", redis_requests, SET, 1);
	MEASURE("redis: parse GET", redis_requests, GET, 1);
	MEASURE("redis: parse SET, 16 in a buffer", redis_requests, X16(SET), 16);
	MEASURE("redis: parse GET, 16 in a buffer", redis_requests, X16(GET), 16);
	MEASURE("redis: parse inline SET", redis_requests, "SET key:000000000001 value\r\n", 1);
	MEASURE("redis: frame +OK", redis_replies, "+OK\r\n", 1);
	MEASURE("redis: frame a bulk of 64 bytes", redis_replies, "$64\r\n" VALUE64 "\r\n", 1);
	MEASURE("redis: frame an array of 16 bulks", redis_replies,
		"*16\r\n" X16("$10\r\n0123456789\r\n"), 1);
	MEASURE("memcached: parse set, 64 bytes", memcached_requests,
		"set key:000000000001 0 0 64\r\n" VALUE64 "\r\n", 1);
	MEASURE("memcached: parse get", memcached_requests, "get key:000000000001\r\n", 1);
	MEASURE("memcached: parse and encode set, 64 bytes", memcached_logged,
		"set key:000000000001 0 60 64\r\n" VALUE64 "\r\n", 1);
	MEASURE("memcached: frame STORED", memcached_replies, "STORED\r\n", 1);
	MEASURE("memcached: frame a VALUE of 64 bytes", memcached_replies,
		"VALUE key:000000000001 0 64\r\n" VALUE64 "\r\nEND\r\n", 1);
	if (argc < 2)
		return 0;
	table = mp_commands_fetch(argv[1], NULL, 5000, err, sizeof(err));
	if (!table) {
		fprintf(stderr, "bench_codec: %s\n", err);
		return 1;
	}
	MEASURE("redis: parse and look up GET", redis_logged, GET, 1);
	MEASURE("redis: parse, look up and rewrite SET", redis_logged, SET, 1);
	MEASURE("redis: parse, look up and rewrite SET EX", redis_logged, SETEX, 1);
	mp_commands_free(table);
	return 0;
}
