/*
 * peering_wire.h - what travels on the connections of a peering (little-endian,
 * no padding).
 *
 * The greeting, one way and the other:
 *
 *   dialler    HELLO                        PROOF
 *   acceptor            HELLO, or REFUSED            PROOF, or REFUSED
 *
 * A proof is a MAC, keyed with the group's secret, over who proves (dialler or
 * acceptor) and both hellos, that is: both ids, the purpose, and a challenge
 * of each end that is never used twice. So no proof can be used for another
 * connection, another purpose, or by the other end.
 *
 * On a channel frames follow; a stream is its user's from there on.
 */
#ifndef MUPROXY_PEERING_WIRE_H
#define MUPROXY_PEERING_WIRE_H

#include <assert.h>
#include <stdint.h>

#include "book.h"
#include "mu_peering.h"

#define PEERING_MAGIC 0x31726565506d0d0aULL /* "\n\rmPeer1" */
/*
 * 2: the secret is a key made of the group's for this alone. 3: replicas' memory names
 * configurations. 4: members change, and tell each other where they are.
 */
#define PEERING_VERSION 4
#define PEERING_CHALLENGE_BYTES 32
#define PEERING_MAC_BYTES 32
#define PEERING_REFUSAL_BYTES 200

enum peering_greeting_type {
	PEERING_HELLO = 1,
	PEERING_PROOF = 2,
	PEERING_REFUSED = 3, /* one line of text, then the end */
};

/* Comes before each message of a greeting, in this form in every version. */
struct peering_head {
	uint64_t magic;
	uint32_t version;
	uint16_t type;
	uint16_t bytes; /* that follow */
};

enum peering_purpose {
	PEERING_CHANNEL = 0,
	PEERING_DATA = 1, /* streams of the fabric's planes... */
	PEERING_BACKGROUND = 2,
	PEERING_USER = 3, /* ...and of the peering's user */
};
#define PEERING_PURPOSES 4
/*
 * ...and one that is for no peer in particular (to 0), and is over once it is answered:
 * by the frames of what is known of the group, PEERING_CONFIGURATION last.
 */
#define PEERING_ASK 4

struct peering_hello {
	uint8_t purpose;
	uint8_t from, to;
	uint8_t has_secret;
	uint32_t facts;
	uint64_t group_id;
	uint64_t nonce;         /* of the process */
	uint64_t configuration; /* the latest that it knows to be committed (book.h) */
	uint64_t ring_bytes;
	uint64_t stamp; /* of where it is */
	uint32_t fabric;
	uint32_t unused; /* 0 */
	uint8_t challenge[PEERING_CHALLENGE_BYTES];
	char address[BOOK_ADDRESS_BYTES];
};

struct peering_proof {
	uint8_t mac[PEERING_MAC_BYTES];
};

enum peering_frame_type {
	PEERING_MESSAGE = 1, /* the fabric's */
	PEERING_PING = 2,    /* to be answered */
	PEERING_PONG = 3,
	PEERING_STATE = 4,         /* struct peering_state */
	PEERING_PLACE = 5,         /* struct peering_place */
	PEERING_CONFIGURATION = 6, /* of 8 bytes; in answers to PEERING_ASK */
};

struct peering_frame {
	uint16_t type;
	uint16_t bytes; /* that follow */
};

struct peering_state {
	uint32_t facts;
	uint32_t attached; /* 1: there is a fabric to take messages and streams */
};

/* Where a replica is, which need be neither end. */
struct peering_place {
	uint64_t stamp;
	uint8_t id;
	uint8_t unused[7]; /* 0 */
	char address[BOOK_ADDRESS_BYTES];
};

static_assert(sizeof(struct peering_head) == 16, "format of the greeting");
static_assert(sizeof(struct peering_hello) == 344, "format of the greeting");
static_assert(sizeof(struct peering_proof) == 32, "format of the greeting");
static_assert(sizeof(struct peering_frame) == 4, "format of the channel");
static_assert(sizeof(struct peering_state) == 8, "format of the channel");
static_assert(sizeof(struct peering_place) == 272, "format of the channel");
static_assert(sizeof(struct peering_place) <= MU_PEERING_MESSAGE_BYTES, "it is one frame");
static_assert(sizeof(struct peering_hello) >= PEERING_REFUSAL_BYTES, "the longest of greetings");
static_assert(MU_PEERING_MESSAGE_BYTES <= UINT16_MAX, "a message has its length in 16 bits");

#endif
