/*
 * tcp_wire.h - what travels on the streams of the tcp fabric (little-endian, no
 * padding). The end that was dialled begins with a welcome, once nothing of an
 * earlier stream can take effect any more. Then the one that dialled sends
 * requests, a write's bytes behind each, and gets a reply to each in the same
 * order, a read's bytes behind it.
 */
#ifndef MU_TCP_WIRE_H
#define MU_TCP_WIRE_H

#include <assert.h>
#include <stdint.h>

#include "mu_fabric.h"

#define TCP_MAGIC 0x31776f6c66756d0aULL /* "\nmuflow1" */

struct tcp_welcome {
	uint64_t magic;
	uint64_t background_bytes, replication_bytes; /* of the regions */
};

enum tcp_op {
	TCP_WRITE = 1,
	TCP_READ = 2,
	TCP_NUDGE = 3, /* nothing, which is answered: all else in the request is 0 */
};

struct tcp_request {
	uint8_t op;
	uint8_t region;
	uint16_t zero;
	uint32_t sequence; /* from 1 on */
	uint64_t len;
	uint64_t offset;
	uint64_t ballot; /* of a write to the replication region */
};

struct tcp_reply {
	uint8_t op;
	uint8_t status; /* enum mu_fabric_status: OK or DENIED; after the latter nothing follows */
	uint16_t zero;
	uint32_t sequence;
};

static_assert(sizeof(struct tcp_welcome) == 24, "format of the stream");
static_assert(sizeof(struct tcp_request) == 32, "format of the stream");
static_assert(sizeof(struct tcp_reply) == 8, "format of the stream");

#endif
