/* status.c - what a replica tells of itself and its group. */
#include <string.h>

#include "node.h"

static enum mu_role role_of(const struct mu *mu)
{
	if (!MU_GET(mu->shared.voting))
		return MU_ROLE_BLANK;
	switch (mu->data.state) {
	case MU_DATA_PASSIVE:
		return MU_ROLE_FOLLOWER;
	case MU_DATA_LEADING:
		return MU_ROLE_LEADER;
	default:
		return MU_ROLE_CANDIDATE;
	}
}

void mu_view(const struct mu *mu, struct mu_view *view)
{
	const struct mu_data *d = &mu->data;

	view->role = role_of(mu);
	view->ballot = d->state == MU_DATA_LEADING ? d->ballot : 0;
	view->era = d->commit.lsn == MU_LSN_NONE ? 0 : d->origin.era;
	view->commit_lsn = d->commit.lsn;
	view->end_lsn = d->ballot ? d->tail.end : d->commit.end;
	view->fence = d->fence_done;
	if (view->ballot) {
		view->leader = mu->config.id;
		view->leader_ballot = d->ballot;
		return;
	}
	view->leader = (unsigned)MU_GET(mu->shared.leader);
	view->leader_ballot = MU_GET(mu->shared.leader_ballot);
	if (view->leader == mu->config.id)
		view->leader = 0; /* the planes do not agree yet */
}

static void peer_status(const struct mu *mu, unsigned id, struct mu_replica_status *r)
{
	const struct mu_peer_facts *facts = &mu->shared.peer[id];
	uint64_t flags = MU_GET(facts->flags);

	r->alive = MU_GET(facts->alive);
	r->score = MU_GET(facts->score);
	r->role = (enum mu_role)MU_FLAG_BYTE(flags, MU_FLAG_ROLE_SHIFT);
	r->voting = flags & MU_FLAG_VOTING;
	r->granted_ballot = MU_GET(facts->granted);
	r->commit_lsn = MU_GET(facts->commit);
	r->applied_lsn = MU_GET(facts->applied);
	r->caught_up = flags & MU_FLAG_CAUGHT_UP;
	r->backend = (enum mu_backend_health)MU_FLAG_BYTE(flags, MU_FLAG_BACKEND_SHIFT);
	r->leader_seen = MU_FLAG_BYTE(flags, MU_FLAG_LEADER_SHIFT);
}

static void own_status(const struct mu *mu, struct mu_replica_status *r)
{
	const struct mu_shared *s = &mu->shared;

	r->alive = true;
	r->score = mu->config.score_max;
	r->voting = MU_GET(s->voting);
	if (!r->voting)
		r->role = MU_ROLE_BLANK;
	else if (MU_GET(s->led_ballot))
		r->role = MU_ROLE_LEADER;
	else
		r->role = MU_GET(s->lead_ballot) ? MU_ROLE_CANDIDATE : MU_ROLE_FOLLOWER;
	r->granted_ballot = MU_GET(s->granted);
	r->commit_lsn = MU_GET(s->commit_lsn);
	r->applied_lsn = MU_GET(s->applied_lsn);
	r->caught_up = atomic_load_explicit(&s->caught_up, memory_order_acquire);
	r->backend = (enum mu_backend_health)MU_GET(s->backend);
	r->leader_seen = (unsigned)MU_GET(s->leader);
}

void mu_group_status(const struct mu *mu, struct mu_group_status *status)
{
	uint64_t members = MU_GET(mu->shared.members);
	uint64_t confirmed = MU_GET(mu->shared.confirmed);
	uint64_t log_only = MU_GET(mu->shared.log_only);

	memset(status, 0, sizeof(*status));
	status->id = mu->config.id;
	status->leader = (unsigned)MU_GET(mu->shared.leader);
	status->ballot = MU_GET(mu->shared.leader_ballot);
	status->configuration = atomic_load(&mu->shared.configuration);
	status->committed = atomic_load(&mu->shared.committed);
	status->heard = atomic_load_explicit(&mu->shared.heard, memory_order_relaxed);
	if (status->heard < status->committed)
		status->heard = status->committed;
	status->change = mu_change_wished(mu, &status->changed);
	status->changing = status->configuration != status->committed || status->change;
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		struct mu_replica_status *r = &status->replica[id];

		r->member = members >> id & 1;
		r->removed = mu_configuration_removed(status->heard) >> id & 1;
		r->confirmed = confirmed >> id & 1;
		r->log_only = log_only >> id & 1;
		if (id == mu->config.id)
			own_status(mu, r);
		else if (mu_knows(mu, id))
			peer_status(mu, id, r);
	}
}
