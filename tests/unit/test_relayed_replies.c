/*
 * test_relayed_replies.c - the leader is lost in the middle of a reply that a
 * follower passes on: its client has none of it yet, and gets another, whole.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

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
		TEST(later_replies_that_are_half_here_are_no_exception),
	};

	return cmocka_run_group_tests(tests, world_start_redis, world_stop_redis);
}
