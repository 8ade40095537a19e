/*
 * deadline_effects.h - what a logged command, executed, does to deadlines. It
 * is read off the wire form that the log holds (command.h: every deadline in
 * it is absolute, and padded), alike by who proposes it and by who applies it.
 */
#ifndef MP_DEADLINE_EFFECTS_H
#define MP_DEADLINE_EFFECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "resp.h"
#include "slice.h"

/*
 * How far in the future of its deadline a backend holds it: so far that no
 * server expires a key by itself, however long it lags behind or is away
 * (DETERMINISM, Redis 8). A multiple of a second, so that deadlines in seconds
 * are padded like those in milliseconds.
 */
#define MP_DEADLINE_PAD_MS INT64_C(4398046512000) /* the first such beyond 2^42: 139 years */
/* In place of a deadline that had passed when it was given: past for every server. */
#define MP_DEADLINE_PAST_MS 1

static inline int64_t mp_deadline_pad(int64_t when_ms)
{
	return when_ms > INT64_MAX - MP_DEADLINE_PAD_MS ? INT64_MAX : when_ms + MP_DEADLINE_PAD_MS;
}

enum mp_effect_kind {
	MP_EFFECT_SET,    /* if key exists afterwards, and has a deadline, it is when_ms */
	MP_EFFECT_MAYBE,  /* its deadline may be when_ms, or what it was */
	MP_EFFECT_MOVE,   /* key's deadline may be that of `to` now */
	MP_EFFECT_EXPIRE, /* key is gone if it was due at when_ms */
	MP_EFFECT_FLUSH,  /* all keys of database are gone */
	MP_EFFECT_SWAP,   /* database and to_database change places */
	MP_EFFECT_SCRIPT, /* it wrote down, under the stamp `key`, what it set (redis_scripts.h) */
	MP_EFFECT_GONE,   /* key was evicted (memory.h) */
};

struct mp_effect {
	enum mp_effect_kind kind;
	uint32_t database, to_database;
	struct mp_slice key, to;
	int64_t when_ms; /* without the padding */
};

typedef void mp_effect_visitor(void *ctx, const struct mp_effect *effect);

/*
 * Calls visit() for every effect of the commands in wire, in their order. The
 * slices are good during the call. False: wire is no such sequence of commands.
 */
bool mp_effects_each(struct resp_parser *parser, struct mp_slice wire, int commands,
		     uint32_t database, mp_effect_visitor *visit, void *ctx);

/*
 * The command that expires what is due of count keys, at most
 * MP_EXPIRE_KEYS_MAX. notify: the keyspace events that are to be published of it
 * ('K' or 0, 'E' or 0). Returns its length; > cap: it did not fit.
 */
enum { MP_EXPIRE_KEYS_MAX = 64 };
size_t mp_encode_expire(char *out, size_t cap, uint32_t database, int count,
			const struct mp_slice *keys, int64_t now_ms, const char notify[2]);

#endif
