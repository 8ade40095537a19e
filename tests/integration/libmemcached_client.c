/*
 * libmemcached_client.c - what a C program does with libmemcached, over the text
 * protocol or the binary one, as it speaks them: single requests, pipelined
 * ones, multi-gets, tokens, counters, quiet writes.
 *
 *     libmemcached_client HOST PORT text|binary [USER PASSWORD]
 *
 * Exits with 0 if every answer was right; otherwise says which was not.
 */
#include <libmemcached/memcached.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 300, NAME_BYTES = 64 };

static memcached_st *mc;
static bool is_binary;

#define CHECK(condition) check(condition, #condition, __LINE__)
static void check(bool ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "line %d: not so: %s (%s)\n", line, what, memcached_last_error_message(mc));
	exit(1);
}

static bool set(const char *key, const char *value, uint32_t flags)
{
	return memcached_set(mc, key, strlen(key), value, strlen(value), 0, flags) ==
	       MEMCACHED_SUCCESS;
}

/* Is that the value there, with these flags? NULL: there is none. */
static bool holds(const char *key, const char *value, uint32_t flags)
{
	memcached_return_t rc;
	uint32_t got_flags;
	size_t len;
	char *got = memcached_get(mc, key, strlen(key), &len, &got_flags, &rc);
	bool same;

	if (!value || rc != MEMCACHED_SUCCESS) {
		free(got);
		return !value && rc == MEMCACHED_NOTFOUND;
	}
	same = len == strlen(value) && (len == 0 || memcmp(got, value, len) == 0) &&
	       got_flags == flags;
	free(got);
	return same;
}

static void stores(void)
{
	CHECK(set("c:a", "one", 7) && holds("c:a", "one", 7));
	CHECK(memcached_add(mc, "c:a", 3, "x", 1, 0, 0) ==
	      (is_binary ? MEMCACHED_DATA_EXISTS : MEMCACHED_NOTSTORED));
	CHECK(memcached_replace(mc, "c:a", 3, "two", 3, 0, 9) == MEMCACHED_SUCCESS);
	CHECK(memcached_append(mc, "c:a", 3, "!", 1, 0, 0) == MEMCACHED_SUCCESS);
	CHECK(memcached_prepend(mc, "c:a", 3, "!", 1, 0, 0) == MEMCACHED_SUCCESS);
	CHECK(holds("c:a", "!two!", 9));
	CHECK(memcached_exist(mc, "c:a", 3) == MEMCACHED_SUCCESS);
	CHECK(memcached_touch(mc, "c:a", 3, 1000) == MEMCACHED_SUCCESS);
	CHECK(memcached_delete(mc, "c:a", 3, 0) == MEMCACHED_SUCCESS);
	CHECK(memcached_delete(mc, "c:a", 3, 0) == MEMCACHED_NOTFOUND);
	CHECK(memcached_exist(mc, "c:a", 3) == MEMCACHED_NOTFOUND);
	CHECK(set("c:empty", "", 0) && holds("c:empty", "", 0) && holds("c:none", NULL, 0));
}

static void counters(void)
{
	uint64_t value = 0;

	CHECK(set("c:n", "5", 0));
	CHECK(memcached_increment(mc, "c:n", 3, 3, &value) == MEMCACHED_SUCCESS && value == 8);
	CHECK(memcached_decrement(mc, "c:n", 3, 10, &value) == MEMCACHED_SUCCESS && value == 0);
	memcached_delete(mc, "c:m", 3, 0);
	CHECK(memcached_increment(mc, "c:m", 3, 1, &value) == MEMCACHED_NOTFOUND);
	if (!is_binary)
		return;
	CHECK(memcached_increment_with_initial(mc, "c:m", 3, 1, 40, 0, &value) ==
	      MEMCACHED_SUCCESS);
	CHECK(value == 40);
	CHECK(memcached_increment_with_initial(mc, "c:m", 3, 2, 40, 0, &value) ==
	      MEMCACHED_SUCCESS);
	CHECK(value == 42);
}

/* The token of a key, from a get of several. */
static uint64_t token_of(const char *key)
{
	size_t len = strlen(key);
	memcached_return_t rc;
	memcached_result_st *result;
	uint64_t token = 0;

	CHECK(memcached_mget(mc, &key, &len, 1) == MEMCACHED_SUCCESS);
	while ((result = memcached_fetch_result(mc, NULL, &rc))) {
		token = memcached_result_cas(result);
		memcached_result_free(result);
	}
	return token;
}

static void tokens(void)
{
	uint64_t token;

	CHECK(set("c:t", "1", 0));
	token = token_of("c:t");
	CHECK(token > 0 && token < UINT64_C(1) << 53);
	CHECK(memcached_cas(mc, "c:t", 3, "2", 1, 0, 0, token) == MEMCACHED_SUCCESS);
	CHECK(memcached_cas(mc, "c:t", 3, "3", 1, 0, 0, token) == MEMCACHED_DATA_EXISTS);
	CHECK(holds("c:t", "2", 0));
	CHECK(memcached_delete(mc, "c:t", 3, 0) == MEMCACHED_SUCCESS);
	CHECK(memcached_cas(mc, "c:t", 3, "4", 1, 0, 0, token) == MEMCACHED_NOTFOUND);
}

/* Hundreds of keys at once, every third of which is missing. Each value is its key. */
static void multi_get(void)
{
	static char names[MANY][NAME_BYTES];
	const char *keys[MANY];
	size_t lengths[MANY];
	memcached_result_st *result;
	memcached_return_t rc;
	int found = 0;

	for (int i = 0; i < MANY; i++) {
		keys[i] = names[i];
		lengths[i] = (size_t)snprintf(names[i], NAME_BYTES, "c:many:%d", i);
		if (i % 3 > 0)
			CHECK(set(names[i], names[i], (uint32_t)i));
	}
	CHECK(memcached_mget(mc, keys, lengths, MANY) == MEMCACHED_SUCCESS);
	while ((result = memcached_fetch_result(mc, NULL, &rc))) {
		size_t len = memcached_result_key_length(result);
		char key[NAME_BYTES];

		CHECK(len < sizeof(key) && memcached_result_length(result) == len);
		memcpy(key, memcached_result_key_value(result), len);
		key[len] = '\0'; /* libmemcached's has none with the binary protocol */
		CHECK(memcmp(memcached_result_value(result), key, len) == 0);
		CHECK(memcached_result_flags(result) == (uint32_t)atoi(key + strlen("c:many:")));
		memcached_result_free(result);
		found++;
	}
	CHECK(found == MANY - MANY / 3);
}

/* Writes that ask for no reply (binary: the quiet opcodes), and writes that wait in a buffer. */
static void quiet_writes(memcached_behavior_t behavior)
{
	char key[NAME_BYTES], value[NAME_BYTES];

	CHECK(memcached_behavior_set(mc, behavior, 1) == MEMCACHED_SUCCESS);
	for (int i = 0; i < MANY; i++) {
		memcached_return_t rc;
		size_t len = (size_t)snprintf(key, sizeof(key), "c:quiet:%d", i % 50);

		snprintf(value, sizeof(value), "%d:%d", (int)behavior, i);
		rc = memcached_set(mc, key, len, value, strlen(value), 0, 0);
		CHECK(rc == MEMCACHED_SUCCESS || rc == MEMCACHED_BUFFERED);
	}
	CHECK(memcached_flush_buffers(mc) == MEMCACHED_SUCCESS);
	for (int i = MANY - 50; i < MANY; i++) {
		snprintf(key, sizeof(key), "c:quiet:%d", i % 50);
		snprintf(value, sizeof(value), "%d:%d", (int)behavior, i);
		CHECK(holds(key, value, 0));
	}
	/* This makes a new connection, which could overtake writes that nobody waited for. */
	CHECK(memcached_behavior_set(mc, behavior, 0) == MEMCACHED_SUCCESS);
}

static void about_the_server(void)
{
	memcached_return_t rc;
	memcached_stat_st *stats;

	CHECK(memcached_version(mc) == MEMCACHED_SUCCESS);
	CHECK(memcached_server_major_version(memcached_server_instance_by_position(mc, 0)) == 1);
	stats = memcached_stat(mc, NULL, &rc);
	CHECK(stats && rc == MEMCACHED_SUCCESS);
	memcached_stat_free(mc, stats);
	CHECK(memcached_flush(mc, 1000) == MEMCACHED_SUCCESS);
	CHECK(memcached_flush(mc, 0) == MEMCACHED_SUCCESS);
	CHECK(holds("c:n", NULL, 0));
}

static void connect_to(const char *host, int port, const char *user, const char *password)
{
	mc = memcached_create(NULL);
	memcached_behavior_set(mc, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, is_binary);
	memcached_behavior_set(mc, MEMCACHED_BEHAVIOR_SUPPORT_CAS, 1);
	memcached_behavior_set(mc, MEMCACHED_BEHAVIOR_TCP_NODELAY, 1);
	memcached_behavior_set(mc, MEMCACHED_BEHAVIOR_POLL_TIMEOUT, 60000);
	if (user)
		CHECK(memcached_set_sasl_auth_data(mc, user, password) == MEMCACHED_SUCCESS);
	CHECK(memcached_server_add(mc, host, (in_port_t)port) == MEMCACHED_SUCCESS);
}

int main(int argc, char **argv)
{
	if (argc != 4 && argc != 6) {
		fprintf(stderr, "usage: %s HOST PORT text|binary [USER PASSWORD]\n", argv[0]);
		return 2;
	}
	is_binary = strcmp(argv[3], "binary") == 0;
	connect_to(argv[1], atoi(argv[2]), argc == 6 ? argv[4] : NULL, argc == 6 ? argv[5] : NULL);
	stores();
	counters();
	tokens();
	multi_get();
	quiet_writes(MEMCACHED_BEHAVIOR_NOREPLY);
	quiet_writes(MEMCACHED_BEHAVIOR_BUFFER_REQUESTS);
	about_the_server();
	memcached_free(mc);
	puts("all answers were right");
	return 0;
}
