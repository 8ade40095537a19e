/*
 * request.h - one client's request on its way through this replica, from its
 * arrival to the last byte of its reply; and the pool that requests come from.
 *
 * A request is taken by a session (a client of this replica) or comes over a
 * link (a client of another replica, which relays to this one, the leader).
 * See request_states below for what becomes of it.
 */
#ifndef MP_REQUEST_H
#define MP_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "buffer.h"
#include "chunk.h"
#include "record.h"

struct mp_link;
struct mp_large;
struct mp_lock;
struct mp_patience;
struct mp_session;
struct mp_spill;
struct mp_spills;
struct mp_waiter;

enum mp_request_state {
	MP_REQUEST_FREE = 0,
	MP_REQUEST_WAITING,  /* not sent anywhere yet: may be sent, or given up, freely */
	MP_REQUEST_BATCHED,  /* leader: in a batch that is not committed and with the backend yet */
	MP_REQUEST_DECIDING, /* leader: a conditional that has its key's lock, or waits for it */
	MP_REQUEST_BLOCKED,  /* leader: there was nothing for it, it waits (blocking.h) */
	MP_REQUEST_RUNNING,  /* with the own backend, whose reply is the client's */
	MP_REQUEST_RELAYED,  /* with the leader, whose reply is the client's */
	MP_REQUEST_DOUBT,    /* the leader was lost: the log will tell (doubt.h) */
	MP_REQUEST_DONE,     /* its reply is whole, but those of earlier requests are not */
};

enum mp_request_class {
	MP_REQUEST_READ,
	MP_REQUEST_WRITE,
	MP_REQUEST_CONDITIONAL, /* Memcached: decided by the leader, logged as a plain write */
};

/* What a codec and the command table make of a request's bytes. */
struct mp_request_meta {
	enum mp_protocol protocol;
	enum mp_request_class class;
	uint32_t database;
	bool blind;       /* a blind write (command.h) */
	bool rewrite;     /* a write whose bytes are not fit for the log as they are */
	bool noreply;     /* Memcached: the client wants no answer */
	bool translate;   /* Memcached: the backend's reply is not the client's as it is */
	bool tokens;      /* the reply holds a token, or a cursor, which only the leader's can */
	bool part;        /* Memcached: only a part of what the client asked for */
	bool listing;     /* Memcached: lru_crawler metadump, mgdump (memcached_listing.h) */
	uint8_t resp;     /* Redis: the protocol's version that the reply is to have; 0: either */
	bool transaction; /* raw is an envelope and commands (transaction.h) */
	bool watch;       /* WATCH (watch.h) */
	bool gates;       /* the session reads on when it is answered */
	bool blanks;      /* a transaction of which a part is the session's (redis_multi.h) */
	bool info;        /* INFO (redis_info.h) */
	bool scan;        /* SCAN and its kin (scan.h) */
	bool config;      /* CONFIG GET, MEMORY STATS (redis_config.h) */
	bool denyoom;     /* it may need memory (memory.h) */
	bool settings;    /* CONFIG SET (memory.h) */
	bool speaks;      /* subscribers may hear of it (pubsub.h) */
	bool publish;     /* PUBLISH, SPUBLISH (pubsub.h) */
	bool local;       /* a read that may be answered with the past (local_reads.h) */
	uint8_t groups; /* its reply needs treatment: enum mp_rewrite (stream_groups.h); 0: none */
	uint8_t ttl;    /* a read of a deadline: enum mp_rewrite (ttl.h); 0: none */
	bool blocks;    /* it waits if there is nothing for it (blocking.h) */
	bool moves;     /* ... for what then goes to another list */
};

/* Who wants the reply. */
enum mp_request_purpose {
	MP_PURPOSE_CLIENT = 0,
	MP_PURPOSE_DEADLINE, /* expiry.c: a key's */
	MP_PURPOSE_SCRIPT,   /* expiry.c: those that scripts have set */
	MP_PURPOSE_SCAN,     /* expiry.c: all keys' */
	MP_PURPOSE_SETTINGS, /* memory_settings.c: maxmemory and its policy */
	MP_PURPOSE_POLICY,   /* ... they are given to the server */
	MP_PURPOSE_MEASURE,  /* memory.c: how much is used */
	MP_PURPOSE_NOTIFY,   /* ... which events are wanted */
	MP_PURPOSE_VICTIMS,  /* ... what is to be evicted */
	MP_PURPOSE_GATE,     /* redis_donor.c: the place of a cut */
	MP_PURPOSE_DIGEST,   /* digest.c: what is under some keys */
	MP_PURPOSE_NAMES,    /* ... which keys there are */
	MP_PURPOSE_ITEM,     /* memcached_digest.c: what is under a key */
};

struct mp_request {
	TAILQ_ENTRY(mp_request) place; /* in the list that its state names */
	struct mp_request *next;       /* in its session: the request after it */
	struct mp_session *session;    /* NULL: relayed to us, or the client has left */
	struct mp_link *link;          /* relayed to us: where from; NULL: a request of our own */
	struct mp_lock *lock;          /* DECIDING */
	struct mp_waiter *waiter; /* blocks: at the leader that tries it (blocking.h), or NULL */
	struct mp_patience *patience; /* blocks: with its client (blocking_home.h), or NULL */
	struct mp_large *large; /* its reply is large, and comes apart (large_reads.h), or NULL */
	/*
	 * RELAYED or DOUBT: the shadow that runs here in the meantime (doubt.h).
	 * Of a shadow: whom it stands for, NULL if that was answered without it.
	 */
	struct mp_request *twin;
	struct mp_request_meta meta;
	enum mp_request_state state;
	bool shadow;    /* RUNNING only to answer its twin */
	bool streamed;  /* the client has a part of the reply already */
	bool skipped;   /* a later write of its session was executed, and this one before it was not
			 */
	bool has_spare; /* RELAYED or DOUBT: canned is what its shadow was answered */
	bool logged;    /* BATCHED: it has a record in the batch */
	bool is_begun;  /* the beginning of its reply was seen */
	bool is_paced;  /* its reply comes as its client takes it (paced.h) */
	bool is_here;   /* a local read, with the own backend (local_reads.h) */
	bool asked;     /* DECIDING: its question is with the backend; blocks: so are its IDs */
	bool wakes;     /* blocks: the attempt under way is not its first */
	bool is_served; /* blocks: what comes of a reply is its answer */
	uint8_t give_up;      /* blocks: enum mp_give_up, once the attempt under way has failed */
	uint8_t purpose;      /* enum mp_request_purpose; but for CLIENT it is always RUNNING */
	uint64_t now_ms;      /* what the log's clock showed for this read; 0: not looked at */
	uint32_t handle;      /* the pool's name of it */
	uint32_t peer_handle; /* remote: the relaying replica's */
	struct mp_origin origin;
	struct mp_bytes raw; /* the request in wire form */
	struct mp_bytes
		question; /* DECIDING: what to ask the backend first; blocks: a read's attempt */
	struct mp_bytes canned; /* the reply, if it is not what the backend answers */
	struct mp_buffer reply; /* of what cannot be passed on yet */
	struct mp_spill *spill; /* ... what comes behind it (spill.h), or NULL */
	uint64_t ballot;        /* DOUBT: what it was relayed, or proposed, under */
	uint64_t lsn;           /* of the entry that executes it, 0: none known */
	uint64_t since_ms;      /* when it came; DOUBT: since when */
	size_t charged;         /* bytes it is accounted for */
	uint64_t untaken;       /* is_paced, RELAYED: bytes of which the leader was not told yet */
};
TAILQ_HEAD(mp_request_list, mp_request);

/* A zeroed pool is ready. Data thread only. */
struct mp_requests {
	struct mp_request **slabs;
	uint32_t slab_count;
	struct mp_request *free; /* by next */
	uint32_t count;          /* in use */
	uint64_t bytes;          /* charged by those in use */
	uint64_t sequence;       /* the last one given to a request of ours */
};

/* A zeroed request but for its handle. NULL: out of memory, or of handles. */
struct mp_request *mp_requests_get(struct mp_requests *pool);
void mp_requests_put(struct mp_requests *pool, struct mp_chunks *chunks, struct mp_request *r);
/* The request of that handle, in use or not; NULL if there never was one. */
struct mp_request *mp_requests_at(const struct mp_requests *pool, uint32_t handle);
/* Account for the request's bytes (its raw, its replies that are kept here) and its own. */
void mp_requests_charge(struct mp_requests *pool, struct mp_request *r);
void mp_requests_close(struct mp_requests *pool);
/*
 * A piece of its reply stays with it: in memory, behind MP_SPILL_FROM_BYTES in a file. False:
 * errno, the piece is not kept.
 */
bool mp_requests_keep(struct mp_requests *pool, struct mp_request *r, struct mp_spills *spills,
		      struct mp_slice piece);
/* Nothing that was kept of its reply is. */
void mp_requests_unkeep(struct mp_requests *pool, struct mp_request *r);

/* May it have been proposed, if it went to a leader? Reads may just be sent again. */
static inline bool mp_request_writes(const struct mp_request *r)
{
	return r->meta.class != MP_REQUEST_READ;
}

#endif
