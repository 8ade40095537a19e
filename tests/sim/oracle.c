/* oracle.c - see oracle.h. */
#include "oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

#define ENTRY_FORMAT                                                               \
	"era %" PRIx64 " lsn %" PRIu64 " ballot %" PRIx64 " kind %d time %" PRIu64 \
	" %zu bytes hash %016" PRIx64
#define ENTRY_VALUES(e)                                                                         \
	(e)->era, (e)->lsn, (e)->ballot, (int)(e)->kind, (e)->timestamp_ms, (e)->payload_bytes, \
		(e)->payload_hash

void oracle_init(struct oracle *oracle, struct run *run)
{
	memset(oracle, 0, sizeof(*oracle));
	oracle->run = run;
}

void oracle_free(struct oracle *oracle)
{
	free(oracle->sequence);
	free(oracle->proposals);
}

static void *room_for_one(void *array, size_t count, size_t *capacity, size_t each)
{
	if (count < *capacity)
		return array;
	*capacity = *capacity ? *capacity * 2 : 1024;
	array = realloc(array, *capacity * each);
	if (array == NULL)
		abort();
	return array;
}

static uint64_t hash_bytes(const void *bytes, size_t count)
{
	const uint8_t *at = bytes;
	uint64_t hash = sim_mix(count + 1), word;

	for (; count >= 8; at += 8, count -= 8) {
		memcpy(&word, at, 8);
		hash = sim_mix(hash ^ word);
	}
	for (; count > 0; at++, count--)
		hash = sim_mix(hash ^ *at);
	return hash;
}

uint64_t oracle_lsn(const struct oracle *oracle, int64_t index)
{
	assert(index >= -1 && index < (int64_t)oracle->agreed_count);
	return index < 0 ? 0 : oracle->sequence[index].lsn;
}

uint64_t oracle_era(const struct oracle *oracle, int64_t index)
{
	assert(index >= -1 && index < (int64_t)oracle->agreed_count);
	return index < 0 ? 0 : oracle->sequence[index].era;
}

bool oracle_has_former_era(const struct oracle *oracle)
{
	return oracle->former_era != 0 && oracle->era_first < oracle->agreed_count &&
	       oracle->sequence[oracle->era_first].era >> 48 > oracle->former_era >> 48;
}

/* ------------------------------------------------------------------ proposals */

void oracle_payload(uint64_t number, uint8_t *out, size_t bytes)
{
	struct sim_random random = sim_random_stream(number, 'B');
	size_t at = 0;
	uint64_t word;

	for (; at < bytes; at += 8) {
		word = sim_random_next(&random);
		memcpy(out + at, &word, bytes - at < 8 ? bytes - at : 8);
	}
}

uint64_t oracle_ask(struct oracle *oracle, uint64_t ballot, uint64_t timestamp_ms, size_t bytes)
{
	uint64_t number = oracle->proposal_count + 1;
	uint8_t *payload = malloc(bytes + 1);

	if (payload == NULL)
		abort();
	oracle_payload(number, payload, bytes);
	oracle->proposals = room_for_one(oracle->proposals, oracle->proposal_count,
					 &oracle->proposal_capacity, sizeof(*oracle->proposals));
	oracle->proposals[oracle->proposal_count++] = (struct proposal){
		.ballot = ballot,
		.timestamp_ms = timestamp_ms,
		.payload_hash = hash_bytes(payload, bytes),
		.payload_bytes = bytes,
		.era = oracle->era,
		.state = PROPOSAL_ASKED,
	};
	free(payload);
	return number;
}

void oracle_refused(struct oracle *oracle, uint64_t number)
{
	struct proposal *proposal = &oracle->proposals[number - 1];

	if (proposal->agreed)
		run_fail(oracle->run, FOUND_INVENTION,
			 "proposal %" PRIu64 " was refused, yet it is in the log", number);
	proposal->state = PROPOSAL_REFUSED;
}

void oracle_made(struct oracle *oracle, uint64_t number, uint64_t lsn)
{
	struct proposal *proposal = &oracle->proposals[number - 1];

	if (proposal->agreed && proposal->lsn != lsn)
		run_fail(oracle->run, FOUND_DISAGREEMENT,
			 "proposal %" PRIu64 " was handed out as %" PRIu64 " but named %" PRIu64,
			 number, proposal->lsn, lsn);
	proposal->lsn = lsn;
	proposal->state = PROPOSAL_MADE;
}

static uint64_t last_lsn(const struct oracle *oracle)
{
	return oracle_lsn(oracle, (int64_t)oracle->agreed_count - 1);
}

void oracle_acknowledge(struct oracle *oracle, const struct node *node, uint64_t number)
{
	struct proposal *proposal = &oracle->proposals[number - 1];

	assert(proposal->state == PROPOSAL_MADE && proposal->era == oracle->era);
	if (!proposal->agreed && last_lsn(oracle) >= proposal->lsn)
		run_fail(oracle->run, FOUND_LOSS,
			 "replica %u reports proposal %" PRIu64 " at lsn %" PRIu64
			 " ballot %" PRIx64 " committed, but the sequence has gone past it without",
			 node->id, number, proposal->lsn, proposal->ballot);
	proposal->acknowledged = true;
	oracle->acknowledged_count++;
	if (number > oracle->fresh_after) {
		oracle->acknowledged_fresh++;
		oracle->fresh_bytes += 64 + proposal->payload_bytes;
	}
	if (proposal->lsn > oracle->acknowledged_lsn)
		oracle->acknowledged_lsn = proposal->lsn;
}

/* What nothing can be said of any more need not be looked at again. */
static bool is_settled(const struct oracle *oracle, const struct proposal *proposal)
{
	if (proposal->agreed || proposal->state == PROPOSAL_REFUSED || proposal->era != oracle->era)
		return true;
	return !proposal->acknowledged && proposal->ballot < oracle->leader_ballot;
}

static struct proposal *find_proposal(struct oracle *oracle, const struct agreed *entry)
{
	while (oracle->unsettled < oracle->proposal_count &&
	       is_settled(oracle, &oracle->proposals[oracle->unsettled]))
		oracle->unsettled++;
	for (size_t i = oracle->unsettled; i < oracle->proposal_count; i++) {
		struct proposal *proposal = &oracle->proposals[i];

		if (proposal->agreed || proposal->era != oracle->era ||
		    proposal->ballot != entry->ballot)
			continue;
		if (proposal->state == PROPOSAL_MADE && proposal->lsn == entry->lsn)
			return proposal;
		if (proposal->state == PROPOSAL_ASKED &&
		    proposal->payload_hash == entry->payload_hash &&
		    proposal->payload_bytes == entry->payload_bytes)
			return proposal;
	}
	return NULL;
}

/* ------------------------------------------------------------------- the sequence */

static void check_order(struct oracle *oracle, const struct node *node, const struct agreed *entry)
{
	const struct agreed *last;

	if (oracle->agreed_count == oracle->era_first)
		return;
	last = &oracle->sequence[oracle->agreed_count - 1];
	if (entry->era != last->era)
		run_fail(oracle->run, FOUND_DISAGREEMENT, "replica %u: another era: " ENTRY_FORMAT,
			 node->id, ENTRY_VALUES(entry));
	if (entry->lsn <= last->lsn)
		run_fail(oracle->run, FOUND_DISORDER,
			 "replica %u: lsn goes back from %" PRIu64 " to %" PRIu64, node->id,
			 last->lsn, entry->lsn);
	if (entry->timestamp_ms < last->timestamp_ms)
		run_fail(oracle->run, FOUND_DISORDER,
			 "replica %u: time goes back from " ENTRY_FORMAT " to " ENTRY_FORMAT,
			 node->id, ENTRY_VALUES(last), ENTRY_VALUES(entry));
}

/* The first entry of a leader: everything of lower ballots lies before it. */
static void agree_on_leader(struct oracle *oracle, const struct node *node,
			    const struct agreed *entry)
{
	if (entry->ballot <= oracle->leader_ballot)
		run_fail(oracle->run, FOUND_DISORDER,
			 "replica %u: leader's entry behind one of ballot %" PRIx64
			 ": " ENTRY_FORMAT,
			 node->id, oracle->leader_ballot, ENTRY_VALUES(entry));
	oracle->leader_ballot = entry->ballot;
}

static void agree_on_proposal(struct oracle *oracle, const struct node *node, struct agreed *entry)
{
	struct proposal *proposal = find_proposal(oracle, entry);

	if (entry->ballot != oracle->leader_ballot)
		run_fail(oracle->run, FOUND_DISORDER,
			 "replica %u: under the leader of ballot %" PRIx64 " came " ENTRY_FORMAT,
			 node->id, oracle->leader_ballot, ENTRY_VALUES(entry));
	if (proposal == NULL)
		run_fail(oracle->run, FOUND_INVENTION, "replica %u: nobody proposed " ENTRY_FORMAT,
			 node->id, ENTRY_VALUES(entry));
	if (proposal->state == PROPOSAL_REFUSED)
		run_fail(oracle->run, FOUND_INVENTION,
			 "replica %u: had been refused: " ENTRY_FORMAT, node->id,
			 ENTRY_VALUES(entry));
	if (proposal->payload_hash != entry->payload_hash ||
	    proposal->payload_bytes != entry->payload_bytes ||
	    proposal->timestamp_ms != entry->timestamp_ms)
		run_fail(oracle->run, FOUND_INVENTION, "replica %u: not as proposed: " ENTRY_FORMAT,
			 node->id, ENTRY_VALUES(entry));
	proposal->agreed = true;
	proposal->lsn = entry->lsn;
	entry->proposal = (uint64_t)(proposal - oracle->proposals) + 1;
}

/* The sequence now reaches `entry`: nothing acknowledged may have been left out. */
static void check_nothing_skipped(struct oracle *oracle, const struct node *node,
				  const struct agreed *entry)
{
	for (size_t i = oracle->unsettled; i < oracle->proposal_count; i++) {
		const struct proposal *proposal = &oracle->proposals[i];

		if (proposal->acknowledged && !proposal->agreed && proposal->era == oracle->era &&
		    proposal->lsn <= entry->lsn)
			run_fail(oracle->run, FOUND_LOSS,
				 "proposal %zu at lsn %" PRIu64 " ballot %" PRIx64
				 " was reported committed; replica %u is handed " ENTRY_FORMAT
				 " instead",
				 i + 1, proposal->lsn, proposal->ballot, node->id,
				 ENTRY_VALUES(entry));
	}
}

static void agree(struct oracle *oracle, const struct node *node, struct agreed *entry)
{
	check_order(oracle, node, entry);
	if (entry->kind == MU_ENTRY_LEADER)
		agree_on_leader(oracle, node, entry);
	else
		agree_on_proposal(oracle, node, entry);
	check_nothing_skipped(oracle, node, entry);
	oracle->sequence = room_for_one(oracle->sequence, oracle->agreed_count,
					&oracle->agreed_capacity, sizeof(*oracle->sequence));
	oracle->sequence[oracle->agreed_count++] = *entry;
}

int64_t oracle_hand_out(struct oracle *oracle, const struct node *node, int64_t position,
			uint64_t era, const struct mu_entry *entry)
{
	struct agreed seen = {
		.era = era,
		.lsn = entry->lsn,
		.ballot = entry->ballot,
		.timestamp_ms = entry->timestamp_ms,
		.payload_bytes = entry->payload_bytes,
		.payload_hash = hash_bytes(entry->payload, entry->payload_bytes),
		.kind = entry->kind,
	};
	int64_t index = position + 1;
	const struct agreed *known;

	assert(index >= 0 && index <= (int64_t)oracle->agreed_count);
	if (index == (int64_t)oracle->agreed_count)
		agree(oracle, node, &seen);
	known = &oracle->sequence[index];
	if (known->era != seen.era || known->lsn != seen.lsn || known->ballot != seen.ballot ||
	    known->kind != seen.kind || known->timestamp_ms != seen.timestamp_ms ||
	    known->payload_bytes != seen.payload_bytes || known->payload_hash != seen.payload_hash)
		run_fail(oracle->run, FOUND_DISAGREEMENT,
			 "disagreement at index %" PRId64 ": replica %u is handed " ENTRY_FORMAT
			 ", another had " ENTRY_FORMAT,
			 index, node->id, ENTRY_VALUES(&seen), ENTRY_VALUES(known));
	return index;
}

/* ------------------------------------------------------------------------- the rest */

uint64_t oracle_must_see_lsn(const struct oracle *oracle)
{
	uint64_t lsn = last_lsn(oracle);

	return lsn > oracle->acknowledged_lsn ? lsn : oracle->acknowledged_lsn;
}

void oracle_fenced(struct oracle *oracle, const struct node *node, uint64_t must_see_lsn,
		   uint64_t sees_lsn)
{
	if (sees_lsn < must_see_lsn)
		run_fail(oracle->run, FOUND_STALE_READ,
			 "replica %u answers a fenced read from lsn %" PRIu64 ", but %" PRIu64
			 " had been acknowledged before it arrived",
			 node->id, sees_lsn, must_see_lsn);
}

void oracle_all_lost(struct oracle *oracle, int64_t best_applied)
{
	assert(best_applied < (int64_t)oracle->agreed_count);
	oracle->era++;
	if (oracle->agreed_count > oracle->era_first)
		oracle->former_era = oracle_era(oracle, (int64_t)oracle->agreed_count - 1);
	oracle->agreed_count = (size_t)(best_applied + 1);
	oracle->era_first = oracle->agreed_count;
	oracle->leader_ballot = 0;
	if (oracle->acknowledged_lsn > last_lsn(oracle))
		oracle->acknowledged_lsn = last_lsn(oracle);
}

void oracle_mark(struct oracle *oracle)
{
	oracle->fresh_after = oracle->proposal_count;
	oracle->acknowledged_fresh = oracle->fresh_bytes = 0;
}

void oracle_settle(struct oracle *oracle)
{
	for (size_t i = oracle->unsettled; i < oracle->proposal_count; i++) {
		const struct proposal *proposal = &oracle->proposals[i];

		if (proposal->acknowledged && !proposal->agreed && proposal->era == oracle->era)
			run_fail(oracle->run, FOUND_LOSS,
				 "proposal %zu at lsn %" PRIu64 " ballot %" PRIx64
				 " was reported committed and is nowhere",
				 i + 1, proposal->lsn, proposal->ballot);
	}
}
