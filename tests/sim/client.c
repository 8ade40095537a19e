/*
 * client.c - what clients ask of whoever leads: proposals, each of bytes of
 * its own, several outstanding; and fenced reads. What they are told goes to
 * the oracle.
 */
#include <assert.h>
#include <inttypes.h>

#include "run.h"

static bool may_ask(const struct node *node)
{
	return node->process.view.role == MU_ROLE_LEADER && node->run->phase != PHASE_LEVEL;
}

static size_t draw_bytes(struct run *run)
{
	uint64_t drawn = sim_random_below(&run->clients, 100);

	if (drawn < 5)
		return drawn % 2;
	if (drawn < 8)
		return run->plan.payload_max;
	return sim_random_skewed(&run->clients, 8, run->plan.payload_max);
}

/* One payload in up to four pieces. */
static int cut(struct run *run, uint8_t *payload, size_t bytes, struct iovec iov[4])
{
	int pieces = (int)sim_random_between(&run->clients, 1, 4);
	size_t at = 0;

	for (int i = 0; i < pieces; i++) {
		size_t end = i == pieces - 1 ? bytes : sim_random_between(&run->clients, at, bytes);

		iov[i] = (struct iovec){.iov_base = payload + at, .iov_len = end - at};
		at = end;
	}
	return pieces;
}

static void answered(struct node *node, enum mu_error error, uint64_t number, uint64_t lsn,
		     size_t bytes)
{
	struct clients *clients = &node->process.clients;
	struct run *run = node->run;
	bool too_large = bytes > run->plan.config.max_proposal_bytes;

	if (error != MU_OK && error != MU_ERR_NOT_LEADER && error != MU_ERR_FULL &&
	    error != MU_ERR_TOO_LARGE)
		run_fail(run, FOUND_MISUSE, "replica %u: mu_propose() says: %s", node->id,
			 mu_strerror(error));
	if ((error == MU_ERR_TOO_LARGE && !too_large) || (error == MU_OK && too_large))
		run_fail(run, FOUND_MISUSE, "replica %u: %zu bytes: %s", node->id, bytes,
			 mu_strerror(error));
	run_trace(run, node, "proposal %" PRIu64 " of %zu bytes: %s, lsn %" PRIu64, number, bytes,
		  mu_strerror(error), error == MU_OK ? lsn : 0);
	if (error != MU_OK) {
		oracle_refused(&run->oracle, number);
		return;
	}
	oracle_made(&run->oracle, number, lsn);
	clients->proposing[clients->proposals++] = (struct proposing){
		.number = number,
		.ballot = node->process.view.ballot,
		.lsn = lsn,
	};
}

static void propose(struct node *node)
{
	struct run *run = node->run;
	size_t bytes = draw_bytes(run);
	uint64_t wall_ms = 1700000000000 + run_now(run) / 1000000 + (uint64_t)node->wall_offset_ms;
	uint64_t timestamp_ms = mu_timestamp(node->process.mu, wall_ms);
	uint64_t number, lsn = MU_LSN_NONE;
	struct iovec iov[4];
	enum mu_error error;
	int pieces;

	number = oracle_ask(&run->oracle, node->process.view.ballot, timestamp_ms, bytes);
	oracle_payload(number, node->payload, bytes);
	pieces = cut(run, node->payload, bytes, iov);
	error = mu_propose(node->process.mu, iov, pieces, timestamp_ms, &lsn);
	answered(node, error, number, lsn, bytes);
}

static void fence(struct node *node)
{
	struct clients *clients = &node->process.clients;
	struct fencing fencing = {
		.ballot = node->process.view.ballot,
		.must_see_lsn = oracle_must_see_lsn(&node->run->oracle),
		.sees_lsn = node->process.view.commit_lsn,
	};
	enum mu_error error = mu_fence(node->process.mu, &fencing.ticket);

	if (error == MU_OK)
		clients->fencing[clients->fences++] = fencing;
	else if (error != MU_ERR_NOT_LEADER && error != MU_ERR_FULL)
		run_fail(node->run, FOUND_MISUSE, "replica %u: mu_fence() says: %s", node->id,
			 mu_strerror(error));
}

void client_before_step(struct node *node)
{
	struct clients *clients = &node->process.clients;
	struct run *run = node->run;
	uint64_t batch = 0, every_ns = run->plan.ask_every_ns;

	if (!may_ask(node) || run_now(run) < clients->next_ns)
		return;
	if (run->phase == PHASE_PROGRESS && every_ns > run->plan.config.tick_ns)
		every_ns = run->plan.config.tick_ns;
	clients->next_ns = run_now(run) + sim_random_below(&run->clients, 2 * every_ns);
	if (run->phase == PHASE_PROGRESS ||
	    sim_random_chance(&run->clients, run->plan.propose_permille))
		batch = sim_random_between(&run->clients, 1, 3);
	for (; batch > 0 && clients->proposals < run->plan.outstanding_max; batch--)
		propose(node);
	if (clients->fences < run->plan.outstanding_max &&
	    sim_random_chance(&run->clients, run->plan.fence_permille))
		fence(node);
}

static void settle_proposals(struct node *node)
{
	struct clients *clients = &node->process.clients;
	const struct mu_view *view = &node->process.view;
	unsigned kept = 0;

	for (unsigned i = 0; i < clients->proposals; i++) {
		const struct proposing *proposing = &clients->proposing[i];

		if (proposing->ballot != view->ballot) {
			run_trace(node->run, node, "proposal %" PRIu64 ": outcome unknown",
				  proposing->number);
		} else if (view->commit_lsn >= proposing->lsn) {
			run_trace(node->run, node, "proposal %" PRIu64 ": committed",
				  proposing->number);
			oracle_acknowledge(&node->run->oracle, node, proposing->number);
		} else {
			clients->proposing[kept++] = *proposing;
		}
	}
	clients->proposals = kept;
}

static void settle_fences(struct node *node)
{
	struct clients *clients = &node->process.clients;
	const struct mu_view *view = &node->process.view;
	unsigned kept = 0;

	for (unsigned i = 0; i < clients->fences; i++) {
		const struct fencing *fencing = &clients->fencing[i];

		if (fencing->ballot != view->ballot)
			continue;
		if (view->fence < fencing->ticket) {
			clients->fencing[kept++] = *fencing;
			continue;
		}
		run_trace(node->run, node, "fence %" PRIu64 " passed", fencing->ticket);
		node->run->fences++;
		oracle_fenced(&node->run->oracle, node, fencing->must_see_lsn, fencing->sees_lsn);
	}
	clients->fences = kept;
}

void client_after_step(struct node *node)
{
	settle_proposals(node);
	settle_fences(node);
}

uint64_t client_next_ns(const struct node *node)
{
	return may_ask(node) ? node->process.clients.next_ns : UINT64_MAX;
}
