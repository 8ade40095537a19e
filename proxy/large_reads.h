/*
 * large_reads.h - Redis: reads with large replies, each over a connection of its own to
 * the server. The one that all requests share has to be read on from, whoever
 * waits for what comes; so all of a large reply would have to be held for a client that is
 * slower than the server. Over its own connection it is read no faster than its client
 * takes it (paced.h).
 *
 * How large a reply is shows when it begins, over the shared connection: a string
 * says how long it is, of an array the first items are looked at. Of one that is large
 * nothing is passed on. The rest of it is passed over, and the read asked again over a
 * connection of its own. It sees all that it would have seen, and perhaps some later
 * writes, but of its own client's requests none that come behind it: they
 * wait until the server has begun to answer, those of this replica's clients behind a
 * barrier (session.h), those relayed here in `held`. Reads of them that are under way
 * already are asked again, too; where there is anything else, it stays where it is. A read whose
 * reply was large is known by its bytes from then on, and goes to a connection of its own at once.
 *
 * A reply that cannot be finished (the server is lost, or the leader through which it
 * comes) is asked for again if none of it has reached the client; else the client is
 * disconnected, since nothing else can be told within a reply.
 */
#ifndef MP_LARGE_READS_H
#define MP_LARGE_READS_H

#include <stdbool.h>
#include <stdint.h>

#include "net.h"
#include "request.h"
#include "slice.h"

struct mp_proxy;

enum { MP_LARGE_KNOWN = 1024 };

struct mp_large;
TAILQ_HEAD(mp_large_list, mp_large);

struct mp_large_reads {
	struct mp_large_list all;
	uint32_t open;                  /* connections */
	uint32_t waiting;               /* reads that wait for one */
	struct mp_request_list held;    /* relayed, behind one that the server has not begun */
	bool may_release;               /* one of them might go on */
	uint64_t known[MP_LARGE_KNOWN]; /* hashes of reads whose replies were large, by the hash */
	uint32_t known_count;
	struct mp_address address; /* of the server, looked up once */
};

void mp_large_init(struct mp_large_reads *large);
/* False: one line in err. */
bool mp_large_open(struct mp_proxy *proxy, char *err, size_t err_bytes);
void mp_large_close(struct mp_proxy *proxy);

/* A read that is about to be sent to the server, or queued for it: is it known to be large? */
void mp_large_look(struct mp_proxy *proxy, struct mp_request *r);
/* The reply to a read of the shared connection begins. True: it is large, pass over it. */
bool mp_large_weigh(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice piece);
/* What the server is asked, over the connection that all share, by a read that is known. */
struct mp_slice mp_large_question(void);
/* ... and has answered, or what was passed over is: all before r is executed. r is in no list. */
void mp_large_begin(struct mp_proxy *proxy, struct mp_request *r);

/* A relayed request whose turn has come: true, it waits, and is not the caller's any more. */
bool mp_large_holds_back(struct mp_proxy *proxy, struct mp_request *r);
/* Who waited goes to the front of the inbox. */
void mp_large_release(struct mp_proxy *proxy);

void mp_large_on_taken(struct mp_large *large);
/* False: it is none of these. */
bool mp_large_on_taken_there(struct mp_proxy *proxy, const struct mp_link *link, uint64_t sequence,
			     uint64_t bytes);

/* r is done with, or will be sent anew: nothing is left of it here. */
void mp_large_forget(struct mp_request *r);
/* The server is not there any more, or out of service. */
void mp_large_lost(struct mp_proxy *proxy);
/* Once a turn. Returns when it wants another one at the latest. */
uint64_t mp_large_turn(struct mp_proxy *proxy);

#endif
