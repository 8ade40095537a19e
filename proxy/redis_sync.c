/* redis_sync.c - see redis_sync.h. */
#include "config.h"

#include "redis_sync.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- the lines */

static bool complain(struct redis_sync *sync, const char *line)
{
	snprintf(sync->why, sizeof(sync->why), "its server says: %.90s", line);
	return false;
}

static bool take_answer(struct redis_sync *sync)
{
	/* It says no more than that it lives, as long as another snapshot is being made. */
	if (sync->line_len == 0)
		return true;
	if (sscanf(sync->line, "+FULLRESYNC %*40s %" SCNu64, &sync->offset) != 1)
		return complain(sync, sync->line);
	sync->part = REDIS_SYNC_LENGTH;
	return true;
}

static bool take_length(struct redis_sync *sync)
{
	static const char eof[] = "$EOF:";
	size_t eof_len = sizeof(eof) - 1;

	if (sync->line_len == 0)
		return true;
	if (strncmp(sync->line, eof, eof_len) == 0 &&
	    sync->line_len == eof_len + REDIS_SYNC_MARK_BYTES) {
		sync->has_mark = true;
		memcpy(sync->mark, sync->line + eof_len, REDIS_SYNC_MARK_BYTES);
	} else if (sscanf(sync->line, "$%" SCNu64, &sync->total_bytes) != 1 ||
		   sync->total_bytes == 0) {
		return complain(sync, sync->line);
	}
	sync->part = REDIS_SYNC_SNAPSHOT;
	return true;
}

/* Returns how many bytes were the line's; sets ok. */
static size_t feed_line(struct redis_sync *sync, struct mp_slice bytes, bool *ok)
{
	const char *end = memchr(bytes.data, '\n', bytes.len);
	size_t len = end ? (size_t)(end - bytes.data) + 1 : bytes.len;

	*ok = true;
	if (sync->line_len + len >= sizeof(sync->line)) {
		*ok = complain(sync, "a line that is too long");
		return len;
	}
	memcpy(sync->line + sync->line_len, bytes.data, len);
	sync->line_len += len;
	if (!end)
		return len;
	while (sync->line_len > 0 &&
	       (sync->line[sync->line_len - 1] == '\n' || sync->line[sync->line_len - 1] == '\r'))
		sync->line_len--;
	sync->line[sync->line_len] = '\0';
	*ok = sync->part == REDIS_SYNC_ANSWER ? take_answer(sync) : take_length(sync);
	sync->line_len = 0;
	return len;
}

/* -------------------------------------------------------------- the snapshot */

/* The last bytes of all that was fed, as many as there are in a mark. */
static void remember(struct redis_sync *sync, struct mp_slice bytes)
{
	size_t all = REDIS_SYNC_MARK_BYTES;

	if (bytes.len >= all) {
		memcpy(sync->last, bytes.data + bytes.len - all, all);
		return;
	}
	memmove(sync->last, sync->last + bytes.len, all - bytes.len);
	memcpy(sync->last + all - bytes.len, bytes.data, bytes.len);
}

/*
 * The server sends nothing behind the mark before its replica has spoken, so it
 * is the end of what has come.
 */
static size_t feed_snapshot(struct redis_sync *sync, struct mp_slice bytes)
{
	size_t len = bytes.len;

	if (sync->has_mark) {
		remember(sync, bytes);
		if (memcmp(sync->last, sync->mark, REDIS_SYNC_MARK_BYTES) == 0)
			sync->part = REDIS_SYNC_COMMANDS;
	} else if (len >= sync->total_bytes - sync->bytes) {
		len = sync->total_bytes - sync->bytes;
		sync->part = REDIS_SYNC_COMMANDS;
	}
	sync->bytes += len;
	return len;
}

bool redis_sync_feed(struct redis_sync *sync, struct mp_slice bytes)
{
	while (bytes.len > 0) {
		size_t len = bytes.len;
		bool ok = true;

		if (sync->part <= REDIS_SYNC_LENGTH)
			len = feed_line(sync, bytes, &ok);
		else if (sync->part == REDIS_SYNC_SNAPSHOT)
			len = feed_snapshot(sync, bytes);
		else
			sync->offset += len;
		if (!ok)
			return false;
		bytes.data += len;
		bytes.len -= len;
	}
	return true;
}

/* ---------------------------------------------------------------- the search */

size_t redis_search_in(struct redis_search *search, struct mp_slice piece)
{
	char seam[2 * REDIS_SOUGHT_BYTES];
	size_t first = piece.len < search->len ? piece.len : search->len;
	const char *found;

	/* Over the seam between this piece and those before. */
	memcpy(seam, search->kept, search->kept_len);
	memcpy(seam + search->kept_len, piece.data, first);
	found = memmem(seam, search->kept_len + first, search->sought, search->len);
	if (found)
		return (size_t)(found - seam) + search->len - search->kept_len;
	found = memmem(piece.data, piece.len, search->sought, search->len);
	if (found)
		return (size_t)(found - piece.data) + search->len;
	if (piece.len >= search->len) {
		search->kept_len = search->len - 1;
		memcpy(search->kept, piece.data + piece.len - search->kept_len, search->kept_len);
		return 0;
	}
	search->kept_len += first;
	if (search->kept_len >= search->len) {
		memmove(seam, seam + search->kept_len - (search->len - 1), search->len - 1);
		search->kept_len = search->len - 1;
	}
	memcpy(search->kept, seam, search->kept_len);
	return 0;
}
