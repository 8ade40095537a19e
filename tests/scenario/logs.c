/*
 * logs.c - what stands in a replica's memory, whether or not a process runs
 * there: its log, as a reader of tails would see it, and who may write it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

const char *ballot_name(uint64_t ballot)
{
	static char name[8][32];
	static unsigned next;
	char *text = name[next++ % 8];

	snprintf(text, sizeof(name[0]), "%llu.%u", (unsigned long long)(ballot >> 8),
		 mu_ballot_id(ballot));
	return text;
}

static bool ring_of(const struct scenario *scenario, unsigned id, struct mu_ring *ring,
		    const struct mu_replication_header **header)
{
	const void *memory = sim_memory(scenario->run.world, id, MU_REGION_REPLICATION);

	if (memory == NULL)
		return false;
	mu_ring_init(ring, &scenario->run.plan.config, (void *)(uintptr_t)memory);
	*header = memory;
	return true;
}

/* Which of its proposal's fragments lies at lsn, counted from 1. */
static unsigned fragment_number(const struct mu_ring *ring, const struct placed *placed,
				uint64_t lsn)
{
	struct mu_position at;
	unsigned number = 0;

	for (uint64_t next = placed->first_lsn; next <= lsn; next = at.end) {
		if (!mu_ring_entry(ring, next, &at))
			return 0;
		number += mu_ring_at(ring, next)->kind == MU_KIND_APPLICATION;
	}
	return number;
}

static void name_proposal(const struct scenario *scenario, const struct mu_ring *ring,
			  const struct mu_entry_header *entry, char name[NAME_BYTES])
{
	const struct placed *placed = clients_placed_at(scenario, entry->ballot, entry->lsn);
	const uint8_t whole = MU_ENTRY_FIRST | MU_ENTRY_LAST;

	if (placed == NULL)
		strcpy(name, "?");
	else if ((entry->flags & whole) == whole)
		strcpy(name, placed->name);
	else
		snprintf(name, NAME_BYTES, "%.48s/%u", placed->name,
			 fragment_number(ring, placed, entry->lsn));
}

const char *configuration_name(uint64_t configuration)
{
	static char name[NAME_BYTES];
	const char *between = "members ";

	*name = '\0';
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		if (!(mu_configuration_members(configuration) >> id & 1))
			continue;
		snprintf(name + strlen(name), NAME_BYTES - strlen(name), "%s%u", between, id);
		between = ",";
	}
	return name;
}

static void name_entry(const struct scenario *scenario, const struct mu_ring *ring, uint64_t lsn,
		       char name[NAME_BYTES])
{
	const struct mu_entry_header *entry = mu_ring_at(ring, lsn);
	struct mu_readmission who;
	uint64_t configuration;

	switch ((enum mu_kind)entry->kind) {
	case MU_KIND_GENESIS:
		strcpy(name, "genesis");
		break;
	case MU_KIND_SKIP:
		strcpy(name, "skip");
		break;
	case MU_KIND_LEADER:
		snprintf(name, NAME_BYTES, "first of %s", ballot_name(entry->ballot));
		break;
	case MU_KIND_READMIT:
		memcpy(&who, entry + 1, sizeof(who));
		snprintf(name, NAME_BYTES, "readmit %u", (unsigned)who.id);
		break;
	case MU_KIND_CONFIGURATION:
		memcpy(&configuration, entry + 1, sizeof(configuration));
		strcpy(name, configuration_name(configuration));
		break;
	case MU_KIND_APPLICATION:
		name_proposal(scenario, ring, entry, name);
		break;
	}
}

const char *entry_name(const struct scenario *scenario, unsigned id, uint64_t lsn)
{
	static char name[4][NAME_BYTES];
	static unsigned next;
	char *text = name[next++ % 4];
	const struct mu_replication_header *header;
	struct mu_position position;
	struct mu_ring ring;

	strcpy(text, "nothing");
	if (ring_of(scenario, id, &ring, &header) && lsn != MU_LSN_NONE &&
	    mu_ring_entry(&ring, lsn, &position))
		name_entry(scenario, &ring, lsn, text);
	return text;
}

/* The oldest entry, of at most `last` behind it, from which the log can be read on. */
static struct mu_position oldest_of(const struct mu_ring *ring, struct mu_position from,
				    unsigned last, bool *more)
{
	struct mu_position before;

	*more = false;
	while (from.prev_lsn != MU_LSN_NONE && mu_ring_entry(ring, from.prev_lsn, &before) &&
	       before.end == from.lsn && mu_entry_follows(&before, &from)) {
		if (!last--) {
			*more = true;
			break;
		}
		from = before;
	}
	return from;
}

static void print_log(const struct scenario *scenario, const struct mu_ring *ring,
		      struct mu_position at, uint64_t commit, FILE *out)
{
	struct mu_position next;
	bool goes_on;

	do {
		char name[NAME_BYTES];

		name_entry(scenario, ring, at.lsn, name);
		fprintf(out, " %s", name);
		if (mu_ring_at(ring, at.lsn)->kind == MU_KIND_APPLICATION)
			fprintf(out, " (%s)", ballot_name(at.ballot));
		goes_on = mu_ring_next(ring, &at, &next);
		if (at.lsn == commit)
			fputs(" |", out);
		else if (goes_on)
			putc(',', out);
		at = next;
	} while (goes_on);
}

/* Entries in order, with their ballots; | stands behind the one that the commit word names. */
void say_log(struct scenario *scenario, unsigned id, unsigned last)
{
	const struct mu_replication_header *header;
	struct mu_position at;
	struct mu_ring ring;
	char *text = NULL;
	size_t bytes;
	FILE *out;
	bool more;

	if (!ring_of(scenario, id, &ring, &header)) {
		say(scenario, id, SAY_ALWAYS, "log: lost");
		return;
	}
	if (header->commit == MU_LSN_NONE || !mu_ring_entry(&ring, header->commit, &at)) {
		say(scenario, id, SAY_ALWAYS, "log: none");
		return;
	}
	at = oldest_of(&ring, at, last, &more);
	out = open_memstream(&text, &bytes);
	if (out == NULL)
		abort();
	print_log(scenario, &ring, at, header->commit, out);
	fclose(out);
	say(scenario, id, SAY_ALWAYS, "log:%s%s", more ? " ..." : "", text);
	free(text);
}

/* ------------------------------------------------------------------- the rest */

static void say_replica(struct scenario *scenario, const struct node *node)
{
	const struct mu_view *view = &node->process.view;
	struct mu_group_status status;

	if (!node->alive) {
		say(scenario, node->id, SAY_ALWAYS, "down");
		return;
	}
	mu_group_status(node->process.mu, &status);
	if (view->ballot)
		say(scenario, node->id, SAY_ALWAYS, "leads under %s, committed %s",
		    ballot_name(view->ballot), entry_name(scenario, node->id, view->commit_lsn));
	else if (view->leader)
		say(scenario, node->id, SAY_ALWAYS, "%s, sees %u lead, committed %s",
		    mu_role_name(view->role), view->leader,
		    entry_name(scenario, node->id, view->commit_lsn));
	else
		say(scenario, node->id, SAY_ALWAYS, "%s, sees no leader, committed %s",
		    mu_role_name(view->role), entry_name(scenario, node->id, view->commit_lsn));
}

void say_status(struct scenario *scenario)
{
	for (unsigned id = 1; id <= scenario->run.plan.replicas; id++)
		say_replica(scenario, &scenario->run.node[id]);
}

void say_permissions(struct scenario *scenario)
{
	for (unsigned id = 1; id <= scenario->run.plan.replicas; id++) {
		uint64_t ballot;
		unsigned holder = sim_holder(scenario->run.world, id, &ballot);

		if (holder)
			say(scenario, id, SAY_ALWAYS, "may be written by %u, under %s", holder,
			    ballot_name(ballot));
		else
			say(scenario, id, SAY_ALWAYS, "may be written by nobody else");
	}
}

/* The pull-scores that a replica keeps. */
void say_scores(struct scenario *scenario, unsigned id)
{
	struct mu_group_status status;

	mu_group_status(scenario->run.node[id].process.mu, &status);
	for (unsigned other = 1; other <= scenario->run.plan.replicas; other++)
		if (other != id)
			say(scenario, id, SAY_ALWAYS, "gives %u a score of %u: %s", other,
			    status.replica[other].score,
			    status.replica[other].alive ? "alive" : "failed");
}
