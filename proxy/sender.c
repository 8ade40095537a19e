/* sender.c - see sender.h; for the ring, io_uring(7). */
#include "sender.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { RING_LEAST = 4 }; /* fewer sends are not worth it */

void mp_sender_open(struct mp_sender *sender)
{
	sender->ring = malloc(sizeof(*sender->ring));
	if (sender->ring && io_uring_queue_init(MP_SENDER_MOST, sender->ring, 0) < 0) {
		free(sender->ring);
		sender->ring = NULL;
	}
}

void mp_sender_close(struct mp_sender *sender)
{
	if (!sender->ring)
		return;
	io_uring_queue_exit(sender->ring);
	free(sender->ring);
	sender->ring = NULL;
}

static void send_one(struct mp_sending *one)
{
	do
		one->result =
			send(one->fd, one->bytes.data, one->bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (one->result < 0 && errno == EINTR);
	if (one->result < 0)
		one->result = errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

static void put(struct io_uring *ring, struct mp_sending *one)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	assert(sqe); /* the ring is empty between calls, and as large as a call may be */
	io_uring_prep_send(sqe, one->fd, one->bytes.data, one->bytes.len,
			   MSG_NOSIGNAL | MSG_DONTWAIT);
	io_uring_sqe_set_data(sqe, one);
}

/* Hands over what was put, in order. Returns how many the kernel took. */
static unsigned submit(struct io_uring *ring, unsigned count)
{
	unsigned left;

	while ((left = io_uring_sq_ready(ring)) > 0) {
		int n = io_uring_submit_and_wait(ring, left);

		if (n == 0 || (n < 0 && n != -EINTR))
			break;
	}
	return count - left;
}

/* What became of those. They are over but for a rare one that another thread is at. */
static void collect(struct io_uring *ring, unsigned count)
{
	struct io_uring_cqe *cqe;

	while (count > 0) {
		if (io_uring_wait_cqe(ring, &cqe) < 0) /* a signal; each will be there */
			continue;
		((struct mp_sending *)io_uring_cqe_get_data(cqe))->result = cqe->res;
		io_uring_cqe_seen(ring, cqe);
		count--;
	}
}

void mp_sender_send(struct mp_sender *sender, struct mp_sending *list, unsigned count)
{
	unsigned taken = 0;

	assert(count <= MP_SENDER_MOST);
	if (sender->ring && count >= RING_LEAST) {
		for (unsigned i = 0; i < count; i++)
			put(sender->ring, &list[i]);
		taken = submit(sender->ring, count);
		collect(sender->ring, taken);
		if (taken < count) /* what it did not take is in it still */
			mp_sender_close(sender);
	}
	for (unsigned i = 0; i < count; i++)
		/* EINVAL: a kernel that has rings, but no sends by them. */
		if (i >= taken || list[i].result == -EINVAL || list[i].result == -EINTR)
			send_one(&list[i]);
}
