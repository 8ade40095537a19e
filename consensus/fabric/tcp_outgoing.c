/* tcp_outgoing.c - see tcp_outgoing.h. */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tcp_outgoing.h"
#include "tcp_tune.h"

enum {
	PARTS_MAX = 64, /* of one sendmsg */
	IDLE_LOOK_NS = 1000000,
	NUDGE_NS = 2000000,
	NUDGED_MAX = TCP_QUEUE_ENTRIES / 4, /* operations under way; with more, no nudges */
};
/* In `arrived`, beside descriptors. */
enum { NOTHING_ARRIVED = -2, NO_STREAM = -1 };

static struct tcp_operation *at(const struct tcp_outgoing *out, uint32_t index)
{
	return &out->queue[index % TCP_QUEUE_ENTRIES];
}

bool tcp_outgoing_init(struct tcp_outgoing *out, unsigned peer, enum mu_plane plane,
		       const struct mu_fabric_config *config, struct mu_peering *peering,
		       int epoll_fd)
{
	*out = (struct tcp_outgoing){
		.peer = peer,
		.plane = plane,
		.config = config,
		.peering = peering,
		.epoll_fd = epoll_fd,
		.fd = -1,
		.buffer = malloc(TCP_RECEIVE_BYTES),
		.queue = calloc(TCP_QUEUE_ENTRIES, sizeof(*out->queue)),
	};
	atomic_init(&out->arrived, NOTHING_ARRIVED);
	return out->buffer != NULL && out->queue != NULL;
}

void tcp_outgoing_free(struct tcp_outgoing *out)
{
	int arrived = atomic_load(&out->arrived);

	if (arrived >= 0)
		close(arrived);
	if (out->fd >= 0)
		close(out->fd);
	free(out->buffer);
	free(out->queue);
}

/* -------------------------------------------------------------- connections */

void tcp_outgoing_arrived(struct tcp_outgoing *out, int fd)
{
	int before = atomic_exchange(&out->arrived, fd >= 0 ? fd : NO_STREAM);

	if (before >= 0)
		close(before);
}

void tcp_outgoing_replaced(struct tcp_outgoing *out)
{
	atomic_store(&out->replaced, true);
}

/* All that is under way has come to nothing. */
static void fail(struct tcp_outgoing *out)
{
	if (out->fd >= 0)
		close(out->fd);
	out->fd = -1;
	out->state = MU_CONNECTION_DOWN;
	for (; out->over != out->tail; out->over++)
		at(out, out->over)->status = MU_FABRIC_UNREACHABLE;
	out->sent = out->tail;
	out->sent_bytes = 0;
	out->read_left = 0;
	out->received = 0;
}

static void watch(struct tcp_outgoing *out, int how, uint32_t interest)
{
	struct epoll_event event = {.events = interest, .data.u32 = out->peer};

	if (epoll_ctl(out->epoll_fd, how, out->fd, &event) != 0)
		fail(out);
	out->wants_room = interest & EPOLLOUT;
}

/* A stream has come; whether it still is wanted or not. */
static void take_stream(struct tcp_outgoing *out, int arrived, uint64_t now_ns)
{
	out->asked = false;
	if (out->state != MU_CONNECTION_CONNECTING || out->fd >= 0) {
		if (arrived >= 0)
			close(arrived);
		return;
	}
	if (arrived < 0) {
		out->state = MU_CONNECTION_DOWN;
		return;
	}
	out->fd = arrived;
	tcp_tune(arrived);
	out->welcomed = false;
	out->sequence = 0;
	out->deadline_ns = now_ns + out->config->op_timeout_ns;
	watch(out, EPOLL_CTL_ADD, EPOLLIN);
}

/*
 * What the peering has to say. Where both has come, nobody knows which came
 * first: then the stream may be the old process's, and is not used.
 */
static void look_for_word(struct tcp_outgoing *out, uint64_t now_ns)
{
	int arrived = atomic_load_explicit(&out->arrived, memory_order_relaxed);
	bool replaced;

	if (arrived == NOTHING_ARRIVED &&
	    !atomic_load_explicit(&out->replaced, memory_order_relaxed))
		return;
	arrived = atomic_exchange(&out->arrived, NOTHING_ARRIVED);
	replaced = atomic_exchange(&out->replaced, false);
	if (arrived != NOTHING_ARRIVED)
		take_stream(out, arrived, now_ns);
	if (replaced && out->fd >= 0)
		fail(out);
}

void tcp_outgoing_connect(struct tcp_outgoing *out, uint64_t now_ns)
{
	tcp_outgoing_state(out, now_ns);
	if (out->state != MU_CONNECTION_DOWN)
		return;
	if (!out->asked && out->peering->ops->dial(out->peering, out->plane, out->peer) != 0)
		return;
	out->asked = true;
	out->state = MU_CONNECTION_CONNECTING;
}

void tcp_outgoing_disconnect(struct tcp_outgoing *out)
{
	fail(out);
}

/* ------------------------------------------------------------------- sending */

int tcp_outgoing_post(struct tcp_outgoing *out, const struct tcp_operation *operation)
{
	struct tcp_operation *new = at(out, out->tail);

	if (out->state != MU_CONNECTION_UP || out->tail - out->head == TCP_QUEUE_ENTRIES)
		return -1;
	/* Its clock is its deadline's: posting must not cost another look at it. */
	if (out->sent == out->tail)
		out->spoke_ns = operation->deadline_ns - out->config->op_timeout_ns;
	*new = *operation;
	new->request.sequence = ++out->sequence;
	out->tail++;
	return 0;
}

static size_t payload_bytes(const struct tcp_operation *operation)
{
	return operation->request.op == TCP_WRITE ? operation->request.len : 0;
}

/* What is unsent, as parts: each operation's request, and a write's bytes. */
static int gather(const struct tcp_outgoing *out, struct iovec parts[PARTS_MAX])
{
	size_t skip = out->sent_bytes;
	int count = 0;

	for (uint32_t i = out->sent; i != out->tail && count + 2 <= PARTS_MAX; i++) {
		const struct tcp_operation *operation = at(out, i);
		const uint8_t *request = (const uint8_t *)&operation->request;
		size_t head = sizeof(operation->request);

		if (skip < head)
			parts[count++] = (struct iovec){(void *)(request + skip), head - skip};
		skip = skip > head ? skip - head : 0;
		if (payload_bytes(operation) > 0)
			parts[count++] =
				(struct iovec){(void *)((const uint8_t *)operation->src + skip),
					       payload_bytes(operation) - skip};
		skip = 0;
	}
	return count;
}

static void count_sent(struct tcp_outgoing *out, size_t bytes)
{
	out->sent_bytes += bytes;
	while (out->sent != out->tail) {
		const struct tcp_operation *operation = at(out, out->sent);
		size_t whole = sizeof(operation->request) + payload_bytes(operation);

		if (out->sent_bytes < whole)
			return;
		out->sent_bytes -= whole;
		out->sent++;
	}
	assert(out->sent_bytes == 0);
}

/*
 * An answer that stays away may have been lost on the way, or its request may.
 * TCP notices that at once if something behind it arrives, and else only after
 * its retransmission timeout, which is 200 ms at least: an age here. So there
 * is something behind it, as long as it stays away, in either direction.
 */
static void nudge(struct tcp_outgoing *out, uint64_t now_ns)
{
	struct tcp_operation operation = {
		.request = {.op = TCP_NUDGE},
		.deadline_ns = now_ns + out->config->op_timeout_ns,
	};

	if (out->over == out->tail || out->sent != out->tail || now_ns < out->spoke_ns + NUDGE_NS ||
	    out->tail - out->over > NUDGED_MAX)
		return;
	tcp_outgoing_post(out, &operation);
	out->spoke_ns = now_ns;
	tcp_outgoing_flush(out);
}

void tcp_outgoing_flush(struct tcp_outgoing *out)
{
	struct iovec parts[PARTS_MAX];
	struct msghdr message = {.msg_iov = parts};

	while (out->state == MU_CONNECTION_UP && out->sent != out->tail) {
		ssize_t n;

		message.msg_iovlen = (size_t)gather(out, parts);
		n = sendmsg(out->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			fail(out);
			return;
		}
		if (n < 0)
			break;
		count_sent(out, (size_t)n);
	}
	if (out->state == MU_CONNECTION_UP && out->wants_room != (out->sent != out->tail))
		watch(out, EPOLL_CTL_MOD, EPOLLIN | (out->wants_room ? 0 : EPOLLOUT));
}

/* ----------------------------------------------------------------- receiving */

/* Take from the front of what was received. */
static void consume(struct tcp_outgoing *out, size_t bytes)
{
	out->received -= bytes;
	memmove(out->buffer, out->buffer + bytes, out->received);
}

static bool take_welcome(struct tcp_outgoing *out, const uint8_t *bytes)
{
	struct tcp_welcome welcome;

	memcpy(&welcome, bytes, sizeof(welcome));
	if (welcome.magic != TCP_MAGIC ||
	    welcome.background_bytes != out->config->region_bytes[MU_REGION_BACKGROUND] ||
	    welcome.replication_bytes != out->config->region_bytes[MU_REGION_REPLICATION])
		return false;
	out->welcomed = true;
	out->state = MU_CONNECTION_UP;
	return true;
}

static void finish(struct tcp_outgoing *out, enum mu_fabric_status status)
{
	at(out, out->over)->status = (uint8_t)status;
	out->over++;
}

/* False: it makes no sense, or it is the end of the connection. */
static bool take_reply(struct tcp_outgoing *out, const uint8_t *bytes)
{
	const struct tcp_operation *operation = at(out, out->over);
	struct tcp_reply reply;

	memcpy(&reply, bytes, sizeof(reply));
	if (out->over == out->sent || reply.op != operation->request.op ||
	    reply.sequence != operation->request.sequence)
		return false;
	if (reply.status != MU_FABRIC_OK) {
		if (reply.status == MU_FABRIC_DENIED && reply.op == TCP_WRITE)
			finish(out, MU_FABRIC_DENIED);
		return false;
	}
	if (reply.op == TCP_READ)
		out->read_left = operation->request.len;
	else
		finish(out, MU_FABRIC_OK);
	return true;
}

static uint8_t *read_place(const struct tcp_outgoing *out)
{
	const struct tcp_operation *operation = at(out, out->over);

	return operation->dst + (operation->request.len - out->read_left);
}

static void count_read(struct tcp_outgoing *out, size_t bytes)
{
	out->read_left -= bytes;
	if (out->read_left == 0)
		finish(out, MU_FABRIC_OK);
}

/* Look at what is in the buffer. False: the connection is over. */
static bool parse(struct tcp_outgoing *out)
{
	size_t done = 0;
	bool good = true;

	while (good) {
		size_t there = out->received - done;
		size_t need = !out->welcomed   ? sizeof(struct tcp_welcome)
			      : out->read_left ? 1
					       : sizeof(struct tcp_reply);

		if (there < need)
			break;
		if (!out->welcomed) {
			good = take_welcome(out, out->buffer + done);
		} else if (out->read_left > 0) {
			need = there < out->read_left ? there : out->read_left;
			memcpy(read_place(out), out->buffer + done, need);
			count_read(out, need);
		} else {
			good = take_reply(out, out->buffer + done);
		}
		done += need;
	}
	consume(out, done);
	return good;
}

/* The rest of a large read goes where it belongs without a copy in between. */
static bool is_large_read(const struct tcp_outgoing *out)
{
	return out->received == 0 && out->read_left >= TCP_RECEIVE_BYTES;
}

static void receive(struct tcp_outgoing *out)
{
	while (out->fd >= 0) {
		bool direct = is_large_read(out);
		uint8_t *to = direct ? read_place(out) : out->buffer + out->received;
		size_t room = direct ? out->read_left : TCP_RECEIVE_BYTES - out->received;
		ssize_t n = recv(out->fd, to, room, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			fail(out);
			return;
		}
		if (direct) {
			count_read(out, (size_t)n);
		} else {
			out->received += (size_t)n;
			if (!parse(out)) {
				fail(out);
				return;
			}
		}
		if ((size_t)n < room)
			return;
	}
}

/*
 * Nothing is expected on an idle connection but its end, so it is looked at now
 * and then; to ask at every poll would cost a system call each.
 */
static bool is_to_be_looked_at(struct tcp_outgoing *out, uint64_t now_ns)
{
	if (out->over != out->tail || !out->welcomed)
		return true;
	if (now_ns < out->looked_ns + IDLE_LOOK_NS)
		return false;
	out->looked_ns = now_ns;
	return true;
}

/*
 * A link may be slow, and what was posted at once a lot: as long as one thing
 * after the other arrives nobody is unreachable, and to begin anew would only
 * send all of it again.
 */
static bool is_overdue(const struct tcp_outgoing *out, uint64_t now_ns)
{
	if (!out->welcomed)
		return now_ns >= out->deadline_ns;
	return out->over != out->tail && now_ns >= at(out, out->over)->deadline_ns &&
	       now_ns >= out->moved_ns + out->config->op_timeout_ns;
}

static void receive_at(struct tcp_outgoing *out, uint64_t now_ns)
{
	uint32_t over = out->over;
	uint64_t read_left = out->read_left;

	receive(out);
	if (out->over != over || out->read_left != read_left)
		out->moved_ns = now_ns;
}

static void progress(struct tcp_outgoing *out, uint64_t now_ns)
{
	look_for_word(out, now_ns);
	if (out->fd < 0)
		return;
	tcp_outgoing_flush(out);
	if (out->fd >= 0 && is_to_be_looked_at(out, now_ns))
		receive_at(out, now_ns);
	if (out->fd >= 0)
		nudge(out, now_ns);
	/* After looking: this process may have been stopped while the replies came. */
	if (out->fd >= 0 && is_overdue(out, now_ns))
		fail(out);
}

enum mu_connection tcp_outgoing_state(struct tcp_outgoing *out, uint64_t now_ns)
{
	if (out->state == MU_CONNECTION_CONNECTING ||
	    (out->over == out->tail && now_ns >= out->looked_ns + IDLE_LOOK_NS))
		progress(out, now_ns);
	return out->state;
}

int tcp_outgoing_poll(struct tcp_outgoing *out, uint64_t now_ns, struct mu_completion *completions,
		      int max)
{
	int taken = 0;

	progress(out, now_ns);
	for (; taken < max && out->head != out->over; out->head++) {
		const struct tcp_operation *operation = at(out, out->head);

		if (operation->request.op != TCP_NUDGE)
			completions[taken++] = (struct mu_completion){
				operation->cookie, (uint8_t)out->peer, operation->status};
	}
	return taken;
}
