/*
 * members.c - groups whose members change: who is one, what whoever leads is asked
 * for, and what may be lost of memories without losing a majority of them.
 */
#include <inttypes.h>

#include "node.h"
#include "run.h"

uint64_t members_now(const struct run *run)
{
	if (!run->plan.changes)
		return ((UINT64_C(1) << run->plan.replicas) - 1) << 1;
	return mu_configuration_members(run->committed);
}

bool members_has(const struct run *run, const struct node *node)
{
	return members_now(run) >> node->id & 1;
}

/* Configurations that were committed are one sequence. */
static void check_committed(struct node *node, uint64_t committed)
{
	struct run *run = node->run;

	if (mu_configuration_epoch(committed) == mu_configuration_epoch(run->committed) &&
	    committed != run->committed)
		run_fail(run, FOUND_DISAGREEMENT,
			 "replica %u takes configuration %" PRIx64
			 " for committed, another %" PRIx64,
			 node->id, committed, run->committed);
	if (mu_configuration_members(committed) & run->gone && committed > run->committed)
		run_fail(run, FOUND_DISAGREEMENT,
			 "replica %u has configuration %" PRIx64
			 " committed, and in it one of ids %" PRIx64 ", which had left",
			 node->id, committed, run->gone);
}

void members_look(struct node *node)
{
	struct run *run = node->run;
	struct mu_group_status status;

	if (!run->plan.changes)
		return;
	mu_group_status(node->process.mu, &status);
	node->configuration = status.configuration;
	if (status.committed != node->committed)
		run_trace(run, node, "has configuration %" PRIx64 " committed", status.committed);
	check_committed(node, status.committed);
	if (status.committed > node->committed)
		node->committed = status.committed;
	if (status.committed > run->committed) {
		run->gone |= mu_configuration_members(run->committed) &
			     ~mu_configuration_members(status.committed);
		run->committed = status.committed;
	}
}

static uint64_t changed(uint64_t from, enum mu_change change, unsigned id)
{
	uint64_t bit = UINT64_C(1) << id;

	return change == MU_CHANGE_ADD ? from | bit : from & ~bit;
}

/* Do enough of these vote, but for one who may be about to vote no more? */
static bool has_majority(const struct run *run, uint64_t members, unsigned but)
{
	unsigned voting = 0;

	for (unsigned id = 1; id <= run->plan.replicas; id++)
		voting += (members >> id & 1) && id != but && run->node[id].voting;
	return voting >= mu_majority_of(members);
}

/* In force there, as soon as it has appended it. */
static uint64_t configuration_of(const struct node *node)
{
	return node->alive ? node->process.mu->data.configuration : node->configuration;
}

bool members_can_spare(const struct run *run, const struct node *spared)
{
	uint64_t now = members_now(run);

	if (!has_majority(run, now, spared->id))
		return false;
	for (unsigned id = 1; run->plan.changes && id <= run->plan.replicas; id++) {
		const struct node *node = &run->node[id];
		uint64_t wish, next = mu_configuration_members(configuration_of(node));

		if (configuration_of(node) > run->committed && !has_majority(run, next, spared->id))
			return false;
		if (!node->alive)
			continue;
		wish = node->process.mu->shared.change;
		if (wish &&
		    !has_majority(run,
				  changed(now, (enum mu_change)(wish >> 8 & 0xff), wish & 0xff),
				  spared->id))
			return false;
		if (node->process.change &&
		    !has_majority(run, changed(now, node->process.change, node->process.changed),
				  spared->id))
			return false;
	}
	return true;
}

bool members_are_settled(const struct run *run)
{
	for (unsigned id = 1; run->plan.changes && id <= run->plan.replicas; id++) {
		const struct node *node = &run->node[id];

		if (configuration_of(node) > run->committed ||
		    (node->alive && (node->process.change || node->process.mu->shared.change)))
			return false;
	}
	return true;
}

void members_change(struct run *run, struct node *leader)
{
	unsigned id = (unsigned)sim_random_between(&run->faults, 1, run->plan.replicas);
	uint64_t now = members_now(run);
	bool is_member;

	/* Once more, as a rule, if nothing is to be had of this one. */
	if (mu_configuration_removed(run->committed) >> id & 1)
		id = (unsigned)sim_random_between(&run->faults, 1, run->plan.replicas);
	is_member = now >> id & 1;

	if (!leader->alive ||
	    (is_member && (__builtin_popcountll(now) <= 2 ||
			   !has_majority(run, changed(now, MU_CHANGE_REMOVE, id), 0))))
		return;
	leader->process.change = is_member ? MU_CHANGE_REMOVE : MU_CHANGE_ADD;
	leader->process.changed = id;
}

void members_ask(struct node *node)
{
	struct process *process = &node->process;
	enum mu_change change = process->change;
	const char *why = NULL;
	enum mu_error error;

	process->change = 0;
	error = mu_change_members(process->mu, change, process->changed, &why);
	run_trace(node->run, node, "is asked to %s %u: %s",
		  change == MU_CHANGE_ADD ? "add" : "remove", process->changed,
		  error == MU_OK ? "it will" : why);
}
