/*
 * redis_transfer.h - state transfer between Redis servers (transfer.h), by
 * Redis's own replication, which carries everything that a server holds:
 * values, deadlines, functions, our position in the log.
 *
 * At the donor (redis_donor.c) a connection to its server says what a replica
 * says; what comes over it, snapshot and stream of commands, goes over the link.
 * At the other end (redis_restore.c) the server is told by REPLICAOF to take its
 * state from a port of its proxy, which passes those bytes on. That port knows
 * its server by a password that it was given for this (masterauth).
 *
 * The exact cut. While the server follows the stream, the end that is restored
 * asks for a gate: the donor publishes a message that nobody else can know, over
 * the connection by which it hands on the log's entries, between two of them. So
 * in the stream the message stands exactly behind all that the server was handed
 * up to an LSN, and when the server has answered it, nothing of that was refused.
 * The bytes behind the message are not passed on. When the server has executed
 * those before it, it is made a master again, and that LSN is stored in it. The
 * donor's server goes on meanwhile; the log is kept from that LSN on.
 *
 * A server that is left in the middle (its proxy died, the link broke) says by
 * masterauth that it was ours to restore: the greeting ends that. It then holds
 * what it held before, or a whole state of the donor's with its LSN (our key is
 * in the last database, and comes last), or fragments without that key, which are
 * refused.
 */
#ifndef MP_REDIS_TRANSFER_H
#define MP_REDIS_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>

#include "slice.h"

struct mp_proxy;
struct mp_request;

/* What its masterauth begins with while a server is being restored; what it was follows. */
#define REDIS_RESTORE_AUTH "muproxy-restore:"
enum { REDIS_RESTORE_TOKEN = 32 }; /* digits, and a colon, before what it was */

/* The notes (struct mp_frame_note). */
enum redis_transfer_note {
	REDIS_NOTE_GO = 1, /* to the donor: the server here asks for its snapshot */
	REDIS_NOTE_GATE,   /* to the donor; a, b: the message */
	REDIS_NOTE_GATED,  /* from the donor: it was executed behind era a, LSN b */
};

enum { REDIS_GATE_BYTES = 120 };
/* PUBLISH of that message by the donor of that nonce, in wire form. Returns its length. */
size_t redis_put_gate(char out[REDIS_GATE_BYTES], uint64_t nonce, uint64_t a, uint64_t b);
/* Is it the channel of that? No client is to hear of it. */
bool redis_is_gate(const struct mp_proxy *proxy, struct mp_slice channel);

/* The server's answer to the gate is there; will not come. */
void redis_gate_answer(struct mp_proxy *proxy, const struct mp_request *r);
void redis_gate_lost(struct mp_proxy *proxy, const struct mp_request *r);

#endif
