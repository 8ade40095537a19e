/* test_buffer.c - the byte queue, the item queue, and addresses. */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "buffer.h"
#include "fifo.h"
#include "net.h"
#include "servers.h"

/* ---------------------------------------------------------------------- buffer */

/* Whatever is put in and taken out, in whatever sizes, comes out in order. */
static void test_bytes_come_out_in_order(void **state)
{
	struct mp_buffer buffer = {0};
	unsigned char next_in = 0, next_out = 0;
	unsigned seed = 1;
	int round;
	size_t i;

	(void)state;
	for (round = 0; round < 20000; round++) {
		size_t n = (size_t)rand_r(&seed) % 3000;

		if (rand_r(&seed) % 2) {
			char *room = mp_buffer_reserve(&buffer, n);

			assert_non_null(room);
			assert_true(mp_buffer_room(&buffer) >= n);
			for (i = 0; i < n; i++)
				room[i] = (char)next_in++;
			mp_buffer_commit(&buffer, n);
		} else {
			if (n > mp_buffer_len(&buffer))
				n = mp_buffer_len(&buffer);
			for (i = 0; i < n; i++)
				assert_int_equal((unsigned char)mp_buffer_data(&buffer)[i],
						 next_out++);
			mp_buffer_consume(&buffer, n);
		}
	}
	mp_buffer_free(&buffer);
}

static void test_memory_is_kept_and_given_back(void **state)
{
	struct mp_buffer buffer = {0};
	static char big[MP_BUFFER_KEEP_BYTES + 1];
	char *memory;

	(void)state;
	assert_int_equal(mp_buffer_len(&buffer), 0);
	assert_true(mp_buffer_append(&buffer, "abc", 3));
	memory = buffer.memory;
	mp_buffer_consume(&buffer, 3);
	assert_true(mp_buffer_append(&buffer, "def", 3));
	assert_ptr_equal(buffer.memory, memory);
	mp_buffer_clear(&buffer);
	assert_true(mp_buffer_append(&buffer, big, sizeof(big)));
	mp_buffer_consume(&buffer, sizeof(big) - 1);
	assert_non_null(buffer.memory);
	mp_buffer_consume(&buffer, 1);
	assert_null(buffer.memory);
	/* What cannot be had changes nothing. */
	assert_true(mp_buffer_append(&buffer, "abc", 3));
	assert_null(mp_buffer_reserve(&buffer, SIZE_MAX / 2));
	assert_int_equal(errno, ENOMEM);
	assert_memory_equal(mp_buffer_data(&buffer), "abc", 3);
	mp_buffer_free(&buffer);
}

/* A small amount that stays in front must not make the buffer grow for ever. */
static void test_a_lasting_rest_does_not_grow(void **state)
{
	struct mp_buffer buffer = {0};
	char bytes[1000] = {0};
	int i;

	(void)state;
	assert_true(mp_buffer_append(&buffer, bytes, 10));
	for (i = 0; i < 100000; i++) {
		assert_true(mp_buffer_append(&buffer, bytes, sizeof(bytes)));
		mp_buffer_consume(&buffer, sizeof(bytes));
	}
	assert_true(buffer.cap <= 4096);
	mp_buffer_free(&buffer);
}

static void test_sockets(void **state)
{
	enum { BYTES = 3 << 20 };
	struct mp_buffer out = {0}, in = {0};
	char *bytes = malloc(BYTES);
	int fds[2], i;
	size_t sent = 0;

	(void)state;
	assert_non_null(bytes);
	for (i = 0; i < BYTES; i++)
		bytes[i] = (char)(i * 7 + (i >> 11));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(mp_buffer_receive(&in, fds[1], 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_true(mp_buffer_append(&out, bytes, 1000));
	/* What is queued goes first; of the rest only what did not fit is copied. */
	assert_true(mp_buffer_send_with(&out, fds[0], bytes + 1000, BYTES - 1000));
	assert_in_range(mp_buffer_len(&out), 1, BYTES - 1001);
	while (sent < BYTES) {
		while (mp_buffer_receive(&in, fds[1], 4096) > 0)
			;
		sent = mp_buffer_len(&in);
		assert_true(mp_buffer_send(&out, fds[0]));
	}
	assert_memory_equal(mp_buffer_data(&in), bytes, BYTES);
	close(fds[1]);
	assert_true(mp_buffer_append(&out, "x", 1));
	assert_false(mp_buffer_send(&out, fds[0])); /* and no SIGPIPE */
	assert_int_equal(mp_buffer_receive(&in, fds[0], 1), 0);
	close(fds[0]);
	mp_buffer_free(&in);
	mp_buffer_free(&out);
	free(bytes);
}

/* ------------------------------------------------------------------------ fifo */

static void test_fifo(void **state)
{
	struct mp_fifo fifo = {.item_bytes = sizeof(int)};
	int next_in = 0, next_out = 0, round;
	unsigned seed = 2;

	(void)state;
	for (round = 0; round < 100000; round++) {
		if (rand_r(&seed) % 100 < (round % 20000 < 10000 ? 55 : 45)) {
			*(int *)mp_fifo_push(&fifo) = next_in++;
			assert_int_equal(*(int *)mp_fifo_tail(&fifo), next_in - 1);
		} else if (fifo.count > 0) {
			assert_int_equal(*(int *)mp_fifo_at(&fifo, 0), next_out);
			assert_int_equal(*(int *)mp_fifo_at(&fifo, fifo.count / 2),
					 next_out + (int)(fifo.count / 2));
			mp_fifo_pop(&fifo);
			next_out++;
		}
		assert_int_equal(fifo.count, next_in - next_out);
	}
	mp_fifo_clear(&fifo);
	assert_int_equal(fifo.count, 0);
	mp_fifo_free(&fifo);
}

/* ------------------------------------------------------------------- addresses */

static void test_addresses(void **state)
{
	static const char *const bad[] = {
		"",        "host", "host:", "host:70000", "host:-1", "host:12a", "::1:80",
		"[::1]80", "[::1", "unix:", "127.0.0.1:", ":",       "a:1:2",
	};
	struct mp_address address;
	char err[256], host[64], long_path[200];
	size_t i;
	int port;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = '\0';
		if (mp_address_parse(bad[i], &address, err, sizeof(err)))
			fail_msg("'%s' is taken", bad[i]);
		assert_true(err[0] != '\0');
	}
	memset(long_path, 'x', sizeof(long_path) - 1);
	memcpy(long_path, "unix:", 5);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_false(mp_address_parse(long_path, &address, err, sizeof(err)));
	assert_true(mp_address_parse("127.0.0.1:80", &address, err, sizeof(err)));
	assert_int_equal(address.count, 1);
	assert_true(mp_address_parse("[::1]:80", &address, err, sizeof(err)));
	assert_int_equal(address.at[0].address.ss_family, AF_INET6);
	assert_true(mp_address_parse("*:0", &address, err, sizeof(err)));
	assert_true(mp_address_split("[::1]:80", host, sizeof(host), &port));
	assert_string_equal(host, "::1");
	assert_int_equal(port, 80);
	assert_true(mp_address_split("unix:/a/b", host, sizeof(host), &port));
	assert_string_equal(host, "/a/b");
	assert_int_equal(port, 0);
}

/* Connects to what listens at text; returns the accepted side. */
static int meet(const char *text, int listener, int *client)
{
	struct mp_address address;
	char err[256];
	uint64_t deadline_ms = test_now_ms() + TEST_DEADLINE_MS;
	int server = -1;

	assert_true(mp_address_parse(text, &address, err, sizeof(err)));
	*client = mp_connect_begin(&address, 0);
	assert_true(*client >= 0);
	while (server < 0 && test_now_ms() < deadline_ms)
		server = mp_accept(listener);
	assert_true(server >= 0);
	assert_int_equal(mp_connect_result(*client), 0);
	return server;
}

static int option_of(int fd, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, option, &value, &len), 0);
	return value;
}

static void test_listening_over_tcp(void **state)
{
	char err[256], text[64];
	int listener = mp_listen("127.0.0.1:0", 8, err, sizeof(err));
	int port = mp_local_port(listener), client, server;

	(void)state;
	assert_true(listener >= 0 && port > 0);
	assert_int_equal(mp_accept(listener), -1);
	assert_int_equal(errno, EAGAIN);
	snprintf(text, sizeof(text), "127.0.0.1:%d", port);
	server = meet(text, listener, &client);
	assert_int_equal(option_of(server, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option_of(server, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(option_of(server, IPPROTO_TCP, TCP_KEEPIDLE),
			 option_of(client, IPPROTO_TCP, TCP_KEEPIDLE));
	assert_int_equal(mp_listen(text, 8, err, sizeof(err)), -1);
	assert_non_null(strstr(err, text));
	assert_non_null(strstr(err, "in use"));
	close(server);
	close(client);
	close(listener);
}

static void test_listening_over_unix(void **state)
{
	char err[256], text[128], dir[TEST_DIR_BYTES];
	int listener, client, server;

	(void)state;
	test_dir_make(dir);
	snprintf(text, sizeof(text), "unix:%s/socket", dir);
	listener = mp_listen(text, 8, err, sizeof(err));
	assert_true(listener >= 0);
	server = meet(text, listener, &client);
	close(server);
	close(client);
	/* Somebody answers there: it is not taken from him. */
	assert_int_equal(mp_listen(text, 8, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "in use"));
	close(listener);
	/* Nobody does, although the file is still there. */
	listener = mp_listen(text, 8, err, sizeof(err));
	assert_true(listener >= 0);
	server = meet(text, listener, &client);
	close(server);
	close(client);
	close(listener);
	test_dir_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_come_out_in_order),
		cmocka_unit_test(test_memory_is_kept_and_given_back),
		cmocka_unit_test(test_a_lasting_rest_does_not_grow),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_fifo),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_listening_over_tcp),
		cmocka_unit_test(test_listening_over_unix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
