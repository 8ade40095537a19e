/*
 * stage.h - situations that chance hardly ever brings about, staged: a schedule
 * of the plan may have a play, which watches the replicas and strikes at the very
 * moment, again and again while faults happen. All else (delays, tears, load)
 * is drawn from the seed as ever.
 */
#ifndef SIM_STAGE_H
#define SIM_STAGE_H

struct run;

enum play {
	PLAY_NONE,
	PLAY_LATE_ACKS,  /* a leader that was succeeded learns of what it had done before */
	PLAY_FIGURE_8,   /* an old ballot's tail comes to stand on a majority, and is overruled */
	PLAY_LEFTOVERS,  /* a follower's tail is overwritten by a shorter one */
	PLAY_BEHIND,     /* one whose backend stands still is the only one who may lead */
	PLAY_TWO_WORDS,  /* a majority's commit words lag by most of a ring */
	PLAY_USURPER,    /* a leader that nobody told meets a follower that lost its memory */
	PLAY_SHUT_OUT,   /* one follower has granted a ballot that came to nothing */
	PLAY_READMITTED, /* a log that readmitted a memory restores its successor */
	PLAY_COLD,       /* one that was prepared wakes when the others have started cold */
	PLAY_RECORD,     /* a voter dies while it grants */
	PLAY_HELD_UP,    /* writes to a follower that is given up are held up on the way */
};

/* Faults begin: the plan's play, if it has one. */
void stage_open(struct run *run);
/* A plane has just given way: is it time for the next move? Not from within a fiber. */
void stage_look(struct run *run);
/* Faults end. Backends move on; what else is broken faults_heal() mends. */
void stage_close(struct run *run);

#endif
