/*
 * watch.c - tells what happens in the protocol's terms. What the fabric does is
 * told by the fabric; what a replica does is seen by comparing its state, after
 * everything that happens, with what it was before.
 */
#include <string.h>

#include "scenario.h"

/* ---------------------------------------------------------------- the fabric */

static const char *write_object(const struct sim_event *event)
{
	if (event->region == MU_REGION_BACKGROUND)
		return event->offset >= offsetof(struct mu_background_region, grant) ? "answer"
										     : "request";
	switch (event->offset) {
	case offsetof(struct mu_replication_header, commit):
		return "commit word";
	case offsetof(struct mu_replication_header, configuration):
		return "configuration";
	case offsetof(struct mu_replication_header, origin):
		return "base word";
	case offsetof(struct mu_replication_header, fence):
		return "fence";
	default:
		return "log";
	}
}

static const char *read_object(const struct sim_event *event)
{
	if (event->region == MU_REGION_BACKGROUND)
		return "heartbeat";
	return event->offset < MU_RING_OFFSET ? "header" : "log";
}

static enum event_class read_class(const struct sim_event *event)
{
	return event->region == MU_REGION_BACKGROUND ? SAY_HEARTBEATS : SAY_OPS;
}

static void posted(struct scenario *scenario, const struct sim_event *event)
{
	scenario->op_bytes[event->number % 1024] = event->bytes;
	scenario->op_moved[event->number % 1024] = 0;
	if (event->write)
		say(scenario, event->from, SAY_OPS, "posts %s to %u", write_object(event),
		    event->to);
	else
		say(scenario, event->from, read_class(event), "reads %s of %u", read_object(event),
		    event->to);
}

static void landed(struct scenario *scenario, const struct sim_event *event)
{
	uint64_t *moved = &scenario->op_moved[event->number % 1024];
	bool whole;

	*moved += event->bytes;
	whole = *moved >= scenario->op_bytes[event->number % 1024];
	if (event->write)
		say(scenario, event->from, SAY_OPS, "has written %s%s to %u",
		    whole ? "" : "part of ", write_object(event), event->to);
	else
		say(scenario, event->from, read_class(event), "has read %s%s of %u",
		    whole ? "" : "part of ", read_object(event), event->to);
}

static void completed(struct scenario *scenario, const struct sim_event *event)
{
	if (event->plane == MU_PLANE_DATA && event->status == MU_FABRIC_DENIED)
		say(scenario, event->from, SAY_DENIALS, "is denied a write by %u: %s", event->to,
		    write_object(event));
}

/* Told before it is done: a plane can be stopped in between. */
static void permission_changes(struct scenario *scenario, const struct sim_event *event)
{
	if (event->refused)
		return;
	watch_all(scenario); /* what this turn has done before comes before */
	if (event->kind == SIM_GRANT) {
		say(scenario, event->from, SAY_OPS, "is about to grant %s",
		    ballot_name(event->ballot));
		group_stop_point(scenario);
		scenario->seen[event->from].granted[event->to] = event->ballot;
		say(scenario, event->from, SAY_ELECTION, "grants %s", ballot_name(event->ballot));
		return;
	}
	say(scenario, event->from, SAY_OPS, "is about to revoke");
	group_stop_point(scenario);
	if (event->to)
		say(scenario, event->from, SAY_ELECTION, "revokes the permission of %u", event->to);
}

void watch_fabric(struct scenario *scenario, const struct sim_event *event)
{
	switch (event->kind) {
	case SIM_POST:
		posted(scenario, event);
		break;
	case SIM_LAND:
	case SIM_LATE:
		landed(scenario, event);
		break;
	case SIM_COMPLETE:
		completed(scenario, event);
		break;
	case SIM_REVOKE:
	case SIM_GRANT:
		permission_changes(scenario, event);
		break;
	default:
		break;
	}
}

/* ------------------------------------------------------------- background plane */

static void watch_campaign(struct scenario *scenario, unsigned id, struct seen *seen)
{
	const struct mu_background *bg = &scenario->run.node[id].process.mu->bg;

	if (seen->campaign_ballot != bg->ballot && bg->ballot)
		say(scenario, id, SAY_ELECTION, "asks for ballot %s", ballot_name(bg->ballot));
	if (seen->campaign == MU_CAMPAIGN_ASKING && bg->campaign == MU_CAMPAIGN_IDLE)
		say(scenario, id, SAY_ELECTION, "withdraws %s", ballot_name(seen->campaign_ballot));
	seen->campaign = bg->campaign;
	seen->campaign_ballot = bg->ballot;
}

/* The ballot that a peer is being refused; 0: none, or one that was granted once. */
static uint64_t refused_ballot(const struct mu *mu, const struct seen *seen, unsigned id)
{
	const struct mu_line *answer = &mu->bg.watch[id].grant.want;
	struct mu_line request;

	if (!answer->word[MU_GRANT_HIGHER] || answer->word[MU_GRANT_BALLOT] == seen->granted[id] ||
	    !mu_line_read(&request, &mu->lines->request[id]) ||
	    request.word[MU_REQUEST_BALLOT] != answer->word[MU_GRANT_BALLOT])
		return 0;
	return answer->word[MU_GRANT_BALLOT];
}

static void watch_refusals(struct scenario *scenario, unsigned self, struct seen *seen)
{
	const struct mu *mu = scenario->run.node[self].process.mu;

	MU_EACH_PEER(mu, id) {
		uint64_t ballot = refused_ballot(mu, seen, id);

		if (!ballot || ballot == seen->refused[id])
			continue;
		seen->refused[id] = ballot;
		say(scenario, self, SAY_ELECTION, "refuses %s: has granted %s", ballot_name(ballot),
		    ballot_name(mu->bg.watch[id].grant.want.word[MU_GRANT_HIGHER]));
	}
}

static void watch_peers(struct scenario *scenario, unsigned self, struct seen *seen)
{
	const struct mu *mu = scenario->run.node[self].process.mu;
	unsigned leader = (unsigned)atomic_load(&mu->shared.leader);

	MU_EACH_PEER(mu, id) {
		bool alive = mu->bg.watch[id].alive;

		if (alive != seen->peer_alive[id])
			say(scenario, self, SAY_WATCH,
			    alive ? "sees %u alive" : "takes %u for failed", id);
		seen->peer_alive[id] = alive;
	}
	if (leader != seen->leader && leader)
		say(scenario, self, SAY_WATCH, "sees %u lead", leader);
	else if (leader != seen->leader)
		say(scenario, self, SAY_WATCH, "sees no leader");
	seen->leader = leader;
}

static void watch_votes(struct scenario *scenario, unsigned id, struct seen *seen)
{
	const struct mu_private_region *record = scenario->run.node[id].process.mu->record;
	bool prepared = !record->voting && record->prepared_count;

	if (prepared && !seen->prepared)
		say(scenario, id, SAY_VOTES, "is prepared to start cold");
	if (!record->voting && seen->voting)
		say(scenario, id, SAY_VOTES, "votes no more");
	else if (record->cold_nonce != seen->cold_nonce)
		say(scenario, id, SAY_VOTES, "starts cold");
	else if (record->voting && !seen->voting)
		say(scenario, id, SAY_VOTES, "votes again");
	seen->prepared = prepared;
	seen->voting = record->voting;
	seen->cold_nonce = record->cold_nonce;
}

/* ------------------------------------------------------------------- data plane */

/* What a takeover starts from: the tail that the own first entry stands behind. */
static void say_tail(struct scenario *scenario, unsigned id, const struct seen *seen)
{
	const struct mu *mu = scenario->run.node[id].process.mu;
	const struct mu_data *d = &mu->data;

	if (d->state == MU_DATA_ADOPT)
		say(scenario, id, SAY_ELECTION, "adopts the tail of %u, up to %s", d->adoption.peer,
		    entry_name(scenario, d->adoption.peer, d->adoption.last.lsn));
	if (seen->state == MU_DATA_TAILS &&
	    (d->state == MU_DATA_LEVEL || d->state == MU_DATA_ESTABLISH))
		say(scenario, id, SAY_ELECTION, "keeps its own tail, up to %s",
		    entry_name(scenario, id, d->chosen.lsn));
}

static void watch_leading(struct scenario *scenario, unsigned id, struct seen *seen)
{
	const struct mu_data *d = &scenario->run.node[id].process.mu->data;

	if (seen->state == d->state && seen->ballot == d->ballot)
		return;
	say_tail(scenario, id, seen);
	if (d->state == MU_DATA_LEADING)
		say(scenario, id, SAY_ELECTION, "leads under %s", ballot_name(d->ballot));
	if (seen->state == MU_DATA_LEADING)
		say(scenario, id, SAY_ELECTION, "steps down from %s", ballot_name(seen->ballot));
	else if (d->state == MU_DATA_PASSIVE)
		say(scenario, id, SAY_ELECTION, "gives up the takeover under %s",
		    ballot_name(seen->ballot));
	seen->state = d->state;
	seen->ballot = d->ballot;
}

static const char *const peer_events[] = {
	[MU_PEER_IDLE] = "has lost %u",
	[MU_PEER_PROBE] = "looks for its oldest entry in the log of %u",
	[MU_PEER_VOIDING] = "declares the log of %u void",
	[MU_PEER_INSTALL] = "writes the log of %u anew",
	[MU_PEER_FOLLOWS] = "is followed by %u",
	[MU_PEER_DENIED] = "is shut out by %u",
	[MU_PEER_LAGGING] = "drops %u, which lags",
};

static void watch_followers(struct scenario *scenario, unsigned self, struct seen *seen)
{
	const struct mu *mu = scenario->run.node[self].process.mu;

	MU_EACH_PEER(mu, id) {
		enum mu_peer_state now = mu->data.peer[id].state;
		enum mu_peer_state before = seen->peer[id];

		seen->peer[id] = now;
		if (now == before || !mu->data.ballot ||
		    now >= sizeof(peer_events) / sizeof(*peer_events) || peer_events[now] == NULL)
			continue;
		if (now == MU_PEER_IDLE && before != MU_PEER_FOLLOWS)
			continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		say(scenario, self, SAY_FOLLOWERS, peer_events[now], id);
#pragma GCC diagnostic pop
	}
}

static void watch_members(struct scenario *scenario, unsigned id, struct seen *seen)
{
	uint64_t now = scenario->run.node[id].process.mu->data.configuration;

	if (now != seen->configuration)
		say(scenario, id, SAY_MEMBERS, "counts %s", configuration_name(now));
	seen->configuration = now;
}

/* Entries that became known to be committed, each by its name. */
static void watch_commits(struct scenario *scenario, unsigned id, struct seen *seen)
{
	const struct mu *mu = scenario->run.node[id].process.mu;
	uint64_t commit = mu->data.commit.lsn;
	struct mu_position at, next;

	if (commit == seen->commit)
		return;
	if (seen->commit == MU_LSN_NONE || commit == MU_LSN_NONE || commit < seen->commit ||
	    !mu_ring_entry(&mu->ring, seen->commit, &at)) {
		seen->commit = commit;
		if (commit != MU_LSN_NONE)
			say(scenario, id, SAY_COMMITS, "has a log, committed up to %s",
			    entry_name(scenario, id, commit));
		return;
	}
	while (at.lsn < commit && mu_ring_next(&mu->ring, &at, &next)) {
		at = next;
		if (mu_ring_at(&mu->ring, at.lsn)->kind != MU_KIND_SKIP)
			say(scenario, id, SAY_COMMITS, "commits %s",
			    entry_name(scenario, id, at.lsn));
	}
	seen->commit = commit;
}

/* ------------------------------------------------------------------- application */

static void watch_backend(struct scenario *scenario, unsigned id, struct seen *seen)
{
	const struct node *node = &scenario->run.node[id];
	const struct oracle *oracle = &scenario->run.oracle;

	if (node->process.health != seen->health)
		say(scenario, id, SAY_BACKENDS, "has a backend that is %s",
		    mu_backend_health_name(node->process.health));
	seen->health = node->process.health;
	for (int64_t i = seen->applied + 1; i <= node->backend.applied; i++) {
		const struct agreed *entry = &oracle->sequence[i];

		if (entry->proposal)
			say(scenario, id, SAY_APPLIES, "applies %s",
			    scenario->proposal_name[entry->proposal - 1]);
	}
	seen->applied = node->backend.applied;
}

/* A process that starts knows nothing; what its memory holds is nothing new. */
void watch_forget(struct scenario *scenario, unsigned id)
{
	const struct node *node = &scenario->run.node[id];
	const struct mu *mu = node->process.mu;
	int64_t applied = node->backend.applied;

	scenario->seen[id] = (struct seen){
		.alive = true,
		.voting = mu->record->voting,
		.cold_nonce = mu->record->cold_nonce,
		.commit = mu->data.commit.lsn,
		.applied = applied,
		.configuration = mu->data.configuration,
	};
}

void watch_all(struct scenario *scenario)
{
	for (unsigned id = 1; id <= scenario->run.plan.replicas; id++) {
		struct seen *seen = &scenario->seen[id];

		if (!scenario->run.node[id].alive)
			continue;
		watch_votes(scenario, id, seen);
		watch_peers(scenario, id, seen);
		watch_campaign(scenario, id, seen);
		watch_refusals(scenario, id, seen);
		watch_leading(scenario, id, seen);
		watch_members(scenario, id, seen);
		watch_followers(scenario, id, seen);
		watch_commits(scenario, id, seen);
		watch_backend(scenario, id, seen);
	}
}
