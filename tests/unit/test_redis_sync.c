/*
 * test_redis_sync.c - what a Redis sends to a replica, however it is cut into
 * pieces: how far the snapshot is, the offsets behind it, where a message ends.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "redis_sync.h"

#define ID "0123456789abcdef0123456789abcdef01234567"
#define ANSWER "+FULLRESYNC " ID " 1000\r\n"
#define SNAPSHOT "REDIS0010 with \r\n in it"
#define COMMANDS "*1\r\n$4\r\nPING\r\n"
enum { SNAPSHOT_BYTES = sizeof(SNAPSHOT) - 1, COMMANDS_BYTES = sizeof(COMMANDS) - 1 };

static struct mp_slice text(const char *s)
{
	return mp_slice_of(s);
}

static void feed_in_two(struct redis_sync *sync, const char *bytes, size_t at)
{
	*sync = (struct redis_sync){0};
	assert_true(redis_sync_feed(sync, (struct mp_slice){bytes, at}));
	assert_true(redis_sync_feed(sync, text(bytes + at)));
}

/* With its length told beforehand, and line ends before that while it is being made. */
static void a_snapshot_of_known_length(void **state)
{
	static const char all[] = "\n\n" ANSWER "\n\n$23\r\n" SNAPSHOT COMMANDS;
	struct redis_sync sync;

	(void)state;
	assert_int_equal(SNAPSHOT_BYTES, 23);
	for (size_t at = 0; at < sizeof(all); at++) {
		feed_in_two(&sync, all, at);
		assert_int_equal(sync.part, REDIS_SYNC_COMMANDS);
		assert_int_equal(sync.bytes, SNAPSHOT_BYTES);
		assert_int_equal(sync.total_bytes, SNAPSHOT_BYTES);
		assert_int_equal(sync.offset, 1000 + COMMANDS_BYTES);
	}
}

static void a_snapshot_that_ends_in_a_mark(void **state)
{
	/* The mark's beginning within it is not the mark. */
	static const char all[] = ANSWER "$EOF:" ID "\r\n" SNAPSHOT "0123456789" ID;
	struct redis_sync sync;

	(void)state;
	for (size_t at = 0; at < sizeof(all); at++) {
		feed_in_two(&sync, all, at);
		assert_int_equal(sync.part, REDIS_SYNC_COMMANDS);
		assert_int_equal(sync.bytes, SNAPSHOT_BYTES + 10 + 40);
		assert_int_equal(sync.total_bytes, 0);
		assert_int_equal(sync.offset, 1000);
	}
	assert_true(redis_sync_feed(&sync, text(COMMANDS)));
	assert_int_equal(sync.offset, 1000 + COMMANDS_BYTES);
}

static void how_far_it_is(void **state)
{
	struct redis_sync sync = {0};

	(void)state;
	assert_true(redis_sync_feed(&sync, text(ANSWER "\n")));
	assert_int_equal(sync.part, REDIS_SYNC_LENGTH);
	assert_true(redis_sync_feed(&sync, text("$23\r\nREDIS")));
	assert_int_equal(sync.part, REDIS_SYNC_SNAPSHOT);
	assert_int_equal(sync.bytes, 5);
	assert_int_equal(sync.total_bytes, 23);
}

static void errors_are_told(void **state)
{
	static const char *const wrong[] = {
		"-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
		"+CONTINUE\r\n",
		ANSWER "-ERR no space\r\n",
		ANSWER "$0\r\n",
		ANSWER "$EOF:short\r\n",
	};
	char endless[400];
	struct redis_sync sync;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		sync = (struct redis_sync){0};
		assert_false(redis_sync_feed(&sync, text(wrong[i])));
		assert_true(sync.why[0] != '\0' && !strpbrk(sync.why, "\r\n"));
	}
	memset(endless, 'x', sizeof(endless));
	sync = (struct redis_sync){0};
	assert_false(redis_sync_feed(&sync, (struct mp_slice){endless, sizeof(endless)}));
}

/* Fed in pieces of that many bytes: up to where in all? 0: not found. */
static size_t search(const char *bytes, size_t piece, const char *sought)
{
	struct redis_search s = {.len = strlen(sought)};
	size_t len = strlen(bytes);

	memcpy(s.sought, sought, s.len);
	for (size_t at = 0; at < len; at += piece) {
		size_t left = len - at < piece ? len - at : piece;
		size_t found = redis_search_in(&s, (struct mp_slice){bytes + at, left});

		if (found)
			return at + found;
	}
	return 0;
}

static void a_message_is_found_wherever_it_is_cut(void **state)
{
	static const char *const before[] = {"", "x", "mess", "messmess",
					     "a long way before the mes"};
	char bytes[200];

	(void)state;
	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		size_t end = strlen(before[i]) + strlen("message");

		strcpy(bytes, before[i]);
		strcat(bytes, "message and more");
		for (size_t piece = 1; piece <= strlen(bytes); piece++) {
			assert_int_equal(search(bytes, piece, "message"), end);
			assert_int_equal(search(bytes, piece, "massage"), 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_snapshot_of_known_length),
		cmocka_unit_test(a_snapshot_that_ends_in_a_mark),
		cmocka_unit_test(how_far_it_is),
		cmocka_unit_test(errors_are_told),
		cmocka_unit_test(a_message_is_found_wherever_it_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
