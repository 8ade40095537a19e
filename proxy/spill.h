/*
 * spill.h - bytes of replies that their clients have not taken, in files rather than in
 * memory. What a server answers to a write cannot be asked for again, and the connection that it
 * comes over has to be read on from, whoever waits for what comes; so all of it is held
 * for a client that is slower. What is more than MP_SPILL_FROM_BYTES of it goes to a temporary
 * file, which has no name and so is gone with the process.
 *
 * A queue: put at the end, taken from the front. What was taken takes no room on disk any
 * more, as far as the file system can do without it. Writing is the page cache's as a rule, so
 * the data thread does it; a disk that is overburdened with writing holds it up.
 */
#ifndef MP_SPILL_H
#define MP_SPILL_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "slice.h"

enum {
	MP_SPILL_FROM_BYTES = 4 << 20, /* of one client's, or one request's, that are in memory */
	MP_SPILL_PIECE_BYTES = 1 << 20,
};

/* All of a proxy's, and their bound. */
struct mp_spills {
	const char *directory; /* has to outlive it */
	uint64_t most_bytes;   /* 0: none may be had */
	uint64_t bytes;        /* in all of them */
};

struct mp_spill {
	struct mp_spills *spills;
	int fd;
	uint64_t start, end; /* what is in use of the file */
};

/* An empty one. NULL with errno: there can be none. */
struct mp_spill *mp_spill_open(struct mp_spills *spills);
/* Gives the file back, and what is in it; NULL is none. */
void mp_spill_close(struct mp_spill *spill);

static inline uint64_t mp_spill_len(const struct mp_spill *spill)
{
	return spill ? spill->end - spill->start : 0;
}

/* Puts bytes at the end. False: errno (EDQUOT: most_bytes), nothing was put. */
bool mp_spill_append(struct mp_spill *spill, struct mp_slice bytes);
/*
 * Moves the oldest bytes, MP_SPILL_PIECE_BYTES or all that there are, to the end of a buffer.
 * False: errno, nothing was moved.
 */
bool mp_spill_take(struct mp_spill *spill, struct mp_buffer *to);
/*
 * The same where a buffer is sent that *spill, if there is one, goes on with: once it holds less
 * than MP_SPILL_PIECE_BYTES. A file that comes to its end is given back, and *spill is NULL then.
 */
bool mp_spill_refill(struct mp_spill **spill, struct mp_buffer *to);

#endif
