/*
 * peering.h - joins the members of a group over TCP (mu_peering.h): one
 * listening port a replica, one channel between any two of them, and streams.
 *
 * Every connection begins with a greeting (peering_wire.h) in which both ends
 * say who they are and prove, by challenge and response, that they know the
 * group's secret. The secret itself never travels. What follows on the
 * connection is neither encrypted nor signed: who can change packets on their
 * way can change what the group does, so that way must be the operator's own.
 *
 * A peering runs on a thread of its own. The functions below may be called by
 * any one thread at a time; what fabrics call (mu_peering_ops) by any.
 */
#ifndef MUPROXY_PEERING_H
#define MUPROXY_PEERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "book.h"
#include "mu_peering.h"

struct peering;

struct peering_options {
	unsigned id;
	uint64_t group_id;
	/* host:port, [v6]:port or name:port of every replica known; the others' are dialled. */
	const char *address[MU_ID_SLOTS];
	/*
	 * The latest that is known to be committed (book.h); 0: those with an address are
	 * the members. Two that have not changed since the beginning must be the same.
	 */
	uint64_t configuration;
	bool admits;        /* who knows the secret may be of an id that is not known yet */
	const char *listen; /* NULL: at the own address */
	/* What the members prove to know; both ends must have one, or neither. */
	const uint8_t *secret;
	size_t secret_bytes; /* 0: none */
	uint32_t facts;      /* told to all peers; what it means is the user's affair */
	/*
	 * What speaks against working with a peer that tells these facts, a line, or
	 * NULL. Then it is a line in the log, and there is no channel to that peer for
	 * the fabric, nor a stream. May be NULL.
	 */
	const char *(*objection)(uint32_t theirs, uint32_t here);
	/* What else must be the same at all members, so that it is refused in time. */
	uint32_t fabric; /* a number for what is to run over it */
	uint64_t ring_bytes;

	uint32_t connect_ms; /* until a TCP connection has come about */
	uint32_t greet_ms;   /* until a greeting is over, and the peer has made its mind up */
	uint32_t dial_ms;    /* until a request for a stream ends */
	uint32_t ping_ms;    /* how long a channel is idle before the peer is asked for a word */
	uint32_t silence_ms; /* ... and silent before it is given up */
	/* Of what a stream's socket holds, each way; 0: as the system likes. */
	uint32_t stream_buffer_bytes;
};
/* Defaults for the times. */
void peering_options_init(struct peering_options *options);

/*
 * Bind the port. Nobody is answered yet. The secret must outlive the
 * peering, what else options point to need not. NULL, with one line in err, if it cannot.
 */
struct peering *peering_open(const struct peering_options *options, char *err, size_t err_bytes);
/* The port that it is bound to. */
int peering_port(const struct peering *peering);
/* Begin. -1: errno. */
int peering_start(struct peering *peering);
/* End the thread and close everything; the fabric has detached. */
void peering_close(struct peering *peering);

/* What fabrics are given. */
struct mu_peering *peering_base(struct peering *peering);

/* Tell all peers something else from now on. */
void peering_set_facts(struct peering *peering, uint32_t facts);

struct peering_peer {
	bool up; /* both have proved themselves */
	uint32_t facts;
};
/* What is known of a member. Any thread. */
struct peering_peer peering_peer(struct peering *peering, unsigned id);

/* Who is known, and where. Any thread. */
void peering_get_book(struct peering *peering, struct book *book);
/* A later configuration was committed: who is removed is not dialled any more. Any thread. */
void peering_set_configuration(struct peering *peering, uint64_t configuration);

/*
 * Ask whoever is at `address` who the group's replicas are and where: what is told goes
 * into the book. Blocks for connect_ms and greet_ms at most, and for looking up a name.
 * Of the options it needs what a greeting does. False: one line in err.
 */
bool peering_ask(const struct peering_options *options, const char *address, struct book *book,
		 char *err, size_t err_bytes);

/*
 * Streams for the user's own purpose, beside the fabric's: taken() gets those
 * that peers dialled and those that were asked for here. It is called on the
 * peering's thread; fd as in mu_peering_events.stream(), -1 if it came to
 * nothing. Set it before peering_start().
 */
struct peering_user {
	void (*taken)(void *ctx, unsigned peer, int fd, bool dialled);
	void *ctx;
};
void peering_set_user(struct peering *peering, const struct peering_user *user);
/* As mu_peering_ops.dial(). */
int peering_dial(struct peering *peering, unsigned peer);

#endif
