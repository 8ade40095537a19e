/*
 * recover.c - when most memories are lost and some are not, by the operator's
 * word (rule 11).
 *
 * A minority that remembers can neither lead nor be made whole: what it does not
 * hold may have been committed by those that forgot. Nor may the others start
 * cold, as long as somebody remembers. The operator may know that the memories
 * are gone for good, and choose to go on without what only they held. He tells
 * each replica that remembers; it takes what it can into its backend, forgets
 * its log, and is then one of a group that has lost all of them, which starts
 * cold from the backend that has applied most.
 *
 * What it takes: all that it knows to be committed. If it alone remembers, all
 * that is in its log: of what was acknowledged the more is saved, and nobody is
 * left who could have another tail, which its backend would then differ from.
 * Its log is forgotten only when all that is in its backend for good. It is
 * refused where a majority remembers, and a replica that forgets nevertheless is
 * as one that lost its memory: no more is at stake.
 */
#include "node.h"

static unsigned voters(const struct mu *mu, bool *all_known)
{
	uint64_t members = MU_GET(mu->shared.members);
	unsigned n = 1;

	*all_known = true;
	MU_EACH_PEER(mu, id) {
		const struct mu_peer_facts *facts = &mu->shared.peer[id];

		if (!(members >> id & 1))
			continue;
		*all_known &= MU_GET(facts->alive) && MU_GET(facts->incarnation);
		n += (MU_GET(facts->flags) & MU_FLAG_VOTING) != 0;
	}
	return n;
}

static const char *why_not(const struct mu *mu)
{
	bool all_known;

	if (!MU_GET(mu->shared.voting))
		return "this replica has lost its memory itself: ask one that has not";
	if (voters(mu, &all_known) >= mu_majority_of(MU_GET(mu->shared.members)))
		return "a majority of the members remembers: nothing needs to be given up";
	if (!all_known)
		return "not all members are alive: start them, blank if need be";
	if (MU_GET(mu->shared.backend) != MU_BACKEND_LEVEL)
		return "the backend here is not level with the log";
	return NULL;
}

enum mu_error mu_accept_loss(struct mu *mu, const char **why)
{
	*why = why_not(mu);
	if (*why)
		return MU_ERR_INVALID;
	if (MU_GET(mu->shared.forgetting) == MU_FORGET_NOTHING)
		MU_SET(mu->shared.forgetting, MU_FORGET_TAKE_COMMITTED);
	return MU_OK;
}

/*
 * Data plane: take up what can be had before the log is forgotten. True when
 * that is done, as far as committing goes; the backend follows.
 */
bool mu_recover_take(struct mu *mu, enum mu_forget wish)
{
	struct mu_position next;

	if (mu->data.commit.lsn == MU_LSN_NONE)
		return false;
	if (wish == MU_FORGET_TAKE_ALL)
		while (mu_ring_next(&mu->ring, &mu->data.commit, &next))
			mu_commit_to(mu, &next);
	return true;
}

/* From here on this replica is as one that has lost its memory, but for its backend. */
static void forget(struct mu *mu)
{
	mu->bg.readmitted = MU_GET(mu->shared.readmit_ballot);
	mu->record->prepared_count = 0;
	mu->record->cold_nonce = 0;
	mu_store(&mu->record->voting, 0);
	MU_SET(mu->shared.voting, 0);
	mu_store(&mu->header->commit, MU_LSN_NONE);
	MU_SET(mu->shared.forgetting, MU_FORGET_NOTHING);
	mu->bg.wanted = true;
}

void mu_recover_step(struct mu *mu)
{
	uint64_t wish = MU_GET(mu->shared.forgetting);
	bool all_known;

	if (wish == MU_FORGET_NOTHING)
		return;
	if (why_not(mu)) { /* no longer */
		MU_SET(mu->shared.forgetting, MU_FORGET_NOTHING);
		return;
	}
	/* Nobody may write this log while it is read to its end. */
	mu_campaign_abandon(mu);
	if (!mu_stop_data(mu) || mu->fabric->ops->revoke_write(mu->fabric))
		return;
	mu->bg.holder_current = true;
	mu->bg.given_ballot = 0;
	if (wish == MU_FORGET_TAKE_COMMITTED && voters(mu, &all_known) == 1) {
		MU_SET(mu->shared.forgetting, MU_FORGET_TAKE_ALL);
		wish = MU_FORGET_TAKE_ALL;
	}
	if (MU_GET(mu->shared.taken) == wish && MU_GET(mu->shared.caught_up))
		forget(mu);
	else
		mu->bg.wanted = true;
}
