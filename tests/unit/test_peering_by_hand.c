/*
 * test_peering_by_hand.c - a member against a peer that the test plays itself:
 * one that knows the secret, and does what a process seldom does, at the moment
 * that the test chooses.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "members.h"
#include "net.h"
#include "peering_proof.h"
#include "peering_wire.h"

/* The member is replica 1, and replica 2 is played. */
static struct member m;

static void put_in(uint32_t version, int fd, enum peering_greeting_type type, const void *body,
		   size_t bytes)
{
	struct peering_head head = {.magic = PEERING_MAGIC,
				    .version = version,
				    .type = (uint16_t)type,
				    .bytes = (uint16_t)bytes};

	assert_int_equal(send(fd, &head, sizeof(head), MSG_NOSIGNAL), sizeof(head));
	assert_int_equal(send(fd, body, bytes, MSG_NOSIGNAL), bytes);
}

static void put(int fd, enum peering_greeting_type type, const void *body, size_t bytes)
{
	put_in(PEERING_VERSION, fd, type, body, bytes);
}

/* False: it was closed instead. */
static bool get_bytes(int fd, void *to, size_t bytes)
{
	uint64_t since_ns = clock_ns();
	size_t got = 0;

	while (got < bytes) {
		ssize_t n = recv(fd, (char *)to + got, bytes - got, MSG_DONTWAIT);

		if (n > 0)
			got += (size_t)n;
		else if (n == 0 || errno != EAGAIN)
			return false;
		else if (clock_ns() - since_ns > DEADLINE_NS)
			fail_msg("%zu bytes of %zu came", got, bytes);
	}
	return true;
}

static struct peering_hello hello_of(uint64_t nonce, enum peering_purpose purpose)
{
	struct peering_hello hello = {.purpose = (uint8_t)purpose,
				      .from = 2,
				      .to = 1,
				      .has_secret = 1,
				      .configuration = mu_configuration(0, 0, 1U << 1 | 1U << 2),
				      .group_id = GROUP,
				      .nonce = nonce,
				      .address = "127.0.0.2:7400"};

	assert_true(peering_challenge(hello.challenge));
	return hello;
}

static struct mp_address address_of_member(void)
{
	struct mp_address address;
	char err[200];

	assert_true(mp_address_parse(m.address[1], &address, err, sizeof(err)));
	return address;
}

/* A socket of the test's own, which waits until it is connected. */
static void connect_socket(int fd)
{
	struct mp_address address = address_of_member();

	assert_int_equal(connect(fd, (const void *)&address.at[0].address, address.at[0].len), 0);
}

static int connect_to_member(void)
{
	struct mp_address address = address_of_member();
	int fd = mp_connect_begin(&address, 0);

	assert_true(fd >= 0);
	WAIT_UNTIL(mp_connect_result(fd) == 0);
	return fd;
}

/* Connect, and say hello; the member's hello is taken. */
static int say_hello(const struct peering_hello *mine, struct peering_hello *theirs)
{
	struct peering_head head;
	int fd = connect_to_member();

	put(fd, PEERING_HELLO, mine, sizeof(*mine));
	if (get_bytes(fd, &head, sizeof(head)) && head.type == PEERING_HELLO)
		assert_true(get_bytes(fd, theirs, sizeof(*theirs)));
	return fd;
}

/* Connect as the process `nonce`, up to the proof; what is said to that is to be read yet. */
static int greet(uint64_t nonce, enum peering_purpose purpose)
{
	struct peering_hello mine = hello_of(nonce, purpose), theirs;
	struct peering_proof proof;
	int fd = say_hello(&mine, &theirs);

	assert_true(peering_prove(m.options.secret, m.options.secret_bytes, PEERING_DIALLER, &mine,
				  &theirs, &proof));
	put(fd, PEERING_PROOF, &proof, sizeof(proof));
	return fd;
}

/* The member's answer to a greeting. */
static enum peering_greeting_type answer(int fd)
{
	struct peering_head head;
	char body[sizeof(struct peering_hello)];

	assert_true(get_bytes(fd, &head, sizeof(head)));
	assert_in_range(head.bytes, 0, sizeof(body));
	assert_true(get_bytes(fd, body, head.bytes));
	return (enum peering_greeting_type)head.type;
}

/* Take frames until one of this kind comes. */
static void await_frame(int fd, enum peering_frame_type type)
{
	struct peering_frame frame;
	char body[MU_PEERING_MESSAGE_BYTES];

	do {
		assert_true(get_bytes(fd, &frame, sizeof(frame)));
		assert_true(get_bytes(fd, body, frame.bytes));
	} while (frame.type != type);
}

static void put_frame(int fd, enum peering_frame_type type, const void *body, size_t bytes)
{
	struct peering_frame frame = {.type = (uint16_t)type, .bytes = (uint16_t)bytes};

	assert_int_equal(send(fd, &frame, sizeof(frame), MSG_NOSIGNAL), sizeof(frame));
	if (bytes > 0)
		assert_int_equal(send(fd, body, bytes, MSG_NOSIGNAL), bytes);
}

static void put_state(int fd, uint32_t facts, bool attached)
{
	struct peering_state state = {.facts = facts, .attached = attached};

	put_frame(fd, PEERING_STATE, &state, sizeof(state));
}

static bool is_closed(int fd)
{
	char sink[2000];
	ssize_t n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

static void close_when_closed(int fd)
{
	WAIT_UNTIL(is_closed(fd));
	close(fd);
}

static int prepare(void **state)
{
	(void)state;
	members_new_scene();
	member_prepare(&m, 1, 2);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	end_listening();
	member_stop(&m);
	return 0;
}

/* ------------------------------------------------------------------ channels */

/* The process that has the channel connects again while another one is held. */
static void a_connection_that_comes_while_one_is_held(void **state)
{
	int first, other, again;
	unsigned before;

	(void)state;
	before = open_files();
	m.options.ping_ms = 600000; /* nobody is given up for saying nothing */
	m.options.greet_ms = 600000;
	member_start(&m);
	first = greet(100, PEERING_CHANNEL);
	assert_int_equal(answer(first), PEERING_PROOF);
	other = greet(200, PEERING_CHANNEL);
	/* It is asked for a sign of life, which it does not give. */
	await_frame(first, PEERING_PING);
	again = greet(100, PEERING_CHANNEL);
	assert_int_equal(answer(again), PEERING_PROOF);
	assert_int_equal(answer(other), PEERING_REFUSED);
	close_when_closed(first);
	close_when_closed(other);
	/* And this one works. */
	put_state(again, 0, true);
	WAIT_UNTIL(sees(&m, 2));
	put_frame(again, PEERING_PING, NULL, 0);
	await_frame(again, PEERING_PONG);
	close(again);
	WAIT_UNTIL(!sees(&m, 2));
	member_stop(&m);
	assert_int_equal(open_files(), before);
}

/* One process replaces another whose streams may still be open. */
static void a_fabric_is_told_of_another_process(void **state)
{
	int channel, stream, successor;

	(void)state;
	m.options.ping_ms = 20;
	member_start(&m);
	channel = greet(100, PEERING_CHANNEL);
	assert_int_equal(answer(channel), PEERING_PROOF);
	stream = greet(100, PEERING_DATA);
	assert_int_equal(answer(stream), PEERING_PROOF);
	assert_int_equal(UNDER(m.heard, m.heard.replaced), 0);
	/* The same process again: that is not it. */
	close(channel);
	channel = greet(100, PEERING_CHANNEL);
	assert_int_equal(answer(channel), PEERING_PROOF);
	assert_int_equal(UNDER(m.heard, m.heard.replaced), 0);
	/* It says nothing more, and another comes. */
	successor = greet(200, PEERING_CHANNEL);
	assert_int_equal(answer(successor), PEERING_PROOF);
	WAIT_UNTIL(UNDER(m.heard, m.heard.replaced) == 1);
	/* A stream of the old one's would not be taken any more. */
	close(stream);
	stream = greet(100, PEERING_DATA);
	assert_int_equal(answer(stream), PEERING_REFUSED);
	close(stream);
	close(successor);
	close_when_closed(channel);
}

/* ------------------------------------------------------------------- streams */

static int listen_as_peer(void)
{
	char err[200];
	int fd = mp_listen(m.address[2], 5, err, sizeof(err));

	if (fd < 0)
		fail_msg("%s", err);
	return fd;
}

/* A request for a stream ends, and whether anybody was dialled for it. */
static bool is_dialled(int listener)
{
	unsigned before = UNDER(m.heard, m.heard.failures);
	bool dialled = false;
	int fd;

	assert_int_equal(m.base->ops->dial(m.base, MU_PLANE_DATA, 2), 0);
	WAIT_UNTIL(UNDER(m.heard, m.heard.failures) > before);
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		dialled = true;
		close(fd);
	}
	return dialled;
}

static void nobody_is_dialled_for_a_fabric_that_is_not_there(void **state)
{
	int channel, listener = listen_as_peer();

	(void)state;
	m.options.dial_ms = 60;
	member_start(&m);
	channel = greet(100, PEERING_CHANNEL);
	assert_int_equal(answer(channel), PEERING_PROOF);
	assert_false(is_dialled(listener));
	put_state(channel, 0, true);
	WAIT_UNTIL(sees(&m, 2));
	assert_true(is_dialled(listener));
	put_state(channel, 0, false);
	WAIT_UNTIL(!sees(&m, 2));
	assert_false(is_dialled(listener));
	close(channel);
	close(listener);
}

static const char *even_and_odd(uint32_t theirs, uint32_t here)
{
	return theirs % 2 != here % 2 ? "its facts are odd" : NULL;
}

static void one_that_is_objected_to_is_not_worked_with(void **state)
{
	int channel, stream, listener = listen_as_peer();

	(void)state;
	m.options.dial_ms = 60;
	m.options.objection = even_and_odd;
	listen_to_log();
	member_start(&m);
	channel = greet(100, PEERING_CHANNEL);
	assert_int_equal(answer(channel), PEERING_PROOF);
	put_state(channel, 2, true);
	WAIT_UNTIL(sees(&m, 2));
	put_state(channel, 3, true);
	WAIT_UNTIL(!sees(&m, 2));
	assert_int_equal(lines_with("replica 2", "its facts are odd"), 1);
	assert_false(is_dialled(listener));
	stream = greet(100, PEERING_DATA);
	assert_int_equal(answer(stream), PEERING_REFUSED);
	close(stream);
	/* What is here may change, too. */
	peering_set_facts(m.peering, 1);
	WAIT_UNTIL(sees(&m, 2));
	stream = greet(100, PEERING_DATA);
	assert_int_equal(answer(stream), PEERING_PROOF);
	close(stream);
	end_listening();
	close(channel);
	close(listener);
}

/* ---------------------------------------------------------------- complaints */

/* Every time from another port, and every time the same is wrong. */
static void a_misconfigured_member_is_one_line(void **state)
{
	struct peering_hello mine = hello_of(100, PEERING_CHANNEL), theirs;

	(void)state;
	listen_to_log();
	member_start(&m);
	mine.ring_bytes = 4096;
	for (unsigned i = 0; i < 30; i++)
		close_when_closed(say_hello(&mine, &theirs));
	assert_int_equal(lines_with("replica 2", "another ring-size"), 1);
	end_listening();
}

/* The other end is told the same, in a form that it can read. */
static void refuses_version(uint32_t version)
{
	struct peering_hello mine = hello_of(100, PEERING_CHANNEL);
	char why[PEERING_REFUSAL_BYTES + 1] = "";
	struct peering_head head;
	int fd;

	listen_to_log();
	member_start(&m);
	fd = connect_to_member();
	put_in(version, fd, PEERING_HELLO, &mine, sizeof(mine));
	assert_true(get_bytes(fd, &head, sizeof(head)));
	assert_int_equal(head.type, PEERING_REFUSED);
	assert_in_range(head.bytes, 1, PEERING_REFUSAL_BYTES);
	assert_true(get_bytes(fd, why, head.bytes));
	assert_non_null(strstr(why, "another version of the peers' format"));
	close_when_closed(fd);
	snprintf(why, sizeof(why), "another version of the peers' format: %u there, %u here",
		 version, PEERING_VERSION);
	assert_int_equal(lines_with("refused", why), 1);
	end_listening();
}

/* Whose key was another. */
static void an_older_version_is_refused(void **state)
{
	(void)state;
	refuses_version(PEERING_VERSION - 1);
}

static void a_newer_version_is_refused(void **state)
{
	(void)state;
	refuses_version(PEERING_VERSION + 1);
}

/* Who knows the group's number can claim to be a member, and complain about anything. */
static void a_stranger_does_not_fill_the_log(void **state)
{
	uint64_t since_ns = clock_ns();

	(void)state;
	listen_to_log();
	member_start(&m);
	for (unsigned i = 0; i < 200; i++) {
		struct peering_hello mine = hello_of(100, PEERING_CHANNEL), theirs;

		mine.to = (uint8_t)(i % 250 + 2);
		mine.configuration += i % 2;
		close_when_closed(say_hello(&mine, &theirs));
	}
	assert_in_range(lines_with("refused", "replica 2"), 1,
			2 + (clock_ns() - since_ns) / 1000000000);
	end_listening();
}

/* --------------------------------------------------------------- being flooded */

/* A member that is slow to prove itself keeps its place, whoever else comes from elsewhere. */
static void one_host_does_not_push_out_another(void **state)
{
	const struct sockaddr_in elsewhere = {.sin_family = AF_INET,
					      .sin_addr.s_addr = htonl(0x7f000902)};
	struct peering_hello mine = hello_of(100, PEERING_CHANNEL), theirs;
	struct peering_proof proof;
	int slow, silent[100];

	(void)state;
	m.options.greet_ms = 600000;
	member_start(&m);
	slow = say_hello(&mine, &theirs);
	for (unsigned i = 0; i < 100; i++) {
		silent[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(bind(silent[i], (const void *)&elsewhere, sizeof(elsewhere)), 0);
		connect_socket(silent[i]);
	}
	/* The last is refused: so all have been looked at. */
	assert_int_equal(send(silent[99], "GET / HTTP/1.1\r\n", 16, MSG_NOSIGNAL), 16);
	assert_int_equal(answer(silent[99]), PEERING_REFUSED);
	for (unsigned i = 0; i < 100; i++)
		close(silent[i]);
	assert_true(peering_prove(m.options.secret, m.options.secret_bytes, PEERING_DIALLER, &mine,
				  &theirs, &proof));
	put(slow, PEERING_PROOF, &proof, sizeof(proof));
	assert_int_equal(answer(slow), PEERING_PROOF);
	close(slow);
}

/* Descriptors have run out: who waits in line is accepted when there are some again. */
static void nobody_is_forgotten_when_descriptors_run_out(void **state)
{
	struct rlimit whole, none;
	int probe;

	(void)state;
	listen_to_log();
	member_start(&m);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &whole), 0);
	none = whole;
	probe = socket(AF_INET, SOCK_STREAM, 0);
	none.rlim_cur = (rlim_t)probe + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	connect_socket(probe);
	WAIT_UNTIL(lines_with("cannot accept", "Too many open files") == 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &whole), 0);
	/* It is not a greeting, so it is refused, which takes somebody to accept it. */
	assert_int_equal(send(probe, "GET / HTTP/1.1\r\n", 16, MSG_NOSIGNAL), 16);
	assert_int_equal(answer(probe), PEERING_REFUSED);
	close(probe);
	end_listening();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, prepare, finish)
	static const struct CMUnitTest tests[] = {
		TEST(a_connection_that_comes_while_one_is_held),
		TEST(a_fabric_is_told_of_another_process),
		TEST(nobody_is_dialled_for_a_fabric_that_is_not_there),
		TEST(one_that_is_objected_to_is_not_worked_with),
		TEST(a_misconfigured_member_is_one_line),
		TEST(an_older_version_is_refused),
		TEST(a_newer_version_is_refused),
		TEST(a_stranger_does_not_fill_the_log),
		TEST(one_host_does_not_push_out_another),
		TEST(nobody_is_forgotten_when_descriptors_run_out),
	};

	signal(SIGPIPE, SIG_IGN);
	mp_log_init(MP_LOG_INFO, 0);
	return cmocka_run_group_tests_name("peering, by hand", tests, NULL, NULL);
}
