/*
 * tcp_outgoing.h - one plane's connection to one peer, as the end that posts.
 * Used by the plane's own thread alone, but for tcp_outgoing_arrived()
 * and tcp_outgoing_replaced().
 *
 * Sources and targets of operations are not copied: they are the caller's, who
 * leaves them alone until the completion. Once an operation has completed, its
 * connection is either past it or closed, so nothing touches them any more.
 */
#ifndef MU_TCP_OUTGOING_H
#define MU_TCP_OUTGOING_H

#include <stdatomic.h>
#include <stdbool.h>

#include "mu_peering.h"
#include "tcp_wire.h"

/* Operations posted and not yet polled, a connection; a power of two. */
#define TCP_QUEUE_ENTRIES 512
#define TCP_RECEIVE_BYTES (16u << 10)

struct tcp_operation {
	struct tcp_request request;
	uint64_t cookie;
	uint64_t deadline_ns;
	const void *src; /* a write's */
	uint8_t *dst;    /* a read's */
	uint8_t status;  /* once it is over */
};

struct tcp_outgoing {
	/* Constant. */
	unsigned peer;
	enum mu_plane plane;
	const struct mu_fabric_config *config;
	struct mu_peering *peering;
	int epoll_fd; /* the plane's; readable while there is something to do here */

	enum mu_connection state;
	bool asked;           /* the peering owes us a stream, or word that there is none */
	bool welcomed;        /* ... and this one is ready to be posted on */
	bool wants_room;      /* epoll tells when more can be sent */
	int fd;               /* -1: none */
	uint64_t deadline_ns; /* of the welcome */
	uint64_t spoke_ns;    /* when something was sent last */
	uint64_t moved_ns;    /* when the peer last answered something, or sent a part of it */
	uint64_t looked_ns;   /* while idle: when its end was looked for last */
	uint32_t sequence;

	/* Operations [head, over) are to be polled, [over, tail) under way, [sent, tail) unsent. */
	uint32_t head, over, sent, tail;
	size_t sent_bytes;  /* of operation `sent` */
	uint64_t read_left; /* bytes yet to come of operation `over`; it is a read then */
	size_t received;
	uint8_t *buffer; /* received and not yet looked at */
	struct tcp_operation *queue;

	/* The peering's word, on its thread. */
	_Atomic int arrived;  /* what it has brought, by tcp_outgoing_arrived() */
	atomic_bool replaced; /* what it brought before is of a process that counts no more */
};

/* False: out of memory. */
bool tcp_outgoing_init(struct tcp_outgoing *out, unsigned peer, enum mu_plane plane,
		       const struct mu_fabric_config *config, struct mu_peering *peering,
		       int epoll_fd);
void tcp_outgoing_free(struct tcp_outgoing *out);

/* From the peering's thread: a stream, or -1: there is none to be had. */
void tcp_outgoing_arrived(struct tcp_outgoing *out, int fd);

/* From the peering's thread: the streams so far lead to a process that counts no more. */
void tcp_outgoing_replaced(struct tcp_outgoing *out);

void tcp_outgoing_connect(struct tcp_outgoing *out, uint64_t now_ns);
enum mu_connection tcp_outgoing_state(struct tcp_outgoing *out, uint64_t now_ns);
void tcp_outgoing_disconnect(struct tcp_outgoing *out);

/* -1: the connection is not UP, or the queue is full. */
int tcp_outgoing_post(struct tcp_outgoing *out, const struct tcp_operation *operation);
/* Send what was posted, as far as there is room for it. */
void tcp_outgoing_flush(struct tcp_outgoing *out);
/* Flush, receive, and see to deadlines; take up to max completions. */
int tcp_outgoing_poll(struct tcp_outgoing *out, uint64_t now_ns, struct mu_completion *completions,
		      int max);

#endif
