/*
 * oracle.h - what the group as a whole has done, seen from outside: every
 * proposal, what was said of it, and the one sequence of entries that all
 * replicas must hand out. It checks, whenever it is told something:
 *
 *  - Agreement: the k-th entry behind an LSN is the same at every replica, in
 *    all its fields; nobody sees a gap or a repetition.
 *  - Validity: an application's entry is a proposal that was made, once, under
 *    that ballot, at that LSN, with those bytes and that timestamp. A proposal
 *    that was refused is never seen.
 *  - Durability: a proposal reported committed is in the sequence, at its
 *    place. Only the loss of every memory at once may take it away, and then
 *    only what no surviving backend had applied.
 *  - Certainty: behind a leader's first entry there is no proposal of a lower
 *    ballot, so what was reported impossible stays so.
 *  - Order: ballots, timestamps and LSNs never go back.
 *  - Reads: a fenced read sees all that was acknowledged before it arrived.
 */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mu.h"

struct run;
struct node;

/* An entry of the agreed sequence. */
struct agreed {
	uint64_t era;
	uint64_t lsn;
	uint64_t ballot;
	uint64_t timestamp_ms;
	uint64_t payload_hash;
	size_t payload_bytes;
	uint64_t proposal; /* number, 0: a leader's entry */
	enum mu_entry_kind kind;
};

enum proposal_state {
	PROPOSAL_ASKED, /* the call has not returned (and never will, if the process died in it) */
	PROPOSAL_REFUSED,
	PROPOSAL_MADE, /* its LSN is known */
};

struct proposal {
	uint64_t lsn;
	uint64_t ballot;
	uint64_t timestamp_ms;
	uint64_t payload_hash;
	size_t payload_bytes;
	unsigned era;
	enum proposal_state state;
	bool acknowledged;
	bool agreed;
};

struct oracle {
	struct run *run;
	struct agreed *sequence;
	size_t agreed_count;
	size_t agreed_capacity;
	struct proposal *proposals; /* by number - 1 */
	size_t proposal_count;
	size_t proposal_capacity;
	size_t unsettled;          /* all proposals before this index are agreed, refused or past */
	uint64_t leader_ballot;    /* of the last leader's entry agreed on */
	uint64_t acknowledged_lsn; /* highest reported committed, in this era */
	uint64_t acknowledged_count;
	uint64_t fresh_after;        /* proposals of higher numbers are fresh, */
	uint64_t acknowledged_fresh; /* and so many of them were reported committed, */
	uint64_t fresh_bytes;        /* which are so many bytes of log at least */
	/* Each loss of all memories begins another era; the sequence goes on from what is left. */
	unsigned era;
	size_t era_first;    /* index of its first entry */
	uint64_t former_era; /* as replicas named the one before, 0: there was none */
};

void oracle_init(struct oracle *oracle, struct run *run);
void oracle_free(struct oracle *oracle);

/* About to propose: returns the proposal's number, from which its bytes follow. */
uint64_t oracle_ask(struct oracle *oracle, uint64_t ballot, uint64_t timestamp_ms, size_t bytes);
void oracle_payload(uint64_t number, uint8_t *out, size_t bytes);
void oracle_refused(struct oracle *oracle, uint64_t number);
void oracle_made(struct oracle *oracle, uint64_t number, uint64_t lsn);
/* Reported committed, by the replica that proposed it. */
void oracle_acknowledge(struct oracle *oracle, const struct node *node, uint64_t number);

/*
 * A replica that stands behind index `position` of a log of that era is handed an
 * entry. Returns the entry's index.
 */
int64_t oracle_hand_out(struct oracle *oracle, const struct node *node, int64_t position,
			uint64_t era, const struct mu_entry *entry);

/* The highest LSN that a client can know of: acknowledged, or applied anywhere. */
uint64_t oracle_must_see_lsn(const struct oracle *oracle);
/* A fenced read passed that arrived when `must_see` was acknowledged and `sees` was known. */
void oracle_fenced(struct oracle *oracle, const struct node *node, uint64_t must_see_lsn,
		   uint64_t sees_lsn);

/* All memories are gone; the best backend stands at this index: what is behind may go too. */
void oracle_all_lost(struct oracle *oracle, int64_t best_applied);
/* From here on proposals are fresh. */
void oracle_mark(struct oracle *oracle);
/* The end of a round: all that was acknowledged must have been handed out. */
void oracle_settle(struct oracle *oracle);
/* 0 for -1: the state before any entry. */
uint64_t oracle_lsn(const struct oracle *oracle, int64_t index);
uint64_t oracle_era(const struct oracle *oracle, int64_t index);
/*
 * Was there an era before that all can tell from this one? One that was lost
 * without any backend's having applied anything of it left no trace: it and
 * its successor count the same.
 */
bool oracle_has_former_era(const struct oracle *oracle);

#endif
