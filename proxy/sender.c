/* sender.c - see sender.h; for the ring, io_uring(7). */
#include "sender.h"

#include <assert.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RING_LEAST = 4 }; /* fewer sends are not worth it */

/* ---------------------------------------------------------- opening, closing */

static bool map_ring(struct mp_sender *s, const struct io_uring_params *p)
{
	size_t cq_bytes = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	size_t sq_bytes = p->sq_off.array + p->sq_entries * sizeof(unsigned);
	void *queues, *sqes;

	s->queues_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
	s->sqes_bytes = p->sq_entries * sizeof(struct io_uring_sqe);
	queues = mmap(NULL, s->queues_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		      s->fd, IORING_OFF_SQ_RING);
	if (queues == MAP_FAILED)
		return false;
	sqes = mmap(NULL, s->sqes_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, s->fd,
		    IORING_OFF_SQES);
	if (sqes == MAP_FAILED) {
		munmap(queues, s->queues_bytes);
		return false;
	}
	s->queues = queues;
	s->sqes = sqes;
	return true;
}

static void place(struct mp_sender *s, const struct io_uring_params *p)
{
	unsigned *array = (unsigned *)(void *)(s->queues + p->sq_off.array);

	s->sq_head = (unsigned *)(void *)(s->queues + p->sq_off.head);
	s->sq_tail = (unsigned *)(void *)(s->queues + p->sq_off.tail);
	s->cq_head = (unsigned *)(void *)(s->queues + p->cq_off.head);
	s->cq_tail = (unsigned *)(void *)(s->queues + p->cq_off.tail);
	s->cqes = (const struct io_uring_cqe *)(void *)(s->queues + p->cq_off.cqes);
	s->sq_mask = p->sq_entries - 1;
	s->cq_mask = p->cq_entries - 1;
	/* The n-th entry to submit is always the n-th of sqes. */
	for (unsigned i = 0; i < p->sq_entries; i++)
		array[i] = i;
}

void mp_sender_open(struct mp_sender *sender)
{
	struct io_uring_params params = {0};

	*sender = (struct mp_sender){0};
	sender->fd = (int)syscall(__NR_io_uring_setup, MP_SENDER_MOST, &params);
	if (sender->fd < 0)
		return;
	if (!(params.features & IORING_FEAT_SINGLE_MMAP) || !map_ring(sender, &params)) {
		close(sender->fd);
		return;
	}
	place(sender, &params);
	sender->is_open = true;
}

void mp_sender_close(struct mp_sender *sender)
{
	if (!sender->is_open)
		return;
	munmap(sender->queues, sender->queues_bytes);
	munmap(sender->sqes, sender->sqes_bytes);
	close(sender->fd);
	sender->is_open = false;
}

/* ----------------------------------------------------------------- sending */

static void send_one(struct mp_sending *one)
{
	do
		one->result =
			send(one->fd, one->bytes.data, one->bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (one->result < 0 && errno == EINTR);
	if (one->result < 0)
		one->result = errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

static int enter(const struct mp_sender *s, unsigned submit, unsigned wait)
{
	return (int)syscall(__NR_io_uring_enter, s->fd, submit, wait, IORING_ENTER_GETEVENTS, NULL,
			    0);
}

static void put(struct mp_sender *s, const struct mp_sending *list, unsigned count)
{
	unsigned tail = *s->sq_tail;

	for (unsigned i = 0; i < count; i++)
		s->sqes[(tail + i) & s->sq_mask] = (struct io_uring_sqe){
			.opcode = IORING_OP_SEND,
			.fd = list[i].fd,
			.addr = (uint64_t)(uintptr_t)list[i].bytes.data,
			.len = (uint32_t)list[i].bytes.len,
			.msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT,
			.user_data = i,
		};
	__atomic_store_n(s->sq_tail, tail + count, __ATOMIC_RELEASE);
}

/* Hands over what was put. Returns how many the kernel took; the others are taken back. */
static unsigned submit(struct mp_sender *s, unsigned count)
{
	unsigned taken = 0;

	while (taken < count) {
		int n = enter(s, count - taken, count - taken);

		if (n > 0)
			taken += (unsigned)n;
		else if (n == 0 || errno != EINTR)
			break;
	}
	if (taken < count)
		*s->sq_tail = __atomic_load_n(s->sq_head, __ATOMIC_ACQUIRE);
	return taken;
}

/* What became of those. They are over but for a rare one that another thread is at. */
static void collect(struct mp_sender *s, struct mp_sending *list, unsigned count)
{
	unsigned head = *s->cq_head;

	while (count > 0) {
		if (head == __atomic_load_n(s->cq_tail, __ATOMIC_ACQUIRE)) {
			enter(s, 0, 1);
			continue;
		}
		list[s->cqes[head & s->cq_mask].user_data].result = s->cqes[head & s->cq_mask].res;
		__atomic_store_n(s->cq_head, ++head, __ATOMIC_RELEASE);
		count--;
	}
}

void mp_sender_send(struct mp_sender *sender, struct mp_sending *list, unsigned count)
{
	unsigned taken = 0;

	assert(count <= MP_SENDER_MOST);
	if (sender->is_open && count >= RING_LEAST) {
		put(sender, list, count);
		taken = submit(sender, count);
		collect(sender, list, taken);
	}
	for (unsigned i = 0; i < count; i++)
		/* EINVAL: a kernel that has rings, but no sends by them. */
		if (i >= taken || list[i].result == -EINVAL || list[i].result == -EINTR)
			send_one(&list[i]);
}
