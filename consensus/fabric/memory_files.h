/*
 * memory_files.h - the directory that replicas' memory lies in: names of the
 * files in it, making and mapping them, the lock that an id runs once, and how
 * a file says whose memory it is.
 */
#ifndef MU_MEMORY_FILES_H
#define MU_MEMORY_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mu_fabric.h"

#define MEMORY_BOOT_ID_BYTES 40

/*
 * What every replica's main file begins with, constant from creation. All but
 * the last two stay where they are in every version of every fabric, so that
 * memory of another can be told apart.
 */
struct memory_identity {
	uint64_t magic;   /* of a kind of file */
	uint32_t version; /* of that kind */
	uint32_t id;
	uint64_t group_id;
	char boot_id[MEMORY_BOOT_ID_BYTES]; /* of the machine, as text */
	uint64_t region_bytes[MU_REGIONS];
	uint64_t incarnation; /* random, never 0: names this formatting */
};

/* Where a reason of one line goes when something fails. */
struct memory_error {
	char *text;
	size_t bytes;
};
/* Always returns -1, so that a function can end with it. */
int memory_error_set(const struct memory_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

struct memory_directory {
	int fd;
	char *path;  /* for messages */
	size_t unit; /* lengths and offsets of mappings are multiples of it */
	char boot_id[MEMORY_BOOT_ID_BYTES]; /* of the boot that this process lives in */
};
int memory_directory_open(struct memory_directory *dir, const char *path,
			  const struct memory_error *error);
void memory_directory_close(struct memory_directory *dir);
/* bytes, rounded up to what can be mapped here (huge pages count as one page). */
size_t memory_round_up(const struct memory_directory *dir, size_t bytes);

struct memory_name {
	char text[48];
};
struct memory_name memory_main_name(unsigned id);
struct memory_name memory_main_new_name(unsigned id);
struct memory_name memory_file_name(unsigned id, const char *suffix);

/* A file, mapped whole, shared and writable. Nothing else of it is kept. */
struct memory_map {
	uint8_t *base; /* NULL: not mapped */
	size_t bytes;
	dev_t device;
	ino_t inode;
};

/*
 * Make a file of `bytes` zero bytes, in the place of any of that name, and map
 * it, in huge pages where the file system and its settings allow. Its memory is taken now: a full
 * disk is an error here, and cannot become a SIGBUS at some later write. (The log ring is written
 * from end to end over and over, so all of it would be taken soon in any case.)
 */
int memory_file_create(const struct memory_directory *dir, const char *name, size_t bytes,
		       struct memory_map *map, const struct memory_error *error);

enum memory_found {
	MEMORY_FOUND,
	MEMORY_ABSENT, /* no such file */
	MEMORY_FAILED, /* there, but cannot be used; the reason is in error */
};
/* Map a file that is there. */
enum memory_found memory_file_map(const struct memory_directory *dir, const char *name,
				  struct memory_map *map, const struct memory_error *error);
void memory_unmap(struct memory_map *map);

/*
 * Take the lock of an id. Returns a descriptor that holds it, until it is
 * closed or the process ends, or -1 with the reason.
 */
int memory_lock(const struct memory_directory *dir, unsigned id, const struct memory_error *error);

/*
 * True if no process runs the id at this moment. The kernel drops the lock of
 * a process that ends only after the last of its threads has left its memory,
 * so nothing of what that process was doing to any memory is still under way.
 * False if that cannot be told. (What a device does in its name is another
 * matter: its queue pairs go when the descriptor of the device is closed, which
 * the kernel does in no order that it promises.)
 */
bool memory_lock_is_free(const struct memory_directory *dir, unsigned id);

/* Is the configuration one that memory can be made for? Returns 0, or -1 with the reason. */
int memory_check_config(const struct mu_fabric_config *config, const struct memory_error *error);

/* Fill in an identity, but for the magic and version that `kind` brings. */
int memory_identify(struct memory_identity *identity, const struct memory_identity *kind,
		    const struct memory_directory *dir, const struct mu_fabric_config *config,
		    const struct memory_error *error);

enum memory_verdict {
	MEMORY_RESUME,
	MEMORY_LOST, /* from before the machine was started */
	MEMORY_REFUSE,
};
/* Always returns MEMORY_REFUSE, with the reason in error. */
enum memory_verdict memory_refuse(const struct memory_directory *dir, const char *name,
				  const char *why, const struct memory_error *error);
/*
 * Is this main file the memory of replica `id`, of this kind, and can it be
 * used as it is? `main_bytes` is what the file has if it can.
 */
enum memory_verdict memory_judge(const struct memory_map *main, size_t main_bytes,
				 const struct memory_identity *kind,
				 const struct memory_directory *dir,
				 const struct mu_fabric_config *config, unsigned id,
				 const struct memory_error *error);

#endif
