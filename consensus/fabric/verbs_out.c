/*
 * verbs_out.c - the posting end of connections: up, down, and operations. All of
 * it runs in the thread of the plane, but for verbs_out_lose(). No system call on
 * the way of an operation that the device does not want, no allocation, no lock.
 *
 * After the first error of a connection its queue pair is destroyed: nothing
 * that was posted is sent any more, sources may change, and every operation
 * outstanding is over (F8). What comes back from the completion queue for it
 * later is told by its generation, and dropped.
 */
#include "config.h"

#include <string.h>

#include "verbs.h"

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

/* ----------------------------------------------------------- up and down */

/* Whether the device certainly sends nothing of it any more. */
static bool silence(struct verbs_fabric *verbs, struct verbs_out *out)
{
	int error = verbs_queue_pair_free(out->qp);

	if (error != 0) {
		if (atomic_load(&out->state) != VERBS_CONNECTION_ENDING)
			verbs_say(verbs, "queue pair %u cannot be destroyed: %s", out->qp->qp_num,
				  strerror(error));
		error = verbs_queue_pair_stop(out->qp);
		if (error == 0)
			out->stopped = out->qp;
	}
	if (error == 0)
		out->qp = NULL;
	return error == 0;
}

/* The oldest operation outstanding ends with `status`, all behind it UNREACHABLE. */
static void end_operations(struct verbs_plane *plane, struct verbs_out *out,
			   enum mu_fabric_status status)
{
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
	if (out->dead > 0)
		verbs_call(plane);
}

static void take_down(struct verbs_fabric *verbs, struct verbs_plane *plane, struct verbs_out *out,
		      enum mu_fabric_status status)
{
	/* What is said of it from now on does not mean the next one. */
	atomic_store(&out->attempt, 0);
	if (!silence(verbs, out)) {
		out->ends_as = (uint8_t)status;
		atomic_store_explicit(&out->state, VERBS_CONNECTION_ENDING, memory_order_release);
		return;
	}
	end_operations(plane, out, status);
	atomic_store_explicit(&out->state, MU_CONNECTION_DOWN, memory_order_release);
}

void verbs_out_end(struct verbs_fabric *verbs, enum mu_plane which, unsigned peer)
{
	struct verbs_out *out = &verbs->plane[which].out[peer];

	if (atomic_load_explicit(&out->state, memory_order_relaxed) == VERBS_CONNECTION_ENDING)
		take_down(verbs, &verbs->plane[which], out, (enum mu_fabric_status)out->ends_as);
}

/*
 * A peer that does not answer the heartbeats' reads may be another process, or
 * another boot of its machine, when it answers again. The data plane's
 * connection, which may be idle, or in the making, must not outlive that.
 */
void verbs_out_fail(struct verbs_fabric *verbs, enum mu_plane which, unsigned peer,
		    enum mu_fabric_status status)
{
	take_down(verbs, &verbs->plane[which], &verbs->plane[which].out[peer], status);
	if (which == MU_PLANE_BACKGROUND && status == MU_FABRIC_UNREACHABLE)
		verbs_out_lose(verbs, MU_PLANE_DATA, peer);
}

bool verbs_out_is_usable(struct verbs_fabric *verbs, enum mu_plane which, unsigned peer)
{
	struct verbs_out *out = &verbs->plane[which].out[peer];

	if (!is_up(out))
		return false;
	if (!atomic_load_explicit(&out->is_lost, memory_order_relaxed))
		return true;
	take_down(verbs, &verbs->plane[which], out, MU_FABRIC_UNREACHABLE);
	return false;
}

/* Whether nothing is left of the connection before. */
static bool is_clear(struct verbs_fabric *verbs, enum mu_plane which, unsigned peer)
{
	struct verbs_out *out = &verbs->plane[which].out[peer];

	verbs_out_end(verbs, which, peer);
	if (atomic_load(&out->state) != MU_CONNECTION_DOWN)
		return false;
	if (out->stopped != NULL && verbs_queue_pair_free(out->stopped) != 0)
		return false;
	out->stopped = NULL;
	return true;
}

void verbs_connect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct verbs_out *out = out_of(verbs, plane, peer);

	if (!(verbs->config.member_mask & (1U << peer)) || verbs_out_is_usable(verbs, plane, peer))
		return;
	if (!is_clear(verbs, plane, peer) || !verbs_maker_has_channel(verbs->maker, peer))
		return;
	atomic_store(&out->is_lost, false);
	atomic_store(&out->state, MU_CONNECTION_CONNECTING);
	verbs_maker_wake(verbs->maker);
}

enum mu_connection verbs_state(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct verbs_out *out = out_of(verbs, plane, peer);
	int state;

	if (verbs_out_is_usable(verbs, plane, peer))
		return MU_CONNECTION_UP;
	state = atomic_load(&out->state);
	return state == VERBS_CONNECTION_ENDING ? MU_CONNECTION_DOWN : (enum mu_connection)state;
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

void verbs_out_lose(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer)
{
	atomic_store(&verbs->plane[plane].out[peer].is_lost, true);
	verbs_call(&verbs->plane[plane]);
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
 * copy words from where an operation begins in the target's memory, so one that
 * begins within an aligned word does so by itself, or the words behind it would
 * be torn (F6).
 */
static size_t next_piece(const struct verbs_fabric *verbs, uint64_t remote, size_t left)
{
	const size_t word = sizeof(uint64_t);
	size_t lead = (size_t)(-remote % word);
	size_t most = lead != 0 ? lead : verbs->port.message_bytes / word * word;

	return left < most ? left : most;
}

static unsigned requests_for(const struct verbs_fabric *verbs, const struct order *order)
{
	unsigned count = 0;
	size_t done = 0;

	do {
		done += next_piece(verbs, order->remote + done, order->len - done);
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
		size_t piece = next_piece(verbs, order->remote + done, left);
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
	if (!verbs_out_is_usable(verbs, which, peer))
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
		verbs_out_fail(verbs, which, peer, MU_FABRIC_UNREACHABLE);
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
	} else if (!verbs_source(verbs, which, &op, src, len, &order.local, &order.local_key)) {
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
	if (!verbs_destination(verbs, which, &op, dst, len, &order.local, &order.local_key))
		return -1;
	post(verbs, which, peer, &op, &order);
	return 0;
}
