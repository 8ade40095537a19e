/*
 * maxmemory.h - the wire forms of what memory.h is about: settings and evictions,
 * as clients give them and as the log holds them.
 */
#ifndef MP_MAXMEMORY_H
#define MP_MAXMEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resp.h"
#include "slice.h"

/* In the hidden database, as scripts name it: a hash of settings. */
#define MP_SETTINGS_KEY "'muproxy:settings'"

#define MP_OOM "OOM command not allowed when used memory > 'maxmemory'."

enum mp_memory_policy {
	MP_NOEVICTION,
	MP_ALLKEYS_LRU,
	MP_ALLKEYS_LFU,
	MP_ALLKEYS_RANDOM,
	MP_VOLATILE_LRU,
	MP_VOLATILE_LFU,
	MP_VOLATILE_RANDOM,
	MP_VOLATILE_TTL,
	MP_MEMORY_POLICIES,
};

/* "allkeys-lru" */
const char *mp_memory_policy_name(enum mp_memory_policy policy);
/* MP_MEMORY_POLICIES: it is none. */
enum mp_memory_policy mp_memory_policy_of(struct mp_slice name);
/* As Redis reads a size: "100mb" is 2^20 each, "100m" 10^6. False: it is none. */
bool mp_parse_bytes(struct mp_slice text, uint64_t *bytes);

/* Is that parameter of CONFIG SET the group's? */
bool mp_memory_is_setting(struct mp_slice name);
/* The form for the log of a CONFIG SET of nothing else. As mp_command_rewrite(). */
size_t mp_memory_encode_settings(const struct resp_request *request, int hidden_database, char *out,
				 size_t cap, char *error, size_t error_bytes);

/*
 * The command that evicts count keys, at most MP_EVICT_KEYS_MAX, of a database.
 * notify: of which keyspace events are published: 'K' or 0, 'E' or 0. Returns its
 * length; > cap: it did not fit.
 */
enum { MP_EVICT_KEYS_MAX = 64 };
size_t mp_encode_eviction(char *out, size_t cap, uint32_t database, int count,
			  const struct mp_slice *keys, const char notify[2]);
/* Is it one? Then `count` keys, from argv[*first] on, are gone. */
bool mp_memory_is_eviction(const struct resp_request *request, int *first, int *count);

#endif
