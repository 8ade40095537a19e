/*
 * membership.c - which replicas are the group, and changing that (DESIGN 3.7, rule
 * 13; the paper leaves it out).
 *
 * The configuration is what the log says: of the latest entry in the own log that
 * states one, committed or not, and every majority is one of its members. It changes
 * by one member at a time. Why that agrees:
 *
 * (1) Any majority of a configuration and any of the next one have a member in
 *     common. A leader appends the next one only when the last one is committed, and
 *     an entry of its own ballot behind it. So of two leaders that take up the same
 *     configuration the later has been granted, and has written, a majority of it,
 *     before it appends another: with what the earlier one appended nobody can come
 *     to lead any more without meeting the later one's log, which ranks higher.
 * (2) A candidate may not know the latest configuration. With a majority of the one
 *     that it knows it finds, in the tail that it adopts, at least the next one, if
 *     that is committed (as takeover.c argues for any entry). Then that one's
 *     majority is what it needs, and it chooses anew, until the tail that it holds
 *     names none that is later.
 * (3) What was committed before the log's beginning here is in the header's word,
 *     which whoever may write this log stores before a commit word that is past it.
 *
 * Whoever is to become a member first learns: he follows, is readmitted like one that
 * lost its memory (by an entry that names his incarnation, so that what counts later
 * is a memory that has been there since), and has a level backend. He counts from the
 * entry on that names him. An id is never used again: of two replicas that bear it,
 * each could be granted the same ballot.
 *
 * Who was removed is not written to any more, and not granted. He hears of it from
 * what the others publish. A leader is removed only if one of the others could lead:
 * nobody asks a removed one for its backend's state.
 */
#include "node.h"

/* What a change asks for: the ballot under which it was asked, what, and of whom. */
static uint64_t wish_of(uint64_t ballot, enum mu_change change, unsigned id)
{
	return ballot << 16 | (uint64_t)change << 8 | id;
}

/* As a rule there is none: then the simulator is not given a point to interrupt at. */
static uint64_t wish(const struct mu *mu)
{
	uint64_t word = atomic_load_explicit(&mu->shared.change, memory_order_acquire);

	if (word)
		mu_interruption_point();
	return word;
}

static unsigned wished_id(uint64_t word)
{
	return word & 0xff;
}

static enum mu_change wished_change(uint64_t word)
{
	return (enum mu_change)(word >> 8 & 0xff);
}

/* The configuration that comes of it. */
static uint64_t changed(uint64_t from, uint64_t ballot, enum mu_change change, unsigned id)
{
	uint64_t epoch = mu_configuration_epoch(from) + 1;
	uint64_t removed = mu_configuration_removed(from);
	uint64_t members = mu_configuration_members(from);

	if (epoch < ballot << 8)
		epoch = ballot << 8;
	if (change == MU_CHANGE_ADD)
		return mu_configuration(epoch, removed, members | 1ULL << id);
	if (MU_MUTANT(id_used_again))
		return mu_configuration(epoch, removed, members & ~(1ULL << id));
	return mu_configuration(epoch, removed | 1ULL << id, members & ~(1ULL << id));
}

/* ----------------------------------------------------------- any thread */

static const char *why_not_add(const struct mu *mu, uint64_t from, unsigned id)
{
	if (mu_configuration_members(from) >> id & 1)
		return "it is a member already";
	if (mu_configuration_removed(from) >> id & 1)
		return "it was a member once: a new replica needs an id that never was one's";
	if (!MU_GET(mu->shared.peer[id].alive))
		return "it does not answer";
	return NULL;
}

/* Would those who follow be a majority of these members? */
static bool has_majority(const struct mu *mu, uint64_t configuration)
{
	uint64_t members = mu_configuration_members(configuration);
	uint64_t following = MU_GET(mu->shared.confirmed) & members;

	return (unsigned)__builtin_popcountll(following) >= mu_majority_of(members);
}

/*
 * Does who leads leave nobody behind who could? The others' backends may all be waiting
 * for another's state, and he has the only one to give it.
 */
static bool would_orphan(const struct mu *mu, unsigned removed)
{
	return removed == mu->config.id && !mu_has_heir(mu) && !MU_MUTANT(leaves_no_heir);
}

static const char *why_not_remove(const struct mu *mu, uint64_t from, unsigned id)
{
	if (!(mu_configuration_members(from) >> id & 1))
		return "it is no member";
	if (mu_configuration_members(from) == 1ULL << id)
		return "it is the only member";
	if (!has_majority(mu, changed(from, 0, MU_CHANGE_REMOVE, id)))
		return "of the others no majority follows";
	if (would_orphan(mu, id))
		return "it leads, and none of the others could: no level backend follows";
	return NULL;
}

static const char *why_not(const struct mu *mu, uint64_t ballot, enum mu_change change, unsigned id)
{
	uint64_t from = MU_GET(mu->shared.configuration), pending = wish(mu);

	if (!ballot)
		return "this replica does not lead";
	if (id < 1 || id > MU_MAX_REPLICAS || !mu_knows(mu, id))
		return "there is no such replica";
	if ((from != MU_GET(mu->shared.committed) && !MU_MUTANT(two_changes)) ||
	    (pending && pending != wish_of(ballot, change, id)))
		return "another change of members is under way";
	return change == MU_CHANGE_ADD ? why_not_add(mu, from, id) : why_not_remove(mu, from, id);
}

enum mu_error mu_change_members(struct mu *mu, enum mu_change change, unsigned id, const char **why)
{
	uint64_t ballot = MU_GET(mu->shared.led_ballot);

	*why = why_not(mu, ballot, change, id);
	if (!ballot)
		return MU_ERR_NOT_LEADER;
	if (*why)
		return MU_ERR_INVALID;
	MU_SET(mu->shared.change, wish_of(ballot, change, id));
	return MU_OK;
}

enum mu_change mu_change_wished(const struct mu *mu, unsigned *id)
{
	uint64_t word = atomic_load(&mu->shared.change);

	*id = wished_id(word);
	return wished_change(word);
}

/* ----------------------------------------------------------- data plane */

bool mu_is_removed(const struct mu *mu, unsigned id)
{
	return mu_configuration_removed(mu->data.configuration) >> id & 1;
}

/* Who is removed is not written to any more. */
static void part_with_removed(struct mu *mu)
{
	struct mu_fabric *f = mu->fabric;

	MU_EACH_PEER(mu, id) {
		if (!mu_is_removed(mu, id))
			continue;
		f->ops->disconnect(f, MU_PLANE_DATA, id);
		mu->data.peer[id].state = MU_PEER_IDLE;
	}
}

void mu_set_configuration(struct mu *mu, uint64_t configuration)
{
	struct mu_data *d = &mu->data;

	if (configuration == d->configuration)
		return;
	d->configuration = configuration;
	d->members = mu_configuration_members(configuration);
	d->reclaim_lsn = 0;
	if (d->state != MU_DATA_PASSIVE)
		part_with_removed(mu);
}

void mu_set_committed(struct mu *mu, uint64_t configuration)
{
	struct mu_data *d = &mu->data;

	if (configuration > d->committed)
		d->committed = configuration;
	if (d->committed > d->configuration)
		mu_set_configuration(mu, d->committed);
}

bool mu_take_configuration(struct mu *mu, const struct mu_position *tail)
{
	struct mu_data *d = &mu->data;
	uint64_t before = d->configuration, latest = d->committed;
	struct mu_position at, next = d->commit;

	do {
		uint64_t stated = mu_ring_configuration(&mu->ring, &next);

		if (stated > latest && !MU_MUTANT(adopted_members_ignored))
			latest = stated;
		at = next;
	} while (at.lsn < tail->lsn && mu_ring_next(&mu->ring, &at, &next));
	mu_set_configuration(mu, latest);
	return latest != before;
}

bool mu_is_joining(const struct mu *mu, unsigned id)
{
	return wish(mu) == wish_of(mu->data.ballot, MU_CHANGE_ADD, id) && !mu_is_removed(mu, id);
}

/* It has learnt all there is: from the next entry on it may count. */
static bool is_ready(const struct mu *mu, unsigned id)
{
	const struct mu_peer *p = &mu->data.peer[id];
	uint64_t flags = MU_GET(mu->shared.peer[id].flags);

	return p->state == MU_PEER_FOLLOWS && p->acked_end >= mu->data.commit.end &&
	       mu_peer_remembers(mu, id) &&
	       MU_FLAG_BYTE(flags, MU_FLAG_BACKEND_SHIFT) == MU_BACKEND_LEVEL;
}

static bool is_past(const struct mu *mu, enum mu_change change, unsigned id)
{
	bool member = mu->data.members >> id & 1;

	if (change == MU_CHANGE_ADD)
		return member || mu_is_removed(mu, id);
	return !member || would_orphan(mu, id) ||
	       !has_majority(mu, changed(mu->data.configuration, 0, change, id));
}

bool mu_change_is_wished(const struct mu *mu)
{
	return wish(mu) != 0;
}

static void change_members(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	uint64_t word = wish(mu), next;
	enum mu_change change = wished_change(word);
	unsigned id = wished_id(word);

	if (!word)
		return;
	if ((word != wish_of(d->ballot, change, id) && !MU_MUTANT(change_unestablished)) ||
	    is_past(mu, change, id)) {
		MU_SET(mu->shared.change, 0);
		return;
	}
	next = changed(d->configuration, d->ballot, change, id);
	if ((d->configuration != d->committed && !MU_MUTANT(two_changes)) || d->draining ||
	    d->handover != MU_HANDOVER_NONE || (change == MU_CHANGE_ADD && !is_ready(mu, id)) ||
	    !mu_control_fits(mu, sizeof(next)))
		return;
	mu_append_control(mu, MU_KIND_CONFIGURATION, &next, sizeof(next));
	mu_set_configuration(mu, next);
	MU_SET(mu->shared.change, 0);
	mu_post_to_followers(mu);
}

/*
 * It was removed, and that is committed: the best of the others is to take over. If
 * none can be made to, they will have to find out themselves.
 */
static void leave(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	const char *why;

	if ((mu_configuration_members(d->committed) >> mu->config.id & 1) ||
	    MU_MUTANT(removed_leader_stays))
		return;
	if (!d->leaving)
		mu_hand_over(mu, 0, &why);
	d->leaving = true;
	if (!mu_handover_is_wished(mu))
		mu_resign(mu);
}

void mu_membership_step(struct mu *mu)
{
	change_members(mu);
	leave(mu);
}

/* ----------------------------------------------------- background plane */

/*
 * Rule 11: whoever has no log counts as the group what was heard of last, wherever
 * that was, so that none start cold without those who came later.
 */
void mu_record_configuration(struct mu *mu)
{
	struct mu_private_region *record = mu->record;
	uint64_t latest = MU_GET(mu->shared.configuration);
	uint64_t committed = atomic_load_explicit(&mu->shared.committed, memory_order_acquire);

	if (!record->voting && record->configuration > latest)
		latest = record->configuration;
	MU_EACH_PEER(mu, id) {
		const struct mu_watch *w = &mu->bg.watch[id];

		if (!w->known)
			continue;
		if (w->cold.word[MU_COLD_COMMITTED] > committed)
			committed = w->cold.word[MU_COLD_COMMITTED];
		if (!record->voting && w->cold.word[MU_COLD_CONFIGURATION] > latest &&
		    !MU_MUTANT(cold_start_by_seed))
			latest = w->cold.word[MU_COLD_CONFIGURATION];
	}
	if (committed > mu->bg.committed)
		mu->bg.committed = committed;
	/* For who looks: nothing in either plane depends on it. */
	atomic_store_explicit(&mu->shared.heard, mu->bg.committed, memory_order_relaxed);
	if (latest == record->configuration)
		return;
	mu_store(&record->configuration, latest);
	MU_SET(mu->shared.members, mu_configuration_members(latest));
}

bool mu_may_lead(const struct mu *mu)
{
	unsigned id = mu->config.id;

	if (mu_configuration_removed(mu->bg.committed) >> id & 1)
		return MU_MUTANT(removed_campaigns);
	return mu_on_record(mu, id) || (mu_configuration_members(mu->bg.committed) >> id & 1);
}
