/* verbs_queue_pair.h - the life of one reliable-connected queue pair. */
#ifndef MU_VERBS_QUEUE_PAIR_H
#define MU_VERBS_QUEUE_PAIR_H

#include "verbs_device.h"
#include "verbs_message.h"

/*
 * Numbers of queue pairs that a new one must not have, a slot for each end of
 * each connection: the number that its last queue pair had. The peer's end of
 * that one may still be there, and what it sends would be taken for the new
 * peer's. It is gone for certain when the slot is used again, since a peer asks
 * for a new connection only after it has destroyed its end of the old one. The
 * numbers are kept with the memory, for a process is followed by another.
 */
enum verbs_end { VERBS_POSTING, VERBS_SERVING, VERBS_ENDS };
struct verbs_numbers {
	uint32_t last[VERBS_ENDS][MU_PLANES][MU_ID_SLOTS];
};

struct verbs_queue_pair_wants {
	struct ibv_pd *domain;
	struct ibv_cq *completions;
	uint32_t work_requests; /* 0: it only serves */
	uint32_t inline_bytes;  /* at most; what was got is in *inline_got */
};

/*
 * Make one, in the state INIT, without any remote access, and enter its number
 * in *slot of `numbers`. NULL with errno if it cannot be had. *inline_got may
 * be NULL.
 */
struct ibv_qp *verbs_queue_pair_new(const struct verbs_port *port,
				    const struct verbs_queue_pair_wants *wants,
				    struct verbs_numbers *numbers, uint32_t *slot,
				    uint32_t *inline_got);

/* How a queue pair goes about a silent peer, and by which way it gets there. */
struct verbs_transport {
	uint8_t timeout, retries, service_level, traffic_class;
};

/* INIT to RTR: from now on it serves what `remote` sends. Returns 0 or errno. */
int verbs_queue_pair_serve(struct ibv_qp *qp, const struct verbs_port *port,
			   const struct verbs_endpoint *remote,
			   const struct verbs_transport *transport);
/* RTR to RTS, with these access rights for the peer. Returns 0 or errno. */
int verbs_queue_pair_start(struct ibv_qp *qp, const struct verbs_port *port,
			   const struct verbs_endpoint *own, const struct verbs_endpoint *remote,
			   const struct verbs_transport *transport, int access);
/* Change the peer's rights while it runs. Returns 0 or errno (EINVAL: it is in error). */
int verbs_queue_pair_set_access(struct ibv_qp *qp, int access);

/* Describe the own end, with a first packet sequence number chosen at random. */
void verbs_endpoint_describe(struct verbs_endpoint *endpoint, const struct verbs_port *port,
			     const struct ibv_qp *qp);

/* Nothing is sent by it any more, and it serves nothing, though it is there. Returns 0 or errno. */
int verbs_queue_pair_stop(struct ibv_qp *qp);

/* Returns 0, or errno with the queue pair still there. */
int verbs_queue_pair_free(struct ibv_qp *qp);

#endif
