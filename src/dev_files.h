/*
 * dev_files.h - what `muproxy dev` puts on the disk and takes away again: its
 * directory with one folder a replica, and the group's memory on a tmpfs.
 */
#ifndef MUPROXY_DEV_FILES_H
#define MUPROXY_DEV_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "dev_options.h"

struct dev_files {
	char dir[PATH_MAX];    /* absolute */
	char memory[PATH_MAX]; /* "" until made */
	bool made_dir;
	int dir_fd;   /* open and locked: one group a directory; -1: not made */
	int owner_fd; /* lock in the memory directory: tells that its group lives; -1: none */
	unsigned replicas;
	uint64_t ring_bytes; /* of each replica's log */
	bool keep;
};

/* Must come first; then dev_files_remove() may be called at any time. */
void dev_files_init(struct dev_files *files);
/* Make directory, memory and configurations. False: one line in err. */
bool dev_files_make(struct dev_files *files, const struct dev_options *options, char *err,
		    size_t err_bytes);
/* Remove everything that was made, and what the processes of the group left in it. */
void dev_files_remove(struct dev_files *files);

/* DIR/replica-i/name. */
void dev_path(const struct dev_files *files, unsigned replica, const char *name,
	      char out[PATH_MAX]);

#endif
