/*
 * mc_listing.h - lru_crawler's listings of items (metadump, mgdump), line by line:
 * as a server gives them, and as clients are to have them. Pure functions.
 */
#ifndef MP_MC_LISTING_H
#define MP_MC_LISTING_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "mc_request.h"
#include "mc_writer.h"
#include "slice.h"

enum { MC_LISTING_LINE_BYTES = 2048 }; /* none is as long: keys are escaped, three for one */

/* The first line of what has come of a listing, with its end. False: it is not whole yet. */
bool mc_next_listing_line(const struct mp_buffer *in, struct mp_slice *line);

enum mc_listing_line {
	MC_LISTING_ITEM, /* one item's */
	MC_LISTING_OURS, /* an item of muproxy's own, which nobody is to see */
	MC_LISTING_LAST, /* the end, or what the server says instead of a listing */
};
/* line: with its end. */
enum mc_listing_line mc_listing_line_of(struct mp_slice line);

/*
 * An item's line for clients: with a token for the server's version number, and its
 * times moved by shift_s, for a server whose clock is not ours.
 */
void mc_put_listing_line(struct mc_writer *out, struct mp_slice line, uint64_t term,
			 int64_t shift_s);

/* An item of a metadump. */
struct mc_listed {
	char key[MC_MAX_KEY_BYTES];
	size_t key_bytes;
	uint64_t bytes;      /* of all of the item, with what the server keeps beside it */
	uint64_t deadline_s; /* Unix time as the server's clock shows it; 0: none */
};
/* False: it is not understood. */
bool mc_parse_listed(struct mp_slice line, struct mc_listed *item);

#endif
