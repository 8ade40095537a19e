/* test_sender.c - sends to many sockets at once, with a ring and without. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "sender.h"

enum { PAIRS = 40, BYTES = 8 << 20 };

struct fixture {
	struct mp_sender sender;
	int ours[PAIRS], theirs[PAIRS];
	struct mp_sending list[PAIRS];
	char text[PAIRS][16];
};

static int open_pairs(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	for (int i = 0; i < PAIRS; i++) {
		int fds[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		f->ours[i] = fds[0];
		f->theirs[i] = fds[1];
		assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
		f->list[i] = (struct mp_sending){
			.fd = fds[0],
			.bytes = {f->text[i], (size_t)sprintf(f->text[i], "to %d", i)},
			.owner = &f->theirs[i]};
	}
	*state = f;
	return 0;
}

/* With a ring, if there can be one here. */
static int setup(void **state)
{
	open_pairs(state);
	mp_sender_open(&((struct fixture *)*state)->sender);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mp_sender_close(&f->sender);
	for (int i = 0; i < PAIRS; i++) {
		close(f->ours[i]);
		close(f->theirs[i]);
	}
	free(f);
	return 0;
}

static void expect_text(const struct fixture *f, int i)
{
	char got[32];
	ssize_t n = recv(f->theirs[i], got, sizeof(got), MSG_DONTWAIT);

	assert_int_equal(n, strlen(f->text[i]));
	assert_memory_equal(got, f->text[i], (size_t)n);
}

/* Each gets its own, however often, and for however few. */
static void test_all_get_theirs(void **state)
{
	struct fixture *f = *state;

	for (unsigned count = 0; count <= PAIRS; count++) {
		mp_sender_send(&f->sender, f->list, count);
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(f->list[i].result, f->list[i].bytes.len);
			expect_text(f, (int)i);
		}
	}
}

/* A socket takes what it can; a full one, or one whose other end is gone, harms no other. */
static void test_each_has_its_own_result(void **state)
{
	enum { LARGE = 3, FULL = 7, GONE = 11 };
	struct fixture *f = *state;
	char *large = calloc(1, BYTES);
	ssize_t n;

	assert_non_null(large);
	while (send(f->ours[FULL], large, BYTES, MSG_DONTWAIT) > 0)
		;
	f->list[LARGE].bytes = (struct mp_slice){large, BYTES};
	close(f->theirs[GONE]);
	mp_sender_send(&f->sender, f->list, PAIRS);
	n = f->list[LARGE].result;
	assert_true(n > 0 && n < BYTES);
	assert_int_equal(f->list[FULL].result, -EAGAIN);
	assert_int_equal(f->list[GONE].result, -EPIPE);
	for (int i = 0; i < PAIRS; i++)
		if (i != LARGE && i != FULL && i != GONE)
			expect_text(f, i);
	while (n > 0) {
		ssize_t got = recv(f->theirs[LARGE], large, BYTES, MSG_DONTWAIT);

		assert_true(got > 0);
		n -= got;
	}
	assert_int_equal(recv(f->theirs[LARGE], large, 1, MSG_DONTWAIT), -1);
	f->theirs[GONE] = -1;
	free(large);
}

int main(void)
{
#define BOTH(name)                                                         \
	cmocka_unit_test_setup_teardown(name, setup, teardown),            \
	{                                                                  \
#name ", without a ring", name, open_pairs, teardown, NULL \
	}
	const struct CMUnitTest tests[] = {
		BOTH(test_all_get_theirs),
		BOTH(test_each_has_its_own_result),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
