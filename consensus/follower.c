/*
 * follower.c - the log as its readers see it: what of the own log is known to
 * be committed, and handing it out in order (DESIGN 3.1, 3.2, rule 14; Mu
 * section 4.2: followers learn from the leader's next entry).
 */
#include <stdlib.h>
#include <string.h>

#include "node.h"

enum {
	WALK_LIMIT = 1024,          /* entries a step, so that a step stays short */
	WALK_AHEAD_BYTES = 1 << 18, /* of tail; the commit word never lags by so much for long */
};

/* ---------------------------------------------------------------- commit */

void mu_commit_to(struct mu *mu, const struct mu_position *to)
{
	struct mu_data *d = &mu->data;
	const struct mu_entry_header *entry = mu_ring_at(&mu->ring, to->lsn);

	d->commit = *to;
	if (d->timestamp_ms < to->timestamp_ms)
		d->timestamp_ms = to->timestamp_ms;
	if (entry->kind == MU_KIND_READMIT) {
		struct mu_readmission who;

		memcpy(&who, entry + 1, sizeof(who));
		if (who.id == mu->config.id &&
		    (who.incarnation == mu->header->incarnation || MU_MUTANT(readmit_any_memory)))
			MU_SET(mu->shared.readmit_ballot, to->ballot);
	}
	mu_set_committed(mu, mu_ring_configuration(&mu->ring, to));
}

/* After the commit word: what it names was written behind this, or behind one before it. */
static uint64_t load_configuration(const struct mu *mu)
{
	uint64_t word = __atomic_load_n(&mu->header->configuration, __ATOMIC_ACQUIRE);

	if (mu_configuration_epoch(word)) /* as a rule it never changes */
		mu_interruption_point();
	return word;
}

/* The log begins anew: it was installed, or started cold, or is seen for the first time. */
static bool place(struct mu *mu, const struct mu_origin *origin, uint64_t commit)
{
	struct mu_data *d = &mu->data;
	struct mu_position at;

	/* From its first entry on if that is still there, so that no control entry is missed. */
	if (!mu_ring_entry(&mu->ring, origin->base, &at) && !mu_ring_entry(&mu->ring, commit, &at))
		return false;
	d->origin = *origin;
	d->oldest.lsn = MU_LSN_NONE;
	d->oldest_lsn = mu_ring_oldest(&mu->ring, &at, origin->base);
	d->committed = load_configuration(mu);
	mu_commit_to(mu, &at);
	return true;
}

/*
 * Walk the tail behind the commit position, each time anew: nothing parsed
 * there is kept (rule 14), for another leader may rewrite it. An entry that is
 * valid there says truly what was committed when it was written.
 */
static bool walk(struct mu *mu, uint64_t *target)
{
	struct mu_data *d = &mu->data;
	struct mu_position at = d->commit, next;
	uint64_t latest = d->committed;
	bool moved = false;

	for (int i = 0; i < WALK_LIMIT && mu_ring_next(&mu->ring, &at, &next); i++) {
		if (next.commit_lsn > *target)
			*target = next.commit_lsn;
		if ((next.lsn <= *target || MU_MUTANT(follower_commits_tail)) &&
		    at.lsn == d->commit.lsn) {
			mu_commit_to(mu, &next);
			moved = true;
		} else {
			uint64_t stated = mu_ring_configuration(&mu->ring, &next);

			if (stated > latest)
				latest = stated;
		}
		at = next;
		if (at.end > *target + WALK_AHEAD_BYTES)
			break;
	}
	d->reach_lsn = at.lsn;
	mu_set_configuration(mu, latest > d->committed ? latest : d->committed);
	return moved;
}

/*
 * The entry behind d->oldest, of which only the header is looked at. It names its
 * predecessor's checksum, which nobody knows who does not know the group's key: so
 * it is the header that stood there when that predecessor's was found to be
 * genuine, whatever has been written since into payloads of clients' bytes.
 */
static bool is_oldests_successor(const struct mu *mu, struct mu_position *next)
{
	const struct mu_position *oldest = &mu->data.oldest;

	return mu_ring_header(&mu->ring, oldest->end, next) && mu_entry_follows(oldest, next);
}

/*
 * Half a ring is kept behind the commit position: no writer comes that near unannounced.
 *
 * Every entry in between was whole when it was committed. None but the first is
 * looked at as the oldest one moves on, and its payload has long left the caches:
 * to read it again for its checksum would cost more than all else about it, and
 * would tell nothing of those that follow. Who relies on payloads so old looks at
 * them himself, when nobody can write any more: find_own_tail() at the oldest,
 * mu_is_whole_from() at all that a peer is to be given, and a peer that reads them
 * at what it has read. What has to be noticed here is that the ring was written
 * over, for then there is no such entry any more; and the header tells that.
 */
static void advance_oldest(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	struct mu_position next;

	while (d->oldest_lsn + mu->ring.bytes / 2 < d->commit.lsn) {
		if ((d->oldest.lsn != d->oldest_lsn &&
		     !mu_ring_entry(&mu->ring, d->oldest_lsn, &d->oldest)) ||
		    !is_oldests_successor(mu, &next)) {
			d->oldest.lsn = MU_LSN_NONE;
			d->oldest_lsn = mu_ring_oldest(&mu->ring, &d->commit, d->origin.base);
			return;
		}
		d->oldest = next;
		d->oldest_lsn = next.lsn;
	}
}

void mu_follow(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	uint64_t target = mu_load(&mu->header->commit);
	struct mu_origin origin = mu_load_origin(mu);
	struct mu_position at;
	uint64_t named, seen;

	if (target == MU_LSN_NONE) {
		d->commit.lsn = MU_LSN_NONE;
		return;
	}
	if (d->commit.lsn == MU_LSN_NONE || !mu_same_origin(&origin, &d->origin) ||
	    MU_GET(mu->shared.cold_starts) != d->cold_starts) {
		d->cold_starts = MU_GET(mu->shared.cold_starts);
		if (!place(mu, &origin, target))
			return;
	}
	mu_set_committed(mu, load_configuration(mu));
	named = target;
	/* What rides in an entry is learnt when those before it have been passed: look again. */
	do {
		seen = target;
	} while (walk(mu, &target) || target > seen);
	/*
	 * The commit word names an entry that the walk does not reach: ring space
	 * behind the commit position was used again (while asleep, and only with a
	 * backend that the writer took for stale). What looks like the end of the
	 * log here is none, and must not be campaigned with.
	 */
	if (d->commit.lsn < named && !MU_MUTANT(overrun_unseen) &&
	    mu_ring_entry(&mu->ring, named, &at)) {
		d->oldest_lsn = mu_ring_oldest(&mu->ring, &at, origin.base);
		mu_commit_to(mu, &at);
	}
	advance_oldest(mu);
}

/* ---------------------------------------------------------------- reader */

/*
 * Is that entry of that era one of this log? An LSN alone proves nothing: the log
 * of another era may have another entry there. A cold start begins with a state
 * of the era before, at the genesis, and there alone the two are the same.
 */
static enum mu_error find(const struct mu *mu, uint64_t era, uint64_t lsn, struct mu_position *at)
{
	const struct mu_data *d = &mu->data;
	bool own = era == d->origin.era;
	bool genesis = era == d->origin.parent;

	if (d->commit.lsn == MU_LSN_NONE)
		return MU_ERR_FULL;
	if ((!own && !genesis && !MU_MUTANT(seek_any_era)) || lsn < d->origin.base)
		return MU_ERR_STALE;
	if (own && lsn > d->commit.lsn && !MU_MUTANT(seek_beyond_commit))
		return MU_ERR_FULL;
	if (!mu_ring_entry(&mu->ring, lsn, at) ||
	    (!own && mu_ring_at(&mu->ring, lsn)->kind != MU_KIND_GENESIS &&
	     !MU_MUTANT(seek_any_era)))
		return MU_ERR_STALE;
	return MU_OK;
}

enum mu_error mu_holds(const struct mu *mu, uint64_t era, uint64_t applied_lsn)
{
	struct mu_position at;

	return find(mu, era, applied_lsn, &at);
}

/* The background plane takes both or none. */
static void name_applied(struct mu *mu, uint64_t era, uint64_t lsn)
{
	struct mu_shared *s = &mu->shared;

	MU_SYNC_SET(s->applied_stamp, (MU_SYNC_GET(s->applied_stamp) + 1) | 1);
	MU_SYNC_SET(s->applied_era, era);
	MU_SYNC_SET(s->applied_lsn, lsn);
	MU_SYNC_SET(s->applied_stamp, MU_SYNC_GET(s->applied_stamp) + 1);
}

bool mu_backend_named(const struct mu *mu, uint64_t *era, uint64_t *applied)
{
	uint64_t stamp = MU_SYNC_GET(mu->shared.applied_stamp);

	*era = MU_SYNC_GET(mu->shared.applied_era);
	*applied = MU_SYNC_GET(mu->shared.applied_lsn);
	return stamp && stamp % 2 == 0 && MU_SYNC_GET(mu->shared.applied_stamp) == stamp;
}

enum mu_error mu_seek(struct mu *mu, uint64_t era, uint64_t applied_lsn)
{
	struct mu_data *d = &mu->data;
	struct mu_reader *r = &d->reader;
	struct mu_position at;
	enum mu_error error;

	r->placed = false;
	name_applied(mu, era, applied_lsn);
	if (d->state == MU_DATA_PASSIVE)
		mu_follow(mu);
	error = find(mu, era, applied_lsn, &at);
	r->stale = error == MU_ERR_STALE;
	if (error)
		return error;
	if (era != d->origin.era)
		name_applied(mu, d->origin.era, applied_lsn);
	r->at = at;
	r->origin = d->origin;
	r->cold_starts = d->cold_starts;
	r->handed_lsn = applied_lsn;
	r->gathering = false;
	r->placed = true;
	d->reclaim_lsn = 0;
	return MU_OK;
}

bool mu_stale(const struct mu *mu)
{
	return mu->data.reader.stale;
}

static bool reserve(struct mu_reader *r, size_t bytes)
{
	size_t grown = r->buffer_bytes ? r->buffer_bytes : 4096;
	uint8_t *buffer;

	while (grown < bytes)
		grown *= 2;
	if (grown == r->buffer_bytes)
		return true;
	buffer = realloc(r->buffer, grown);
	if (!buffer)
		return false;
	r->buffer = buffer;
	r->buffer_bytes = grown;
	return true;
}

/* An entry that the reader has come to. */
struct reading {
	struct mu_entry_header head;
	struct mu_position at;
	const void *in_place; /* its payload, in the ring; NULL: in the reader's buffer */
};

/*
 * Copy a committed entry's payload out of the ring. Another replica may be
 * declaring this log void and writing it anew at this very moment, so the
 * entry is validated after the copy: a committed entry's bytes never change
 * but by being overwritten with later ones, so if it is whole now, it was.
 */
__attribute__((no_sanitize("thread"))) static bool copy_entry(struct mu *mu, struct reading *it)
{
	struct mu_reader *r = &mu->data.reader;
	const struct mu_entry_header *entry = mu_ring_at(&mu->ring, r->at.end);
	struct mu_entry_header *head = &it->head;

	memcpy(head, entry, sizeof(*head));
	if (head->lsn != r->at.end || head->length > mu->config.max_entry_bytes ||
	    mu_entry_span(head->length) > mu_ring_room(&mu->ring, head->lsn))
		return false;
	/* Behind what is gathered, even if a new proposal begins: it is not validated yet. */
	if (head->kind == MU_KIND_APPLICATION) {
		if (!reserve(r, r->gathered + head->length))
			return false; /* out of memory: the entry waits */
		memcpy(r->buffer + r->gathered, entry + 1, head->length);
	}
	it->in_place = NULL;
	atomic_thread_fence(memory_order_acquire);
	return mu_ring_next(&mu->ring, &r->at, &it->at) && it->at.checksum == head->checksum;
}

/*
 * Does nobody but this plane write the own log, and was the entry at lsn looked at
 * since that is so? A leader's log is its own: nobody else is granted it before
 * this plane has stopped acting (rule 1), and when it began to act, nobody's
 * writes could land any more (3.3, step 2). What is there from whole_lsn on it has
 * then validated, adopted or written itself.
 */
static bool is_stable(const struct mu *mu, uint64_t lsn)
{
	return (mu->data.state == MU_DATA_LEADING && lsn >= mu->data.whole_lsn) ||
	       MU_MUTANT(read_unlooked);
}

/*
 * One that comes alone need not even be copied: it is where it is until the own
 * backend has applied it, and until the next step, at which this plane may stop.
 */
static bool read_in_place(struct mu *mu, struct reading *it)
{
	struct mu_reader *r = &mu->data.reader;
	const struct mu_entry_header *entry = mu_ring_at(&mu->ring, r->at.end);
	const uint8_t whole = MU_ENTRY_FIRST | MU_ENTRY_LAST;

	if (!is_stable(mu, r->at.end) || r->gathering ||
	    (entry->kind == MU_KIND_APPLICATION && (entry->flags & whole) != whole))
		return false;
	if (!mu_ring_header(&mu->ring, r->at.end, &it->at) || !mu_entry_follows(&r->at, &it->at))
		return false;
	it->head = *entry;
	it->in_place = entry + 1;
	return true;
}

/* The application's part of an entry that was read; false if there is none to hand out. */
static bool hand_out(struct mu *mu, const struct reading *it, struct mu_entry *entry)
{
	struct mu_reader *r = &mu->data.reader;
	const struct mu_entry_header *head = &it->head;

	if (head->kind == MU_KIND_SKIP)
		return false; /* may stand between fragments */
	if (head->kind == MU_KIND_APPLICATION) {
		/* Fragments interrupted by another ballot are void (rule 14). */
		bool goes_on = r->gathering &&
			       (r->gather_ballot == head->ballot || MU_MUTANT(join_fragments));

		if (!(head->flags & MU_ENTRY_FIRST) && !goes_on)
			return false;
		r->gathering = !(head->flags & MU_ENTRY_LAST);
		r->gather_ballot = head->ballot;
		if ((head->flags & MU_ENTRY_FIRST) && !(MU_MUTANT(join_fragments) && goes_on)) {
			if (r->gathered)
				memmove(r->buffer, r->buffer + r->gathered, head->length);
			r->gathered = 0;
		}
		r->gathered += head->length;
		if (r->gathering)
			return false;
	} else {
		if (head->ballot != r->gather_ballot && !MU_MUTANT(join_fragments))
			r->gathering = false;
		if (head->kind != MU_KIND_LEADER)
			return false;
		r->gathering = r->gathering && MU_MUTANT(join_fragments);
	}
	r->handed_lsn = head->lsn;
	*entry = (struct mu_entry){
		.lsn = head->lsn,
		.ballot = head->ballot,
		.timestamp_ms = head->timestamp_ms,
		.kind = head->kind == MU_KIND_LEADER ? MU_ENTRY_LEADER : MU_ENTRY_APPLICATION,
		.payload = it->in_place ? it->in_place : r->buffer,
		.payload_bytes = head->kind == MU_KIND_LEADER ? 0 : r->gathered,
	};
	return true;
}

/*
 * A committed entry that cannot be read: overwritten with later ones, unless
 * the log is being written anew, or was since the last step: then find_again()
 * will tell.
 */
static bool was_cut(const struct mu *mu)
{
	struct mu_origin origin = mu_load_origin(mu);
	struct mu_position next;

	return mu_load(&mu->header->commit) != MU_LSN_NONE &&
	       mu_same_origin(&origin, &mu->data.origin) &&
	       !mu_ring_next(&mu->ring, &mu->data.reader.at, &next);
}

/*
 * The log was written anew since the reader's last look: it goes on only if its
 * position is an entry of that log too. What the old log left behind may still
 * look like a successor of that position, and was perhaps never committed.
 */
static void find_again(struct mu *mu)
{
	struct mu_reader *r = &mu->data.reader;
	struct mu_position at;

	r->cold_starts = mu->data.cold_starts;
	if (r->at.lsn < mu->data.origin.base || !mu_ring_entry(&mu->ring, r->at.lsn, &at) ||
	    at.checksum != r->at.checksum)
		r->stale = !MU_MUTANT(read_leftovers);
	r->origin = mu->data.origin;
}

bool mu_next(struct mu *mu, struct mu_entry *entry)
{
	struct mu_reader *r = &mu->data.reader;

	if (r->placed && mu->data.commit.lsn != MU_LSN_NONE &&
	    (!mu_same_origin(&r->origin, &mu->data.origin) ||
	     r->cold_starts != mu->data.cold_starts))
		find_again(mu);
	while (r->placed && !r->stale && mu->data.commit.lsn != MU_LSN_NONE &&
	       r->at.lsn < mu->data.commit.lsn) {
		struct reading it;

		if (!r->gathering)
			r->gathered = 0;
		if (!read_in_place(mu, &it) && !copy_entry(mu, &it)) {
			r->stale = was_cut(mu);
			return false;
		}
		r->at = it.at;
		if (hand_out(mu, &it, entry))
			return true;
	}
	return false;
}

void mu_applied(struct mu *mu, uint64_t lsn)
{
	assert(lsn <= mu->data.reader.at.lsn);
	if (lsn > MU_GET(mu->shared.applied_lsn))
		MU_SET(mu->shared.applied_lsn, lsn);
}

void mu_set_backend(struct mu *mu, enum mu_backend_health health)
{
	MU_SET(mu->shared.backend, (uint64_t)health);
}
