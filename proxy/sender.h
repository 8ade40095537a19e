/*
 * sender.h - sends to many sockets with one system call: a turn's replies go to
 * as many clients. By Linux's io_uring; where the kernel has none, or does not let
 * us, with a call each. Either way all is over when the call returns.
 */
#ifndef MP_SENDER_H
#define MP_SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "slice.h"

enum { MP_SENDER_MOST = 64 }; /* sends at once */

struct mp_sending {
	int fd;                /* of a socket */
	struct mp_slice bytes; /* not empty */
	ssize_t result;        /* how many of them it took; -EAGAIN: it is full; -errno */
	void *owner;           /* the caller's */
};

struct io_uring;
struct mp_sender {
	struct io_uring *ring; /* NULL (zeroed): a call for each send */
};

/* Whether there is a ring or not is for sender alone to know: it works in any case. */
void mp_sender_open(struct mp_sender *sender);
void mp_sender_close(struct mp_sender *sender);
/* Send, as far as the sockets take it now. count: MP_SENDER_MOST at most. Never raises SIGPIPE. */
void mp_sender_send(struct mp_sender *sender, struct mp_sending *list, unsigned count);

#endif
