/* plays.h - what plays.c is made of: looking at the replicas, waiting, and moves. */
#ifndef SIM_PLAYS_H
#define SIM_PLAYS_H

#include "run.h"

#define STAGE_LONG_TICKS 100000 /* as good as for ever */

struct mu_data;

struct stage {
	struct run *run;
	struct fiber *fiber;
	uint64_t until_ns;                 /* patience ends */
	struct node *who[MU_MAX_REPLICAS]; /* who leads, then the others by lot */
};

/* By enum play. */
extern void (*const plays[])(struct stage *stage);

uint64_t stage_ticks(const struct stage *stage, uint64_t count);
void stage_be_patient(struct stage *stage, uint64_t ticks);
/* Let the world go on; false once patience is at an end. */
bool stage_wait_on(struct stage *stage);
void stage_rest(struct stage *stage, uint64_t ticks);

/* The data plane's state; all zero if the replica is dead. */
const struct mu_data *stage_data_of(const struct node *node);
bool stage_leads(const struct node *node);
/* The first who is so, but not `but`; NULL: nobody. */
struct node *stage_find(const struct stage *stage, bool (*is)(const struct node *node),
			const struct node *but);

void stage_block(struct stage *stage, enum mu_plane plane, const struct node *from,
		 const struct node *to, bool blocked);
/* Both planes, both ways. */
void stage_link(struct stage *stage, const struct node *a, const struct node *b, bool blocked);
void stage_seclude(struct stage *stage, const struct node *node);
/* Until it is hurried (node_hurry()), or the play is over. */
void stage_sleep(struct stage *stage, struct node *node, enum mu_plane plane);
/* The others' backends go down: who has none must not lead. */
void stage_only_may_lead(struct stage *stage, const struct node *node);
void stage_backends_return(struct stage *stage);
void stage_die(struct node *node);
void stage_live(struct node *node);
/* All links, all replicas, all backends. */
void stage_mend(struct stage *stage);

#endif
