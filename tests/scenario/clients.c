/*
 * clients.c - what a transcript's clients ask of a replica: proposals and
 * fenced reads, each with a name. They are taken up in the replica's next turn,
 * as a connection's bytes would be. In the place of tests/sim/client.c.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "scenario.h"

#define WALL_MS 1700000000000

bool clients_ask(struct scenario *scenario, unsigned id, const struct asked *asked)
{
	struct client_queue *queue = &scenario->queue[id];

	if (queue->count == QUEUE_MAX)
		return false;
	queue->slots[queue->count++] = *asked;
	return true;
}

const struct placed *clients_placed_at(const struct scenario *scenario, uint64_t ballot,
				       uint64_t lsn)
{
	/* From the last on: what was lost with every memory may lie at the same place. */
	for (unsigned i = scenario->placed_count; i-- > 0;) {
		const struct placed *placed = &scenario->placed[i];

		if (placed->ballot == ballot && lsn >= placed->first_lsn && lsn <= placed->lsn)
			return placed;
	}
	return NULL;
}

/* ------------------------------------------------------------------ asking */

/* What is named before the call, for it may not return. */
static struct placed *name_place(struct scenario *scenario, const struct node *node,
				 const struct asked *asked)
{
	struct placed *placed = &scenario->placed[scenario->placed_count++];

	assert(scenario->placed_count <= CLIENT_NAMES_MAX);
	*placed = (struct placed){
		.ballot = node->process.view.ballot,
		.first_lsn = node->process.mu->data.tail.end,
		.lsn = MU_LSN_NONE,
	};
	strcpy(placed->name, asked->name);
	return placed;
}

static void answered(struct scenario *scenario, struct node *node, struct placed *placed,
		     uint64_t number, uint64_t lsn, enum mu_error error)
{
	struct clients *clients = &node->process.clients;

	if (error != MU_OK) {
		oracle_refused(&scenario->run.oracle, number);
		say(scenario, node->id, SAY_CLIENTS, "refuses %s: %s", placed->name,
		    mu_strerror(error));
		placed->ballot = 0; /* nobody's */
		return;
	}
	assert(clients->proposals < OUTSTANDING_MAX);
	oracle_made(&scenario->run.oracle, number, lsn);
	placed->lsn = lsn;
	clients->proposing[clients->proposals++] =
		(struct proposing){.number = number, .ballot = placed->ballot, .lsn = lsn};
}

static void propose(struct scenario *scenario, struct node *node, const struct asked *asked)
{
	struct oracle *oracle = &scenario->run.oracle;
	uint64_t wall_ms = WALL_MS + run_now(&scenario->run) / 1000000;
	uint64_t timestamp_ms =
		mu_timestamp(node->process.mu, wall_ms + (uint64_t)node->wall_offset_ms);
	struct placed *placed = name_place(scenario, node, asked);
	uint64_t number = oracle_ask(oracle, placed->ballot, timestamp_ms, asked->bytes);
	struct iovec iov = {node->payload, asked->bytes};
	uint64_t lsn = MU_LSN_NONE;
	enum mu_error error;

	assert(number <= CLIENT_NAMES_MAX && asked->bytes <= scenario->run.plan.payload_max);
	strcpy(scenario->proposal_name[number - 1], asked->name);
	oracle_payload(number, node->payload, asked->bytes);
	error = mu_propose(node->process.mu, &iov, 1, timestamp_ms, &lsn);
	answered(scenario, node, placed, number, lsn, error);
}

static void read_fenced(struct scenario *scenario, struct node *node, const struct asked *asked)
{
	struct clients *clients = &node->process.clients;
	struct fencing fencing = {
		.ballot = node->process.view.ballot,
		.must_see_lsn = oracle_must_see_lsn(&scenario->run.oracle),
		.sees_lsn = node->process.view.commit_lsn,
	};
	enum mu_error error = mu_fence(node->process.mu, &fencing.ticket);

	if (error != MU_OK) {
		say(scenario, node->id, SAY_CLIENTS, "refuses to read %s: %s", asked->name,
		    mu_strerror(error));
		return;
	}
	assert(clients->fences < OUTSTANDING_MAX);
	strcpy(scenario->read_name[node->id][clients->fences], asked->name);
	clients->fencing[clients->fences++] = fencing;
}

void client_before_step(struct node *node)
{
	struct scenario *scenario = scenario_of(node->run);
	struct client_queue *queue = &scenario->queue[node->id];

	while (queue->count > 0) {
		const struct asked asked = queue->slots[0];

		queue->count--;
		memmove(queue->slots, queue->slots + 1, queue->count * sizeof(asked));
		if (asked.read)
			read_fenced(scenario, node, &asked);
		else
			propose(scenario, node, &asked);
	}
}

/* ---------------------------------------------------------------- answering */

static void settle_proposals(struct scenario *scenario, struct node *node)
{
	struct clients *clients = &node->process.clients;
	const struct mu_view *view = &node->process.view;
	unsigned kept = 0;

	for (unsigned i = 0; i < clients->proposals; i++) {
		const struct proposing *proposing = &clients->proposing[i];
		const char *name = scenario->proposal_name[proposing->number - 1];

		if (proposing->ballot != view->ballot) {
			say(scenario, node->id, SAY_CLIENTS, "reports %s: outcome unknown", name);
		} else if (view->commit_lsn >= proposing->lsn) {
			oracle_acknowledge(&scenario->run.oracle, node, proposing->number);
			say(scenario, node->id, SAY_CLIENTS, "acknowledges %s", name);
		} else {
			clients->proposing[kept++] = *proposing;
		}
	}
	clients->proposals = kept;
}

static void settle_fences(struct scenario *scenario, struct node *node)
{
	struct clients *clients = &node->process.clients;
	const struct mu_view *view = &node->process.view;
	char(*names)[NAME_BYTES] = scenario->read_name[node->id];
	unsigned kept = 0;

	for (unsigned i = 0; i < clients->fences; i++) {
		const struct fencing fencing = clients->fencing[i];

		if (fencing.ballot != view->ballot) {
			say(scenario, node->id, SAY_CLIENTS, "does not answer read %s", names[i]);
		} else if (view->fence < fencing.ticket) {
			memmove(names[kept], names[i], NAME_BYTES);
			clients->fencing[kept++] = fencing;
		} else {
			oracle_fenced(&scenario->run.oracle, node, fencing.must_see_lsn,
				      fencing.sees_lsn);
			say(scenario, node->id, SAY_CLIENTS, "answers read %s", names[i]);
		}
	}
	clients->fences = kept;
}

void client_after_step(struct node *node)
{
	settle_proposals(scenario_of(node->run), node);
	settle_fences(scenario_of(node->run), node);
}

/* Its turn comes at once when a transcript asks something of it. */
uint64_t client_next_ns(const struct node *node)
{
	return scenario_of(node->run)->queue[node->id].count ? run_now(node->run) : UINT64_MAX;
}
