/*
 * layout.h - what a replica's three regions look like. Remote replicas read and
 * write these bytes, and a restarted process resumes from them: fixed widths,
 * little-endian, one writer a cache line, a version, and asserts that pin it.
 */
#ifndef MU_LAYOUT_H
#define MU_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mu.h"

#define MU_LAYOUT_MAGIC 0x316f6d75786f7270ULL
#define MU_LAYOUT_VERSION 3
#define MU_LINE_BYTES 64

/*
 * A line of the background region: seven words and a check over them, so that
 * a torn copy is recognised (the fabric promises whole 8-byte words only).
 */
struct mu_line {
	uint64_t word[7];
	uint64_t check;
};
static_assert(sizeof(struct mu_line) == MU_LINE_BYTES, "a line is a cache line");

/* Words of the state line: what a replica publishes of itself. */
enum mu_state_word {
	MU_STATE_INCARNATION, /* changes when memory was lost */
	MU_STATE_GRANTED,     /* highest ballot that was granted write permission */
	MU_STATE_BALLOT,      /* ballot it leads or campaigns under, by role */
	MU_STATE_COMMIT,      /* start of the last entry known to be committed */
	MU_STATE_APPLIED,     /* last entry that is in its backend for good */
	MU_STATE_OLDEST,      /* its log reaches back to here without a gap */
	MU_STATE_FLAGS,
};
/* Words of the cold line: cold start (rule 11). */
enum mu_cold_word {
	MU_COLD_NONCE,         /* prepared for, or started by */
	MU_COLD_CONFIGURATION, /* the one on record */
	MU_COLD_COMMITTED,     /* the latest that it knows to be committed */
	MU_COLD_ERA,           /* era and... */
	MU_COLD_APPLIED,       /* ...LSN that the backend names, for choosing where to begin */
	MU_COLD_COUNT,         /* counts the changes of these two in this incarnation */
	MU_COLD_STARTED,       /* 1: the nonce is what it started by, not what it is prepared for */
};

/* MU_STATE_FLAGS: bits, then bytes. */
#define MU_FLAG_VOTING (1ULL << 0)
#define MU_FLAG_ELIGIBLE (1ULL << 1)
#define MU_FLAG_PREPARED (1ULL << 2)      /* cold line names a nonce it is prepared for */
#define MU_FLAG_APPLIED_KNOWN (1ULL << 3) /* the backend has named its applied LSN */
#define MU_FLAG_CAUGHT_UP \
	(1ULL << 4) /* its backend has applied all that is known to be committed */
#define MU_FLAG_ROLE_SHIFT 8
#define MU_FLAG_BACKEND_SHIFT 16
#define MU_FLAG_LEADER_SHIFT 24 /* the leader that it sees alive, or coming */
#define MU_FLAG_HEIR_SHIFT 32   /* for whom it has just made way (handover.c) */
#define MU_FLAG_BYTE(flags, shift) ((unsigned)((flags) >> (shift)) & 0xff)

/* Words of a request slot: who wants write permission, for which ballot (0: withdrawn). */
enum mu_request_word {
	MU_REQUEST_BALLOT,
	MU_REQUEST_INCARNATION, /* of the candidate */
};
/* Words of a grant slot: what the peer answered. */
enum mu_grant_word {
	MU_GRANT_BALLOT,      /* the request's */
	MU_GRANT_INCARNATION, /* of the granter */
	MU_GRANT_HIGHER,      /* 0: granted; else the ballot that stands in the way */
};

struct mu_background_region {
	/* Contiguous, so that one READ takes all three. */
	struct mu_line heartbeat; /* word 0: the counter; check is not used */
	struct mu_line state;
	struct mu_line cold;
	struct mu_line reserved;
	struct mu_line request[MU_ID_SLOTS]; /* by requesting peer, which alone writes it */
	struct mu_line grant[MU_ID_SLOTS];   /* by answering peer, which alone writes it */
};
#define MU_PUBLISHED_LINES 3
static_assert(offsetof(struct mu_background_region, request) == 4 * MU_LINE_BYTES, "layout");
static_assert(sizeof(struct mu_background_region) == 20 * MU_LINE_BYTES, "layout");

/* Where a log comes from; of one piece, since it changes only while commit is MU_LSN_NONE. */
struct mu_origin {
	uint64_t base;   /* it holds no entry before this one: it was installed from here on */
	uint64_t era;    /* the log's identity */
	uint64_t parent; /* era that the state at the log's genesis is of */
};

/*
 * Replication region: a header page, then the ring. The words are written by
 * the holder of the write permission (or locally while nobody holds it), each
 * as one 8-byte WRITE.
 */
struct mu_replication_header {
	/* Of the memory that this is part of: who restored it cannot be mistaken for who lost it.
	 */
	_Alignas(MU_LINE_BYTES) uint64_t incarnation;
	/* Mu's "first undecided offset": names the last committed entry. MU_LSN_NONE: no log here.
	 */
	_Alignas(MU_LINE_BYTES) uint64_t commit;
	/* Of those committed up to there the latest, or a later one; written before that word. */
	uint64_t configuration;
	_Alignas(MU_LINE_BYTES) struct mu_origin origin;
	/* Target of fence writes: the ballot, of interest to nobody. */
	_Alignas(MU_LINE_BYTES) uint64_t fence;
};
#define MU_RING_OFFSET 4096
static_assert(sizeof(struct mu_replication_header) <= MU_RING_OFFSET, "layout");

#define MU_PREPARED_NONCES 8

/* Private region: what must survive a crash and concerns nobody else. Background plane writes. */
struct mu_private_region {
	uint64_t magic;
	uint64_t version;
	uint64_t group_id;
	uint64_t id;
	uint64_t ring_bytes;
	uint64_t incarnation;
	uint64_t voting;  /* 0 until cold start or readmission (rule 2) */
	uint64_t granted; /* highest ballot granted (rule 4) */
	/* In force by the own log; where there is none, the latest that was heard of (rule 11). */
	uint64_t configuration;
	uint64_t applied;    /* a lower bound, for while the backend is silent */
	uint64_t cold_nonce; /* the cold start that this log began with, 0: none */
	/* What was last published for a cold start, and how often that changed. */
	uint64_t cold_era, cold_applied, cold_count;
	uint64_t prepared_count;
	struct mu_prepared {
		uint64_t nonce;
		uint64_t parent, base; /* era and LSN to begin with */
		uint64_t granted;
		uint64_t configuration; /* whose members all are to be prepared */
	} prepared[MU_PREPARED_NONCES];
};

/*
 * An entry: header, then payload, 64-byte aligned. checksum comes first so
 * that what it covers (everything behind it) is one piece.
 */
struct mu_entry_header {
	uint64_t checksum;
	uint64_t lsn;
	uint64_t ballot;
	uint64_t commit_lsn; /* committed when this was written: true whoever reads it */
	uint64_t timestamp_ms;
	uint64_t prev_checksum; /* ties it to exactly the log that it was written behind */
	uint64_t prev_lsn;
	uint32_t length;
	uint8_t kind; /* enum mu_kind */
	uint8_t flags;
	uint16_t reserved;
};
static_assert(sizeof(struct mu_entry_header) == MU_LINE_BYTES, "layout");

enum mu_kind {
	MU_KIND_GENESIS = 1, /* a log's first entry; never handed out */
	MU_KIND_SKIP,    /* fills the ring up to its end; its payload is no bytes of anybody's */
	MU_KIND_LEADER,  /* a leader's first; its payload is the configuration in force */
	MU_KIND_READMIT, /* struct mu_readmission */
	MU_KIND_APPLICATION,
	MU_KIND_CONFIGURATION, /* rule 13: its payload is the configuration from here on */
};
/* Flags of an application entry: its place in its proposal. */
#define MU_ENTRY_FIRST 1
#define MU_ENTRY_LAST 2

struct mu_readmission {
	uint64_t id, incarnation;
};

/* The era that a cold start begins: its upper 16 bits count, the rest is the nonce's. */
static inline uint64_t mu_next_era(uint64_t parent, uint64_t nonce)
{
	return ((parent >> 48) + 1) << 48 | (nonce & ((1ULL << 48) - 1));
}

static_assert(MU_MAX_REPLICAS <= 7, "ids fit a configuration's masks");

/* Every majority in libmu is computed here. */
static inline unsigned mu_majority_of(uint64_t member_mask)
{
	return (unsigned)__builtin_popcountll(member_mask) / 2 + 1;
}

/* For what a majority holds at least: put one more among `count` values, the largest first. */
static inline void mu_insert(uint64_t *value, unsigned count, uint64_t v)
{
	unsigned i = count;

	for (; i > 0 && value[i - 1] < v; i--)
		value[i] = value[i - 1];
	value[i] = v;
}

static inline unsigned mu_ballot_id(uint64_t ballot)
{
	return (unsigned)(ballot & 0xff);
}

static inline uint64_t mu_ballot_above(uint64_t ballot, unsigned id)
{
	return ((ballot >> 8) + 1) << 8 | id;
}

/* Lines are shared with other processes: whole words, check last. */
void mu_line_seal(struct mu_line *line);
void mu_line_publish(struct mu_line *shared, const struct mu_line *line);
/* False if the copy is torn or was never written. */
bool mu_line_read(struct mu_line *out, const struct mu_line *shared);
bool mu_line_intact(const struct mu_line *line);

/*
 * The simulator stops a plane, for a while or for good, where it is about to
 * look at or change what others share. Anywhere else this is nothing.
 */
#ifdef MU_SIMULATED
void mu_interruption_point(void);
#else
static inline void mu_interruption_point(void)
{
}
#endif

static inline uint64_t mu_load(const uint64_t *word)
{
	mu_interruption_point();
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void mu_store(uint64_t *word, uint64_t value)
{
	mu_interruption_point();
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

#endif
