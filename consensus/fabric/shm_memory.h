/*
 * shm_memory.h - a replica's own memory in the shm fabric, and a peer's memory
 * as one plane of this process has it mapped.
 */
#ifndef MU_SHM_MEMORY_H
#define MU_SHM_MEMORY_H

#include "shm_files.h"
#include "shm_layout.h"

/* The own memory: resumed if it survived, else formatted anew. */
struct shm_memory {
	struct shm_header *header;
	uint8_t *region[MU_REGIONS];
	struct memory_map main;
	struct memory_map log; /* its patches are mapped over it */
};

/*
 * Called by the process that holds the id's lock. Memory that is there and from
 * this boot of the machine is resumed; memory from another boot, or whose log
 * is missing, counts as lost. Memory of another group, version or size is an
 * error that names the file. The files come into being whole or not at all.
 */
int shm_memory_open(struct shm_memory *memory, const struct memory_directory *dir,
		    const struct mu_fabric_config *config, const struct memory_error *error);
void shm_memory_close(struct shm_memory *memory);

/*
 * Put new files with the same contents behind some segments of the replication
 * region, at the same address, and publish the new generation: whoever has the
 * old ones mapped writes into memory that nobody looks at any more. Other
 * threads of this process may read the region meanwhile, but not store into it.
 * Returns -1, with nothing changed, if there is no room for the copies.
 */
int shm_memory_replace(struct shm_memory *memory, const struct memory_directory *dir, unsigned id,
		       const unsigned *segments, unsigned count);

/* A replica's memory as seen from elsewhere. The private region is not in it. */
struct shm_view {
	struct shm_header *header; /* NULL: nothing is mapped */
	uint8_t *region[MU_REGIONS];
	uint64_t generation; /* of the log that is mapped */
	unsigned segment_shift;
	struct memory_map main;
	struct memory_map log;
};
/* Map replica id's memory as it is now. Returns -1 if there is none to be had. */
int shm_view_open(struct shm_view *view, const struct memory_directory *dir,
		  const struct mu_fabric_config *config, unsigned id);
void shm_view_close(struct shm_view *view);
/* Whether the view is of the files that are replica id's now. */
bool shm_view_is_current(const struct shm_view *view, const struct memory_directory *dir,
			 unsigned id);

#endif
