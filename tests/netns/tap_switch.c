/*
 * tap_switch.c - an Ethernet switch in user space that joins network namespaces
 * (scripts/netns-group), and of which every port can be made slow, lossy or
 * dead, each direction by itself. Kernels with netem can do the same with tc;
 * this one needs no more than TAP devices.
 *
 *   tap_switch CONTROL NETNS...      create eth0 in each namespace, and forward
 *   tap_switch --set CONTROL PORT [from|to] [delay=MS] [loss=PERCENT]
 *
 * Ports count from 1 in the order of the namespaces. `from` is what its replica
 * sends, `to` what is sent to it; without either it is both. Prints "ready" once
 * the devices are there; ends with its parent, or by a signal.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	PORTS_MAX = 7,
	FRAME_BYTES = 2048,
	QUEUE_FRAMES = 4096, /* on their way to one port; beyond, frames are lost */
	FRAMES_PER_TURN = 64,
	MAC_BYTES = 6,
};
enum direction { FROM, TO };

struct frame {
	uint64_t due_ns;
	uint16_t bytes;
	uint8_t data[FRAME_BYTES];
};

/* What happens to frames in one direction. */
struct fate {
	uint64_t delay_ns;
	unsigned loss_permille;
};

struct port {
	int fd;
	struct fate fate[2];
	uint8_t mac[MAC_BYTES]; /* of whoever sent from there last */
	struct frame *queue;
	unsigned head, tail;
};

struct command {
	uint32_t port, direction;        /* direction 2: both */
	int64_t delay_us, loss_permille; /* -1: as it is */
};

static struct port ports[PORTS_MAX];
static unsigned port_count;

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "tap_switch: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ----------------------------------------------------------------- forwarding */

/* xorshift: whether this one of a thousand is lost. */
static bool is_lost(const struct fate *fate)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % 1000 < fate->loss_permille;
}

static void enqueue(struct port *from, struct port *to, const uint8_t *data, size_t bytes)
{
	struct frame *frame = &to->queue[to->tail % QUEUE_FRAMES];
	uint64_t due_ns = clock_ns() + from->fate[FROM].delay_ns + to->fate[TO].delay_ns;

	if (to->tail - to->head == QUEUE_FRAMES || is_lost(&to->fate[TO]))
		return;
	/* A change of the delay must not let frames overtake each other. */
	if (to->tail != to->head && to->queue[(to->tail - 1) % QUEUE_FRAMES].due_ns > due_ns)
		due_ns = to->queue[(to->tail - 1) % QUEUE_FRAMES].due_ns;
	frame->due_ns = due_ns;
	frame->bytes = (uint16_t)bytes;
	memcpy(frame->data, data, bytes);
	to->tail++;
}

static void take_frame(struct port *from, const uint8_t *data, size_t bytes)
{
	struct port *known = NULL;

	if (bytes < 2 * MAC_BYTES || is_lost(&from->fate[FROM]))
		return;
	memcpy(from->mac, data + MAC_BYTES, MAC_BYTES);
	for (unsigned i = 0; i < port_count; i++)
		if (memcmp(ports[i].mac, data, MAC_BYTES) == 0)
			known = &ports[i];
	for (unsigned i = 0; i < port_count; i++)
		if (&ports[i] != from && (!known || known == &ports[i]))
			enqueue(from, &ports[i], data, bytes);
}

static void read_frames(struct port *port)
{
	uint8_t data[FRAME_BYTES];

	for (int i = 0; i < FRAMES_PER_TURN; i++) {
		ssize_t n = read(port->fd, data, sizeof(data));

		if (n <= 0)
			return;
		take_frame(port, data, (size_t)n);
	}
}

/* Deliver what is due; returns when the next one is. */
static uint64_t deliver(struct port *port, uint64_t now_ns)
{
	for (; port->head != port->tail; port->head++) {
		const struct frame *frame = &port->queue[port->head % QUEUE_FRAMES];

		if (frame->due_ns > now_ns)
			return frame->due_ns;
		/* A device that is full or down loses it, as a wire would. */
		if (write(port->fd, frame->data, frame->bytes) < 0)
			continue;
	}
	return UINT64_MAX;
}

/* -------------------------------------------------------------------- control */

static void take_command(int control)
{
	struct command command;

	if (recv(control, &command, sizeof(command), 0) != sizeof(command) || command.port < 1 ||
	    command.port > port_count)
		return;
	for (unsigned direction = FROM; direction <= TO; direction++) {
		struct fate *fate = &ports[command.port - 1].fate[direction];

		if (command.direction != 2 && command.direction != direction)
			continue;
		if (command.delay_us >= 0)
			fate->delay_ns = (uint64_t)command.delay_us * 1000;
		if (command.loss_permille >= 0)
			fate->loss_permille = (unsigned)command.loss_permille;
	}
}

static struct sockaddr_un control_address(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(address.sun_path, path);
	return address;
}

static int listen_control(const char *path)
{
	struct sockaddr_un address = control_address(path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(path);
	return fd;
}

static double number(const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || value < least || value > most) {
		fprintf(stderr, "tap_switch: '%s' is not a number from %g to %g\n", text, least,
			most);
		exit(2);
	}
	return value;
}

static int set(int argc, char **argv)
{
	struct command command = {.direction = 2, .delay_us = -1, .loss_permille = -1};
	struct sockaddr_un address = control_address(argv[2]);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	command.port = (uint32_t)number(argv[3], 1, PORTS_MAX);
	for (int i = 4; i < argc; i++) {
		if (strcmp(argv[i], "from") == 0)
			command.direction = FROM;
		else if (strcmp(argv[i], "to") == 0)
			command.direction = TO;
		else if (strncmp(argv[i], "delay=", 6) == 0)
			command.delay_us = (int64_t)(number(argv[i] + 6, 0, 10000) * 1000);
		else if (strncmp(argv[i], "loss=", 5) == 0)
			command.loss_permille = (int64_t)(number(argv[i] + 5, 0, 100) * 10);
		else
			return fprintf(stderr, "tap_switch: what is '%s'?\n", argv[i]), 2;
	}
	if (fd < 0 || sendto(fd, &command, sizeof(command), 0, (struct sockaddr *)&address,
			     sizeof(address)) != sizeof(command))
		die(argv[2]);
	return 0;
}

/* ----------------------------------------------------------------------- main */

/* A device stays in the namespace in which it was made; this process moves on. */
static void open_port(struct port *port, const char *netns)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	char path[200];
	int ns;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
		die(path);
	close(ns);
	port->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	strcpy(request.ifr_name, "eth0");
	if (port->fd < 0 || ioctl(port->fd, TUNSETIFF, &request) < 0)
		die("/dev/net/tun");
	port->queue = calloc(QUEUE_FRAMES, sizeof(*port->queue));
	if (!port->queue)
		die("queue");
}

static void forward(int control)
{
	struct pollfd fds[PORTS_MAX + 1];

	for (unsigned i = 0; i < port_count; i++)
		fds[i] = (struct pollfd){.fd = ports[i].fd, .events = POLLIN};
	fds[port_count] = (struct pollfd){.fd = control, .events = POLLIN};
	for (;;) {
		uint64_t now_ns = clock_ns(), next_ns = UINT64_MAX;
		struct timespec wait;

		for (unsigned i = 0; i < port_count; i++) {
			uint64_t due_ns = deliver(&ports[i], now_ns);

			next_ns = due_ns < next_ns ? due_ns : next_ns;
		}
		if (next_ns != UINT64_MAX)
			wait = (struct timespec){(time_t)((next_ns - now_ns) / 1000000000),
						 (long)((next_ns - now_ns) % 1000000000)};
		if (ppoll(fds, port_count + 1, next_ns == UINT64_MAX ? NULL : &wait, NULL) < 0 &&
		    errno != EINTR)
			die("poll");
		for (unsigned i = 0; i < port_count; i++)
			if (fds[i].revents)
				read_frames(&ports[i]);
		if (fds[port_count].revents)
			take_command(control);
	}
}

int main(int argc, char **argv)
{
	int control;

	if (argc >= 5 && strcmp(argv[1], "--set") == 0)
		return set(argc, argv);
	if (argc < 4 || argc > PORTS_MAX + 2 || argv[1][0] == '-') {
		fprintf(stderr, "usage: tap_switch CONTROL NETNS NETNS... | tap_switch --set "
				"CONTROL PORT [from|to] [delay=MS] [loss=PERCENT]\n");
		return 2;
	}
	control = listen_control(argv[1]);
	for (; port_count < (unsigned)argc - 2; port_count++)
		open_port(&ports[port_count], argv[port_count + 2]);
	puts("ready");
	fflush(stdout);
	forward(control);
	return 0;
}
