/*
 * bench_audit.h - whether a run has lost anything: all replicas have applied
 * the same proposals in the same order, each leader's without a gap, and all
 * that any leader has seen committed is among them.
 */
#ifndef MUPROXY_BENCH_AUDIT_H
#define MUPROXY_BENCH_AUDIT_H

#include "bench_board.h"

struct bench_audit {
	uint64_t compared;         /* entries of the journals */
	uint64_t ballot, sequence; /* of the last of them */
	uint64_t acknowledged;     /* proposals that leaders have seen committed */
	uint64_t lost;             /* ...and no replica has */
	uint64_t different;        /* proposals that replicas have differently, or out of order */
	/* Of each replica's terms, by their place on the board. */
	struct bench_audit_term {
		uint64_t ballot;
		uint64_t acknowledged; /* up to here, when last noted */
		uint64_t counted;      /* ...of which so many are in the sums above */
		uint64_t held;         /* up to here it is in the journals */
	} term[MU_ID_SLOTS][BENCH_TERMS];
};

/*
 * Note what leaders have acknowledged up to now. Then have all replicas apply
 * at least as much as any has applied now, and call bench_audit_compare().
 */
void bench_audit_note(struct bench_audit *audit, struct bench_board *board, unsigned replicas);
/*
 * Compare all journals from where the last comparison ended up to `applied`,
 * which every replica has reached, and what was noted with them. Lets the
 * journals go on.
 */
void bench_audit_compare(struct bench_audit *audit, struct bench_board *board, unsigned replicas,
			 uint64_t applied);

#endif
