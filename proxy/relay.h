/*
 * relay.h - requests of clients of one replica that another one, the leader,
 * executes. Each replica has one link to the leader (relay_out.c), and as
 * leader one from each of the others (relay_in.c).
 */
#ifndef MP_RELAY_H
#define MP_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "blocking.h"
#include "frame.h"
#include "link.h"
#include "memory.h"
#include "mu.h"
#include "net.h"
#include "request.h"

struct mp_proxy;
TAILQ_HEAD(mp_link_list, mp_link);

struct mp_relay_out {
	struct mp_link *link; /* NULL: none */
	uint32_t dialling;    /* bit i: somebody was asked for a connection to replica i */
	/*
	 * In the order in which they were sent; apart those that may take for ever: they
	 * wait for a key, or for their client to read.
	 */
	struct mp_request_list relayed, patient;
	struct mp_address address[MU_ID_SLOTS];
	uint64_t next_try_ns;
	uint64_t busy_since_ns; /* when relayed was empty last */
	unsigned failures;      /* in a row, to the same leader */
	unsigned peer;          /* who they were about */
};

struct mp_relay_in {
	struct mp_link_list links;
	uint64_t next_complaint_ns; /* not every garbage connection gets a line in the log */
};

struct mp_relay {
	struct mp_relay_out out;
	struct mp_relay_in in;
	struct mp_link_list closed; /* let go of at the end of the turn */
};

void mp_relay_init(struct mp_relay *relay);
/* Parses the members' addresses. False: one line in err. */
bool mp_relay_open(struct mp_proxy *proxy, char *err, size_t err_bytes);
void mp_relay_close(struct mp_proxy *proxy);

/* --- the follower's end */

/* Is there a leader to send requests to? */
bool mp_relay_out_open(const struct mp_proxy *proxy);
/* The link to that leader, or NULL. */
struct mp_link *mp_relay_out_link(const struct mp_proxy *proxy);
/* ... and is there room on the way to it? */
bool mp_relay_out_room(const struct mp_proxy *proxy);
/* What the leader has told of memory, if there is one. */
enum mp_memory_word mp_relay_out_memory(const struct mp_proxy *proxy);
void mp_relay_out_send(struct mp_proxy *proxy, struct mp_request *r);
/* A relayed request that waits for a key is to wait no longer. */
void mp_relay_out_give_up(struct mp_proxy *proxy, const struct mp_request *r, enum mp_give_up why);
/* The client of a relayed request has taken so much more of its reply; 0: has left (paced.h). */
void mp_relay_out_taken(struct mp_proxy *proxy, const struct mp_request *r, uint64_t bytes);
/* The list that a RELAYED request is in. */
struct mp_request_list *mp_relay_out_list(struct mp_proxy *proxy, const struct mp_request *r);
/* The connection that was asked for (proxy.h), or -1. */
void mp_relay_out_dialled(struct mp_proxy *proxy, unsigned peer, int fd);
/* Once a turn: be connected to whoever leads. Returns when it wants another turn. */
uint64_t mp_relay_out_turn(struct mp_proxy *proxy);

/* --- the leader's end */

/* A connection of a peer, 0: of whom is yet to be said; takes the socket over. */
void mp_relay_in_accept(struct mp_proxy *proxy, int fd, unsigned peer);
/* Once a turn, after proposing: tell of having become, or ceased to be, the leader. */
void mp_relay_in_turn(struct mp_proxy *proxy);
/* Take no more requests. */
void mp_relay_in_drain(struct mp_proxy *proxy);
/* A piece of the reply to a relayed request. */
void mp_relay_in_reply(struct mp_request *r, struct mp_slice piece, bool last);
/* A frame without a head to this replica, if it has a link to here. */
void mp_relay_in_tell(struct mp_proxy *proxy, unsigned peer, enum mp_frame_type type,
		      struct mp_slice body);
/* How many of the other replicas' clients are held (pause.h). */
uint32_t mp_relay_in_held(const struct mp_proxy *proxy);
/* The rest of it will not come. */
void mp_relay_in_cut(const struct mp_request *r);

/* Last in a turn: send what is queued, free what is closed. */
void mp_relay_flush(struct mp_proxy *proxy);

#endif
