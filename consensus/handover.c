/*
 * handover.c - an operator wants another leader: the old one makes way, when the
 * next one has everything, and names him, so that he campaigns before the others.
 *
 * Nothing here is needed to agree: who steps down does it as he would for want of a
 * backend, and who takes over does it as after a death. If the heir does not come,
 * the others do, in the usual order, a little later.
 *
 * First the leader goes on, until the heir's backend has applied what was committed
 * when he was asked: else clients would wait for that. Then it takes no proposals,
 * until the heir's log holds all there are, and he was told that they are committed.
 * Whatever takes too long ends the matter, and it leads on.
 */
#include "node.h"

enum { APPROACH_TIMEOUTS = 20 }; /* takeover-timeouts for the heir's backend to come near */
enum { NAMED_TICKS = 64 };       /* for so long the heir is named */

static uint64_t wish_of(uint64_t ballot, unsigned heir)
{
	return ballot << 8 | heir;
}

/* As a rule there is none: then the simulator is not given a point to interrupt at. */
static uint64_t wish_in(const _Atomic uint64_t *word)
{
	uint64_t wish = atomic_load_explicit(word, memory_order_acquire);

	if (wish)
		mu_interruption_point();
	return wish;
}

bool mu_handover_is_wished(const struct mu *mu)
{
	return wish_in(&mu->shared.handover) != 0;
}

static bool has_level_backend(const struct mu_peer_facts *facts)
{
	return MU_FLAG_BYTE(MU_GET(facts->flags), MU_FLAG_BACKEND_SHIFT) == MU_BACKEND_LEVEL;
}

static const char *why_unable(const struct mu *mu, unsigned id)
{
	const struct mu_peer_facts *facts = &mu->shared.peer[id];

	if (!MU_GET(facts->alive))
		return "it does not answer";
	if (!(MU_GET(facts->flags) & MU_FLAG_VOTING))
		return "its memory is blank";
	if (!has_level_backend(facts))
		return "its backend is not level with the log, or it is drained";
	if (!(MU_GET(mu->shared.confirmed) >> id & 1))
		return "it does not follow yet";
	return NULL;
}

/* Of those who could lead the one whose backend has applied most; 0: nobody could. */
static unsigned best_heir(const struct mu *mu)
{
	unsigned best = 0;

	MU_EACH_PEER(mu, id) {
		const struct mu_peer_facts *facts = &mu->shared.peer[id];

		if ((MU_GET(mu->shared.members) >> id & 1) && !why_unable(mu, id) &&
		    (!best || MU_GET(facts->applied) > MU_GET(mu->shared.peer[best].applied)))
			best = id;
	}
	return best;
}

bool mu_has_heir(const struct mu *mu)
{
	return best_heir(mu) != 0;
}

static const char *why_not(const struct mu *mu, uint64_t ballot, unsigned heir)
{
	if (!ballot)
		return "this replica does not lead";
	if (heir == mu->config.id)
		return "it leads already";
	if (!heir)
		return best_heir(mu) ? NULL : "no other replica could lead";
	if (heir > MU_MAX_REPLICAS || !(MU_GET(mu->shared.members) >> heir & 1))
		return "there is no such member";
	return why_unable(mu, heir);
}

enum mu_error mu_hand_over(struct mu *mu, unsigned heir, const char **why)
{
	uint64_t ballot = MU_GET(mu->shared.led_ballot);

	*why = why_not(mu, ballot, heir);
	if (!ballot)
		return MU_ERR_NOT_LEADER;
	if (*why)
		return MU_ERR_INVALID;
	MU_SET(mu->shared.handover, wish_of(ballot, heir ? heir : best_heir(mu)));
	return MU_OK;
}

/* --------------------------------------------------------------- data plane */

static void call_off(struct mu *mu)
{
	mu->data.handover = MU_HANDOVER_NONE;
	MU_SET(mu->shared.handover, 0);
}

static void enter(struct mu *mu, enum mu_handover state, unsigned timeouts)
{
	mu->data.handover = state;
	mu->data.handover_ns = mu->data.now_ns + timeouts * mu->config.takeover_timeout_ns;
}

static bool is_near(const struct mu *mu, unsigned heir)
{
	const struct mu_peer_facts *facts = &mu->shared.peer[heir];

	return MU_GET(facts->applied) >= mu->data.handover_lsn ||
	       (MU_GET(facts->flags) & MU_FLAG_CAUGHT_UP);
}

static bool has_all(const struct mu *mu, unsigned heir)
{
	const struct mu_data *d = &mu->data;
	const struct mu_peer *p = &d->peer[heir];

	return p->state == MU_PEER_FOLLOWS && p->acked_end == d->tail.end &&
	       p->acked_commit == d->commit.lsn;
}

bool mu_handover_step(struct mu *mu, bool decided)
{
	struct mu_data *d = &mu->data;
	uint64_t wish = wish_in(&mu->shared.handover);
	unsigned heir = wish & 0xff;

	if (!wish || wish != wish_of(d->ballot, heir) || d->draining) {
		d->handover = MU_HANDOVER_NONE;
		return false;
	}
	if (d->handover == MU_HANDOVER_NONE) {
		d->handover_lsn = d->commit.lsn;
		enter(mu, MU_HANDOVER_APPROACH, APPROACH_TIMEOUTS);
	}
	if (d->handover == MU_HANDOVER_APPROACH && is_near(mu, heir))
		enter(mu, MU_HANDOVER_YIELD, 1);
	if (why_unable(mu, heir) || d->now_ns >= d->handover_ns) {
		call_off(mu);
		return false;
	}
	if (d->handover != MU_HANDOVER_YIELD || !decided ||
	    (!has_all(mu, heir) && !MU_MUTANT(yields_early)))
		return false;
	MU_SET(mu->shared.heir, wish);
	call_off(mu);
	return true;
}

/* --------------------------------------------------------- background plane */

void mu_heir_name(struct mu *mu)
{
	uint64_t wish = wish_in(&mu->shared.heir);

	if (!wish || wish != wish_of(mu->bg.ballot, wish & 0xff))
		return;
	mu->bg.heir = wish & 0xff;
	mu->bg.heir_until_ns = mu->bg.now_ns + NAMED_TICKS * mu->config.tick_ns;
}

unsigned mu_heir_named(const struct mu *mu)
{
	uint64_t ballot;

	if (MU_MUTANT(heir_unnamed) || mu->bg.now_ns >= mu->bg.heir_until_ns ||
	    mu_leader_seen(mu, &ballot))
		return 0;
	return mu->bg.heir;
}

unsigned mu_heir(const struct mu *mu)
{
	unsigned heir = mu_heir_named(mu);

	MU_EACH_PEER(mu, id) {
		const struct mu_watch *w = &mu->bg.watch[id];

		if (!heir && w->alive && w->known)
			heir = MU_FLAG_BYTE(w->state.word[MU_STATE_FLAGS], MU_FLAG_HEIR_SHIFT);
	}
	return heir;
}
