/* dev_options.h - the command line of `muproxy dev`. */
#ifndef MUPROXY_DEV_OPTIONS_H
#define MUPROXY_DEV_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct dev_options {
	const char *dir; /* NULL: a temporary one */
	unsigned replicas;
	const char *fabric;                         /* "shm", "tcp" or "verbs" */
	int redis_port, memcached_port, admin_port; /* of replica 1 */
	int peer_port;                              /* ... 0: none, they meet at sockets */
	const char *log_level;
	uint64_t ring_bytes;        /* 0: what the tmpfs has room for */
	const char *seed;           /* NULL, or whose data the group begins with */
	const char *memcached_seed; /* likewise */
	bool keep;                  /* leave configurations and logs behind */
};

/* -1: go on; else the exit code, and why has been said. */
int dev_take_options(struct dev_options *options, int argc, char **argv);

/* One line on stderr, after "muproxy dev: ". */
void dev_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
