/* test_peering.c - members join over real sockets, and find each other again. */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "members.h"

/* ------------------------------------------------------------------ joining */

static void three_members_join(void **state)
{
	struct member m[3];

	(void)state;
	members_new_scene();
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

/* So many messages, until there has been no room for a while. */
static uint32_t send_until_refused(struct mu_peering *from, unsigned to)
{
	uint8_t message[MU_PEERING_MESSAGE_BYTES] = {0};
	uint64_t since_ns = clock_ns();
	uint32_t count = 0;

	while (clock_ns() - since_ns < 300000000) {
		memcpy(message, &count, sizeof(count));
		if (from->ops->send(from, to, message, sizeof(message)) != 0)
			continue;
		count++;
		since_ns = clock_ns();
		assert_in_range((uint64_t)count * sizeof(message), 0, 64 << 20);
	}
	return count;
}

/* What the sockets hold comes on top; what was taken arrives, and then there is room again. */
static void a_channel_that_is_not_read_from_takes_no_more(void **state)
{
	struct member pair[2];
	uint32_t count, last;

	(void)state;
	members_new_scene();
	for (unsigned i = 0; i < 2; i++) {
		member_prepare(&pair[i], i + 1, 2);
		pair[i].options.ping_ms = 600000; /* nobody is given up for saying nothing */
		member_start(&pair[i]);
	}
	WAIT_UNTIL(sees(&pair[0], 2) && sees(&pair[1], 1));
	pthread_mutex_lock(&pair[1].heard.lock); /* its thread waits for that */
	count = send_until_refused(pair[0].base, 2);
	pthread_mutex_unlock(&pair[1].heard.lock);
	assert_in_range((uint64_t)count * MU_PEERING_MESSAGE_BYTES, 256 << 10, 64 << 20);
	WAIT_UNTIL(UNDER(pair[1].heard, pair[1].heard.messages) == count);
	last = count;
	WAIT_UNTIL(pair[0].base->ops->send(pair[0].base, 2, &last, sizeof(last)) == 0);
	WAIT_UNTIL(UNDER(pair[1].heard, pair[1].heard.messages) == count + 1);
	assert_true(UNDER(pair[1].heard, pair[1].heard.in_order));
	assert_int_equal(pair[1].heard.downs, 0);
	pair_stop(pair);
}

static void without_a_channel_nothing_is_queued(void **state)
{
	struct member m;
	uint8_t message[1000] = {0};

	(void)state;
	members_new_scene();
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
	members_new_scene();
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

/* ------------------------------------------------------------------ newcomers */

/* Two that admit others, and one that knows the first of them alone. */
static void newcomer_prepare(struct member m[3])
{
	members_new_scene();
	for (unsigned i = 0; i < 3; i++) {
		member_prepare(&m[i], i + 1, 3);
		m[i].options.admits = true;
		m[i].options.configuration = mu_configuration(0, 0, 1 << 1 | 1 << 2);
	}
	m[0].options.address[3] = m[1].options.address[3] = m[2].options.address[2] = NULL;
}

static void who_is_new_is_known_to_all_through_one(void **state)
{
	struct member m[3];
	struct book book;

	(void)state;
	newcomer_prepare(m);
	member_start(&m[0]);
	member_start(&m[1]);
	WAIT_UNTIL(sees(&m[0], 2) && sees(&m[1], 1));
	member_start(&m[2]);
	for (unsigned i = 0; i < 3; i++)
		for (unsigned j = 0; j < 3; j++)
			if (i != j)
				WAIT_UNTIL(sees(&m[i], j + 1));
	peering_get_book(m[1].peering, &book);
	assert_string_equal(book.place[3].address, m[0].address[3]);
	/* The others pass on where it is to whoever has been away, and it comes back elsewhere. */
	member_stop(&m[1]);
	member_stop(&m[2]);
	m[2].address[3][strlen(m[2].address[3]) - 1]++; /* its port */
	member_start(&m[2]);
	WAIT_UNTIL(sees(&m[0], 3));
	member_start(&m[1]);
	WAIT_UNTIL(sees(&m[1], 3));
	peering_get_book(m[1].peering, &book);
	assert_string_equal(book.place[3].address, m[2].address[3]);
	for (unsigned i = 0; i < 3; i++)
		member_stop(&m[i]);
}

static void who_asks_is_told_who_the_members_are(void **state)
{
	struct member m[3];
	struct book book = {0};
	char err[300] = "";

	(void)state;
	newcomer_prepare(m);
	member_start(&m[0]);
	if (!peering_ask(&m[2].options, m[0].address[1], &book, err, sizeof(err)))
		fail_msg("%s", err);
	assert_int_equal(book.configuration, m[0].options.configuration);
	assert_int_equal(book_known(&book), 1 << 1 | 1 << 2);
	assert_string_equal(book.place[2].address, m[0].address[2]);
	m[2].options.secret_bytes -= 2; /* a NUL at the end makes no other key */
	assert_false(peering_ask(&m[2].options, m[0].address[1], &book, err, sizeof(err)));
	assert_string_equal(err, "refused there: another secret");
	m[2].options.group_id++;
	assert_false(peering_ask(&m[2].options, m[0].address[1], &book, err, sizeof(err)));
	assert_string_equal(err, "refused there: another group");
	member_stop(&m[0]);
	assert_false(peering_ask(&m[2].options, m[0].address[1], &book, err, sizeof(err)));
	assert_string_equal(err, "Connection refused");
}

/* A group whose members do not change. */
static void a_stranger_is_not_admitted_where_nobody_is(void **state)
{
	struct member m[3];

	(void)state;
	newcomer_prepare(m);
	m[0].options.admits = false;
	listen_to_log();
	member_start(&m[0]);
	member_start(&m[2]);
	WAIT_UNTIL(lines_with("refused by replica 1", "not a member of the group") == 1);
	assert_false(sees(&m[0], 3));
	member_stop(&m[0]);
	member_stop(&m[2]);
	end_listening();
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
	pair[1].base->ops->attach(pair[1].base, &members_events, &pair[1].heard);
	WAIT_UNTIL(sees(&pair[0], 2) && sees(&pair[1], 1));
	pair_stop(pair);
}

static void names_and_ipv6_do_as_well(void **state)
{
	struct member pair[2];

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		members_new_scene();
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

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(three_members_join),
		cmocka_unit_test(messages_arrive_whole_and_in_order),
		cmocka_unit_test(a_channel_that_is_not_read_from_takes_no_more),
		cmocka_unit_test(without_a_channel_nothing_is_queued),
		cmocka_unit_test(streams_go_to_the_plane_they_are_for),
		cmocka_unit_test(a_request_for_a_stream_ends_also_if_nobody_is_there),
		cmocka_unit_test(facts_are_known_to_all),
		cmocka_unit_test(without_a_fabric_there_is_no_channel),
		cmocka_unit_test(names_and_ipv6_do_as_well),
		cmocka_unit_test(coming_and_going_leaks_nothing),
		cmocka_unit_test(who_is_new_is_known_to_all_through_one),
		cmocka_unit_test(who_asks_is_told_who_the_members_are),
		cmocka_unit_test(a_stranger_is_not_admitted_where_nobody_is),
	};

	signal(SIGPIPE, SIG_IGN);
	mp_log_init(MP_LOG_INFO, 0);
	return cmocka_run_group_tests_name("peering", tests, NULL, NULL);
}
