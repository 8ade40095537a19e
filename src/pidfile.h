/*
 * pidfile.h - a file that holds a process id and is locked as long as that
 * process lives, so that it tells for certain whether it still does.
 */
#ifndef MUPROXY_PIDFILE_H
#define MUPROXY_PIDFILE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Write our own id into the file and lock it. Returns a descriptor to keep; -1
 * with a one-line reason in err if another process holds it, or errno says no.
 */
int pidfile_take(const char *path, char *err, size_t err_bytes);
/* Remove and unlock it. fd -1: nothing. */
void pidfile_release(const char *path, int fd);
/* Who holds the file; 0: nobody, or there is none. */
pid_t pidfile_holder(const char *path);

#endif
