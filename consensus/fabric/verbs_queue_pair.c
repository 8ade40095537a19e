/* verbs_queue_pair.c - see the header. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "verbs_queue_pair.h"

/* As many numbers may be in the way at once, so one attempt more finds a free one. */
#define ATTEMPTS (VERBS_ENDS * MU_PLANES * MU_ID_SLOTS + 1)
#define PSN_MASK 0xffffffu
/* Nothing here is ever not ready to receive; 0.64 ms, should a device think so. */
#define MIN_RNR_TIMER 12

static struct ibv_qp *create(const struct verbs_queue_pair_wants *wants, uint32_t *inline_got)
{
	struct ibv_qp_init_attr init = {
		.send_cq = wants->completions,
		.recv_cq = wants->completions,
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = wants->work_requests ? wants->work_requests : 1,
			.max_recv_wr = 1,
			.max_send_sge = 1,
			.max_recv_sge = 1,
			.max_inline_data = wants->inline_bytes},
	};
	struct ibv_qp *qp = ibv_create_qp(wants->domain, &init);

	/* No device tells what it can do: ask for less until it agrees. */
	while (qp == NULL && init.cap.max_inline_data > 0) {
		init.cap.max_inline_data /= 2;
		qp = ibv_create_qp(wants->domain, &init);
	}
	if (qp != NULL && inline_got != NULL)
		*inline_got = init.cap.max_inline_data < wants->inline_bytes
				      ? init.cap.max_inline_data
				      : wants->inline_bytes;
	return qp;
}

static bool is_in_the_way(const struct verbs_numbers *numbers, uint32_t number)
{
	const uint32_t *last = &numbers->last[0][0][0];

	for (size_t i = 0; i < sizeof(numbers->last) / sizeof(*last); i++)
		if (last[i] == number)
			return true;
	return false;
}

/* Those with a number in the way are kept until one without is found. */
static struct ibv_qp *create_apart(const struct verbs_queue_pair_wants *wants,
				   const struct verbs_numbers *numbers, uint32_t *inline_got)
{
	struct ibv_qp *kept[ATTEMPTS];
	struct ibv_qp *qp = NULL;
	int count = 0, error;

	while (count < (int)ATTEMPTS) {
		qp = create(wants, inline_got);
		if (qp == NULL || !is_in_the_way(numbers, qp->qp_num))
			break;
		kept[count++] = qp;
		qp = NULL;
	}
	error = errno;
	while (count > 0)
		ibv_destroy_qp(kept[--count]);
	errno = error;
	return qp;
}

static int to_init(struct ibv_qp *qp, const struct verbs_port *port)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT,
				   .pkey_index = port->pkey_index,
				   .port_num = port->number,
				   .qp_access_flags = 0};

	return ibv_modify_qp(qp, &attr,
			     IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

struct ibv_qp *verbs_queue_pair_new(const struct verbs_port *port,
				    const struct verbs_queue_pair_wants *wants,
				    struct verbs_numbers *numbers, uint32_t *slot,
				    uint32_t *inline_got)
{
	struct ibv_qp *qp = create_apart(wants, numbers, inline_got);
	int error;

	if (qp == NULL)
		return NULL;
	error = to_init(qp, port);
	if (error != 0) {
		ibv_destroy_qp(qp);
		errno = error;
		return NULL;
	}
	*slot = qp->qp_num;
	return qp;
}

static uint8_t lesser(uint8_t a, uint8_t b)
{
	return a < b ? a : b;
}

int verbs_queue_pair_serve(struct ibv_qp *qp, const struct verbs_port *port,
			   const struct verbs_endpoint *remote,
			   const struct verbs_transport *transport)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = lesser((uint8_t)port->path.mtu, remote->mtu),
		.dest_qp_num = remote->queue_pair,
		.rq_psn = remote->first_psn,
		.max_dest_rd_atomic = lesser(port->reads_in, remote->reads_out),
		.min_rnr_timer = MIN_RNR_TIMER,
		.ah_attr = {.dlid = remote->lid,
			    .sl = transport->service_level,
			    .port_num = port->number},
	};

	/* On InfiniBand a LID does, within a subnet; the GID is told for those across routers. */
	if (remote->is_ethernet || remote->lid == 0) {
		attr.ah_attr.is_global = 1;
		attr.ah_attr.grh.sgid_index = port->path.gid_index;
		attr.ah_attr.grh.hop_limit = 64;
		attr.ah_attr.grh.traffic_class = transport->traffic_class;
		memcpy(attr.ah_attr.grh.dgid.raw, remote->gid, sizeof(remote->gid));
	}
	return ibv_modify_qp(qp, &attr,
			     IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				     IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				     IBV_QP_MIN_RNR_TIMER);
}

int verbs_queue_pair_start(struct ibv_qp *qp, const struct verbs_port *port,
			   const struct verbs_endpoint *own, const struct verbs_endpoint *remote,
			   const struct verbs_transport *transport, int access)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTS,
		.sq_psn = own->first_psn,
		.timeout = transport->timeout,
		.retry_cnt = transport->retries,
		.rnr_retry = transport->retries,
		.max_rd_atomic = lesser(port->reads_out, remote->reads_in),
		.qp_access_flags = (unsigned)access,
	};

	return ibv_modify_qp(qp, &attr,
			     IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				     IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC |
				     IBV_QP_ACCESS_FLAGS);
}

int verbs_queue_pair_set_access(struct ibv_qp *qp, int access)
{
	struct ibv_qp_attr attr = {.qp_access_flags = (unsigned)access};

	return ibv_modify_qp(qp, &attr, IBV_QP_ACCESS_FLAGS);
}

void verbs_endpoint_describe(struct verbs_endpoint *endpoint, const struct verbs_port *port,
			     const struct ibv_qp *qp)
{
	uint32_t psn;

	while (getrandom(&psn, sizeof(psn), 0) != sizeof(psn))
		if (errno != EINTR)
			abort(); /* there is no kernel without it */
	*endpoint = (struct verbs_endpoint){
		.queue_pair = qp->qp_num,
		.first_psn = psn & PSN_MASK,
		.lid = port->path.lid,
		.mtu = (uint8_t)port->path.mtu,
		.is_ethernet = port->is_ethernet,
		.reads_out = port->reads_out,
		.reads_in = port->reads_in,
	};
	memcpy(endpoint->gid, port->path.gid.raw, sizeof(endpoint->gid));
}

int verbs_queue_pair_stop(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	return ibv_modify_qp(qp, &attr, IBV_QP_STATE);
}

int verbs_queue_pair_free(struct ibv_qp *qp)
{
	return qp != NULL ? ibv_destroy_qp(qp) : 0;
}
