/*
 * test_bounds.c - the bounds of queues between clients and servers (the table in HACKING.md),
 * each driven to where it holds: what is held is bounded, and nothing is lost.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proxy_world.h"

enum {
	HELD_BYTES = 1 << 20, /* max-held, where a test makes it small */
	QUIET_TURNS = 60,     /* without anything moving */
	DEADLINE_MS = 20000,
	CLIENTS = 16,
	LOCKS_MAX = 65536,
	MIB = 1 << 20,
};

static int make(void **state)
{
	struct world_options options = {.command_table = world_redis.address};

	(void)state;
	world_make(&options);
	return 0;
}

static int make_small(void **state)
{
	struct world_options options = {.command_table = world_redis.address,
					.max_held_bytes = HELD_BYTES};

	(void)state;
	world_make(&options);
	return 0;
}

/* Clients that send the same request over and over, as far as they are read from. */
struct flood {
	const char *request;
	size_t request_bytes;
	unsigned count; /* of each */
	const char *reply;
	size_t reply_bytes;
	struct {
		int fd;
		size_t sent, received; /* bytes */
	} client[CLIENTS];
};

static void flood_open(struct flood *f, unsigned id)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		f->client[i].fd = client_connect(id, MP_REDIS);
		f->client[i].sent = f->client[i].received = 0;
	}
}

static bool flood_send(struct flood *f)
{
	bool moved = false;

	for (unsigned i = 0; i < CLIENTS; i++) {
		size_t *sent = &f->client[i].sent;
		size_t part = f->request_bytes - *sent % f->request_bytes;
		ssize_t n;

		if (*sent == f->count * f->request_bytes)
			continue;
		n = send(f->client[i].fd, f->request + *sent % f->request_bytes, part,
			 MSG_NOSIGNAL);
		assert_true(n >= 0 || errno == EAGAIN);
		if (n > 0) {
			*sent += (size_t)n;
			moved = true;
		}
	}
	return moved;
}

/* Until nobody takes any more. False: all was taken. */
static bool flood_until_refused(struct flood *f)
{
	uint64_t deadline = test_now_ms() + DEADLINE_MS;
	bool left = false;

	for (unsigned quiet = 0; quiet < QUIET_TURNS; quiet++) {
		if (flood_send(f))
			quiet = 0;
		assert_true(test_now_ms() < deadline);
		world_turn();
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		left = left || f->client[i].sent < f->count * f->request_bytes;
	return left;
}

static bool flood_receive(struct flood *f)
{
	static char got[256 << 10];
	bool all = true;

	for (unsigned i = 0; i < CLIENTS; i++) {
		size_t *received = &f->client[i].received;
		ssize_t n = recv(f->client[i].fd, got, sizeof(got), 0);

		assert_true(n > 0 || (n < 0 && errno == EAGAIN));
		for (ssize_t k = 0; k < n; k++)
			if (got[k] != f->reply[(*received + (size_t)k) % f->reply_bytes])
				fail_msg("client %u: wrong at byte %zu", i, *received + (size_t)k);
		*received += n > 0 ? (size_t)n : 0;
		all = all && *received == f->count * f->reply_bytes;
	}
	return all;
}

/* The rest is sent; everybody gets all of his replies, and no more. */
static void flood_finish(struct flood *f)
{
	uint64_t deadline = test_now_ms() + DEADLINE_MS;
	bool all = false;

	while (!all) {
		flood_send(f);
		world_turn();
		all = flood_receive(f);
		assert_true(test_now_ms() < deadline);
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		client_expect_silence(f->client[i].fd);
		client_close(f->client[i].fd);
	}
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++)
		if (world.proxy[id])
			assert_int_equal(world_pending(id), 0);
}

/* SET key <bytes>; the text is the caller's to free. */
static char *set_request(const char *key, size_t bytes, size_t *len)
{
	char *text = malloc(bytes + 100);

	*len = (size_t)sprintf(text, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(key), key,
			       bytes);
	memset(text + *len, 'v', bytes);
	memcpy(text + *len + bytes, "\r\n", 2);
	*len += bytes + 2;
	return text;
}

/* ---------------------------------------------------------------- max-held */

static void hold_all(unsigned id)
{
	struct flood f = {.count = 200, .reply = "+OK\r\n", .reply_bytes = 5};
	char *request = set_request("k", 8192, &f.request_bytes);

	f.request = request;
	world_elect(1, true);
	flood_open(&f, id);
	world.hold_commit = true;
	/* Without the bound each of them could have 4 MiB in hand. */
	assert_true(flood_until_refused(&f));
	for (unsigned i = 1; i <= 2; i++)
		assert_in_range(world.proxy[i]->requests.bytes, i == id ? HELD_BYTES : 0,
				HELD_BYTES + 2 * f.request_bytes);
	world.hold_commit = false;
	flood_finish(&f);
	free(request);
}

static void a_leaders_clients_are_not_read_from_at_max_held(void **state)
{
	(void)state;
	hold_all(1);
}

static void a_followers_clients_are_not_read_from_at_max_held(void **state)
{
	(void)state;
	hold_all(2);
}

/* The leader has more in hand than it may, so it leaves the rest of a link's to the other end. */
static void a_link_is_not_read_from_at_max_held(void **state)
{
	struct flood f = {.count = 40, .reply = "+OK\r\n", .reply_bytes = 5};
	char *request = set_request("k", 8192, &f.request_bytes);
	const struct mp_relay_in *in;

	(void)state;
	f.request = request;
	world_elect(1, true);
	flood_open(&f, 2);
	in = &world.proxy[1]->relay.in;
	world.proxy[2]->options.max_held_bytes = UINT64_MAX;
	world.hold_commit = true;
	flood_until_refused(&f);
	assert_in_range(world.proxy[1]->requests.bytes, HELD_BYTES,
			HELD_BYTES + 2 * f.request_bytes);
	assert_true(world.proxy[2]->requests.bytes > 2 * HELD_BYTES);
	assert_true(TAILQ_FIRST(&in->links)->paused ||
		    TAILQ_LAST(&in->links, mp_link_list)->paused);
	world.hold_commit = false;
	flood_finish(&f);
	free(request);
}

/* ----------------------------------------------------------------- relaying */

static void requests_wait_in_their_sessions_when_the_link_is_full(void **state)
{
	struct flood f = {.count = 6, .reply = "+OK\r\n", .reply_bytes = 5};
	char *request = set_request("k", 256 << 10, &f.request_bytes);
	const struct mp_link *link;

	(void)state;
	f.request = request;
	world_elect(1, true);
	flood_open(&f, 2);
	world.paused[1] = true;
	flood_until_refused(&f);
	link = world.proxy[2]->relay.out.link;
	assert_in_range(mp_buffer_len(&link->out), 4 * MIB, 4 * MIB + f.request_bytes + 100);
	/* There is more of it here. */
	assert_true(world.proxy[2]->requests.bytes > 12 * MIB);
	world.paused[1] = false;
	flood_finish(&f);
	free(request);
}

static struct mp_link *link_from(unsigned follower)
{
	struct mp_link *link;

	TAILQ_FOREACH(link, &world.proxy[1]->relay.in.links, place)
		if (link->peer == follower)
			return link;
	fail_msg("no link from %u", follower);
	return NULL;
}

/* A follower that does not take its replies is left with its requests. */
static void no_requests_are_taken_from_who_leaves_replies_unread(void **state)
{
	enum { VALUE_BYTES = 2 * MIB };
	struct flood f = {.count = 4, .request = "GET k\r\n", .request_bytes = 7};
	size_t len, before, taken;
	char *request = set_request("k", VALUE_BYTES, &len), *reply = malloc(VALUE_BYTES + 100);
	int writer, late;

	(void)state;
	f.reply = reply;
	f.reply_bytes = (size_t)sprintf(reply, "$%d\r\n", VALUE_BYTES);
	memset(reply + f.reply_bytes, 'v', VALUE_BYTES);
	memcpy(reply + f.reply_bytes + VALUE_BYTES, "\r\n", 2);
	f.reply_bytes += VALUE_BYTES + 2;
	world_elect(1, true);
	writer = client_connect(1, MP_REDIS);
	client_send_bytes(writer, request, len);
	client_expect(writer, "+OK\r\n");
	flood_open(&f, 2);
	late = client_connect(2, MP_REDIS);
	mp_link_pause(world.proxy[2]->relay.out.link);
	flood_until_refused(&f);
	before = mp_link_unsent(link_from(2));
	assert_true(before > 64 * MIB);
	taken = world.proxy[1]->stats.relayed;
	client_send(late, "INCR a\r\nINCR b\r\nINCR a\r\nINCR b\r\n");
	world_settle();
	assert_true(link_from(2)->paused);
	/* The first of these was the one too many. */
	assert_in_range(world.proxy[1]->stats.relayed - taken, 0, 1);
	assert_in_range(mp_link_unsent(link_from(2)), before, before + 100);
	/* Others are served. */
	client_send(writer, "INCR a\r\n");
	world_settle();
	mp_link_resume(world.proxy[2]->relay.out.link);
	flood_finish(&f);
	assert_false(link_from(2)->paused);
	client_close(writer);
	client_close(late);
	free(request);
	free(reply);
}

/* -------------------------------------------------------------------- locks */

/* A replica that the test plays, which has as many clients as it likes. */
struct played {
	int fd;
	uint64_t ballot;
	unsigned replies;
	char in[1 << 16];
	size_t len;
};

static void played_send(const struct played *p, enum mp_frame_type type, const void *head,
			size_t head_bytes, const char *text)
{
	struct mp_frame frame = {.bytes = (uint32_t)(sizeof(frame) + head_bytes + strlen(text)),
				 .type = (uint8_t)type};
	char whole[256];

	assert_true(frame.bytes <= sizeof(whole));
	memcpy(whole, &frame, sizeof(frame));
	memcpy(whole + sizeof(frame), head, head_bytes);
	memcpy(whole + sizeof(frame) + head_bytes, text, strlen(text));
	client_send_bytes(p->fd, whole, frame.bytes);
}

static void played_take(struct played *p, const char *reply)
{
	struct mp_frame frame;
	size_t at = 0;
	ssize_t n = recv(p->fd, p->in + p->len, sizeof(p->in) - p->len, 0);

	assert_true(n > 0 || (n < 0 && errno == EAGAIN));
	p->len += n > 0 ? (size_t)n : 0;
	for (; p->len - at >= sizeof(frame); at += frame.bytes) {
		const char *body = p->in + at + sizeof(frame);

		memcpy(&frame, p->in + at, sizeof(frame));
		if (p->len - at < frame.bytes)
			break;
		if (frame.type == MP_FRAME_LEADING)
			memcpy(&p->ballot, body, sizeof(p->ballot));
		if (frame.type != MP_FRAME_REPLY)
			continue;
		assert_int_equal(frame.bytes - sizeof(frame) - sizeof(struct mp_frame_reply),
				 strlen(reply));
		assert_memory_equal(body + sizeof(struct mp_frame_reply), reply, strlen(reply));
		p->replies++;
	}
	p->len -= at;
	memmove(p->in, p->in + at, p->len);
}

static void play(struct played *p, unsigned id)
{
	struct mp_frame_hello hello = {.magic = MP_FRAME_MAGIC,
				       .version = MP_FRAME_VERSION,
				       .replica = (uint16_t)id,
				       .purpose = MP_LINK_RELAY,
				       .group_id = 7,
				       .nonce = 99};

	*p = (struct played){.fd = client_connect_peer(1)};
	played_send(p, MP_FRAME_HELLO, &hello, sizeof(hello), "");
	world_settle();
	played_take(p, "");
	assert_int_not_equal(p->ballot, 0);
}

static void ask_for(const struct played *p, unsigned n)
{
	struct mp_frame_request head = {.ballot = p->ballot,
					.sequence = n + 1,
					.session = n + 1,
					.handle = n,
					.protocol = MP_MEMCACHED};
	char text[40];

	snprintf(text, sizeof(text), "incr key:%u 1\r\n", n);
	played_send(p, MP_FRAME_REQUEST, &head, sizeof(head), text);
}

static void conditionals_wait_when_there_are_too_many_locks(void **state)
{
	enum { MORE = 100 };
	static struct played p;
	struct mp_proxy *leader;
	uint64_t deadline;
	int c;

	(void)state;
	world_kill(3);
	world_elect(1, true);
	leader = world.proxy[1];
	play(&p, 3);
	c = client_connect(1, MP_MEMCACHED);
	world.stalled[1][1] = true;
	for (unsigned n = 0; n < LOCKS_MAX + MORE; n++)
		ask_for(&p, n);
	client_send(c, "incr own 1\r\n");
	world_settle();
	assert_int_equal(HASH_COUNT(leader->locks.table), LOCKS_MAX);
	assert_int_equal(world_pending(1), LOCKS_MAX + MORE + 1);
	/* It is for the server to go on, and no reason to look again and again. */
	assert_false(mp_router_pending(leader));
	world.stalled[1][1] = false;
	deadline = test_now_ms() + DEADLINE_MS;
	while (p.replies < LOCKS_MAX + MORE) {
		world_turn();
		played_take(&p, "NOT_FOUND\r\n");
		assert_true(test_now_ms() < deadline);
	}
	client_expect(c, "NOT_FOUND\r\n");
	assert_int_equal(HASH_COUNT(leader->locks.table), 0);
	assert_int_equal(world_pending(1), 0);
	client_close(c);
	client_close(p.fd);
}

/* --------------------------------------------------------- applying the log */

/* What its server does not execute stays in the log. */
static void a_server_that_stands_still_is_handed_no_more(void **state)
{
	struct flood f = {.count = 64, .reply = "+OK\r\n", .reply_bytes = 5};
	char *request = set_request("k", 8192, &f.request_bytes);
	const struct mp_backend *backend;

	(void)state;
	f.request = request;
	world_elect(1, true);
	flood_open(&f, 1);
	world.stalled[0][2] = true;
	flood_finish(&f); /* 8 MiB; the others have executed all of it */
	backend = world.proxy[2]->apply.target[mp_target_index(MP_REDIS)].backend;
	/* A turn's entry is the last that it is handed. */
	assert_in_range(backend->ops->backlog(backend), MIB, MIB + (256 << 10));
	assert_string_equal(world_value(MP_REDIS, 2, "0/k"), "");
	world.stalled[0][2] = false;
	world_settle();
	assert_int_equal(backend->ops->backlog(backend), 0);
	assert_string_equal(world_value(MP_REDIS, 2, "0/k"), world_value(MP_REDIS, 1, "0/k"));
	assert_int_equal(world_applied_lsn(MP_REDIS, 2), world_applied_lsn(MP_REDIS, 1));
	free(request);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, world_unmake)
#define SMALL_TEST(f) cmocka_unit_test_setup_teardown(f, make_small, world_unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SMALL_TEST(a_leaders_clients_are_not_read_from_at_max_held),
		SMALL_TEST(a_followers_clients_are_not_read_from_at_max_held),
		SMALL_TEST(a_link_is_not_read_from_at_max_held),
		TEST(requests_wait_in_their_sessions_when_the_link_is_full),
		TEST(no_requests_are_taken_from_who_leaves_replies_unread),
		TEST(conditionals_wait_when_there_are_too_many_locks),
		TEST(a_server_that_stands_still_is_handed_no_more),
	};

	return cmocka_run_group_tests_name("bounds", tests, world_start_redis, world_stop_redis);
}
