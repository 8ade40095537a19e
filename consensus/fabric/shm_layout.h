/*
 * shm_layout.h - what the files of the shm fabric look like.
 *
 *   replica-<id>.mu            header, background region, private region
 *   replica-<id>.log           the replication region, as it was formatted
 *   replica-<id>.log.<n>       a segment of it that has taken another's place
 *   replica-<id>.lock          empty; locked by the process that runs the id
 *   *.new                      being built; never read
 *
 * The main file comes into being by rename when all else is in place, so it
 * is there whole or not at all. It is never written anew in place: formatted
 * memory is a new file. The lock has a file of its own, since that one is
 * never replaced.
 *
 * The log is divided into segments. To get a segment out of the reach of a
 * writer that was stopped in the middle of a write, its owner copies it to a
 * new file (patch) and lets that take its place. The pages that it had in the
 * first file stay unused, so a log takes at most twice its size.
 *
 * Every word behind `segment_bytes` is changed by one party at a time, named
 * beside it, and lies on a cache line that is written by nobody else while
 * writes flow.
 */
#ifndef MU_SHM_LAYOUT_H
#define MU_SHM_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "memory_files.h"

#define SHM_MAGIC 0x006d656d2d6d6875ULL
#define SHM_VERSION 1
#define SHM_HEADER_BYTES 8192
#define SHM_LINE_BYTES 64
#define SHM_FIRST_GENERATION 1
#define SHM_SEGMENTS_MAX 256
#define SHM_SEGMENT_MIN_BYTES (256u << 10)

/* The id of the replica that a ballot belongs to (mu.h: round << 8 | id). */
#define SHM_BALLOT_HOLDER(ballot) ((unsigned)((ballot)&0xff))

/*
 * What a peer tells the owner that it is doing to the owner's log: 0 = nothing,
 * else that it is writing into one segment of the memory of a generation. Naming
 * the generation makes the word of a writer that was stopped, and whose segment
 * was then replaced, mean nothing any more.
 */
struct shm_busy {
	_Alignas(SHM_LINE_BYTES) _Atomic uint64_t writing;
};
#define SHM_BUSY_SHIFT 16

static inline uint64_t shm_busy_word(uint64_t generation, unsigned segment)
{
	return generation << SHM_BUSY_SHIFT | segment;
}

static inline uint64_t shm_busy_generation(uint64_t word)
{
	return word >> SHM_BUSY_SHIFT;
}

static inline unsigned shm_busy_segment(uint64_t word)
{
	return (unsigned)(word & ((1u << SHM_BUSY_SHIFT) - 1));
}

struct shm_header {
	/* Constant from creation. */
	struct memory_identity identity;
	uint64_t segment_bytes; /* a power of two */

	/*
	 * The owner's background plane: who may write the log, as the ballot of the
	 * holder (0: nobody), and which files the log is in: generation counts the
	 * changes of that. A writer reads word before generation, the owner writes
	 * generation before word.
	 */
	_Alignas(SHM_LINE_BYTES) _Atomic uint64_t word;
	_Atomic uint64_t generation;
	_Atomic uint64_t last_patch; /* highest number given to a patch */

	/*
	 * Peers: the incarnation of each peer's memory, as that peer told when its
	 * fabric was opened (0: not heard from). The owner compares it with the one
	 * that it has mapped, and so learns that a peer's files were replaced,
	 * even after they were deleted.
	 */
	_Alignas(SHM_LINE_BYTES) _Atomic uint64_t peer_incarnation[MU_ID_SLOTS];

	/* Peers, each its own; the owner clears those of dead processes. */
	struct shm_busy busy[MU_ID_SLOTS][MU_PLANES];

	/*
	 * The owner: which patch each segment is in, 0: the first file. The table of
	 * a generation is patch[generation % 2]; the next one's is filled in beside
	 * it, and begins to count when generation is written.
	 */
	_Atomic uint64_t patch[2][SHM_SEGMENTS_MAX];
};

/* Where the patches of a generation are named. */
static inline const _Atomic uint64_t *shm_patch_table(const struct shm_header *header,
						      uint64_t generation)
{
	return header->patch[generation % 2];
}

static_assert(offsetof(struct shm_header, segment_bytes) == 96, "part of the file format");
static_assert(offsetof(struct shm_header, word) == 128, "part of the file format");
static_assert(offsetof(struct shm_header, peer_incarnation) == 192, "part of the file format");
static_assert(offsetof(struct shm_header, busy) == 256, "part of the file format");
static_assert(sizeof(struct shm_busy) == SHM_LINE_BYTES, "one writer a cache line");
static_assert(offsetof(struct shm_header, patch) == 1280, "part of the file format");
static_assert(SHM_SEGMENTS_MAX <= 1 << SHM_BUSY_SHIFT, "a busy word has room for a segment");
static_assert(sizeof(struct shm_header) == 1280 + 16 * SHM_SEGMENTS_MAX, "no hidden padding");
static_assert(sizeof(struct shm_header) <= SHM_HEADER_BYTES, "the header ends before the regions");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "atomic words are shared between processes");

#endif
