/*
 * mc_request.h - one request of a Memcached client, in whichever of the three
 * protocols it came: what the parsers (mc_text.h) make, and what everybody else
 * works with.
 */
#ifndef MP_MC_REQUEST_H
#define MP_MC_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "slice.h"

#define MC_MAX_KEY_BYTES 250

/* How the client speaks, and so how it is answered. */
enum mc_dialect {
	MC_TEXT,
	MC_META,
	MC_BINARY,
};

enum mc_verb {
	MC_GET,
	MC_GETS,
	MC_GAT,
	MC_GATS,
	MC_GAT_PART, /* one key of a gat of several, see mc_parser_internal() */
	MC_GATS_PART,
	MC_GETS_PART, /* some keys of a gets of many */
	MC_MG,        /* the meta command; what it changes is among its flags */
	MC_ME,
	MC_SET,
	MC_ADD,
	MC_REPLACE,
	MC_APPEND,
	MC_PREPEND,
	MC_CAS, /* any store that compares, but for append and prepend */
	MC_DELETE,
	MC_INCR,
	MC_DECR,
	MC_TOUCH,
	MC_FLUSH_ALL,
	MC_ADMIN,   /* a setting of the server: request->args is the whole line */
	MC_LISTING, /* lru_crawler metadump, mgdump: likewise */
	MC_VERSION,
	MC_STATS,
	MC_OWN_STATS, /* stats muproxy */
	MC_NOOP,      /* mn, and the binary one */
	MC_QUIT,
	MC_SASL,    /* binary only */
	MC_REFUSED, /* known to memcached, not served here: request->refusal says why */
	MC_UNKNOWN, /* none: what came was wrong */
};

/*
 * Slices point into the caller's buffer and are valid until it moves; keys
 * itself (and a key that came in base64) belongs to the parser and is valid
 * until its next call. Bytes are as sent: before a server reads a request,
 * write it anew (mc_encode.h), for the parsers may differ over what is odd
 * about it.
 */
struct mc_request {
	enum mc_verb verb;
	enum mc_dialect dialect;
	int key_count; /* of get, gets, gat, gats (which may have none); else 1 if it names one */
	const struct mp_slice *keys;
	/* The key goes to servers in base64: it came so, or the text protocol has no way to say it.
	 */
	bool key_is_base64;
	uint32_t flags;
	int64_t exptime;  /* as sent: 0 never, < 0 at once, <= 30 days relative, else absolute */
	uint64_t number;  /* incr, decr: delta */
	uint64_t initial; /* ... and what a missing item becomes, if vivify */
	bool vivify;
	int64_t vivify_exptime;  /* of it; of mg's N */
	int64_t recache_exptime; /* mg's R */
	bool compare;            /* only if the item's token is cas */
	uint64_t cas;
	uint64_t chosen; /* the token that it is to have then, with flag E */
	bool tells_size; /* ms: what s asks for */
	struct mp_slice value;
	bool noreply;         /* text: no answer whatever happens */
	bool quiet;           /* the others: no answer if nothing special happens */
	struct mp_slice args; /* stats: what follows the verb; meta: the flags as sent */
	uint64_t has;         /* meta: which flags, see mc_has() */
	uint8_t opcode;       /* binary */
	uint32_t opaque;      /* binary, in the sender's byte order */
	const char *refusal;  /* e.g. "it concerns one server alone" */
	struct mp_slice raw;  /* the bytes as sent */
};

/* A meta command's flag, a letter, in mc_request.has. */
static inline uint64_t mc_flag(char flag)
{
	return UINT64_C(1) << (flag - 'A');
}

static inline bool mc_has(const struct mc_request *r, char flag)
{
	return r->has & mc_flag(flag);
}

/* The next word of [*s, end), *s moves behind it. Empty: there is none. */
static inline struct mp_slice mc_next_word(const char **s, const char *end)
{
	const char *start = *s;

	while (start < end && *start == ' ')
		start++;
	*s = start;
	while (*s < end && **s != ' ')
		(*s)++;
	return (struct mp_slice){start, (size_t)(*s - start)};
}

/* Can the text protocol not say this key? */
static inline bool mc_key_is_odd(struct mp_slice key)
{
	for (size_t i = 0; i < key.len; i++)
		if (strchr(" \r\n", key.data[i])) /* and NUL, which is there, too */
			return true;
	return false;
}

/* FNV-1a. */
static inline uint64_t mc_key_hash(struct mp_slice key)
{
	uint64_t hash = 14695981039346656037ULL;

	for (size_t i = 0; i < key.len; i++)
		hash = (hash ^ (unsigned char)key.data[i]) * 1099511628211ULL;
	return hash;
}

/* The number that a word begins with, of those that are known to have 64 bits; 0: none. */
static inline uint64_t mc_digits(struct mp_slice word)
{
	uint64_t n = 0;

	for (size_t i = 0; i < word.len && word.data[i] >= '0' && word.data[i] <= '9'; i++)
		n = n * 10 + (uint64_t)(word.data[i] - '0');
	return n;
}
#endif
