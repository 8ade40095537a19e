/*
 * leader.c - leading: append to the own log, write it to the followers, count
 * who holds it, prove leadership to readers, reclaim ring space (DESIGN 3.4;
 * Mu sections 4.2 and 5.3).
 */
#include <string.h>

#include "node.h"

/* Own room kept free of proposals: leaders' first entries and readmissions always fit. */
static uint64_t reserve_bytes(const struct mu *mu)
{
	return mu->ring.bytes / 8;
}

/* ------------------------------------------------------------ ring space */

static uint64_t peer_bound(const struct mu *mu, unsigned id)
{
	const struct mu_peer *p = &mu->data.peer[id];
	uint64_t bound, applied;

	switch (p->state) {
	case MU_PEER_FOLLOWS:
		/* What it has not acknowledged is still the source of WRITEs. */
		bound = p->acked_end < p->acked_commit || MU_MUTANT(reuse_named) ? p->acked_end
										 : p->acked_commit;
		applied = MU_GET(mu->shared.peer[id].applied);
		return mu->data.let_go >> id & 1 || applied > bound || MU_MUTANT(reuse_unapplied)
			       ? bound
			       : applied;
	case MU_PEER_FENCE:
	case MU_PEER_PROBE:
		return p->probe_lsn; /* what it was asked for stays while it is compared */
	case MU_PEER_VOIDING:
		return mu->data.oldest_lsn;
	case MU_PEER_INSTALL:
	case MU_PEER_BASE:
		/* The entry that its commit word is going to name stays, however far it is written.
		 */
		return p->acked_end < p->install_commit || MU_MUTANT(install_outrun)
			       ? p->acked_end
			       : p->install_commit;
	default:
		return MU_LSN_NONE;
	}
}

/* The LSN behind which ring space may be used again; it holds until somebody needs more. */
static uint64_t reclaim_bound(struct mu *mu)
{
	uint64_t applied = MU_GET(mu->shared.applied_lsn);
	uint64_t lsn = mu->data.commit.lsn < applied || MU_MUTANT(reuse_own_unapplied)
			       ? mu->data.commit.lsn
			       : applied;

	mu->data.setbacks = MU_GET(mu->shared.setbacks);
	mu_space_let_go(mu);
	MU_EACH_PEER(mu, id) {
		uint64_t bound = peer_bound(mu, id);

		if (bound < lsn)
			lsn = bound;
	}
	mu->data.reclaim_lsn = lsn;
	return lsn;
}

void mu_advance_oldest(struct mu *mu, uint64_t end)
{
	struct mu_data *d = &mu->data;
	struct mu_position at;

	while (d->oldest_lsn + mu->ring.bytes < end) {
		mu_ring_position(&mu->ring, d->oldest_lsn, &at);
		d->oldest_lsn = at.end;
		if (MU_MUTANT(spoilt_relied_on))
			continue;
		if (d->oldest_lsn < d->whole_lsn && !mu_ring_entry(&mu->ring, at.end, &at))
			d->oldest_lsn = d->whole_lsn;
	}
}

/*
 * A former leader's WRITEs that were under way behind the tail, and landed in
 * part, have spoilt what lay there, a ring earlier, and tie in with nothing. So
 * of what is older than what was committed here when the takeover began, an
 * entry is whole only if it was looked at. Where one is not, no peer is helped
 * from before whole_lsn.
 */
bool mu_is_whole_from(struct mu *mu, uint64_t lsn)
{
	struct mu_data *d = &mu->data;
	struct mu_position at, next;
	bool whole;

	if (lsn >= d->whole_lsn || MU_MUTANT(spoilt_relied_on))
		return true;
	whole = mu_ring_entry(&mu->ring, lsn, &at);
	while (whole && at.lsn < d->whole_lsn) {
		whole = mu_ring_next(&mu->ring, &at, &next);
		at = next;
	}
	if (whole)
		d->whole_lsn = lsn;
	else
		d->oldest_lsn = d->whole_lsn;
	return whole;
}

/*
 * Its source of WRITEs is used again from now on, so the connection goes first.
 * It comes back when it has caught up, or begins anew.
 */
static void drop(struct mu *mu, unsigned id, enum mu_peer_state state)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (!MU_MUTANT(reuse_source))
		mu->fabric->ops->disconnect(mu->fabric, MU_PLANE_DATA, id);
	p->state = state;
	p->retry_ns = mu->data.now_ns + mu->config.data_stall_ns;
	mu->data.reclaim_lsn = 0;
}

/* The log waits for this follower. Must it? */
static void relieve_of_follower(struct mu *mu, unsigned id)
{
	const struct mu_peer_facts *facts = &mu->shared.peer[id];

	if (mu_peer_is_needed(mu, id))
		mu_peer_write_off(mu, id);
	else if (!MU_GET(facts->alive) || MU_GET(facts->stands_ns) >= mu->config.data_stall_ns)
		drop(mu, id, MU_PEER_LAGGING);
}

/* The log waits for an installation, which must move on. */
static void relieve_of_installation(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (p->install_seen != p->acked_end) {
		p->install_seen = p->acked_end;
		p->retry_ns = mu->data.now_ns + mu->config.data_stall_ns;
	} else if (mu->data.now_ns >= p->retry_ns) {
		drop(mu, id, MU_PEER_IDLE);
	}
}

/*
 * Out of room. A follower that is dead, or whose backend has stood still for
 * long, is dropped, if a majority remains without it; it comes back when it has
 * caught up, or by having its log written anew. If none remains, its log is
 * needed but its backend is not: after longer still that is written off, and
 * will be restored from another's. Otherwise the clients wait.
 */
static void relieve(struct mu *mu)
{
	uint64_t limit = reclaim_bound(mu);

	MU_SET(mu->shared.hungry, 1);
	MU_EACH_PEER(mu, id) {
		enum mu_peer_state state = mu->data.peer[id].state;

		if (peer_bound(mu, id) != limit)
			continue;
		if (state == MU_PEER_FOLLOWS)
			relieve_of_follower(mu, id);
		else if (state == MU_PEER_VOIDING || state == MU_PEER_INSTALL ||
			 state == MU_PEER_BASE)
			relieve_of_installation(mu, id);
	}
}

/* May the log grow up to `end` without touching what somebody still needs? */
static bool fits(struct mu *mu, uint64_t end)
{
	const struct mu_data *d = &mu->data;

	if (end <= d->reclaim_lsn + mu->ring.bytes && MU_GET(mu->shared.setbacks) == d->setbacks &&
	    !mu_space_is_claimed(mu))
		return true;
	return end <= reclaim_bound(mu) + mu->ring.bytes;
}

/* --------------------------------------------------------------- append */

/* Copy `length` bytes of the concatenation of iov from `skip` on. */
static void gather(uint8_t *to, const struct iovec *iov, int iovcnt, size_t skip, uint32_t length)
{
	for (int i = 0; i < iovcnt && length; i++) {
		size_t n = iov[i].iov_len;

		if (skip >= n) {
			skip -= n;
			continue;
		}
		n = n - skip < length ? n - skip : length;
		memcpy(to, (const uint8_t *)iov[i].iov_base + skip, n);
		to += n;
		length -= (uint32_t)n;
		skip = 0;
	}
	assert(!length);
}

/*
 * Build an entry behind the tail. Peers may be reading here, and believe what
 * they read once its checksum holds; the lsn word is stored when the rest is
 * there so that the usual reader does not even compute one in vain.
 */
__attribute__((no_sanitize("thread"))) static void build(struct mu *mu, enum mu_kind kind,
							 uint8_t flags, const struct iovec *iov,
							 int iovcnt, size_t skip, uint32_t length)
{
	struct mu_data *d = &mu->data;
	uint64_t lsn = d->tail.end;
	struct mu_entry_header *entry = mu_ring_at(&mu->ring, lsn);
	uint64_t span = kind == MU_KIND_SKIP ? mu_ring_room(&mu->ring, lsn) : mu_entry_span(length);

	mu_advance_oldest(mu, lsn + span);
	*entry = (struct mu_entry_header){
		.lsn = lsn,
		.ballot = d->ballot,
		.commit_lsn = d->commit.lsn,
		.timestamp_ms = d->timestamp_ms,
		.prev_checksum = d->tail.checksum,
		.prev_lsn = d->tail.lsn,
		.length = length,
		.kind = (uint8_t)kind,
		.flags = flags,
	};
	mu_interruption_point();
	if (kind != MU_KIND_SKIP)
		gather((uint8_t *)(entry + 1), iov, iovcnt, skip, length);
	mu_interruption_point();
	mu_entry_seal(&mu->ring, entry);
	d->tail = (struct mu_position){
		.lsn = lsn,
		.end = lsn + span,
		.checksum = entry->checksum,
		.ballot = d->ballot,
		.timestamp_ms = d->timestamp_ms,
		.kind = (uint8_t)kind,
	};
}

bool mu_append(struct mu *mu, enum mu_kind kind, uint8_t flags, uint64_t timestamp_ms,
	       const struct iovec *iov, int iovcnt, size_t skip, uint32_t length)
{
	struct mu_data *d = &mu->data;
	uint64_t room = mu_ring_room(&mu->ring, d->tail.end);

	/* Both sides of rule 14: no entry's time is before its predecessor's. */
	assert(timestamp_ms >= d->timestamp_ms);
	d->timestamp_ms = timestamp_ms;
	if (mu_entry_span(length) > room)
		build(mu, MU_KIND_SKIP, 0, NULL, 0, 0, 0);
	build(mu, kind, flags, iov, iovcnt, skip, length);
	d->appended = true;
	return mu_permitted(mu);
}

/* The worst case of what an entry takes: itself, and a skip in front. */
static uint64_t worst_span(const struct mu *mu, uint64_t lsn, uint32_t length)
{
	uint64_t span = mu_entry_span(length);
	uint64_t room = mu_ring_room(&mu->ring, lsn);

	return span > room ? span + room : span;
}

bool mu_control_fits(struct mu *mu, uint32_t length)
{
	uint64_t end = mu->data.tail.end;

	if (fits(mu, end + worst_span(mu, end, length)))
		return true;
	relieve(mu);
	return false;
}

bool mu_append_control(struct mu *mu, enum mu_kind kind, const void *payload, uint32_t length)
{
	struct mu_data *d = &mu->data;
	struct iovec iov = {(void *)payload, length};

	if (!mu_control_fits(mu, length))
		return false;
	return mu_append(mu, kind, MU_ENTRY_FIRST | MU_ENTRY_LAST, d->timestamp_ms, &iov, 1, 0,
			 length);
}

/* ---------------------------------------------------------------- count */

/* The majority-th largest of the members' values, `own` included. */
static uint64_t majority_holds(const struct mu *mu, uint64_t own, size_t field)
{
	uint64_t value[MU_MAX_REPLICAS];
	unsigned n = 0, majority = mu_majority_of(mu->data.members);

	if (mu_is_member(mu))
		value[n++] = own;
	MU_EACH_PEER(mu, id) {
		const struct mu_peer *p = &mu->data.peer[id];
		uint64_t v;

		if (p->state != MU_PEER_FOLLOWS || !mu_peer_votes(mu, id))
			continue;
		memcpy(&v, (const char *)p + field, sizeof(v));
		mu_insert(value, n++, v);
	}
	return n < majority ? 0 : value[majority - 1 - MU_MUTANT(minority_commits)];
}

/* What the commit counts by: the log's end that a majority has acknowledged. */
static uint64_t log_held(const struct mu *mu)
{
	return majority_holds(mu, mu->data.tail.end, offsetof(struct mu_peer, acked_end));
}

bool mu_majority_has_log(const struct mu *mu)
{
	return log_held(mu) >= mu->data.tail.end;
}

void mu_store_commit_word(struct mu *mu)
{
	if (mu->header->configuration < mu->data.committed)
		mu_store(&mu->header->configuration, mu->data.committed);
	mu_store(&mu->header->commit, mu->data.commit.lsn);
}

void mu_commit_held(struct mu *mu, uint64_t held)
{
	struct mu_data *d = &mu->data;
	struct mu_position at;

	/* Rule 1: the own copy counts only under the own permission, looked at after the copy. */
	if (held <= d->commit.end || !mu_permitted(mu))
		return;
	while (d->commit.end < d->tail.end) {
		mu_ring_position(&mu->ring, d->commit.end, &at);
		if (at.end > held)
			break;
		mu_commit_to(mu, &at);
	}
	if (!MU_MUTANT(own_word_behind))
		mu_store_commit_word(mu);
}

void mu_count_commit(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	uint64_t held = log_held(mu);
	struct mu_position at;

	/* Only an entry of the own ballot commits, and with it all before it. */
	if (d->state == MU_DATA_ESTABLISH && !MU_MUTANT(old_ballot_commits)) {
		mu_ring_position(&mu->ring, d->first_lsn, &at);
		if (held < at.end)
			return;
	}
	mu_commit_held(mu, held);
}

static void count_fence(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	uint64_t held;

	if (d->fence_done == d->fence_next)
		return;
	held = majority_holds(mu, d->fence_next, offsetof(struct mu_peer, acked_fence));
	if (MU_MUTANT(fence_at_once))
		held = d->fence_next;
	if (held > d->fence_done && mu_permitted(mu))
		d->fence_done = held;
}

/* ------------------------------------------------------------------ step */

/*
 * Rule 2: a restored replica is readmitted by an entry that names its
 * incarnation; committed by a majority without it, for it does not vote yet.
 * Should it have missed the entry (its log was cut again), another follows.
 */
static void readmit(struct mu *mu, unsigned id)
{
	struct mu_data *d = &mu->data;
	struct mu_peer *p = &d->peer[id];
	struct mu_readmission who = {id, p->incarnation};

	if (p->state != MU_PEER_FOLLOWS || mu_peer_remembers(mu, id) ||
	    (!mu_is_peer(mu, id) && !mu_is_joining(mu, id)) ||
	    MU_GET(mu->shared.peer[id].incarnation) != p->incarnation ||
	    p->acked_end < d->commit.end)
		return;
	if (p->readmit_lsn != MU_LSN_NONE && p->readmit_lsn + mu->ring.bytes / 4 > d->tail.lsn &&
	    d->now_ns < p->retry_ns)
		return;
	if (!mu_append_control(mu, MU_KIND_READMIT, &who, sizeof(who)))
		return;
	p->readmit_lsn = d->tail.lsn;
	p->retry_ns = d->now_ns + 100 * mu->config.tick_ns;
}

/* decided: all was when this step began, so that the application has seen it. */
static void drain(struct mu *mu, bool decided)
{
	struct mu_data *d = &mu->data;

	if (!d->draining) {
		uint64_t health = MU_GET(mu->shared.backend);
		/* One that was ahead of the log is about to be sought again. */
		bool serves = health == MU_BACKEND_LEVEL || MU_MUTANT(leads_without_backend) ||
			      (health == MU_BACKEND_UNKNOWN && d->now_ns < d->deadline_ns);

		d->draining = MU_GET(mu->shared.drain_ballot) == d->ballot || !serves;
		if (d->draining)
			d->deadline_ns = d->now_ns + mu->config.takeover_timeout_ns;
	}
	if (d->draining && (decided || d->now_ns >= d->deadline_ns))
		mu_stop_acting(mu);
}

static void publish_confirmed(struct mu *mu)
{
	uint64_t confirmed = 1ULL << mu->config.id, log_only = 0;

	MU_EACH_PEER(mu, id) {
		if (mu->data.peer[id].state != MU_PEER_FOLLOWS)
			continue;
		if (mu_peer_votes(mu, id))
			confirmed |= 1ULL << id;
		if (!mu_peer_holds_space(mu, id))
			log_only |= 1ULL << id;
	}
	MU_SET(mu->shared.confirmed, confirmed);
	MU_SET(mu->shared.log_only, log_only);
}

void mu_leader_step(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	bool decided = d->commit.end == d->tail.end;

	MU_EACH_PEER(mu, id) {
		mu_peer_step(mu, id);
		readmit(mu, id);
	}
	mu_count_commit(mu);
	count_fence(mu);
	/* Rule 8: not at one denial, but when no majority is left. */
	if (!mu_permitted(mu) ||
	    (mu_followers(mu) < mu_majority_of(d->members) && !MU_MUTANT(leads_without_majority))) {
		mu_stop_acting(mu);
		return;
	}
	publish_confirmed(mu);
	mu_membership_step(mu);
	if (mu_handover_step(mu, decided))
		mu_stop_acting(mu);
	else
		drain(mu, decided);
}

/* ------------------------------------------------------------------- API */

uint64_t mu_timestamp(const struct mu *mu, uint64_t wall_ms)
{
	return wall_ms > mu->data.timestamp_ms ? wall_ms : mu->data.timestamp_ms;
}

void mu_post_to_followers(struct mu *mu)
{
	MU_EACH_PEER(mu, id) {
		if (mu->data.peer[id].state == MU_PEER_FOLLOWS)
			mu_peer_pump(mu, id);
	}
}

/* What a proposal of this size takes in the ring at worst. */
static uint64_t proposal_span(const struct mu *mu, size_t bytes)
{
	uint64_t piece = mu->config.max_entry_bytes;
	uint64_t whole = bytes / piece;
	uint64_t spans =
		whole * mu_entry_span((uint32_t)piece) + mu_entry_span((uint32_t)(bytes % piece));

	/* At a wrap, a skip of less than the largest entry. */
	return spans + mu->ring.max_span;
}

enum mu_error mu_propose(struct mu *mu, const struct iovec *iov, int iovcnt, uint64_t timestamp_ms,
			 uint64_t *lsn)
{
	struct mu_data *d = &mu->data;
	size_t bytes = 0, done = 0;

	for (int i = 0; i < iovcnt; i++)
		bytes += iov[i].iov_len;
	if (d->state != MU_DATA_LEADING)
		return MU_ERR_NOT_LEADER;
	if (bytes > mu->config.max_proposal_bytes)
		return MU_ERR_TOO_LARGE;
	if (timestamp_ms < d->timestamp_ms)
		return MU_ERR_INVALID;
	if (d->draining)
		return MU_ERR_FULL;
	if (d->handover == MU_HANDOVER_YIELD) {
		MU_SET(mu->shared.hungry, 1);
		return MU_ERR_FULL;
	}
	if (!fits(mu, d->tail.end + proposal_span(mu, bytes) + reserve_bytes(mu))) {
		relieve(mu);
		return MU_ERR_FULL;
	}
	MU_SET(mu->shared.hungry, 0);
	do {
		uint32_t piece = bytes - done < mu->config.max_entry_bytes
					 ? (uint32_t)(bytes - done)
					 : mu->config.max_entry_bytes;
		uint8_t flags =
			(done ? 0 : MU_ENTRY_FIRST) | (done + piece == bytes ? MU_ENTRY_LAST : 0);

		mu_append(mu, MU_KIND_APPLICATION, flags, timestamp_ms, iov, iovcnt, done, piece);
		done += piece;
	} while (done < bytes);
	*lsn = d->tail.lsn;
	mu_post_to_followers(mu);
	return MU_OK;
}

enum mu_error mu_fence(struct mu *mu, uint64_t *ticket)
{
	struct mu_data *d = &mu->data;

	if (d->state != MU_DATA_LEADING)
		return MU_ERR_NOT_LEADER;
	*ticket = ++d->fence_next;
	MU_EACH_PEER(mu, id)
		mu_peer_post_fence(mu, id);
	return MU_OK;
}

void mu_resign(struct mu *mu)
{
	if (mu->data.state == MU_DATA_LEADING && !mu->data.draining) {
		mu->data.draining = true;
		mu->data.deadline_ns = mu->data.now_ns + mu->config.takeover_timeout_ns;
	}
}
