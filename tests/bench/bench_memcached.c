/*
 * bench_memcached.c - load for a Memcached server: connections that each wait
 * for the answer before they send again, all in one thread. Used by
 * memcached-compare. Prints operations per second (a get of many keys is as
 * many) and the median and 99th percentile of the time to the answer, in
 * microseconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mc_text.h"

enum { KEYS = 10000, MAX_CLIENTS = 1024, MAX_KEYS = 100, MAX_BYTES = 65536 };

static struct {
	int port, clients, gets_percent, bytes, keys;
	long requests;
} options = {.clients = 1, .gets_percent = 90, .bytes = 100, .keys = 1, .requests = 100000};

struct client {
	int fd;
	struct mc_framer framer;
	uint64_t sent_ns;
};

static struct client clients[MAX_CLIENTS];
static char value[MAX_BYTES];
static uint32_t *latencies_ns;
static long sent, answered, operations;

static void fail(const char *what)
{
	fprintf(stderr, "bench_memcached: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint32_t random_below(uint32_t n)
{
	static uint64_t state = 88172645463325252;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state % n);
}

static size_t make_set(char *out, uint32_t key)
{
	int n = sprintf(out, "set bench:%u 0 0 %d\r\n", key, options.bytes);

	memcpy(out + n, value, (size_t)options.bytes);
	memcpy(out + n + options.bytes, "\r\n", 2);
	return (size_t)(n + options.bytes + 2);
}

static size_t make_get(char *out)
{
	int n = sprintf(out, "get");

	for (int i = 0; i < options.keys; i++)
		n += sprintf(out + n, " bench:%u", random_below(KEYS));
	return (size_t)(n + sprintf(out + n, "\r\n"));
}

static void send_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			fail("send");
		data += n;
		len -= (size_t)n;
	}
}

static void send_next(struct client *c)
{
	static char request[MAX_BYTES + 256];
	bool get = (int)random_below(100) < options.gets_percent;
	size_t len = get ? make_get(request) : make_set(request, random_below(KEYS));

	operations += get ? options.keys : 1;
	sent++;
	c->sent_ns = now_ns();
	send_all(c->fd, request, len);
}

/* True: its answer is whole. */
static bool receive(struct client *c)
{
	static char in[1 << 18];
	ssize_t n = recv(c->fd, in, sizeof(in), 0);
	enum mc_result result;
	size_t used;

	if (n <= 0)
		fail("recv");
	if (strncmp(in, "SERVER_ERROR", 12) == 0 || strncmp(in, "CLIENT_ERROR", 12) == 0) {
		fprintf(stderr, "bench_memcached: %.*s\n", (int)n, in);
		exit(1);
	}
	result = mc_frame(&c->framer, in, (size_t)n, &used);
	return result == MC_DONE;
}

static void open_client(struct client *c, int epoll)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)options.port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
	int yes = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
		fail("epoll_ctl");
}

static void fill_keys(struct client *c)
{
	static char request[MAX_BYTES + 256];

	for (uint32_t key = 0; key < KEYS; key++) {
		send_all(c->fd, request, make_set(request, key));
		while (!receive(c))
			;
	}
}

static void run(int epoll)
{
	struct epoll_event events[64];

	for (int i = 0; i < options.clients && sent < options.requests; i++)
		send_next(&clients[i]);
	while (answered < sent) {
		int n = epoll_wait(epoll, events, 64, 20000);

		if (n <= 0)
			fail("no answer");
		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;

			if (!receive(c))
				continue;
			latencies_ns[answered++] = (uint32_t)(now_ns() - c->sent_ns);
			if (sent < options.requests)
				send_next(c);
		}
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int usage(int code)
{
	fprintf(code ? stderr : stdout,
		"usage: bench_memcached --port PORT [--requests N] [--clients N] [--gets PERCENT]\n"
		"                       [--bytes N] [--keys N (of a get)]\n");
	return code;
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {{"port", 1, NULL, 'p'},    {"requests", 1, NULL, 'n'},
					      {"clients", 1, NULL, 'c'}, {"gets", 1, NULL, 'g'},
					      {"bytes", 1, NULL, 'b'},   {"keys", 1, NULL, 'k'},
					      {"help", 0, NULL, 'h'},    {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		long number = optarg ? atol(optarg) : 0;

		if (option == 'h')
			exit(usage(0));
		else if (option == 'p')
			options.port = (int)number;
		else if (option == 'n')
			options.requests = number;
		else if (option == 'c')
			options.clients = (int)number;
		else if (option == 'g')
			options.gets_percent = (int)number;
		else if (option == 'b')
			options.bytes = (int)number;
		else if (option == 'k')
			options.keys = (int)number;
		else
			return false;
	}
	return optind == argc && options.port > 0 && options.port < 65536 && options.requests > 0 &&
	       options.clients > 0 && options.clients <= MAX_CLIENTS && options.gets_percent >= 0 &&
	       options.gets_percent <= 100 && options.bytes >= 0 && options.bytes <= MAX_BYTES &&
	       options.keys > 0 && options.keys <= MAX_KEYS;
}

int main(int argc, char **argv)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	uint64_t start_ns;
	double seconds;

	if (!parse(argc, argv))
		return usage(2);
	memset(value, 'x', sizeof(value));
	latencies_ns = calloc((size_t)options.requests, sizeof(*latencies_ns));
	if (!latencies_ns || epoll < 0)
		fail("start");
	for (int i = 0; i < options.clients; i++)
		open_client(&clients[i], epoll);
	fill_keys(&clients[0]);
	start_ns = now_ns();
	run(epoll);
	seconds = (double)(now_ns() - start_ns) / 1e9;
	qsort(latencies_ns, (size_t)answered, sizeof(*latencies_ns), compare);
	printf("%.0f %.1f %.1f\n", (double)operations / seconds, latencies_ns[answered / 2] / 1e3,
	       latencies_ns[answered * 99 / 100] / 1e3);
	free(latencies_ns);
	return 0;
}
