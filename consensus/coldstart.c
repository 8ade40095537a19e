/*
 * coldstart.c - how a replica that remembers nothing comes to vote (DESIGN
 * 3.6, rules 2 and 11).
 *
 * Either a leader restores its log and has its incarnation readmitted by an
 * entry (leader.c proposes it, follower.c sees it committed), or all members
 * are in that state and start cold together. The latter has two phases:
 *
 * 1. A blank member that reads every other member as blank computes a nonce
 *    from all the incarnations, and the eras and applied LSNs that their
 *    backends name, records that it is prepared for it, and publishes that.
 * 2. A prepared member that reads every other member as prepared for the same
 *    nonce starts: its log, of a new era, begins with a genesis entry at the
 *    highest applied LSN of the latest era, and it votes. A prepared member that
 *    meets a voting one which started by a nonce it was prepared for starts
 *    likewise.
 *
 * A nonce never comes again, or an old reading of a member as prepared for it
 * could be taken for a new one: what a member's backend names may go away and
 * come back, so each change of it in an incarnation is counted, on record, and
 * the count goes into the nonce. With that, what a member was read as prepared
 * for says that all others' contributions were at that moment what they are in
 * this nonce, and that it never prepared for it again after another.
 *
 * Two nonces cannot both be started: to start, a member must have read all
 * members prepared for one nonce; whoever started never prepares again; so the
 * members of another nonce would have to include it. A member that moved on to
 * a newer nonce still completes an older one that was started, which is why it
 * remembers them: it has not voted in between. A member whose memory was lost
 * after it had prepared has another incarnation, is in no started nonce, and
 * waits to be readmitted. And a member that let a leader write its log after it
 * had prepared starts by that nonce no more (its granted ballot has changed): what
 * it then holds may be about to count.
 */
#include <string.h>

#include "node.h"

/* splitmix64's finaliser: mixes words of the nonce. */
static uint64_t mix(uint64_t x, uint64_t word)
{
	x ^= word + 0x9e3779b97f4a7c15ULL + (x << 6);
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static const struct mu_prepared *last_prepared(const struct mu_private_region *r)
{
	return &r->prepared[(r->prepared_count - 1) % MU_PREPARED_NONCES];
}

bool mu_is_prepared(const struct mu_private_region *r)
{
	return !r->voting && r->prepared_count && last_prepared(r)->granted == r->granted;
}

static void publish_cold(struct mu *mu)
{
	struct mu_private_region *r = mu->record;
	struct mu_line line = {{0}, 0};
	bool prepared = mu_is_prepared(r);

	line.word[MU_COLD_NONCE] = prepared ? last_prepared(r)->nonce : r->cold_nonce;
	line.word[MU_COLD_CONFIGURATION] = r->configuration;
	line.word[MU_COLD_COMMITTED] = mu->bg.committed;
	line.word[MU_COLD_ERA] = r->cold_era;
	line.word[MU_COLD_APPLIED] = r->cold_applied;
	line.word[MU_COLD_COUNT] = r->cold_count;
	line.word[MU_COLD_STARTED] = r->voting && r->cold_nonce;
	mu_line_publish(&mu->lines->cold, &line);
}

/*
 * Take over what the backend names. The count is on record before what it
 * counts: after a crash in between, a change more is counted than there was.
 */
static bool note_backend(struct mu *mu)
{
	struct mu_private_region *r = mu->record;
	uint64_t era, applied;

	if (!mu_backend_named(mu, &era, &applied))
		return false;
	if (!r->cold_count || r->cold_era != era || r->cold_applied != applied) {
		if (!r->cold_count || !MU_MUTANT(nonce_comes_again))
			mu_store(&r->cold_count, r->cold_count + 1);
		mu_store(&r->cold_era, era);
		mu_store(&r->cold_applied, applied);
	}
	return true;
}

void mu_become_voting(struct mu *mu)
{
	mu_store(&mu->record->voting, 1);
	mu->record->prepared_count = 0;
	MU_SET(mu->shared.voting, 1);
	publish_cold(mu);
	mu->bg.wanted = true;
}

/*
 * Whoever was let write this log before has no business in the new one, nor has
 * what he sent and nobody has seen arrive.
 */
static void start_cold(struct mu *mu, const struct mu_prepared *prepared)
{
	struct mu_origin *origin = &mu->header->origin;

	assert(!mu->record->voting);
	if (mu->fabric->ops->revoke_write(mu->fabric))
		return; /* the next step tries again */
	mu->bg.holder_current = true;
	mu->bg.given_ballot = 0;
	mu_store(&mu->header->commit, MU_LSN_NONE);
	if (mu->header->configuration != prepared->configuration)
		mu_store(&mu->header->configuration, prepared->configuration);
	mu_ring_genesis(&mu->ring, prepared->base, prepared->nonce);
	mu->record->cold_nonce = prepared->nonce;
	mu_store(&origin->base, prepared->base);
	mu_store(&origin->parent, prepared->parent);
	mu_store(&origin->era, mu_next_era(prepared->parent, prepared->nonce));
	mu_store(&mu->header->commit, prepared->base);
	MU_SET(mu->shared.cold_starts, MU_GET(mu->shared.cold_starts) + 1);
	mu_become_voting(mu);
}

/* Phase 2 by meeting: has a peer started by a nonce that we were prepared for? */
static bool join_started(struct mu *mu)
{
	struct mu_private_region *r = mu->record;
	uint64_t kept =
		r->prepared_count < MU_PREPARED_NONCES ? r->prepared_count : MU_PREPARED_NONCES;

	MU_EACH_PEER(mu, id) {
		const struct mu_watch *w = &mu->bg.watch[id];

		if (MU_MUTANT(never_join_started) || !mu_watch_is(mu, id, MU_FLAG_VOTING) ||
		    !w->cold.word[MU_COLD_STARTED])
			continue;
		for (uint64_t i = 0; i < kept; i++) {
			if (r->prepared[i].nonce != w->cold.word[MU_COLD_NONCE] ||
			    (r->prepared[i].granted != r->granted &&
			     !MU_MUTANT(cold_start_over_grant)))
				continue;
			start_cold(mu, &r->prepared[i]);
			return true;
		}
	}
	return false;
}

/* What a member brings into a cold start: its memory, and its backend. */
struct contribution {
	uint64_t incarnation, era, applied, count;
};

static bool is_blank(const struct mu *mu, unsigned id)
{
	const struct mu_watch *w = &mu->bg.watch[id];

	return mu_watch_is(mu, id, MU_FLAG_APPLIED_KNOWN) && !mu_watch_is(mu, id, MU_FLAG_VOTING) &&
	       w->cold.word[MU_COLD_COUNT] &&
	       w->cold.word[MU_COLD_CONFIGURATION] == mu->record->configuration;
}

static struct contribution contribution_of(const struct mu *mu, unsigned id)
{
	const struct mu_private_region *r = mu->record;
	const struct mu_watch *w = &mu->bg.watch[id];

	if (id == mu->config.id)
		return (struct contribution){r->incarnation, r->cold_era, r->cold_applied,
					     r->cold_count};
	return (struct contribution){w->state.word[MU_STATE_INCARNATION], w->cold.word[MU_COLD_ERA],
				     w->cold.word[MU_COLD_APPLIED], w->cold.word[MU_COLD_COUNT]};
}

/*
 * The nonce of all members as they are now, and where the log is to begin; false
 * if not all are blank, or one's backend has not been heard from.
 */
static bool survey(const struct mu *mu, struct mu_prepared *out)
{
	uint64_t configuration = mu->record->configuration;
	uint64_t x = mix(mu->config.group_id, mu_configuration_epoch(configuration));

	if (!mu_on_record(mu, mu->config.id))
		return false;
	*out = (struct mu_prepared){.granted = mu->record->granted, .configuration = configuration};
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		struct contribution c;

		if (!mu_on_record(mu, id))
			continue;
		if (MU_MUTANT(cold_start_by_few) && id != mu->config.id && !mu->bg.watch[id].alive)
			continue;
		if (id != mu->config.id && !is_blank(mu, id))
			return false;
		c = contribution_of(mu, id);
		x = mix(mix(mix(mix(mix(x, id), c.incarnation), c.era), c.applied), c.count);
		if (c.era > out->parent || (c.era == out->parent && c.applied > out->base)) {
			out->parent = c.era;
			out->base = c.applied;
		}
	}
	out->base = (out->base + MU_LINE_BYTES - 1) & ~(uint64_t)(MU_LINE_BYTES - 1);
	out->nonce = x ? x : 1;
	return true;
}

static bool all_prepared(const struct mu *mu, uint64_t nonce)
{
	MU_EACH_PEER(mu, id) {
		if (mu_on_record(mu, id) && !MU_MUTANT(cold_start_one_phase) &&
		    !(MU_MUTANT(cold_start_by_few) && !mu->bg.watch[id].alive) &&
		    (!mu_watch_is(mu, id, MU_FLAG_PREPARED) ||
		     mu->bg.watch[id].cold.word[MU_COLD_NONCE] != nonce))
			return false;
	}
	return true;
}

/* Records before acts: what is published was written to the file before. */
static void prepare(struct mu *mu, const struct mu_prepared *wanted)
{
	struct mu_private_region *r = mu->record;

	r->prepared[r->prepared_count % MU_PREPARED_NONCES] = *wanted;
	mu_store(&r->prepared_count, r->prepared_count + 1);
}

static bool is_prepared(const struct mu *mu, uint64_t nonce)
{
	return mu_is_prepared(mu->record) && last_prepared(mu->record)->nonce == nonce;
}

/*
 * A nonce that was prepared for before another was let write this log stays
 * void, however blank the others still seem: one of them started by it, and he
 * it is who writes.
 */
static bool is_void(const struct mu *mu, uint64_t nonce)
{
	const struct mu_private_region *r = mu->record;

	for (uint64_t i = 0; i < MU_PREPARED_NONCES && i < r->prepared_count; i++) {
		if (r->prepared[i].nonce == nonce && r->prepared[i].granted != r->granted)
			return !MU_MUTANT(cold_start_over_grant);
	}
	return false;
}

void mu_coldstart_step(struct mu *mu)
{
	uint64_t readmit = MU_GET(mu->shared.readmit_ballot);
	struct mu_prepared wanted;

	/* Not in the middle of what an operator told it to do (recover.c) either. */
	if (mu->record->voting || MU_GET(mu->shared.forgetting)) {
		publish_cold(mu);
		return;
	}
	if ((MU_MUTANT(vote_with_empty_log) && mu->bg.highest) ||
	    (MU_MUTANT(vote_when_restored) && mu_load(&mu->header->commit) != MU_LSN_NONE))
		mu_become_voting(mu);
	if (readmit > mu->bg.readmitted) {
		/* Rule 2: from here on at least that leader's ballot counts as granted. */
		if (readmit > mu->record->granted)
			mu_record_granted(mu, readmit);
		mu_become_voting(mu);
		return;
	}
	if (!join_started(mu) && note_backend(mu) && survey(mu, &wanted) &&
	    !is_void(mu, wanted.nonce)) {
		if (!is_prepared(mu, wanted.nonce))
			prepare(mu, &wanted);
		else if (all_prepared(mu, wanted.nonce))
			start_cold(mu, last_prepared(mu->record));
	}
	publish_cold(mu);
}
