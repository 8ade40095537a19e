/*
 * step.c - the data plane: one step takes what the fabric completed and what
 * the background plane decided, and dispatches on the state. States change
 * only here and in takeover.c.
 */
#include "node.h"

unsigned mu_followers(const struct mu *mu)
{
	const struct mu_data *d = &mu->data;
	unsigned n = mu_is_member(mu);

	MU_EACH_PEER(mu, id) {
		if (d->peer[id].state != MU_PEER_IDLE && d->peer[id].state != MU_PEER_DENIED &&
		    d->peer[id].state != MU_PEER_LAGGING && mu_peer_votes(mu, id))
			n++;
	}
	return n;
}

/*
 * Whatever was outstanding is undecided now; the source memory of what is still
 * in flight is the own ring, which somebody else may be let write as soon as
 * acting_ballot reads 0: so the connections go first.
 */
void mu_stop_acting(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	struct mu_fabric *f = mu->fabric;

	MU_EACH_PEER(mu, id) {
		f->ops->disconnect(f, MU_PLANE_DATA, id);
		d->peer[id].state = MU_PEER_IDLE;
	}
	d->attempt++;
	MU_SET(mu->shared.done_ballot, d->ballot);
	MU_SET(mu->shared.led_ballot, 0);
	MU_SET(mu->shared.confirmed, 0);
	MU_SET(mu->shared.log_only, 0);
	MU_SET(mu->shared.hungry, 0);
	d->state = MU_DATA_PASSIVE;
	d->ballot = 0;
	d->draining = d->leaving = false;
	d->handover = MU_HANDOVER_NONE;
	d->fence_done = d->fence_next = 0;
	MU_SYNC_SET(mu->shared.acting_ballot, 0);
}

/*
 * Connections are there before they are needed: a fabric whose permission is
 * the connection's cannot grant before it is (mu_fabric.h, grant_write()).
 */
static void keep_connected(struct mu *mu)
{
	MU_EACH_PEER(mu, id) {
		if (!mu_is_removed(mu, id))
			mu->fabric->ops->connect(mu->fabric, MU_PLANE_DATA, id);
	}
}

/* They hardly ever change: then the simulator is not given a point to interrupt at. */
static void publish_configuration(struct mu *mu)
{
	struct mu_shared *s = &mu->shared;
	const struct mu_data *d = &mu->data;

	if (atomic_load_explicit(&s->configuration, memory_order_relaxed) != d->configuration)
		MU_SET(s->configuration, d->configuration);
	if (atomic_load_explicit(&s->committed, memory_order_relaxed) != d->committed)
		MU_SET(s->committed, d->committed);
}

static void publish(struct mu *mu)
{
	struct mu_shared *s = &mu->shared;
	uint64_t taken = mu->data.taken;
	const struct mu_data *d = &mu->data;
	const struct mu_reader *r = &d->reader;

	if (MU_GET(s->commit_lsn) != d->commit.lsn) {
		MU_SET(s->commit_end, d->commit.end);
		MU_SET(s->commit_lsn, d->commit.lsn);
	}
	publish_configuration(mu);
	MU_SET(s->oldest_lsn, d->oldest_lsn);
	MU_SET(s->reach_lsn, d->reach_lsn);
	/* Control entries are nobody's to apply, so the applied LSN alone does not tell. */
	MU_SET(s->caught_up, r->placed && !r->stale && r->at.lsn == d->commit.lsn &&
				     MU_GET(s->applied_lsn) >= r->handed_lsn);
	if (MU_GET(s->taken) != taken)
		MU_SET(s->taken, taken);
	MU_SET(s->pulse, MU_GET(s->pulse) + 1);
}

static bool in_flight(const struct mu *mu)
{
	MU_EACH_PEER(mu, id) {
		if (mu->data.peer[id].ops_head != mu->data.peer[id].ops_tail)
			return true;
	}
	return false;
}

static void take_completions(struct mu *mu)
{
	struct mu_completion done[32];
	int n;

	while ((n = mu->fabric->ops->poll(mu->fabric, MU_PLANE_DATA, done, 32)) > 0)
		for (int i = 0; i < n; i++)
			mu_peer_completed(mu, done[i].peer, done[i].status);
}

/* Is this peer where time alone moves nothing? */
static bool settled(const struct mu *mu, unsigned id)
{
	const struct mu_peer *p = &mu->data.peer[id];

	if (mu_is_removed(mu, id))
		return true;
	if (p->state == MU_PEER_IDLE) /* a grant that arrives wakes the data plane */
		return MU_GET(mu->shared.peer[id].grant) != mu->data.ballot &&
		       mu->fabric->ops->state(mu->fabric, MU_PLANE_DATA, id) == MU_CONNECTION_UP;
	return p->state == MU_PEER_FOLLOWS && (mu_peer_votes(mu, id) || !mu_is_peer(mu, id)) &&
	       p->acked_end == mu->data.tail.end && p->acked_commit == mu->data.commit.lsn &&
	       p->acked_fence == mu->data.fence_next;
}

/* When to step again, if nothing else happens. An idle leader sleeps like its followers. */
static uint64_t next_step(const struct mu *mu)
{
	const struct mu_data *d = &mu->data;

	/* Where completions can be slept for, it is timeouts alone that need a look. */
	if (in_flight(mu))
		return mu->fabric->ops->wait_fd ? d->now_ns + mu->config.tick_ns : d->now_ns;
	if (d->state == MU_DATA_PASSIVE)
		return UINT64_MAX;
	MU_EACH_PEER(mu, id) {
		if (!settled(mu, id))
			return d->now_ns + mu->config.tick_ns;
	}
	return d->state == MU_DATA_LEADING && !d->draining && d->handover == MU_HANDOVER_NONE &&
			       d->commit.end == d->tail.end
		       ? UINT64_MAX
		       : d->now_ns + mu->config.tick_ns;
}

uint64_t mu_step(struct mu *mu, uint64_t now_ns)
{
	struct mu_data *d = &mu->data;
	uint64_t lead = MU_SYNC_GET(mu->shared.lead_ballot);

	d->now_ns = now_ns;
	take_completions(mu);
	if (d->ballot && lead != d->ballot && !MU_MUTANT(never_steps_down))
		mu_stop_acting(mu);
	if (!d->ballot && lead > MU_GET(mu->shared.done_ballot))
		mu_takeover_begin(mu, lead);
	switch (d->state) {
	case MU_DATA_PASSIVE:
		keep_connected(mu);
		mu_follow(mu);
		d->taken = MU_GET(mu->shared.forgetting);
		if (d->taken && !mu_recover_take(mu, d->taken))
			d->taken = MU_FORGET_NOTHING;
		break;
	case MU_DATA_TAILS:
	case MU_DATA_ADOPT:
	case MU_DATA_LEVEL:
	case MU_DATA_ESTABLISH:
		mu_takeover_step(mu);
		break;
	case MU_DATA_LEADING:
		mu_leader_step(mu);
		break;
	}
	d->appended = false;
	mu_flush(mu, MU_PLANE_DATA);
	publish(mu);
	return next_step(mu);
}
