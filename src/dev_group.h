/*
 * dev_group.h - a `muproxy dev` group while it runs: its processes, what the
 * signals said of them, and the two things done with it: start and stop.
 */
#ifndef MUPROXY_DEV_GROUP_H
#define MUPROXY_DEV_GROUP_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "dev_files.h"
#include "dev_options.h"
#include "mu_fabric.h"

enum dev_role { REPLICA, REDIS, MEMCACHED, ROLES };
extern const char *const dev_role_names[ROLES];

struct dev {
	struct dev_options options;
	struct dev_files files;
	char program[ROLES][PATH_MAX];
	pid_t pid[MU_ID_SLOTS][ROLES]; /* 0: not running */
	int signal_fd;
	bool stop; /* asked to by a signal */
	bool ready;
	bool ending; /* children that end now do so because we told them */
	bool broken; /* a child ended before the group was ready */
};

enum { DEV_POLL_MS = 20 };

/* One line on stdout. */
void dev_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Handle signals that came, or come within wait_ms (-1: any time). */
void dev_pump(struct dev *dev, int wait_ms);

/* False: a line on stderr says what is missing or in the way; nothing was made. */
bool dev_find_programs(struct dev *dev);
bool dev_check_ports(const struct dev_options *options);
/* Start all and wait until they serve. False: it failed (said why), or a signal came. */
bool dev_start_group(struct dev *dev);

#endif
