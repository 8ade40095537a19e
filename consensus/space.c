/*
 * space.c - whose backend the log's ring waits for (DESIGN 3.4, rule 5): a peer
 * is written to no further than its backend can follow; one that is in the way
 * is dropped where a majority is without it, and its backend written off where
 * none is.
 */
#include "node.h"

/*
 * A backend that stood still for so many stalls may be written off. Restoring it
 * means moving all of its state: it has time to come back by itself.
 */
enum { WRITTEN_OFF_STALLS = 8 };

/*
 * Remember for whose backend nothing is kept, as the bound is reckoned anew.
 * Such a backend may be reckoned with again at any time, and not only by its
 * health: one that was behind its log's beginning is brought another's state,
 * and its applied LSN, which nothing was kept for, passes that beginning. A
 * bound from before then knows nothing of it.
 */
void mu_space_let_go(struct mu *mu)
{
	mu->data.let_go = 0;
	MU_EACH_PEER(mu, id) {
		if (!mu_peer_holds_space(mu, id))
			mu->data.let_go |= 1ULL << id;
	}
}

/* Does one that the last bound took no account of need what it has yet to apply? */
bool mu_space_is_claimed(const struct mu *mu)
{
	if (!mu->data.let_go)
		return false;
	MU_EACH_PEER(mu, id) {
		if (mu->data.let_go >> id & 1 && mu_peer_holds_space(mu, id))
			return true;
	}
	return false;
}

/* A backend that was written off moves again, and all that it needs is still there. */
void mu_peer_reckon_with(struct mu *mu, unsigned id)
{
	const struct mu_peer_facts *facts = &mu->shared.peer[id];

	if (MU_GET(facts->stands_ns) < mu->config.data_stall_ns &&
	    MU_GET(facts->applied) + mu->ring.bytes >= mu->data.tail.end) {
		mu->data.peer[id].written_off = false;
		mu->data.reclaim_lsn = 0;
	}
}

bool mu_peer_is_needed(const struct mu *mu, unsigned id)
{
	unsigned remain = mu_followers(mu);

	if (mu->data.peer[id].state != MU_PEER_LAGGING && mu_peer_votes(mu, id))
		remain--;
	return remain < mu_majority_of(mu->data.members);
}

void mu_peer_write_off(struct mu *mu, unsigned id)
{
	if (MU_GET(mu->shared.peer[id].stands_ns) < WRITTEN_OFF_STALLS * mu->config.data_stall_ns)
		return;
	mu->data.peer[id].written_off = true;
	mu->data.reclaim_lsn = 0;
}

/*
 * One whose backend is more than a ring behind follows all the same where it is
 * needed, or as soon as it has caught up with its own log: it is written to as
 * far as it can be, and what is proposed waits. Else it would only be in the way.
 */
bool mu_peer_had_better_lag(const struct mu *mu, unsigned id)
{
	return mu_peer_is_limited(mu, id) && !mu_peer_is_needed(mu, id) &&
	       !(MU_GET(mu->shared.peer[id].flags) & MU_FLAG_CAUGHT_UP);
}

/*
 * A dropped follower may come back once its backend has caught up with its own
 * log, or when no majority is without it.
 */
void mu_peer_lagging_step(struct mu *mu, unsigned id)
{
	const struct mu_peer_facts *facts = &mu->shared.peer[id];
	uint64_t commit = MU_GET(facts->commit);
	/* What it lagged behind in is gone, or was overtaken by another's state. */
	bool another = commit == MU_LSN_NONE || MU_GET(facts->applied) > commit ||
		       MU_GET(facts->incarnation) != mu->data.peer[id].incarnation;

	/* Not earlier: one whose backend stands still would be in the way again at once. */
	if (another || !mu_peer_holds_space(mu, id) || mu_peer_is_needed(mu, id) ||
	    (MU_GET(facts->flags) & MU_FLAG_CAUGHT_UP))
		mu->data.peer[id].state = MU_PEER_IDLE;
}
