/* pidfile.c - see pidfile.h. */
#include "config.h"

#include "pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 1000, PAUSE_MS = 20 };

static struct flock whole_file(void)
{
	return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
}

/* Is what we locked still what the path names? Its last holder may have removed it meanwhile. */
static bool is_current(int fd, const char *path)
{
	struct stat locked, named;

	return fstat(fd, &locked) == 0 && stat(path, &named) == 0 &&
	       locked.st_ino == named.st_ino && locked.st_dev == named.st_dev;
}

/*
 * A process that was killed just now holds its lock until the kernel has taken
 * it apart, which for one with much memory takes a moment.
 */
static bool lock_soon(int fd)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
	struct flock lock = whole_file();

	for (int waited_ms = 0; fcntl(fd, F_SETLK, &lock) < 0; waited_ms += PAUSE_MS) {
		if (waited_ms >= PATIENCE_MS)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

int pidfile_take(const char *path, char *err, size_t err_bytes)
{
	int fd;

	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0) {
			snprintf(err, err_bytes, "%s: %s", path, strerror(errno));
			return -1;
		}
		if (!lock_soon(fd)) {
			snprintf(err, err_bytes, "%s: process %d is running with it", path,
				 (int)pidfile_holder(path));
			close(fd);
			return -1;
		}
		if (is_current(fd, path))
			break;
		close(fd);
	}
	if (ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0) {
		snprintf(err, err_bytes, "%s: %s", path, strerror(errno));
		pidfile_release(path, fd);
		return -1;
	}
	return fd;
}

void pidfile_release(const char *path, int fd)
{
	if (fd < 0)
		return;
	unlink(path);
	close(fd);
}

pid_t pidfile_holder(const char *path)
{
	struct flock lock = whole_file();
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return 0;
	rc = fcntl(fd, F_GETLK, &lock);
	close(fd);
	return rc == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
}
