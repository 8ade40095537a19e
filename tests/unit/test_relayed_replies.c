/*
 * test_relayed_replies.c - the leader is lost in the middle of a reply that a
 * follower passes on: its client has none of it yet, and gets another, whole.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy_world.h"

static int make(void **state)
{
	struct world_options options = {.command_table = world_redis.address};

	(void)state;
	world_make(&options);
	return 0;
}

/* A client of replica 2, whose leader says one half of each reply, and dies. */
static int lose_leader_amid(const char *requests)
{
	int c;

	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	client_send(c, "SET k value\r\nINCR n\r\n");
	client_expect(c, "+OK\r\n:1\r\n");
	world.halved[0][1] = true;
	client_send(c, requests);
	client_expect_silence(c);
	world_kill(1);
	return c;
}

static void a_read_is_asked_again(void **state)
{
	int c = lose_leader_amid("GET k\r\n");

	(void)state;
	world_elect(3, true);
	client_expect(c, "$5\r\nvalue\r\n");
	client_close(c);
}

static void a_write_is_answered_from_the_log(void **state)
{
	int c;

	(void)state;
	/* That our own backend has not executed it yet is what makes it wait for the leader's. */
	world.stalled[0][2] = true;
	c = lose_leader_amid("INCR n\r\n");
	world.stalled[0][2] = false;
	world_elect(3, true);
	client_expect(c, ":2\r\n");
	client_send(c, "INCR n\r\n");
	client_expect(c, ":3\r\n");
	client_close(c);
}

enum { LARGE_BYTES = 13 << 20 };

/* Bytes of which none may stand elsewhere, behind head and before CR LF. */
static char *large(const char *head)
{
	size_t len = strlen(head);
	char *text = malloc(len + LARGE_BYTES + 3);

	memcpy(text, head, len);
	for (size_t i = 0; i < LARGE_BYTES; i++)
		text[len + i] = (char)('a' + i % 23 + i / 100000 % 3);
	memcpy(text + len + LARGE_BYTES, "\r\n", 3);
	return text;
}

/*
 * What there is of the leader's reply, in memory and in a file, is void; the own server's
 * comes in pieces, and is handed on when it is whole, by way of another file.
 */
static void a_large_reply_to_a_write_is_the_own_servers(void **state)
{
	char head[64], *set, *reply;
	int c;

	(void)state;
	snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$1\r\nl\r\n$%d\r\n", LARGE_BYTES);
	set = large(head);
	snprintf(head, sizeof(head), "$%d\r\n", LARGE_BYTES);
	reply = large(head);
	world_elect(1, true);
	c = client_connect(2, MP_REDIS);
	client_send(c, set);
	client_expect(c, "+OK\r\n");
	world.stalled[0][2] = true;
	world.halved[0][1] = true;
	client_send(c, "GETSET l small\r\n");
	client_expect_silence(c);
	assert_true(world.proxy[2]->sessions.spills.bytes > 0);
	world_kill(1);
	world_settle();
	assert_int_equal(world.proxy[2]->sessions.spills.bytes, 0);
	world.stalled[0][2] = false;
	world_elect(3, true);
	client_expect(c, reply);
	client_send(c, "GET l\r\n");
	client_expect(c, "$5\r\nsmall\r\n");
	assert_int_equal(world.proxy[2]->sessions.spills.bytes, 0);
	client_close(c);
	free(set);
	free(reply);
}

/* Its turn comes when what is before it was answered from elsewhere. */
static void later_replies_that_are_half_here_are_no_exception(void **state)
{
	int c = lose_leader_amid("GET k\r\nGET n\r\nGET k\r\n");

	(void)state;
	world_elect(2, true);
	client_expect(c, "$5\r\nvalue\r\n$1\r\n1\r\n$5\r\nvalue\r\n");
	client_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, world_unmake)
		TEST(a_read_is_asked_again),
		TEST(a_write_is_answered_from_the_log),
		TEST(a_large_reply_to_a_write_is_the_own_servers),
		TEST(later_replies_that_are_half_here_are_no_exception),
	};

	return cmocka_run_group_tests(tests, world_start_redis, world_stop_redis);
}
