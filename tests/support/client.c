/* client.c - see client.h. */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "mc_text.h"
#include "resp.h"

static void fail(const char *what)
{
	fprintf(stderr, "test client: %s: %s\n", what, strerror(errno));
	abort();
}

void test_client_open(struct test_client *client, const char *path, bool memcached)
{
	struct timeval timeout = {10, 0};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	*client = (struct test_client){.memcached = memcached};
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		fail("socket");
	if (connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(path);
	if (setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		fail("timeout");
	client->cap = 1 << 16;
	client->in = malloc(client->cap);
	if (!client->in)
		fail("memory");
}

void test_client_close(struct test_client *client)
{
	close(client->fd);
	free(client->in);
}

void test_client_send(struct test_client *client, struct mp_slice bytes)
{
	size_t sent = 0;

	while (sent < bytes.len) {
		ssize_t n = send(client->fd, bytes.data + sent, bytes.len - sent, MSG_NOSIGNAL);

		if (n <= 0)
			fail("send");
		sent += (size_t)n;
	}
}

/* More bytes behind those that are there. False: the server has closed. */
static bool receive(struct test_client *client)
{
	ssize_t n;

	if (client->len == client->cap) {
		client->cap *= 2;
		client->in = realloc(client->in, client->cap);
		if (!client->in)
			fail("memory");
	}
	n = recv(client->fd, client->in + client->len, client->cap - client->len, 0);
	if (n < 0 && errno != ECONNRESET)
		fail("no reply");
	if (n > 0)
		client->len += (size_t)n;
	return n > 0;
}

/* The last reply goes. */
static void drop_reply(struct test_client *client)
{
	client->len -= client->used;
	memmove(client->in, client->in + client->used, client->len);
	client->used = 0;
}

struct mp_slice test_client_frame(struct test_client *client)
{
	size_t bytes = 24;
	uint32_t body;

	drop_reply(client);
	for (;;) {
		if (client->len >= 24) {
			memcpy(&body, client->in + 8, sizeof(body));
			bytes = 24 + ntohl(body);
		}
		if (client->len >= bytes)
			break;
		if (!receive(client))
			return (struct mp_slice){client->in, 0};
	}
	client->used = bytes;
	return (struct mp_slice){client->in, client->used};
}

struct mp_slice test_client_reply(struct test_client *client)
{
	struct resp_framer resp = {0};
	struct mc_framer mc = {0};
	size_t seen = 0;
	bool done = false;

	drop_reply(client);
	while (!done) {
		size_t used;

		if (seen == client->len && !receive(client))
			break;
		if (client->memcached)
			done = mc_frame(&mc, client->in + seen, client->len - seen, &used) !=
			       MC_MORE;
		else
			done = resp_frame(&resp, client->in + seen, client->len - seen, &used) !=
			       RESP_MORE;
		seen += used;
	}
	client->used = seen;
	return (struct mp_slice){client->in, seen};
}

struct mp_slice test_client_ask(struct test_client *client, struct mp_slice request)
{
	test_client_send(client, request);
	return test_client_reply(client);
}
