/*
 * record.h - what a log entry's payload is made of: records, one a write,
 * each 8-byte aligned. A record is what every replica sends to its backend,
 * in wire form, and who asked for it.
 */
#ifndef MP_RECORD_H
#define MP_RECORD_H

#include <assert.h>
#include <stdint.h>

enum mp_protocol {
	MP_REDIS = 1,
	MP_MEMCACHED = 2,
};

/* Format of the payload; a replica refuses one that it does not know. */
#define MP_RECORD_VERSION 1

enum mp_record_flags {
	MP_RECORD_BLIND = 1,       /* running it again is harmless (command.h) */
	MP_RECORD_DEADLINES = 2,   /* it may change deadlines (deadline_effects.h) */
	MP_RECORD_OWN = 4,         /* nobody asked for it: origin is void, and so are replies */
	MP_RECORD_SETTINGS = 32,   /* it may change the group's settings (memory.h, pause.h) */
	MP_RECORD_SPEAKS = 16,     /* subscribers hear of it (pubsub.h) */
	MP_RECORD_WAKES = 64,      /* an attempt for who waits: not his first (blocking.h) */
	MP_RECORD_DIGEST = 128,    /* no write: to be asked of every server (digest.h) */
	MP_RECORD_TRANSACTION = 8, /* all replies are the client's: `reply` is the recipe for his */
};

/*
 * The origin of a request: unique for all time. The nonce changes with every
 * start of the process that took the request (DESIGN 3.7, rule 12).
 */
#define MP_ORIGIN_HANDLE_BITS 24
struct mp_origin {
	uint64_t nonce;   /* of the replica's process */
	uint32_t session; /* within the process */
	uint32_t replica : 8;
	uint32_t handle : MP_ORIGIN_HANDLE_BITS; /* where that process finds the request again */
	uint64_t sequence; /* within the process, from 1; within a session in request order */
};

struct mp_record {
	uint32_t bytes; /* of wire form that follows, unpadded; 0: nothing to do, only to answer */
	uint8_t version;
	uint8_t protocol; /* enum mp_protocol */
	uint8_t flags;
	uint8_t database;
	uint32_t commands; /* how many commands (and so replies) the bytes are; the last one's is
			      the client's */
	/*
	 * Bytes of reply behind the wire form, 0: the backend's own reply is the
	 * client's. A decided conditional is logged as the plain write it came to
	 * (DETERMINISM, Memcached 1), but its client expects the answer to what it
	 * sent, from whichever replica comes to give it.
	 */
	uint32_t reply_bytes;
	struct mp_origin origin;
};
static_assert(sizeof(struct mp_origin) == 24, "layout of the log");
static_assert(sizeof(struct mp_record) == 40, "layout of the log");

/* Bytes of a whole record of the payload. */
static inline uint64_t mp_record_span(uint32_t bytes, uint32_t reply_bytes)
{
	return sizeof(struct mp_record) + (((uint64_t)bytes + reply_bytes + 7) & ~7ULL);
}
#endif
