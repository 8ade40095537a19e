/*
 * servers.h - real redis-server and memcached processes for tests, each in a
 * directory of its own under /tmp, on a unix socket (Redis, Memcached) and
 * nothing else. Whatever a test starts ends with the test, even if it crashes:
 * the children die with their parent (PR_SET_PDEATHSIG), and test_dir_remove
 * takes the directory away.
 *
 *     char dir[64];
 *     struct test_server redis;
 *
 *     test_dir_make(dir);
 *     test_redis_start(&redis, dir, "--appendonly yes");
 *     ... redis.address is "unix:/tmp/.../redis.sock" ...
 *     test_server_kill(&redis, SIGKILL);
 *     test_redis_start(&redis, dir, "--appendonly yes");   the same data again
 *     test_server_kill(&redis, SIGTERM);
 *     test_dir_remove(dir);
 *
 * A helper that cannot do its work prints why and aborts: a test that goes on
 * without its server would only fail further on, less clearly.
 */
#ifndef TEST_SERVERS_H
#define TEST_SERVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct test_server {
	pid_t pid;         /* 0: not running */
	char path[96];     /* of its unix socket */
	char address[104]; /* the same as "unix:PATH" */
};

enum { TEST_DIR_BYTES = 64, TEST_DEADLINE_MS = 60000 };

/* A fresh directory under /tmp; its path goes to dir. */
void test_dir_make(char dir[TEST_DIR_BYTES]);
/* Removes the directory and all in it. */
void test_dir_remove(const char *dir);

/*
 * Starts redis-server with its data in dir, listening on DIR/redis.sock, and
 * returns when it answers PING (an error reply such as -NOAUTH is an answer,
 * -LOADING is not). options: more command line options, separated by spaces,
 * or "". Without options nothing is persisted: "--save '' --appendonly no" is
 * the default, which options override.
 */
void test_redis_start(struct test_server *server, const char *dir, const char *options);
/* The same with memcached on DIR/memcached.sock, options e.g. "-m 16 -I 8m". */
void test_memcached_start(struct test_server *server, const char *dir, const char *options);
/*
 * Sends signal (SIGKILL, SIGTERM: the server may save) and waits for the end.
 * Does nothing if it is not running.
 */
void test_server_kill(struct test_server *server, int signal);
/* SIGSTOP, and waits until all its threads stand still: what is sent to it now is not read. */
void test_server_stop(const struct test_server *server);

/* A blocking connection to it, for what test_exchange cannot do; -1: it takes none. */
int test_connect(const struct test_server *server);

/* Milliseconds of the monotonic clock, for deadlines. */
uint64_t test_now_ms(void);

/*
 * One blocking exchange over a connection of its own, so that a test can look
 * at a server without the code under test: sends request as it is and returns
 * what comes back within the deadline up to and including the first line that
 * ends with until (e.g. "END\r\n"; "\n" takes one line). The text is in a
 * static buffer until the next call; at most 64 KiB.
 */
const char *test_exchange(const struct test_server *server, const char *request, const char *until);

#endif
