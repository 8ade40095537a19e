/*
 * mu.h - libmu, Mu consensus (Aguilera et al., "Microsecond Consensus for
 * Microsecond Applications", OSDI 2020) as a step machine.
 *
 * A replica is two planes. The data plane proposes, replicates, commits and
 * hands out committed entries; the background plane keeps heartbeats, detects
 * failures and hands out write permissions. Each plane is driven by one thread
 * (or both by one, as the simulator does) that calls its step function with
 * the time. Nothing here starts threads, reads clocks or blocks. Results are
 * pulled; there are no callbacks.
 *
 * Words used throughout: an LSN is a byte offset into the log that only grows;
 * an entry is named by the LSN at which it starts. A ballot is
 * (round << 8) | replica id. Times are nanoseconds of a monotonic clock but
 * for timestamps, which are milliseconds since 1970.
 *
 * An era is a log's identity: another one begins with each cold start (all
 * members had lost their logs), goes on at the LSNs of the old one, and may hold
 * other entries there. Of two eras of a group the later is the greater number; 0
 * is no log. Whoever stores how far he has applied stores both, era and LSN.
 */
#ifndef MU_H
#define MU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "mu_fabric.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MU_VERSION_STRING "0.1.0"
#define MU_LSN_NONE UINT64_MAX

enum mu_error {
	MU_OK = 0,
	MU_ERR_INVALID,    /* an argument or setting is out of its range */
	MU_ERR_NOT_LEADER, /* this replica does not lead: nothing was proposed */
	MU_ERR_FULL,       /* no room just now (log ring, or proposals outstanding): try again */
	MU_ERR_TOO_LARGE,  /* larger than max_proposal_bytes: will never fit */
	MU_ERR_STALE,      /* the log no longer reaches back to the LSN asked for */
	MU_ERR_MISMATCH,   /* memory of another format, group or shape */
	MU_ERR_NO_MEMORY,
};
const char *mu_strerror(enum mu_error error);

struct mu_config {
	unsigned id;              /* 1..MU_MAX_REPLICAS */
	uint32_t member_mask;     /* bit i: replica i is a member, of the group as it began */
	uint32_t peer_mask;       /* ...or may be, or become one; 0: the members alone */
	uint64_t configuration;   /* mu_group_status's, as stored last; 0: as the group began */
	uint64_t group_id;        /* memories of different groups refuse each other */
	uint8_t checksum_key[32]; /* the group's secret: keys the checksum of entries */

	uint64_t ring_bytes;         /* power of two, at least 4 KiB */
	uint32_t max_entry_bytes;    /* payload of one entry; longer proposals are fragmented */
	uint64_t max_proposal_bytes; /* at most ring_bytes / 4 */

	uint64_t tick_ns;             /* period of heartbeats and of reading the peers' */
	uint64_t data_stall_ns;       /* a data plane silent for longer stops the heartbeat */
	uint64_t takeover_timeout_ns; /* a candidate without success by then gives up */
	uint64_t random_seed;         /* for back-off */

	/*
	 * The failure detector (section 6 of the paper). Each reading of a peer's
	 * heartbeat raises its score by score_gain if the heartbeat has moved since
	 * the last reading, and lowers it by score_loss if not; it stays within 0
	 * and score_max. Below score_failed the peer counts as failed, above
	 * score_alive as alive again. So one that falls silent is found out after
	 * about (score_max - score_failed + 1) / score_loss ticks, rounded up.
	 */
	uint32_t score_max;
	uint32_t score_failed; /* at least 1 */
	uint32_t score_alive;  /* at least score_failed, less than score_max */
	uint32_t score_gain, score_loss;
};
/* Defaults for all but id, members, group and key. */
void mu_config_init(struct mu_config *config);
enum mu_error mu_config_check(const struct mu_config *config, const char **why);

/* Bytes that a region of this configuration takes. */
size_t mu_region_bytes(const struct mu_config *config, enum mu_region region);

/*
 * Format fresh memory: a replica that remembers nothing, and so must not vote
 * until it is readmitted or the whole group starts cold (rules 2 and 11).
 * incarnation: random, never 0, another for each loss of memory.
 */
void mu_format(const struct mu_config *config, uint64_t incarnation, void *regions[MU_REGIONS]);

struct mu;

/* The fabric's memory is formatted or resumed. The fabric stays the caller's. */
enum mu_error mu_open(struct mu **out, const struct mu_config *config, struct mu_fabric *fabric);
void mu_close(struct mu *mu);

/* ------------------------------------------------------------------ roles */

enum mu_role {
	MU_ROLE_BLANK = 0, /* memory lost: neither votes nor leads */
	MU_ROLE_FOLLOWER,
	MU_ROLE_CANDIDATE, /* has asked for permissions, or is taking over */
	MU_ROLE_LEADER,
};
const char *mu_role_name(enum mu_role role);

/* What the application says of the state it applies entries to. */
enum mu_backend_health {
	MU_BACKEND_UNKNOWN = 0, /* not heard from yet */
	MU_BACKEND_LEVEL,       /* applies the log from this replica's memory */
	MU_BACKEND_DOWN,        /* does not answer: may not lead */
	MU_BACKEND_STALE,       /* cannot be brought level from the log: out of service */
};
const char *mu_backend_health_name(enum mu_backend_health health);

/* ------------------------------------------------------------- data plane */

/*
 * Advance the data plane: complete operations, take over, catch followers up,
 * move the commit LSN. Call it in every turn of the loop, and after proposing.
 * Returns when it next wants to be called at the latest (ns on the same clock;
 * `now_ns` itself means at once, UINT64_MAX means only when woken).
 */
uint64_t mu_step(struct mu *mu, uint64_t now_ns);

/* The data plane as of its last step. Cheap; read it after every step. */
struct mu_view {
	enum mu_role role;
	uint64_t ballot; /* the ballot led under while role is LEADER, else 0 */
	unsigned leader; /* who leads as far as this replica knows, 0: nobody */
	uint64_t leader_ballot;
	uint64_t era;        /* of the own log, 0: there is none */
	uint64_t commit_lsn; /* start of the last entry known to be committed */
	uint64_t end_lsn;    /* end of the own log (leader), or of its committed part */
	uint64_t fence;      /* highest fence ticket passed, in this ballot */
};
void mu_view(const struct mu *mu, struct mu_view *view);

/*
 * A timestamp for the next proposal: the wall clock, but never behind an
 * entry already in the log (rule 14).
 */
uint64_t mu_timestamp(const struct mu *mu, uint64_t wall_ms);

/*
 * Append one proposal (leader only): the concatenation of iov, copied. On
 * MU_OK *lsn names it (its last fragment): it is committed once
 * view.commit_lsn >= *lsn while view.ballot is unchanged. If view.ballot
 * changes first its outcome is unknown: it may yet turn up in mu_next(), and
 * it is certain not to once an entry of kind MU_ENTRY_LEADER and a higher
 * ballot has.
 * On any error nothing was proposed.
 */
enum mu_error mu_propose(struct mu *mu, const struct iovec *iov, int iovcnt, uint64_t timestamp_ms,
			 uint64_t *lsn);

/*
 * Ask for proof that this replica still leads (DESIGN 3.4). A read that
 * arrived before this call may be answered, from a state that holds all that
 * was committed when it arrived, once view.fence >= *ticket in this ballot.
 */
enum mu_error mu_fence(struct mu *mu, uint64_t *ticket);

/* Give up leading, when everything outstanding is decided (drain, or backend lost). */
void mu_resign(struct mu *mu);

/*
 * An operator's wish, of the leader: that `heir` leads instead (0: whoever could, and
 * has applied most). It makes way when he has everything, and takes no proposals
 * (MU_ERR_FULL) for the last moment of that; it leads on if he does not get that
 * far. Any thread; goes on in both planes. MU_ERR_NOT_LEADER, or MU_ERR_INVALID if he
 * could not lead: *why says why.
 */
enum mu_error mu_hand_over(struct mu *mu, unsigned heir, const char **why);

/* --- handing committed entries to the application (every replica) --- */

enum mu_entry_kind {
	MU_ENTRY_APPLICATION = 1, /* a proposal, whole */
	MU_ENTRY_LEADER = 2,      /* a leader's first: no proposal of a lower ballot follows */
};
struct mu_entry {
	uint64_t lsn; /* what to hand to mu_applied() and mu_seek() */
	uint64_t ballot;
	uint64_t timestamp_ms;
	enum mu_entry_kind kind;
	const void *payload; /* valid until the next call of mu_next() or mu_step() */
	size_t payload_bytes;
};

/*
 * Stand behind the entry of that era that starts at applied_lsn: mu_next()
 * continues with the one after it. Era and LSN 0: nothing applied yet. From then
 * on what is applied belongs to the log's own era, view.era: it may be another
 * than the one given, if a cold start began with exactly that state.
 * MU_ERR_STALE if the log does not hold that entry any more, or never did (the
 * state is not of this log). MU_ERR_FULL if the log here is not yet known to
 * reach that far, or there is none: try again.
 * The log holds what is needed from there on when this returns; whoever leads
 * keeps it for this replica once he has learnt of it. If he used the space again
 * just before, mu_stale() will be true.
 */
enum mu_error mu_seek(struct mu *mu, uint64_t era, uint64_t applied_lsn);
/* What mu_seek() would say, for another part of the same application's state. */
enum mu_error mu_holds(const struct mu *mu, uint64_t era, uint64_t applied_lsn);
/*
 * The next committed entry, in log order, each once. False if there is none
 * yet, before mu_seek(), or when the log was cut behind the reader's back
 * (then mu_stale() is true).
 */
bool mu_next(struct mu *mu, struct mu_entry *entry);
bool mu_stale(const struct mu *mu);
/*
 * Everything up to this entry is in the application's own durable state: a
 * restart will mu_seek() here or later. Ring space is reclaimed behind it.
 */
void mu_applied(struct mu *mu, uint64_t lsn);
void mu_set_backend(struct mu *mu, enum mu_backend_health health);

/* ------------------------------------------------------- background plane */

/*
 * Advance the background plane: heartbeat, scores, permissions, campaigns.
 * Returns when it next wants to be called (about every tick_ns).
 */
uint64_t mu_background_step(struct mu *mu, uint64_t now_ns);
enum mu_wanted {
	MU_WANTED_NOT,
	/*
	 * Only by a few entries to apply, of a leader of long standing: they may
	 * gather for some ticks, since a wake-up costs more than they do.
	 */
	MU_WANTED_SOON,
	MU_WANTED_NOW,
};
/*
 * Should the data thread be woken: is there something new for it (a permission,
 * a wish to stop, an entry to apply), or is its pulse wanted? What it is wanted
 * for NOW is told once. Background thread only.
 */
enum mu_wanted mu_data_wanted(struct mu *mu);

/* ------------------------------------------------------------- membership */

enum mu_change {
	MU_CHANGE_ADD = 1, /* of a replica that runs, as a blank one, and was never a member */
	MU_CHANGE_REMOVE,  /* for good: the id is not used again */
};
/*
 * An operator's wish, of the leader (rule 13). One that is added first learns: it is
 * written to, and becomes a member when its log is whole and its backend level, for
 * which mu_group_status() is to be looked at. A leader that is removed makes way. The
 * wish ends with the leader's term. Any thread. MU_ERR_NOT_LEADER, or MU_ERR_INVALID:
 * *why says why.
 */
enum mu_error mu_change_members(struct mu *mu, enum mu_change change, unsigned id,
				const char **why);

/*
 * Ids that may be connected to: members, and those that may become members. All calls
 * together; none is taken back. Any thread.
 */
void mu_add_peers(struct mu *mu, uint32_t peer_mask);

/*
 * A configuration, of one word, so that it is whole wherever it is read: who the
 * members are, which ids were members once and never will be again, and its
 * epoch. The epoch is greater than those of all configurations before it in its
 * log, and than the ballots under which logs were written that do not hold it: of
 * two that were proposed, the one that may be committed is the greater word. A group
 * whose members have never changed is at epoch 0.
 */
static inline uint64_t mu_configuration(uint64_t epoch, uint64_t removed, uint64_t members)
{
	return epoch << 16 | removed << 8 | members;
}
static inline uint64_t mu_configuration_epoch(uint64_t configuration)
{
	return configuration >> 16;
}
static inline uint64_t mu_configuration_removed(uint64_t configuration)
{
	return configuration >> 8 & 0xff;
}
static inline uint64_t mu_configuration_members(uint64_t configuration)
{
	return configuration & 0xff;
}

/* --------------------------------------------------------------- recovery */

/*
 * The operator's word that what only lost memories held may be lost (rule 11):
 * where a minority of the members remembers and the rest is blank and alive,
 * this replica, which remembers, is to forget, once its backend has all that can
 * be had from its log. When all have, the group starts cold. Any thread; goes on
 * in the background plane. MU_ERR_INVALID, with the reason, if that is not the
 * state of the group as seen from here.
 */
enum mu_error mu_accept_loss(struct mu *mu, const char **why);

/* ------------------------------------------------------------- inspection */

struct mu_replica_status {
	bool member;
	bool removed; /* was a member, and never will be again */
	bool alive;
	unsigned score; /* 0 to score_max; own: score_max */
	enum mu_role role;
	bool voting;
	bool confirmed; /* as this replica, leading, sees it; else false */
	bool log_only;  /* ...and its backend is so far behind that the log does not wait for it */
	uint64_t granted_ballot;
	uint64_t commit_lsn; /* as that replica last published */
	uint64_t applied_lsn;
	bool caught_up; /* ...of what it knows to be committed nothing is left to apply */
	enum mu_backend_health backend;
	unsigned leader_seen;
};
struct mu_group_status {
	unsigned id;
	unsigned leader;
	uint64_t ballot;
	/* To be stored where losing the memory does not lose it, for mu_config.configuration. */
	uint64_t committed;
	uint64_t configuration; /* that will be committed next, or the same */
	uint64_t heard;         /* the latest that anybody is known to have committed */
	bool changing;          /* (leader) a change of members is under way... */
	enum mu_change change;  /* ...that was wished and is not proposed yet, 0: none... */
	unsigned changed;       /* ...of this replica */
	struct mu_replica_status replica[MU_ID_SLOTS];
};
/* What this replica knows of its group. Any thread; each field is current on its own. */
void mu_group_status(const struct mu *mu, struct mu_group_status *status);

#ifdef __cplusplus
}
#endif
#endif
