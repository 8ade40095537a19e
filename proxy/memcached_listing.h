/*
 * memcached_listing.h - lru_crawler metadump and mgdump for clients: the leader's
 * memcached lists its items over a connection of its own, since nothing else
 * could be asked over it meanwhile, and for as long as the client takes to read.
 *
 * A listing is a read like others: it keeps its place among its client's
 * requests, and shows what was acknowledged before it was sent. When its turn
 * with the server has come, so that all before it is executed, it begins. As at
 * a memcached there is one at a time; others are told BUSY.
 *
 * What the client does not read waits at the server (paced.h).
 *
 * A listing that cannot go on (the leader is another one, the server is lost,
 * the client has not read for a minute) ends with a line that says so instead of
 * END, and with the connection; if none of it was sent yet, it begins anew with
 * the next leader.
 */
#ifndef MP_MEMCACHED_LISTING_H
#define MP_MEMCACHED_LISTING_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "request.h"
#include "slice.h"
#include "stream.h"

struct mp_proxy;
struct mp_link;

/* A zeroed one is none. */
struct mp_listing {
	struct mp_proxy *proxy;
	struct mp_request *request; /* RUNNING, in no list; NULL: no listing is on */
	uint64_t ballot;            /* that it is under: tokens are its */
	struct mp_stream server;
	struct mp_buffer out; /* lines for the client, on their way */
	uint64_t untaken;     /* bytes of them that the other replica has not said to be taken */
	uint64_t moved_ns;    /* when the client took something last */
	bool is_over;         /* the last line has come */
	char why[160];        /* it was cut: to be told; "": it was not */
};

/* What the server is asked first, over the connection that all share. */
struct mp_slice mp_listing_question(void);
/* ... and has answered: everything before r is executed. r is in no list. */
void mp_listing_begin(struct mp_proxy *proxy, struct mp_request *r);
/* A client, whose request this is, has taken what there was of its replies. */
void mp_listing_on_taken(struct mp_proxy *proxy, const struct mp_request *r);
/* The same at another replica, which has told so. */
void mp_listing_on_taken_there(struct mp_proxy *proxy, const struct mp_link *link,
			       uint64_t sequence, uint64_t bytes);
/* A part of it is with the client, and no more will come; r is in no list. */
void mp_listing_cut(struct mp_proxy *proxy, struct mp_request *r, const char *why);
/* Is it the piece of a reply after which its client cannot go on? */
bool mp_listing_is_cut(const struct mp_request *r, struct mp_slice piece);
/* Once a turn. Returns when it wants another one at the latest. */
uint64_t mp_listing_turn(struct mp_proxy *proxy);
void mp_listing_close(struct mp_proxy *proxy);

#endif
