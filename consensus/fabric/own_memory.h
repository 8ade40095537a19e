/*
 * own_memory.h - a replica's three regions in one named file, for fabrics whose
 * peers come over a network and so map nothing themselves.
 *
 *   replica-<id>.mu      header, background region, private region; then, from
 *                        the next page on (a huge one, on hugetlbfs), the
 *                        replication region
 *   replica-<id>.mu.new  the same, being built; never read
 *   replica-<id>.lock    empty; locked by the process that runs the id
 *
 * The file comes into being by rename when it is complete, so it is there whole
 * or not at all; formatted memory is always a new file.
 */
#ifndef MU_OWN_MEMORY_H
#define MU_OWN_MEMORY_H

#include <assert.h>
#include <stdatomic.h>

#include "memory_files.h"

#define OWN_MEMORY_HEADER_BYTES 4096
#define OWN_MEMORY_NOTES_BYTES 1024

struct own_memory_header {
	struct memory_identity identity; /* constant from creation */
	/*
	 * Who may write the replication region, as the ballot of the holder; 0:
	 * nobody. The fabric's background plane writes it.
	 */
	_Alignas(64) _Atomic uint64_t word;
	/* What the fabric wants to find again; zero when formatted. */
	_Alignas(64) uint8_t notes[OWN_MEMORY_NOTES_BYTES];
};
static_assert(offsetof(struct own_memory_header, word) == 128, "part of the file format");
static_assert(offsetof(struct own_memory_header, notes) == 192, "part of the file format");
static_assert(sizeof(struct own_memory_header) <= OWN_MEMORY_HEADER_BYTES, "it fits");

/* The id of the replica that a ballot belongs to (mu.h: round << 8 | id). */
#define OWN_MEMORY_BALLOT_HOLDER(ballot) ((unsigned)((ballot)&0xff))

struct own_memory {
	struct own_memory_header *header;
	uint8_t *region[MU_REGIONS];
	struct memory_map map;
	struct memory_directory dir;
	int lock_fd;
};

/*
 * Take the lock of the id, and resume its memory or format it anew, as
 * mu_fabric.h has it (F9). Memory from another boot of the machine counts as
 * lost. Returns 0, or -1 with one line in err. Close what was opened.
 */
int own_memory_open(struct own_memory *memory, const struct mu_fabric_config *config,
		    const char *directory, char *err, size_t err_bytes);
void own_memory_close(struct own_memory *memory);

#endif
