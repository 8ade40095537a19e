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

#define FIRST_PIECE_BYTES UINT64_C(16384) /* of a tail */
#define MOST_RINGS 4 /* moved for each member: its tail, a copy, a probe, a log */

/* What moves no log counts for as much as would be in vain to repeat a hundred times. */
static uint64_t effort_of(const struct mu *mu, unsigned id, const struct mu_op *op)
{
	switch (op->kind) {
	case MU_OP_LOG:
		return op->arg - mu->data.peer[id].acked_end;
	case MU_OP_TAIL:
	case MU_OP_PROBE:
		return mu_last_part(mu_piece_at(mu, id, op->arg));
	case MU_OP_PART:
		return op->arg;
	case MU_OP_COPY_FENCE:
		return 0; /* behind each piece of a copy, which is not begun with again */
	default:
		return mu->ring.bytes / 64;
	}
}

/*
 * The time-out runs from the last thing that succeeded, for a tail may be long. But
 * what there is to read, copy and write is finite, and so is the effort that may go
 * into it: a peer that is begun with again and again must not keep a takeover alive
 * that gets nowhere, while all others wait for it (campaign.c).
 */
void mu_takeover_progress(struct mu *mu, unsigned id, const struct mu_op *op)
{
	struct mu_data *d = &mu->data;
	uint64_t effort;

	if (d->state == MU_DATA_LEADING)
		return;
	effort = effort_of(mu, id, op);
	if (effort > d->effort_bytes && !MU_MUTANT(endless_takeover))
		return;
	d->effort_bytes -= effort;
	d->deadline_ns = d->now_ns + mu->config.takeover_timeout_ns;
}

static void give_up(struct mu *mu)
{
	mu_stop_acting(mu);
}

/* -------------------------------------------------------------- the tails */

static void read_tail_piece(struct mu *mu, unsigned id, uint64_t lsn)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->tail_read_lsn = lsn;
	if (mu_peer_post_read(mu, id, MU_OP_TAIL, mu_ring_offset(&mu->ring, lsn), p->scratch,
			      mu_piece_at(mu, id, lsn), lsn))
		p->state = MU_PEER_TAIL;
	else
		p->state = MU_PEER_IDLE;
}

uint64_t mu_piece_at(const struct mu *mu, unsigned id, uint64_t lsn)
{
	uint64_t room = mu_ring_room(&mu->ring, lsn);
	uint64_t piece = mu->data.peer[id].piece_bytes;

	return piece < room ? piece : room;
}

bool mu_walk_piece(const struct mu *mu, unsigned id, uint64_t from, uint64_t until,
		   struct mu_position *last, uint64_t *next_lsn)
{
	const uint8_t *piece = mu->data.peer[id].scratch;
	uint64_t len = mu_piece_at(mu, id, from);
	uint64_t lsn = from;
	bool short_of = false;

	while (lsn < from + len && lsn <= until) {
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
	return lsn <= until && (short_of || lsn >= from + len);
}

/* Read more at once from now on; false if there is no room for more. */
static bool grow_piece(struct mu *mu, struct mu_peer *p)
{
	if (p->piece_bytes == mu->scratch_bytes)
		return false;
	p->piece_bytes *= 8;
	if (p->piece_bytes > mu->scratch_bytes)
		p->piece_bytes = mu->scratch_bytes;
	return true;
}

/* Rule 3: an empty tail's ballot and end are those of the last committed entry. */
void mu_takeover_tail_begin(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->tail = (struct mu_position){.lsn = MU_LSN_NONE};
	/* Mostly a few entries: to read as much as the largest takes would be the longest part. */
	p->piece_bytes = mu_piece_bytes;
	if (p->piece_bytes > FIRST_PIECE_BYTES)
		p->piece_bytes = FIRST_PIECE_BYTES;
	if (p->piece_bytes > mu->scratch_bytes)
		p->piece_bytes = mu->scratch_bytes;
	read_tail_piece(mu, id, p->commit);
}

void mu_takeover_tail_read(struct mu *mu, unsigned id, uint64_t lsn)
{
	struct mu_peer *p = &mu->data.peer[id];
	uint64_t next;
	bool more = mu_walk_piece(mu, id, lsn, MU_LSN_NONE, &p->tail, &next);

	if (more && (grow_piece(mu, p) || next > lsn)) {
		read_tail_piece(mu, id, next);
		return;
	}
	if (MU_MUTANT(empty_tail_ranks_zero) && p->tail.lsn == p->commit)
		p->tail.ballot = p->tail.end = 0;
	if (p->tail.lsn != MU_LSN_NONE) {
		mu_peer_post_tail_fence(mu, id);
		return;
	}
	/* Not even its committed entry: what was read was being written. It is not known. */
	p->state = MU_PEER_DENIED;
	p->retry_ns = mu->data.now_ns + mu->config.tick_ns / 4;
}

void mu_takeover_fenced(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (mu->data.state != MU_DATA_TAILS)
		mu_peer_missed_choice(mu, id);
	else if (p->tail.lsn != MU_LSN_NONE)
		p->state = MU_PEER_KNOWN;
	else
		p->state = MU_PEER_IDLE; /* there is another choice after all: what is its tail? */
}

/* ------------------------------------------------------------- the choice */

static bool better(const struct mu_position *a, const struct mu_position *b)
{
	if (MU_MUTANT(adopt_shorter) && a->ballot == b->ballot)
		return a->end < b->end;
	if (MU_MUTANT(length_before_ballot) && a->end != b->end)
		return a->end > b->end;
	return a->ballot != b->ballot ? a->ballot > b->ballot : a->end > b->end;
}

/*
 * Only now, with the chosen tail on a majority, does the log grow: a takeover
 * that fails while it copies leaves nothing behind, however often it is tried.
 */
static void establish(struct mu *mu)
{
	struct mu_data *d = &mu->data;

	if (d->timestamp_ms < d->tail.timestamp_ms && !MU_MUTANT(time_goes_back))
		d->timestamp_ms = d->tail.timestamp_ms;
	d->state = MU_DATA_ESTABLISH;
	if (MU_MUTANT(change_unestablished))
		mu_membership_step(mu);
	if (MU_MUTANT(overwrite_committed) && d->tail.prev_lsn != MU_LSN_NONE)
		mu_ring_entry(&mu->ring, d->tail.prev_lsn, &d->tail);
	if (!mu_append_control(mu, MU_KIND_LEADER, &d->configuration, sizeof(d->configuration))) {
		give_up(mu);
		return;
	}
	d->first_lsn = d->tail.lsn;
	mu_post_to_followers(mu); /* now, not with the next step: that comes a tick later */
}

static void level(struct mu *mu)
{
	struct mu_data *d = &mu->data;

	d->state = MU_DATA_LEVEL;
	d->chosen = d->tail;
	MU_EACH_PEER(mu, id) {
		if (d->peer[id].state == MU_PEER_KNOWN)
			mu_peer_level(mu, id);
	}
}

/*
 * Takeovers that fail at the last moment each leave an entry, and may fill what
 * the ring keeps free for them; then nothing fits, so nothing commits, so
 * nothing is reclaimed. One case needs no entry of the own: when *all* members'
 * logs were read under this ballot, and none is better than the chosen tail T.
 * Nobody can write a log now but under a higher ballot. Whoever is granted one
 * reads a majority, meets in it one that holds T, and nothing better but by the
 * hand of another such, who (by induction) adopted T. So with T on a majority,
 * all later leaders adopt it: it is committed, and can be applied and reclaimed.
 */
static void level_step(struct mu *mu)
{
	struct mu_data *d = &mu->data;

	if (!mu_majority_has_log(mu))
		return;
	if (mu_control_fits(mu, sizeof(mu->data.configuration)))
		establish(mu);
	else if (d->complete)
		mu_commit_held(mu, d->tail.end);
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
 * yet to apply, nor the one that the own commit word names, and must begin where
 * both logs are certainly the same: behind that one.
 */
static void adopt(struct mu *mu, unsigned peer)
{
	struct mu_data *d = &mu->data;
	uint64_t applied = MU_GET(mu->shared.applied_lsn);
	uint64_t needed = d->commit.lsn < applied ? d->commit.lsn : applied;

	d->adoption =
		(struct mu_adoption){.peer = peer, .last = d->peer[peer].tail, .at = d->commit};
	if ((d->adoption.last.end > needed + mu->ring.bytes && !MU_MUTANT(adopt_outrun)) ||
	    d->adoption.last.end <= d->commit.end) {
		give_up(mu);
		return;
	}
	d->peer[peer].piece_bytes = mu->scratch_bytes;
	d->state = MU_DATA_ADOPT;
	read_adoption_piece(mu);
}

/* From where on this peer needs the log, as far as can be told already. */
static uint64_t needed_by(const struct mu *mu, unsigned id)
{
	const struct mu_peer *p = &mu->data.peer[id];
	uint64_t applied = MU_GET(mu->shared.peer[id].applied);

	return mu_peer_holds_space(mu, id) && applied < p->commit ? applied : p->commit;
}

/*
 * Would an own first entry behind `end` find no room, as far as can be told already?
 * Only if no majority of those that are known leaves any: one of them that is far
 * behind is not waited for.
 */
static bool is_cramped(const struct mu *mu, uint64_t end)
{
	const struct mu_data *d = &mu->data;
	uint64_t applied = MU_GET(mu->shared.applied_lsn);
	uint64_t needed = d->commit.lsn < applied ? d->commit.lsn : applied;
	uint64_t others[MU_MAX_REPLICAS];
	unsigned count = 0, enough = mu_majority_of(d->members) - mu_is_member(mu);

	MU_EACH_PEER(mu, id) {
		const struct mu_peer *p = &d->peer[id];

		if (p->state == MU_PEER_KNOWN && p->commit != MU_LSN_NONE && mu_peer_votes(mu, id))
			mu_insert(others, count++, needed_by(mu, id));
	}
	if (MU_MUTANT(all_hold_space))
		enough = count;
	if (enough && enough <= count && others[enough - 1] < needed)
		needed = others[enough - 1];
	return end + 2 * mu_entry_span(sizeof(d->configuration)) > needed + mu->ring.bytes;
}

/* The best tail among the voters that are known, by the id of who has it; 0: not enough are. */
static unsigned best_tail(const struct mu *mu)
{
	const struct mu_data *d = &mu->data;
	const struct mu_position *tail = &d->tail;
	unsigned known = mu_is_member(mu), best = mu->config.id;

	MU_EACH_PEER(mu, id) {
		if (d->peer[id].state != MU_PEER_KNOWN || !mu_peer_votes(mu, id))
			continue;
		known++;
		if (better(&d->peer[id].tail, tail) && !MU_MUTANT(keep_own_tail)) {
			tail = &d->peer[id].tail;
			best = id;
		}
	}
	return known < mu_majority_of(d->members) && !MU_MUTANT(choose_from_few) ? 0 : best;
}

/*
 * Is every member's log known, whether it votes or not, and none better than this tail?
 * Not while it is undecided who the members are.
 */
static bool is_complete(const struct mu *mu, const struct mu_position *tail)
{
	if (mu->data.configuration != mu->data.committed)
		return false;
	MU_EACH_PEER(mu, id) {
		const struct mu_peer *p = &mu->data.peer[id];

		if (mu_is_peer(mu, id) && (p->state != MU_PEER_KNOWN || better(&p->tail, tail)))
			return false;
	}
	return true;
}

static void choose(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	unsigned best = best_tail(mu);
	const struct mu_position *tail;

	if (!best)
		return;
	tail = best == mu->config.id ? &d->tail : &d->peer[best].tail;
	d->complete = is_complete(mu, tail);
	/* See level_step(): it may need to know all, if they come soon. */
	if (!d->complete && is_cramped(mu, tail->end) &&
	    d->now_ns + mu->config.takeover_timeout_ns / 2 < d->deadline_ns)
		return;
	if (best == mu->config.id)
		level(mu);
	else
		adopt(mu, best);
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

/*
 * Rule 13: other members are to be asked than those among whom the tail was chosen.
 * What was read of these still holds, for nobody else can have written them.
 */
static void choose_again(struct mu *mu)
{
	struct mu_data *d = &mu->data;

	d->state = MU_DATA_TAILS;
	MU_EACH_PEER(mu, id) {
		struct mu_peer *p = &d->peer[id];

		if (p->state == MU_PEER_KNOWN && p->tail.lsn == MU_LSN_NONE)
			p->state = MU_PEER_IDLE;
	}
}

static void adopted(struct mu *mu)
{
	struct mu_data *d = &mu->data;

	mu_advance_oldest(mu, d->adoption.last.end);
	d->tail = d->adoption.last;
	d->peer[d->adoption.peer].state = MU_PEER_KNOWN;
	if (mu_take_configuration(mu, &d->tail))
		choose_again(mu);
	else
		level(mu);
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
	more = mu_walk_piece(mu, id, from, MU_LSN_NONE, &a->at, &next);
	if (next == from || !mu_permitted(mu)) {
		give_up(mu);
		return;
	}
	mu_advance_oldest(mu, next);
	/* A skip at the piece's end counts up to the ring's end; so much was read or need not be.
	 */
	mu_ring_store(mu, from, p->scratch,
		      next - from < p->piece_bytes ? next - from : p->piece_bytes);
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
	mu_take_configuration(mu, &d->tail);
	d->whole_lsn = d->commit.lsn;
	/* A tail that reaches round the ring has overwritten what was taken for the oldest. */
	if (!mu_ring_entry(&mu->ring, d->oldest_lsn, &next) ||
	    d->oldest_lsn + mu->ring.bytes < d->tail.end)
		d->oldest_lsn = mu_ring_oldest(&mu->ring, &d->commit, d->origin.base);
	/* Rule 5 holds for the own word too: adopting may overwrite the entry that it names. */
	mu_store_commit_word(mu);
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
	d->effort_bytes = MOST_RINGS * mu->ring.bytes * (uint64_t)__builtin_popcountll(d->members);
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
	if (d->state == MU_DATA_LEVEL)
		level_step(mu);
	if (d->state != MU_DATA_ESTABLISH)
		return;
	mu_count_commit(mu);
	if (d->ballot && d->commit.lsn != MU_LSN_NONE &&
	    (d->commit.lsn >= d->first_lsn || MU_MUTANT(lead_at_once))) {
		d->state = MU_DATA_LEADING;
		d->deadline_ns =
			d->now_ns + mu->config.data_stall_ns; /* for the backend, see drain() */
		MU_SET(mu->shared.led_ballot, d->ballot);
		mu_leader_step(mu);
	}
}
