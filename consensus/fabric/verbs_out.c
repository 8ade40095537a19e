/*
 * verbs_out.c - the posting end of connections: operations and their
 * completions. All of it runs in the thread of the plane, but for the last
 * function. No system call on the way of an operation that the device does not
 * want, no allocation, no lock.
 *
 * After the first error of a connection its queue pair is destroyed: nothing
 * that was posted is sent any more, sources may change, and every operation
 * outstanding is over (F8). What comes back from the completion queue for it
 * later is told by its generation, and dropped.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "verbs.h"

#define POLL_BATCH 16

static struct verbs_out *out_of(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer)
{
	assert(plane == MU_PLANE_DATA || plane == MU_PLANE_BACKGROUND);
	assert(peer >= 1 && peer < MU_ID_SLOTS);
	return &verbs->plane[plane].out[peer];
}

/* From here on the members that the maker sets may be read. */
static bool is_up(const struct verbs_out *out)
{
	return atomic_load_explicit(&out->state, memory_order_acquire) == MU_CONNECTION_UP;
}

static unsigned outstanding(const struct verbs_out *out)
{
	return out->tail - out->head - out->dead;
}

/* ----------------------------------------------------------- up and down */

/* The oldest operation outstanding ends with `status`, all behind it UNREACHABLE. */
static void take_down(struct verbs_fabric *verbs, struct verbs_plane *plane, struct verbs_out *out,
		      enum mu_fabric_status status)
{
	int error = verbs_queue_pair_free(out->qp);

	if (error != 0)
		verbs_say(verbs, "queue pair %u cannot be destroyed: error %d", out->qp->qp_num,
			  error);
	out->qp = NULL;
	out->work_requests = 0;
	for (uint32_t i = out->head + out->dead; i != out->tail; i++) {
		struct verbs_op *op = &out->op[i % VERBS_OPS];

		verbs_release(plane, op, false);
		op->status = (uint8_t)status;
		status = MU_FABRIC_UNREACHABLE;
		plane->outstanding--;
		plane->dead++;
		out->dead++;
	}
	atomic_store_explicit(&out->state, MU_CONNECTION_DOWN, memory_order_release);
}

/*
 * A peer that does not answer the heartbeats' reads may be another process, or
 * another boot of its machine, when it answers again. The data plane's
 * connection, which may be idle, must not outlive that.
 */
static void fail(struct verbs_fabric *verbs, enum mu_plane which, unsigned peer,
		 enum mu_fabric_status status)
{
	take_down(verbs, &verbs->plane[which], &verbs->plane[which].out[peer], status);
	if (which == MU_PLANE_BACKGROUND && status == MU_FABRIC_UNREACHABLE)
		verbs_out_lose(&verbs->plane[MU_PLANE_DATA].out[peer]);
}

/* Whether it is UP and meant to stay so. */
static bool is_usable(struct verbs_fabric *verbs, enum mu_plane which, unsigned peer)
{
	struct verbs_out *out = &verbs->plane[which].out[peer];

	if (!is_up(out))
		return false;
	if (!atomic_load_explicit(&out->is_lost, memory_order_relaxed))
		return true;
	take_down(verbs, &verbs->plane[which], out, MU_FABRIC_UNREACHABLE);
	return false;
}

void verbs_connect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct verbs_out *out = out_of(verbs, plane, peer);

	if (!(verbs->config.member_mask & (1U << peer)) || is_usable(verbs, plane, peer))
		return;
	if (atomic_load(&out->state) != MU_CONNECTION_DOWN ||
	    !verbs_maker_has_channel(verbs->maker, peer))
		return;
	atomic_store(&out->state, MU_CONNECTION_CONNECTING);
	verbs_maker_wake(verbs->maker);
}

enum mu_connection verbs_state(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct verbs_out *out = out_of(verbs, plane, peer);

	if (is_usable(verbs, plane, peer))
		return MU_CONNECTION_UP;
	return (enum mu_connection)atomic_load(&out->state);
}

void verbs_disconnect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct verbs_out *out = out_of(verbs, plane, peer);
	int connecting = MU_CONNECTION_CONNECTING;

	/* Fails if there is no connection in the making, or it has just come UP. */
	if (!atomic_compare_exchange_strong(&out->state, &connecting, MU_CONNECTION_DOWN) &&
	    is_up(out))
		take_down(verbs, &verbs->plane[plane], out, MU_FABRIC_UNREACHABLE);
}

/* ---------------------------------------------------------------- posting */

/* An operation as the device is to be told of it. */
struct order {
	enum ibv_wr_opcode opcode;
	unsigned flags;
	uint64_t local, remote;
	uint32_t local_key, remote_key;
	size_t len;
	unsigned requests; /* work requests that it takes */
};

/*
 * How much of an operation the next work request does. Devices that are programs
 * copy words from where a write begins, so one that begins within an aligned
 * word does so by itself, or the words behind it would be torn (F6).
 */
static size_t next_piece(const struct verbs_fabric *verbs, enum ibv_wr_opcode opcode,
			 uint64_t remote, size_t left)
{
	const size_t word = sizeof(uint64_t);
	size_t lead = opcode == IBV_WR_RDMA_WRITE ? (size_t)(-remote % word) : 0;
	size_t most = lead != 0 ? lead : verbs->port.message_bytes / word * word;

	return left < most ? left : most;
}

static unsigned requests_for(const struct verbs_fabric *verbs, const struct order *order)
{
	unsigned count = 0;
	size_t done = 0;

	do {
		done += next_piece(verbs, order->opcode, order->remote + done, order->len - done);
		count++;
	} while (done < order->len);
	return count;
}

/* Give it to the device, in as many pieces as it wants; only the last one is answered. */
static int submit(struct verbs_fabric *verbs, struct verbs_out *out, unsigned peer,
		  const struct order *order)
{
	size_t done = 0;

	do {
		size_t left = order->len - done;
		size_t piece = next_piece(verbs, order->opcode, order->remote + done, left);
		struct ibv_sge sge = {.addr = order->local + done,
				      .length = (uint32_t)piece,
				      .lkey = order->local_key};
		struct ibv_send_wr wr = {
			.wr_id = (uint64_t)out->generation << 8 | peer,
			.sg_list = &sge,
			.num_sge = 1,
			.opcode = order->opcode,
			.send_flags = order->flags | (piece == left ? IBV_SEND_SIGNALED : 0),
			.wr.rdma = {.remote_addr = order->remote + done, .rkey = order->remote_key},
		};
		struct ibv_send_wr *bad;
		int error = ibv_post_send(out->qp, &wr, &bad);

		if (error != 0)
			return error;
		done += piece;
	} while (done < order->len);
	return 0;
}

/* An operation that is allowed now, as far as it is known without its bytes. */
static bool begin(struct verbs_fabric *verbs, enum mu_plane which, unsigned peer,
		  enum ibv_wr_opcode opcode, enum mu_region region, uint64_t offset, size_t len,
		  struct order *order)
{
	struct verbs_out *out = out_of(verbs, which, peer);
	const struct verbs_target *target = &out->target[verbs_plane_of(region)];

	assert(region == MU_REGION_BACKGROUND || region == MU_REGION_REPLICATION);
	assert(len > 0 && len <= verbs->config.region_bytes[region] && len <= UINT32_MAX);
	assert(offset <= verbs->config.region_bytes[region] - len);
	if (!is_usable(verbs, which, peer))
		return false;
	*order = (struct order){.opcode = opcode,
				.remote = target->address + offset,
				.remote_key = target->key,
				.len = len};
	order->requests = requests_for(verbs, order);
	return out->tail - out->head < VERBS_OPS &&
	       out->work_requests + order->requests <= verbs->work_requests;
}

/* The bytes are placed: op and order are filled in. */
static void post(struct verbs_fabric *verbs, enum mu_plane which, unsigned peer,
		 const struct verbs_op *op, const struct order *order)
{
	struct verbs_plane *plane = &verbs->plane[which];
	struct verbs_out *out = &plane->out[peer];

	out->op[out->tail++ % VERBS_OPS] = *op;
	plane->outstanding++;
	out->work_requests += op->work_requests;
	/* There is room, so only a device that is failing refuses: that ends the connection. */
	if (submit(verbs, out, peer, order) != 0)
		fail(verbs, which, peer, MU_FABRIC_UNREACHABLE);
}

static struct verbs_op op_for(const struct order *order, uint64_t cookie)
{
	return (struct verbs_op){.cookie = cookie,
				 .posted_ns = verbs_clock_ns(),
				 .len = (uint32_t)order->len,
				 .work_requests = (uint16_t)order->requests,
				 .stage = -1};
}

int verbs_post_write(struct mu_fabric *fabric, enum mu_plane which, unsigned peer,
		     enum mu_region region, uint64_t offset, const void *src, size_t len,
		     uint64_t ballot, uint64_t cookie)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct order order;
	struct verbs_op op;

	(void)ballot; /* permission is the queue pair's */
	if (!begin(verbs, which, peer, IBV_WR_RDMA_WRITE, region, offset, len, &order))
		return -1;
	op = op_for(&order, cookie);
	if (len <= verbs->plane[which].out[peer].inline_bytes) {
		order.flags = IBV_SEND_INLINE;
		order.local = (uintptr_t)src;
	} else if (!verbs_source(&verbs->plane[which], &op, src, len, &order.local,
				 &order.local_key)) {
		return -1;
	}
	post(verbs, which, peer, &op, &order);
	return 0;
}

int verbs_post_read(struct mu_fabric *fabric, enum mu_plane which, unsigned peer,
		    enum mu_region region, uint64_t offset, void *dst, size_t len, uint64_t cookie)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct order order;
	struct verbs_op op;

	if (!begin(verbs, which, peer, IBV_WR_RDMA_READ, region, offset, len, &order))
		return -1;
	op = op_for(&order, cookie);
	if (!verbs_destination(&verbs->plane[which], &op, dst, len, &order.local, &order.local_key))
		return -1;
	post(verbs, which, peer, &op, &order);
	return 0;
}

/* ------------------------------------------------------------ completions */

/*
 * What an error means in the contract's terms. A device that sees no permission
 * says one of two things, by its make. All else is some way of not getting
 * through: repeated in vain, flushed behind another error, a queue pair that is
 * in error.
 */
static enum mu_fabric_status status_of(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_SUCCESS:
		return MU_FABRIC_OK;
	case IBV_WC_REM_INV_REQ_ERR:
	case IBV_WC_REM_ACCESS_ERR:
		return MU_FABRIC_DENIED;
	default:
		return MU_FABRIC_UNREACHABLE;
	}
}

/* Hand out operations that ended with their connection. */
static int take_dead(struct verbs_plane *plane, struct mu_completion *out, int max)
{
	int taken = 0;

	for (unsigned peer = 1; peer < MU_ID_SLOTS && plane->dead > 0 && taken < max; peer++) {
		struct verbs_out *from = &plane->out[peer];

		for (; from->dead > 0 && taken < max; from->dead--, plane->dead--) {
			const struct verbs_op *op = &from->op[from->head++ % VERBS_OPS];

			out[taken++] =
				(struct mu_completion){op->cookie, (uint8_t)peer, op->status};
		}
	}
	return taken;
}

/* Returns how many completions it gave: one, or none but for the dead that it left. */
static int take_work(struct verbs_fabric *verbs, enum mu_plane which, const struct ibv_wc *wc,
		     struct mu_completion *completion)
{
	struct verbs_plane *plane = &verbs->plane[which];
	unsigned peer = (unsigned)(wc->wr_id & 0xff);
	struct verbs_out *out = &plane->out[peer];
	struct verbs_op *op;

	if (!is_up(out) || wc->wr_id >> 8 != out->generation)
		return 0;
	if (wc->status != IBV_WC_SUCCESS) {
		fail(verbs, which, peer, status_of(wc->status));
		return 0;
	}
	assert(out->dead == 0 && outstanding(out) > 0);
	op = &out->op[out->head++ % VERBS_OPS];
	verbs_release(plane, op, true);
	out->work_requests -= op->work_requests;
	plane->outstanding--;
	*completion = (struct mu_completion){op->cookie, (uint8_t)peer, MU_FABRIC_OK};
	return 1;
}

/* What others have found out about connections; and F7, whatever the device thinks of time. */
static void look_for_losses(struct verbs_fabric *verbs, enum mu_plane which)
{
	struct verbs_plane *plane = &verbs->plane[which];
	uint64_t now_ns = verbs_clock_ns();

	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++) {
		struct verbs_out *out = &plane->out[peer];

		if (is_usable(verbs, which, peer) && outstanding(out) > 0 &&
		    now_ns - out->op[(out->head + out->dead) % VERBS_OPS].posted_ns >
			    verbs->config.op_timeout_ns)
			fail(verbs, which, peer, MU_FABRIC_UNREACHABLE);
	}
}

/*
 * Before a plane that found nothing may sleep, the channel must be armed. True
 * if it was not: then what came just before is to be looked for once more.
 * Costs system calls once for every time that there was nothing any more.
 */
static bool arm(struct verbs_plane *plane)
{
	struct ibv_cq *cq;
	void *ctx;

	if (!plane->is_waited_for || (plane->is_armed && !plane->was_told_of))
		return false;
	while (plane->is_armed && ibv_get_cq_event(plane->channel, &cq, &ctx) == 0)
		ibv_ack_cq_events(plane->completions, 1);
	plane->was_told_of = false;
	plane->is_armed = ibv_req_notify_cq(plane->completions, 0) == 0;
	return plane->is_armed;
}

int verbs_poll(struct mu_fabric *fabric, enum mu_plane which, struct mu_completion *out, int max)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct verbs_plane *plane = &verbs->plane[which];
	struct ibv_wc work[POLL_BATCH];
	int taken = 0;

	while (taken < max) {
		int room, count;

		/* First: of one connection, they are older than what the device has. */
		if (plane->dead > 0) {
			taken += take_dead(plane, out + taken, max - taken);
			continue;
		}
		room = max - taken < POLL_BATCH ? max - taken : POLL_BATCH;
		count = ibv_poll_cq(plane->completions, room, work);
		for (int i = 0; i < count; i++)
			taken += take_work(verbs, which, &work[i], &out[taken]);
		plane->was_told_of |= count > 0;
		if (count > 0)
			continue;
		if (taken == 0 && plane->outstanding > 0)
			look_for_losses(verbs, which);
		if (plane->dead == 0 && !arm(plane))
			break;
	}
	return taken;
}

int verbs_wait_fd(struct mu_fabric *fabric, enum mu_plane which)
{
	struct verbs_plane *plane = &verbs_of(fabric)->plane[which];

	plane->is_waited_for = true;
	return plane->channel->fd;
}

/* ---------------------------------------------------- called by other threads */

void verbs_out_lose(struct verbs_out *out)
{
	atomic_store_explicit(&out->is_lost, true, memory_order_relaxed);
}
