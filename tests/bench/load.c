/* load.c - see load.h. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64, PATIENCE_MS = 20000 };

static struct load_client clients[LOAD_MAX_CLIENTS];
static char request[LOAD_REQUEST_BYTES];
static uint32_t *latencies_ns;
static long sent, answers, operations; /* requests; what they were made of */

void load_fail(const struct load *load, const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", load->program, what, strerror(errno));
	exit(1);
}

void load_refuse(const struct load *load, const char *data, size_t len)
{
	const char *end = memchr(data, '\r', len);

	fprintf(stderr, "%s: %.*s\n", load->program, (int)(end ? (size_t)(end - data) : len), data);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint32_t load_random_below(uint32_t n)
{
	static uint64_t state = 88172645463325252;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state % n);
}

static void send_all(const struct load *load, int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			load_fail(load, "send");
		data += n;
		len -= (size_t)n;
	}
}

static void receive(const struct load *load, struct load_client *client)
{
	static char in[1 << 18];
	ssize_t n = recv(client->fd, in, sizeof(in), 0);

	if (n == 0)
		errno = ECONNRESET;
	if (n <= 0)
		load_fail(load, "recv");
	load->take(client, in, (size_t)n);
}

void load_ask(const struct load *load, struct load_client *client, const char *data, size_t len)
{
	send_all(load, client->fd, data, len);
	while (client->owed > 0)
		receive(load, client);
}

static void send_next(const struct load *load, struct load_client *client)
{
	size_t len = load->make(client, request);

	sent++;
	operations += client->operations;
	client->sent_ns = now_ns();
	send_all(load, client->fd, request, len);
}

static void open_client(const struct load *load, struct load_client *client, int epoll)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)load->port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
	int yes = 1;

	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		load_fail(load, "connect");
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event) < 0)
		load_fail(load, "epoll_ctl");
}

static void answered(const struct load *load, struct load_client *client)
{
	latencies_ns[answers++] = (uint32_t)(now_ns() - client->sent_ns);
	if (sent < load->requests)
		send_next(load, client);
}

static void run(const struct load *load, int epoll)
{
	struct epoll_event events[EVENTS];
	int waiting = 0;

	for (; waiting < load->clients && sent < load->requests; waiting++)
		send_next(load, &clients[waiting]);
	while (waiting > 0) {
		int n = epoll_wait(epoll, events, EVENTS, PATIENCE_MS);

		if (n == 0)
			errno = ETIMEDOUT;
		if (n <= 0)
			load_fail(load, "no answer");
		for (int i = 0; i < n; i++) {
			struct load_client *client = events[i].data.ptr;

			receive(load, client);
			if (client->owed > 0)
				continue;
			answered(load, client);
			waiting -= client->owed == 0;
		}
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void measure(const struct load *load, int epoll)
{
	uint64_t start_ns;
	double seconds;

	latencies_ns = calloc((size_t)load->requests, sizeof(*latencies_ns));
	if (!latencies_ns)
		load_fail(load, "start");
	start_ns = now_ns();
	run(load, epoll);
	seconds = (double)(now_ns() - start_ns) / 1e9;
	qsort(latencies_ns, (size_t)answers, sizeof(*latencies_ns), compare);
	printf("%.0f %.1f %.1f\n", (double)operations / seconds, latencies_ns[answers / 2] / 1e3,
	       latencies_ns[answers * 99 / 100] / 1e3);
	free(latencies_ns);
}

void load_run(const struct load *load)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0)
		load_fail(load, "start");
	for (int i = 0; i < load->clients; i++)
		open_client(load, &clients[i], epoll);
	if (load->prepare)
		load->prepare(&clients[0]);
	if (load->requests > 0)
		measure(load, epoll);
	for (int i = 0; i < load->clients; i++)
		close(clients[i].fd);
	close(epoll);
}
