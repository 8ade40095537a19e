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

/* The ballot that a peer asks for; 0: none. */
static uint64_t request_of(const struct mu *mu, unsigned id)
{
	struct mu_line line;

	if (!mu_line_read(&line, &mu->lines->request[id]))
		return 0;
	if (mu_ballot_id(line.word[MU_REQUEST_BALLOT]) != id)
		return 0;
	return line.word[MU_REQUEST_BALLOT];
}

/* Make the fabric's permission agree with the record. */
static bool settle(struct mu *mu)
{
	struct mu_fabric *f = mu->fabric;
	unsigned holder = mu_ballot_id(mu->record->granted);

	if (mu->bg.holder_current)
		return true;
	if (f->ops->revoke_write(f))
		return false;
	if (holder && holder != mu->config.id &&
	    f->ops->grant_write(f, holder, mu->record->granted))
		return false;
	mu->bg.holder_current = true;
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
	if (bg->pending_grant) {
		/* Rule 1: until the data plane has stopped, the grant is missing. */
		mu_campaign_abandon(mu);
		if (!mu_stop_data(mu))
			return;
		mu_record_granted(mu, best);
		bg->holder_current = false;
	}
	if (!settle(mu))
		return;
	bg->pending_grant = 0;
	MU_EACH_PEER(mu, id) {
		uint64_t ballot = request_of(mu, id);

		/* Rule 7: the holder's own ballot is acknowledged again. */
		if (ballot)
			answer(mu, id, ballot,
			       ballot == mu->record->granted ? 0 : mu->record->granted);
	}
}
