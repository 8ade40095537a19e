/*
 * tcp.c - the fabric for replicas that have a network between them and no RDMA:
 * one-sided operations are executed at their target by a thread of the fabric's
 * own, whatever the target's replica is doing.
 *
 *   tcp_wire.h       what is sent
 *   tcp_outgoing.*   a connection, at the end that posts; polled by its plane
 *   tcp_service.*    the connections that peers post on, a thread a plane
 *   tcp_target.*     the own memory, and the permission to write it
 *
 * Memory is in a named file (own_memory.h).
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "tcp_outgoing.h"
#include "tcp_service.h"
#include "tcp_target.h"

/* Of one plane. Used by its thread alone, but for arrivals. */
struct plane {
	struct tcp_outgoing outgoing[MU_ID_SLOTS];
	struct tcp_service *service;
	int epoll_fd;   /* what the plane sleeps on */
	int arrival_fd; /* in it: streams have arrived */
	atomic_bool arrival;
	unsigned next; /* whom to poll first, so that nobody is always last */
};

struct tcp_fabric {
	struct mu_fabric base;
	struct mu_fabric_config config;
	struct mu_peering *peering;
	struct tcp_target target;
	struct plane plane[MU_PLANES];
};

static struct tcp_fabric *of(struct mu_fabric *fabric)
{
	return (struct tcp_fabric *)fabric;
}

static struct tcp_outgoing *outgoing_of(struct tcp_fabric *tcp, enum mu_plane plane, unsigned peer)
{
	assert(plane == MU_PLANE_DATA || plane == MU_PLANE_BACKGROUND);
	assert(peer >= 1 && peer < MU_ID_SLOTS);
	return &tcp->plane[plane].outgoing[peer];
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* -------------------------------------------------------------- connections */

static void tcp_connect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct tcp_fabric *tcp = of(fabric);
	struct tcp_outgoing *out = outgoing_of(tcp, plane, peer);

	if (!(tcp->config.member_mask & (1U << peer)))
		return;
	/* To oneself there is nothing to connect. */
	if (peer == tcp->config.id)
		out->state = MU_CONNECTION_UP;
	else
		tcp_outgoing_connect(out, clock_ns());
}

static enum mu_connection tcp_state(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct tcp_fabric *tcp = of(fabric);
	struct tcp_outgoing *out = outgoing_of(tcp, plane, peer);

	return peer == tcp->config.id ? out->state : tcp_outgoing_state(out, clock_ns());
}

static void tcp_disconnect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	tcp_outgoing_disconnect(outgoing_of(of(fabric), plane, peer));
}

/* -------------------------------------------------------------- the peering's */

static void on_channel(void *fabric, unsigned peer, bool up)
{
	/* Streams have ends of their own. */
	(void)fabric;
	(void)peer;
	(void)up;
}

static void on_message(void *fabric, unsigned peer, const void *message, size_t len)
{
	(void)fabric;
	(void)peer;
	(void)message;
	(void)len;
}

/* Let a plane look at what changed for it. */
static void tell_plane(struct plane *plane)
{
	uint64_t one = 1;

	/*
	 * In this order: who sees the flag finds the count, and takes it away. Fails
	 * only when the counter is full, and then the plane is awake.
	 */
	if (write(plane->arrival_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
	atomic_store(&plane->arrival, true);
}

static void arrived(struct tcp_fabric *tcp, enum mu_plane plane, unsigned peer, int fd)
{
	tcp_outgoing_arrived(&tcp->plane[plane].outgoing[peer], fd);
	tell_plane(&tcp->plane[plane]);
}

static void on_stream(void *fabric, enum mu_plane plane, unsigned peer, int fd, bool dialled)
{
	struct tcp_fabric *tcp = fabric;

	if (dialled)
		arrived(tcp, plane, peer, fd);
	else
		tcp_service_take(tcp->plane[plane].service, peer, fd);
}

static void on_stream_failed(void *fabric, enum mu_plane plane, unsigned peer)
{
	arrived(fabric, plane, peer, -1);
}

static void on_replaced(void *fabric, unsigned peer)
{
	struct tcp_fabric *tcp = fabric;

	for (unsigned plane = 0; plane < MU_PLANES; plane++) {
		tcp_service_drop(tcp->plane[plane].service, peer);
		tcp_outgoing_replaced(&tcp->plane[plane].outgoing[peer]);
		tell_plane(&tcp->plane[plane]);
	}
}

static const struct mu_peering_events peering_events = {
	.channel = on_channel,
	.message = on_message,
	.stream = on_stream,
	.stream_failed = on_stream_failed,
	.replaced = on_replaced,
};

/* --------------------------------------------------------------- operations */

/* On a connection to oneself an operation is over when it was posted. */
static void execute_here(struct tcp_fabric *tcp, struct tcp_outgoing *out)
{
	const struct tcp_operation *operation = &out->queue[(out->tail - 1) % TCP_QUEUE_ENTRIES];
	const struct tcp_request *request = &operation->request;
	struct tcp_permit permit = {0};
	bool done = true;

	if (request->op == TCP_READ)
		tcp_target_read(&tcp->target, (enum mu_region)request->region, request->offset,
				operation->dst, request->len);
	else
		done = tcp_target_write(&tcp->target, tcp->config.id, request, &permit,
					request->offset, operation->src, request->len);
	out->queue[(out->tail - 1) % TCP_QUEUE_ENTRIES].status =
		done ? MU_FABRIC_OK : MU_FABRIC_DENIED;
	out->over = out->sent = out->tail;
	if (!done)
		out->state = MU_CONNECTION_DOWN;
}

static int post(struct tcp_fabric *tcp, enum mu_plane plane, unsigned peer,
		struct tcp_operation *operation)
{
	struct tcp_outgoing *out = outgoing_of(tcp, plane, peer);

	assert(tcp_target_fault(&tcp->target, &operation->request) == NULL);
	operation->deadline_ns = clock_ns() + tcp->config.op_timeout_ns;
	if (tcp_outgoing_post(out, operation) != 0)
		return -1;
	if (peer == tcp->config.id)
		execute_here(tcp, out);
	return 0;
}

static int tcp_post_write(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer,
			  enum mu_region region, uint64_t offset, const void *src, size_t len,
			  uint64_t ballot, uint64_t cookie)
{
	struct tcp_operation operation = {
		.request = {.op = TCP_WRITE,
			    .region = (uint8_t)region,
			    .len = len,
			    .offset = offset,
			    .ballot = ballot},
		.cookie = cookie,
		.src = src,
	};

	return post(of(fabric), plane, peer, &operation);
}

static int tcp_post_read(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer,
			 enum mu_region region, uint64_t offset, void *dst, size_t len,
			 uint64_t cookie)
{
	struct tcp_operation operation = {
		.request = {.op = TCP_READ,
			    .region = (uint8_t)region,
			    .len = len,
			    .offset = offset},
		.cookie = cookie,
		.dst = dst,
	};

	return post(of(fabric), plane, peer, &operation);
}

static void tcp_flush(struct mu_fabric *fabric, enum mu_plane which)
{
	struct tcp_fabric *tcp = of(fabric);

	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
		tcp_outgoing_flush(&tcp->plane[which].outgoing[peer]);
}

static void note_arrivals(struct plane *plane)
{
	uint64_t count;

	if (!atomic_load_explicit(&plane->arrival, memory_order_relaxed))
		return;
	atomic_store(&plane->arrival, false);
	if (read(plane->arrival_fd, &count, sizeof(count)) < 0)
		return;
}

static int tcp_poll(struct mu_fabric *fabric, enum mu_plane which, struct mu_completion *out,
		    int max)
{
	struct tcp_fabric *tcp = of(fabric);
	struct plane *plane = &tcp->plane[which];
	uint64_t now_ns = clock_ns();
	int taken = 0;

	note_arrivals(plane);
	tcp_flush(fabric, which); /* all of them, before looking at anybody's answers */
	for (unsigned i = 0; i < MU_MAX_REPLICAS; i++) {
		unsigned peer = 1 + (plane->next + i) % MU_MAX_REPLICAS;

		taken +=
			tcp_outgoing_poll(&plane->outgoing[peer], now_ns, out + taken, max - taken);
	}
	plane->next++;
	return taken;
}

static int tcp_wait_fd(struct mu_fabric *fabric, enum mu_plane plane)
{
	return of(fabric)->plane[plane].epoll_fd;
}

/* --------------------------------------------------------------- permission */

static int tcp_revoke_write(struct mu_fabric *fabric)
{
	tcp_target_revoke(&of(fabric)->target);
	return 0;
}

static int tcp_grant_write(struct mu_fabric *fabric, unsigned peer, uint64_t ballot)
{
	tcp_target_grant(&of(fabric)->target, peer, ballot);
	return 0;
}

/* ------------------------------------------------------------ open and close */

static void *tcp_local(struct mu_fabric *fabric, enum mu_region region)
{
	return of(fabric)->target.memory.region[region];
}

static void close_plane(struct plane *plane)
{
	if (plane->service != NULL)
		tcp_service_stop(plane->service);
	for (unsigned peer = 0; peer < MU_ID_SLOTS; peer++)
		tcp_outgoing_free(&plane->outgoing[peer]);
	if (plane->epoll_fd >= 0)
		close(plane->epoll_fd);
	if (plane->arrival_fd >= 0)
		close(plane->arrival_fd);
}

static void close_planes(struct tcp_fabric *tcp)
{
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		close_plane(&tcp->plane[plane]);
}

static void tcp_close(struct mu_fabric *fabric)
{
	struct tcp_fabric *tcp = of(fabric);

	tcp->peering->ops->attach(tcp->peering, NULL, NULL);
	close_planes(tcp);
	tcp_target_close(&tcp->target);
	free(tcp);
}

static const struct mu_fabric_ops tcp_ops = {
	.name = "tcp",
	.connect = tcp_connect,
	.state = tcp_state,
	.disconnect = tcp_disconnect,
	.post_write = tcp_post_write,
	.post_read = tcp_post_read,
	.flush = tcp_flush,
	.wait_fd = tcp_wait_fd,
	.poll = tcp_poll,
	.revoke_write = tcp_revoke_write,
	.grant_write = tcp_grant_write,
	.local = tcp_local,
	.close = tcp_close,
};

static bool open_plane(struct tcp_fabric *tcp, enum mu_plane which,
		       const struct mu_fabric_tcp_options *options)
{
	struct tcp_service_options service = {
		.target = &tcp->target,
		.plane = which,
		.spin_ns = which == MU_PLANE_DATA ? options->spin_ns : 0,
		.log = options->log,
		.log_ctx = options->log_ctx,
	};
	struct plane *plane = &tcp->plane[which];
	struct epoll_event event = {.events = EPOLLIN};
	bool ready = true;

	plane->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	plane->arrival_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (plane->epoll_fd < 0 || plane->arrival_fd < 0 ||
	    epoll_ctl(plane->epoll_fd, EPOLL_CTL_ADD, plane->arrival_fd, &event) != 0)
		ready = false;
	for (unsigned peer = 0; peer < MU_ID_SLOTS; peer++)
		ready = tcp_outgoing_init(&plane->outgoing[peer], peer, which, &tcp->config,
					  tcp->peering, plane->epoll_fd) &&
			ready;
	if (!ready)
		return false;
	plane->service = tcp_service_start(&service);
	return plane->service != NULL;
}

static bool open_planes(struct tcp_fabric *tcp, const struct mu_fabric_tcp_options *options)
{
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		tcp->plane[plane].epoll_fd = tcp->plane[plane].arrival_fd = -1;
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		for (unsigned peer = 0; peer < MU_ID_SLOTS; peer++)
			tcp->plane[plane].outgoing[peer].fd = -1;
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		if (!open_plane(tcp, (enum mu_plane)plane, options))
			return false;
	return true;
}

int mu_fabric_tcp_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		       const struct mu_fabric_tcp_options *options, char *err, size_t err_bytes)
{
	struct tcp_fabric *tcp = calloc(1, sizeof(*tcp));

	*out = NULL;
	if (tcp == NULL) {
		snprintf(err, err_bytes, "out of memory");
		return -1;
	}
	tcp->base.ops = &tcp_ops;
	tcp->config = *config;
	tcp->peering = options->peering;
	if (tcp_target_open(&tcp->target, config, options->directory, err, err_bytes) != 0) {
		free(tcp);
		return -1;
	}
	if (!open_planes(tcp, options)) {
		snprintf(err, err_bytes, "no threads or descriptors for the peers' operations: %s",
			 strerror(errno));
		close_planes(tcp);
		tcp_target_close(&tcp->target);
		free(tcp);
		return -1;
	}
	tcp->peering->ops->attach(tcp->peering, &peering_events, tcp);
	*out = &tcp->base;
	return 0;
}
