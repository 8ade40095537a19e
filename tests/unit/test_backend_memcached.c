/*
 * test_backend_memcached.c - the Memcached adapter against a real memcached.
 * Every test has a directory and a server of its own.
 */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend_base.h"
#include "backend_driver.h"
#include "net.h"

enum { BIG_BYTES = 8 << 20 };

static void reopen(struct test_backend_fixture *f)
{
	test_backend_open(&f->t, mp_backend_memcached_open, f->server.address);
}

/* A server, and the adapter connected to it: READY with nothing applied. */
static struct test_backend *start(struct test_backend_fixture *f, const char *options)
{
	test_memcached_start(&f->server, f->dir, options);
	reopen(f);
	test_until_ready(&f->t, 0);
	return &f->t;
}

static void apply(struct test_backend *t, uint64_t lsn, const char *wire, int owner)
{
	test_begin(t, lsn, true);
	test_write(t, wire, owner);
	test_end(t);
}

static void expect_item(struct test_backend_fixture *f, const char *key, const char *reply)
{
	char request[128];

	snprintf(request, sizeof(request), "get %s\r\n", key);
	assert_string_equal(test_exchange(&f->server, request, "END\r\n"), reply);
}

static void expect_stored(struct test_backend_fixture *f, uint64_t lsn)
{
	char value[64], reply[160];

	snprintf(value, sizeof(value), "v2 %016x %016x %llu", TEST_GROUP, TEST_ERA,
		 (unsigned long long)lsn);
	snprintf(reply, sizeof(reply), "VALUE __muproxy__:applied 0 %zu\r\n%s\r\nEND\r\n",
		 strlen(value), value);
	expect_item(f, "__muproxy__:applied", reply);
}

/* --------------------------------------------------------------- what is applied */

static void test_replies_come_in_order(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_read(t, "get a\r\n", 1);
	test_begin(t, 10, true);
	test_write(t, "set a 5 0 3\r\nabc\r\n", 2);
	test_read(t, "get a b a\r\n", 3);
	test_write(t, "delete b\r\n", 4);
	test_write(t, "set b 0 0 0\r\n\r\n", 0);
	test_write(t, "touch a 0\r\n", 5);
	test_write(t, "gat 0 a\r\n", 6);
	test_end(t);
	test_read(t, "version\r\n", 7);
	test_read(t, "mg a v\r\n", 8);
	test_read(t, "mg nothing v\r\n", 9);
	test_read(t, "nonsense\r\n", 10);
	test_read(t, "get b\r\n", 11);
	test_until_answers(t, 11);
	test_expect(t, "1:END 2:STORED 3:VALUE a 5 3 abc VALUE a 5 3 abc END 4:NOT_FOUND "
		       "5:TOUCHED 6:VALUE a 5 3 abc END 7:VERSION 1.6.18 8:VA 3 abc 9:EN "
		       "10:ERROR 11:VALUE b 0 0  END ");
	test_read(t, "stats\r\n", 1);
	test_until_answers(t, 1);
	assert_true(t->reply_bytes > 1000);
	test_backend_close(t);
}

static void test_lsn_is_stored_lazily(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	apply(t, 64, "set a 0 0 1\r\n1\r\n", 1);
	test_skip(t, 128);
	test_until_answers(t, 1);
	assert_int_equal(t->backend->applied_lsn, 128);
	assert_int_equal(t->durable_lsn, 0);
	test_until(t, t->durable_lsn == 128);
	expect_stored(f, 128);
	test_backend_close(t);
}

static void test_big_values(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "-m 256 -I 16m");
	const struct mp_base *base = (const struct mp_base *)t->backend;
	char head[64], *wire = malloc(BIG_BYTES + 64);
	int n = snprintf(head, sizeof(head), "set b 0 0 %d\r\n", BIG_BYTES), i;

	assert_non_null(wire);
	memcpy(wire, head, (size_t)n);
	for (i = 0; i < BIG_BYTES; i++)
		wire[n + i] = (char)('a' + i % 23);
	memcpy(wire + n + BIG_BYTES, "\r\n", 2);
	test_begin(t, 10, true);
	t->backend->ops->write(t->backend, 0, (struct mp_slice){wire, (size_t)n + BIG_BYTES + 2}, 1,
			       (void *)1);
	test_end(t);
	free(wire);
	test_read(t, "get b\r\n", 2);
	test_read(t, "get a\r\n", 3);
	test_until_answers(t, 3);
	test_expect(t, "1:STORED 2:<8388634 bytes> 3:END ");
	assert_true(base->wire.in.cap <= 1 << 20);
	test_backend_close(t);
}

/* How many lines are under way. */
static size_t lines(const struct test_backend *t)
{
	return ((const struct mp_base *)t->backend)->slots.count;
}

/* Everybody gets what he asked for, though it is asked for with one line. */
static void test_gets_share_a_line(void **state)
{
	static const char *const keys[] = {"a", "none", "a", "big", "b", "neither"};
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	char *wire = malloc(100064), line[32];
	int n = snprintf(wire, 100064, "set big 0 0 100000\r\n");

	assert_non_null(wire);
	memset(wire + n, 'x', 100000);
	memcpy(wire + n + 100000, "\r\n", 3);
	apply(t, 10, wire, 0);
	free(wire);
	apply(t, 20, "set a 5 0 3\r\nabc\r\n", 0);
	apply(t, 30, "set b 0 0 0\r\n\r\n", 1);
	test_until_answers(t, 1);
	test_expect(t, "1:STORED ");
	for (int i = 0; i < 6; i++) {
		snprintf(line, sizeof(line), "get %s\r\n", keys[i]);
		test_read(t, line, i + 1);
	}
	assert_int_equal(lines(t), 1);
	test_read(t, "get a b\r\n", 7);
	test_read(t, "get a\r\n", 8);
	test_until_answers(t, 8);
	test_expect(t, "1:VALUE a 5 3 abc END 2:END 3:VALUE a 5 3 abc END 4:<100027 bytes> "
		       "5:VALUE b 0 0  END 6:END 7:VALUE a 5 3 abc VALUE b 0 0  END "
		       "8:VALUE a 5 3 abc END ");
	test_backend_close(t);
}

static void test_gets_keep_their_place(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_read(t, "get a\r\n", 1);
	apply(t, 10, "set a 0 0 3\r\nnew\r\n", 2);
	test_read(t, "get a\r\n", 3);
	test_read(t, "get b\r\n", 4);
	assert_int_equal(lines(t), 3);
	t->backend->ops->flush(t->backend);
	test_read(t, "get a\r\n", 5);
	assert_int_equal(lines(t), 4);
	test_until_answers(t, 5);
	test_expect(t, "1:END 2:STORED 3:VALUE a 0 3 new END 4:END 5:VALUE a 0 3 new END ");
	test_backend_close(t);
}

/* A line takes so many; and who is still to be answered when the server goes is told. */
static void test_gets_are_lost(void **state)
{
	enum { READS = 40 };
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	char expected[READS * 8];
	size_t len = 0;

	test_server_stop(&f->server);
	for (int i = 1; i <= READS; i++) {
		test_read(t, "get a\r\n", i);
		len += (size_t)snprintf(expected + len, sizeof(expected) - len, "%d:lost ", i);
	}
	assert_int_equal(lines(t), 2);
	test_backend_pass(t);
	assert_int_equal(kill(f->server.pid, SIGKILL), 0);
	test_until_answers(t, READS);
	test_expect(t, expected);
	test_backend_close(t);
}

/* flush_all takes the item with the LSN as well. */
static void test_flush_all_keeps_the_lsn(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	apply(t, 64, "set a 0 0 1\r\n1\r\n", 1);
	test_until_answers(t, 1);
	test_until(t, t->durable_lsn == 64);
	apply(t, 128, "flush_all\r\n", 2);
	test_until_answers(t, 2);
	/* At once, not some time later. */
	assert_int_equal(((struct mp_base *)t->backend)->stored_lsn, 128);
	test_until(t, t->durable_lsn == 128);
	expect_stored(f, 128);
	expect_item(f, "a", "END\r\n");
	test_backend_close(t);
	reopen(f);
	test_until_ready(t, 128);
	test_backend_close(t);
}

/* -------------------------------------------------------------- ends of either side */

static void test_server_restarts(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	apply(t, 64, "set a 0 0 1\r\n1\r\n", 1);
	test_until_answers(t, 1);
	test_server_stop(&f->server);
	apply(t, 128, "set a 0 0 1\r\n2\r\n", 2);
	test_read(t, "get a\r\n", 3);
	t->backend->ops->flush(t->backend);
	test_server_kill(&f->server, SIGKILL);
	test_until_answers(t, 3);
	test_expect(t, "1:STORED 2:lost 3:lost ");
	test_until(t, t->state == MP_BACKEND_DISCONNECTED);
	test_memcached_start(&f->server, f->dir, "");
	test_until_ready(t, 0);
	test_backend_close(t);
}

static void test_proxy_restarts(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	int fd;

	apply(t, 64, "set a 0 0 1\r\n1\r\n", 1);
	test_until_answers(t, 1);
	test_until(t, t->durable_lsn == 64);
	test_backend_close(t);
	reopen(f);
	test_until_ready(t, 64);
	test_backend_close(t);
	/* The same while somebody else is connected. */
	fd = test_connect(&f->server);
	assert_true(fd >= 0);
	reopen(f);
	test_until_ready(t, 64);
	test_backend_close(t);
	close(fd);
}

/*
 * An earlier connection of ours still has sets for the server to execute: none
 * may come after what the new one sends. So as long as it writes, no READY.
 */
static void test_bytes_left_behind_are_waited_for(void **state)
{
	static const char request[] = "set a 0 0 3\r\nold\r\n";
	struct test_backend_fixture *f = *state;
	uint64_t start_ms, written_ms, longest_gap_ms = 0;
	char reply[64];
	int fd;

	test_memcached_start(&f->server, f->dir, "");
	test_exchange(
		&f->server,
		"set __muproxy__:applied 0 0 38\r\nv2 0000000000001234 0000000000000077 5\r\n",
		"\n");
	fd = test_connect(&f->server);
	reopen(f);
	start_ms = written_ms = test_now_ms();
	while (test_now_ms() - start_ms < 200) {
		uint64_t now_ms = test_now_ms();

		assert_int_equal(send(fd, request, sizeof(request) - 1, 0), sizeof(request) - 1);
		assert_int_equal(recv(fd, reply, sizeof(reply), 0), strlen("STORED\r\n"));
		if (now_ms - written_ms > longest_gap_ms)
			longest_gap_ms = now_ms - written_ms;
		written_ms = now_ms;
		test_backend_pass(&f->t);
	}
	/* On a machine that left us standing for that long it was a fair guess. */
	if (longest_gap_ms < 40)
		assert_int_equal(f->t.states, 0);
	test_until_ready(&f->t, 5);
	test_backend_close(&f->t);
	close(fd);
}

/* ------------------------------------------------------------------ who it may be */

static void test_foreign_items_are_refused(void **state)
{
	struct test_backend_fixture *f = *state;

	test_memcached_start(&f->server, f->dir, "");
	test_exchange(&f->server, "set somebody 0 0 5\r\nelses\r\n", "\n");
	reopen(f);
	test_until_failed(&f->t, "not of this group's log");
	test_exchange(&f->server, "delete somebody\r\n", "\n");
	test_until_ready(&f->t, 0); /* asked again, without being told to */
	test_backend_close(&f->t);
}

static void test_other_group_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	apply(t, 64, "set a 0 0 1\r\n1\r\n", 1);
	test_until_answers(t, 1);
	test_until(t, t->durable_lsn == 64);
	test_backend_close(t);
	test_backend_open_with(t, mp_backend_memcached_open, f->server.address, NULL,
			       TEST_GROUP + 1);
	test_until_failed(t, "another group");
	test_backend_close(t);
	test_exchange(&f->server, "set __muproxy__:applied 0 0 2\r\n17\r\n", "\n");
	reopen(f);
	test_until_failed(t, "is not ours");
	test_backend_close(t);
}

/* ---------------------------------------------------------------- memory, and refusals */

/* "set key 0 0 bytes" with a value of that many; to be freed. */
static char *filled_set(const char *key, int bytes)
{
	char *wire = malloc((size_t)bytes + 64);
	int n;

	assert_non_null(wire);
	n = snprintf(wire, 64, "set %s 0 0 %d\r\n", key, bytes);
	memset(wire + n, 'x', (size_t)bytes);
	memcpy(wire + n + bytes, "\r\n", 3);
	return wire;
}

/*
 * A server that is full, and may not evict. With values of several chunks it
 * runs out of memory while it reads one, and then keeps the old value itself.
 */
static void test_no_memory_is_only_a_miss(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "-m 16 -M -I 8m");
	char *big = filled_set("k", 1300000);
	uint64_t lsn = 0;
	int i;

	for (i = 0; i < 16; i++) {
		char key[16], *fill;

		snprintf(key, sizeof(key), "fill%d", i);
		fill = filled_set(key, 1300000);
		apply(t, ++lsn, fill, 0);
		free(fill);
	}
	apply(t, ++lsn, "set k 0 0 3\r\nold\r\n", 1);
	apply(t, ++lsn, big, 2);
	free(big);
	test_until_answers(t, 2);
	assert_non_null(strstr(t->transcript, "1:STORED 2:SERVER_ERROR "));
	test_until(t, t->durable_lsn == lsn);
	assert_int_equal(t->state, MP_BACKEND_READY);
	expect_item(f, "k", "END\r\n");
	test_backend_close(t);
}

/* Of another kind of server than there is: takes what comes, and answers as it is told to. */
static int fake_server(struct test_backend_fixture *f, int listener)
{
	static const char stats[] = "STAT pid 1\r\nSTAT curr_connections 1\r\nEND\r\n";
	static const char settings[] = "STAT item_size_max 1048576\r\nEND\r\n";
	char request[256];
	int fd = -1;

	test_until(&f->t, fd >= 0 || (fd = mp_accept(listener)) >= 0);
	test_until(&f->t, recv(fd, request, sizeof(request), 0) > 0);
	assert_int_equal(send(fd, stats, sizeof(stats) - 1, 0), sizeof(stats) - 1);
	test_until(&f->t, recv(fd, request, sizeof(request), 0) > 0);
	assert_int_equal(send(fd, settings, sizeof(settings) - 1, 0), sizeof(settings) - 1);
	test_until(&f->t, recv(fd, request, sizeof(request), 0) > 0);
	assert_int_equal(send(fd, "END\r\n", 5, 0), 5);
	test_until(&f->t, recv(fd, request, sizeof(request), 0) > 0); /* our mark */
	assert_int_equal(send(fd, "STORED\r\n", 8, 0), 8);
	return fd;
}

static void test_failed_delete_fails_the_backend(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = &f->t;
	char address[128], err[256];
	int listener, fd;

	snprintf(address, sizeof(address), "unix:%s/fake.sock", f->dir);
	listener = mp_listen(address, 8, err, sizeof(err));
	assert_true(listener >= 0);
	test_backend_open(t, mp_backend_memcached_open, address);
	fd = fake_server(f, listener);
	test_until_ready(t, 0);
	apply(t, 64, "delete a\r\n", 1);
	apply(t, 128, "delete b\r\n", 2);
	test_read(t, "get a\r\n", 3);
	t->backend->ops->flush(t->backend);
	assert_int_equal(send(fd, "DELETED\r\nSERVER_ERROR worn out\r\n", 32, 0), 32);
	test_until_failed(t, "LSN 128, or one given with it: SERVER_ERROR worn out");
	test_expect(t, "1:DELETED 2:lost 3:lost ");
	/* We wait for it to have finished before we come again. */
	assert_int_equal(((struct mp_base *)t->backend)->wire.state, MP_WIRE_LINGERING);
	close(fd);
	fd = fake_server(f, listener);
	test_until_ready(t, 0);
	test_backend_close(t);
	close(fd);
	close(listener);
}

static void test_emptied(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	apply(t, 64, "set old 0 0 1\r\n1\r\n", 1);
	test_until_answers(t, 1);
	/* Where it is to stand then may also be before what it has applied: of another log. */
	mp_backend_memcached_empty(t->backend, TEST_ERA, 32, false);
	test_until(t, t->backend->state != MP_BACKEND_READY);
	test_until_ready(t, 32);
	expect_item(f, "old", "END\r\n");
	apply(t, 64, "set new 0 0 1\r\n2\r\n", 2);
	test_until_answers(t, 2);
	test_until(t, t->durable_lsn == 64);
	expect_item(f, "new", "VALUE new 0 1\r\n2\r\nEND\r\n");
	/* Once only: who comes next finds it as it is. */
	test_backend_close(t);
	reopen(f);
	test_until_ready(t, 64);
	expect_item(f, "new", "VALUE new 0 1\r\n2\r\nEND\r\n");
	test_backend_close(t);
}

/* It is to be given more: remembered until that is done, or, behind no LSN, thrown away. */
static void test_partial(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	mp_backend_memcached_empty(t->backend, TEST_ERA, 32, true);
	test_until(t, t->backend->state != MP_BACKEND_READY);
	test_until_ready(t, 32);
	apply(t, 64, "set some 0 0 1\r\n1\r\n", 1);
	test_until_answers(t, 1);
	test_until(t, t->durable_lsn == 64);
	test_backend_close(t);
	reopen(f);
	test_until_ready(t, 64);
	assert_true(mp_backend_memcached_is_partial(t->backend));
	mp_backend_memcached_be_whole(t->backend);
	assert_false(mp_backend_memcached_is_partial(t->backend));
	test_read(t, "mn\r\n", 2); /* it is stored by then */
	t->backend->ops->flush(t->backend);
	test_until_answers(t, 1);
	test_backend_close(t);
	reopen(f);
	test_until_ready(t, 64);
	assert_false(mp_backend_memcached_is_partial(t->backend));
	expect_item(f, "some", "VALUE some 0 1\r\n1\r\nEND\r\n");
	mp_backend_memcached_empty(t->backend, 0, 0, true);
	test_until(t, t->backend->state != MP_BACKEND_READY);
	test_until_ready(t, 0);
	mp_backend_memcached_say(
		t->backend, memcached_next_command(mp_slice_of("ms half 1 ME F0 T0\r\n1\r\n")));
	test_read(t, "mn\r\n", 3);
	t->backend->ops->flush(t->backend);
	test_until_answers(t, 1);
	expect_item(f, "half", "VALUE half 0 1\r\n1\r\nEND\r\n");
	test_backend_close(t);
	reopen(f);
	test_until_ready(t, 0);
	assert_false(mp_backend_memcached_is_partial(t->backend));
	expect_item(f, "half", "END\r\n");
	test_backend_close(t);
}

static void test_moved(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	apply(t, 64, "set kept 0 0 1\r\n1\r\n", 1);
	test_until_answers(t, 1);
	mp_backend_memcached_move(t->backend, TEST_ERA, 32);
	test_until(t, t->backend->state != MP_BACKEND_READY);
	test_until_ready(t, 32);
	expect_item(f, "kept", "VALUE kept 0 1\r\n1\r\nEND\r\n");
	test_backend_close(t);
}

static void test_what_cannot_be_emptied_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "-F");

	apply(t, 64, "set old 0 0 1\r\n1\r\n", 1);
	test_until_answers(t, 1);
	mp_backend_memcached_empty(t->backend, TEST_ERA, 128, false);
	test_until_failed(t, "it cannot be emptied");
	test_backend_close(t);
}

static void test_without_versions_it_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;

	test_memcached_start(&f->server, f->dir, "-C");
	reopen(f);
	test_until_failed(&f->t, "started with -C");
	test_backend_close(&f->t);
}

static void test_no_memcached_at_all(void **state)
{
	struct test_backend_fixture *f = *state;

	test_redis_start(&f->server, f->dir, "");
	reopen(f);
	test_until_failed(&f->t, "does not speak Memcached's protocol");
	test_backend_close(&f->t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_backend_setup, test_backend_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_replies_come_in_order),
		TEST(test_lsn_is_stored_lazily),
		TEST(test_big_values),
		TEST(test_gets_share_a_line),
		TEST(test_gets_keep_their_place),
		TEST(test_gets_are_lost),
		TEST(test_flush_all_keeps_the_lsn),
		TEST(test_server_restarts),
		TEST(test_proxy_restarts),
		TEST(test_bytes_left_behind_are_waited_for),
		TEST(test_foreign_items_are_refused),
		TEST(test_other_group_is_refused),
		TEST(test_no_memory_is_only_a_miss),
		TEST(test_failed_delete_fails_the_backend),
		TEST(test_emptied),
		TEST(test_partial),
		TEST(test_moved),
		TEST(test_what_cannot_be_emptied_is_refused),
		TEST(test_without_versions_it_is_refused),
		TEST(test_no_memcached_at_all),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
