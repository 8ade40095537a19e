/*
 * plays.c - the plays of stage.h, each for one rule of the design that chance
 * hardly ever puts to the test. A play gives way while it waits for the moment of
 * its next move. It looks at replicas from the inside, since it waits for what
 * they do not tell: it never changes anything there.
 */
#include "plays.h"

#include "node.h"
#include "run.h"

#define PATIENCE_TICKS 400 /* for one move */

/* Wait for the moment; the play is over if it does not come. */
#define AWAIT(stage, condition)                          \
	do {                                             \
		stage_be_patient(stage, PATIENCE_TICKS); \
		while (!(condition))                     \
			if (!stage_wait_on(stage))       \
				return;                  \
	} while (0)

/* ----------------------------------------------------------------------- looking */

/* Its first entry is in its own log, and on its way. */
static bool establishes(const struct node *node)
{
	const struct mu_data *d = stage_data_of(node);

	return d->state >= MU_DATA_ESTABLISH && d->commit.lsn < d->first_lsn;
}

static bool asks(const struct node *node)
{
	return node->alive && node->process.mu->bg.campaign == MU_CAMPAIGN_ASKING;
}

/* MU_LSN_NONE if there is no log, or no memory. */
static uint64_t commit_word(const struct node *node)
{
	const struct mu_replication_header *header =
		sim_memory(node->run->world, node->id, MU_REGION_REPLICATION);

	return header != NULL ? header->commit : MU_LSN_NONE;
}

static bool holds(const struct node *node, const struct mu_position *at)
{
	const uint8_t *region = sim_memory(node->run->world, node->id, MU_REGION_REPLICATION);
	uint64_t place = at->lsn & (node->run->plan.config.ring_bytes - 1);
	const struct mu_entry_header *entry = (const void *)(region + MU_RING_OFFSET + place);

	return region != NULL && entry->lsn == at->lsn && entry->checksum == at->checksum;
}

static bool is_asked_by(const struct node *node, const struct node *candidate)
{
	const struct mu_background_region *lines =
		sim_memory(node->run->world, node->id, MU_REGION_BACKGROUND);

	return lines != NULL && lines->request[candidate->id].word[MU_REQUEST_BALLOT] != 0;
}

/* -------------------------------------------------------------------- the plays */

static void play_late_acks(struct stage *stage)
{
	struct node *leader = stage->who[0];

	for (unsigned i = 1; i < stage->run->plan.replicas; i++)
		stage_block(stage, MU_PLANE_DATA, stage->who[i], leader, true);
	AWAIT(stage, stage_data_of(leader)->fence_next > stage_data_of(leader)->fence_done);
	stage_rest(stage, 2);
	/* What it says from now on is held up. */
	for (unsigned i = 1; i < stage->run->plan.replicas; i++)
		stage_block(stage, MU_PLANE_DATA, leader, stage->who[i], true);
	stage_sleep(stage, leader, MU_PLANE_BACKGROUND);
	AWAIT(stage, stage_find(stage, stage_leads, leader) != NULL);
	stage_rest(stage, 5);
	for (unsigned i = 1; i < stage->run->plan.replicas; i++)
		stage_block(stage, MU_PLANE_DATA, stage->who[i], leader, false);
	stage_rest(stage, 100);
}

/* The leader's entries reach nobody but `only`, who acknowledges so many bytes of them. */
static bool has_tail_at(const struct node *leader, const struct node *only, uint64_t bytes)
{
	const struct mu_data *d = stage_data_of(leader);

	return d->state == MU_DATA_LEADING && d->peer[only->id].acked_end >= d->commit.end + bytes;
}

static void write_to_one(struct stage *stage, const struct node *leader, const struct node *only)
{
	for (unsigned i = 0; i < stage->run->plan.replicas; i++)
		if (stage->who[i] != leader && stage->who[i] != only)
			stage_block(stage, MU_PLANE_DATA, leader, stage->who[i], true);
}

/*
 * The case that forbids to count entries of older ballots (Raft's paper has it as
 * its figure 8): the old tail stands on a majority, yet another's first entry, of a
 * ballot in between, stands on a replica that was not asked.
 */
static void play_figure_8(struct stage *stage)
{
	struct node *leader = stage->who[0], *only = stage->who[1], *between;

	write_to_one(stage, leader, only);
	AWAIT(stage, has_tail_at(leader, only, 64));
	stage_seclude(stage, leader);
	stage_seclude(stage, only);
	AWAIT(stage, (between = stage_find(stage, establishes, leader)) != NULL);
	stage_die(between);
	for (unsigned i = 1; i < stage->run->plan.replicas; i++) {
		stage_link(stage, leader, stage->who[i], false);
		stage_link(stage, only, stage->who[i], false);
	}
	stage_only_may_lead(stage, leader);
	AWAIT(stage, establishes(leader));
	stage_die(leader);
	stage_backends_return(stage);
	stage_only_may_lead(stage, between);
	between->backend.up = true;
	stage_live(between);
	AWAIT(stage, stage_leads(between));
	stage_backends_return(stage);
	stage_rest(stage, 50);
}

static void play_leftovers(struct stage *stage)
{
	struct node *leader = stage->who[0], *only = stage->who[1], *shorter;

	write_to_one(stage, leader, only);
	AWAIT(stage, has_tail_at(leader, only, 512));
	stage_die(leader);
	stage_seclude(stage, only);
	AWAIT(stage, (shorter = stage_find(stage, establishes, only)) != NULL);
	write_to_one(stage, shorter, only);
	stage_link(stage, shorter, only, false);
	AWAIT(stage, holds(only, &stage_data_of(shorter)->tail));
	stage_die(shorter);
	for (unsigned i = 0; i < stage->run->plan.replicas; i++)
		if (stage->who[i] != only)
			stage_link(stage, only, stage->who[i], false);
	AWAIT(stage, stage_find(stage, stage_leads, NULL) != NULL);
	stage_rest(stage, 50);
}

static void play_behind(struct stage *stage)
{
	uint64_t ring_bytes = stage->run->plan.config.ring_bytes, applied;
	struct node *leader = stage->who[0], *behind = stage->who[1];

	behind->backend.apply_max_ns = stage_ticks(stage, STAGE_LONG_TICKS);
	stage_rest(stage, 1);
	applied = oracle_lsn(&stage->run->oracle, behind->backend.durable);
	AWAIT(stage, stage_data_of(leader)->commit.end > applied + ring_bytes);
	stage_die(leader);
	stage_only_may_lead(stage, behind);
	AWAIT(stage, stage_data_of(behind)->state >= MU_DATA_LEVEL);
	stage_die(behind);
	stage_live(behind);
	stage_rest(stage, 50);
}

static void play_two_words(struct stage *stage)
{
	struct node *leader = stage->who[0], *next = stage->who[1], *last = stage->who[2];
	struct node *one = stage->who[3], *two = stage->who[4];
	struct mu_position end;

	stage_block(stage, MU_PLANE_DATA, one, leader, true);
	stage_block(stage, MU_PLANE_DATA, two, leader, true);
	AWAIT(stage, stage_data_of(next)->oldest_lsn > commit_word(one) &&
			     stage_data_of(next)->oldest_lsn > commit_word(two));
	stage_block(stage, MU_PLANE_DATA, leader, next, true);
	stage_block(stage, MU_PLANE_DATA, leader, last, true);
	AWAIT(stage, stage_leads(leader) &&
			     stage_data_of(leader)->tail.end > stage_data_of(leader)->commit.end);
	end = stage_data_of(leader)->tail;
	AWAIT(stage, holds(one, &end) && holds(two, &end) && !holds(next, &end));
	stage_block(stage, MU_PLANE_DATA, leader, one, true);
	stage_block(stage, MU_PLANE_DATA, leader, two, true);
	stage_block(stage, MU_PLANE_DATA, one, leader, false);
	stage_block(stage, MU_PLANE_DATA, two, leader, false);
	AWAIT(stage, stage_leads(leader) && stage_data_of(leader)->commit.lsn >= end.lsn);
	stage_die(leader);
	stage_only_may_lead(stage, next);
	stage_link(stage, next, last, true);
	AWAIT(stage, (commit_word(one) == MU_LSN_NONE && commit_word(two) == MU_LSN_NONE) ||
			     stage_leads(next));
	stage_die(next);
	stage_backends_return(stage);
	stage_rest(stage, 200);
}

/* A majority takes the leader for dead, and one of it asks one other alone, then dies. */
static void play_shut_out(struct stage *stage)
{
	struct node *leader = stage->who[0], *candidate, *voter;

	for (unsigned i = 1; i <= 3; i++)
		stage_block(stage, MU_PLANE_BACKGROUND, stage->who[i], leader, true);
	AWAIT(stage, (candidate = stage_find(stage, asks, leader)) != NULL);
	voter = candidate == stage->who[4] ? stage->who[3] : stage->who[4];
	for (unsigned i = 0; i < 5; i++)
		if (stage->who[i] != candidate && stage->who[i] != voter)
			stage_block(stage, MU_PLANE_BACKGROUND, candidate, stage->who[i], true);
	AWAIT(stage, is_asked_by(voter, candidate));
	stage_rest(stage, 2);
	stage_die(candidate);
	for (unsigned i = 1; i <= 3; i++)
		stage_block(stage, MU_PLANE_BACKGROUND, stage->who[i], leader, false);
	stage_rest(stage, 100);
}

/* Readmitted once, a follower is restored again, from the log that says so. */
static void play_readmitted(struct stage *stage)
{
	struct node *leader = stage->who[0], *twice = stage->who[1], *heir = stage->who[2];

	node_crash(twice, true);
	stage_live(twice);
	AWAIT(stage,
	      twice->voting && stage_data_of(twice)->commit.lsn == stage_data_of(leader)->tail.lsn);
	stage_sleep(stage, leader, MU_PLANE_DATA);
	stage_sleep(stage, leader, MU_PLANE_BACKGROUND);
	stage_seclude(stage, leader);
	AWAIT(stage, stage_leads(heir) || stage_leads(twice));
	stage_rest(stage, 2);
	stage_seclude(stage, heir);
	stage_sleep(stage, heir, MU_PLANE_DATA);
	stage_sleep(stage, heir, MU_PLANE_BACKGROUND);
	node_crash(twice, true);
	stage_live(twice);
	stage_link(stage, leader, twice, false);
	node_hurry(leader, MU_PLANE_DATA);
	node_hurry(leader, MU_PLANE_BACKGROUND);
	stage_rest(stage, 100);
}

static void play_usurper(struct stage *stage)
{
	struct node *leader = stage->who[0], *heir, *blank;

	stage_sleep(stage, leader, MU_PLANE_BACKGROUND);
	stage_seclude(stage, leader);
	AWAIT(stage, (heir = stage_find(stage, stage_leads, leader)) != NULL);
	blank = heir == stage->who[1] ? stage->who[2] : stage->who[1];
	stage_rest(stage, 5);
	stage_seclude(stage, heir);
	stage_sleep(stage, heir, MU_PLANE_DATA);
	stage_sleep(stage, heir, MU_PLANE_BACKGROUND);
	node_crash(blank, true);
	stage_live(blank);
	stage_link(stage, leader, blank, false);
	node_hurry(leader, MU_PLANE_BACKGROUND);
	AWAIT(stage, is_asked_by(blank, leader));
	stage_sleep(stage, leader, MU_PLANE_BACKGROUND);
	stage_rest(stage, 100);
	node_crash(leader, false);
	stage_mend(stage);
	stage_rest(stage, 100);
}

static bool is_prepared(const struct node *node)
{
	return node->alive && node->process.mu->record->prepared_count > 0;
}

/*
 * One that was prepared for a cold start sleeps until those who started have a
 * leader, and hears his request before it reads what he is.
 */
static void play_cold(struct stage *stage)
{
	struct run *run = stage->run;
	struct node *late = stage->who[0], *leader, *other;

	for (unsigned i = 0; i < run->plan.replicas; i++)
		node_crash(stage->who[i], true);
	oracle_all_lost(&run->oracle, backends_best(run));
	for (unsigned i = 0; i < run->plan.replicas; i++)
		stage_live(stage->who[i]);
	AWAIT(stage, is_prepared(late));
	stage_sleep(stage, late, MU_PLANE_BACKGROUND);
	stage_sleep(stage, late, MU_PLANE_DATA);
	AWAIT(stage, (leader = stage_find(stage, stage_leads, late)) != NULL);
	other = leader == stage->who[1] ? stage->who[2] : stage->who[1];
	stage_rest(stage, 5);
	stage_block(stage, MU_PLANE_BACKGROUND, late, leader, true);
	stage_block(stage, MU_PLANE_BACKGROUND, late, other, true);
	node_hurry(late, MU_PLANE_BACKGROUND);
	AWAIT(stage, stage_data_of(leader)->peer[late->id].state == MU_PEER_FOLLOWS);
	stage_rest(stage, 5);
	stage_block(stage, MU_PLANE_DATA, leader, other, true);
	stage_block(stage, MU_PLANE_BACKGROUND, late, leader, false);
	stage_block(stage, MU_PLANE_BACKGROUND, late, other, false);
	stage_rest(stage, 20);
	stage_die(leader);
	node_hurry(late, MU_PLANE_DATA);
	stage_rest(stage, 100);
}

/* Its log may be written under a ballot that is not on record. */
static bool is_hasty(const struct node *node)
{
	uint64_t ballot = 0;

	return node->alive && sim_holder(node->run->world, node->id, &ballot) != 0 &&
	       ballot > node->process.mu->record->granted;
}

static void play_record(struct stage *stage)
{
	struct node *leader = stage->who[0], *hasty;
	uint64_t ballot;

	stage_sleep(stage, leader, MU_PLANE_BACKGROUND);
	AWAIT(stage, (hasty = stage_find(stage, is_hasty, NULL)) != NULL ||
			     stage_find(stage, stage_leads, leader) != NULL);
	if (hasty == NULL)
		return;
	stage_die(&stage->run->node[sim_holder(stage->run->world, hasty->id, &ballot)]);
	stage_die(hasty);
	stage_live(hasty);
	node_hurry(leader, MU_PLANE_BACKGROUND);
	stage_rest(stage, 60);
}

static void play_held_up(struct stage *stage)
{
	struct node *leader = stage->who[0], *slow = stage->who[1];
	uint64_t end;

	stage_link(stage, leader, slow, true);
	AWAIT(stage, stage_data_of(leader)->peer[slow->id].posted_end >
			     stage_data_of(leader)->peer[slow->id].acked_end);
	end = stage_data_of(leader)->peer[slow->id].posted_end;
	AWAIT(stage, stage_data_of(leader)->oldest_lsn >= end);
	stage_block(stage, MU_PLANE_DATA, leader, slow, false);
	stage_rest(stage, 100);
}

void (*const plays[])(struct stage *stage) = {
	[PLAY_SHUT_OUT] = play_shut_out,   [PLAY_READMITTED] = play_readmitted,
	[PLAY_LATE_ACKS] = play_late_acks, [PLAY_FIGURE_8] = play_figure_8,
	[PLAY_LEFTOVERS] = play_leftovers, [PLAY_BEHIND] = play_behind,
	[PLAY_TWO_WORDS] = play_two_words, [PLAY_USURPER] = play_usurper,
	[PLAY_COLD] = play_cold,           [PLAY_RECORD] = play_record,
	[PLAY_HELD_UP] = play_held_up,
};
