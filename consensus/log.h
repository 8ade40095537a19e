/*
 * log.h - the log: a ring of checksummed entries addressed by LSN (DESIGN 3.2;
 * Mu section 5.3 has a canary byte and zeroing where we name the LSN).
 */
#ifndef MU_LOG_H
#define MU_LOG_H

#include "hash.h"
#include "layout.h"
#include "mutant.h"

/* A ring of entries in memory, own or a copy, and the key of its checksums. */
struct mu_ring {
	uint8_t *base;
	uint64_t bytes;    /* power of two */
	uint32_t max_span; /* of one entry */
	uint8_t secret[MU_SECRET_BYTES];
};

/* An entry and what its successor must tie in with. */
struct mu_position {
	uint64_t lsn;
	uint64_t prev_lsn, prev_checksum; /* ...and what it ties in with itself */
	uint64_t commit_lsn;              /* committed when it was written */
	uint64_t end;
	uint64_t checksum;
	uint64_t ballot;
	uint64_t timestamp_ms;
	uint64_t kind; /* enum mu_kind */
};

void mu_ring_init(struct mu_ring *ring, const struct mu_config *config, void *replication_region);

static inline struct mu_entry_header *mu_ring_at(const struct mu_ring *ring, uint64_t lsn)
{
	return (struct mu_entry_header *)(ring->base + (lsn & (ring->bytes - 1)));
}

static inline uint64_t mu_entry_span(uint32_t length)
{
	return (sizeof(struct mu_entry_header) + length + 63) & ~63ULL;
}

/* Bytes from lsn to the ring's end: no entry crosses it. */
static inline uint64_t mu_ring_room(const struct mu_ring *ring, uint64_t lsn)
{
	return ring->bytes - (lsn & (ring->bytes - 1));
}

/* Offset in the replication region. */
static inline uint64_t mu_ring_offset(const struct mu_ring *ring, uint64_t lsn)
{
	return MU_RING_OFFSET + (lsn & (ring->bytes - 1));
}

/* Compute and store the checksum of an entry that is complete but for it. */
void mu_entry_seal(const struct mu_ring *ring, struct mu_entry_header *entry);

/*
 * Is there a valid entry for this LSN at `entry`, of which `available` bytes
 * may be looked at? Its predecessor is not looked at. Fills position.
 * *short_of (may be NULL) is set when more bytes would be needed to tell.
 */
bool mu_entry_valid(const struct mu_ring *ring, const struct mu_entry_header *entry, uint64_t lsn,
		    uint64_t available, struct mu_position *position, bool *short_of);

/* May `next` follow `previous` in one log? Tail rule of DESIGN 3.3, step 4. */
bool mu_entry_follows(const struct mu_position *previous, const struct mu_position *next);

/* The entry at lsn in the own ring; false if it is not there, or not whole. */
bool mu_ring_entry(const struct mu_ring *ring, uint64_t lsn, struct mu_position *position);

/*
 * The same, of which only the header is looked at: what stands there may be torn,
 * or some client's payload, unless it follows (mu_entry_follows()) a genuine entry.
 */
bool mu_ring_header(const struct mu_ring *ring, uint64_t lsn, struct mu_position *position);

/* The same, known to be there. */
void mu_ring_position(const struct mu_ring *ring, uint64_t lsn, struct mu_position *position);

/* The configuration that this entry, which was whole a moment ago, states; 0: none, or no more. */
uint64_t mu_ring_configuration(const struct mu_ring *ring, const struct mu_position *position);

/*
 * The valid entry behind `previous` in the ring; false if there is none (a
 * tail ends there).
 */
bool mu_ring_next(const struct mu_ring *ring, const struct mu_position *previous,
		  struct mu_position *next);

/*
 * The oldest entry of which the ring holds everything up to `newest`, which it
 * holds; none before base_lsn. Takes as long as reading the ring does.
 */
uint64_t mu_ring_oldest(const struct mu_ring *ring, const struct mu_position *newest,
			uint64_t base_lsn);

/*
 * Write a log's first entry at base_lsn; identical at every member for the same
 * arguments. nonce names the cold start, so that what an older log left in the
 * ring ties in with nothing of this one.
 */
void mu_ring_genesis(struct mu_ring *ring, uint64_t base_lsn, uint64_t nonce);

#endif
