/*
 * bench_redis.c - load for a Redis server, used by redis-compare: what
 * redis-benchmark's tests send, and WAIT behind every write where it is asked
 * for, which redis-benchmark cannot do. See load.h for what is printed.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "load.h"

enum { KEYS = 10000, MAX_PIPELINE = 128, FILL_PIPELINE = 100 };

struct command {
	const char *name;
	const char *head; /* up to the key's number, which has 8 digits */
	const char *middle;
	bool has_value, writes;
};

static const struct command commands[] = {
	{"set", "*3\r\n$3\r\nSET\r\n$12\r\nkey:", "", true, true},
	{"get", "*2\r\n$3\r\nGET\r\n$12\r\nkey:", "", false, false},
	{"incr", "*2\r\n$4\r\nINCR\r\n$12\r\nnum:", "", false, true},
	{"lpush", "*3\r\n$5\r\nLPUSH\r\n$12\r\nlst:", "", true, true},
	{"hset", "*4\r\n$4\r\nHSET\r\n$12\r\nhsh:", "$5\r\nfield\r\n", true, true},
};

static struct {
	const struct command *command;
	int bytes, pipeline, wait, fill;
} options = {.command = commands, .bytes = 100, .pipeline = 1};

static char value[LOAD_MAX_BYTES + 32];
static size_t value_len;

static size_t make(struct load_client *client, char *out);
static void take(struct load_client *client, const char *data, size_t len);
static void fill(struct load_client *client);
static struct load load = {
	.program = "bench_redis", .clients = 1, .requests = 100000, .make = make, .take = take};

static size_t put(char *out, const struct command *command, uint32_t key)
{
	size_t n = (size_t)sprintf(out, "%s%08u\r\n%s", command->head, key, command->middle);

	if (!command->has_value)
		return n;
	memcpy(out + n, value, value_len);
	return n + value_len;
}

static size_t make(struct load_client *client, char *out)
{
	bool waits = options.wait > 0 && options.command->writes;
	size_t len = 0;

	for (int i = 0; i < options.pipeline; i++) {
		len += put(out + len, options.command, load_random_below(KEYS));
		if (waits)
			len += (size_t)sprintf(out + len,
					       "*3\r\n$4\r\nWAIT\r\n$1\r\n%d\r\n$5\r\n10000\r\n",
					       options.wait);
	}
	client->operations = (unsigned)options.pipeline;
	client->owed = client->operations * (waits ? 2 : 1);
	return len;
}

static void take(struct load_client *client, const char *data, size_t len)
{
	while (len > 0) {
		size_t used;
		bool starts = client->framer.resp.pending == 0 && client->framer.resp.skip == 0;
		enum resp_result result;

		if (starts && data[0] == '-')
			load_refuse(&load, data, len);
		result = resp_frame(&client->framer.resp, data, len, &used);
		if (result == RESP_ERROR || (result == RESP_DONE && client->owed == 0))
			load_refuse(&load, data, len);
		client->owed -= result == RESP_DONE;
		data += used;
		len -= used;
	}
}

/* Nothing but the keys that GET is to find. */
static void fill(struct load_client *client)
{
	static const char flush[] = "*1\r\n$8\r\nFLUSHALL\r\n";
	static char request[FILL_PIPELINE * (LOAD_MAX_BYTES + 128)];

	client->owed = 1;
	load_ask(&load, client, flush, sizeof(flush) - 1);
	for (uint32_t key = 0; key < KEYS; key += FILL_PIPELINE) {
		size_t len = 0;

		for (uint32_t i = 0; i < FILL_PIPELINE; i++)
			len += put(request + len, &commands[0], key + i);
		client->owed = FILL_PIPELINE;
		load_ask(&load, client, request, len);
	}
}

static int usage(int code)
{
	fprintf(code ? stderr : stdout,
		"usage: bench_redis --port PORT [--command set|get|incr|lpush|hset] [--requests "
		"N]\n"
		"                   [--clients N] [--pipeline N] [--bytes N]\n"
		"                   [--wait REPLICAS (behind every write)]\n"
		"       bench_redis --port PORT --fill [--bytes N]   only the keys for get\n");
	return code;
}

static bool choose_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcasecmp(name, commands[i].name) == 0) {
			options.command = &commands[i];
			return true;
		}
	return false;
}

static bool take_number(int option, long number)
{
	int *place = option == 'p'   ? &load.port
		     : option == 'c' ? &load.clients
		     : option == 'P' ? &options.pipeline
		     : option == 'b' ? &options.bytes
				     : &options.wait;

	if (number < 0 || number > 1000000000)
		return false;
	if (option == 'n')
		load.requests = number;
	else
		*place = (int)number;
	return true;
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {{"port", 1, NULL, 'p'},     {"command", 1, NULL, 't'},
					      {"requests", 1, NULL, 'n'}, {"clients", 1, NULL, 'c'},
					      {"pipeline", 1, NULL, 'P'}, {"bytes", 1, NULL, 'b'},
					      {"wait", 1, NULL, 'w'},     {"fill", 0, NULL, 'f'},
					      {"help", 0, NULL, 'h'},     {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'h')
			exit(usage(0));
		else if (option == 'f')
			options.fill = 1;
		else if (option == '?' || (option == 't' && !choose_command(optarg)) ||
			 (option != 't' && !take_number(option, atol(optarg))))
			return false;
	}
	return optind == argc && load.port > 0 && load.port < 65536 && load.clients > 0 &&
	       load.clients <= LOAD_MAX_CLIENTS && options.bytes <= LOAD_MAX_BYTES &&
	       options.pipeline > 0 && options.pipeline <= MAX_PIPELINE &&
	       load.requests >= options.pipeline;
}

int main(int argc, char **argv)
{
	int n;

	if (!parse(argc, argv))
		return usage(2);
	n = sprintf(value, "$%d\r\n", options.bytes);
	memset(value + n, 'x', (size_t)options.bytes);
	memcpy(value + n + options.bytes, "\r\n", 2);
	value_len = (size_t)(n + options.bytes + 2);
	if (options.fill) {
		load.prepare = fill;
		load.requests = 0;
	} else {
		load.requests /= options.pipeline;
	}
	load_run(&load);
	return 0;
}
