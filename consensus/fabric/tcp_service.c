/* tcp_service.c - see tcp_service.h. */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tcp_service.h"
#include "tcp_tune.h"

/* Received and not yet executed, and replies not yet sent: of one connection, each. */
#define BUFFER_BYTES (256u << 10)
/* A connection that always has more must let the others have their turn. */
#define RECEIVES_PER_TURN 4
#define WORD_BYTES 8u
#define WAKE MU_ID_SLOTS /* epoll's name for the eventfd */

/* One peer's connection to this plane. */
struct incoming {
	int fd; /* -1: none */
	unsigned peer;
	uint32_t interest; /* epoll's */
	uint32_t sequence; /* of the last request */
	bool denied;       /* what follows is thrown away, until the peer closes */
	/* The request under way, and what is left of it. */
	struct tcp_request request;
	struct tcp_permit permit;
	uint64_t at, left;
	uint8_t *in, *out;
	size_t in_start, in_end, out_start, out_end;
};

struct tcp_service {
	struct tcp_service_options options;
	pthread_t thread;
	int epoll_fd, wake_fd;
	atomic_bool stop;
	pthread_mutex_t lock;    /* of what follows */
	int handed[MU_ID_SLOTS]; /* connections to be served from now on; -1: none */
	uint32_t dropped;        /* bit i: those of replica i before that are not, any more */
	atomic_bool any_handed;

	struct incoming incoming[MU_ID_SLOTS]; /* the thread's own */
};

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* -------------------------------------------------------------- connections */

static void drop(struct tcp_service *service, struct incoming *in)
{
	if (in->fd < 0)
		return;
	if (in->left > 0)
		tcp_target_show_writing(service->options.target, in->peer, service->options.plane,
					false);
	close(in->fd);
	free(in->in);
	free(in->out);
	*in = (struct incoming){.fd = -1, .peer = in->peer};
}

static void complain(struct tcp_service *service, const struct incoming *in, const char *why)
{
	char line[160];

	snprintf(line, sizeof(line), "replica %u: %s: its connection is closed", in->peer, why);
	if (service->options.log)
		service->options.log(service->options.log_ctx, line);
}

static void want(struct tcp_service *service, struct incoming *in, uint32_t interest)
{
	struct epoll_event event = {.events = interest, .data.u32 = in->peer};

	if (in->interest != interest)
		epoll_ctl(service->epoll_fd, EPOLL_CTL_MOD, in->fd, &event);
	in->interest = interest;
}

static void welcome(struct tcp_service *service, struct incoming *in)
{
	const struct mu_fabric_config *config = &service->options.target->config;
	struct tcp_welcome words = {
		.magic = TCP_MAGIC,
		.background_bytes = config->region_bytes[MU_REGION_BACKGROUND],
		.replication_bytes = config->region_bytes[MU_REGION_REPLICATION],
	};

	memcpy(in->out, &words, sizeof(words));
	in->out_end = sizeof(words);
}

static void install(struct tcp_service *service, unsigned peer, int fd)
{
	struct incoming *in = &service->incoming[peer];
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = peer};

	drop(service, in);
	in->in = malloc(BUFFER_BYTES);
	in->out = malloc(BUFFER_BYTES);
	in->fd = fd;
	in->interest = event.events;
	if (in->in == NULL || in->out == NULL ||
	    epoll_ctl(service->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		drop(service, in);
		return;
	}
	tcp_tune(fd);
	welcome(service, in);
}

/* Old connections end before anything that came over the new ones is looked at. */
static void take_handed(struct tcp_service *service)
{
	int handed[MU_ID_SLOTS];
	uint32_t dropped;
	uint64_t count;

	if (!atomic_load_explicit(&service->any_handed, memory_order_acquire))
		return;
	pthread_mutex_lock(&service->lock);
	memcpy(handed, service->handed, sizeof(handed));
	memset(service->handed, 0xff, sizeof(service->handed));
	dropped = service->dropped;
	service->dropped = 0;
	atomic_store(&service->any_handed, false);
	if (read(service->wake_fd, &count, sizeof(count)) < 0)
		count = 0;
	pthread_mutex_unlock(&service->lock);
	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++) {
		if (dropped >> peer & 1)
			drop(service, &service->incoming[peer]);
		if (handed[peer] >= 0)
			install(service, peer, handed[peer]);
	}
}

/* -------------------------------------------------------------------- replies */

/* False: the connection is broken. */
static bool send_replies(struct incoming *in)
{
	while (in->out_start < in->out_end) {
		ssize_t n = send(in->fd, in->out + in->out_start, in->out_end - in->out_start,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		in->out_start += (size_t)n;
	}
	in->out_start = in->out_end = 0;
	return true;
}

static size_t out_room(struct incoming *in)
{
	if (in->out_start > 0) {
		memmove(in->out, in->out + in->out_start, in->out_end - in->out_start);
		in->out_end -= in->out_start;
		in->out_start = 0;
	}
	return BUFFER_BYTES - in->out_end;
}

static void reply(struct incoming *in, enum mu_fabric_status status)
{
	struct tcp_reply words = {
		.op = in->request.op, .status = (uint8_t)status, .sequence = in->request.sequence};

	assert(BUFFER_BYTES - in->out_end >= sizeof(words));
	memcpy(in->out + in->out_end, &words, sizeof(words));
	in->out_end += sizeof(words);
}

/* ------------------------------------------------------------------ execution */

enum progress { PROGRESS, NEEDS_INPUT, NEEDS_ROOM, BROKEN };

static enum progress begin(struct tcp_service *service, struct incoming *in)
{
	const char *fault;

	if (in->in_end - in->in_start < sizeof(in->request))
		return NEEDS_INPUT;
	if (out_room(in) < sizeof(struct tcp_reply))
		return NEEDS_ROOM;
	memcpy(&in->request, in->in + in->in_start, sizeof(in->request));
	in->in_start += sizeof(in->request);
	fault = tcp_target_fault(service->options.target, &in->request);
	if (fault == NULL && in->request.sequence != in->sequence + 1)
		fault = "an operation out of sequence";
	if (fault != NULL) {
		complain(service, in, fault);
		return BROKEN;
	}
	in->sequence = in->request.sequence;
	in->at = in->request.offset;
	in->left = in->request.len;
	in->permit = (struct tcp_permit){0};
	if (in->request.op != TCP_WRITE)
		reply(in, MU_FABRIC_OK);
	return PROGRESS;
}

/* How much of `most` to copy at once, so that no word is copied in two pieces. */
static size_t whole_words(const struct incoming *in, size_t most)
{
	size_t beyond = (in->at + most) % WORD_BYTES;

	if (most >= in->left)
		return in->left;
	return most > beyond ? most - beyond : 0;
}

static enum progress step_read(struct tcp_service *service, struct incoming *in)
{
	size_t piece = whole_words(in, out_room(in));

	if (piece == 0)
		return NEEDS_ROOM;
	tcp_target_read(service->options.target, (enum mu_region)in->request.region, in->at,
			in->out + in->out_end, piece);
	in->out_end += piece;
	in->at += piece;
	in->left -= piece;
	return PROGRESS;
}

static enum progress step_write(struct tcp_service *service, struct incoming *in)
{
	struct tcp_target *target = service->options.target;
	bool first = in->left == in->request.len;
	size_t piece = whole_words(in, in->in_end - in->in_start);

	/* A line comes into being as a whole; and room for the reply comes first. */
	if (piece == 0 || (in->request.region == MU_REGION_BACKGROUND && piece < in->left))
		return NEEDS_INPUT;
	if (out_room(in) < sizeof(struct tcp_reply))
		return NEEDS_ROOM;
	if (first != (piece == in->left))
		tcp_target_show_writing(target, in->peer, service->options.plane, first);
	if (!tcp_target_write(target, in->peer, &in->request, &in->permit, in->at,
			      in->in + in->in_start, piece)) {
		tcp_target_show_writing(target, in->peer, service->options.plane, false);
		reply(in, MU_FABRIC_DENIED);
		in->left = 0;
		in->denied = true;
		return PROGRESS;
	}
	in->in_start += piece;
	in->at += piece;
	in->left -= piece;
	if (in->left == 0)
		reply(in, MU_FABRIC_OK);
	return PROGRESS;
}

static enum progress step(struct tcp_service *service, struct incoming *in)
{
	if (in->denied) {
		in->in_start = in->in_end;
		return NEEDS_INPUT;
	}
	if (in->left == 0)
		return begin(service, in);
	return in->request.op == TCP_READ ? step_read(service, in) : step_write(service, in);
}

/* Execute what was received, and send the replies, as far as it goes. */
static enum progress execute(struct tcp_service *service, struct incoming *in)
{
	enum progress progress;

	do {
		do
			progress = step(service, in);
		while (progress == PROGRESS);
		if (progress == BROKEN || !send_replies(in))
			return BROKEN;
		/* All gone although the room was wanted: then there is room now. */
	} while (progress == NEEDS_ROOM && in->out_end == 0);
	return progress;
}

/* ---------------------------------------------------------------- the thread */

/* How many bytes came; 0 also if the connection is broken. */
static size_t receive(struct incoming *in, bool *broken)
{
	size_t room;
	ssize_t n;

	memmove(in->in, in->in + in->in_start, in->in_end - in->in_start);
	in->in_end -= in->in_start;
	in->in_start = 0;
	room = BUFFER_BYTES - in->in_end;
	assert(room > 0);
	n = recv(in->fd, in->in + in->in_end, room, MSG_DONTWAIT);
	*broken = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
	if (n <= 0)
		return 0;
	in->in_end += (size_t)n;
	return (size_t)n;
}

static void serve(struct tcp_service *service, struct incoming *in)
{
	enum progress progress = NEEDS_INPUT;
	bool broken = false;

	if (in->fd < 0)
		return;
	if (in->out_end > 0)
		progress = execute(service, in);
	for (int i = 0; i < RECEIVES_PER_TURN && progress == NEEDS_INPUT; i++) {
		size_t room = BUFFER_BYTES - (in->in_end - in->in_start);
		size_t received = receive(in, &broken);

		if (received == 0)
			break;
		progress = execute(service, in);
		if (received < room)
			break; /* that was all */
	}
	if (broken || progress == BROKEN)
		drop(service, in);
	else
		want(service, in,
		     (progress == NEEDS_INPUT ? EPOLLIN : 0) | (in->out_end > 0 ? EPOLLOUT : 0));
}

static void ask_for_realtime(void)
{
	const struct sched_param param = {.sched_priority = 1};

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
}

static void *run(void *ctx)
{
	struct tcp_service *service = ctx;
	uint64_t spin_ns = service->options.spin_ns, spin_until_ns = 0;

	if (service->options.plane == MU_PLANE_BACKGROUND)
		ask_for_realtime();
	while (!atomic_load_explicit(&service->stop, memory_order_relaxed)) {
		struct epoll_event events[MU_ID_SLOTS + 1];
		bool spin = spin_ns > 0 && (spin_ns == UINT64_MAX || clock_ns() < spin_until_ns);
		int n = epoll_wait(service->epoll_fd, events, MU_ID_SLOTS + 1, spin ? 0 : -1);

		take_handed(service);
		for (int i = 0; i < n; i++)
			if (events[i].data.u32 != WAKE)
				serve(service, &service->incoming[events[i].data.u32]);
		if (n > 0 && spin_ns > 0 && spin_ns != UINT64_MAX)
			spin_until_ns = clock_ns() + spin_ns;
	}
	return NULL;
}

/* -------------------------------------------------------------------- public */

static void wake(struct tcp_service *service)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread is awake. */
	if (write(service->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/* fd -1: there is only an end of those before. */
static void hand(struct tcp_service *service, unsigned peer, int fd)
{
	pthread_mutex_lock(&service->lock);
	if (service->handed[peer] >= 0)
		close(service->handed[peer]);
	service->handed[peer] = fd;
	service->dropped |= 1U << peer;
	atomic_store(&service->any_handed, true);
	wake(service);
	pthread_mutex_unlock(&service->lock);
}

void tcp_service_take(struct tcp_service *service, unsigned peer, int fd)
{
	hand(service, peer, fd);
}

void tcp_service_drop(struct tcp_service *service, unsigned peer)
{
	hand(service, peer, -1);
}

static bool open_epoll(struct tcp_service *service)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = WAKE};

	service->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	service->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return service->epoll_fd >= 0 && service->wake_fd >= 0 &&
	       epoll_ctl(service->epoll_fd, EPOLL_CTL_ADD, service->wake_fd, &event) == 0;
}

static void free_service(struct tcp_service *service)
{
	int saved = errno;

	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++) {
		drop(service, &service->incoming[peer]);
		if (service->handed[peer] >= 0)
			close(service->handed[peer]);
	}
	if (service->epoll_fd >= 0)
		close(service->epoll_fd);
	if (service->wake_fd >= 0)
		close(service->wake_fd);
	pthread_mutex_destroy(&service->lock);
	free(service);
	errno = saved;
}

static bool start_thread(struct tcp_service *service)
{
	sigset_t all, before;

	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	errno = pthread_create(&service->thread, NULL, run, service);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (errno != 0)
		return false;
	pthread_setname_np(service->thread, service->options.plane == MU_PLANE_DATA
						    ? "mu-serve-data"
						    : "mu-serve-bg");
	return true;
}

struct tcp_service *tcp_service_start(const struct tcp_service_options *options)
{
	struct tcp_service *service = calloc(1, sizeof(*service));

	if (service == NULL)
		return NULL;
	service->options = *options;
	service->epoll_fd = service->wake_fd = -1;
	pthread_mutex_init(&service->lock, NULL);
	memset(service->handed, 0xff, sizeof(service->handed));
	for (unsigned peer = 0; peer < MU_ID_SLOTS; peer++)
		service->incoming[peer] = (struct incoming){.fd = -1, .peer = peer};
	if (open_epoll(service) && start_thread(service))
		return service;
	free_service(service);
	return NULL;
}

void tcp_service_stop(struct tcp_service *service)
{
	atomic_store(&service->stop, true);
	wake(service);
	pthread_join(service->thread, NULL);
	free_service(service);
}
