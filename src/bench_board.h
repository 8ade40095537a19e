/*
 * bench_board.h - what the replicas of a run with failures tell the process
 * that watches them: memory that all share, and that outlives any of them. Each
 * field has one writer, named beside it.
 */
#ifndef MUPROXY_BENCH_BOARD_H
#define MUPROXY_BENCH_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench_options.h"
#include "mu.h"

enum {
	BENCH_JOURNAL_ENTRIES = 1 << 16, /* a power of two */
	BENCH_TERMS = 64,
};

/* One committed proposal, as a replica has applied it. */
struct bench_applied {
	uint64_t lsn, ballot;
	uint64_t sequence; /* of the proposal in its leader's term, from 1 on */
	uint64_t hash;     /* over this and all before it */
};

/* How far a leader has seen its proposals committed. */
struct bench_term {
	_Atomic uint64_t ballot, acknowledged; /* a sequence */
};

struct bench_seat {
	/* The watching process: a question, answered by the background thread's next step. */
	_Alignas(64) _Atomic uint64_t question;

	/* The replica's background thread. */
	_Alignas(64) _Atomic uint64_t answer;
	_Atomic unsigned role;                   /* enum mu_role */
	_Atomic unsigned leader;                 /* who leads, as far as it knows */
	_Atomic uint64_t alive;                  /* mask of the peers that count as alive */
	_Atomic bool settled;                    /* all peers have the best score */
	_Atomic uint64_t confirmed;              /* mask of its followers and itself, if it leads */
	_Atomic uint64_t failed_ns[MU_ID_SLOTS]; /* when a peer last turned failed */
	_Atomic uint64_t granted_ns;             /* when a majority last granted to it */
	_Atomic uint64_t revocations;            /* of others' permission to write its log */
	_Atomic uint64_t revoke_ns, barrier_ns;  /* what the last of these took */
	_Atomic uint64_t alarms;                 /* how often a live peer turned failed */
	_Atomic uint64_t late_ns;                /* longest time between two of its steps */
	_Atomic uint64_t at_score[BENCH_SCORE_MAX + 1]; /* looks at a live peer, by its score */

	/* The replica's data thread. */
	_Alignas(64) _Atomic uint64_t committed_ballot; /* of a term in which it committed */
	_Atomic uint64_t committed_ns;                  /* ...the first proposal, and when */
	_Atomic uint64_t terms;                         /* it has led so often */
	_Atomic uint64_t data_late_ns; /* longest time by which a step came later than asked for */
	struct bench_term term[BENCH_TERMS]; /* by their number, modulo */
	_Atomic uint64_t applied;            /* entries ever written to the journal */
	struct bench_applied journal[BENCH_JOURNAL_ENTRIES]; /* by their number, modulo */
};

struct bench_board {
	/* The watching process. */
	_Atomic uint64_t audited; /* journals may go on by their length from here */
	_Atomic bool pause;       /* propose nothing */
	struct bench_seat seat[MU_ID_SLOTS];
};

static inline struct bench_applied *bench_journal_at(struct bench_seat *seat, uint64_t number)
{
	return &seat->journal[number % BENCH_JOURNAL_ENTRIES];
}

#endif
