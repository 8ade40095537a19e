/* dev_child.h - starting and ending the processes of a `muproxy dev` group. */
#ifndef MUPROXY_DEV_CHILD_H
#define MUPROXY_DEV_CHILD_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Find a program in PATH. False if there is none. */
bool child_find(const char *name, char path[PATH_MAX]);

/*
 * Start argv[0] (a path). Its output is appended to log; it has no input, a
 * process group of its own (Ctrl-C in the terminal is for us to hand on), and
 * gets SIGTERM if we die. Returns its id; -1 with a line in err.
 */
pid_t child_start(char *const argv[], const char *log, char *err, size_t err_bytes);

/* "exit code 2", "killed by signal 9 (Killed)" */
void child_describe_end(int wait_status, char *out, size_t cap);

#endif
