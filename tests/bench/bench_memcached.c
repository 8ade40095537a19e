/*
 * bench_memcached.c - load for a Memcached server, used by memcached-compare.
 * A get of many keys is as many operations; see load.h for what is printed.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

enum { KEYS = 10000, MAX_KEYS = 100 };

static struct {
	int gets_percent, bytes, keys, fill;
} options = {.gets_percent = 90, .bytes = 100, .keys = 1};

static char value[LOAD_MAX_BYTES];

static size_t make(struct load_client *client, char *out);
static void take(struct load_client *client, const char *data, size_t len);
static struct load load = {
	.program = "bench_memcached", .clients = 1, .requests = 100000, .make = make, .take = take};

static size_t make_set(char *out, uint32_t key)
{
	int n = sprintf(out, "set bench:%u 0 0 %d\r\n", key, options.bytes);

	memcpy(out + n, value, (size_t)options.bytes);
	memcpy(out + n + options.bytes, "\r\n", 2);
	return (size_t)(n + options.bytes + 2);
}

static size_t make_get(char *out)
{
	int n = sprintf(out, "get");

	for (int i = 0; i < options.keys; i++)
		n += sprintf(out + n, " bench:%u", load_random_below(KEYS));
	return (size_t)(n + sprintf(out + n, "\r\n"));
}

static size_t make(struct load_client *client, char *out)
{
	bool get = (int)load_random_below(100) < options.gets_percent;

	client->owed = 1;
	client->operations = get ? (unsigned)options.keys : 1;
	return get ? make_get(out) : make_set(out, load_random_below(KEYS));
}

static void take(struct load_client *client, const char *data, size_t len)
{
	size_t used;

	if (strncmp(data, "SERVER_ERROR", 12) == 0 || strncmp(data, "CLIENT_ERROR", 12) == 0)
		load_refuse(&load, data, len);
	if (mc_frame(&client->framer.mc, data, len, &used) == MC_DONE)
		client->owed--;
}

/* Nothing but the keys that gets are to find. */
static void fill(struct load_client *client)
{
	static char request[LOAD_MAX_BYTES + 256];

	for (uint32_t key = 0; key < KEYS; key++) {
		client->owed = 1;
		load_ask(&load, client, request, make_set(request, key));
	}
}

static int usage(int code)
{
	fprintf(code ? stderr : stdout,
		"usage: bench_memcached --port PORT [--requests N] [--clients N] [--gets PERCENT]\n"
		"                       [--bytes N] [--keys N (of a get)]\n"
		"       bench_memcached --port PORT --fill [--bytes N]   only the keys for gets\n");
	return code;
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"port", 1, NULL, 'p'}, {"requests", 1, NULL, 'n'}, {"clients", 1, NULL, 'c'},
		{"gets", 1, NULL, 'g'}, {"bytes", 1, NULL, 'b'},    {"keys", 1, NULL, 'k'},
		{"fill", 0, NULL, 'f'}, {"help", 0, NULL, 'h'},     {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		long number = optarg ? atol(optarg) : 0;

		if (option == 'h')
			exit(usage(0));
		else if (option == 'f')
			options.fill = 1;
		else if (option == 'p')
			load.port = (int)number;
		else if (option == 'n')
			load.requests = number;
		else if (option == 'c')
			load.clients = (int)number;
		else if (option == 'g')
			options.gets_percent = (int)number;
		else if (option == 'b')
			options.bytes = (int)number;
		else if (option == 'k')
			options.keys = (int)number;
		else
			return false;
	}
	return optind == argc && load.port > 0 && load.port < 65536 && load.requests > 0 &&
	       load.clients > 0 && load.clients <= LOAD_MAX_CLIENTS && options.gets_percent >= 0 &&
	       options.gets_percent <= 100 && options.bytes >= 0 &&
	       options.bytes <= LOAD_MAX_BYTES && options.keys > 0 && options.keys <= MAX_KEYS;
}

int main(int argc, char **argv)
{
	if (!parse(argc, argv))
		return usage(2);
	memset(value, 'x', sizeof(value));
	if (options.fill) {
		load.prepare = fill;
		load.requests = 0;
	}
	load_run(&load);
	return 0;
}
