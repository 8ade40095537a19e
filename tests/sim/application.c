/*
 * application.c - what stands beside every replica: a reader of the log and
 * the backend that it applies entries to. The backend takes time over each
 * entry, outlives processes, and is at times lost or brought level from
 * another's (state transfer).
 */
#include <assert.h>
#include <inttypes.h>

#include "node.h"
#include "run.h"

static uint64_t log_base(const struct node *node)
{
	const struct mu_replication_header *header =
		sim_memory(node->run->world, node->id, MU_REGION_REPLICATION);

	return header->origin.base;
}

static void say_health(struct node *node, enum mu_backend_health health)
{
	if (node->process.health == health)
		return;
	node->process.health = health;
	mu_set_backend(node->process.mu, health);
	run_trace(node->run, node, "backend is %s at index %" PRId64,
		  mu_backend_health_name(health), node->backend.applied);
}

void application_start(struct node *node)
{
	node->process.seeking = true;
	node->process.health = MU_BACKEND_UNKNOWN;
	node->process.handed = node->backend.applied;
}

/*
 * The log does not reach back to where the backend stands. Rule 5: as long as
 * it is the same log, and nothing befell the backend, ring space was used again
 * that was still needed here.
 */
static void become_stale(struct node *node)
{
	struct backend *backend = &node->backend;

	if (backend->intact && log_base(node) == backend->log_base)
		run_fail(node->run, FOUND_REUSE,
			 "replica %u: ring space behind index %" PRId64
			 " was used again before it had applied it",
			 node->id, backend->durable);
	backend->stale = true;
	backend->intact = false;
	node->process.seeking = true;
	node->process.queue.count = 0;
	say_health(node, MU_BACKEND_STALE);
}

static enum mu_error ask_log(struct node *node)
{
	const struct oracle *oracle = &node->run->oracle;
	const struct backend *backend = &node->backend;
	enum mu_error error;

	if (backend->foreign_era == 0)
		return mu_seek(node->process.mu, oracle_era(oracle, backend->applied),
			       oracle_lsn(oracle, backend->applied));
	error = mu_seek(node->process.mu, backend->foreign_era, backend->foreign_lsn);
	if (error == MU_OK)
		run_fail(node->run, FOUND_MISUSE,
			 "replica %u: a backend of era %" PRIx64 " passes for level at %" PRIu64,
			 node->id, backend->foreign_era, backend->foreign_lsn);
	return error;
}

/* Whoever stands behind an entry that may yet be another's must wait. */
static void check_stand(struct node *node, int64_t index)
{
	uint64_t lsn = oracle_lsn(&node->run->oracle, index);
	uint64_t commit_lsn = node->process.mu->data.commit.lsn;

	if (commit_lsn == MU_LSN_NONE || lsn > commit_lsn)
		run_fail(node->run, FOUND_MISUSE,
			 "replica %u: a backend passes for level at %" PRIu64
			 ", but nothing is known to be committed behind %" PRIu64,
			 node->id, lsn, commit_lsn);
}

/* The backend was connected to (again): where does it stand, and can the log take it on? */
static void seek(struct node *node)
{
	struct process *process = &node->process;
	struct backend *backend = &node->backend;
	uint64_t restores = backend->restores;
	int64_t index = backend->applied;
	enum mu_error error = ask_log(node);

	if (restores != backend->restores)
		return; /* it is no longer what it was when it was asked */
	switch (error) {
	case MU_OK:
		check_stand(node, index);
		process->seeking = false;
		process->handed = index;
		process->queue.count = 0;
		backend->log_base = log_base(node);
		say_health(node, MU_BACKEND_LEVEL);
		break;
	case MU_ERR_STALE:
		become_stale(node);
		break;
	case MU_ERR_FULL:
		say_health(node, MU_BACKEND_UNKNOWN);
		break;
	default:
		run_fail(node->run, FOUND_MISUSE, "replica %u: mu_seek() says: %s", node->id,
			 mu_strerror(error));
	}
}

void application_before_step(struct node *node)
{
	struct backend *backend = &node->backend;

	if (!backend->up) {
		node->process.seeking = true;
		node->process.queue.count = 0;
		say_health(node, MU_BACKEND_DOWN);
	} else if (backend->stale) {
		say_health(node, MU_BACKEND_STALE);
	} else if (node->process.seeking) {
		seek(node);
	}
}

/* The backend has executed what it had time for. */
static void backend_advance(struct node *node)
{
	struct backend_queue *queue = &node->process.queue;
	struct backend *backend = &node->backend;

	while (queue->count > 0 && queue->slots[queue->first].done_ns <= run_now(node->run)) {
		assert(queue->slots[queue->first].index == backend->applied + 1);
		backend->applied++;
		queue->first = (queue->first + 1) % BACKEND_QUEUE_MAX;
		queue->count--;
	}
	if (backend->applied <= backend->durable ||
	    (queue->count > 0 && sim_random_chance(&node->run->random, backend->lazy_permille)))
		return;
	backend->durable = backend->applied;
	/* The queue may be emptied before this returns. */
	mu_applied(node->process.mu, oracle_lsn(&node->run->oracle, backend->durable));
}

static void backend_push(struct node *node, int64_t index)
{
	struct backend_queue *queue = &node->process.queue;
	uint64_t start_ns = run_now(node->run);
	unsigned last = (queue->first + queue->count + BACKEND_QUEUE_MAX - 1) % BACKEND_QUEUE_MAX;
	unsigned slot = (queue->first + queue->count) % BACKEND_QUEUE_MAX;

	if (queue->count > 0 && queue->slots[last].done_ns > start_ns)
		start_ns = queue->slots[last].done_ns;
	queue->slots[slot].index = index;
	queue->slots[slot].done_ns =
		start_ns + sim_random_below(&node->run->random, node->backend.apply_max_ns + 1);
	queue->count++;
}

static void take_entries(struct node *node)
{
	struct process *process = &node->process;
	unsigned room = 1 + (unsigned)sim_random_below(&node->run->random, BACKEND_QUEUE_MAX);
	struct mu_entry entry;

	while (!process->seeking && process->queue.count < room && mu_next(process->mu, &entry)) {
		if (entry.lsn > process->view.commit_lsn)
			run_fail(node->run, FOUND_MISUSE,
				 "replica %u is handed lsn %" PRIu64 " but has committed %" PRIu64,
				 node->id, entry.lsn, process->view.commit_lsn);
		process->handed = oracle_hand_out(&node->run->oracle, node, process->handed,
						  process->view.era, &entry);
		node->run->digest = sim_mix(node->run->digest ^ entry.lsn ^ node->id);
		run_trace(node->run, node,
			  "takes index %" PRId64 " lsn %" PRIu64 " ballot %" PRIx64
			  " kind %d, %zu bytes",
			  process->handed, entry.lsn, entry.ballot, (int)entry.kind,
			  entry.payload_bytes);
		if (!process->seeking)
			backend_push(node, process->handed);
	}
}

/* Another log: it began anew. What was read of the old one is no measure. */
static void notice_era(struct node *node)
{
	struct process *process = &node->process;
	struct run *run = node->run;

	if (process->view.era == 0 || process->view.era == process->era)
		return;
	process->era = process->view.era;
	process->seeking = true;
	process->queue.count = 0;
	if (!run->recovering)
		return;
	run->recovering = false;
	oracle_all_lost(&run->oracle, backends_best(run));
}

void application_after_step(struct node *node)
{
	struct process *process = &node->process;

	notice_era(node);
	if (!node->backend.up || node->backend.stale || process->seeking)
		return;
	backend_advance(node);
	take_entries(node);
	if (!process->seeking && mu_stale(process->mu))
		become_stale(node);
}

uint64_t application_next_ns(const struct node *node)
{
	const struct process *process = &node->process;

	if (process->queue.count > 0)
		return process->queue.slots[process->queue.first].done_ns;
	if (process->seeking && node->backend.up && !node->backend.stale)
		return run_now(node->run) + node->run->plan.config.tick_ns / 2;
	return UINT64_MAX;
}

/* ------------------------------------------------------------------ its misfortunes */

static void stand_at(struct node *node, int64_t index)
{
	node->backend.applied = node->backend.durable = index;
	node->backend.foreign_era = 0;
	node->backend.restores++;
	if (!node->alive)
		return;
	node->process.seeking = true;
	node->process.queue.count = 0;
	node_wake(node, MU_PLANE_DATA, node->run->plan.jitter_ns);
}

void backend_disconnect(struct node *node)
{
	uint64_t foreign_era = node->backend.foreign_era;

	stand_at(node, node->backend.durable);
	node->backend.foreign_era = foreign_era;
	node->backend.up = false;
}

void backend_revive(struct node *node, int64_t index)
{
	run_trace(node->run, node, "backend comes back with the state of era %" PRIx64,
		  node->run->oracle.former_era);
	backend_lose(node, -1);
	node->backend.foreign_era = node->run->oracle.former_era;
	node->backend.foreign_lsn = oracle_lsn(&node->run->oracle, index);
}

void backend_regain(struct node *node, int64_t index)
{
	run_trace(node->run, node, "backend has index %" PRId64 " again", index);
	node->backend.stale = node->backend.intact = false;
	stand_at(node, index);
}

void backend_lose(struct node *node, int64_t survives)
{
	assert(survives <= node->backend.durable);
	run_trace(node->run, node, "backend falls back from index %" PRId64 " to %" PRId64,
		  node->backend.durable, survives);
	node->backend.stale = node->backend.intact = false;
	stand_at(node, survives);
}

int64_t backends_best(const struct run *run)
{
	int64_t best = -1;

	for (unsigned id = 1; id <= run->plan.replicas; id++)
		if (members_has(run, &run->node[id]) && run->node[id].backend.durable > best)
			best = run->node[id].backend.durable;
	return best;
}

void backend_transfer(struct node *node)
{
	struct run *run = node->run;
	int64_t best = backends_best(run);

	run_trace(run, node, "backend is restored to index %" PRId64, best);
	run->transfers++;
	node->backend.stale = node->backend.intact = false;
	stand_at(node, best);
}
