/* proxy_world.c - see proxy_world.h: replicas, turns, clients. */
#include "config.h"

#include "proxy_world.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy_fakes.h"

struct world world;

enum {
	SETTLE_TURNS = 60,
	TURN_NS = 100 * 1000,
	DEADLINE_MS = 5000,
	NEVER_MS = 3600 * 1000,
};

static char dir[TEST_DIR_BYTES];
static struct event_base *bases[WORLD_REPLICAS + 1];
static struct world_options world_options;
static uint64_t starts, turns, now_ns;

static void replica_path(unsigned id, const char *what, char *out, size_t bytes)
{
	snprintf(out, bytes, "unix:%s/%u-%s", dir, id, what);
}

static void dial(void *ctx, unsigned peer)
{
	world_options.dial((unsigned)(uintptr_t)ctx, peer);
}

void world_start(unsigned id)
{
	const struct world_options *from = &world_options;
	static char peer[WORLD_REPLICAS + 1][128], redis[128], memcached[128];
	struct mp_proxy_options options;
	char err[256] = "";

	mp_proxy_options_init(&options);
	options.id = id;
	options.group_id = 7;
	options.origin_nonce = 1000 * ++starts + id;
	options.hold_timeout_ms = from->hold_timeout_ms ? from->hold_timeout_ms : NEVER_MS;
	options.unknown_timeout_ms = from->unknown_timeout_ms ? from->unknown_timeout_ms : NEVER_MS;
	if (from->max_request_bytes)
		options.max_request_bytes = from->max_request_bytes;
	if (from->client_output_bytes)
		options.client_output_bytes = from->client_output_bytes;
	if (from->max_held_bytes)
		options.max_held_bytes = from->max_held_bytes;
	for (unsigned peer_id = 1; peer_id <= WORLD_REPLICAS; peer_id++) {
		replica_path(peer_id, "peer", peer[peer_id], sizeof(peer[peer_id]));
		options.peer_address[peer_id] = peer[peer_id];
	}
	if (from->dial) {
		options.dial = dial;
		options.dial_ctx = (void *)(uintptr_t)id;
	}
	replica_path(id, "redis", redis, sizeof(redis));
	replica_path(id, "memcached", memcached, sizeof(memcached));
	options.redis_listen = from->command_table ? redis : NULL;
	options.memcached_listen = memcached;
	options.redis_backend = from->command_table;
	options.memcached_backend = "unix:/nonexistent/fake";
	bases[id] = event_base_new();
	fake_backend_opening = id;
	world.proxy[id] = mp_proxy_open(bases[id], fake_mu_open(id), &options, err, sizeof(err));
	if (!world.proxy[id])
		fail_msg("replica %u: %s", id, err);
	world.proxy[id]->now_ns = now_ns;
	if (from->command_table)
		world_backend_ready(MP_REDIS, id);
	world_backend_ready(MP_MEMCACHED, id);
}

void world_make(const struct world_options *options)
{
	world = (struct world){0};
	world_options = *options;
	starts = turns = 0;
	now_ns = 1000000000;
	test_dir_make(dir);
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++)
		world_start(id);
	world_settle();
}

void world_kill(unsigned id)
{
	if (!world.proxy[id])
		return;
	mp_proxy_close(world.proxy[id]);
	event_base_free(bases[id]);
	world.proxy[id] = NULL;
	if (world.leader == id)
		world_depose();
}

void world_free(void)
{
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++)
		world_kill(id);
	fake_mu_reset();
	fake_backend_reset();
	test_dir_remove(dir);
}

int world_unmake(void **state)
{
	(void)state;
	world_free();
	return 0;
}

struct test_server world_redis;
static char redis_dir[TEST_DIR_BYTES];

int world_start_redis(void **state)
{
	(void)state;
	test_dir_make(redis_dir);
	test_redis_start(&world_redis, redis_dir, "");
	return 0;
}

int world_stop_redis(void **state)
{
	(void)state;
	test_server_kill(&world_redis, SIGTERM);
	test_dir_remove(redis_dir);
	return 0;
}

static bool runs(unsigned id)
{
	return world.proxy[id] && !world.paused[id];
}

static void events(unsigned id)
{
	world.proxy[id]->now_ns = now_ns;
	event_base_loop(bases[id], EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

static void turn(unsigned id)
{
	fake_backend_deliver(id);
	mp_proxy_turn(world.proxy[id], now_ns);
	world.proxy[id]->now_ns = now_ns; /* for what the test does in between */
}

/*
 * Time is the world's own, so that the same seed takes the same course. In
 * every other turn the replicas' messages cross, as they do on a network: all
 * listen before any of them speaks.
 */
void world_turn(void)
{
	bool crossing = ++turns % 2;

	now_ns += TURN_NS;
	for (unsigned id = 1; crossing && id <= WORLD_REPLICAS; id++)
		if (runs(id))
			events(id);
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++) {
		if (!runs(id))
			continue;
		if (!crossing)
			events(id);
		turn(id);
	}
}

void world_settle(void)
{
	for (int i = 0; i < SETTLE_TURNS; i++)
		world_turn();
}

void world_cut(unsigned follower, bool unread)
{
	struct mp_link *link, *next;

	if (unread && world.leader && world.proxy[world.leader]) {
		struct mp_link_list *links = &world.proxy[world.leader]->relay.in.links;

		for (link = TAILQ_FIRST(links); link; link = next) {
			next = TAILQ_NEXT(link, place);
			if (link->peer == follower)
				mp_link_close(link, "cut by the test");
		}
	}
	link = world.proxy[follower]->relay.out.link;
	assert_non_null(link);
	mp_link_close(link, "cut by the test");
}

unsigned world_pending(unsigned id)
{
	return world.proxy[id]->requests.count;
}

/* --------------------------------------------------------------- clients */

static int connect_to(unsigned id, const char *what)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char path[128];

	replica_path(id, what, path, sizeof(path));
	assert_true(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path + strlen("unix:"), strlen(path) + 1 - strlen("unix:"));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	world_settle();
	return fd;
}

int client_connect(unsigned id, enum mp_protocol protocol)
{
	return connect_to(id, protocol == MP_REDIS ? "redis" : "memcached");
}

int client_connect_peer(unsigned id)
{
	return connect_to(id, "peer");
}

void client_send_bytes(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			n = 0;
		assert_true(n >= 0);
		at += n;
		len -= (size_t)n;
		world_turn();
	}
}

void client_send(int fd, const char *text)
{
	client_send_bytes(fd, text, strlen(text));
}

void client_expect(int fd, const char *text)
{
	size_t want = strlen(text), have = 0;
	char *got = calloc(1, want + 1);
	uint64_t deadline = test_now_ms() + DEADLINE_MS;

	while (have < want) {
		ssize_t n = recv(fd, got + have, want - have, 0);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		if (n > 0)
			have += (size_t)n;
		if (strncmp(got, text, have) != 0 || test_now_ms() > deadline)
			break;
		world_turn();
	}
	if (strcmp(got, text) != 0)
		fail_msg("expected \"%s\", got \"%s\"", text, got);
	free(got);
}

void client_expect_silence(int fd)
{
	char byte;
	ssize_t n;

	world_settle();
	n = recv(fd, &byte, 1, MSG_PEEK);
	if (n > 0)
		fail_msg("expected nothing, got '%c'...", byte);
	assert_true(n < 0 && errno == EAGAIN);
}

void client_expect_end(int fd)
{
	uint64_t deadline = test_now_ms() + DEADLINE_MS;
	char byte;
	ssize_t n;

	while ((n = recv(fd, &byte, 1, 0)) < 0 && errno == EAGAIN && test_now_ms() < deadline)
		world_turn();
	if (n > 0)
		fail_msg("expected the end, got '%c'...", byte);
	assert_true(n == 0 || errno == ECONNRESET || errno == EPIPE);
}

void client_close(int fd)
{
	close(fd);
	world_settle();
}
