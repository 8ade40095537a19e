/* bench_tcp.c - see the header. */
#include "config.h"

#include "bench_tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench_peering.h"
#include "net.h"

enum { PEERING_PORT = 7400, ECHO_PORT = 7401, ECHO_BYTES = 256 << 10 };
/* Replies here wait for a thread to be scheduled, which memory does not. */
#define OP_TIMEOUT_NS 100000000u

/* ------------------------------------------------------------ bare ping-pong */

/* Reads messages, each behind its length, and answers each with as many bytes as a length has. */
static void echo(int fd)
{
	uint8_t *sink = malloc(ECHO_BYTES);
	uint64_t len, left;

	while (sink && recv(fd, &len, sizeof(len), MSG_WAITALL) == sizeof(len)) {
		for (left = len; left > 0;) {
			ssize_t n = recv(fd, sink, left < ECHO_BYTES ? left : ECHO_BYTES, 0);

			if (n <= 0)
				break;
			left -= (uint64_t)n;
		}
		if (left > 0 || send(fd, &len, sizeof(len), MSG_NOSIGNAL) != sizeof(len))
			break;
	}
	free(sink);
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
