/*
 * grant.c - the background plane as a voter: who may write this replica's log
 * (Mu section 5.2; DESIGN 3.3 step 2, rules 1, 2, 4, 7).
 *
 * A request for a ballot above every one granted before is granted in this
 * order, and each step is repeated until it succeeds: the data plane stops
 * acting (if it led or campaigned itself); the grant is recorded in the file;
 * the fabric revokes the former holder, strictly; the fabric grants; only then
 * is the answer written. A crash anywhere in between leaves a record that is
 * at least as high as any permission, and no answer that is not true.
 */
#include "node.h"

void mu_record_granted(struct mu *mu, uint64_t ballot)
{
	mu_store(&mu->record->granted, ballot);
	MU_SET(mu->shared.granted, ballot);
	if (mu->bg.highest < ballot)
		mu->bg.highest = ballot;
}

/*
 * The ballot that a peer asks for; 0: none. What an incarnation asked for that
 * is no more counts for nothing. And a blank replica gives its log only to one
 * that it has read to vote: so it has looked first whether that one started by
 * a nonce that it could join by (coldstart.c), which a grant ends.
 */
static uint64_t request_of(const struct mu *mu, unsigned id)
{
	const struct mu_watch *w = &mu->bg.watch[id];
	struct mu_line line;

	if (!mu_line_read(&line, &mu->lines->request[id]))
		return 0;
	/* Rule 13: of one who is out of the group, whether he knows it or not. */
	if ((mu_configuration_removed(mu->bg.committed) >> id & 1))
		return 0;
	if (mu_ballot_id(line.word[MU_REQUEST_BALLOT]) != id || !w->known ||
	    line.word[MU_REQUEST_INCARNATION] != w->state.word[MU_STATE_INCARNATION])
		return 0;
	if (!mu->record->voting && !(w->state.word[MU_STATE_FLAGS] & MU_FLAG_VOTING) &&
	    !MU_MUTANT(cold_start_over_grant) && !MU_MUTANT(blank_grants_unread))
		return 0;
	return line.word[MU_REQUEST_BALLOT];
}

/* Make the fabric's permission agree with the record: he has it if he still asks for it. */
static bool settle(struct mu *mu)
{
	struct mu_background *bg = &mu->bg;
	struct mu_fabric *f = mu->fabric;
	uint64_t granted = mu->record->granted;
	unsigned holder = mu_ballot_id(granted);

	if (!bg->holder_current) {
		if (!MU_MUTANT(skip_revoke) && f->ops->revoke_write(f))
			return false;
		bg->holder_current = true;
		bg->given_ballot = 0;
	}
	if (!holder || holder == mu->config.id || bg->given_ballot == granted ||
	    request_of(mu, holder) != granted ||
	    (MU_MUTANT(equal_ballot_refused) && !bg->pending_grant))
		return true;
	if (f->ops->grant_write(f, holder, granted))
		return false;
	bg->given_ballot = granted;
	return true;
}

static void answer(struct mu *mu, unsigned id, uint64_t ballot, uint64_t higher)
{
	const uint64_t word[3] = {ballot, mu->record->incarnation, higher};

	mu_wish_set(&mu->bg.watch[id].grant, word);
}

void mu_grant_step(struct mu *mu)
{
	struct mu_background *bg = &mu->bg;
	uint64_t best = 0;

	MU_EACH_PEER(mu, id) {
		uint64_t ballot = request_of(mu, id);

		if (ballot > best)
			best = ballot;
		if (ballot > bg->highest)
			bg->highest = ballot;
	}
	bg->pending_grant = best > mu->record->granted ? best : 0;
	if (MU_MUTANT(grant_lower_ballot) && best != mu->record->granted)
		bg->pending_grant = best;
	if (bg->pending_grant) {
		/* Rule 1: until the data plane has stopped, the grant is missing. */
		mu_campaign_abandon(mu);
		if (!mu_stop_data(mu) && !MU_MUTANT(grant_before_stopped))
			return;
		if (MU_MUTANT(grant_before_record) && !mu->fabric->ops->revoke_write(mu->fabric))
			mu->fabric->ops->grant_write(mu->fabric, mu_ballot_id(best), best);
		mu_record_granted(mu, best);
		bg->holder_current = false;
		/* Until it shows that he who asked is a candidate now: then he is let be. */
		if (bg->backoff_ns < bg->now_ns + 2 * mu->config.tick_ns)
			bg->backoff_ns = bg->now_ns + 2 * mu->config.tick_ns;
	}
	if (!settle(mu))
		return;
	bg->pending_grant = 0;
	MU_EACH_PEER(mu, id) {
		uint64_t ballot = request_of(mu, id);

		/* Rule 7: the holder's own ballot is acknowledged again. */
		if (ballot && ballot == bg->given_ballot)
			answer(mu, id, ballot, 0);
		else if (ballot && ballot < mu->record->granted && !MU_MUTANT(withhold_higher))
			answer(mu, id, ballot, mu->record->granted);
	}
}
