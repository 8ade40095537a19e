/*
 * shm_files.h - the directory that the replicas of a group share: names of the
 * files in it, making and mapping them, and the lock that an id runs once.
 */
#ifndef MU_SHM_FILES_H
#define MU_SHM_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm_layout.h"

/* Where a reason of one line goes when something fails. */
struct shm_error {
	char *text;
	size_t bytes;
};
/* Always returns -1, so that a function can end with it. */
int shm_error_set(const struct shm_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

struct shm_directory {
	int fd;
	char *path;                      /* for messages */
	size_t unit;                     /* lengths and offsets of mappings are multiples of it */
	char boot_id[SHM_BOOT_ID_BYTES]; /* of the boot that this process lives in */
};
int shm_directory_open(struct shm_directory *dir, const char *path, const struct shm_error *error);
void shm_directory_close(struct shm_directory *dir);
/* bytes, rounded up to what can be mapped here (huge pages count as one page). */
size_t shm_round_up(const struct shm_directory *dir, size_t bytes);

struct shm_name {
	char text[48];
};
struct shm_name shm_main_name(unsigned id);
struct shm_name shm_main_new_name(unsigned id);
struct shm_name shm_log_name(unsigned id);
struct shm_name shm_patch_name(unsigned id, uint64_t patch);

/* A file, mapped whole, shared and writable. Nothing else of it is kept. */
struct shm_map {
	uint8_t *base; /* NULL: not mapped */
	size_t bytes;
	dev_t device;
	ino_t inode;
};

/*
 * Make a file of `bytes` zero bytes, in the place of any of that name, and map
 * it. Its memory is taken now: a full disk is an error here, and cannot become
 * a SIGBUS at some later write. (The log ring is written from end to end over
 * and over, so all of it would be taken soon in any case.)
 */
int shm_file_create(const struct shm_directory *dir, const char *name, size_t bytes,
		    struct shm_map *map, const struct shm_error *error);

enum shm_found {
	SHM_FOUND,
	SHM_ABSENT, /* no such file */
	SHM_FAILED, /* there, but cannot be used; the reason is in error */
};
/* Map a file that is there. */
enum shm_found shm_file_map(const struct shm_directory *dir, const char *name, struct shm_map *map,
			    const struct shm_error *error);
void shm_unmap(struct shm_map *map);

/*
 * Delete what a replica has left half-built, and its patches but for those that
 * are in use (NULL: all). Only for the process that holds its lock.
 */
void shm_clear_leftovers(const struct shm_directory *dir, unsigned id,
			 const struct shm_header *in_use);

/*
 * Take the lock of an id. Returns a descriptor that holds it, until it is
 * closed or the process ends, or -1 with the reason.
 */
int shm_lock(const struct shm_directory *dir, unsigned id, const struct shm_error *error);

/*
 * True if no process runs the id at this moment. The kernel drops the lock of
 * a process that ends only after the last of its threads has left its memory,
 * so nothing of what that process was doing to any memory is still under way.
 * False if that cannot be told.
 */
bool shm_lock_is_free(const struct shm_directory *dir, unsigned id);

#endif
