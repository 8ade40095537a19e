/*
 * paced.h - replies that come over a connection of their own to the server, and no
 * faster than their client takes them: Memcached's listings (memcached_listing.h) and
 * Redis's large reads (large_reads.h).
 *
 * What the client does not read waits at the server: that connection is not read on from.
 * Through a follower the leader sends as much as MP_PACED_WINDOW_BYTES ahead; the
 * follower says how much its client has taken (MP_FRAME_TAKEN).
 */
#ifndef MP_PACED_H
#define MP_PACED_H

#include <stdbool.h>
#include <stdint.h>

#include "request.h"

struct mp_proxy;

enum { MP_PACED_WINDOW_BYTES = 1 << 20 }; /* sent to another replica ahead of its client */

static inline bool mp_request_is_paced(const struct mp_request *r)
{
	return r->meta.listing || r->is_paced;
}

/* May more of the reply go out? untaken: bytes that the other replica has not said to be taken. */
bool mp_paced_has_room(const struct mp_request *r, uint64_t untaken);
/* Nobody is there to be told. */
bool mp_paced_is_abandoned(const struct mp_request *r);
/* A client, whose oldest request this is, has taken what there was of its replies. */
void mp_paced_on_taken(struct mp_request *r);
/* The same at another replica, which has told so; 0: its client has left. */
void mp_paced_on_taken_there(struct mp_proxy *proxy, const struct mp_link *link, uint64_t sequence,
			     uint64_t bytes);

#endif
