/*
 * verbs_in.c - the serving end of connections, and who may write the log.
 *
 * A peer may write the replication region if and only if the queue pair that
 * serves its data connection allows remote writes. Granting is a change of that
 * queue pair's access rights. Revoking is that too, which stops nearly
 * everything at once, but no specification says that a write which the device is
 * executing at that moment is over when the change is, and with soft-RoCE it was
 * seen not to be. Destroying the queue pair does wait for that, so it is the
 * barrier (F4). Whoever writes next does so through a queue pair of its own,
 * which is there already; the destroyed one is made anew later, when its peer
 * asks for it.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "verbs.h"

/* A peer that asks in vain is told again that what served it is gone. */
#define TELL_AGAIN_NS 10000000u
/* The device may refuse once, because of an error that nobody has heard of yet. */
#define REFUSALS_MAX 3

/* What every peer may do, by plane; the right to write the log comes on top. */
static int basic_access(enum mu_plane plane)
{
	return plane == MU_PLANE_BACKGROUND ? IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE
					    : IBV_ACCESS_REMOTE_READ;
}

static unsigned holder(const struct verbs_fabric *verbs)
{
	return OWN_MEMORY_BALLOT_HOLDER(atomic_load(&verbs->memory.header->word));
}

/* Returns 0, or errno with the queue pair still there. */
static int drop(struct verbs_in *in)
{
	int error = verbs_queue_pair_free(in->qp);

	if (error != 0)
		return error;
	in->qp = NULL;
	in->may_write = false;
	return 0;
}

int verbs_in_serve(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer,
		   struct ibv_qp *qp, const struct verbs_endpoint *own,
		   const struct verbs_endpoint *remote, uint64_t attempt)
{
	struct verbs_in *in = &verbs->in[plane][peer];
	int access = basic_access(plane);
	bool may_write;
	int error;

	pthread_mutex_lock(&verbs->serving);
	may_write = plane == MU_PLANE_DATA && holder(verbs) == peer;
	if (may_write)
		access |= IBV_ACCESS_REMOTE_WRITE;
	error = drop(in);
	if (error == 0)
		error = verbs_queue_pair_start(qp, &verbs->port, own, remote, &verbs->transport,
					       access);
	if (error == 0)
		*in = (struct verbs_in){.qp = qp,
					.attempt = attempt,
					.may_write = may_write,
					.refusals = in->refusals};
	pthread_mutex_unlock(&verbs->serving);
	if (error != 0)
		verbs_queue_pair_free(qp);
	return error;
}

void verbs_in_drop(struct verbs_fabric *verbs, unsigned peer)
{
	pthread_mutex_lock(&verbs->serving);
	for (unsigned plane = 0; plane < MU_PLANES; plane++) {
		struct verbs_in *in = &verbs->in[plane][peer];

		/* Who asked for it is no more. */
		if (drop(in) == 0)
			in->attempt = 0;
	}
	pthread_mutex_unlock(&verbs->serving);
}

bool verbs_in_find(struct verbs_fabric *verbs, const struct ibv_qp *qp, enum mu_plane *plane,
		   unsigned *peer, uint64_t *attempt)
{
	bool found = false;

	pthread_mutex_lock(&verbs->serving);
	for (unsigned i = 0; i < MU_PLANES * MU_ID_SLOTS && !found; i++) {
		*plane = (enum mu_plane)(i / MU_ID_SLOTS);
		*peer = i % MU_ID_SLOTS;
		*attempt = verbs->in[*plane][*peer].attempt;
		found = verbs->in[*plane][*peer].qp == qp;
	}
	pthread_mutex_unlock(&verbs->serving);
	return found;
}

/* -------------------------------------------------------------- permission */

/*
 * Returns 0, or errno if the peer may still write. The queue pair goes too if
 * it does not take the change, being in error; nothing is lost with it.
 */
static int take_away(struct verbs_fabric *verbs, struct verbs_in *in, bool *is_gone)
{
	uint64_t start_ns = verbs_clock_ns(), flags_ns, end_ns;
	int error = verbs_queue_pair_set_access(in->qp, basic_access(MU_PLANE_DATA));

	flags_ns = verbs_clock_ns();
	*is_gone = error != 0 || verbs->options.barrier == MU_VERBS_BARRIER_QUEUE_PAIR;
	if (*is_gone) {
		error = drop(in);
		if (error != 0)
			return error;
	}
	in->may_write = false;
	end_ns = verbs_clock_ns();
	verbs->last_revocation =
		(struct mu_verbs_revocation){.count = verbs->last_revocation.count + 1,
					     .flags_ns = flags_ns - start_ns,
					     .barrier_ns = end_ns - flags_ns};
	return 0;
}

int verbs_revoke_write(struct mu_fabric *fabric)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	uint64_t gone[MU_ID_SLOTS] = {0}; /* attempts */
	int error = 0;

	pthread_mutex_lock(&verbs->serving);
	/* From here on no connection that is made comes with the right. */
	atomic_store(&verbs->memory.header->word, 0);
	for (unsigned peer = 1; peer < MU_ID_SLOTS && error == 0; peer++) {
		struct verbs_in *in = &verbs->in[MU_PLANE_DATA][peer];
		bool is_gone = false;

		if (!in->may_write)
			continue;
		error = take_away(verbs, in, &is_gone);
		if (is_gone && error == 0)
			gone[peer] = in->attempt;
	}
	pthread_mutex_unlock(&verbs->serving);
	/* So that the peers need not find out by waiting in vain. */
	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
		if (gone[peer] != 0)
			verbs_maker_tell_gone(verbs, MU_PLANE_DATA, peer, gone[peer]);
	return error != 0 ? -1 : 0;
}

/* Give a peer the right by the queue pair that serves it. Returns 0, or -1: there is none. */
static int give(struct verbs_fabric *verbs, unsigned peer)
{
	const int access = basic_access(MU_PLANE_DATA) | IBV_ACCESS_REMOTE_WRITE;
	struct verbs_in *in = &verbs->in[MU_PLANE_DATA][peer];
	int error;

	if (in->may_write)
		return 0;
	if (in->qp == NULL)
		return -1;
	error = verbs_queue_pair_set_access(in->qp, access);
	if (error == 0) {
		in->may_write = true;
		in->refusals = 0;
		return 0;
	}
	/* It is in error, and neither end may have been told: it is to be made anew. */
	drop(in);
	if (++in->refusals == REFUSALS_MAX)
		verbs_say(verbs,
			  "device %s lets no rights of a queue pair change: replica %u cannot be "
			  "granted any: %s",
			  verbs->port.device, peer, strerror(error));
	return -1;
}

/*
 * The attempt whose end, as its peer must hear, is gone; 0: none, or not again
 * so soon. It was told when that happened, but the word may have been lost, or
 * have overtaken the one that it is there: then the peer would keep an idle
 * connection to nothing, and never be granted anything.
 */
static uint64_t tell_again(struct verbs_in *in)
{
	uint64_t now_ns = verbs_clock_ns();

	if (in->qp != NULL || now_ns - in->told_ns < TELL_AGAIN_NS)
		return 0;
	in->told_ns = now_ns;
	return in->attempt;
}

int verbs_grant_write(struct mu_fabric *fabric, unsigned peer, uint64_t ballot)
{
	struct verbs_fabric *verbs = verbs_of(fabric);
	uint64_t gone = 0;
	int result;

	assert(peer >= 1 && peer < MU_ID_SLOTS);
	assert(OWN_MEMORY_BALLOT_HOLDER(ballot) == peer);
	pthread_mutex_lock(&verbs->serving);
	for (unsigned other = 1; other < MU_ID_SLOTS; other++)
		assert(other == peer || !verbs->in[MU_PLANE_DATA][other].may_write);
	result = give(verbs, peer);
	if (result == 0)
		atomic_store(&verbs->memory.header->word, ballot);
	else
		gone = tell_again(&verbs->in[MU_PLANE_DATA][peer]);
	pthread_mutex_unlock(&verbs->serving);
	if (gone != 0)
		verbs_maker_tell_gone(verbs, MU_PLANE_DATA, peer, gone);
	return result;
}
