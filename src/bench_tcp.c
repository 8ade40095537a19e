/* bench_tcp.c - see the header. */
#include "config.h"

#include "bench_tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench_peering.h"
#include "net.h"

enum { PEERING_PORT = 7400, ECHO_PORT = 7401, ECHO_BYTES = 2 << 20, ECHO_ANSWERS = 64 };
/* Replies here wait for a thread to be scheduled, which memory does not. */
#define OP_TIMEOUT_NS 100000000u

/* ------------------------------------------------------------ bare ping-pong */

/*
 * What the fabric's service does for each request, and nothing else: wait in
 * epoll, one recv() of what is there, one send() of as many bytes as its replies
 * have. Each message comes behind its length.
 */
static bool answer(int fd, uint8_t *buffer, size_t *received)
{
	ssize_t n = recv(fd, buffer + *received, ECHO_BYTES - *received, MSG_DONTWAIT);
	uint64_t answers[ECHO_ANSWERS], len;
	size_t done = 0, count = 0;

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	*received += (size_t)n;
	while (count < ECHO_ANSWERS && *received - done >= sizeof(len)) {
		memcpy(&len, buffer + done, sizeof(len));
		if (len > ECHO_BYTES - sizeof(len) || *received - done - sizeof(len) < len)
			break;
		done += sizeof(len) + len;
		answers[count++] = len;
	}
	memmove(buffer, buffer + done, *received - done);
	*received -= done;
	return count == 0 || send(fd, answers, count * sizeof(len), MSG_NOSIGNAL) ==
				     (ssize_t)(count * sizeof(len));
}

static void echo(int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	uint8_t *buffer = malloc(ECHO_BYTES);
	size_t received = 0;

	if (buffer && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		while (epoll_wait(epoll_fd, &event, 1, -1) >= 0 || errno == EINTR)
			if (!answer(fd, buffer, &received))
				break;
	free(buffer);
	close(epoll_fd);
	close(fd);
}

/* Ends with the process: one peer at a time is enough. */
static void *run_echo(void *ctx)
{
	int listener = (int)(intptr_t)ctx, fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		mp_tune(fd);
		echo(fd);
	}
	return NULL;
}

static bool start_echo(const char *directory, unsigned id, char *err, size_t err_bytes)
{
	char address[BENCH_ADDRESS_BYTES];
	pthread_t thread;
	int listener;

	bench_address(directory, id, ECHO_PORT, address);
	listener = mp_listen(address, 8, err, err_bytes);
	if (listener < 0)
		return false;
	fcntl(listener, F_SETFL, 0);
	if (pthread_create(&thread, NULL, run_echo, (void *)(intptr_t)listener) == 0) {
		pthread_detach(thread);
		return true;
	}
	close(listener);
	snprintf(err, err_bytes, "no thread");
	return false;
}

struct partner {
	int fd;        /* 0: not connected */
	uint64_t owed; /* bytes of answers yet to come */
};

static bool meet(struct partner *partner, const char *directory, unsigned id)
{
	struct mp_address place;
	char address[BENCH_ADDRESS_BYTES], err[200];

	if (partner->fd > 0)
		return true;
	bench_address(directory, id, ECHO_PORT, address);
	if (!mp_address_parse(address, &place, err, sizeof(err)))
		return false;
	partner->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (partner->fd < 0 ||
	    connect(partner->fd, (struct sockaddr *)&place.at[0].address, place.at[0].len) < 0) {
		fprintf(stderr, "mubench: %s: %s\n", address, strerror(errno));
		return false;
	}
	mp_tune(partner->fd);
	return true;
}

static bool say(struct partner *partner, const uint8_t *bytes, size_t len)
{
	uint64_t head = len;
	struct iovec parts[] = {{&head, sizeof(head)}, {(void *)bytes, len}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

	partner->owed += sizeof(head);
	return sendmsg(partner->fd, &message, MSG_NOSIGNAL) == (ssize_t)(sizeof(head) + len);
}

/* As the fabric's poll(): a look that does not wait. False: it is gone. */
static bool listen_to(struct partner *partner)
{
	uint8_t sink[4096];
	size_t most = partner->owed < sizeof(sink) ? partner->owed : sizeof(sink);
	ssize_t n = most > 0 ? recv(partner->fd, sink, most, MSG_DONTWAIT) : 0;

	if (n > 0)
		partner->owed -= (uint64_t)n;
	return n > 0 || most == 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

bool bench_tcp_exchange(const char *directory, unsigned replicas, const uint8_t *bytes, size_t len,
			unsigned count)
{
	static struct partner partners[MU_ID_SLOTS];
	unsigned needed = replicas / 2, done = 0; /* with the one who asks they are a majority */

	for (unsigned id = 2; id <= replicas; id++)
		if (!meet(&partners[id], directory, id))
			return false;
	for (unsigned i = 0; i < count; i++)
		for (unsigned id = 2; id <= replicas; id++)
			if (!say(&partners[id], bytes, len))
				return false;
	while (done < needed) {
		done = 0;
		for (unsigned id = 2; id <= replicas; id++) {
			if (!listen_to(&partners[id]))
				return false;
			done += partners[id].owed == 0;
		}
	}
	return true;
}

/* --------------------------------------------------------------------- fabric */

int bench_tcp_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		   const char *directory, char *err, size_t err_bytes)
{
	struct mu_fabric_config patient = *config;
	struct mu_fabric_tcp_options options = {.directory = directory};

	if (patient.op_timeout_ns < OP_TIMEOUT_NS)
		patient.op_timeout_ns = OP_TIMEOUT_NS;
	if (!start_echo(directory, config->id, err, err_bytes))
		return -1;
	options.peering =
		bench_peering_open(config, directory, PEERING_PORT, MP_LOG_ERROR, err, err_bytes);
	if (!options.peering)
		return -1;
	if (mu_fabric_tcp_open(out, &patient, &options, err, err_bytes) != 0)
		*out = NULL;
	return bench_peering_start(*out, err, err_bytes);
}
