/*
 * campaign.c - the background plane as a candidate: when to ask for write
 * permissions, under which ballot, and when to stop (DESIGN 3.3 steps 1-3,
 * 3.5, rules 4, 6, 7, 8; Mu sections 5.2 and 6).
 */
#include "node.h"

enum { MOST_DOUBLINGS = 3 }; /* of the back-off */

/*
 * The backend is level with the own log, or ahead of what is known here to be
 * committed (its state came from another's): what it has applied was committed,
 * and a takeover finds what was.
 */
static bool backend_serves(const struct mu *mu, uint64_t commit)
{
	uint64_t health = MU_GET(mu->shared.backend), era, applied;

	return health == MU_BACKEND_LEVEL ||
	       (health == MU_BACKEND_UNKNOWN && mu_backend_named(mu, &era, &applied) &&
		era == mu_load(&mu->header->origin.era) && applied > commit);
}

/*
 * Rule 6: voting, the backend level with the own log, and a log that reaches
 * every live peer's ring (so that no gap is left that no tail fills). The log
 * does, not the commit word, which lags: of those that hold what was committed
 * last, one is eligible for certain, even if a leader without a backend is the
 * only one that knows it to be committed.
 */
bool mu_eligible(const struct mu *mu)
{
	uint64_t commit = MU_GET(mu->shared.commit_lsn);
	uint64_t reach = MU_GET(mu->shared.reach_lsn);

	if (!mu->record->voting || !mu_may_lead(mu) || commit == MU_LSN_NONE ||
	    (!backend_serves(mu, commit) && !MU_MUTANT(eligible_unlevel)))
		return false;
	if (reach < commit || MU_MUTANT(eligible_by_word))
		reach = commit;
	MU_EACH_PEER(mu, id) {
		if (mu_watch_is(mu, id, MU_FLAG_VOTING) && mu_on_record(mu, id) &&
		    mu->bg.watch[id].state.word[MU_STATE_OLDEST] > reach &&
		    !MU_MUTANT(eligible_despite_gap))
			return false;
	}
	return true;
}

/*
 * The leader that is alive as far as this replica can tell; 0: none. One whom
 * this replica knows to be outvoted by a grant of its own does not count.
 */
unsigned mu_leader_seen(const struct mu *mu, uint64_t *ballot)
{
	unsigned leader = 0;

	*ballot = 0;
	if (mu->bg.campaign == MU_CAMPAIGN_ACTING &&
	    MU_GET(mu->shared.led_ballot) == mu->bg.ballot) {
		*ballot = mu->bg.ballot;
		return mu->config.id;
	}
	MU_EACH_PEER(mu, id) {
		const struct mu_watch *w = &mu->bg.watch[id];
		uint64_t flags = w->state.word[MU_STATE_FLAGS];

		if (!w->alive || !w->known ||
		    MU_FLAG_BYTE(flags, MU_FLAG_ROLE_SHIFT) != MU_ROLE_LEADER)
			continue;
		if (w->state.word[MU_STATE_BALLOT] <= *ballot ||
		    w->state.word[MU_STATE_BALLOT] < mu->record->granted)
			continue;
		leader = id;
		*ballot = w->state.word[MU_STATE_BALLOT];
	}
	return leader;
}

/*
 * Somebody who says that he leads is not alive yet, but coming: after a
 * partition the others may well be a look ahead of him. 0: nobody.
 */
unsigned mu_leader_coming(const struct mu *mu)
{
	MU_EACH_PEER(mu, id) {
		const struct mu_watch *w = &mu->bg.watch[id];

		if (!w->alive && w->moved && w->known &&
		    MU_FLAG_BYTE(w->state.word[MU_STATE_FLAGS], MU_FLAG_ROLE_SHIFT) ==
			    MU_ROLE_LEADER &&
		    w->state.word[MU_STATE_BALLOT] >= mu->record->granted)
			return id;
	}
	return 0;
}

static unsigned majority(const struct mu *mu)
{
	return mu_majority_of(mu_configuration_members(mu->record->configuration));
}

/*
 * Rule 8: a campaign needs a majority (the own view included) that sees no leader
 * alive. What others saw counts only if they were asked since this replica has
 * seen none itself and could lead: with readings under way that do not arrive, or
 * a backend that was just restored, what they said last may be long past.
 */
static bool leaderless(const struct mu *mu)
{
	unsigned blind = mu_on_record(mu, mu->config.id);

	MU_EACH_PEER(mu, id) {
		const struct mu_watch *w = &mu->bg.watch[id];

		if (mu_watch_is(mu, id, MU_FLAG_VOTING) && mu_on_record(mu, id) &&
		    (w->read_ns >= mu->bg.blind_ns || MU_MUTANT(campaign_on_old_news)) &&
		    !MU_FLAG_BYTE(w->state.word[MU_STATE_FLAGS], MU_FLAG_LEADER_SHIFT))
			blind++;
	}
	return blind >= majority(mu) || MU_MUTANT(campaign_alone);
}

/* Could this replica lead, as far as can be told here, and does it see nobody who does? */
static bool is_blind(const struct mu *mu)
{
	uint64_t ballot;

	return mu_eligible(mu) && !mu->bg.pending_grant && !mu_leader_seen(mu, &ballot) &&
	       !mu_leader_coming(mu);
}

/* How many live, eligible replicas have a better claim (an heir's, or a lower id)? */
static unsigned better_claims(const struct mu *mu)
{
	unsigned n = 0, heir = mu_heir(mu);

	if (heir == mu->config.id)
		return 0;
	MU_EACH_PEER(mu, id) {
		if ((id < mu->config.id || id == heir) && mu_watch_is(mu, id, MU_FLAG_ELIGIBLE))
			n++;
	}
	return n;
}

/*
 * The candidate that this replica has granted is still at it. To campaign above
 * it would only undo what it has done. If it dies its heartbeat tells; if it
 * gets nowhere it gives up by itself.
 */
static bool candidate_is_at_work(const struct mu *mu)
{
	unsigned id = mu_ballot_id(mu->record->granted);
	const struct mu_watch *w = &mu->bg.watch[id < MU_ID_SLOTS ? id : 0];

	return w->alive && w->known && w->state.word[MU_STATE_BALLOT] == mu->record->granted &&
	       MU_FLAG_BYTE(w->state.word[MU_STATE_FLAGS], MU_FLAG_ROLE_SHIFT) == MU_ROLE_CANDIDATE;
}

static void ask_all(struct mu *mu, uint64_t ballot)
{
	const uint64_t word[3] = {ballot, mu->record->incarnation, 0};

	MU_EACH_OTHER(mu, id)
		mu_wish_set(&mu->bg.watch[id].request, word);
}

/* Withdraw, and stay out of the way for a random while, longer when that repeats itself. */
void mu_campaign_abandon(struct mu *mu)
{
	struct mu_background *bg = &mu->bg;
	unsigned doublings = bg->failures < MOST_DOUBLINGS ? bg->failures : MOST_DOUBLINGS;

	if (bg->campaign == MU_CAMPAIGN_IDLE)
		return;
	mu_heir_name(mu);
	bg->campaign = MU_CAMPAIGN_IDLE;
	bg->ballot = 0;
	bg->blind_ns = bg->leaderless_ns = 0;
	bg->backoff_ns = bg->now_ns + ((2 + mu_random(mu) % 16) << doublings) * mu->config.tick_ns;
	bg->failures++;
	bg->wanted = true;
	MU_SYNC_SET(mu->shared.lead_ballot, 0);
	if (!MU_MUTANT(request_stays))
		ask_all(mu, 0);
}

/*
 * Rule 4: the own grant is recorded first, then the others are asked. It takes
 * the permission from whoever held it here.
 */
static void begin(struct mu *mu)
{
	struct mu_background *bg = &mu->bg;
	uint64_t ballot = mu_ballot_above(bg->highest, mu->config.id);

	if (!mu_stop_data(mu))
		return;
	if (!MU_MUTANT(candidate_unrecorded))
		mu_record_granted(mu, ballot);
	bg->holder_current = false;
	if (!MU_MUTANT(candidate_keeps_writer) && mu->fabric->ops->revoke_write(mu->fabric))
		return; /* grant_step() goes on trying; the next tick campaigns higher */
	bg->holder_current = true;
	bg->given_ballot = 0;
	bg->campaign = MU_CAMPAIGN_ASKING;
	bg->ballot = ballot;
	bg->deadline_ns = bg->now_ns + mu->config.takeover_timeout_ns;
	ask_all(mu, ballot);
}

static void consider(struct mu *mu)
{
	struct mu_background *bg = &mu->bg;
	uint64_t patience;

	if (!is_blind(mu)) {
		bg->blind_ns = bg->leaderless_ns = 0;
		return;
	}
	if (!bg->blind_ns)
		bg->blind_ns = bg->now_ns;
	if (!leaderless(mu) || candidate_is_at_work(mu)) {
		bg->leaderless_ns = 0;
		return;
	}
	if (!bg->leaderless_ns)
		bg->leaderless_ns = bg->now_ns;
	patience = (uint64_t)better_claims(mu) * 16 * mu->config.tick_ns;
	if (bg->now_ns >= bg->backoff_ns && bg->now_ns - bg->leaderless_ns >= patience)
		begin(mu);
}

/*
 * A ballot above ours that a live peer has granted; 0: none. A blank one counts
 * while we lead: shut out, it could not be restored.
 */
static uint64_t refusal(const struct mu *mu, bool of_voters)
{
	uint64_t higher = 0;

	MU_EACH_PEER(mu, id) {
		const struct mu_watch *w = &mu->bg.watch[id];
		struct mu_line line;

		if (!w->alive || !w->known || (of_voters && !mu_watch_is(mu, id, MU_FLAG_VOTING)) ||
		    (mu_configuration_removed(mu->bg.committed) >> id & 1) ||
		    !mu_line_read(&line, &mu->lines->grant[id]))
			continue;
		if (line.word[MU_GRANT_BALLOT] == mu->bg.ballot &&
		    line.word[MU_GRANT_HIGHER] > higher)
			higher = line.word[MU_GRANT_HIGHER];
	}
	return higher;
}

/* Voters, the own replica included, that have granted; the data plane has been told of each. */
static unsigned grants(const struct mu *mu)
{
	unsigned n = mu_on_record(mu, mu->config.id);

	MU_EACH_PEER(mu, id) {
		if (mu_on_record(mu, id) && mu_watch_is(mu, id, MU_FLAG_VOTING) &&
		    MU_GET(mu->shared.peer[id].grant) == mu->bg.ballot)
			n++;
	}
	return n;
}

static void asking(struct mu *mu)
{
	struct mu_background *bg = &mu->bg;
	uint64_t higher = refusal(mu, true);

	if (higher > bg->highest)
		bg->highest = higher;
	if (grants(mu) >= majority(mu)) {
		bg->campaign = MU_CAMPAIGN_ACTING;
		MU_SYNC_SET(mu->shared.lead_ballot, bg->ballot);
		bg->wanted = true;
	} else if (higher || bg->now_ns >= bg->deadline_ns) {
		mu_campaign_abandon(mu);
	}
}

/* So many members have granted above our ballot that no majority can be left. */
static bool outvoted(const struct mu *mu)
{
	unsigned left = mu_on_record(mu, mu->config.id);

	MU_EACH_PEER(mu, id) {
		const struct mu_watch *w = &mu->bg.watch[id];

		if (mu_on_record(mu, id) &&
		    !(w->known && w->state.word[MU_STATE_GRANTED] > mu->bg.ballot))
			left++;
	}
	return left < majority(mu);
}

static void acting(struct mu *mu)
{
	struct mu_background *bg = &mu->bg;
	uint64_t higher = refusal(mu, false);

	if (MU_GET(mu->shared.led_ballot) == bg->ballot)
		bg->failures = 0;
	if (mu_handover_is_wished(mu) || mu_change_is_wished(mu))
		bg->wanted = true;
	if (MU_GET(mu->shared.done_ballot) >= bg->ballot ||
	    (outvoted(mu) && !MU_MUTANT(outvoted_stays))) {
		mu_campaign_abandon(mu);
		return;
	}
	/* Rule 7: drain, then campaign above the ballot that shuts a live voter out. */
	if (higher && !MU_MUTANT(shut_out_stays) && MU_GET(mu->shared.led_ballot) == bg->ballot &&
	    MU_GET(mu->shared.drain_ballot) != bg->ballot) {
		if (higher > bg->highest)
			bg->highest = higher;
		MU_SET(mu->shared.drain_ballot, bg->ballot);
		bg->wanted = true;
	}
}

void mu_campaign_step(struct mu *mu)
{
	switch (mu->bg.campaign) {
	case MU_CAMPAIGN_IDLE:
		consider(mu);
		break;
	case MU_CAMPAIGN_ASKING:
		asking(mu);
		break;
	case MU_CAMPAIGN_ACTING:
		acting(mu);
		break;
	}
}
