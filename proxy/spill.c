/* spill.c - see spill.h. */
#include "config.h"

#include "spill.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Not every file system has files without a name. */
static int open_named(const char *directory)
{
	char path[PATH_MAX];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/muproxy-XXXXXX", directory) >= sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

struct mp_spill *mp_spill_open(struct mp_spills *spills)
{
	struct mp_spill *spill;
	int fd;

	if (spills->most_bytes == 0) {
		errno = EDQUOT;
		return NULL;
	}
	fd = open(spills->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = open_named(spills->directory);
	if (fd < 0)
		return NULL;
	spill = malloc(sizeof(*spill));
	if (!spill) {
		close(fd);
		return NULL;
	}
	*spill = (struct mp_spill){.spills = spills, .fd = fd};
	return spill;
}

void mp_spill_close(struct mp_spill *spill)
{
	if (!spill)
		return;
	spill->spills->bytes -= mp_spill_len(spill);
	close(spill->fd);
	free(spill);
}

bool mp_spill_append(struct mp_spill *spill, struct mp_slice bytes)
{
	struct mp_spills *spills = spill->spills;
	size_t put = 0;

	if (bytes.len > spills->most_bytes - spills->bytes) {
		errno = EDQUOT;
		return false;
	}
	while (put < bytes.len) {
		ssize_t n = pwrite(spill->fd, bytes.data + put, bytes.len - put,
				   (off_t)(spill->end + put));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		put += (size_t)n;
	}
	spill->end += bytes.len;
	spills->bytes += bytes.len;
	return true;
}

/* They are needed no more; a file system that cannot do without them keeps them to the end. */
static void forget(struct mp_spill *spill, size_t bytes)
{
	(void)fallocate(spill->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)spill->start,
			(off_t)bytes);
	spill->start += bytes;
	spill->spills->bytes -= bytes;
}

bool mp_spill_take(struct mp_spill *spill, struct mp_buffer *to)
{
	size_t want = MP_SPILL_PIECE_BYTES, got = 0;
	char *room;

	if (mp_spill_len(spill) < want)
		want = (size_t)mp_spill_len(spill);
	room = mp_buffer_reserve(to, want);
	if (!room)
		return false;
	while (got < want) {
		ssize_t n = pread(spill->fd, room + got, want - got, (off_t)(spill->start + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO; /* somebody has cut the file */
		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	mp_buffer_commit(to, want);
	forget(spill, want);
	return true;
}

bool mp_spill_refill(struct mp_spill **spill, struct mp_buffer *to)
{
	if (!*spill || mp_buffer_len(to) >= MP_SPILL_PIECE_BYTES)
		return true;
	if (mp_spill_len(*spill) > 0 && !mp_spill_take(*spill, to))
		return false;
	if (mp_spill_len(*spill) == 0) {
		mp_spill_close(*spill);
		*spill = NULL;
	}
	return true;
}
