/*
 * peer_sync.c - one peer's way from a granted permission to a follower that
 * counts, and what is written to it (DESIGN 3.3 step 4, 3.4, rules 5 and 6).
 *
 * Operations of one connection complete in order (F1), so each peer has a FIFO
 * of what its completions mean. After an error the way begins anew.
 */
#include "node.h"

static bool window_full(const struct mu_peer *p)
{
	return p->ops_tail - p->ops_head >= MU_PEER_OPS;
}

static void push_op(struct mu *mu, struct mu_peer *p, enum mu_op_kind kind, uint64_t arg)
{
	p->ops[p->ops_tail++ % MU_PEER_OPS] =
		(struct mu_op){.kind = (uint8_t)kind, .attempt = mu->data.attempt, .arg = arg};
}

size_t mu_last_part(size_t len)
{
	return len - (len - 1) / mu_part_bytes * mu_part_bytes;
}

/*
 * A takeover reads what the largest entry takes, and gives up when nothing succeeds
 * for a while: on a slow link each part is in time where all of it never would be.
 */
static bool post_part(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];
	struct mu_reading *r = &p->reading;
	bool is_last = r->left <= mu_part_bytes;
	size_t part = is_last ? r->left : mu_part_bytes;

	if (window_full(p))
		return false;
	if (mu->fabric->ops->post_read(mu->fabric, MU_PLANE_DATA, id, MU_REGION_REPLICATION,
				       r->offset, r->to, part, 0)) {
		p->refused = true;
		return false;
	}
	push_op(mu, p, is_last ? r->kind : MU_OP_PART, is_last ? r->arg : part);
	r->offset += part;
	r->to += part;
	r->left -= part;
	return true;
}

bool mu_peer_post_read(struct mu *mu, unsigned id, enum mu_op_kind kind, uint64_t offset, void *dst,
		       size_t len, uint64_t arg)
{
	mu->data.peer[id].reading = (struct mu_reading){
		.kind = kind, .offset = offset, .arg = arg, .to = dst, .left = len};
	return post_part(mu, id);
}

bool mu_peer_post_write(struct mu *mu, unsigned id, enum mu_op_kind kind, uint64_t offset,
			const void *src, size_t len, uint64_t arg)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (window_full(p))
		return false;
	if (mu->fabric->ops->post_write(mu->fabric, MU_PLANE_DATA, id, MU_REGION_REPLICATION,
					offset, src, len, mu->data.ballot, 0)) {
		p->refused = true;
		return false;
	}
	push_op(mu, p, kind, arg);
	return true;
}

void mu_peers_begin(struct mu *mu)
{
	MU_EACH_OTHER(mu, id) {
		struct mu_peer *p = &mu->data.peer[id];

		p->state = MU_PEER_IDLE;
		p->retry_ns = 0;
		p->written_off = false;
		p->readmit_lsn = MU_LSN_NONE;
		p->fence_out = mu->data.ballot;
	}
}

/* ----------------------------------------------------------- on the way */

static void begin_header(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->posted_end = p->acked_end = 0;
	p->posted_fence = p->acked_fence = 0;
	p->posted_commit = p->acked_commit = 0;
	p->later_commit = p->later_end = 0;
	p->probe_lsn = MU_LSN_NONE;
	p->tail.lsn = MU_LSN_NONE;
	p->incarnation = 0;
	if (mu_peer_post_read(mu, id, MU_OP_HEADER, 0, &p->header_in, sizeof(p->header_in), 0))
		p->state = MU_PEER_HEADER;
}

/* The connection comes before the grant: some fabrics cannot grant without it. */
static void try_connect(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];
	struct mu_fabric *f = mu->fabric;

	if (mu->data.now_ns < p->retry_ns || p->ops_head != p->ops_tail)
		return;
	if (f->ops->state(f, MU_PLANE_DATA, id) == MU_CONNECTION_DOWN) {
		f->ops->connect(f, MU_PLANE_DATA, id);
		p->retry_ns = mu->data.now_ns + mu->config.tick_ns / 4;
	}
	if (f->ops->state(f, MU_PLANE_DATA, id) != MU_CONNECTION_UP)
		return;
	if (MU_GET(mu->shared.peer[id].grant) == mu->data.ballot)
		begin_header(mu, id);
}

static void follows_from(struct mu *mu, unsigned id, uint64_t end)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->state = MU_PEER_FOLLOWS;
	p->posted_end = p->acked_end = end;
	p->posted_commit = p->acked_commit = p->commit;
	mu->data.reclaim_lsn = 0;
}

/*
 * The commit word of a peer whose log reaches further must follow, before
 * anything is written that may use the space of the entry that it names still
 * (rule 5); the connection keeps the order. And its backend goes no further
 * than that word, should it be what the peer lags behind with.
 */
static bool name_committed(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->commit_out = p->commit;
	return mu_peer_tell_configuration(mu, id) &&
	       mu_peer_post_write(mu, id, MU_OP_COMMIT,
				  offsetof(struct mu_replication_header, commit), &p->commit_out,
				  sizeof(p->commit_out), p->commit_out);
}

bool mu_peer_tell_configuration(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (p->posted_configuration >= mu->data.committed || MU_MUTANT(configuration_untold))
		return true;
	if (p->posted_configuration != p->acked_configuration)
		return false; /* its source must stay as it is */
	p->configuration_out = mu->data.committed;
	if (!mu_peer_post_write(mu, id, MU_OP_CONFIGURATION,
				offsetof(struct mu_replication_header, configuration),
				&p->configuration_out, sizeof(p->configuration_out),
				p->configuration_out))
		return false;
	p->posted_configuration = p->configuration_out;
	return true;
}

/*
 * Its tail, as read and fenced, is the chosen one: so is all that lies before,
 * and that reaches our oldest entry unless ring space was used again since.
 */
static bool has_chosen_tail(const struct mu *mu, unsigned id)
{
	const struct mu_position *tail = &mu->data.peer[id].tail;
	const struct mu_position *chosen = &mu->data.chosen;

	return tail->lsn == chosen->lsn && tail->checksum == chosen->checksum &&
	       chosen->lsn >= mu->data.oldest_lsn;
}

/*
 * Does the peer's log reach our oldest entry? False if that is being found out,
 * or cannot be helped but by writing it anew.
 */
static bool reaches_oldest(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (p->commit == MU_LSN_NONE ||
	    (MU_MUTANT(void_unprobed) && p->commit < mu->data.oldest_lsn)) {
		mu_install_begin(mu, id);
		return false;
	}
	if (p->commit >= mu->data.oldest_lsn)
		return true;
	if (!has_chosen_tail(mu, id)) {
		if (p->probe_lsn != mu->data.oldest_lsn) {
			mu_probe_begin(mu, id);
			return false;
		}
		if (!mu_probe_found(mu, id)) {
			mu_install_begin(mu, id);
			return false;
		}
	}
	p->commit = mu->data.oldest_lsn; /* it holds it, and it is committed */
	return true;
}

void mu_peer_level(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];
	struct mu_position at;

	if (!reaches_oldest(mu, id))
		return;
	/* Its commit word can name no entry that we do not hold: ours was adopted from a majority.
	 */
	if (p->commit > mu->data.tail.lsn || mu_ring_at(&mu->ring, p->commit)->lsn != p->commit) {
		p->state = MU_PEER_DENIED;
		p->retry_ns = mu->data.now_ns + mu->config.tick_ns;
		return;
	}
	if (!mu_is_whole_from(mu, p->commit) ||
	    (p->commit != p->header_in.commit && !MU_MUTANT(probed_unnamed) &&
	     !name_committed(mu, id))) {
		p->state = MU_PEER_IDLE; /* from the start again */
		return;
	}
	if (mu_peer_had_better_lag(mu, id)) {
		p->state = MU_PEER_LAGGING;
		return;
	}
	mu_ring_position(&mu->ring, p->commit, &at);
	if (MU_MUTANT(leave_gap))
		at.end = mu->data.tail.lsn;
	follows_from(mu, id, has_chosen_tail(mu, id) ? mu->data.chosen.end : at.end);
	p->acked_commit = p->header_in.commit;
	mu_peer_pump(mu, id);
}

static void header_read(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->commit = p->header_in.commit;
	p->base = p->header_in.origin.base;
	p->incarnation = p->header_in.incarnation;
	p->posted_configuration = p->acked_configuration = p->header_in.configuration;
	switch (mu->data.state) {
	case MU_DATA_TAILS:
		if (p->commit == MU_LSN_NONE) {
			p->tail = (struct mu_position){0}; /* a void log ranks below any */
			mu_peer_post_tail_fence(mu, id);
		} else {
			mu_takeover_tail_begin(mu, id);
		}
		break;
	case MU_DATA_ADOPT:
	case MU_DATA_LEVEL:
	case MU_DATA_ESTABLISH:
	case MU_DATA_LEADING:
		if (MU_MUTANT(late_join_unfenced))
			mu_peer_missed_choice(mu, id);
		else
			mu_peer_post_tail_fence(mu, id);
		break;
	case MU_DATA_PASSIVE:
		break;
	}
}

/*
 * Its tail came too late to be chosen from. Its commit word is believed only
 * because a fence behind the reading succeeded: read without permission, it
 * may name another leader's entry where ours has an uncommitted one.
 */
void mu_peer_missed_choice(struct mu *mu, unsigned id)
{
	if (mu->data.state == MU_DATA_ADOPT)
		mu->data.peer[id].state = MU_PEER_KNOWN;
	else
		mu_peer_level(mu, id);
}

void mu_peer_post_fence(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (p->state == MU_PEER_FOLLOWS && p->posted_fence < mu->data.fence_next &&
	    mu_peer_post_write(mu, id, MU_OP_FENCE, offsetof(struct mu_replication_header, fence),
			       &p->fence_out, sizeof(p->fence_out), mu->data.fence_next))
		p->posted_fence = mu->data.fence_next;
}

void mu_peer_post_tail_fence(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (mu_peer_post_write(mu, id, MU_OP_FENCE, offsetof(struct mu_replication_header, fence),
			       &p->fence_out, sizeof(p->fence_out), 0))
		p->state = MU_PEER_FENCE;
	else
		p->state = MU_PEER_IDLE;
}

/* The last committed entry that the peer has acknowledged: it is written to no further yet. */
static void name_reached(struct mu *mu, struct mu_peer *p)
{
	struct mu_position at, next;

	if (p->acked_commit < mu->data.oldest_lsn)
		return;
	mu_ring_position(&mu->ring, p->acked_commit, &at);
	while (at.lsn < mu->data.commit.lsn) {
		mu_ring_position(&mu->ring, at.end, &next);
		if (next.end > p->acked_end)
			break;
		at = next;
	}
	p->later_commit = at.lsn;
	p->later_end = at.end;
}

/*
 * Rule 5: the commit word lags behind the commit LSN that rides in entries, so
 * it is written when the leader falls idle, when a reader of tails would
 * have much to read, and before ring space runs out for want of it. Never
 * above what this peer acknowledged.
 */
static void write_commit_word(struct mu *mu, unsigned id)
{
	struct mu_data *d = &mu->data;
	struct mu_peer *p = &d->peer[id];
	uint64_t behind = d->commit.lsn - p->posted_commit;
	uint64_t much = mu->ring.bytes / 16 < 65536 ? mu->ring.bytes / 16 : 65536;

	if (d->commit.lsn <= p->posted_commit || p->posted_commit != p->acked_commit)
		return;
	if ((d->appended || d->commit.end != d->tail.end) && behind < much)
		return;
	/* One that is slower than the majority is told of what was committed a while ago. */
	if (p->later_commit <= p->posted_commit || p->acked_end >= d->commit.end) {
		p->later_commit = d->commit.lsn;
		p->later_end = d->commit.end;
	}
	if (p->acked_end < p->later_end && mu_peer_is_limited(mu, id))
		name_reached(mu, p);
	if ((p->acked_end < p->later_end && !MU_MUTANT(commit_word_ahead)) ||
	    p->later_commit <= p->posted_commit || !mu_peer_tell_configuration(mu, id))
		return;
	p->commit_out = p->later_commit;
	if (mu_peer_post_write(mu, id, MU_OP_COMMIT, offsetof(struct mu_replication_header, commit),
			       &p->commit_out, sizeof(p->commit_out), p->commit_out))
		p->posted_commit = p->commit_out;
}

void mu_peer_pump(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];
	uint64_t end = mu->data.tail.end;
	uint64_t limit = mu_peer_limit(mu, id);

	if (p->state == MU_PEER_INSTALL)
		end = p->install_end;
	else if (end > limit)
		end = limit;
	while (p->posted_end < end && p->posted_end - p->acked_end < mu_window_bytes) {
		uint64_t len = end - p->posted_end;
		uint64_t room = mu_ring_room(&mu->ring, p->posted_end);

		if (len > room)
			len = room;
		if (len > mu_piece_bytes)
			len = mu_piece_bytes;
		if (!mu_peer_post_write(mu, id, MU_OP_LOG, mu_ring_offset(&mu->ring, p->posted_end),
					mu_ring_at(&mu->ring, p->posted_end), len,
					p->posted_end + len))
			return;
		p->posted_end += len;
	}
}

static void failed(struct mu *mu, unsigned id, enum mu_fabric_status status)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (p->state == MU_PEER_IDLE || p->state == MU_PEER_DENIED || p->state == MU_PEER_LAGGING ||
	    MU_MUTANT(keep_failed_follower))
		return; /* flushed behind the operation that failed, or by who dropped it */
	/*
	 * Denied: somebody else may have been granted. The background plane
	 * finds out; until then the old answer must not be tried in a loop.
	 */
	p->state = status == MU_FABRIC_DENIED ? MU_PEER_DENIED : MU_PEER_IDLE;
	p->retry_ns = mu->data.now_ns + (status == MU_FABRIC_DENIED ? 4 * mu->config.tick_ns
								    : mu->config.tick_ns / 4);
	mu->data.reclaim_lsn = 0;
}

/* A connection may be lost while nothing was outstanding: no completion will tell. */
static void look_at_connection(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];
	struct mu_fabric *f = mu->fabric;

	p->refused = false;
	if (p->ops_head == p->ops_tail && f->ops->state(f, MU_PLANE_DATA, id) != MU_CONNECTION_UP)
		failed(mu, id, MU_FABRIC_UNREACHABLE);
}

/*
 * A connection to a memory that is no more may stay UP until it is used
 * (mu_fabric.h). What the peer publishes is of another one then: ask for
 * something, lest it go unnoticed while there is nothing to write. A fence
 * settles it whichever of the two is older, what was read or the connection.
 */
static void look_at_memory(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];
	const struct mu_peer_facts *facts = &mu->shared.peer[id];

	/* It hardly ever changes: then the simulator is not given a point to interrupt at. */
	if (atomic_load_explicit(&facts->incarnation, memory_order_relaxed) == p->incarnation ||
	    MU_MUTANT(idle_trusts_memory))
		return;
	if (p->state != MU_PEER_FOLLOWS || p->ops_head != p->ops_tail ||
	    mu->data.now_ns < p->asked_ns + mu->config.tick_ns)
		return;
	if (mu_peer_post_write(mu, id, MU_OP_FENCE, offsetof(struct mu_replication_header, fence),
			       &p->fence_out, sizeof(p->fence_out), p->posted_fence))
		p->asked_ns = mu->data.now_ns;
}

void mu_peer_step(struct mu *mu, unsigned id)
{
	struct mu_peer *p = &mu->data.peer[id];

	if (mu_is_removed(mu, id))
		return;
	if (p->refused)
		look_at_connection(mu, id);
	switch (p->state) {
	case MU_PEER_IDLE:
		try_connect(mu, id);
		break;
	case MU_PEER_DENIED:
		if (mu->data.now_ns >= p->retry_ns)
			p->state = MU_PEER_IDLE;
		break;
	case MU_PEER_LAGGING:
		mu_peer_lagging_step(mu, id);
		break;
	case MU_PEER_INSTALL:
		mu_install_step(mu, id);
		break;
	case MU_PEER_FOLLOWS:
		if (!mu->data.appended) { /* an idle leader has nothing refused either */
			look_at_connection(mu, id);
			look_at_memory(mu, id);
		}
		if (p->written_off)
			mu_peer_reckon_with(mu, id);
		else if (mu_peer_is_limited(mu, id) && mu_peer_is_needed(mu, id))
			mu_peer_write_off(mu, id);
		mu_peer_pump(mu, id);
		mu_peer_post_fence(mu, id);
		write_commit_word(mu, id);
		break;
	case MU_PEER_HEADER:
	case MU_PEER_TAIL:
	case MU_PEER_FENCE:
	case MU_PEER_KNOWN:
	case MU_PEER_PROBE:
	case MU_PEER_VOIDING:
	case MU_PEER_BASE:
		break; /* a completion moves it on */
	}
}

/* ---------------------------------------------------------- completions */

static void log_acked(struct mu_peer *p, uint64_t end)
{
	assert(end > p->acked_end && end <= p->posted_end);
	p->acked_end = end;
}

static void commit_acked(struct mu *mu, unsigned id, uint64_t lsn)
{
	struct mu_peer *p = &mu->data.peer[id];

	p->acked_commit = lsn;
	if (p->state == MU_PEER_BASE) { /* installed */
		uint64_t acked = p->acked_end, posted = p->posted_end;

		p->commit = lsn;
		follows_from(mu, id, acked);
		p->posted_end = posted;
		if (mu_peer_had_better_lag(mu,
					   id)) /* it may have to apply first what was installed */
			p->state = MU_PEER_LAGGING;
	}
	mu->data.reclaim_lsn = 0;
}

void mu_peer_completed(struct mu *mu, unsigned id, enum mu_fabric_status status)
{
	struct mu_peer *p = &mu->data.peer[id];
	struct mu_op op = p->ops[p->ops_head % MU_PEER_OPS];

	assert(p->ops_head != p->ops_tail);
	p->ops_head++;
	if (op.attempt != mu->data.attempt || mu->data.state == MU_DATA_PASSIVE)
		return;
	if (status != MU_FABRIC_OK &&
	    !(MU_MUTANT(count_denied_write) && status == MU_FABRIC_DENIED)) {
		failed(mu, id, status);
		return;
	}
	mu_takeover_progress(mu, id, &op);
	switch ((enum mu_op_kind)op.kind) {
	case MU_OP_LOG:
		log_acked(p, op.arg);
		break;
	case MU_OP_COMMIT:
		commit_acked(mu, id, op.arg);
		break;
	case MU_OP_FENCE:
		if (p->state == MU_PEER_FENCE)
			mu_takeover_fenced(mu, id);
		else
			p->acked_fence =
				MU_MUTANT(fence_counts_older) ? mu->data.fence_next : op.arg;
		break;
	case MU_OP_HEADER:
		header_read(mu, id);
		break;
	case MU_OP_TAIL:
		if (mu->data.state == MU_DATA_TAILS)
			mu_takeover_tail_read(mu, id, op.arg);
		else if (mu->data.state == MU_DATA_ADOPT && mu->data.adoption.peer == id)
			mu_adopt_read(mu, id);
		else
			mu_peer_post_tail_fence(mu, id);
		break;
	case MU_OP_PROBE:
		mu_probe_read(mu, id, op.arg);
		break;
	case MU_OP_VOID:
		mu_install_voided(mu, id);
		break;
	case MU_OP_COPY_FENCE:
		mu_adopt_fenced(mu, id);
		break;
	case MU_OP_CONFIGURATION:
		p->acked_configuration = op.arg;
		break;
	case MU_OP_PART:
		if ((p->state == MU_PEER_TAIL || p->state == MU_PEER_PROBE) && !post_part(mu, id))
			p->state = MU_PEER_IDLE;
		break;
	case MU_OP_BASE:
		break; /* its commit word follows */
	}
}
