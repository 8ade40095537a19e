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
#define MP_FRAME_VERSION 8

enum mp_link_purpose {
	MP_LINK_RELAY = 0,    /* requests to the leader, as above (relay.h) */
	MP_LINK_TRANSFER = 1, /* state from anybody (transfer.h) */
};

enum mp_frame_type {
	MP_FRAME_HELLO = 1,    /* both ways, first: mp_frame_hello */
	MP_FRAME_REFUSED = 2,  /* instead of a greeting: one line of text, then the end */
	MP_FRAME_LEADING = 3,  /* leader: mp_frame_leading. Requests are taken */
	MP_FRAME_DEPOSED = 4,  /* leader: no more, and no (further) replies either */
	MP_FRAME_REQUEST = 5,  /* follower: mp_frame_request, then the request in wire form */
	MP_FRAME_REPLY = 6,    /* leader: mp_frame_reply, then a piece of the reply */
	MP_FRAME_GIVE_UP = 12, /* follower: mp_frame_give_up */
	MP_FRAME_TAKEN = 13,   /* follower: mp_frame_taken */
	MP_FRAME_DIGEST = 14,  /* follower: its server's answer to a question (digest.h) */
	MP_FRAME_NAMES = 15,   /* follower: mp_frame_names, then keys, as SCAN has answered */
	MP_FRAME_WRONG = 16,   /* leader: the server there is to be restored; no body */
	MP_FRAME_MEMORY = 17,  /* leader: mp_frame_memory */
	/* As the digests above, for Memcached (memcached_digest.h): */
	MP_FRAME_ITEMS = 18,       /* follower: what its server holds under some keys */
	MP_FRAME_ITEM_NAMES = 19,  /* follower: a list of keys (memcached_keys.h) */
	MP_FRAME_WRONG_ITEMS = 20, /* leader: likewise; the server there is to drop them */
	MP_FRAME_HELD = 21,        /* follower: mp_frame_held */
	/* on links of purpose TRANSFER (transfer.h): */
	MP_FRAME_WANT = 7,    /* the end that is to be restored, first: mp_frame_want */
	MP_FRAME_AGREED = 8,  /* donor: no body */
	MP_FRAME_NOTE = 9,    /* both ways: mp_frame_note */
	MP_FRAME_BYTES = 10,  /* both ways: a piece of the state, or what is said about it */
	MP_FRAME_FAILED = 11, /* donor: one line of text, then the end */
};

struct mp_frame {
	uint32_t bytes; /* of the whole frame, this header included */
	uint8_t type;
	uint8_t pad[3];
};

struct mp_frame_hello {
	uint64_t magic;
	uint32_t version;
	uint16_t replica;
	uint16_t purpose; /* enum mp_link_purpose; of the end that connects */
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
	uint8_t is_paced; /* tell what its client takes of it (paced.h) */
	uint8_t is_cut;   /* nothing more comes of it, although it is not whole */
	uint8_t pad[1];
	uint64_t lsn; /* of the entry that executed it, if it is the last piece; 0: none did */
};

/* A request is to wait for its key no longer (blocking_home.h); it is answered nevertheless. */
struct mp_frame_give_up {
	uint64_t ballot; /* that it was sent under */
	uint64_t sequence;
	uint8_t why; /* enum mp_give_up */
	uint8_t pad[7];
};

/* So much more of a reply was taken by its client (paced.h). */
struct mp_frame_taken {
	uint64_t ballot, sequence; /* of the request */
	uint64_t bytes;            /* 0: the client has left */
};

/* Whether there is any left (memory.h). */
struct mp_frame_memory {
	uint64_t ballot;
	uint8_t word; /* enum mp_memory_word */
	uint8_t pad[7];
};

/* So many of its clients are held by CLIENT PAUSE (pause.h). */
struct mp_frame_held {
	uint32_t clients;
	uint8_t pad[4];
};

struct mp_frame_names {
	uint32_t database;
	uint8_t pad[4];
};

struct mp_frame_want {
	uint8_t protocol; /* enum mp_protocol */
	uint8_t attempt;
	uint8_t pad[6];
};

struct mp_frame_note {
	uint16_t what; /* the protocol's own */
	uint8_t pad[6];
	uint64_t a, b;
};

static_assert(sizeof(struct mp_frame) == 8, "format of the link");
static_assert(sizeof(struct mp_frame_hello) == 32, "format of the link");
static_assert(sizeof(struct mp_frame_leading) == 16, "format of the link");
static_assert(sizeof(struct mp_frame_request) == 32, "format of the link");
static_assert(sizeof(struct mp_frame_reply) == 24, "format of the link");
static_assert(sizeof(struct mp_frame_names) == 8, "format of the link");
static_assert(sizeof(struct mp_frame_want) == 8, "format of the link");
static_assert(sizeof(struct mp_frame_note) == 24, "format of the link");
static_assert(sizeof(struct mp_frame_give_up) == 24, "format of the link");
static_assert(sizeof(struct mp_frame_taken) == 24, "format of the link");
static_assert(sizeof(struct mp_frame_memory) == 16, "format of the link");
static_assert(sizeof(struct mp_frame_held) == 8, "format of the link");

#endif
