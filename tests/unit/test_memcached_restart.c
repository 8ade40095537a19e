/*
 * test_memcached_restart.c - a memcached that its log cannot bring level, in
 * the world of proxy_world.h, and what clients see of it.
 */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy_world.h"
#include "servers.h"

enum { SHORT_MS = 100 };

static int make_with(const char *command_table)
{
	struct world_options options = {.command_table = command_table,
					.unknown_timeout_ms = SHORT_MS};

	world_make(&options);
	world_elect(1, true);
	return 0;
}

static int make(void **state)
{
	(void)state;
	return make_with(world_redis.address);
}

/* There is no Redis. */
static int make_alone(void **state)
{
	(void)state;
	return make_with(NULL);
}

static void do_at(unsigned id, const char *request, const char *reply)
{
	int c = client_connect(id, MP_MEMCACHED);

	client_send(c, request);
	client_expect(c, reply);
	client_close(c);
}

/* Replica 2's memcached is away while that is written. */
static void write_behind_its_back(const char *request, const char *reply)
{
	world_backend_lose(MP_MEMCACHED, 2, false);
	do_at(1, request, reply);
	world_settle();
}

/* Its log reaches back to what its Redis needs, and not to what its memcached does. */
static void reclaim(void)
{
	world.reclaimed_lsn[2] = world_applied_lsn(MP_REDIS, 2);
	assert_true(world_applied_lsn(MP_MEMCACHED, 2) < world.reclaimed_lsn[2]);
}

static void it_starts_empty_and_goes_on(void **state)
{
	(void)state;
	do_at(1, "set old 0 0 1\r\n1\r\n", "STORED\r\n");
	assert_string_equal(world_value(MP_MEMCACHED, 2, "old"), "1");
	write_behind_its_back("set missed 0 0 1\r\n2\r\n", "STORED\r\n");
	reclaim();
	world_backend_ready(MP_MEMCACHED, 2);
	world_settle();
	assert_int_equal(world_health(2), MU_BACKEND_LEVEL);
	assert_string_equal(world_value(MP_MEMCACHED, 2, "old"), "");
	assert_string_equal(world_value(MP_MEMCACHED, 2, "missed"), "");
	do_at(2, "set new 0 0 1\r\n3\r\n", "STORED\r\n");
	assert_string_equal(world_value(MP_MEMCACHED, 2, "new"), "3");
	/* Reads are the leader's, who has it all. */
	do_at(2, "get old\r\n", "VALUE old 0 1\r\n1\r\nEND\r\n");
}

static void what_the_log_still_has_is_kept(void **state)
{
	(void)state;
	do_at(1, "set old 0 0 1\r\n1\r\n", "STORED\r\n");
	write_behind_its_back("set missed 0 0 1\r\n2\r\n", "STORED\r\n");
	world.reclaimed_lsn[2] = world_applied_lsn(MP_MEMCACHED, 2);
	world_backend_ready(MP_MEMCACHED, 2);
	world_settle();
	assert_string_equal(world_value(MP_MEMCACHED, 2, "old"), "1");
	assert_string_equal(world_value(MP_MEMCACHED, 2, "missed"), "2");
}

static void where_its_redis_is_behind_as_well_it_is_stale(void **state)
{
	(void)state;
	do_at(1, "set old 0 0 1\r\n1\r\n", "STORED\r\n");
	world_backend_lose(MP_REDIS, 2, false);
	write_behind_its_back("set missed 0 0 1\r\n2\r\n", "STORED\r\n");
	world.reclaimed_lsn[2] = world_applied_lsn(MP_REDIS, 2) + 64;
	world_backend_ready(MP_REDIS, 2);
	world_backend_ready(MP_MEMCACHED, 2);
	world_settle();
	assert_int_equal(world_health(2), MU_BACKEND_STALE);
	assert_string_equal(world_value(MP_MEMCACHED, 2, "old"), "1");
}

/* Replica 2's memcached is away, and the leader is lost with this, which will be committed. */
static int lose_leader_with(const char *request)
{
	int c;

	do_at(1, "set n 0 0 1\r\n5\r\n", "STORED\r\n");
	world_backend_lose(MP_MEMCACHED, 2, false);
	c = client_connect(2, MP_MEMCACHED);
	client_send(c, request);
	world.hold_commit = true; /* it is decided and proposed, and stays unanswered */
	client_expect_silence(c);
	world_kill(1);
	world_depose();
	world.hold_commit = false;
	return c;
}

static void what_was_read_while_it_was_away_is_known_to_be_executed(void **state)
{
	int c = lose_leader_with("incr n 1\r\n");

	(void)state;
	world_commit();
	world_settle();
	reclaim();
	world_backend_ready(MP_MEMCACHED, 2);
	world_settle();
	world_elect(3, true);
	client_expect(c, "SERVER_ERROR muproxy: executed, but the backend was lost before it "
			 "answered\r\n");
	client_close(c);
	world_settle();
	assert_string_equal(world_value(MP_MEMCACHED, 3, "n"), "6");
}

/* What the log says of a leader holds, too, though no backend here has taken it. */
static void what_was_not_executed_while_it_was_away_is_sent_again(void **state)
{
	int c = lose_leader_with("incr n 1\r\n");

	(void)state;
	world_elect(3, false);
	world_settle();
	reclaim();
	world_backend_ready(MP_MEMCACHED, 2);
	client_expect(c, "6\r\n");
	client_close(c);
	world_settle();
	assert_string_equal(world_value(MP_MEMCACHED, 3, "n"), "6");
}

/*
 * The record of a doubtful request is among what is not read any more: what
 * comes later in the log proves nothing then, and it must not be sent again.
 */
static void what_it_did_not_see_is_not_sent_again(void **state)
{
	int c;

	(void)state;
	world.frozen[2] = true;
	c = lose_leader_with("incr n 1\r\n");
	world_commit();
	world_settle();
	world.reclaimed_lsn[2] = world_applied_lsn(MP_MEMCACHED, 3);
	world.frozen[2] = false;
	world_backend_ready(MP_MEMCACHED, 2);
	world_settle();
	world_elect(3, true);
	client_expect(c, "SERVER_ERROR muproxy: outcome unknown: the leader was lost, and the log "
			 "that may tell was not read here: another replica's state was taken "
			 "over\r\n");
	client_close(c);
	world_settle();
	assert_string_equal(world_value(MP_MEMCACHED, 3, "n"), "6");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make, world_unmake)
	const struct CMUnitTest tests[] = {
		TEST(it_starts_empty_and_goes_on),
		TEST(what_the_log_still_has_is_kept),
		TEST(where_its_redis_is_behind_as_well_it_is_stale),
		TEST(what_was_read_while_it_was_away_is_known_to_be_executed),
		TEST(what_was_not_executed_while_it_was_away_is_sent_again),
		cmocka_unit_test_setup_teardown(what_it_did_not_see_is_not_sent_again, make_alone,
						world_unmake),
	};

	return cmocka_run_group_tests(tests, world_start_redis, world_stop_redis);
}
