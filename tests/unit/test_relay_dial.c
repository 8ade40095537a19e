/*
 * test_relay_dial.c - relaying where somebody else joins the members (proxy.h):
 * he may answer late, for whom nobody wants any more, or not at all.
 */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proxy_world.h"

/* How often replica [from] asked for a connection to [to], not counting answered times. */
static unsigned asked[WORLD_REPLICAS + 1][WORLD_REPLICAS + 1];

static void note(unsigned from, unsigned to)
{
	asked[from][to]++;
}

static int make(void **state)
{
	struct world_options options = {.dial = note};

	(void)state;
	memset(asked, 0, sizeof(asked));
	world_make(&options);
	return 0;
}

/* What was asked for comes about; returns the end that was asked for. */
static int bring(unsigned from, unsigned to)
{
	int ends[2];

	assert_int_equal(asked[from][to], 1);
	asked[from][to] = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends),
			 0);
	mp_proxy_link(world.proxy[from], to, ends[0], true);
	mp_proxy_link(world.proxy[to], from, ends[1], false);
	world_settle();
	return ends[0];
}

static void refuse(unsigned from, unsigned to)
{
	assert_int_equal(asked[from][to], 1);
	asked[from][to] = 0;
	mp_proxy_link(world.proxy[from], to, -1, true);
	world_settle();
}

static void a_dead_leaders_dial_does_not_hold_up_the_next_ones(void **state)
{
	int c = client_connect(3, MP_MEMCACHED);

	(void)state;
	world_elect(1, true);
	world_settle();
	assert_int_equal(asked[3][1], 1);
	/* Nobody answers, and another leads. */
	world_elect(2, true);
	world_settle();
	assert_int_equal(asked[3][2], 1);
	bring(3, 2);
	client_send(c, "set k 0 0 1\r\nv\r\n");
	client_expect(c, "STORED\r\n");
	/* What becomes of the first is nobody's affair any more. */
	refuse(3, 1);
	client_send(c, "get k\r\n");
	client_expect(c, "VALUE k 0 1\r\nv\r\nEND\r\n");
	assert_int_equal(asked[3][1] + asked[3][2], 0);
	client_close(c);
}

static void a_connection_that_came_too_late_is_closed(void **state)
{
	int c = client_connect(3, MP_MEMCACHED);
	int late;

	(void)state;
	world_elect(1, true);
	world_settle();
	world_elect(2, true);
	world_settle();
	late = bring(3, 1);
	assert_int_equal(fcntl(late, F_GETFD), -1);
	bring(3, 2);
	client_send(c, "set k 0 0 1\r\nv\r\n");
	client_expect(c, "STORED\r\n");
	/* The first leads again, and is asked for again. */
	world_elect(1, true);
	world_settle();
	bring(3, 1);
	client_send(c, "get k\r\n");
	client_expect(c, "VALUE k 0 1\r\nv\r\nEND\r\n");
	client_close(c);
}

static void one_that_is_asked_is_not_asked_again(void **state)
{
	(void)state;
	world_elect(1, true);
	world_settle();
	world_elect(2, true);
	world_settle();
	world_elect(1, true);
	world_settle();
	assert_int_equal(asked[3][1], 1);
	assert_int_equal(asked[3][2], 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make, world_unmake)
	const struct CMUnitTest tests[] = {
		TEST(a_dead_leaders_dial_does_not_hold_up_the_next_ones),
		TEST(a_connection_that_came_too_late_is_closed),
		TEST(one_that_is_asked_is_not_asked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
