/* shm_files.h - files that only the shm fabric has: the log, and patches of it. */
#ifndef MU_SHM_FILES_H
#define MU_SHM_FILES_H

#include "memory_files.h"
#include "shm_layout.h"

struct memory_name shm_log_name(unsigned id);
struct memory_name shm_patch_name(unsigned id, uint64_t patch);

/*
 * Delete what a replica has left half-built, and its patches but for those that
 * are in use (NULL: all). Only for the process that holds its lock.
 */
void shm_clear_leftovers(const struct memory_directory *dir, unsigned id,
			 const struct shm_header *in_use);

#endif
