/*
 * test_pipeline.c - what clients see of the path from session to backend and
 * back, in a world (proxy_world.h) where the test decides what is committed,
 * who leads, and what gets lost. The real thing is in test_proxy.c.
 */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proxy_world.h"
#include "servers.h"

enum { SHORT_MS = 100 };

#define LATER_ONES_WERE \
	"-ERR muproxy: the leader was lost; this request was not executed, later ones were\r\n"

static int make(void **state)
{
	struct world_options options = {.command_table = world_redis.address};

	(void)state;
	world_make(&options);
	return 0;
}

/* As make(), with timeouts that a test can wait for. */
static int make_hasty(void **state)
{
	struct world_options options = {.command_table = world_redis.address,
					.hold_timeout_ms = SHORT_MS,
					.unknown_timeout_ms = SHORT_MS};

	(void)state;
	world_make(&options);
	return 0;
}

static void assert_everywhere(enum mp_protocol protocol, const char *key, const char *value)
{
	world_settle();
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++)
		if (world.proxy[id])
			assert_string_equal(world_value(protocol, id, key), value);
}

/* No request is left behind anywhere. */
static void expect_idle(void)
{
	world_settle();
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++)
		if (world.proxy[id])
			assert_int_equal(world_pending(id), 0);
}

/* ------------------------------------------------------------- in order */

static void replies_come_in_request_order(void **state)
{
	(void)state;
	world_elect(1, true);
	for (unsigned id = 1; id <= WORLD_REPLICAS; id++) {
		int c = client_connect(id, MP_REDIS);

		client_send(c, "SET a 1\r\nPING\r\nGET a\r\nECHO x\r\nINCR a\r\nNOPE\r\nGET a\r\n"
			       "SET a 5 EX 0\r\nDEL a\r\nGET a\r\n");
		client_expect(c, "+OK\r\n+PONG\r\n$1\r\n1\r\n$1\r\nx\r\n:2\r\n"
				 "-ERR unknown command 'NOPE', with args beginning with: \r\n"
				 "$1\r\n2\r\n-ERR invalid expire time in 'set' command\r\n"
				 ":1\r\n$-1\r\n");
		client_close(c);
	}
	expect_idle();
}

static void a_turns_writes_are_one_proposal(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(1, MP_REDIS);
	client_send(c, "SET a 1\r\nSET b 2\r\nGET a\r\nINCR b\r\n");
	client_expect(c, "+OK\r\n+OK\r\n$1\r\n1\r\n:3\r\n");
	assert_int_equal(world.proposals, 1);
	client_close(c);
}

/* Not all of them are read before any of it is copied on: that would be from memory again. */
static void a_turn_takes_no_more_than_caches_hold(void **state)
{
	enum { CLIENTS = 5, VALUE_BYTES = 40 << 10 };
	static char request[VALUE_BYTES + 100];
	size_t len = (size_t)sprintf(request, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", VALUE_BYTES);
	int c[CLIENTS];

	(void)state;
	memset(request + len, 'v', VALUE_BYTES);
	memcpy(request + len + VALUE_BYTES, "\r\n", 2);
	world_elect(1, true);
	world.hold_commit = true;
	for (int i = 0; i < CLIENTS; i++) {
		c[i] = client_connect(1, MP_REDIS);
		world_settle();
	}
	len += VALUE_BYTES + 2;
	for (int i = 0; i < CLIENTS; i++) /* without a turn between two of them */
		assert_int_equal(send(c[i], request, len, MSG_NOSIGNAL), len);
	for (unsigned taken = 2; taken < CLIENTS; taken += 2) {
		world_turn();
		assert_int_equal(world_pending(1), taken);
	}
	world.hold_commit = false;
	world_commit();
	for (int i = 0; i < CLIENTS; i++) {
		client_expect(c[i], "+OK\r\n");
		client_close(c[i]);
	}
	expect_idle();
}

static void a_write_is_answered_when_committed(void **state)
{
	int here, there;

	(void)state;
	world_elect(1, true);
	here = client_connect(1, MP_REDIS);
	there = client_connect(2, MP_REDIS);
	world.hold_commit = true;
	client_send(here, "INCR n\r\nGET n\r\n");
	client_send(there, "INCR m\r\nGET m\r\n");
	client_expect_silence(here);
	client_expect_silence(there);
	world.hold_commit = false;
	client_expect(here, ":1\r\n$1\r\n1\r\n");
	client_expect(there, ":1\r\n$1\r\n1\r\n");
	client_close(here);
	client_close(there);
}

static void a_read_waits_for_its_fence(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(1, MP_REDIS);
	world.hold_fence = true;
	client_send(c, "GET n\r\n");
	client_expect_silence(c);
	/* The commit of what was proposed after it proves as much. */
	client_send(c, "SET n 1\r\n");
	client_expect(c, "$-1\r\n+OK\r\n");
	client_send(c, "GET n\r\n");
	client_expect_silence(c);
	world.hold_fence = false;
	client_expect(c, "$1\r\n1\r\n");
	client_close(c);
}

static void a_new_leader_reads_behind_what_it_inherited(void **state)
{
	int old, c;

	(void)state;
	world_elect(1, true);
	old = client_connect(1, MP_REDIS);
	c = client_connect(2, MP_REDIS);
	world.stalled[0][2] = true;
	client_send(old, "SET n 7\r\n");
	client_expect(old, "+OK\r\n");
	world_kill(1);
	world_elect(2, true);
	client_send(c, "GET n\r\n");
	client_expect_silence(c);
	world.stalled[0][2] = false;
	client_expect(c, "$1\r\n7\r\n");
	client_close(old);
	client_close(c);
}

static void databases_travel_with_requests(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(3, MP_REDIS);
	client_send(c, "SELECT 3\r\nSET a 1\r\nSELECT 0\r\nGET a\r\nSELECT 16\r\n");
	client_expect(c, "+OK\r\n+OK\r\n+OK\r\n$-1\r\n-ERR DB index is out of range\r\n");
	assert_everywhere(MP_REDIS, "3/a", "1");
	client_close(c);
}

static void a_full_log_makes_clients_wait(void **state)
{
	int here, there;

	(void)state;
	world_elect(1, true);
	here = client_connect(1, MP_REDIS);
	there = client_connect(2, MP_REDIS);
	world.full = true;
	client_send(here, "INCR n\r\nGET n\r\n");
	client_expect_silence(here);
	client_send(there, "INCR n\r\n");
	client_expect_silence(there);
	world.full = false;
	client_expect(here, ":1\r\n$1\r\n1\r\n");
	client_expect(there, ":2\r\n");
	client_close(here);
	client_close(there);
}

static void a_clients_requests_outlive_it(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	for (unsigned id = 1; id <= 2; id++) {
		c = client_connect(id, MP_REDIS);
		world.hold_commit = true;
		client_send(c, "INCR n\r\nGET n\r\n");
		world_settle();
		client_close(c);
		world.hold_commit = false;
		world_settle();
	}
	assert_everywhere(MP_REDIS, "0/n", "2");
	expect_idle();
}

/* ------------------------------------------------------ losing the leader */

/* A client of 2, whose INCR the leader 1 has proposed; then 1 dies. */
static int lose_leader_with(const char *requests)
{
	int c;

	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	world.hold_commit = true;
	client_send(c, requests);
	client_expect_silence(c);
	assert_int_equal(world.proposals, 1);
	world_kill(1);
	client_expect_silence(c);
	return c;
}

static void what_survives_the_leader_is_answered_from_the_log(void **state)
{
	int c = lose_leader_with("INCR n\r\n");

	(void)state;
	world_elect(3, true);
	world.hold_commit = false;
	client_expect(c, ":1\r\n");
	assert_int_equal(world.proposals, 1);
	assert_everywhere(MP_REDIS, "0/n", "1");
	client_close(c);
	expect_idle();
}

static void what_dies_with_the_leader_is_sent_again(void **state)
{
	int c = lose_leader_with("INCR n\r\n");

	(void)state;
	world_elect(3, false);
	world.hold_commit = false;
	client_expect(c, ":1\r\n");
	assert_int_equal(world.proposals, 2);
	assert_everywhere(MP_REDIS, "0/n", "1");
	client_close(c);
	expect_idle();
}

static void the_new_leader_does_the_same_for_its_own_clients(void **state)
{
	int c = lose_leader_with("INCR n\r\nINCR n\r\n");

	(void)state;
	world_elect(2, true);
	world.hold_commit = false;
	client_expect(c, ":1\r\n:2\r\n");
	client_send(c, "INCR n\r\n");
	client_expect(c, ":3\r\n");
	assert_everywhere(MP_REDIS, "0/n", "3");
	client_close(c);
}

static void a_deposed_leader_does_the_same_for_its_own_clients(void **state)
{
	int c;

	(void)state;
	for (int keep = 0; keep <= 1; keep++) {
		world_elect(1, true);
		c = client_connect(1, MP_REDIS);
		world.hold_commit = true;
		client_send(c, "INCR n\r\nGET n\r\n");
		client_expect_silence(c);
		world_elect(3, keep);
		world.hold_commit = false;
		client_expect(c, keep ? ":2\r\n$1\r\n2\r\n" : ":1\r\n$1\r\n1\r\n");
		client_close(c);
	}
	assert_everywhere(MP_REDIS, "0/n", "2");
	expect_idle();
}

/*
 * The record has reached our backend while the leader still owes the reply. If
 * it were swallowed, nothing could tell the outcome once the leader is gone.
 */
static void an_applied_write_is_answered_here_if_the_leader_is_slow(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	world.stalled[0][1] = true;
	client_send(c, "INCR n\r\n");
	client_expect(c, ":1\r\n");
	world_kill(1);
	world_elect(3, true);
	client_send(c, "INCR n\r\n");
	client_expect(c, ":2\r\n");
	assert_everywhere(MP_REDIS, "0/n", "2");
	client_close(c);
	expect_idle();
}

static void the_leaders_late_reply_is_not_a_second_one(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	world.stalled[0][1] = true;
	client_send(c, "INCR n\r\n");
	client_expect(c, ":1\r\n");
	world.stalled[0][1] = false;
	client_expect_silence(c);
	client_send(c, "INCR n\r\n");
	client_expect(c, ":2\r\n");
	client_close(c);
	expect_idle();
}

static void a_read_keeps_its_place_before_a_doubtful_write(void **state)
{
	int c = lose_leader_with("GET x\r\nSET x 5\r\nGET x\r\n");

	(void)state;
	world_elect(3, true);
	world.hold_commit = false;
	client_expect(c, "$-1\r\n+OK\r\n$1\r\n5\r\n");
	client_close(c);
	expect_idle();
}

static void a_read_keeps_its_place_before_a_write_sent_again(void **state)
{
	int c = lose_leader_with("GET x\r\nSET x 5\r\nGET x\r\n");

	(void)state;
	world_elect(3, false);
	world.hold_commit = false;
	client_expect(c, "$-1\r\n+OK\r\n$1\r\n5\r\n");
	client_close(c);
	expect_idle();
}

static void reads_alone_go_to_the_next_leader_at_once(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	world.stalled[0][1] = true;
	client_send(c, "GET x\r\nGET y\r\n");
	client_expect_silence(c);
	world_kill(1);
	world_elect(3, true);
	client_expect(c, "$-1\r\n$-1\r\n");
	client_close(c);
}

static void later_requests_do_not_overtake_doubtful_ones(void **state)
{
	int c = lose_leader_with("INCR n\r\n");
	int other = client_connect(2, MP_REDIS);

	(void)state;
	/* 3 leads and serves, but 2 has not read so far that its doubt would be resolved. */
	world.frozen[2] = true;
	world_elect(3, false);
	world.hold_commit = false;
	client_send(c, "INCR n\r\n");
	client_expect_silence(c);
	client_send(other, "SET o 1\r\n");
	client_expect(other, "+OK\r\n");
	world.frozen[2] = false;
	client_expect(c, ":1\r\n:2\r\n");
	client_close(c);
	client_close(other);
}

/* The leader refused the first and proposed the second; both answers are lost with it. */
static void a_write_without_a_record_is_not_executed_out_of_order(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	world.hold_commit = true;
	world.paused[1] = true;
	client_send(c, "SET x 1 EX 0\r\nSET x 5\r\n");
	world_settle();
	world.paused[1] = false;
	world.paused[2] = true;
	world_settle();
	assert_int_equal(world.proposals, 1);
	world_cut(2, false);
	world_kill(1);
	world.paused[2] = false;
	world_elect(3, true);
	world.hold_commit = false;
	client_expect(c, LATER_ONES_WERE "+OK\r\n");
	assert_everywhere(MP_REDIS, "0/x", "5");
	client_close(c);
	expect_idle();
}

static void doubt_ends_in_an_error_that_says_so(void **state)
{
	int c = lose_leader_with("GET n\r\nINCR n\r\n");

	(void)state;
	client_expect(c, "-ERR muproxy: no leader within 100 ms; nothing was executed\r\n"
			 "-ERR muproxy: outcome unknown: the leader was lost, and the log did not "
			 "tell within 100 ms whether this was executed\r\n");
	world_elect(3, true);
	world.hold_commit = false;
	client_send(c, "GET n\r\n");
	client_expect(c, "$1\r\n1\r\n");
	client_close(c);
	expect_idle();
}

static void without_a_leader_requests_are_held_and_then_given_up(void **state)
{
	int c, memcached;

	(void)state;
	c = client_connect(2, MP_REDIS);
	memcached = client_connect(2, MP_MEMCACHED);
	client_send(c, "PING\r\nINCR n\r\nPING\r\n");
	client_send(memcached, "incr n 1\r\n");
	client_expect(c, "+PONG\r\n");
	client_expect(c,
		      "-ERR muproxy: no leader within 100 ms; nothing was executed\r\n+PONG\r\n");
	client_expect(memcached,
		      "SERVER_ERROR muproxy: no leader within 100 ms; nothing was executed\r\n");
	world_elect(1, true);
	client_send(c, "INCR n\r\n");
	client_expect(c, ":1\r\n");
	client_close(c);
	client_close(memcached);
}

static void without_a_leader_requests_are_held(void **state)
{
	int c;

	(void)state;
	c = client_connect(2, MP_REDIS);
	client_send(c, "INCR n\r\nGET n\r\n");
	client_expect_silence(c);
	world_elect(1, true);
	client_expect(c, ":1\r\n$1\r\n1\r\n");
	client_close(c);
}

/* -------------------------------------------------------- losing the link */

static void client_send_at_leader(const char *request)
{
	int c = client_connect(world.leader, MP_REDIS);

	client_send(c, request);
	client_expect(c, "+OK\r\n");
	client_close(c);
}

static void a_request_lost_with_the_link_is_sent_again(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	client_send(c, "INCR n\r\n");
	client_expect(c, ":1\r\n");
	world.paused[1] = true;
	client_send(c, "INCR n\r\n");
	world_settle();
	world_cut(2, true);
	world.paused[1] = false;
	client_expect(c, ":2\r\n");
	assert_everywhere(MP_REDIS, "0/n", "2");
	client_close(c);
	expect_idle();
}

static void a_request_that_the_link_brought_over_is_not_sent_again(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	world.hold_commit = true;
	client_send(c, "INCR n\r\n");
	client_expect_silence(c);
	world_cut(2, false);
	client_expect_silence(c);
	world.hold_commit = false;
	client_expect(c, ":1\r\n");
	assert_int_equal(world.proposals, 1);
	assert_everywhere(MP_REDIS, "0/n", "1");
	client_close(c);
	expect_idle();
}

/* The old link's request waits for room in the log when the new link is told of the leader. */
static void a_request_of_a_lost_link_is_not_proposed_behind_the_new_ones_back(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	world.full = true;
	client_send(c, "INCR n\r\n");
	client_expect_silence(c);
	world_cut(2, false);
	client_expect_silence(c);
	world.full = false;
	client_expect(c, ":1\r\n");
	assert_everywhere(MP_REDIS, "0/n", "1");
	client_close(c);
	expect_idle();
}

/* What else comes into doubt here has nothing to do with what the leader says of links. */
static void a_lost_read_does_not_make_a_lost_links_request_wait(void **state)
{
	int c, local;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	local = client_connect(2, MP_REDIS);
	client_send(local, "INCR n\r\nREADONLY\r\n");
	client_expect(local, ":1\r\n+OK\r\n");
	world.frozen[2] = true; /* it does not come as far as the leader says for now */
	client_send_at_leader("SET other 1\r\n");
	world.paused[1] = true;
	client_send(c, "INCR n\r\n");
	world_settle();
	world_cut(2, true);
	world.paused[1] = false;
	world.stalled[0][2] = true;
	client_send(local, "GET n\r\n");
	client_expect_silence(local);
	world_backend_lose(MP_REDIS, 2, false);
	world_settle();
	world.stalled[0][2] = false;
	world_backend_ready(MP_REDIS, 2);
	world.frozen[2] = false;
	client_expect(c, ":2\r\n");
	assert_everywhere(MP_REDIS, "0/n", "2");
	client_expect(local, "$1\r\n1\r\n");
	client_close(c);
	client_close(local);
	expect_idle();
}

static void strangers_are_refused_on_the_peers_port(void **state)
{
	static const char refusal[] = "\x1d\0\0\0\2\0\0\0not a muproxy replica";
	char got[sizeof(refusal)] = "";
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect_peer(1);
	client_send(c, "GET / HTTP/1.0\r\n\r\n");
	world_settle();
	assert_int_equal(recv(c, got, sizeof(got), 0), sizeof(refusal) - 1);
	assert_memory_equal(got, refusal, sizeof(refusal) - 1);
	client_expect_end(c);
	client_close(c);
}

/* ----------------------------------------------------- losing the backend */

static void an_unexecuted_write_is_executed_when_the_backend_is_back(void **state)
{
	int here, there;

	(void)state;
	world_elect(1, true);
	here = client_connect(1, MP_REDIS);
	there = client_connect(2, MP_REDIS);
	world.stalled[0][1] = true;
	client_send(here, "INCR n\r\nGET n\r\n");
	client_expect_silence(here);
	world_backend_lose(MP_REDIS, 1, false);
	assert_int_equal(world.resigned, 1);
	world_settle();
	assert_int_equal(world_health(1), MU_BACKEND_DOWN);
	world_elect(2, true);
	client_send(there, "INCR n\r\n");
	client_expect(there, ":2\r\n");
	client_expect_silence(here);
	world.stalled[0][1] = false;
	world_backend_ready(MP_REDIS, 1);
	/* The read goes to the new leader, where the client's own write and more was seen. */
	client_expect(here, ":1\r\n$1\r\n2\r\n");
	assert_everywhere(MP_REDIS, "0/n", "2");
	assert_int_equal(world_health(1), MU_BACKEND_LEVEL);
	client_close(here);
	client_close(there);
	expect_idle();
}

static void an_executed_write_whose_reply_is_lost_says_so(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(1, MP_REDIS);
	world.stalled[0][1] = true;
	client_send(c, "INCR n\r\n");
	client_expect_silence(c);
	world_backend_lose(MP_REDIS, 1, true);
	world.stalled[0][1] = false;
	client_expect_silence(c);
	world_backend_ready(MP_REDIS, 1);
	client_expect(c, "-ERR muproxy: executed, but the backend was lost before it answered\r\n");
	world_settle();
	world_elect(1, true);
	client_send(c, "GET n\r\n");
	client_expect(c, "$1\r\n1\r\n");
	assert_everywhere(MP_REDIS, "0/n", "1");
	client_close(c);
	expect_idle();
}

static void relayed_requests_survive_the_leaders_backend(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	world.frozen[2] = true; /* or it would answer from the log before the leader is lost */
	world.stalled[0][1] = true;
	client_send(c, "INCR n\r\nGET n\r\n");
	client_expect_silence(c);
	world_backend_lose(MP_REDIS, 1, false);
	world_settle();
	world.frozen[2] = false;
	world_elect(3, true);
	client_expect(c, ":1\r\n$1\r\n1\r\n");
	client_close(c);
	expect_idle();
}

static void one_backend_down_does_not_stop_the_other_from_following(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	world_backend_lose(MP_MEMCACHED, 2, false);
	c = client_connect(2, MP_REDIS);
	client_send(c, "SET a 1\r\n");
	client_expect(c, "+OK\r\n");
	assert_everywhere(MP_REDIS, "0/a", "1");
	c = (client_close(c), client_connect(2, MP_MEMCACHED));
	client_send(c, "set k 0 0 1\r\n7\r\n");
	client_expect(c, "STORED\r\n");
	assert_string_equal(world_value(MP_MEMCACHED, 2, "k"), "");
	world_backend_ready(MP_MEMCACHED, 2);
	assert_everywhere(MP_MEMCACHED, "k", "7");
	client_close(c);
}

/* ------------------------------------------------------------- Memcached */

static void conditionals_are_decided_in_order(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	for (unsigned id = 1; id <= 2; id++) {
		c = client_connect(id, MP_MEMCACHED);
		client_send(c, "set k 0 0 1\r\n5\r\nincr k 2\r\nget k\r\nadd k 0 0 1\r\nx\r\n"
			       "append k 0 0 1\r\n1\r\nget k\r\ndelete k\r\nincr k 1\r\n");
		client_expect(c, "STORED\r\n7\r\nVALUE k 0 1\r\n7\r\nEND\r\nNOT_STORED\r\n"
				 "STORED\r\nVALUE k 0 2\r\n71\r\nEND\r\nDELETED\r\nNOT_FOUND\r\n");
		client_close(c);
	}
	expect_idle();
}

static void noreply_answers_nothing(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_MEMCACHED);
	client_send(c, "set k 0 0 1 noreply\r\n1\r\nincr k 2 noreply\r\nincr k 2 noreply\r\n"
		       "get k\r\n");
	client_expect(c, "VALUE k 0 1\r\n5\r\nEND\r\n");
	client_close(c);
	expect_idle();
}

static void a_decision_counts_what_came_after_the_question(void **state)
{
	int counting, setting;

	(void)state;
	world_elect(1, true);
	counting = client_connect(1, MP_MEMCACHED);
	setting = client_connect(2, MP_MEMCACHED);
	client_send(setting, "set k 0 0 1\r\n1\r\n");
	client_expect(setting, "STORED\r\n");
	world.stalled[1][1] = true;
	client_send(counting, "incr k 1\r\n");
	world_settle();
	client_send(setting, "set k 0 0 1\r\n7\r\n");
	world_settle();
	world.stalled[1][1] = false;
	client_expect(counting, "8\r\n");
	client_expect(setting, "STORED\r\n");
	assert_everywhere(MP_MEMCACHED, "k", "8");
	client_close(counting);
	client_close(setting);
}

static void a_key_under_constant_writing_is_decided_nevertheless(void **state)
{
	int counting, setting;
	char got[8] = "";

	(void)state;
	world_elect(1, true);
	counting = client_connect(1, MP_MEMCACHED);
	setting = client_connect(1, MP_MEMCACHED);
	client_send(setting, "set k 0 0 1\r\n5\r\n");
	client_expect(setting, "STORED\r\n");
	client_send(counting, "incr k 1\r\n");
	for (int i = 0; i < 50; i++)
		client_send(setting, "set k 0 0 1 noreply\r\n5\r\n");
	assert_int_equal(recv(counting, got, sizeof(got), 0), 3);
	assert_string_equal(got, "6\r\n");
	client_close(counting);
	client_close(setting);
	expect_idle();
}

static void a_doubtful_decision_is_answered_from_its_record(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_MEMCACHED);
	client_send(c, "set k 0 0 1\r\n5\r\n");
	client_expect(c, "STORED\r\n");
	world.hold_commit = true;
	client_send(c, "incr k 2\r\n");
	/* The question is a read, which needs no commit; what it leads to does. */
	client_expect_silence(c);
	assert_int_equal(world.proposals, 2);
	world_kill(1);
	world_elect(3, true);
	world.hold_commit = false;
	client_expect(c, "7\r\n");
	assert_everywhere(MP_MEMCACHED, "k", "7");
	client_close(c);
	expect_idle();
}

static void an_undecided_conditional_is_sent_again(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_MEMCACHED);
	client_send(c, "set k 0 0 1\r\n5\r\n");
	client_expect(c, "STORED\r\n");
	world.stalled[1][1] = true;
	client_send(c, "incr k 2\r\nincr k 2\r\n");
	client_expect_silence(c);
	world_cut(2, false);
	client_expect_silence(c);
	world.stalled[1][1] = false;
	client_expect(c, "7\r\n9\r\n");
	assert_everywhere(MP_MEMCACHED, "k", "9");
	client_close(c);
	expect_idle();
}

static void a_deposed_leader_gives_its_conditionals_back(void **state)
{
	int c, waiting;

	(void)state;
	world_elect(1, true);
	c = client_connect(1, MP_MEMCACHED);
	waiting = client_connect(1, MP_MEMCACHED);
	client_send(c, "set k 0 0 1\r\n5\r\n");
	client_expect(c, "STORED\r\n");
	world.stalled[1][1] = true;
	client_send(c, "incr k 2\r\n");
	client_send(waiting, "incr k 2\r\n");
	client_expect_silence(c);
	world_elect(3, true);
	/* The waiting one is free to go at once; the holder's question is with the backend. */
	client_expect(waiting, "7\r\n");
	world.stalled[1][1] = false;
	client_expect(c, "9\r\n");
	client_close(c);
	client_close(waiting);
	expect_idle();
}

static void tokens_of_another_leader_are_refused(void **state)
{
	unsigned long first, second;
	char got[128] = "", request[128];
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_MEMCACHED);
	client_send(c, "set k 0 0 1\r\n5\r\n");
	client_expect(c, "STORED\r\n");
	client_send(c, "gets k\r\n");
	world_settle();
	assert_true(recv(c, got, sizeof(got) - 1, 0) > 0);
	assert_int_equal(sscanf(got, "VALUE k 0 1 %lu", &first), 1);
	world_elect(3, true);
	snprintf(request, sizeof(request), "cas k 0 0 1 %lu\r\nx\r\n", first);
	client_send(c, request);
	client_expect(c, "EXISTS\r\n");
	client_send(c, "gets k\r\n");
	world_settle();
	assert_true(recv(c, got, sizeof(got) - 1, 0) > 0);
	assert_int_equal(sscanf(got, "VALUE k 0 1 %lu", &second), 1);
	assert_true(first != second);
	snprintf(request, sizeof(request), "cas k 0 0 1 %lu\r\nx\r\n", second);
	client_send(c, request);
	client_expect(c, "STORED\r\n");
	client_close(c);
}

static void muproxys_own_keys_are_out_of_reach(void **state)
{
	int c;

	(void)state;
	world_elect(1, true);
	c = client_connect(2, MP_MEMCACHED);
	client_send(c, "get a __muproxy__:x\r\ndelete __muproxy__:x noreply\r\nget b\r\n");
	client_expect(c, "CLIENT_ERROR muproxy: keys that begin with __muproxy__: are its own\r\n"
			 "END\r\n");
	client_close(c);
}

/* ------------------------------------------------------------------ ending */

static void draining_answers_what_was_taken(void **state)
{
	int c, there;

	(void)state;
	world_elect(1, true);
	c = client_connect(1, MP_REDIS);
	there = client_connect(2, MP_REDIS);
	world.hold_commit = true;
	client_send(c, "INCR n\r\n");
	client_expect_silence(c);
	mp_proxy_drain(world.proxy[1]);
	client_send(c, "INCR n\r\n"); /* too late: it is not read */
	client_expect_silence(c);
	assert_false(mp_proxy_drained(world.proxy[1]));
	client_send(there, "INCR n\r\n");
	client_expect_silence(there);
	world.hold_commit = false;
	client_expect(c, ":1\r\n");
	world_settle();
	assert_true(mp_proxy_drained(world.proxy[1]));
	assert_int_equal(world.leader, 0);
	world_kill(1);
	world_elect(2, true);
	client_expect(there, ":2\r\n");
	client_expect_end(c);
	client_close(c);
	client_close(there);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, world_unmake)
#define HASTY_TEST(f) cmocka_unit_test_setup_teardown(f, make_hasty, world_unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(replies_come_in_request_order),
		TEST(a_turns_writes_are_one_proposal),
		TEST(a_turn_takes_no_more_than_caches_hold),
		TEST(a_write_is_answered_when_committed),
		TEST(a_read_waits_for_its_fence),
		TEST(a_new_leader_reads_behind_what_it_inherited),
		TEST(databases_travel_with_requests),
		TEST(a_full_log_makes_clients_wait),
		TEST(a_clients_requests_outlive_it),
		TEST(what_survives_the_leader_is_answered_from_the_log),
		TEST(what_dies_with_the_leader_is_sent_again),
		TEST(the_new_leader_does_the_same_for_its_own_clients),
		TEST(a_deposed_leader_does_the_same_for_its_own_clients),
		TEST(an_applied_write_is_answered_here_if_the_leader_is_slow),
		TEST(the_leaders_late_reply_is_not_a_second_one),
		TEST(a_read_keeps_its_place_before_a_doubtful_write),
		TEST(a_read_keeps_its_place_before_a_write_sent_again),
		TEST(reads_alone_go_to_the_next_leader_at_once),
		TEST(later_requests_do_not_overtake_doubtful_ones),
		TEST(a_write_without_a_record_is_not_executed_out_of_order),
		HASTY_TEST(doubt_ends_in_an_error_that_says_so),
		HASTY_TEST(without_a_leader_requests_are_held_and_then_given_up),
		TEST(without_a_leader_requests_are_held),
		TEST(a_request_lost_with_the_link_is_sent_again),
		TEST(a_request_that_the_link_brought_over_is_not_sent_again),
		TEST(a_request_of_a_lost_link_is_not_proposed_behind_the_new_ones_back),
		TEST(a_lost_read_does_not_make_a_lost_links_request_wait),
		TEST(strangers_are_refused_on_the_peers_port),
		TEST(an_unexecuted_write_is_executed_when_the_backend_is_back),
		TEST(an_executed_write_whose_reply_is_lost_says_so),
		TEST(relayed_requests_survive_the_leaders_backend),
		TEST(one_backend_down_does_not_stop_the_other_from_following),
		TEST(conditionals_are_decided_in_order),
		TEST(noreply_answers_nothing),
		TEST(a_decision_counts_what_came_after_the_question),
		TEST(a_key_under_constant_writing_is_decided_nevertheless),
		TEST(a_doubtful_decision_is_answered_from_its_record),
		TEST(an_undecided_conditional_is_sent_again),
		TEST(a_deposed_leader_gives_its_conditionals_back),
		TEST(tokens_of_another_leader_are_refused),
		TEST(muproxys_own_keys_are_out_of_reach),
		TEST(draining_answers_what_was_taken),
	};

	return cmocka_run_group_tests(tests, world_start_redis, world_stop_redis);
}
