/*
 * each_step.h - what a leader asks with every step, of itself and of each peer:
 * between proposing and commit, so these are to cost no calls. Part of node.h.
 */
#ifndef MU_EACH_STEP_H
#define MU_EACH_STEP_H

#include "node.h"

/*
 * May this replica still append and count itself? Rule 1: ask after the copy;
 * sequentially consistent with the background plane's hand-shake.
 */
static inline bool mu_permitted(const struct mu *mu)
{
	return (MU_SYNC_GET(mu->shared.lead_ballot) == mu->data.ballot ||
		MU_MUTANT(never_steps_down)) &&
	       mu->data.ballot;
}

/* What this plane has posted is to go out now. */
static inline void mu_flush(struct mu *mu, enum mu_plane plane)
{
	if (mu->fabric->ops->flush)
		mu->fabric->ops->flush(mu->fabric, plane);
}

/*
 * Would what this peer acknowledges count towards a majority, if it were a member?
 * Rule 2: if it votes with the very memory that the connection leads to.
 */
static inline bool mu_peer_remembers(const struct mu *mu, unsigned id)
{
	const struct mu_peer_facts *facts = &mu->shared.peer[id];

	/* In this order: the background plane stores the flags first (tell_data()). */
	return (MU_GET(facts->incarnation) == mu->data.peer[id].incarnation ||
		MU_MUTANT(count_lost_memory)) &&
	       (MU_GET(facts->flags) & MU_FLAG_VOTING || MU_MUTANT(count_blank));
}

/* ...and it is one. */
static inline bool mu_peer_votes(const struct mu *mu, unsigned id)
{
	return mu_is_peer(mu, id) && mu_peer_remembers(mu, id);
}

static inline bool mu_peer_is_stale(const struct mu *mu, unsigned id)
{
	uint64_t flags = MU_GET(mu->shared.peer[id].flags);

	return MU_FLAG_BYTE(flags, MU_FLAG_BACKEND_SHIFT) == MU_BACKEND_STALE ||
	       MU_GET(mu->shared.peer[id].applied) < mu->data.peer[id].base;
}

/*
 * Does the log wait for this peer's backend? Not for one that dropped behind for
 * good, or was written off.
 */
static inline bool mu_peer_holds_space(const struct mu *mu, unsigned id)
{
	return !mu->data.peer[id].written_off && !mu_peer_is_stale(mu, id);
}

/*
 * Rule 5: how far this peer's log may be written without touching what its
 * backend has yet to apply.
 */
static inline uint64_t mu_peer_limit(const struct mu *mu, unsigned id)
{
	if (!mu_peer_holds_space(mu, id) || MU_MUTANT(join_outrun))
		return UINT64_MAX;
	return MU_GET(mu->shared.peer[id].applied) + mu->ring.bytes;
}

/* Is that less than all? */
static inline bool mu_peer_is_limited(const struct mu *mu, unsigned id)
{
	return mu_peer_limit(mu, id) < mu->data.tail.end;
}

#endif
