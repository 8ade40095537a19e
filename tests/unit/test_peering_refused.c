/*
 * test_peering_refused.c - strangers, impostors and those who have been told
 * something else do not join, and disturb nobody.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/sanitizers.h"
#include "log.h"
#include "members.h"
#include "net.h"
#include "peering_wire.h"

/* ----------------------------------------------------------- who is refused */

/* Replica 2 differs in something; both sides say so, once, and nobody joins. */
static void assert_refused(void (*change)(struct member *), const char *here, const char *there)
{
	struct member pair[2];

	members_new_scene();
	member_prepare(&pair[0], 1, 2);
	member_prepare(&pair[1], 2, 2);
	change(&pair[1]);
	listen_to_log();
	member_start(&pair[0]);
	member_start(&pair[1]);
	WAIT_UNTIL(lines_with(" refused: ", here) == 1 && lines_with("refused by ", there) == 1);
	assert_false(sees(&pair[0], 2));
	assert_false(sees(&pair[1], 1));
	pair_stop(pair);
	end_listening();
}

static void other_group(struct member *m)
{
	m->options.group_id++;
}

static void other_secret(struct member *m)
{
	m->options.secret = (const uint8_t *)"open barley, said he, and stood there";
}

static void no_secret(struct member *m)
{
	m->options.secret_bytes = 0;
}

static void other_members(struct member *m)
{
	snprintf(m->address[3], sizeof(m->address[3]), "127.0.0.1:1");
	m->options.address[3] = m->address[3];
}

static void other_id(struct member *m)
{
	m->options.id = 3;
	m->options.listen = m->address[2];
	other_members(m);
}

static void other_fabric(struct member *m)
{
	m->options.fabric = 9;
}

static void other_ring(struct member *m)
{
	m->options.ring_bytes = 4096;
}

static void those_told_something_else_are_refused(void **state)
{
	(void)state;
	assert_refused(other_group, "another group", "another group");
	assert_refused(other_secret, "another secret", "another secret");
	assert_refused(no_secret, "no secret", "no secret");
	assert_refused(other_members, "other members", "1,2,3 there, 1,2 here");
	assert_refused(other_fabric, "another fabric", "another fabric");
	assert_refused(other_ring, "another ring-size", "another ring-size");
	assert_refused(other_id, "other members", "other members");
}

/* The second one runs with the same id, at another address. */
static void a_second_replica_with_the_same_id_is_refused(void **state)
{
	struct member m[2], second;

	(void)state;
	pair_start(m);
	member_prepare(&second, 2, 2);
	second.options.listen = "127.0.0.1:0";
	listen_to_log();
	member_start(&second);
	WAIT_UNTIL(lines_with(" refused: ", "already running") == 1 &&
		   lines_with("refused by ", "already running") == 1);
	assert_false(sees(&second, 1));
	assert_true(sees(&m[0], 2));
	/* The first one ends: then it may. */
	member_stop(&m[1]);
	WAIT_UNTIL(sees(&second, 1));
	member_stop(&second);
	/* And the lower id is told as well, although it is dialled as a rule. */
	WAIT_UNTIL(!sees(&m[0], 2));
	member_start(&m[1]);
	WAIT_UNTIL(sees(&m[0], 2));
	member_prepare(&second, 1, 2);
	second.options.listen = "127.0.0.1:0";
	member_start(&second);
	WAIT_UNTIL(lines_with("refused by replica 2", "replica 1 is already running") == 1);
	assert_true(sees(&m[0], 2));
	member_stop(&second);
	pair_stop(m);
	end_listening();
}

/* It does not answer, and another process has been started in its place. */
static void a_successor_of_a_silent_process_is_admitted(void **state)
{
	struct member m, successor;
	pid_t child;

	(void)state;
#ifdef UNDER_THREAD_SANITIZER
	skip(); /* it bears no threads in forked processes */
#endif
	members_new_scene();
	member_prepare(&m, 1, 2);
	member_prepare(&successor, 2, 2);
	successor.options.listen = "127.0.0.1:0";
	child = fork();
	if (child == 0) {
		struct member old;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		member_prepare(&old, 2, 2);
		memcpy(old.address, successor.address, sizeof(old.address));
		member_start(&old);
		for (;;)
			pause();
	}
	m.options.silence_ms = 600000;
	member_start(&m);
	WAIT_UNTIL(sees(&m, 2));
	kill(child, SIGSTOP);
	assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
	member_start(&successor);
	WAIT_UNTIL(sees(&successor, 1) && sees(&m, 2));
	assert_int_equal(m.heard.downs, 1);
	member_stop(&successor);
	member_stop(&m);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* ------------------------------------------------------- garbage, impostors */

static int connect_to(const char *address)
{
	struct mp_address parsed;
	char err[200];
	int fd;

	assert_true(mp_address_parse(address, &parsed, err, sizeof(err)));
	fd = mp_connect_begin(&parsed, 0);
	assert_true(fd >= 0);
	WAIT_UNTIL(mp_connect_result(fd) == 0);
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	return fd;
}

static bool read_whole(int fd, void *to, size_t bytes)
{
	size_t got = 0;

	while (got < bytes) {
		ssize_t n = read(fd, (char *)to + got, bytes - got);

		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

/* The other end closes, and whatever it says before is taken. */
static void wait_closed(int fd)
{
	char sink[1000];

	while (read(fd, sink, sizeof(sink)) > 0)
		;
	close(fd);
}

static void garbage_harms_nobody(void **state)
{
	static const char garbage[][40] = {"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
					   "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
					   "\n\rmPeer1\1\0\0\0\7\0\7\0\0\0\0\0\0\0\0"};
	struct member pair[2];

	(void)state;
	pair_start(pair);
	for (unsigned round = 0; round < 60; round++) {
		int fd = connect_to(pair[0].address[1]);
		char noise[500];

		for (size_t i = 0; i < sizeof(noise); i++)
			noise[i] = (char)(rand() >> 7);
		if (round % 4 < 3)
			assert_true(write(fd, garbage[round % 4], 30) == 30);
		else
			assert_true(write(fd, noise, sizeof(noise)) > 0);
		wait_closed(fd);
	}
	assert_true(sees(&pair[0], 2) && sees(&pair[1], 1));
	assert_int_equal(UNDER(pair[0].heard, pair[0].heard.downs), 0);
	pair_stop(pair);
}

static void those_who_say_nothing_shut_nobody_out(void **state)
{
	struct member pair[2];
	int silent[200];

	(void)state;
	members_new_scene();
	member_prepare(&pair[0], 1, 2);
	member_prepare(&pair[1], 2, 2);
	pair[0].options.greet_ms = 300;
	member_start(&pair[0]);
	for (unsigned i = 0; i < 200; i++)
		silent[i] = connect_to(pair[0].address[1]);
	member_start(&pair[1]);
	WAIT_UNTIL(sees(&pair[0], 2) && sees(&pair[1], 1));
	/* They are shown the door, in time or when it gets too crowded. */
	for (unsigned i = 0; i < 200; i++)
		wait_closed(silent[i]);
	pair_stop(pair);
}

struct greeting_bytes {
	struct peering_head head;
	union {
		struct peering_hello hello;
		struct peering_proof proof;
	};
};

static const size_t hello_bytes = sizeof(struct peering_head) + sizeof(struct peering_hello);
static const size_t proof_bytes = sizeof(struct peering_head) + sizeof(struct peering_proof);

static void assert_answered_with(int fd, enum peering_greeting_type type)
{
	struct peering_head head;

	assert_true(read_whole(fd, &head, sizeof(head)));
	assert_int_equal(head.type, type);
	wait_closed(fd);
}

/*
 * Listens on all greetings between two members, then says the same again: to
 * get in under a name, and by sending back what it was sent.
 */
static void what_was_overheard_opens_no_door(void **state)
{
	struct greeting_bytes hello, proof, answer, answer_proof;
	struct member one, two;
	int listener, from_two, to_one;
	char err[200];

	(void)state;
	members_new_scene();
	member_prepare(&one, 1, 2);
	member_prepare(&two, 2, 2);
	listener = mp_listen("127.0.0.1:0", 5, err, sizeof(err));
	assert_true(listener >= 0);
	snprintf(two.address[1], sizeof(two.address[1]), "127.0.0.1:%d", mp_local_port(listener));
	member_start(&one);
	member_start(&two);
	WAIT_UNTIL((from_two = accept(listener, NULL, NULL)) >= 0);
	to_one = connect_to(one.address[1]);
	assert_true(read_whole(from_two, &hello, hello_bytes));
	assert_int_equal(write(to_one, &hello, hello_bytes), hello_bytes);
	assert_true(read_whole(to_one, &answer, hello_bytes));
	assert_int_equal(write(from_two, &answer, hello_bytes), hello_bytes);
	assert_true(read_whole(from_two, &proof, proof_bytes));
	close(from_two); /* replica 2 shall not get in the way */
	member_stop(&two);
	/* The proof is good for this very connection: that much of the test is not in vain. */
	assert_int_equal(write(to_one, &proof, proof_bytes), proof_bytes);
	assert_true(read_whole(to_one, &answer_proof, proof_bytes));
	assert_int_equal(answer_proof.head.type, PEERING_PROOF);
	close(to_one);
	/* On another it is not. */
	to_one = connect_to(one.address[1]);
	assert_int_equal(write(to_one, &hello, hello_bytes), hello_bytes);
	assert_true(read_whole(to_one, &answer, hello_bytes));
	assert_int_equal(write(to_one, &proof, proof_bytes), proof_bytes);
	assert_answered_with(to_one, PEERING_REFUSED);
	/* Nor is the acceptor's own. */
	to_one = connect_to(one.address[1]);
	assert_int_equal(write(to_one, &hello, hello_bytes), hello_bytes);
	assert_true(read_whole(to_one, &answer, hello_bytes));
	assert_int_equal(write(to_one, &answer_proof, proof_bytes), proof_bytes);
	assert_answered_with(to_one, PEERING_REFUSED);
	/* Nor its own hello. */
	to_one = connect_to(one.address[1]);
	assert_int_equal(write(to_one, &answer, hello_bytes), hello_bytes);
	assert_answered_with(to_one, PEERING_REFUSED);
	/* Nor any of it for another purpose. */
	to_one = connect_to(one.address[1]);
	hello.hello.purpose = PEERING_DATA;
	assert_int_equal(write(to_one, &hello, hello_bytes), hello_bytes);
	assert_true(read_whole(to_one, &answer, hello_bytes));
	assert_int_equal(write(to_one, &proof, proof_bytes), proof_bytes);
	assert_answered_with(to_one, PEERING_REFUSED);
	member_stop(&one);
	close(listener);
}

static void a_port_in_use_is_an_error_of_one_line(void **state)
{
	struct member pair[2];
	char err[200] = "";

	(void)state;
	pair_start(pair);
	assert_null(peering_open(&pair[0].options, err, sizeof(err)));
	assert_non_null(strstr(err, "in use"));
	assert_null(strchr(err, '\n'));
	pair_stop(pair);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(those_told_something_else_are_refused),
		cmocka_unit_test(a_second_replica_with_the_same_id_is_refused),
		cmocka_unit_test(a_successor_of_a_silent_process_is_admitted),
		cmocka_unit_test(garbage_harms_nobody),
		cmocka_unit_test(those_who_say_nothing_shut_nobody_out),
		cmocka_unit_test(what_was_overheard_opens_no_door),
		cmocka_unit_test(a_port_in_use_is_an_error_of_one_line),
	};

	signal(SIGPIPE, SIG_IGN);
	mp_log_init(MP_LOG_INFO, 0);
	return cmocka_run_group_tests_name("peering, refused", tests, NULL, NULL);
}
