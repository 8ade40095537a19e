/*
 * test_pipeline_chaos.c - the path from session to backend under random
 * failures, in the world of proxy_world.h: leaders come and go with or without
 * what they proposed, links are cut, processes stop, die and start again,
 * backends break and come back. Each client has keys of its own, so the answer
 * to each of its requests is known beforehand, exactly: whatever happens, it
 * is the only one that may come.
 *
 * test_pipeline_chaos [FIRST_SEED [SEEDS]]. A failure names its seed, which
 * repeats it.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "proxy_world.h"
#include "servers.h"

enum {
	CLIENTS = 8,
	STEPS = 600,
	PENDING_MAX = 64,
	BUFFER_BYTES = 16384,
	FINISH_MS = 10000,
	DEFAULT_SEEDS = 40,
};

static uint64_t seed, first_seed = 1, seeds = DEFAULT_SEEDS;
static uint64_t random_state;

static unsigned roll(unsigned sides)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)((random_state >> 11) % sides);
}

/* ---------------------------------------------------------------- clients */

enum what { COUNT, READ_COUNT, STORE, READ_STORED };

struct client {
	int fd; /* -1: to be connected */
	unsigned replica;
	enum mp_protocol protocol;
	unsigned generation; /* a new one has new keys */
	enum what pending[PENDING_MAX];
	unsigned value[PENDING_MAX]; /* of STORE */
	unsigned head, tail;
	unsigned count;  /* after what was answered */
	unsigned stored; /* 0: nothing */
	unsigned next_value;
	char got[BUFFER_BYTES];
	size_t got_len;
};
static struct client clients[CLIENTS];
static unsigned long answered, errors, disconnected;

static void wrong(const struct client *c, const char *expected, const char *got, size_t len)
{
	fail_msg("seed %lu: client %ld at replica %u: expected %s, got '%.*s'", (unsigned long)seed,
		 (long)(c - clients), c->replica, expected, (int)len, got);
}

static void begin(struct client *c)
{
	*c = (struct client){.fd = -1, .protocol = c->protocol, .generation = c->generation + 1};
	do
		c->replica = 1 + roll(WORLD_REPLICAS);
	while (!world.proxy[c->replica]);
	c->fd = client_connect(c->replica, c->protocol);
	if (c->protocol == MP_MEMCACHED) {
		/* Unlike Redis's, its counters have to be there before they can count. */
		char text[64];

		snprintf(text, sizeof(text), "set n%ld.%u 0 0 1 noreply\r\n0\r\n",
			 (long)(c - clients), c->generation);
		client_send(c->fd, text);
	}
}

static void request(struct client *c, enum what what)
{
	char text[160], key[32];
	unsigned slot = c->tail % PENDING_MAX;
	bool redis = c->protocol == MP_REDIS;

	snprintf(key, sizeof(key), "%c%ld.%u", what <= READ_COUNT ? 'n' : 's', (long)(c - clients),
		 c->generation);
	c->value[slot] = what == STORE ? ++c->next_value : 0;
	if (what == COUNT)
		snprintf(text, sizeof(text), redis ? "INCR %s\r\n" : "incr %s 1\r\n", key);
	else if (what == STORE)
		snprintf(text, sizeof(text), redis ? "SET %s %05u\r\n" : "set %s 0 0 5\r\n%05u\r\n",
			 key, c->value[slot]);
	else
		snprintf(text, sizeof(text), redis ? "GET %s\r\n" : "get %s\r\n", key);
	if (send(c->fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		return; /* its replica has died: take_replies() will see */
	c->pending[slot] = what;
	c->tail++;
}

static void send_some(struct client *c)
{
	unsigned burst = 1 + roll(6);

	while (burst-- > 0 && c->tail - c->head < PENDING_MAX)
		request(c, (enum what)roll(4));
}

/* The length of the first whole reply in text, 0 if there is none. */
static size_t reply_len(const struct client *c)
{
	const char *end = memmem(c->got, c->got_len, "\r\n", 2);
	const char *value = NULL;
	size_t len;

	if (!end)
		return 0;
	len = (size_t)(end + 2 - c->got);
	if (c->got[0] == '$' && c->got[1] != '-')
		value = memmem(c->got + len, c->got_len - len, "\r\n", 2);
	else if (strncmp(c->got, "VALUE ", 6) == 0)
		value = memmem(c->got + len, c->got_len - len, "END\r\n", 5);
	else
		return len;
	if (!value)
		return 0;
	return (size_t)(value - c->got) + (c->got[0] == '$' ? 2 : 5);
}

/* An error says exactly what was executed; these may come, others not. */
static bool took_error(struct client *c, const char *reply, size_t len, unsigned slot)
{
	bool executed = memmem(reply, len, "muproxy: executed, but", 22) != NULL;
	bool read = c->pending[slot] == READ_COUNT || c->pending[slot] == READ_STORED;

	if (!executed && !memmem(reply, len, "this request was not executed", 29) &&
	    !(read && memmem(reply, len, "later requests were executed", 28)))
		return false;
	errors++;
	if (executed && c->pending[slot] == COUNT)
		c->count++;
	if (executed && c->pending[slot] == STORE)
		c->stored = c->value[slot];
	return true;
}

static void expect_redis(const struct client *c, enum what what, char *out, size_t bytes)
{
	char value[16] = "";

	if (what == COUNT)
		snprintf(out, bytes, ":%u\r\n", c->count);
	else if (what == STORE)
		snprintf(out, bytes, "+OK\r\n");
	else if (what == READ_COUNT && c->count)
		snprintf(value, sizeof(value), "%u", c->count);
	else if (what == READ_STORED && c->stored)
		snprintf(value, sizeof(value), "%05u", c->stored);
	if (*value)
		snprintf(out, bytes, "$%zu\r\n%s\r\n", strlen(value), value);
	else if (what == READ_COUNT || what == READ_STORED)
		snprintf(out, bytes, "$-1\r\n");
}

static void expect_memcached(const struct client *c, enum what what, char *out, size_t bytes)
{
	char value[16] = "";

	if (what == COUNT)
		snprintf(out, bytes, "%u\r\n", c->count);
	else if (what == STORE)
		snprintf(out, bytes, "STORED\r\n");
	else if (what == READ_COUNT)
		snprintf(value, sizeof(value), "%u", c->count);
	else if (what == READ_STORED && c->stored)
		snprintf(value, sizeof(value), "%05u", c->stored);
	if (*value)
		snprintf(out, bytes, "VALUE %c%ld.%u 0 %zu\r\n%s\r\nEND\r\n",
			 what == READ_COUNT ? 'n' : 's', (long)(c - clients), c->generation,
			 strlen(value), value);
	else if (what == READ_STORED)
		snprintf(out, bytes, "END\r\n");
}

static void take_reply(struct client *c, const char *reply, size_t len)
{
	unsigned slot = c->head++ % PENDING_MAX;
	char expected[128];
	bool redis = c->protocol == MP_REDIS;

	if (took_error(c, reply, len, slot))
		return;
	answered++;
	if (c->pending[slot] == COUNT)
		c->count++;
	if (c->pending[slot] == STORE)
		c->stored = c->value[slot];
	if (redis)
		expect_redis(c, c->pending[slot], expected, sizeof(expected));
	else
		expect_memcached(c, c->pending[slot], expected, sizeof(expected));
	if (strlen(expected) != len || memcmp(expected, reply, len) != 0)
		wrong(c, expected, reply, len);
}

static void take_replies(struct client *c)
{
	ssize_t n = recv(c->fd, c->got + c->got_len, sizeof(c->got) - c->got_len, 0);
	size_t len;

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		/* Only its replica's death may do that. */
		if (world.proxy[c->replica] && !world.paused[c->replica])
			wrong(c, "no disconnection", "", 0);
		disconnected++;
		close(c->fd);
		begin(c);
		return;
	}
	c->got_len += n > 0 ? (size_t)n : 0;
	while (c->head != c->tail && (len = reply_len(c)) > 0) {
		take_reply(c, c->got, len);
		memmove(c->got, c->got + len, c->got_len - len);
		c->got_len -= len;
	}
	if (c->head == c->tail && c->got_len > 0)
		wrong(c, "nothing", c->got, c->got_len);
}

/* ------------------------------------------------------------------ faults */

static bool down[2][WORLD_REPLICAS + 1]; /* backends whose connection is broken */

static void toggle_backend(unsigned id)
{
	unsigned p = roll(2);
	enum mp_protocol protocol = (enum mp_protocol)(p + 1);

	if (!world.proxy[id] || world.paused[id])
		return;
	if (down[p][id])
		world_backend_ready(protocol, id);
	else
		world_backend_lose(protocol, id, roll(2));
	down[p][id] = !down[p][id];
}

static unsigned alive(void)
{
	unsigned n = 0;

	for (unsigned id = 1; id <= WORLD_REPLICAS; id++)
		n += world.proxy[id] != NULL;
	return n;
}

static void restart(unsigned id)
{
	world_start(id);
	world.paused[id] = world.frozen[id] = false;
	down[0][id] = down[1][id] = false;
}

static void kill_or_start(unsigned id)
{
	if (!world.proxy[id]) {
		restart(id);
	} else if (alive() == WORLD_REPLICAS) {
		for (int i = 0; i < CLIENTS; i++) {
			if (clients[i].replica == id)
				close(clients[i].fd);
		}
		world_kill(id);
		for (int i = 0; i < CLIENTS; i++) {
			if (clients[i].replica == id)
				begin(&clients[i]);
		}
	}
}

static void hurt(void)
{
	unsigned id = 1 + roll(WORLD_REPLICAS);

	switch (roll(14)) {
	case 0:
	case 1:
	case 2:
		if (world.proxy[id])
			world_elect(id, roll(2));
		break;
	case 3:
		world_depose();
		break;
	case 4:
		world.hold_commit = !world.hold_commit;
		break;
	case 5:
		world.hold_fence = !world.hold_fence;
		break;
	case 6:
		world.full = !world.full;
		break;
	case 7:
		world.frozen[id] = !world.frozen[id];
		break;
	case 8:
		world.paused[id] = world.proxy[id] && !world.paused[id];
		break;
	case 9:
		world.stalled[roll(2)][id] ^= true;
		break;
	case 10:
	case 11:
		if (world.proxy[id] && world.proxy[id]->relay.out.link)
			world_cut(id, roll(2));
		break;
	case 12:
		toggle_backend(id);
		break;
	case 13:
		if (roll(4) == 0)
			kill_or_start(id);
		break;
	}
}

static void heal(void)
{
	world.hold_commit = world.hold_fence = world.full = false;
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++) {
		world.frozen[id] = world.paused[id] = false;
		world.stalled[0][id] = world.stalled[1][id] = false;
		if (!world.proxy[id])
			restart(id);
		for (unsigned p = 0; p < 2; p++) {
			if (down[p][id])
				world_backend_ready((enum mp_protocol)(p + 1), id);
			down[p][id] = false;
		}
	}
	world_elect(1 + roll(WORLD_REPLICAS), true);
}

/* Some of the faults last; none so long that nothing ever happens. */
static void relieve(void)
{
	unsigned id = 1 + roll(WORLD_REPLICAS);

	world.hold_commit = world.full = world.hold_fence = false;
	world.paused[id] = world.frozen[id] = false;
	world.stalled[0][id] = world.stalled[1][id] = false;
	if (!world.leader && world.proxy[id])
		world_elect(id, roll(2));
}

/* -------------------------------------------------------------------- runs */

static bool all_answered(void)
{
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i].head != clients[i].tail)
			return false;
	return true;
}

static void finish(void)
{
	uint64_t deadline = test_now_ms() + FINISH_MS;

	heal();
	while (!all_answered()) {
		world_turn();
		for (int i = 0; i < CLIENTS; i++)
			take_replies(&clients[i]);
		if (test_now_ms() > deadline)
			fail_msg("seed %lu: replies are missing", (unsigned long)seed);
	}
	world_settle();
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++)
		if (world_pending(id) != 0)
			fail_msg("seed %lu: replica %u keeps %u requests", (unsigned long)seed, id,
				 world_pending(id));
}

static void check_values(void)
{
	char key[64], expected[16];

	for (int i = 0; i < CLIENTS; i++) {
		const struct client *c = &clients[i];
		bool redis = c->protocol == MP_REDIS;

		for (unsigned id = 1; id <= WORLD_REPLICAS; id++) {
			snprintf(expected, sizeof(expected), "%u", c->count);
			snprintf(key, sizeof(key), "%sn%d.%u", redis ? "0/" : "", i, c->generation);
			if (c->count)
				assert_string_equal(world_value(c->protocol, id, key), expected);
			snprintf(expected, sizeof(expected), "%05u", c->stored);
			snprintf(key, sizeof(key), "%ss%d.%u", redis ? "0/" : "", i, c->generation);
			if (c->stored)
				assert_string_equal(world_value(c->protocol, id, key), expected);
		}
	}
}

static void run(const char *command_table)
{
	struct world_options options = {.command_table = command_table};

	random_state = seed * 0x9e3779b97f4a7c15ULL | 1;
	memset(down, 0, sizeof(down));
	world_make(&options);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){.protocol = i % 4 == 3 ? MP_MEMCACHED : MP_REDIS};
		begin(&clients[i]);
	}
	for (int step = 0; step < STEPS; step++) {
		if (roll(3) == 0)
			hurt();
		if (roll(4) == 0)
			relieve();
		for (int i = 0; i < CLIENTS; i++)
			if (roll(3) == 0)
				send_some(&clients[i]);
		for (unsigned turns = roll(6); turns > 0; turns--)
			world_turn();
		for (int i = 0; i < CLIENTS; i++)
			take_replies(&clients[i]);
	}
	finish();
	check_values();
	for (int i = 0; i < CLIENTS; i++)
		close(clients[i].fd);
	world_free();
}

static void every_answer_is_the_only_right_one(void **state)
{
	struct test_server redis;
	char dir[TEST_DIR_BYTES];

	(void)state;
	mp_log_init(MP_LOG_ERROR, 0);
	test_dir_make(dir);
	test_redis_start(&redis, dir, "");
	for (seed = first_seed; seed < first_seed + seeds; seed++)
		run(redis.address);
	print_message(
		"seeds %lu to %lu: %lu answers, %lu of \"executed, reply lost\" and the like, "
		"%lu disconnections\n",
		(unsigned long)first_seed, (unsigned long)(first_seed + seeds - 1), answered,
		errors, disconnected);
	assert_true(answered > errors);
	test_server_kill(&redis, SIGTERM);
	test_dir_remove(dir);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_answer_is_the_only_right_one),
	};

	if (argc > 1)
		first_seed = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		seeds = strtoull(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
