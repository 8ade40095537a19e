/*
 * verbs_poll.c - what the posting end of connections hears: completions, losses,
 * and how its thread may sleep until there is something. All of it runs in the
 * thread of the plane, but for verbs_call().
 */
#include "config.h"

#include <errno.h>
#include <unistd.h>

#include "verbs.h"

#define POLL_BATCH 16
/* Losses are looked for at the latest after so many polls, however much completes. */
#define POLLS_UNTIL_LOOK 64
/* How long an event of the channel that nobody expects may keep its descriptor readable. */
#define LOOK_NS 1000000u

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

	if (atomic_load_explicit(&out->state, memory_order_relaxed) != MU_CONNECTION_UP ||
	    wc->wr_id >> 8 != out->generation)
		return 0;
	if (wc->status != IBV_WC_SUCCESS) {
		verbs_out_fail(verbs, which, peer, status_of(wc->status));
		return 0;
	}
	/* Who confirms it may be another than the one that it was meant for. */
	if (!verbs_out_is_usable(verbs, which, peer))
		return 0;
	assert(out->dead == 0 && verbs_outstanding(out) > 0);
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

		verbs_out_end(verbs, which, peer);
		if (verbs_out_is_usable(verbs, which, peer) && verbs_outstanding(out) > 0 &&
		    now_ns - out->op[(out->head + out->dead) % VERBS_OPS].posted_ns >
			    verbs->config.op_timeout_ns)
			verbs_out_fail(verbs, which, peer, MU_FABRIC_UNREACHABLE);
	}
}

/* ---------------------------------------------------------------- sleeping */

static bool take_events(struct verbs_plane *plane)
{
	struct ibv_cq *cq;
	unsigned count = 0;
	void *ctx;

	while (ibv_get_cq_event(plane->channel, &cq, &ctx) == 0)
		count++;
	if (count > 0)
		ibv_ack_cq_events(plane->completions, count);
	return count > 0;
}

/*
 * Before a plane that found nothing may sleep, the channel must be armed. True
 * if it was not: then what came just before is to be looked for once more.
 *
 * An event comes behind its completion, and so perhaps after that was polled and
 * the channel armed again. It would keep the descriptor readable with nothing to
 * poll, so the channel is looked at from time to time even if nothing is
 * expected from it; and armed again, for the event may have used that up.
 */
static bool arm(struct verbs_plane *plane)
{
	uint64_t now_ns;
	bool is_due;

	if (!atomic_load_explicit(&plane->is_waited_for, memory_order_relaxed))
		return false;
	now_ns = verbs_clock_ns();
	is_due = !plane->is_armed || plane->was_told_of;
	if (!is_due && now_ns - plane->looked_ns < LOOK_NS)
		return false;
	plane->looked_ns = now_ns;
	if (!take_events(plane) && !is_due)
		return false;
	plane->was_told_of = false;
	plane->is_armed = ibv_req_notify_cq(plane->completions, 0) == 0;
	return plane->is_armed;
}

/* The descriptor is written before the flag: who sees the flag can read it off. */
void verbs_call(struct verbs_plane *plane)
{
	uint64_t one = 1;

	if (!atomic_load(&plane->is_waited_for))
		return;
	(void)!write(plane->call_fd, &one, sizeof(one));
	atomic_store(&plane->is_called, true);
}

/* Whether somebody has called. What that was about is to be looked for afterwards. */
static bool take_call(struct verbs_plane *plane)
{
	uint64_t count;

	if (!atomic_load_explicit(&plane->is_called, memory_order_relaxed) ||
	    !atomic_exchange(&plane->is_called, false))
		return false;
	(void)!read(plane->call_fd, &count, sizeof(count));
	return true;
}

int verbs_wait_fd(struct mu_fabric *fabric, enum mu_plane which)
{
	struct verbs_plane *plane = &verbs_of(fabric)->plane[which];

	atomic_store(&plane->is_waited_for, true);
	return plane->wait_fd;
}

/* ----------------------------------------------------------------- polling */

/* Nothing has completed: whether there may be something all the same. */
static bool may_have_more(struct verbs_fabric *verbs, enum mu_plane which, bool is_idle)
{
	struct verbs_plane *plane = &verbs->plane[which];

	if (take_call(plane) || (is_idle && plane->outstanding > 0))
		look_for_losses(verbs, which);
	return plane->dead > 0 || arm(plane);
}

int verbs_poll(struct mu_fabric *fabric, enum mu_plane which, struct mu_completion *out, int max)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	struct verbs_plane *plane = &verbs->plane[which];
	struct ibv_wc work[POLL_BATCH];
	int taken = 0;

	if (++plane->polls % POLLS_UNTIL_LOOK == 0 && plane->outstanding > 0)
		look_for_losses(verbs, which);
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
		if (count <= 0 && !may_have_more(verbs, which, taken == 0))
			break;
	}
	return taken;
}
