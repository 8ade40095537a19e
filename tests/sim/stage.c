/* stage.c - see stage.h: when a play begins and ends, and the moves it is made of. */
#include "stage.h"

#include <stdlib.h>

#include "fiber.h"
#include "node.h"
#include "plays.h"
#include "run.h"

/* ----------------------------------------------------------------------- waiting */

uint64_t stage_ticks(const struct stage *stage, uint64_t count)
{
	return count * stage->run->plan.config.tick_ns;
}

void stage_be_patient(struct stage *stage, uint64_t count)
{
	stage->until_ns = run_now(stage->run) + stage_ticks(stage, count);
}

/* False once patience is at an end. */
bool stage_wait_on(struct stage *stage)
{
	if (run_now(stage->run) >= stage->until_ns)
		return false;
	fiber_give_way(stage->fiber);
	return true;
}

void stage_rest(struct stage *stage, uint64_t count)
{
	stage_be_patient(stage, count);
	while (stage_wait_on(stage))
		;
}

/* ----------------------------------------------------------------------- looking */

const struct mu_data *stage_data_of(const struct node *node)
{
	static const struct mu_data dead;

	return node->alive ? &node->process.mu->data : &dead;
}

bool stage_leads(const struct node *node)
{
	return stage_data_of(node)->state == MU_DATA_LEADING;
}

struct node *stage_find(const struct stage *stage, bool (*is)(const struct node *node),
			const struct node *but)
{
	for (unsigned i = 0; i < stage->run->plan.replicas; i++)
		if (stage->who[i] != but && is(stage->who[i]))
			return stage->who[i];
	return NULL;
}

/* ------------------------------------------------------------------------ moves */

void stage_block(struct stage *stage, enum mu_plane plane, const struct node *from,
		 const struct node *to, bool blocked)
{
	run_trace(stage->run, from, "%s to %u: %s", plane == MU_PLANE_DATA ? "data" : "background",
		  to->id, blocked ? "blocked" : "free");
	sim_block_plane(stage->run->world, plane, from->id, to->id, blocked);
}

void stage_link(struct stage *stage, const struct node *a, const struct node *b, bool blocked)
{
	for (unsigned plane = 0; plane < MU_PLANES; plane++) {
		stage_block(stage, plane, a, b, blocked);
		stage_block(stage, plane, b, a, blocked);
	}
}

void stage_seclude(struct stage *stage, const struct node *node)
{
	for (unsigned i = 0; i < stage->run->plan.replicas; i++)
		if (stage->who[i] != node)
			stage_link(stage, node, stage->who[i], true);
}

void stage_sleep(struct stage *stage, struct node *node, enum mu_plane plane)
{
	node_pause(node, plane, stage_ticks(stage, STAGE_LONG_TICKS));
}

/* Whose backend is down must not lead. */
void stage_only_may_lead(struct stage *stage, const struct node *node)
{
	for (unsigned i = 0; i < stage->run->plan.replicas; i++)
		if (stage->who[i] != node && stage->who[i]->backend.up)
			backend_disconnect(stage->who[i]);
}

/* What a backend that stood still was to execute much later, it executes now. */
static void backend_moves_on(struct node *node)
{
	struct backend_queue *queue = &node->process.queue;

	node->backend.apply_max_ns = node->run->plan.apply_max_ns;
	for (unsigned i = 0; i < queue->count; i++)
		queue->slots[(queue->first + i) % BACKEND_QUEUE_MAX].done_ns = run_now(node->run);
}

void stage_backends_return(struct stage *stage)
{
	for (unsigned i = 0; i < stage->run->plan.replicas; i++) {
		struct node *node = stage->who[i];

		backend_moves_on(node);
		node->backend.up = true;
		if (node->alive)
			node_wake(node, MU_PLANE_DATA, stage->run->plan.jitter_ns);
	}
}

void stage_die(struct node *node)
{
	if (node->alive)
		node_crash(node, false);
}

void stage_live(struct node *node)
{
	if (!node->alive)
		node_start(node);
}

void stage_mend(struct stage *stage)
{
	struct run *run = stage->run;

	stage_backends_return(stage);
	for (unsigned i = 0; i < run->plan.replicas; i++) {
		for (unsigned j = 0; j < run->plan.replicas; j++)
			sim_block(run->world, run->node[i + 1].id, run->node[j + 1].id, false);
		stage_live(stage->who[i]);
		for (unsigned plane = 0; plane < MU_PLANES; plane++)
			if (stage->who[i]->process.thread[plane].paused_until_ns > run_now(run))
				node_hurry(stage->who[i], plane);
	}
}

/* -------------------------------------------------------------------- the frame */

static bool all_well(const struct stage *stage)
{
	unsigned leaders = 0;

	for (unsigned i = 0; i < stage->run->plan.replicas; i++) {
		const struct node *node = stage->who[i];

		if (!node->alive || !node->voting || node->process.health != MU_BACKEND_LEVEL)
			return false;
		leaders += stage_leads(node);
	}
	return leaders == 1 && mu_followers(stage_find(stage, stage_leads, NULL)->process.mu) ==
				       stage->run->plan.replicas;
}

static void shuffle(struct stage *stage)
{
	struct run *run = stage->run;
	unsigned count = run->plan.replicas;

	for (unsigned i = 0; i < count; i++)
		stage->who[i] = &run->node[i + 1];
	for (unsigned i = count - 1; i > 0; i--) {
		unsigned j = (unsigned)sim_random_below(&run->faults, i + 1);
		struct node *node = stage->who[i];

		stage->who[i] = stage->who[j];
		stage->who[j] = node;
	}
}

static void put_leader_first(struct stage *stage)
{
	for (unsigned i = 1; i < stage->run->plan.replicas; i++) {
		struct node *node = stage->who[i];

		if (!stage_leads(node))
			continue;
		stage->who[i] = stage->who[0];
		stage->who[0] = node;
	}
}

static void play_on(void *arg)
{
	struct stage *stage = arg;

	for (;; shuffle(stage)) {
		stage_be_patient(stage, STAGE_LONG_TICKS);
		while (!all_well(stage))
			stage_wait_on(stage);
		put_leader_first(stage);
		run_trace(stage->run, stage->who[0], "the play begins");
		plays[stage->run->plan.play](stage);
		run_trace(stage->run, stage->who[0], "the play is over");
		stage_mend(stage);
		stage_rest(stage, 20);
	}
}

void stage_open(struct run *run)
{
	if (run->plan.play == PLAY_NONE)
		return;
	run->stage = calloc(1, sizeof(*run->stage));
	if (run->stage == NULL)
		abort();
	run->stage->run = run;
	shuffle(run->stage);
	run->stage->fiber = fiber_new(play_on, run->stage);
}

void stage_look(struct run *run)
{
	if (run->stage != NULL)
		fiber_resume(run->stage->fiber);
}

void stage_close(struct run *run)
{
	if (run->stage == NULL)
		return;
	stage_backends_return(run->stage);
	fiber_free(run->stage->fiber);
	free(run->stage);
	run->stage = NULL;
}
