/*
 * redis.h - the Redis adapter's inside, shared by the files it is made of:
 *     backend_redis.c   the ops: what is sent
 *     redis_reply.c     what is answered
 *     redis_retry.c     transactions that may be refused when queued, and what
 *                       has to wait for them
 *     redis_greeting.c  a new connection
 *     redis_wire.c, redis_shapes.c
 *
 * How an entry is applied
 * -----------------------
 * A unit with any write that is not blind is sent as
 *     MULTI  [SELECT db]  command...  SELECT hidden  SET applied  EXEC
 * all at once, without waiting for anything. Since order within a transaction
 * is the same for us, the SET of a unit that finds the connection in the hidden
 * database goes first instead of last:
 *     MULTI  SET applied  SELECT db  command...  EXEC
 * so in a run of such units the database is switched once a unit, not twice.
 * A unit of blind writes is sent bare, and the LSN stored some time later
 * (backend_base.c). Reads go between, or stand in the unit, as they come.
 *
 * What surrounds the commands costs as much as two or three of them, so units that
 * follow each other before a flush() share it: a transaction is left open at the end
 * of its unit, the next one joins it, blind or not, and the LSN that it stores
 * becomes that one's. It is closed by flush(), by a read outside of any unit, or
 * because it has grown large enough.
 */
#ifndef MP_REDIS_H
#define MP_REDIS_H

#include "backend_base.h"
#include "redis_greeting.h"
#include "redis_shapes.h"
#include "resp.h"

enum redis_slot_kind {
	REDIS_SLOT_REPLY, /* one reply; the owner's, or nobody's */
	REDIS_SLOT_UNIT,  /* MULTI ... EXEC: of slot->members commands */
};

/* A command inside of a transaction. */
struct redis_member {
	void *owner;
	uint8_t mode;    /* enum mp_take_mode */
	bool is_refused; /* when queued: its error is in redis->refusals */
};

/* Where the replies to the unit at the head stand. */
enum redis_phase {
	REDIS_PHASE_MULTI,   /* +OK */
	REDIS_PHASE_QUEUED,  /* +QUEUED for each member */
	REDIS_PHASE_EXEC,    /* the array's header, or -EXECABORT */
	REDIS_PHASE_ELEMENTS /* a reply for each member */
};

struct redis {
	struct mp_base base; /* first */
	struct redis_greeting greeting;
	struct redis_shapes shapes;
	struct resp_framer framer;
	struct mp_fifo members; /* of struct redis_member, of all units under way */
	char *password;
	uint32_t databases; /* the server's; 0: not known yet */
	int64_t database;   /* that the connection is in; -1: unknown */
	uint8_t resp;       /* the protocol's version that the connection speaks */
	uint8_t wanted;     /* ... and that is wanted for what is given; 0: either */

	/* the unit being given */
	bool in_unit, is_blind;
	bool is_open;         /* MULTI was sent; if not in_unit, the next unit may join */
	bool is_stored;       /* SET applied was sent */
	bool is_unproven;     /* it has commands that may be refused when queued */
	uint32_t given;       /* members */
	size_t unit_offset;   /* where it begins in wire.out */
	size_t stored_offset; /* where SET applied is there */

	/* the head's replies */
	enum redis_phase phase;
	uint32_t answered; /* members, in this phase */
	uint32_t refused;
	struct mp_buffer refusals; /* their errors, in order */
	bool is_retried;           /* it was sent again without those */

	/* redis_retry.c */
	bool is_waiting;        /* an unproven unit is under way: nothing may be sent */
	struct mp_buffer retry; /* that unit's bytes */
	struct mp_buffer held;  /* calls of ops that wait for it */
};

static inline uint32_t redis_hidden_database(const struct redis *redis)
{
	return redis->databases - 1;
}

/* Nothing is sent behind the unit that is waited for, so it is the newest slot. */
static inline bool redis_head_is_waited_for(const struct redis *redis)
{
	return redis->is_waiting && redis->base.slots.count == 1;
}

/* backend_redis.c: the ops, whether or not anything has to wait. */
void redis_begin(struct redis *redis, uint64_t lsn, bool blind);
void redis_write(struct redis *redis, uint32_t database, struct mp_slice bytes, int commands,
		 void *owner);
void redis_transaction(struct redis *redis, uint32_t database, struct mp_slice bytes, int commands,
		       void *owner);
void redis_read(struct redis *redis, uint32_t database, struct mp_slice bytes, void *owner);
void redis_end(struct redis *redis);
/* Close the transaction that the next unit could have joined, if there is one. */
void redis_settle(struct redis *redis);

/* redis_reply.c: the hooks. */
void redis_take_bytes(struct mp_base *base);
enum mp_take redis_frame(struct mp_base *base, const char *data, size_t len, size_t *used);
bool redis_is_failure(struct mp_base *base, struct mp_slice reply, enum mp_take_mode mode);
struct mp_slice redis_clean(struct mp_slice piece);
void redis_lose(struct mp_base *base);

/* redis_retry.c */
enum redis_held_kind {
	REDIS_HELD_BEGIN,
	REDIS_HELD_WRITE,
	REDIS_HELD_TRANSACTION,
	REDIS_HELD_READ,
	REDIS_HELD_END,
	REDIS_HELD_SKIP
};
struct redis_held {
	uint8_t kind;
	bool blind;
	uint8_t resp;
	int commands;
	uint32_t database;
	uint64_t lsn;
	void *owner;
	size_t bytes; /* that follow */
};
void redis_put_away(struct redis *redis, const struct redis_held *call, struct mp_slice bytes);
/*
 * True: the call has to wait and was put away, with a copy of its bytes. Inline: each
 * call passes here, and hardly any waits.
 */
static inline bool redis_hold(struct redis *redis, struct redis_held call, struct mp_slice bytes)
{
	if (!redis->is_waiting && mp_buffer_len(&redis->held) == 0)
		return false;
	redis_put_away(redis, &call, bytes);
	return true;
}
/* The unit just given, which is the newest in wire.out, is unproven. */
void redis_wait_for_unit(struct redis *redis);
/* EXEC of that unit, which is the head, has succeeded: go on with what was held. */
void redis_unit_is_proven(struct redis *redis);
/* It was refused: send it again without the commands to blame. False: cannot be. */
bool redis_retry_unit(struct redis *redis);
/* Tell the owners of what is held that it is lost, and forget all. */
void redis_lose_held(struct redis *redis);

#endif
