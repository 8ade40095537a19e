/*
 * install.c - a peer whose commit word lies before our oldest entry, or that
 * has no log: does its log reach ours after all, and if not, writing it anew
 * (rules 5 and 6, and the restoring of a lost log).
 */
#include "node.h"

/* --------------------------------------------------------------- the probe */

static void read_probe_piece(struct mu *mu, unsigned id, uint64_t lsn)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (mu_peer_post_read(mu, id, MU_OP_PROBE, mu_ring_offset(&mu->ring, lsn), p->scratch,
			      mu_piece_at(mu, id, lsn), lsn))
		p->state = MU_PEER_PROBE;
	else
		p->state = MU_PEER_IDLE;
}

/*
 * A commit word behind our oldest entry proves little, for it lags: the peer's
 * log may well reach further, and hold what a majority needs it for. So walk
 * it, from that word to our oldest entry. That this entry alone stands there
 * whole would prove nothing either: it may be left over, or the only part that
 * landed of a WRITE of several, with a hole before it.
 */
void mu_probe_begin(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->probe_lsn = mu->data.oldest_lsn;
	p->tail = (struct mu_position){.lsn = MU_LSN_NONE};
	p->piece_bytes = mu->scratch_bytes;
	read_probe_piece(mu, id, p->commit);
}

void mu_probe_read(struct mu *mu, unsigned id, uint64_t lsn)
{
	struct mu_peer *p = &mu->data.peer[id];
	uint64_t next;

	if (mu_walk_piece(mu, id, lsn, p->probe_lsn, &p->tail, &next) && next > lsn)
		read_probe_piece(mu, id, next);
	else
		mu_peer_post_tail_fence(mu, id);
}

/* What was read ends with our oldest entry; a fence behind it succeeded, so it is the peer's log.
 */
bool mu_probe_found(const struct mu *mu, unsigned id)
{
	const struct mu_peer *p = &mu->data.peer[id];
	struct mu_position ours;

	mu_ring_position(&mu->ring, p->probe_lsn, &ours);
	return p->tail.lsn == ours.lsn && p->tail.checksum == ours.checksum;
}

/* ------------------------------------------------------------ writing anew */

/*
 * The peer does not hold our oldest entry, which is committed. So it is none of
 * the majority that does, and every later majority meets one of those, who
 * holds all that was committed up to there: nothing depends on this peer's log.
 * It is declared void first: a log that is half old and half new must not be
 * believed by anybody.
 */
void mu_install_begin(struct mu *mu, unsigned id)
{
	static const uint64_t none = MU_LSN_NONE;
	const uint64_t *word = MU_MUTANT(install_unvoided) ? &mu->data.peer[id].commit : &none;

	mu->data.peer[id].install_seen = MU_LSN_NONE;
	if (!MU_MUTANT(never_install) &&
	    mu_peer_post_write(mu, id, MU_OP_VOID, offsetof(struct mu_replication_header, commit),
			       word, sizeof(*word), 0))
		mu->data.peer[id].state = MU_PEER_VOIDING;
	else
		mu->data.peer[id].state = MU_PEER_IDLE; /* from the start again */
}

/* Is it handed out to the application, so that a backend can stand at it? */
static bool handed_out(const struct mu_entry_header *entry)
{
	if (entry->kind == MU_KIND_APPLICATION)
		return entry->flags & MU_ENTRY_LAST;
	return entry->kind == MU_KIND_LEADER || entry->kind == MU_KIND_GENESIS;
}

/*
 * The last committed entry at which a backend can stand. What is behind it is
 * the core's own and names no state: a log that began there would be one that
 * no backend's state leads up to, for as long as nothing more is proposed.
 */
static uint64_t last_handed_out(const struct mu *mu)
{
	const struct mu_data *d = &mu->data;
	struct mu_position at = d->commit;

	while (!handed_out(mu_ring_at(&mu->ring, at.lsn))) {
		if (at.lsn <= d->oldest_lsn || !mu_ring_entry(&mu->ring, at.prev_lsn, &at))
			return d->commit.lsn;
	}
	return at.lsn;
}

/*
 * Where the new log begins: at what the peer's backend has applied, if we have
 * that entry, so that this backend needs nothing else; at the last committed
 * state if not, for then its own has to come from elsewhere, and what it would
 * apply behind that is not proposed yet.
 */
static uint64_t install_base(struct mu *mu, unsigned id)
{
	const struct mu_data *d = &mu->data;
	uint64_t applied = MU_GET(mu->shared.peer[id].applied);
	struct mu_position at;

	if (applied >= d->oldest_lsn && applied < d->commit.lsn &&
	    mu_ring_entry(&mu->ring, applied, &at) && mu_is_whole_from(mu, applied))
		return applied;
	return last_handed_out(mu);
}

void mu_install_voided(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->state = MU_PEER_INSTALL;
	p->base = install_base(mu, id);
	p->origin_out = mu->data.origin;
	p->origin_out.base = p->base;
	p->posted_end = p->acked_end = p->base;
	/* A fixed aim: what is proposed meanwhile follows when the new log stands. */
	p->install_commit = mu->data.commit.lsn;
	p->install_end = mu->data.commit.end;
	mu->data.reclaim_lsn = 0;
	mu_peer_pump(mu, id);
}

/* The new log stands: name its beginning, then its last committed entry. */
static void write_base(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (p->ops_head != p->ops_tail)
		return;
	p->commit_out = p->install_commit;
	if (mu_peer_tell_configuration(mu, id) &&
	    mu_peer_post_write(mu, id, MU_OP_BASE, offsetof(struct mu_replication_header, origin),
			       &p->origin_out, sizeof(p->origin_out), 0) &&
	    mu_peer_post_write(mu, id, MU_OP_COMMIT, offsetof(struct mu_replication_header, commit),
			       &p->commit_out, sizeof(p->commit_out), p->commit_out))
		p->state = MU_PEER_BASE;
}

void mu_install_step(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	mu_peer_pump(mu, id);
	if (p->acked_end >= p->install_end)
		write_base(mu, id);
}
