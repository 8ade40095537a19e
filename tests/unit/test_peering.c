/*
 * test_peering.c - members join over real sockets; strangers, impostors and
 * those who have been told something else do not. Every member has a loopback
 * address of its own, so that tests never meet on a port.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "log.h"
#include "net.h"
#include "peering.h"
#include "peering_wire.h"

#define DEADLINE_NS 20000000000u
#define GROUP 77
#define PORT 7400

static const uint8_t secret[] = "open sesame, said he, and stood there";

/* ------------------------------------------------------------- the scenery */

/* What a fabric was told; it keeps the last stream of each kind. */
struct heard {
	pthread_mutex_t lock;
	bool up[MU_ID_SLOTS];
	unsigned ups, downs, messages, failures;
	char last[MU_PEERING_MESSAGE_BYTES];
	size_t last_bytes;
	bool in_order;
	int stream[2][MU_PLANES]; /* [dialled][plane], -1: none */
};

struct member {
	struct peering_options options;
	char address[MU_ID_SLOTS][80];
	struct peering *peering;
	struct mu_peering *base;
	struct heard heard;
};

static void heard_channel(void *fabric, unsigned peer, bool up)
{
	struct heard *heard = fabric;

	pthread_mutex_lock(&heard->lock);
	assert(heard->up[peer] != up);
	heard->up[peer] = up;
	*(up ? &heard->ups : &heard->downs) += 1;
	pthread_mutex_unlock(&heard->lock);
}

static void heard_message(void *fabric, unsigned peer, const void *message, size_t len)
{
	struct heard *heard = fabric;
	uint32_t number;

	(void)peer;
	pthread_mutex_lock(&heard->lock);
	if (len >= sizeof(number)) {
		memcpy(&number, message, sizeof(number));
		heard->in_order = heard->in_order && number == heard->messages;
	}
	heard->messages++;
	memcpy(heard->last, message, len);
	heard->last_bytes = len;
	pthread_mutex_unlock(&heard->lock);
}

static void heard_stream(void *fabric, enum mu_plane plane, unsigned peer, int fd, bool dialled)
{
	struct heard *heard = fabric;

	(void)peer;
	pthread_mutex_lock(&heard->lock);
	if (heard->stream[dialled][plane] >= 0)
		close(heard->stream[dialled][plane]);
	heard->stream[dialled][plane] = fd;
	pthread_mutex_unlock(&heard->lock);
}

static void heard_failure(void *fabric, enum mu_plane plane, unsigned peer)
{
	struct heard *heard = fabric;

	(void)plane;
	(void)peer;
	pthread_mutex_lock(&heard->lock);
	heard->failures++;
	pthread_mutex_unlock(&heard->lock);
}

static const struct mu_peering_events events = {
	.channel = heard_channel,
	.message = heard_message,
	.stream = heard_stream,
	.stream_failed = heard_failure,
};

#define UNDER(heard_, expression)                       \
	({                                              \
		pthread_mutex_lock(&(heard_).lock);     \
		__typeof__(expression) v_ = expression; \
		pthread_mutex_unlock(&(heard_).lock);   \
		v_;                                     \
	})

#define WAIT_UNTIL(condition)                                                                   \
	do {                                                                                    \
		uint64_t since_ns_ = clock_ns();                                                \
		while (!(condition)) {                                                          \
			struct timespec pause_ = {0, 1000000};                                  \
			nanosleep(&pause_, NULL);                                               \
			if (clock_ns() - since_ns_ > DEADLINE_NS)                               \
				fail_msg("%s:%d: in vain: %s", __FILE__, __LINE__, #condition); \
		}                                                                               \
	} while (0)

/* 127.x.y.id, x and y of this test of this process. */
static unsigned scene;

static void member_prepare(struct member *m, unsigned id, unsigned members)
{
	unsigned place = (unsigned)getpid() * 97 + scene;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->heard.lock, NULL);
	m->heard.in_order = true;
	memset(m->heard.stream, 0xff, sizeof(m->heard.stream));
	peering_options_init(&m->options);
	m->options.id = id;
	m->options.group_id = GROUP;
	m->options.secret = secret;
	m->options.secret_bytes = sizeof(secret);
	for (unsigned i = 1; i <= members; i++) {
		snprintf(m->address[i], sizeof(m->address[i]), "127.%u.%u.%u:%d",
			 1 + place / 250 % 250, 1 + place % 250, i, PORT);
		m->options.address[i] = m->address[i];
	}
}

static void member_start(struct member *m)
{
	char err[200] = "";

	m->peering = peering_open(&m->options, err, sizeof(err));
	if (!m->peering)
		fail_msg("%s", err);
	m->base = peering_base(m->peering);
	m->base->ops->attach(m->base, &events, &m->heard);
	assert_int_equal(peering_start(m->peering), 0);
}

static void member_stop(struct member *m)
{
	if (!m->peering)
		return;
	m->base->ops->attach(m->base, NULL, NULL);
	peering_close(m->peering);
	m->peering = NULL;
	for (int dialled = 0; dialled < 2; dialled++)
		for (int plane = 0; plane < MU_PLANES; plane++) {
			if (m->heard.stream[dialled][plane] >= 0)
				close(m->heard.stream[dialled][plane]);
			m->heard.stream[dialled][plane] = -1;
		}
	memset(m->heard.up, 0, sizeof(m->heard.up));
}

static bool sees(struct member *m, unsigned peer)
{
	return UNDER(m->heard, m->heard.up[peer]);
}

/* Two members of a group of two, joined. */
static void pair_start(struct member pair[2])
{
	scene++;
	for (unsigned i = 0; i < 2; i++) {
		member_prepare(&pair[i], i + 1, 2);
		member_start(&pair[i]);
	}
	WAIT_UNTIL(sees(&pair[0], 2) && sees(&pair[1], 1));
}

static void pair_stop(struct member pair[2])
{
	member_stop(&pair[0]);
	member_stop(&pair[1]);
}

/* -------------------------------------------------------- what the log says */

static FILE *said;
static int stderr_kept;

static void listen_to_log(void)
{
	fflush(stderr);
	said = tmpfile();
	assert_non_null(said);
	stderr_kept = dup(2);
	dup2(fileno(said), 2);
}

/* How many lines of the log have both words in them. */
static unsigned lines_with(const char *one, const char *other)
{
	char line[1000];
	unsigned count = 0;

	rewind(said);
	while (fgets(line, sizeof(line), said))
		count += strstr(line, one) && strstr(line, other);
	return count;
}

static void end_listening(void)
{
	dup2(stderr_kept, 2);
	close(stderr_kept);
	fclose(said);
}

/* ------------------------------------------------------------------ joining */

static void three_members_join(void **state)
{
	struct member m[3];

	(void)state;
	scene++;
	for (unsigned i = 0; i < 3; i++)
		member_prepare(&m[i], i + 1, 3);
	/* In this order: the lower ids dial nobody at first. */
	for (unsigned i = 0; i < 3; i++)
		member_start(&m[i]);
	for (unsigned i = 0; i < 3; i++)
		for (unsigned j = 0; j < 3; j++)
			if (i != j)
				WAIT_UNTIL(sees(&m[i], j + 1));
	for (unsigned i = 0; i < 3; i++)
		member_stop(&m[i]);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(m[i].heard.ups, 2);
}

static void messages_arrive_whole_and_in_order(void **state)
{
	struct member pair[2];
	uint8_t message[MU_PEERING_MESSAGE_BYTES];
	const uint32_t count = 5000;

	(void)state;
	pair_start(pair);
	memset(message, 'm', sizeof(message));
	for (uint32_t i = 0; i < count; i++) {
		memcpy(message, &i, sizeof(i));
		WAIT_UNTIL(pair[0].base->ops->send(pair[0].base, 2, message,
						   4 + i % (sizeof(message) - 3)) == 0);
	}
	WAIT_UNTIL(UNDER(pair[1].heard, pair[1].heard.messages) == count);
	assert_true(UNDER(pair[1].heard, pair[1].heard.in_order));
	assert_int_equal(pair[1].base->ops->send(pair[1].base, 1, "back", 4), 0);
	WAIT_UNTIL(UNDER(pair[0].heard, pair[0].heard.messages) == 1);
	assert_memory_equal(pair[0].heard.last, "back", 4);
	pair_stop(pair);
}

static void a_queue_that_nobody_reads_is_bounded(void **state)
{
	struct member m;
	uint8_t message[1000] = {0};

	(void)state;
	scene++;
	member_prepare(&m, 1, 2);
	member_start(&m);
	assert_int_equal(m.base->ops->send(m.base, 2, message, sizeof(message)), -1);
	member_stop(&m);
}

static void streams_go_to_the_plane_they_are_for(void **state)
{
	struct member pair[2];
	char byte;

	(void)state;
	pair_start(pair);
	for (int plane = 0; plane < MU_PLANES; plane++)
		assert_int_equal(pair[0].base->ops->dial(pair[0].base, (enum mu_plane)plane, 2), 0);
	for (int plane = 0; plane < MU_PLANES; plane++) {
		WAIT_UNTIL(UNDER(pair[0].heard, pair[0].heard.stream[1][plane]) >= 0);
		WAIT_UNTIL(UNDER(pair[1].heard, pair[1].heard.stream[0][plane]) >= 0);
		assert_int_equal(write(pair[0].heard.stream[1][plane], plane ? "b" : "d", 1), 1);
		WAIT_UNTIL(read(pair[1].heard.stream[0][plane], &byte, 1) == 1);
		assert_int_equal(byte, plane ? 'b' : 'd');
	}
	/* Nobody has asked for the other direction. */
	assert_int_equal(pair[1].heard.stream[1][0], -1);
	/* Another one may be asked for now. */
	assert_int_equal(pair[0].base->ops->dial(pair[0].base, MU_PLANE_DATA, 2), 0);
	pair_stop(pair);
}

static void a_request_for_a_stream_ends_also_if_nobody_is_there(void **state)
{
	struct member m;

	(void)state;
	scene++;
	member_prepare(&m, 1, 2);
	m.options.dial_ms = 50;
	member_start(&m);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(m.base->ops->dial(m.base, MU_PLANE_DATA, 2), 0);
		WAIT_UNTIL(UNDER(m.heard, m.heard.failures) == i);
	}
	assert_int_equal(m.base->ops->dial(m.base, MU_PLANE_DATA, 1), -1);
	assert_int_equal(m.base->ops->dial(m.base, MU_PLANE_DATA, 3), -1);
	member_stop(&m);
}

static void facts_are_known_to_all(void **state)
{
	struct member pair[2];

	(void)state;
	pair_start(pair);
	peering_set_facts(pair[0].peering, 5);
	WAIT_UNTIL(peering_peer(pair[1].peering, 1).facts == 5);
	assert_true(peering_peer(pair[1].peering, 1).up);
	pair_stop(pair);
}

/* A channel without a fabric at its other end is none for a fabric. */
static void without_a_fabric_there_is_no_channel(void **state)
{
	struct member pair[2];

	(void)state;
	pair_start(pair);
	pair[1].base->ops->attach(pair[1].base, NULL, NULL);
	WAIT_UNTIL(!sees(&pair[0], 2));
	assert_true(peering_peer(pair[0].peering, 2).up);
	pair[1].heard.up[1] = false;
	pair[1].base->ops->attach(pair[1].base, &events, &pair[1].heard);
	WAIT_UNTIL(sees(&pair[0], 2) && sees(&pair[1], 1));
	pair_stop(pair);
}

static void names_and_ipv6_do_as_well(void **state)
{
	struct member pair[2];

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		scene++;
		for (unsigned i = 0; i < 2; i++)
			member_prepare(&pair[i], i + 1, 3);
		/* The third is nowhere to be found, which must disturb nobody. */
		for (unsigned i = 0; i < 2; i++)
			snprintf(pair[i].address[3], 80, "no-such-host.invalid:1");
		pair[0].options.listen = v6 ? "[::1]:0" : "127.0.0.1:0";
		pair[1].options.listen = pair[0].options.listen;
		member_start(&pair[0]);
		snprintf(pair[1].address[1], 80, v6 ? "[::1]:%d" : "localhost:%d",
			 peering_port(pair[0].peering));
		member_start(&pair[1]);
		WAIT_UNTIL(sees(&pair[0], 2) && sees(&pair[1], 1));
		pair_stop(pair);
	}
}

static unsigned open_files(void)
{
	DIR *list = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(list);
	while (readdir(list))
		count++;
	closedir(list);
	return count;
}

static void coming_and_going_leaks_nothing(void **state)
{
	struct member pair[2];
	unsigned before = 0;

	(void)state;
	pair_start(pair);
	for (unsigned round = 0; round < 60; round++) {
		if (round == 10)
			before = open_files();
		member_stop(&pair[round % 2]);
		WAIT_UNTIL(!sees(&pair[1 - round % 2], round % 2 + 1));
		member_start(&pair[round % 2]);
		WAIT_UNTIL(sees(&pair[0], 2) && sees(&pair[1], 1));
	}
	assert_in_range(open_files(), 0, before + 3);
	pair_stop(pair);
}

/* ----------------------------------------------------------- who is refused */

/* Replica 2 differs in something; both sides say so, once, and nobody joins. */
static void assert_refused(void (*change)(struct member *), const char *here, const char *there)
{
	struct member pair[2];

	scene++;
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
#ifdef __SANITIZE_THREAD__
	skip(); /* it bears no threads in forked processes */
#endif
	scene++;
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
	scene++;
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
	scene++;
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
		cmocka_unit_test(three_members_join),
		cmocka_unit_test(messages_arrive_whole_and_in_order),
		cmocka_unit_test(a_queue_that_nobody_reads_is_bounded),
		cmocka_unit_test(streams_go_to_the_plane_they_are_for),
		cmocka_unit_test(a_request_for_a_stream_ends_also_if_nobody_is_there),
		cmocka_unit_test(facts_are_known_to_all),
		cmocka_unit_test(without_a_fabric_there_is_no_channel),
		cmocka_unit_test(names_and_ipv6_do_as_well),
		cmocka_unit_test(coming_and_going_leaks_nothing),
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
	return cmocka_run_group_tests_name("peering", tests, NULL, NULL);
}
