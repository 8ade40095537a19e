/*
 * coldstart.c - how a replica that remembers nothing comes to vote (DESIGN
 * 3.6, rules 2 and 11).
 *
 * Either a leader restores its log and has its incarnation readmitted by an
 * entry (leader.c proposes it, follower.c sees it committed), or all members
 * are in that state and start cold together. The latter has two phases:
 *
 * 1. A blank member that reads every other member as blank computes a nonce
 *    from all the incarnations (and the applied LSNs their backends name),
 *    records that it is prepared for it, and publishes that.
 * 2. A prepared member that reads every other member as prepared for the same
 *    nonce starts: its log begins with a genesis entry at the highest applied
 *    LSN, and it votes. A prepared member that meets a voting one which
 *    started by a nonce it was prepared for starts likewise.
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

static void publish_cold(struct mu *mu)
{
	struct mu_private_region *r = mu->record;
	struct mu_line line = {{0}, 0};
	bool prepared = !r->voting && r->prepared_count;
	uint64_t last = (r->prepared_count - 1) % MU_PREPARED_NONCES;

	line.word[MU_COLD_NONCE] = prepared ? r->prepared[last].nonce : r->cold_nonce;
	line.word[MU_COLD_BASE] = prepared ? r->prepared[last].base : r->cold_base;
	line.word[MU_COLD_EPOCH] = mu_members(r)->epoch;
	line.word[MU_COLD_MEMBERS] = mu_members(r)->members;
	line.word[MU_COLD_APPLIED] = MU_GET(mu->shared.applied_lsn);
	line.word[MU_COLD_STARTED] = r->voting && r->cold_nonce;
	mu_line_publish(&mu->lines->cold, &line);
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
static void start_cold(struct mu *mu, uint64_t nonce, uint64_t base)
{
	assert(!mu->record->voting);
	if (mu->fabric->ops->revoke_write(mu->fabric))
		return; /* the next step tries again */
	mu->bg.holder_current = true;
	mu->bg.given_ballot = 0;
	mu_store(&mu->header->commit, MU_LSN_NONE);
	mu_ring_genesis(&mu->ring, base, nonce);
	mu->record->cold_nonce = nonce;
	mu->record->cold_base = base;
	mu_store(&mu->header->base, base);
	mu_store(&mu->header->commit, base);
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

		if (!mu_watch_is(mu, id, MU_FLAG_VOTING) || !w->cold.word[MU_COLD_STARTED])
			continue;
		for (uint64_t i = 0; i < kept; i++) {
			if (r->prepared[i].nonce != w->cold.word[MU_COLD_NONCE] ||
			    r->prepared[i].granted != r->granted)
				continue;
			start_cold(mu, r->prepared[i].nonce, r->prepared[i].base);
			return true;
		}
	}
	return false;
}

/*
 * The nonce of all members as they are now, and the base LSN; false if not all
 * are blank, or one's backend has not been heard from.
 */
static bool survey(const struct mu *mu, uint64_t *nonce, uint64_t *base)
{
	uint64_t x = mix(mu->config.group_id, mu_members(mu->record)->epoch);

	*base = 0;
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		const struct mu_watch *w = &mu->bg.watch[id];
		bool self = id == mu->config.id;
		uint64_t applied, incarnation;

		if (!(mu_members(mu->record)->members >> id & 1))
			continue;
		if (self ? !MU_GET(mu->shared.applied_known)
			 : (!mu_watch_is(mu, id, MU_FLAG_APPLIED_KNOWN) ||
			    mu_watch_is(mu, id, MU_FLAG_VOTING) ||
			    w->cold.word[MU_COLD_EPOCH] != mu_members(mu->record)->epoch ||
			    w->cold.word[MU_COLD_MEMBERS] != mu_members(mu->record)->members))
			return false;
		applied = self ? MU_GET(mu->shared.applied_lsn) : w->cold.word[MU_COLD_APPLIED];
		incarnation = self ? mu->record->incarnation : w->state.word[MU_STATE_INCARNATION];
		x = mix(mix(mix(x, id), incarnation), applied);
		if (applied > *base)
			*base = applied;
	}
	*base = (*base + MU_LINE_BYTES - 1) & ~(uint64_t)(MU_LINE_BYTES - 1);
	*nonce = x ? x : 1;
	return true;
}

static bool all_prepared(const struct mu *mu, uint64_t nonce)
{
	MU_EACH_PEER(mu, id) {
		if ((mu_members(mu->record)->members >> id & 1) &&
		    (!mu_watch_is(mu, id, MU_FLAG_PREPARED) ||
		     mu->bg.watch[id].cold.word[MU_COLD_NONCE] != nonce))
			return false;
	}
	return true;
}

/* Records before acts: what is published was written to the file before. */
static void prepare(struct mu *mu, uint64_t nonce, uint64_t base)
{
	struct mu_private_region *r = mu->record;
	uint64_t slot = r->prepared_count % MU_PREPARED_NONCES;

	r->prepared[slot].nonce = nonce;
	r->prepared[slot].base = base;
	r->prepared[slot].granted = r->granted;
	mu_store(&r->prepared_count, r->prepared_count + 1);
}

static bool is_prepared(const struct mu *mu, uint64_t nonce)
{
	const struct mu_private_region *r = mu->record;
	uint64_t slot = (r->prepared_count - 1) % MU_PREPARED_NONCES;

	return r->prepared_count && r->prepared[slot].nonce == nonce &&
	       r->prepared[slot].granted == r->granted;
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
			return true;
	}
	return false;
}

void mu_coldstart_step(struct mu *mu)
{
	uint64_t readmit = MU_GET(mu->shared.readmit_ballot);
	uint64_t nonce, base;

	if (mu->record->voting) {
		publish_cold(mu);
		return;
	}
	if (readmit) {
		/* Rule 2: from here on at least that leader's ballot counts as granted. */
		if (readmit > mu->record->granted)
			mu_record_granted(mu, readmit);
		mu_become_voting(mu);
		return;
	}
	if (!join_started(mu) && survey(mu, &nonce, &base) && !is_void(mu, nonce)) {
		if (!is_prepared(mu, nonce))
			prepare(mu, nonce, base);
		else if (all_prepared(mu, nonce))
			start_cold(mu, nonce, base);
	}
	publish_cold(mu);
}
