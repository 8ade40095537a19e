/*
 * takeover.c - the data plane of a candidate that a majority has granted
 * (DESIGN 3.3 steps 3 to 5; Mu section 4.2's prepare phase).
 *
 * Mu prepares slot by slot: read the slot from a majority, adopt the value of
 * the highest proposal number, write it back under the own. Here one whole
 * tail is adopted, with its ballots as they are. Why that is the same
 * agreement:
 *
 * (1) Nobody but the candidate can write the confirmed followers' logs, and a
 *     fence WRITE that succeeded after the reading proves that nobody could
 *     while they were read. So what was read is what a majority holds.
 * (2) An entry that was committed is held by a majority, so by one of these.
 *     It was committed by its own leader (a leader counts only entries up to
 *     one of its own ballot), who had adopted, before its first entry, all that
 *     was committed before. Every log that holds an entry of ballot b holds
 *     what b's leader adopted, for it is only valid behind exactly that
 *     (prev_checksum), and its leader writes each follower in LSN order.
 * (3) Of the tails read, let T have the greatest (ballot of last entry, end).
 *     A tail that holds a committed entry e of ballot b ends in a ballot >= b.
 *     If T ends in ballot b too, both are prefixes of b's leader's log and T is
 *     the longer: it holds e. If T ends in a higher ballot b', then b' took
 *     over from a majority that held e, by induction adopted it, and T, valid
 *     behind what b' adopted, holds it. Hence ballot before length, and hence
 *     a tail ends where the ballot would fall: what lies there is left over
 *     from a longer, older tail, and proves nothing.
 * (4) What T holds beyond is undecided. It is not committed by standing on a
 *     majority with its old ballots (a later candidate may find, on a replica
 *     not asked now, a tail of a ballot in between), but by the candidate's own
 *     first entry standing behind it on a majority: then any later majority
 *     meets a tail that ends in this ballot or a higher one. So nothing is
 *     reported committed before that entry is.
 * (5) Bytes of committed entries are only ever overwritten by the same bytes:
 *     copying starts behind each follower's own commit word and proceeds in
 *     LSN order, so a tear on any number of replicas loses nothing.
 */
#include <string.h>

#include "node.h"

/*
 * The time-out runs from the last thing that succeeded, for a tail may be long.
 * What there is to read, copy and write is finite.
 */
void mu_takeover_progress(struct mu *mu)
{
	if (mu->data.state != MU_DATA_LEADING)
		mu->data.deadline_ns = mu->data.now_ns + mu->config.takeover_timeout_ns;
}

static void give_up(struct mu *mu)
{
	mu_stop_acting(mu);
}

/* -------------------------------------------------------------- the tails */

static void read_tail_piece(struct mu *mu, unsigned id, uint64_t lsn)
{
	struct mu_peer *p = &mu->data.peer[id];
	uint64_t len = mu->scratch_bytes;

	if (len > mu_ring_room(&mu->ring, lsn))
		len = mu_ring_room(&mu->ring, lsn);
	p->tail_read_lsn = lsn;
	if (mu_peer_post_read(mu, id, MU_OP_TAIL, mu_ring_offset(&mu->ring, lsn), p->scratch, len,
			      lsn))
		p->state = MU_PEER_TAIL;
	else
		p->state = MU_PEER_IDLE;
}

/*
 * Walk the entries of a piece of somebody's log that begins at `from`,
 * behind *last (lsn MU_LSN_NONE: the piece's first entry needs no predecessor).
 * Returns true if the piece ran out before the log did; *last is moved.
 */
static bool walk_piece(const struct mu *mu, const uint8_t *piece, uint64_t from,
		       struct mu_position *last, uint64_t *next_lsn)
{
	uint64_t room = mu_ring_room(&mu->ring, from);
	uint64_t len = mu->scratch_bytes < room ? mu->scratch_bytes : room;
	uint64_t lsn = from;
	bool short_of = false;

	while (lsn < from + len) {
		const struct mu_entry_header *e =
			(const struct mu_entry_header *)(piece + (lsn - from));
		struct mu_position at;

		if (!mu_entry_valid(&mu->ring, e, lsn, from + len - lsn, &at, &short_of))
			break;
		if (last->lsn != MU_LSN_NONE && !mu_entry_follows(last, &at))
			break;
		*last = at;
		lsn = at.end;
	}
	*next_lsn = lsn;
	return short_of || lsn >= from + len;
}

/* Rule 3: an empty tail's ballot and end are those of the last committed entry. */
void mu_takeover_tail_begin(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->tail = (struct mu_position){.lsn = MU_LSN_NONE};
	read_tail_piece(mu, id, p->commit);
}

void mu_takeover_tail_read(struct mu *mu, unsigned id, uint64_t lsn)
{
	struct mu_peer *p = &mu->data.peer[id];
	uint64_t next;

	if (walk_piece(mu, p->scratch, lsn, &p->tail, &next) && next > lsn) {
		read_tail_piece(mu, id, next);
		return;
	}
	if (p->tail.lsn == MU_LSN_NONE)
		p->tail =
			(struct mu_position){0}; /* not even its committed entry: believe nothing */
	mu_peer_post_tail_fence(mu, id);
}

void mu_takeover_fenced(struct mu *mu, unsigned id)
{
	if (mu->data.state == MU_DATA_TAILS)
		mu->data.peer[id].state = MU_PEER_KNOWN;
	else
		mu_peer_missed_choice(mu, id);
}

/* ------------------------------------------------------------- the choice */

static bool better(const struct mu_position *a, const struct mu_position *b)
{
	return a->ballot != b->ballot ? a->ballot > b->ballot : a->end > b->end;
}

static void establish(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	const struct mu_membership membership = {d->epoch, d->members};

	d->state = MU_DATA_ESTABLISH;
	d->timestamp_ms =
		d->tail.timestamp_ms > d->timestamp_ms ? d->tail.timestamp_ms : d->timestamp_ms;
	if (!mu_append_control(mu, MU_KIND_LEADER, &membership, sizeof(membership))) {
		give_up(mu);
		return;
	}
	d->first_lsn = d->tail.lsn;
	MU_EACH_PEER(mu, id) {
		if (d->peer[id].state == MU_PEER_KNOWN)
			mu_peer_level(mu, id);
	}
}

static void read_adoption_piece(struct mu *mu)
{
	struct mu_adoption *a = &mu->data.adoption;

	read_tail_piece(mu, a->peer, a->at.end);
	if (mu->data.peer[a->peer].state != MU_PEER_TAIL)
		give_up(mu);
}

/*
 * Copying somebody's tail must not overwrite entries that the own backend has
 * yet to apply, and must begin where both logs are certainly the same: behind
 * the own last committed entry.
 */
static void adopt(struct mu *mu, unsigned peer)
{
	struct mu_data *d = &mu->data;

	d->adoption =
		(struct mu_adoption){.peer = peer, .last = d->peer[peer].tail, .at = d->commit};
	if (d->adoption.last.end > MU_GET(mu->shared.applied_lsn) + mu->ring.bytes ||
	    d->adoption.last.end <= d->commit.end) {
		give_up(mu);
		return;
	}
	d->state = MU_DATA_ADOPT;
	read_adoption_piece(mu);
}

static void choose(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	unsigned known = 1, best = 0;
	const struct mu_position *tail = &d->tail;

	MU_EACH_PEER(mu, id) {
		if (d->peer[id].state != MU_PEER_KNOWN || !mu_peer_votes(mu, id))
			continue;
		known++;
		if (better(&d->peer[id].tail, tail)) {
			tail = &d->peer[id].tail;
			best = id;
		}
	}
	if (known < mu_majority_of(d->members))
		return;
	if (best)
		adopt(mu, best);
	else
		establish(mu);
}

/* ------------------------------------------------------------ the adoption */

/* A piece has been read; before a byte of it is believed, prove that it was stable. */
void mu_adopt_read(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (!mu_peer_post_write(mu, id, MU_OP_COPY_FENCE,
				offsetof(struct mu_replication_header, fence), &p->fence_out,
				sizeof(p->fence_out), 0))
		give_up(mu);
}

static void adopted(struct mu *mu)
{
	struct mu_data *d = &mu->data;

	mu_advance_oldest(mu, d->adoption.last.end);
	d->tail = d->adoption.last;
	d->peer[d->adoption.peer].state = MU_PEER_KNOWN;
	establish(mu);
}

void mu_adopt_fenced(struct mu *mu, unsigned id)
{
	struct mu_data *d = &mu->data;
	struct mu_adoption *a = &d->adoption;
	struct mu_peer *p = &d->peer[id];
	uint64_t from = a->at.end, next;
	bool more;

	if (d->state != MU_DATA_ADOPT || a->peer != id)
		return;
	more = walk_piece(mu, p->scratch, from, &a->at, &next);
	if (next == from || !mu_permitted(mu)) {
		give_up(mu);
		return;
	}
	mu_advance_oldest(mu, next);
	/* A skip at the piece's end counts up to the ring's end; so much was read or need not be.
	 */
	mu_ring_store(mu, from, p->scratch,
		      next - from < mu->scratch_bytes ? next - from : mu->scratch_bytes);
	if (a->at.lsn == a->last.lsn && a->at.checksum == a->last.checksum)
		adopted(mu);
	else if (more && a->at.lsn < a->last.lsn)
		read_adoption_piece(mu);
	else
		give_up(mu); /* not the tail that was chosen */
}

/* --------------------------------------------------------------- the frame */

/* The own log's tail is as stable as a peer's: nobody holds its permission now. */
static void find_own_tail(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	struct mu_position next;

	mu_follow(mu);
	d->tail = d->commit;
	while (mu_ring_next(&mu->ring, &d->tail, &next))
		d->tail = next;
	/* A tail that reaches round the ring has overwritten what was taken for the oldest. */
	if (mu_ring_at(&mu->ring, d->oldest_lsn)->lsn != d->oldest_lsn ||
	    d->oldest_lsn + mu->ring.bytes < d->tail.end)
		d->oldest_lsn = d->commit.lsn;
	/* Rule 5 holds for the own word too: adopting may overwrite the entry that it names. */
	mu_store(&mu->header->commit, d->commit.lsn);
}

void mu_takeover_begin(struct mu *mu, uint64_t ballot)
{
	struct mu_data *d = &mu->data;

	MU_SYNC_SET(mu->shared.acting_ballot, ballot);
	d->ballot = ballot;
	d->attempt++;
	if (!mu_permitted(mu)) {
		mu_stop_acting(mu);
		return;
	}
	find_own_tail(mu);
	if (d->commit.lsn == MU_LSN_NONE) {
		mu_stop_acting(mu);
		return;
	}
	d->state = MU_DATA_TAILS;
	d->deadline_ns = d->now_ns + mu->config.takeover_timeout_ns;
	d->first_lsn = MU_LSN_NONE;
	d->reclaim_lsn = 0;
	d->fence_next = d->fence_done = 0;
	mu_peers_begin(mu);
}

void mu_takeover_step(struct mu *mu)
{
	struct mu_data *d = &mu->data;

	if (d->now_ns >= d->deadline_ns || !mu_permitted(mu)) {
		give_up(mu);
		return;
	}
	MU_EACH_PEER(mu, id)
		mu_peer_step(mu, id);
	if (d->state == MU_DATA_TAILS)
		choose(mu);
	if (d->state == MU_DATA_ADOPT && d->peer[d->adoption.peer].state != MU_PEER_TAIL)
		give_up(mu); /* lost the one that it was copied from */
	if (d->state != MU_DATA_ESTABLISH)
		return;
	mu_count_commit(mu);
	if (d->ballot && d->commit.lsn != MU_LSN_NONE && d->commit.lsn >= d->first_lsn) {
		d->state = MU_DATA_LEADING;
		d->deadline_ns =
			d->now_ns + mu->config.data_stall_ns; /* for the backend, see drain() */
		MU_SET(mu->shared.led_ballot, d->ballot);
		mu_leader_step(mu);
	}
}
