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
 * What it takes: all that it knows to be committed. Its log is forgotten only when
 * all that is in its backend for good.
 *
 * If it alone remembers, the rest of its log is worth having, too: of what was
 * acknowledged the more is saved. But that rest may be a former leader's that
 * nobody ever acknowledged, while others committed something else in its place,
 * and forgot it a moment ago. What they committed is in the backend of whoever
 * acknowledged it to a client. So the rest is taken only if no other member's
 * backend has anything behind what is known here to be committed, nor a log from
 * which it may get that; else their backends have more, and it is the truth. From
 * the moment on that it is taken, this replica votes no more, whatever happens:
 * what it then calls committed may not be.
 *
 * The word is refused where a majority remembers, or is about to: members that are
 * prepared complete a cold start in a moment. A replica that forgets nevertheless is
 * as one that lost its memory: no more is at stake.
 */
#include "node.h"

/* Members that say one of these of themselves; the own replica is one if it votes. */
static unsigned count(const struct mu *mu, uint64_t flags)
{
	uint64_t members = MU_GET(mu->shared.members);
	unsigned n = MU_GET(mu->shared.voting) != 0;

	MU_EACH_PEER(mu, id) {
		if (members >> id & 1)
			n += (MU_GET(mu->shared.peer[id].flags) & flags) != 0;
	}
	return n;
}

static bool all_known(const struct mu *mu)
{
	uint64_t members = MU_GET(mu->shared.members);

	MU_EACH_PEER(mu, id) {
		const struct mu_peer_facts *facts = &mu->shared.peer[id];

		if ((members >> id & 1) && !(MU_GET(facts->alive) && MU_GET(facts->incarnation)))
			return false;
	}
	return true;
}

static const char *why_not(const struct mu *mu)
{
	/* One who is prepared, though this one votes, is about to join a cold start. */
	const uint64_t votes =
		MU_FLAG_VOTING | (MU_MUTANT(recover_amid_start) ? 0 : MU_FLAG_PREPARED);

	if (!MU_GET(mu->shared.voting))
		return "this replica has lost its memory itself: ask one that has not";
	if (count(mu, votes) >= mu_majority_of(MU_GET(mu->shared.members)))
		return "a majority of the members remembers: nothing needs to be given up";
	if (!all_known(mu))
		return "not all members are alive: start them, blank if need be";
	if (MU_GET(mu->shared.backend) != MU_BACKEND_LEVEL)
		return "the backend here is not level with the log";
	return NULL;
}

enum mu_error mu_accept_loss(struct mu *mu, const char **why)
{
	*why = NULL;
	if (MU_GET(mu->shared.forgetting) != MU_FORGET_NOTHING)
		return MU_OK; /* it is at it */
	*why = why_not(mu);
	if (*why)
		return MU_ERR_INVALID;
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

/*
 * Has no other member more than what was known here to be committed, and can none
 * come to have more? One whose backend is silent may.
 */
static bool others_have_no_more(const struct mu *mu, uint64_t commit)
{
	uint64_t members = MU_GET(mu->shared.members);

	if (MU_MUTANT(take_divergent_tail))
		return true;
	MU_EACH_PEER(mu, id) {
		const struct mu_peer_facts *facts = &mu->shared.peer[id];

		if ((members >> id & 1) &&
		    (!(MU_GET(facts->flags) & MU_FLAG_APPLIED_KNOWN) ||
		     MU_GET(facts->applied) > commit || MU_GET(facts->commit) != MU_LSN_NONE))
			return false;
	}
	return true;
}

/* From here on this replica is as one that has lost its memory, but for log and backend. */
static void renounce(struct mu *mu)
{
	mu->bg.readmitted = MU_GET(mu->shared.readmit_ballot);
	mu->record->prepared_count = 0;
	mu->record->cold_nonce = 0;
	mu_store(&mu->record->voting, 0);
	MU_SET(mu->shared.voting, 0);
}

static void forget(struct mu *mu)
{
	renounce(mu);
	mu_store(&mu->header->commit, MU_LSN_NONE);
	MU_SET(mu->shared.forgetting, MU_FORGET_NOTHING);
	mu->bg.wanted = true;
}

/* Nobody may write this log while it is read to its end. */
static bool close_log(struct mu *mu)
{
	mu_campaign_abandon(mu);
	if (!mu_stop_data(mu) || mu->fabric->ops->revoke_write(mu->fabric))
		return false;
	mu->bg.holder_current = true;
	mu->bg.given_ballot = 0;
	return true;
}

/* Has the data plane done this, and is all of it in the backend for good? */
static bool is_taken(struct mu *mu, enum mu_forget wish)
{
	if (MU_GET(mu->shared.taken) == wish && MU_GET(mu->shared.caught_up))
		return true;
	mu->bg.wanted = true;
	return false;
}

static void take_committed(struct mu *mu)
{
	if (why_not(mu)) { /* no longer */
		MU_SET(mu->shared.forgetting, MU_FORGET_NOTHING);
		return;
	}
	if (!close_log(mu) || !is_taken(mu, MU_FORGET_TAKE_COMMITTED))
		return;
	mu->bg.forget_commit = MU_GET(mu->shared.commit_lsn);
	if (count(mu, MU_FLAG_VOTING) > 1 || !others_have_no_more(mu, mu->bg.forget_commit)) {
		forget(mu);
		return;
	}
	if (!MU_MUTANT(take_all_voting))
		renounce(mu);
	MU_SET(mu->shared.forgetting, MU_FORGET_TAKE_ALL);
	mu->bg.wanted = true;
}

/*
 * The vote is gone already, so this goes on though members die and backends fail.
 * Should another's backend turn out to have more after all, the log stays, and
 * with it this replica keeps the others from starting cold by its backend: the
 * operator has to choose between the two.
 */
static void take_all(struct mu *mu)
{
	if (count(mu, MU_FLAG_VOTING) >= mu_majority_of(MU_GET(mu->shared.members)) ||
	    (MU_MUTANT(take_all_voting) && why_not(mu)))
		MU_SET(mu->shared.forgetting, MU_FORGET_NOTHING);
	else if (close_log(mu) && is_taken(mu, MU_FORGET_TAKE_ALL) &&
		 others_have_no_more(mu, mu->bg.forget_commit))
		forget(mu);
}

void mu_recover_step(struct mu *mu)
{
	uint64_t wish = MU_GET(mu->shared.forgetting);

	if (wish == MU_FORGET_TAKE_COMMITTED)
		take_committed(mu);
	else if (wish == MU_FORGET_TAKE_ALL)
		take_all(mu);
}
