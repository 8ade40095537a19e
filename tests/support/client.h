/*
 * client.h - one blocking connection of a test to a server's unix socket, for
 * tests that compare our answers with the server's own. It aborts, with the
 * reason printed, where a test cannot go on.
 */
#ifndef TEST_CLIENT_H
#define TEST_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "slice.h"

struct test_client {
	int fd;
	bool memcached; /* replies are framed as its; otherwise as Redis's */
	char *in;       /* what has come: the last reply, and behind it what follows */
	size_t used, len, cap;
};

void test_client_open(struct test_client *client, const char *path, bool memcached);
void test_client_close(struct test_client *client);
void test_client_send(struct test_client *client, struct mp_slice bytes);
/* The next whole reply, valid until the next call. Empty: the server has closed. */
struct mp_slice test_client_reply(struct test_client *client);
/* The same for a frame of Memcached's binary protocol. */
struct mp_slice test_client_frame(struct test_client *client);
/* Send, and the reply. */
struct mp_slice test_client_ask(struct test_client *client, struct mp_slice request);
#endif
