/* test_control.c - the control side's view of real servers. */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "control_memcached.h"
#include "control_redis.h"
#include "servers.h"

enum { TIMEOUT_MS = 300 };

static char dir[TEST_DIR_BYTES];

static int setup(void **state)
{
	(void)state;
	test_dir_make(dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_dir_remove(dir);
	return 0;
}

static void test_redis(void **state)
{
	struct test_server server;
	struct mp_server_info info;
	char err[256];

	(void)state;
	test_redis_start(&server, dir, "");
	test_exchange(&server, "SET a 1\r\n", "\n");
	test_exchange(&server, "SELECT 7\r\nSET b 1\r\nECHO 1\r\n", "1\r\n");
	test_exchange(&server, "SELECT 15\r\nSET muproxy:applied 1\r\nECHO 1\r\n", "1\r\n");
	if (!mp_control_redis(server.address, NULL, TIMEOUT_MS, &info, err, sizeof(err)))
		fail_msg("%s", err);
	assert_int_equal(info.pid, server.pid);
	assert_int_equal(info.items, 2);
	assert_non_null(strchr(info.version, '.'));
	assert_true(info.memory_bytes > 100000);
	assert_true(info.clients >= 1);
	test_server_kill(&server, SIGKILL);
	assert_false(mp_control_redis(server.address, NULL, TIMEOUT_MS, &info, err, sizeof(err)));
}

static void test_redis_password(void **state)
{
	struct test_server server;
	struct mp_server_info info;
	char err[256];

	(void)state;
	test_redis_start(&server, dir, "--requirepass secret");
	assert_false(mp_control_redis(server.address, NULL, TIMEOUT_MS, &info, err, sizeof(err)));
	assert_non_null(strstr(err, "NOAUTH"));
	assert_false(mp_control_redis(server.address, "x", TIMEOUT_MS, &info, err, sizeof(err)));
	assert_non_null(strstr(err, "WRONGPASS"));
	assert_true(
		mp_control_redis(server.address, "secret", TIMEOUT_MS, &info, err, sizeof(err)));
	test_server_kill(&server, SIGKILL);
}

static void test_memcached(void **state)
{
	struct test_server server;
	struct mp_server_info info;
	char err[256];

	(void)state;
	test_memcached_start(&server, dir, "");
	test_exchange(&server, "set a 0 0 1\r\n1\r\n", "\n");
	if (!mp_control_memcached(server.address, TIMEOUT_MS, &info, err, sizeof(err)))
		fail_msg("%s", err);
	assert_int_equal(info.pid, server.pid);
	assert_int_equal(info.items, 1);
	assert_non_null(strchr(info.version, '.'));
	test_server_kill(&server, SIGKILL);
	assert_false(mp_control_memcached(server.address, TIMEOUT_MS, &info, err, sizeof(err)));
}

/* A server that does not answer costs the timeout, not for ever. */
static void test_stopped_servers(void **state)
{
	struct test_server redis, memcached;
	struct mp_server_info info;
	uint64_t start_ms;
	char err[256] = "";

	(void)state;
	test_redis_start(&redis, dir, "");
	test_memcached_start(&memcached, dir, "");
	test_server_stop(&redis);
	test_server_stop(&memcached);
	start_ms = test_now_ms();
	assert_false(mp_control_redis(redis.address, NULL, TIMEOUT_MS, &info, err, sizeof(err)));
	assert_true(err[0] != '\0');
	assert_false(mp_control_memcached(memcached.address, TIMEOUT_MS, &info, err, sizeof(err)));
	assert_in_range(test_now_ms() - start_ms, TIMEOUT_MS, 10 * TIMEOUT_MS);
	test_server_kill(&redis, SIGKILL);
	test_server_kill(&memcached, SIGKILL);
}

static void test_bad_addresses(void **state)
{
	struct mp_server_info info;
	char err[256];

	(void)state;
	assert_false(mp_control_redis("nonsense", NULL, TIMEOUT_MS, &info, err, sizeof(err)));
	assert_non_null(strstr(err, "'nonsense'"));
	assert_false(mp_control_memcached("nonsense", TIMEOUT_MS, &info, err, sizeof(err)));
	assert_non_null(strstr(err, "'nonsense'"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_redis),           TEST(test_redis_password), TEST(test_memcached),
		TEST(test_stopped_servers), TEST(test_bad_addresses),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
