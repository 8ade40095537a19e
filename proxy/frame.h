/*
 * frame.h - what replicas say to each other over a link: frames, each a header
 * and a body. A follower connects to the leader, greets, is greeted, and sends
 * its clients' requests once the leader has told under which ballot it leads.
 * Formats are the memory's (little-endian, no padding).
 */
#ifndef MP_FRAME_H
#define MP_FRAME_H

#include <assert.h>
#include <stdint.h>

#define MP_FRAME_MAGIC 0x3158795870754d0aULL /* "\nMupXyX1" */
#define MP_FRAME_VERSION 2

enum mp_frame_type {
	MP_FRAME_HELLO = 1,   /* both ways, first: mp_frame_hello */
	MP_FRAME_REFUSED = 2, /* instead of a greeting: one line of text, then the end */
	MP_FRAME_LEADING = 3, /* leader: mp_frame_leading. Requests are taken */
	MP_FRAME_DEPOSED = 4, /* leader: no more, and no (further) replies either */
	MP_FRAME_REQUEST = 5, /* follower: mp_frame_request, then the request in wire form */
	MP_FRAME_REPLY = 6,   /* leader: mp_frame_reply, then a piece of the reply */
};

struct mp_frame {
	uint32_t bytes; /* of the whole frame, this header included */
	uint8_t type;
	uint8_t pad[3];
};

struct mp_frame_hello {
	uint64_t magic;
	uint32_t version;
	uint32_t replica;
	uint64_t group_id;
	uint64_t nonce; /* of the process */
};

struct mp_frame_leading {
	uint64_t ballot;
	/*
	 * Whatever this follower sent under this ballot over an earlier link is
	 * in the log up to here, or will never be. 0: nothing was proposed yet.
	 */
	uint64_t barrier_lsn;
};

struct mp_frame_request {
	uint64_t ballot; /* to be executed under this ballot only; others ignore it */
	uint64_t sequence;
	uint32_t session;
	uint32_t handle;
	uint32_t database;
	uint8_t protocol;
	uint8_t is_transaction;
	uint8_t resp; /* the version of Redis's protocol */
	uint8_t pad;
};

struct mp_frame_reply {
	uint64_t sequence;
	uint32_t handle;
	uint8_t last;
	uint8_t pad[3];
	uint64_t lsn; /* of the entry that executed it, if it is the last piece; 0: none did */
};

static_assert(sizeof(struct mp_frame) == 8, "format of the link");
static_assert(sizeof(struct mp_frame_hello) == 32, "format of the link");
static_assert(sizeof(struct mp_frame_leading) == 16, "format of the link");
static_assert(sizeof(struct mp_frame_request) == 32, "format of the link");
static_assert(sizeof(struct mp_frame_reply) == 24, "format of the link");

#endif
