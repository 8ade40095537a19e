/*
 * redis_sync.h - what a Redis server sends to its replica, looked at on its way:
 * how much of the snapshot has come, at which offset of the replication stream
 * what follows stands, and where a message of ours in it ends.
 */
#ifndef MP_REDIS_SYNC_H
#define MP_REDIS_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "slice.h"

enum redis_sync_part {
	REDIS_SYNC_ANSWER,   /* line ends, while it is busy; then "+FULLRESYNC <id> <offset>" */
	REDIS_SYNC_LENGTH,   /* line ends, while it prepares; then "$<bytes>" or "$EOF:<mark>" */
	REDIS_SYNC_SNAPSHOT, /* so many bytes, or up to the mark */
	REDIS_SYNC_COMMANDS, /* what has been executed since */
};

enum { REDIS_SYNC_MARK_BYTES = 40 };

/* A zeroed one is at the beginning. */
struct redis_sync {
	enum redis_sync_part part;
	uint64_t bytes, total_bytes; /* of the snapshot; total 0: not known */
	uint64_t offset;             /* of the stream, behind what was fed */
	char why[120];
	/* private */
	char line[200];
	size_t line_len;
	bool has_mark;
	char mark[REDIS_SYNC_MARK_BYTES], last[REDIS_SYNC_MARK_BYTES];
};

/* Bytes in the order in which they came. False: it makes no sense, or is an error; why. */
bool redis_sync_feed(struct redis_sync *sync, struct mp_slice bytes);

/*
 * Where, in bytes that come piece by piece, what is sought ends. A zeroed one
 * that was given `sought`, at most REDIS_SOUGHT_BYTES, is ready.
 */
enum { REDIS_SOUGHT_BYTES = 160 };
struct redis_search {
	char sought[REDIS_SOUGHT_BYTES];
	size_t len;
	/* private: the last bytes of the pieces before */
	char kept[REDIS_SOUGHT_BYTES];
	size_t kept_len;
};
/* How much of this piece is up to its end; 0: it does not end here. Not after it was found. */
size_t redis_search_in(struct redis_search *search, struct mp_slice piece);

#endif
