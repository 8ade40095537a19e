/*
 * verbs_message.h - what two verbs fabrics tell each other over the peering's
 * channel: how a connection comes about, and that one is lost.
 *
 *   posting end                         serving end
 *     makes a queue pair
 *     REQUEST, endpoint          ->       destroys what served it before,
 *                                         makes a queue pair, connects it
 *     connects its own           <-     ACCEPT, endpoint, memory
 *
 * Both ends are made anew each time, with packet sequence numbers chosen at
 * random: an end that outlives the other takes new packets for repeated ones and
 * confirms what it did not write. Nothing is posted before ACCEPT.
 *
 * Nobody asks before he has heard which process is at the other end (HELLO,
 * WELCOME), for that may have been started anew since the last time.
 *
 * GONE says that the sender's end of a connection is no more: the other end
 * would learn of it only when its next operation fails, after milliseconds, and
 * never if it posts none.
 */
#ifndef MU_VERBS_MESSAGE_H
#define MU_VERBS_MESSAGE_H

#include <assert.h>
#include <stdint.h>

#include "mu_peering.h"

#define VERBS_MESSAGE_MAGIC 0x3162726576754dULL

enum verbs_message_kind {
	VERBS_HELLO = 1, /* the channel is up; only `process` counts; the answer is WELCOME */
	VERBS_REQUEST,
	VERBS_ACCEPT,
	VERBS_REFUSE, /* the serving end cannot: `reason` */
	VERBS_GONE_SERVING,
	VERBS_WELCOME, /* only `process` counts */
};

struct verbs_endpoint {
	uint32_t queue_pair;
	uint32_t first_psn;
	uint16_t lid;
	uint8_t mtu;         /* enum ibv_mtu */
	uint8_t is_ethernet; /* by GID; else by LID */
	uint8_t reads_out, reads_in;
	uint8_t reserved[2];
	uint8_t gid[16];
};

/* A region of the serving end. */
struct verbs_target {
	uint64_t address;
	uint64_t bytes;
	uint32_t key;
	uint32_t reserved;
};

struct verbs_message {
	uint64_t magic;
	uint64_t process; /* random, of the fabric that sends: another process is another peer */
	uint64_t attempt; /* random, names the connection */
	uint8_t kind;
	uint8_t plane;
	uint16_t reason; /* errno */
	uint32_t reserved;
	struct verbs_endpoint endpoint;
	struct verbs_target target[MU_PLANES]; /* by the plane whose connections reach it */
};
static_assert(sizeof(struct verbs_message) == 112, "no hidden padding, the same everywhere");
static_assert(sizeof(struct verbs_message) <= MU_PEERING_MESSAGE_BYTES, "it can be sent");

#endif
