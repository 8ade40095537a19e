/*
 * shared.h - all that the two planes of one replica share: these atomics, each
 * with one writer. "Data" and "background" below name the writing plane.
 *
 * lead_ballot and acting_ballot are the hand-shake of rule 1 (the leader is a
 * peer of itself). The data plane may append, fence and count itself only
 * while acting_ballot == lead_ballot != 0. To take the right away, the
 * background plane clears lead_ballot and then waits, tick by tick, for
 * acting_ballot to read 0; only then may it grant to another. To take the
 * right up, the data plane sets acting_ballot and then reads lead_ballot
 * again. Both orders are sequentially consistent, so one of the two sees the
 * other (Dekker).
 */
#ifndef MU_SHARED_H
#define MU_SHARED_H

#include <stdatomic.h>

#include "layout.h"

/* What the background plane has learnt of a peer. */
struct mu_peer_facts {
	_Atomic uint64_t grant;       /* ballot of ours that it has granted, 0: none */
	_Atomic uint64_t incarnation; /* that it had when it granted */
	_Atomic uint64_t applied;     /* as it publishes */
	_Atomic uint64_t stands_ns;   /* for so long it has not moved, with something to apply */
	_Atomic uint64_t commit;
	_Atomic uint64_t granted;
	_Atomic uint64_t flags; /* MU_STATE_FLAGS */
	_Atomic unsigned score;
	_Atomic bool alive;
};

/* What is to be in the backend before the log is forgotten (recover.c). */
enum mu_forget {
	MU_FORGET_NOTHING = 0,
	MU_FORGET_TAKE_COMMITTED,
	MU_FORGET_TAKE_ALL,
};

struct mu_shared {
	/* background -> data */
	_Alignas(64) _Atomic uint64_t lead_ballot;
	_Atomic uint64_t drain_ballot; /* finish what is outstanding under this ballot, then stop */
	_Atomic uint64_t voting;
	_Atomic uint64_t cold_starts; /* counts: the log was formatted anew */
	_Atomic uint64_t granted;
	_Atomic uint64_t leader; /* who leads, as far as is known here; 0: nobody */
	_Atomic uint64_t leader_ballot;
	_Atomic uint64_t members;
	_Atomic uint64_t forgetting; /* enum mu_forget; at first from any thread */
	/* ballot << 8 | id: make way for that replica; set by any thread, cleared by data. 0:
	 * nobody */
	_Atomic uint64_t handover;
	/* ballot << 16 | change << 8 | id, likewise: enum mu_change of that replica */
	_Atomic uint64_t change;
	_Atomic uint64_t peers;    /* mask of mu_add_peers(): from any thread, to both planes */
	_Atomic uint64_t heard;    /* the latest configuration that anybody has committed */
	_Atomic uint64_t setbacks; /* counts: a peer needs more of the log than it said before */
	struct mu_peer_facts peer[MU_ID_SLOTS];

	/* data -> background */
	_Alignas(64) _Atomic uint64_t acting_ballot;
	_Atomic uint64_t led_ballot;  /* takeover under this ballot is complete */
	_Atomic uint64_t done_ballot; /* highest ballot that it has stopped acting under */
	_Atomic uint64_t heir;  /* likewise: way was made under that ballot for that replica */
	_Atomic uint64_t pulse; /* steps taken */
	_Atomic uint64_t commit_lsn;
	_Atomic uint64_t commit_end; /* where the next entry will show */
	_Atomic uint64_t reach_lsn;  /* last entry that stands behind it, committed or not */
	/* Odd while era and LSN are being set both, 0: not known yet. */
	_Atomic uint64_t applied_stamp;
	_Atomic uint64_t applied_era; /* as the backend named it, or the log's own */
	_Atomic uint64_t applied_lsn;
	_Atomic uint64_t taken;     /* the enum mu_forget that caught_up is meant for */
	_Atomic uint64_t caught_up; /* nothing committed waits to be applied */
	_Atomic uint64_t oldest_lsn;
	_Atomic uint64_t backend;
	_Atomic uint64_t readmit_ballot; /* an entry of this ballot readmits this incarnation */
	_Atomic uint64_t confirmed;      /* mask, while leading */
	_Atomic uint64_t log_only;       /* ...of those whose backend is not waited for */
	_Atomic uint64_t hungry;         /* waits for what peers publish (ring space) */
	_Atomic uint64_t configuration;  /* in force, by the own log */
	_Atomic uint64_t committed;      /* the latest configuration known to be committed */
};

#endif
