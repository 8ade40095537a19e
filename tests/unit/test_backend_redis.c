/*
 * test_backend_redis.c - the Redis adapter against a real redis-server: what is
 * applied, what is answered, what survives the end of either side. Every test
 * has a directory and a server of its own.
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

#include "backend_driver.h"
#include "net.h"
#include "redis.h"

enum { BIG_BYTES = 64 << 20 };

/* A server, and the adapter connected to it: READY with nothing applied. */
static struct test_backend *start(struct test_backend_fixture *f, const char *options)
{
	test_redis_start(&f->server, f->dir, options);
	test_backend_open(&f->t, mp_backend_redis_open, f->server.address);
	test_until_ready(&f->t, 0);
	return &f->t;
}

/* Asks the server itself; database 15 is the hidden one. */
static void expect_server(struct test_backend_fixture *f, int database, const char *command,
			  const char *reply)
{
	char request[512];
	const char *answer;

	snprintf(request, sizeof(request), "SELECT %d\r\n%s\r\nECHO end\r\n", database, command);
	answer = test_exchange(&f->server, request, "$3\r\nend\r\n");
	assert_memory_equal(answer, "+OK\r\n", 5);
	answer += 5;
	if (strncmp(answer, reply, strlen(reply)) != 0)
		fail_msg("'%s' in database %d is '%s', not '%s'", command, database, answer, reply);
}

static void expect_stored(struct test_backend_fixture *f, uint64_t lsn)
{
	char reply[80];

	snprintf(reply, sizeof(reply), "$57\r\nv2 %016x %016x %020llu\r\n", TEST_GROUP,
		 lsn ? TEST_ERA : 0, (unsigned long long)lsn);
	expect_server(f, 15, "GET muproxy:applied", reply);
}

/* ---------------------------------------------------------------- what is applied */

static void test_unit_replies_are_spliced(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	assert_int_equal(mp_backend_redis_databases(t->backend), 15);
	test_begin(t, 100, false);
	test_redis_write(t, 0, "INCR n", 1);
	test_redis_read(t, 0, "GET n", 2);
	test_redis_write(t, 3, "RPUSH l a b c", 3);
	test_redis_write(t, 3, "INCR l", 4);
	test_redis_read(t, 3, "LRANGE l 0 -1", 5);
	test_redis_write(t, 0, "INCR n", 0); /* a follower's: nobody waits for it */
	test_redis_read(t, 0, "GET n", 6);
	test_end(t);
	test_redis_read(t, 0, "GET nothing", 7);
	test_until_answers(t, 7);
	test_expect(t, "1::1 2:$1 1 3::3 "
		       "4:-WRONGTYPE Operation against a key holding the wrong kind of value "
		       "5:*3 $1 a $1 b $1 c 6:$1 2 7:$-1 ");
	assert_int_equal(t->backend->applied_lsn, 100);
	assert_int_equal(t->durable_lsn, 100);
	expect_stored(f, 100);
	expect_server(f, 15, "DBSIZE", ":1\r\n");
	expect_server(f, 3, "DBSIZE", ":1\r\n");
	expect_server(f, 0, "DBSIZE", ":1\r\n");
	test_backend_close(t);
}

/* Units in a row take turns in where they store the LSN; reads come between some. */
static void test_units_in_a_row(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	int i;

	for (i = 1; i <= 39; i++) {
		test_begin(t, (uint64_t)i, i % 5 == 0);
		test_redis_write(t, (uint32_t)i % 3, i % 5 == 0 ? "SET s x" : "INCR n", i);
		test_end(t);
		if (i % 4 == 0)
			test_redis_read(t, 1, "GET n", 1000 + i);
	}
	test_until_answers(t, 39 + 9);
	/* Database 1 has every third unit from 1 on, but for 10 and 25, which are blind. */
	assert_non_null(strstr(t->transcript, "34::10 35:+OK 36::10 1036:$2 10 37::11 38::10 "
					      "39::11 "));
	assert_int_equal(t->durable_lsn, 39);
	expect_stored(f, 39);
	expect_server(f, 15, "DBSIZE", ":1\r\n");
	expect_server(f, 1, "GET n", "$2\r\n11\r\n");
	test_backend_close(t);
}

/* What is much does not wait for the flush, be it blind or within a transaction. */
static void test_much_is_sent_at_once(void **state)
{
	enum { UNITS = 8, VALUE_BYTES = 20 << 10 };
	static char wire[VALUE_BYTES + 100];
	size_t len = (size_t)sprintf(wire, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", VALUE_BYTES);
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	memset(wire + len, 'v', VALUE_BYTES);
	memcpy(wire + len + VALUE_BYTES, "\r\n", 2);
	test_redis_apply(t, 1, false, "SET k v", 1); /* by then the command is known */
	test_until_answers(t, 1);
	for (int i = 0; i < 2 * UNITS; i++) {
		test_begin(t, (uint64_t)(2 + i), i < UNITS);
		test_write(t, wire, 2 + i);
		test_end(t);
	}
	/* Four units are much, and that they come in fours leaves none behind. */
	test_until(t, t->answers == 1 + 2 * UNITS);
	test_backend_close(t);
}

/* How often the server has executed a command. */
static unsigned calls_of(struct test_backend_fixture *f, const char *command)
{
	const char *stats =
		test_exchange(&f->server, "INFO commandstats\r\nECHO end\r\n", "$3\r\nend\r\n");
	char field[64];
	const char *at;

	snprintf(field, sizeof(field), "cmdstat_%s:calls=", command);
	at = strstr(stats, field);
	return at ? (unsigned)strtoul(at + strlen(field), NULL, 10) : 0;
}

/* Units up to a flush() share a transaction, which stores the last one's LSN. */
static void test_units_are_joined(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	int i;

	for (i = 1; i <= 2; i++) { /* by then the commands are known */
		test_redis_apply(t, (uint64_t)i, false, "INCR n", i);
		test_until_answers(t, (unsigned)i);
	}
	assert_int_equal(calls_of(f, "exec"), 2);
	for (i = 3; i <= 12; i++) {
		test_begin(t, (uint64_t)i, i == 7);
		test_redis_write(t, (uint32_t)i % 3, i == 7 ? "SET s x" : "INCR n", i);
		test_end(t);
	}
	test_skip(t, 13);
	test_until_answers(t, 12);
	assert_int_equal(calls_of(f, "exec"), 3);
	assert_int_equal(t->durable_lsn, 13);
	expect_stored(f, 13);
	expect_server(f, 0, "GET n", "$1\r\n6\r\n");
	/* A read between units is not made part of what surrounds it. */
	test_redis_apply(t, 20, false, "INCR n", 13);
	test_redis_read(t, 0, "GET n", 14);
	test_redis_apply(t, 21, false, "INCR n", 15);
	test_until_answers(t, 15);
	assert_non_null(strstr(t->transcript, "13::7 14:$1 7 15::8 "));
	assert_int_equal(calls_of(f, "exec"), 5);
	expect_stored(f, 21);
	test_backend_close(t);
}

/* No more join than a server should do in one go, in number and in size. */
static void test_joined_units_are_bounded(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	char large[3900];
	int i, before;

	test_redis_apply(t, 1, false, "INCR n", 1);
	test_until_answers(t, 1);
	for (i = 2; i <= 1001; i++)
		test_redis_apply(t, (uint64_t)i, false, "INCR n", i);
	test_until_answers(t, 1001);
	assert_in_range(calls_of(f, "exec"), 1 + 4, 1 + 8);
	expect_stored(f, 1001);
	test_redis_apply(t, 1002, false, "APPEND a x", 1002);
	test_until_answers(t, 1002);
	snprintf(large, sizeof(large), "APPEND a %0*d", (int)sizeof(large) - 10, 1);
	before = (int)calls_of(f, "exec");
	for (i = 1003; i <= 1042; i++)
		test_redis_apply(t, (uint64_t)i, false, large, i);
	test_until_answers(t, 1042);
	assert_int_equal(calls_of(f, "exec"), before + 3); /* 17 of them are 64 KiB */
	test_backend_close(t);
}

/* Answers that nobody waits for wake nobody, but are not forgotten. */
static void test_answers_that_nobody_awaits(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	const struct mp_backend_ops *ops = t->backend->ops;
	uint64_t deadline_ms = test_now_ms() + TEST_DEADLINE_MS;

	test_redis_apply(t, 10, false, "INCR n", 0);
	ops->flush(t->backend);
	ops->attend(t->backend, false);
	while (t->durable_lsn < 10 && test_now_ms() < deadline_ms)
		ops->receive(t->backend); /* without the loop, which would have been woken */
	assert_int_equal(t->durable_lsn, 10);
	test_redis_apply(t, 20, false, "INCR n", 0);
	ops->flush(t->backend);
	ops->attend(t->backend, false);
	while (t->durable_lsn < 20 && test_now_ms() < deadline_ms) {
		event_base_loop(t->base, EVLOOP_ONCE);
		ops->attend(t->backend, false); /* in every turn, as the proxy does */
	}
	assert_int_equal(t->durable_lsn, 20);
	/* Somebody comes to wait while it rests. */
	test_redis_apply(t, 30, false, "INCR n", 0);
	ops->flush(t->backend);
	ops->attend(t->backend, false);
	test_redis_read(t, 0, "GET n", 1);
	ops->flush(t->backend);
	ops->attend(t->backend, true);
	test_until_answers(t, 1);
	test_expect(t, "1:$1 3 ");
	/* The end of the server is heard of, too. */
	test_redis_apply(t, 40, false, "INCR n", 0);
	ops->flush(t->backend);
	ops->attend(t->backend, false);
	test_server_kill(&f->server, SIGKILL);
	test_until(t, t->state == MP_BACKEND_DISCONNECTED);
	test_backend_close(t);
}

/* Of a record of several commands the last one's reply is the client's. */
static void test_several_commands_in_a_write(void **state)
{
	static const char flush_two[] = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$7\r\nFLUSHDB\r\n"
					"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n*1\r\n$7\r\nFLUSHDB\r\n";
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	int blind;

	for (blind = 0; blind <= 1; blind++) {
		test_begin(t, 10 + (uint64_t)blind * 10, blind);
		test_redis_write(t, 0, "SET a 1", 1);
		test_redis_write(t, 1, "SET b 1", 2);
		t->backend->ops->write(t->backend, 0,
				       (struct mp_slice){flush_two, sizeof(flush_two) - 1}, 4,
				       (void *)3);
		test_redis_read(t, 0, "DBSIZE", 4);
		test_redis_write(t, 0, "SET c 1", 5);
		test_end(t);
		test_until_answers(t, 5);
		test_expect(t, "1:+OK 2:+OK 3:+OK 4::0 5:+OK ");
	}
	expect_server(f, 0, "DBSIZE", ":1\r\n");
	expect_server(f, 1, "DBSIZE", ":0\r\n");
	test_backend_close(t);
}

/* The LSN of blind units is stored a little later, of others at once. */
static void test_blind_units_are_stored_lazily(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_redis_apply(t, 64, true, "SET a 1", 1);
	test_redis_apply(t, 128, true, "DEL a", 2);
	test_until_answers(t, 2);
	test_expect(t, "1:+OK 2::1 ");
	assert_int_equal(t->backend->applied_lsn, 128);
	assert_int_equal(t->durable_lsn, 0);
	expect_stored(f, 0); /* as an empty server was marked ours */
	test_until(t, t->durable_lsn == 128);
	expect_stored(f, 128);

	test_redis_apply(t, 192, true, "SET a 1", 1);
	test_redis_apply(t, 256, false, "INCR a", 2);
	test_until_answers(t, 2);
	assert_int_equal(t->durable_lsn, 256);
	expect_stored(f, 256);
	test_backend_close(t);
}

/* Gone before the LSN of a first, blind, unit was stored: the data is ours all the same. */
static void test_empty_server_is_ours_at_once(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_redis_apply(t, 64, true, "SET a 1", 1);
	test_until_answers(t, 1);
	assert_int_equal(t->durable_lsn, 0);
	test_backend_close(t);
	test_backend_open(t, mp_backend_redis_open, f->server.address);
	test_until_ready(t, 0);
	test_backend_close(t);
}

/* What is stored was answered: had what is still under way been refused, it would be a lie. */
static void test_only_what_was_answered_is_stored(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	const struct mp_base *base = (const struct mp_base *)t->backend;

	test_redis_apply(t, 64, true, "SET a 1", 1);
	test_until_answers(t, 1);
	test_server_stop(&f->server);
	test_redis_apply(t, 128, true, "SET a 2", 2);
	t->backend->ops->flush(t->backend);
	test_until(t, base->slots.count > 1); /* the LSN has followed */
	assert_int_equal(((struct mp_slot *)mp_fifo_tail(&base->slots))->stored_lsn, 64);
	kill(f->server.pid, SIGCONT);
	test_until(t, t->durable_lsn == 128);
	expect_stored(f, 128);
	test_backend_close(t);
}

/* Thousands of blind units do not wait for the timer. */
static void test_many_blind_units_are_stored(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	uint64_t lsn = 0, started_ms = test_now_ms();

	while (lsn < 3 * 4096) {
		test_redis_apply(t, ++lsn, true, "SET a 1", 0);
		t->backend->ops->flush(t->backend);
		if (lsn % 512 == 0)
			test_until(t, t->backend->ops->backlog(t->backend) < 4096);
	}
	test_until(t, t->backend->applied_lsn == lsn);
	/* Without the count only the 50 ms would have done it; a slow machine proves nothing. */
	if (test_now_ms() - started_ms < 50)
		assert_true(t->durable_lsn > 0);
	test_until(t, t->durable_lsn == lsn);
	expect_stored(f, lsn);
	test_backend_close(t);
}

static void test_skipped_entries_move_the_lsn(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_skip(t, 50);
	assert_int_equal(t->backend->applied_lsn, 50);
	test_redis_apply(t, 60, false, "INCR a", 1);
	test_skip(t, 70);
	assert_int_equal(t->backend->applied_lsn, 50);
	test_until_answers(t, 1);
	assert_int_equal(t->backend->applied_lsn, 70);
	assert_int_equal(t->durable_lsn, 60);
	test_begin(t, 80, false); /* a unit of nothing */
	test_end(t);
	test_until(t, t->durable_lsn == 80);
	expect_stored(f, 80);
	test_backend_close(t);
}

/* ------------------------------------------------------------------------ sizes */

static char *big_set(size_t *bytes, uint64_t *reply_hash)
{
	char head[64], *wire;
	int n = snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$%d\r\n", BIG_BYTES);
	size_t i;

	*bytes = (size_t)n + BIG_BYTES + 2;
	wire = malloc(*bytes);
	assert_non_null(wire);
	memcpy(wire, head, (size_t)n);
	for (i = 0; i < BIG_BYTES; i++)
		wire[(size_t)n + i] = (char)(i * 2654435761u >> 13);
	memcpy(wire + n + BIG_BYTES, "\r\n", 2);
	n = snprintf(head, sizeof(head), "$%d\r\n", BIG_BYTES);
	*reply_hash = test_hash(TEST_HASH_START, head, (size_t)n);
	*reply_hash = test_hash(*reply_hash, wire + *bytes - BIG_BYTES - 2, BIG_BYTES + 2);
	return wire;
}

static void test_big_values(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	const struct mp_base *base = (const struct mp_base *)t->backend;
	uint64_t hash;
	size_t bytes;
	char *wire = big_set(&bytes, &hash);
	int blind;

	for (blind = 0; blind <= 1; blind++) {
		test_begin(t, 10 + (uint64_t)blind * 10, blind);
		test_redis_write(t, 0, "SET small 1", 1);
		t->backend->ops->write(t->backend, 0, (struct mp_slice){wire, bytes}, 1, (void *)2);
		/* Given without being kept: as far as it was not sent, it was copied. */
		test_redis_read(t, 0, "GET b", 3);
		test_end(t);
		test_redis_read(t, 0, "GET b", 4);
		test_redis_read(t, 0, "GET small", 5);
		test_until_answers(t, 5);
		test_expect(t, "1:+OK 2:+OK 3:<67108877 bytes> 4:<67108877 bytes> 5:$1 1 ");
		test_redis_read(t, 0, "GET b", 6);
		test_until_answers(t, 1);
		assert_true(t->reply_hash == hash);
		test_expect(t, "6:<67108877 bytes> ");
		/* Passed on in pieces, and what was written is let go of. */
		assert_true(base->wire.in.cap <= 1 << 20);
		assert_true(base->wire.out.cap <= 1 << 20);
	}
	free(wire);
	test_backend_close(t);
}

static void test_many_elements(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	int i;

	for (i = 1; i <= 30000; i++)
		test_redis_apply(t, (uint64_t)i, false, "RPUSH l element", 0);
	t->backend->ops->flush(t->backend);
	test_until(t, t->durable_lsn == 30000);
	test_begin(t, 30001, false);
	test_redis_write(t, 0, "RPUSH l x", 1);
	test_redis_read(t, 0, "LRANGE l 0 -1", 2);
	test_redis_read(t, 0, "LLEN l", 3);
	test_end(t);
	test_until_answers(t, 3);
	test_expect(t, "1::30001 2:<390015 bytes> 3::30001 ");
	test_backend_close(t);
}

/* --------------------------------------------------------- refused when queued */

static void test_refused_when_queued(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	struct redis *redis = (struct redis *)t->backend;
	int round;

	for (round = 0; round < 2; round++) {
		uint64_t lsn = 100 + (uint64_t)round * 100;

		test_begin(t, lsn, false);
		test_redis_write(t, 0, "RPUSH l 1", 1);
		test_redis_write(t, 0, "NOSUCH l", 2);
		test_redis_write(t, 1, "INCR", 3);
		test_redis_write(t, 1, "INCR n", 4);
		test_redis_read(t, 0, "LLEN l l", 5);
		test_end(t);
		/* All this must wait, or it would overtake. */
		test_redis_read(t, 0, "LRANGE l 0 -1", 6);
		test_redis_apply(t, lsn + 10, false, "RPUSH l 2", 7);
		test_redis_apply(t, lsn + 20, true, "SET s 1", 8);
		test_skip(t, lsn + 30);
		test_redis_apply(t, lsn + 40, false, "RPOPLPUSH l", 9);
		test_redis_apply(t, lsn + 50, false, "RPUSH l 3", 10);
		test_redis_read(t, 0, "LRANGE l 0 -1", 11);
		test_until_answers(t, 11);
		test_until(t, t->durable_lsn == lsn + 50);
		expect_stored(f, lsn + 50);
		assert_false(redis->is_waiting);
		if (round == 0)
			test_expect(
				t,
				"1::1 "
				"2:-ERR unknown command 'NOSUCH', with args beginning with: 'l'  "
				"3:-ERR wrong number of arguments for 'incr' command 4::1 "
				"5:-ERR wrong number of arguments for 'llen' command "
				"6:*1 $1 1 7::2 8:+OK "
				"9:-ERR wrong number of arguments for 'rpoplpush' command 10::3 "
				"11:*3 $1 1 $1 2 $1 3 ");
	}
	expect_server(f, 0, "LLEN l", ":6\r\n");
	expect_server(f, 1, "GET n", "$1\r\n2\r\n");
	expect_server(f, 15, "DBSIZE", ":1\r\n");
	test_backend_close(t);
}

/* What was accepted before is not waited for. */
static void test_accepted_commands_are_remembered(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	struct redis *redis = (struct redis *)t->backend;

	test_redis_apply(t, 1, false, "RPUSH l 1", 1);
	assert_true(redis->is_waiting);
	test_until_answers(t, 1);
	test_redis_apply(t, 2, false, "rpush l 1", 2);
	assert_false(redis->is_waiting);
	test_redis_apply(t, 3, false, "RPUSH l 1 2 3", 3); /* arity could be exact */
	assert_true(redis->is_waiting);
	test_until_answers(t, 3);
	test_redis_apply(t, 4, false, "RPUSH l 1 2", 4);
	test_redis_apply(t, 5, false, "RPUSH l 1 2 3 4 5", 5);
	assert_false(redis->is_waiting);
	test_redis_apply(t, 6, false, "XGROUP CREATE s g $ MKSTREAM", 6);
	test_until_answers(t, 6);
	test_redis_apply(t, 7, false, "XGROUP NOSUCH s g $ MKSTREAM", 7);
	assert_true(redis->is_waiting);
	test_until_answers(t, 7);
	test_backend_close(t);
}

/* Refused twice over, with the connection lost while others wait. */
static void test_waiting_calls_are_lost_in_order(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_redis_read(t, 0, "GET a", 1);
	test_begin(t, 10, false);
	test_redis_write(t, 0, "INCR a", 2);
	test_redis_write(t, 0, "INCR a", 3);
	test_end(t);
	test_redis_read(t, 0, "GET a", 4);
	test_redis_apply(t, 20, false, "INCR a", 5);
	test_server_kill(&f->server, SIGKILL);
	test_until_answers(t, 5);
	test_expect(t, "1:lost 2:lost 3:lost 4:lost 5:lost ");
	test_until(t, t->state == MP_BACKEND_DISCONNECTED);
	test_backend_close(t);
}

/* ------------------------------------------------------------- ends of the server */

static void test_server_restarts_empty(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	char who[sizeof(t->why)];

	snprintf(who, sizeof(who), "%s", t->why);
	test_redis_apply(t, 10, false, "INCR n", 1);
	test_until_answers(t, 1);
	test_server_kill(&f->server, SIGKILL);
	test_until(t, t->state == MP_BACKEND_DISCONNECTED);
	test_redis_start(&f->server, f->dir, "");
	test_until_ready(t, 0);
	assert_string_not_equal(t->why, who); /* another pid and run id */
	test_redis_apply(t, 10, false, "INCR n", 2);
	test_until_answers(t, 2);
	test_expect(t, "1::1 2::1 ");
	test_backend_close(t);
}

/* (Without "always" the AOF may lack what was answered in the last seconds.) */
static void test_server_restarts_with_aof(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "--appendonly yes --appendfsync always");
	int i;

	for (i = 1; i <= 500; i++)
		test_redis_apply(t, (uint64_t)i * 64, false, "INCR n", 0);
	test_redis_apply(t, 501 * 64, true, "SET s 1", 0);
	t->backend->ops->flush(t->backend);
	test_until(t, t->backend->applied_lsn >= 250 * 64);
	test_server_kill(&f->server, SIGKILL);
	test_until(t, t->state == MP_BACKEND_DISCONNECTED);
	test_redis_start(&f->server, f->dir, "--appendonly yes --appendfsync always");
	test_until(t, t->state == MP_BACKEND_READY);
	assert_in_range(t->applied_lsn, 250 * 64, 501 * 64);
	for (i = (int)(t->applied_lsn / 64) + 1; i <= 500; i++)
		test_redis_apply(t, (uint64_t)i * 64, false, "INCR n", 0);
	test_redis_apply(t, 502 * 64, false, "INCR n", 1);
	test_until_answers(t, 1);
	test_expect(t, "1::501 ");
	test_backend_close(t);
}

static void test_lost_replies_are_told_in_order(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_server_stop(&f->server);
	test_redis_apply(t, 10, true, "SET a 1", 1);
	test_redis_read(t, 0, "GET a", 2);
	test_begin(t, 20, true);
	test_redis_write(t, 0, "SET a 2", 3);
	test_redis_read(t, 0, "GET a", 4);
	test_redis_write(t, 0, "SET a 2", 0);
	test_end(t);
	t->backend->ops->flush(t->backend);
	test_until(t, t->backend->ops->oldest_ms(t->backend) > 20);
	assert_true(t->backend->ops->backlog(t->backend) > 0);
	test_server_kill(&f->server, SIGKILL);
	test_until_answers(t, 4);
	test_expect(t, "1:lost 2:lost 3:lost 4:lost ");
	assert_int_equal(t->backend->ops->oldest_ms(t->backend), 0);
	assert_int_equal(t->backend->ops->backlog(t->backend), 0);
	test_backend_close(t);
}

/* ----------------------------------------------------------- ends of the client side */

/* A unit whose bytes end after `cut` with our process: was it executed? Both are fine. */
static void cut_and_resume(struct test_backend_fixture *f, size_t cut, uint64_t lsn, size_t *bytes)
{
	struct test_backend *t = &f->t;
	const struct mp_base *base;
	char counter[32];

	test_backend_open(t, mp_backend_redis_open, f->server.address);
	test_until_ready(t, lsn - 1);
	base = (const struct mp_base *)t->backend;
	test_begin(t, lsn, false);
	test_redis_write(t, 0, "INCR n", 1);
	test_redis_write(t, 1, "INCR n", 2);
	test_end(t);
	*bytes = mp_buffer_len(&base->wire.out);
	assert_true(cut <= *bytes);
	assert_int_equal(send(base->wire.fd, mp_buffer_data(&base->wire.out), cut, 0), cut);
	test_backend_close(t);

	test_backend_open(t, mp_backend_redis_open, f->server.address);
	test_until(t, t->state == MP_BACKEND_READY);
	if (t->applied_lsn != lsn) {
		assert_int_equal(t->applied_lsn, lsn - 1);
		test_begin(t, lsn, false);
		test_redis_write(t, 0, "INCR n", 1);
		test_redis_write(t, 1, "INCR n", 2);
		test_end(t);
		test_until_answers(t, 2);
	}
	test_backend_close(t);
	snprintf(counter, sizeof(counter), "%llu\r\n", (unsigned long long)lsn);
	assert_non_null(strstr(test_exchange(&f->server, "GET n\r\n", counter), counter));
}

static void test_cut_at_every_byte(void **state)
{
	struct test_backend_fixture *f = *state;
	size_t cut = 0, bytes = 1;
	uint64_t lsn = 1;

	test_redis_start(&f->server, f->dir, "");
	for (; cut <= bytes; cut++)
		cut_and_resume(f, cut, lsn++, &bytes);
	assert_true(cut > 100);
	expect_stored(f, lsn - 1);
}

/*
 * Thousands of units lie unread in the server's socket when the process dies
 * and the next one connects: they must not be executed behind its back.
 */
static void test_bytes_left_behind_are_not_executed(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	char counter[32];
	uint64_t i;

	test_redis_apply(t, 1, false, "INCR n", 1); /* once, so that it need not be waited for */
	test_until_answers(t, 1);
	test_server_stop(&f->server);
	for (i = 2; i <= 1000; i++)
		test_redis_apply(t, i, false, "INCR n", 0);
	t->backend->ops->flush(t->backend);
	test_backend_close(t);

	test_backend_open(t, mp_backend_redis_open, f->server.address);
	test_until(t, ((struct mp_base *)t->backend)->wire.state == MP_WIRE_UP);
	kill(f->server.pid, SIGCONT);
	test_until(t, t->state == MP_BACKEND_READY);
	for (i = t->applied_lsn + 1; i <= 1000; i++)
		test_redis_apply(t, i, false, "INCR n", 0);
	t->backend->ops->flush(t->backend);
	test_until(t, t->backend->applied_lsn == 1000);
	test_backend_close(t);
	snprintf(counter, sizeof(counter), "%llu\r\n", 1000ULL);
	assert_string_equal(strchr(test_exchange(&f->server, "GET n\r\n", "0\r\n"), '\n') + 1,
			    counter);
}

/*
 * A log of entries of all kinds, given again from wherever the server says it
 * stands, with the connection or our process lost every now and then: in the
 * end every entry must have been executed once, in order.
 */
enum { ENTRIES = 1500 };

static bool entry_pushes(uint64_t i)
{
	return i % 11 != 3 && i % 5 != 0;
}

static void give_entry(struct test_backend *t, uint64_t i)
{
	char words[64];

	if (i % 11 == 3) {
		test_skip(t, i);
		return;
	}
	test_begin(t, i, i % 5 == 0);
	if (i % 5 == 0) {
		snprintf(words, sizeof(words), "SET k%llu %llu", (unsigned long long)i % 7,
			 (unsigned long long)i);
		test_redis_write(t, i % 3, words, 1);
	} else {
		snprintf(words, sizeof(words), "RPUSH log %llu", (unsigned long long)i);
		test_redis_write(t, 0, words, 1);
		if (i % 13 == 0)
			test_redis_write(t, 1, "NOSUCHCOMMAND", 2);
		if (i % 4 == 0)
			test_redis_write(t, 2, "INCR n", 3);
		if (i % 17 == 0)
			test_redis_read(t, 1, "GET n", 4);
	}
	test_end(t);
}

/* The list that all entries make together, as LRANGE answers it. */
static uint64_t expected_log(size_t *bytes)
{
	uint64_t i, hash = TEST_HASH_START;
	char text[64];
	int n, count = 0;

	for (i = 1; i <= ENTRIES; i++)
		count += entry_pushes(i);
	n = snprintf(text, sizeof(text), "*%d\r\n", count);
	*bytes = (size_t)n;
	hash = test_hash(hash, text, (size_t)n);
	for (i = 1; i <= ENTRIES; i++) {
		char digits[24];

		if (!entry_pushes(i))
			continue;
		snprintf(digits, sizeof(digits), "%llu", (unsigned long long)i);
		n = snprintf(text, sizeof(text), "$%zu\r\n%s\r\n", strlen(digits), digits);
		*bytes += (size_t)n;
		hash = test_hash(hash, text, (size_t)n);
	}
	return hash;
}

static void test_random_losses(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	unsigned seed = 4711, losses = 0, known = 0, increments = 0;
	uint64_t next = 1, i;
	char number[16];
	size_t bytes;

	while (t->backend->applied_lsn < ENTRIES || t->state != MP_BACKEND_READY) {
		int give = rand_r(&seed) % 20;

		if (t->state == MP_BACKEND_READY && t->states != known) {
			known = t->states;
			next = t->applied_lsn + 1;
		}
		while (t->state == MP_BACKEND_READY && give-- > 0 && next <= ENTRIES)
			give_entry(t, next++);
		if (t->state == MP_BACKEND_READY)
			t->backend->ops->flush(t->backend);
		if (rand_r(&seed) % 20 == 0) {
			losses++;
			test_exchange(&f->server, "CLIENT KILL TYPE normal\r\n", "\n");
		} else if (rand_r(&seed) % 40 == 0) {
			losses++;
			test_backend_close(t);
			test_backend_open(t, mp_backend_redis_open, f->server.address);
			known = 0;
		}
		test_backend_pass(t);
	}
	assert_true(losses > 10);
	for (i = 1; i <= ENTRIES; i++)
		increments += entry_pushes(i) && i % 4 == 0;
	snprintf(number, sizeof(number), "$3\r\n%u\r\n", increments);
	expect_server(f, 2, "GET n", number);
	t->answers = 0;
	t->transcript_len = 0;
	test_redis_read(t, 0, "LRANGE log 0 -1", 1);
	test_until_answers(t, 1);
	assert_true(t->reply_hash == expected_log(&bytes));
	assert_int_equal(t->reply_bytes, bytes);
	test_until(t, t->durable_lsn == ENTRIES);
	expect_stored(f, ENTRIES);
	expect_server(f, 15, "DBSIZE", ":1\r\n");
	test_backend_close(t);
}

/*
 * Over a network bytes of a dead process may even arrive after its successor's
 * greeting. Whoever goes by the data connection's name is ended by then.
 */
static void test_earlier_connections_are_ended(void **state)
{
	static const char name[] = "CLIENT SETNAME muproxy-apply\r\n", incr[] = "INCR n\r\n";
	struct test_backend_fixture *f = *state;
	char reply[16];
	int old, other;

	test_redis_start(&f->server, f->dir, "");
	old = test_connect(&f->server);
	other = test_connect(&f->server);
	assert_int_equal(send(old, name, sizeof(name) - 1, 0), sizeof(name) - 1);
	assert_int_equal(recv(old, reply, sizeof(reply), 0), 5);
	test_backend_open(&f->t, mp_backend_redis_open, f->server.address);
	test_until_ready(&f->t, 0);
	send(old, incr, sizeof(incr) - 1, MSG_NOSIGNAL);
	assert_true(recv(old, reply, sizeof(reply), 0) <= 0);
	/* Others are left alone. */
	assert_int_equal(send(other, incr, sizeof(incr) - 1, 0), sizeof(incr) - 1);
	assert_int_equal(recv(other, reply, sizeof(reply), 0), 4);
	assert_memory_equal(reply, ":1\r\n", 4);
	close(old);
	close(other);
	test_backend_close(&f->t);
}

/* ------------------------------------------------------------------ who it may be */

static void refuse(struct test_backend_fixture *f, const char *options, const char *setup_commands,
		   const char *reason)
{
	test_redis_start(&f->server, f->dir, options);
	if (setup_commands)
		test_exchange(&f->server, setup_commands, "\n");
	test_backend_open(&f->t, mp_backend_redis_open, f->server.address);
	test_until_failed(&f->t, reason);
}

static void test_foreign_data_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;

	refuse(f, "", "SELECT 3\r\nSET somebody elses\r\n", "not of this group's log");
	test_exchange(&f->server, "FLUSHALL\r\n", "\n");
	test_until_ready(&f->t, 0); /* asked again, without being told to */
	test_backend_close(&f->t);
}

static void test_other_group_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_redis_apply(t, 10, false, "INCR n", 1);
	test_until_answers(t, 1);
	test_backend_close(t);
	test_backend_open_with(t, mp_backend_redis_open, f->server.address, NULL, TEST_GROUP + 1);
	test_until_failed(t, "another group (0000000000001234)");
	test_backend_close(t);
}

static void test_garbled_applied_key_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;

	refuse(f, "", "SELECT 15\r\nSET muproxy:applied 17\r\n", "is not ours");
	test_backend_close(&f->t);
}

static void test_replica_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;

	refuse(f, "--replicaof 127.0.0.1 1", NULL, "its role is slave");
	test_backend_close(&f->t);
}

static void test_single_database_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;

	refuse(f, "--databases 1", NULL, "databases to 2 or more");
	test_backend_close(&f->t);
}

static void test_too_many_databases_are_refused(void **state)
{
	struct test_backend_fixture *f = *state;

	refuse(f, "--databases 129", NULL, "databases to 128 or less");
	test_backend_close(&f->t);
}

static void test_password(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = &f->t;

	refuse(f, "--requirepass secret", NULL, "wants a password");
	test_backend_close(t);
	test_backend_open_with(t, mp_backend_redis_open, f->server.address, "wrong", TEST_GROUP);
	test_until_failed(t, "wants another password");
	test_backend_close(t);
	test_backend_open_with(t, mp_backend_redis_open, f->server.address, "secret", TEST_GROUP);
	test_until_ready(t, 0);
	test_redis_apply(t, 10, false, "INCR n", 1);
	test_until_answers(t, 1);
	test_expect(t, "1::1 ");
	test_backend_close(t);
}

static void test_settings_are_pinned(void **state)
{
	static const char *const settings[][2] = {
		{"maxmemory", "$1\r\n0\r\n"},
		{"maxmemory-clients", "$1\r\n0\r\n"},
		{"stop-writes-on-bgsave-error", "$2\r\nno\r\n"},
		{"min-replicas-to-write", "$1\r\n0\r\n"},
		{"timeout", "$1\r\n0\r\n"},
	};
	struct test_backend_fixture *f = *state;
	size_t i;

	start(f,
	      "--maxmemory 100mb --maxmemory-clients 50mb --timeout 7 --min-replicas-to-write 1");
	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		char command[128];
		const char *reply;

		snprintf(command, sizeof(command), "CONFIG GET %s\r\nECHO end\r\n", settings[i][0]);
		reply = test_exchange(&f->server, command, "$3\r\nend\r\n");
		if (!strstr(reply, settings[i][1]))
			fail_msg("%s is '%s'", settings[i][0], reply);
	}
	test_backend_close(&f->t);
}

/* A server whose settings cannot be pinned is no use. */
static void test_unpinnable_server_is_refused(void **state)
{
	struct test_backend_fixture *f = *state;

	refuse(f, "--maxmemory 100mb", "ACL SETUSER default -config|set\r\n",
	       "its maxmemory is 104857600 and cannot be set to 0");
	test_backend_close(&f->t);
}

static void test_busy_server_is_waited_for(void **state)
{
	static const char script[] = "EVAL 'while true do end' 0\r\n";
	struct test_backend_fixture *f = *state;
	int fd;

	test_redis_start(&f->server, f->dir, "--busy-reply-threshold 1");
	fd = test_connect(&f->server);
	assert_int_equal(send(fd, script, sizeof(script) - 1, 0), sizeof(script) - 1);
	/* The script runs once somebody else is told so. */
	while (strncmp(test_exchange(&f->server, "PING\r\n", "\n"), "-BUSY", 5) != 0)
		;
	test_backend_open(&f->t, mp_backend_redis_open, f->server.address);
	test_until(&f->t, f->t.states > 0);
	assert_int_equal(f->t.state, MP_BACKEND_DISCONNECTED);
	assert_non_null(strstr(f->t.why, "BUSY"));
	test_exchange(&f->server, "SCRIPT KILL\r\n", "\n");
	test_until_ready(&f->t, 0);
	test_backend_close(&f->t);
	close(fd);
}

/* Nobody there, then somebody who speaks another language. */
static void test_no_redis_at_all(void **state)
{
	struct test_backend_fixture *f = *state;
	char address[128], err[256];
	int listener, fd = -1;

	snprintf(address, sizeof(address), "unix:%s/redis.sock", f->dir);
	test_backend_open(&f->t, mp_backend_redis_open, address);
	test_until(&f->t, f->t.states > 0);
	assert_int_equal(f->t.state, MP_BACKEND_DISCONNECTED);
	listener = mp_listen(address, 8, err, sizeof(err));
	assert_true(listener >= 0);
	test_until(&f->t, fd >= 0 || (fd = mp_accept(listener)) >= 0);
	assert_int_equal(send(fd, "HTTP/1.0 400 Bad Request\r\n", 26, 0), 26);
	test_until_failed(&f->t, "does not speak Redis's protocol");
	test_backend_close(&f->t);
	close(fd);
	close(listener);
}

static void test_bad_address(void **state)
{
	struct mp_backend_options options = {
		.address = "nonsense", .reconnect_min_ms = 1, .reconnect_max_ms = 1};
	struct event_base *base = event_base_new();
	char err[256];

	(void)state;
	assert_null(mp_backend_redis_open(base, &options, NULL, NULL, err, sizeof(err)));
	assert_non_null(strstr(err, "nonsense"));
	event_base_free(base);
}

/* ------------------------------------------------------------- refused when applied */

/* Out of memory: this server has failed; with its memory back it goes on where it was. */
static void test_oom_fails_the_backend(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	int blind;

	for (blind = 0; blind <= 1; blind++) {
		uint64_t lsn = 10 + (uint64_t)blind * 100;

		test_redis_apply(t, lsn, false, "INCR n", 1);
		test_until_answers(t, 1);
		test_exchange(&f->server, "CONFIG SET maxmemory 1\r\n", "\n");
		test_redis_apply(t, lsn + 10, blind, "SET a 1", 2);
		t->backend->ops->flush(t->backend);
		test_redis_apply(t, lsn + 20, false, "INCR n", 3);
		test_redis_read(t, 0, "GET n", 4);
		t->backend->ops->flush(t->backend);
		test_until_failed(t, blind ? "refused the entry at LSN 120" : "LSN 20");
		assert_non_null(strstr(t->why, ": -OOM"));
		assert_int_equal(t->backend->applied_lsn, lsn);
		assert_non_null(strstr(t->transcript, "2:lost 3:lost 4:lost "));
		/* Asked again, it is told to have no limit; nothing was executed since. */
		test_until_ready(t, lsn);
		test_redis_apply(t, lsn + 10, blind, "SET a 1", 5);
		test_redis_apply(t, lsn + 20, false, "INCR n", 6);
		test_until_answers(t, 6);
		assert_non_null(strstr(t->transcript, blind ? "5:+OK 6::4 " : "5:+OK 6::2 "));
		test_expect(t, t->transcript);
	}
	test_backend_close(t);
}

/* It executed entries behind the one that it refused: that can never be made good. */
static void test_gap_is_remembered(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "--appendonly yes --appendfsync always");

	test_redis_apply(t, 10, false, "INCR n", 1);
	test_until_answers(t, 1);
	test_redis_apply(t, 11, false, "APPEND a x", 2);
	test_until_answers(t, 2);
	test_exchange(&f->server, "ACL SETUSER default -incr\r\n", "\n");
	test_redis_apply(t, 20, false, "INCR n", 3);
	t->backend->ops->flush(t->backend);
	test_redis_apply(t, 30, false, "APPEND a x", 4);
	t->backend->ops->flush(t->backend);
	test_until_failed(t, "refused the entry at LSN 20, or one given with it: -NOPERM");
	test_expect(t, "1::1 2::1 3:lost 4:lost ");
	test_until_failed(t, "");
	test_until(t, strstr(t->why, "behind LSN 20, which it refused"));
	test_backend_close(t);
	/* Another process, another server process: the data says so. */
	test_server_kill(&f->server, SIGKILL);
	test_redis_start(&f->server, f->dir, "--appendonly yes --appendfsync always");
	test_backend_open(t, mp_backend_redis_open, f->server.address);
	test_until_failed(t, "must be restored, or flushed");
	test_exchange(&f->server, "FLUSHALL\r\n", "\n");
	test_until_ready(t, 0);
	test_backend_close(t);
}

static void test_readonly_fails_the_backend(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_exchange(&f->server, "REPLICAOF 127.0.0.1 1\r\n", "\n");
	test_redis_apply(t, 10, true, "SET a 1", 1);
	t->backend->ops->flush(t->backend);
	test_until_failed(t, "LSN 10, or one given with it: -READONLY");
	test_until(t, strstr(t->why, "its role is slave"));
	test_exchange(&f->server, "REPLICAOF NO ONE\r\n", "\n");
	test_until_ready(t, 0);
	test_expect(t, "1:lost ");
	test_backend_close(t);
}

/* A busy key is not a busy server. */
static void test_ordinary_errors_are_outcomes(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");

	test_redis_apply(t, 10, false, "XGROUP CREATE s g 0 MKSTREAM", 1);
	test_redis_apply(t, 20, false, "XGROUP CREATE s g 0 MKSTREAM", 2);
	test_redis_apply(t, 30, true, "SET a b c", 3);
	test_redis_apply(t, 40, false, "INCRBY a x", 4);
	test_until_answers(t, 4);
	test_expect(t, "1:+OK 2:-BUSYGROUP Consumer Group name already exists "
		       "3:-ERR syntax error 4:-ERR value is not an integer or out of range ");
	assert_int_equal(t->backend->applied_lsn, 40);
	test_backend_close(t);
}

/* Both sides full at once: much is written while nothing is read. */
static void test_backlog_drains(void **state)
{
	struct test_backend_fixture *f = *state;
	struct test_backend *t = start(f, "");
	int i;

	test_redis_apply(t, 1, false, "SETRANGE big 1000000 x", 0);
	for (i = 1; i <= 300; i++) {
		test_redis_read(t, 0, "GET big", i);
		test_redis_apply(t, 1 + (uint64_t)i, true, "SET a 1", 0);
	}
	t->backend->ops->flush(t->backend);
	assert_true(t->backend->ops->backlog(t->backend) > 0);
	test_until_answers(t, 300);
	test_until(t, t->backend->ops->backlog(t->backend) == 0);
	test_backend_close(t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_backend_setup, test_backend_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_unit_replies_are_spliced),
		TEST(test_units_in_a_row),
		TEST(test_much_is_sent_at_once),
		TEST(test_units_are_joined),
		TEST(test_joined_units_are_bounded),
		TEST(test_answers_that_nobody_awaits),
		TEST(test_several_commands_in_a_write),
		TEST(test_blind_units_are_stored_lazily),
		TEST(test_empty_server_is_ours_at_once),
		TEST(test_only_what_was_answered_is_stored),
		TEST(test_many_blind_units_are_stored),
		TEST(test_skipped_entries_move_the_lsn),
		TEST(test_big_values),
		TEST(test_many_elements),
		TEST(test_refused_when_queued),
		TEST(test_accepted_commands_are_remembered),
		TEST(test_waiting_calls_are_lost_in_order),
		TEST(test_server_restarts_empty),
		TEST(test_server_restarts_with_aof),
		TEST(test_lost_replies_are_told_in_order),
		TEST(test_cut_at_every_byte),
		TEST(test_bytes_left_behind_are_not_executed),
		TEST(test_random_losses),
		TEST(test_earlier_connections_are_ended),
		TEST(test_foreign_data_is_refused),
		TEST(test_other_group_is_refused),
		TEST(test_garbled_applied_key_is_refused),
		TEST(test_replica_is_refused),
		TEST(test_single_database_is_refused),
		TEST(test_too_many_databases_are_refused),
		TEST(test_password),
		TEST(test_settings_are_pinned),
		TEST(test_unpinnable_server_is_refused),
		TEST(test_busy_server_is_waited_for),
		TEST(test_no_redis_at_all),
		TEST(test_bad_address),
		TEST(test_oom_fails_the_backend),
		TEST(test_gap_is_remembered),
		TEST(test_readonly_fails_the_backend),
		TEST(test_ordinary_errors_are_outcomes),
		TEST(test_backlog_drains),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
