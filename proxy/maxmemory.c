/* maxmemory.c - see maxmemory.h. */
#include "maxmemory.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "command_special.h"
#include "decimal.h"

static const char store_script[] =
	"redis.call('SELECT', ARGV[1]) "
	"for i = 2, #ARGV, 2 do "
	"redis.call('HSET', " MP_SETTINGS_KEY ", ARGV[i], ARGV[i + 1]) end "
	"return redis.status_reply('OK')";

static const char *const policies[MP_MEMORY_POLICIES] = {
	[MP_NOEVICTION] = "noeviction",           [MP_ALLKEYS_LRU] = "allkeys-lru",
	[MP_ALLKEYS_LFU] = "allkeys-lfu",         [MP_ALLKEYS_RANDOM] = "allkeys-random",
	[MP_VOLATILE_LRU] = "volatile-lru",       [MP_VOLATILE_LFU] = "volatile-lfu",
	[MP_VOLATILE_RANDOM] = "volatile-random", [MP_VOLATILE_TTL] = "volatile-ttl",
};

const char *mp_memory_policy_name(enum mp_memory_policy policy)
{
	return policies[policy];
}

enum mp_memory_policy mp_memory_policy_of(struct mp_slice name)
{
	enum mp_memory_policy policy = 0;

	while (policy < MP_MEMORY_POLICIES && !mp_arg_is(name, policies[policy]))
		policy++;
	return policy;
}

bool mp_memory_is_setting(struct mp_slice name)
{
	return mp_arg_is(name, "maxmemory") || mp_arg_is(name, "maxmemory-policy");
}

/* ---------------------------------------------------------------- CONFIG SET */

bool mp_parse_bytes(struct mp_slice text, uint64_t *bytes)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} units[] = {{"", 1},
		     {"b", 1},
		     {"k", 1000},
		     {"kb", 1024},
		     {"m", 1000 * 1000},
		     {"mb", 1024 * 1024},
		     {"g", 1000ULL * 1000 * 1000},
		     {"gb", 1024ULL * 1024 * 1024}};
	struct mp_slice unit = text;
	uint64_t value = 0;

	while (unit.len > 0 && *unit.data >= '0' && *unit.data <= '9') {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*unit.data - '0'), &value))
			return false;
		unit.data++;
		unit.len--;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && unit.len < text.len; i++)
		if (mp_arg_is(unit, units[i].name))
			return !__builtin_mul_overflow(value, units[i].bytes, bytes);
	return false;
}

#define FAILED "ERR CONFIG SET failed (possibly related to argument '%s') - "

/* The value as it is stored, in text. False: it is none; error says so as Redis does. */
static bool take_value(struct mp_slice name, struct mp_slice value, char *text, char *error,
		       size_t error_bytes)
{
	enum mp_memory_policy policy;
	uint64_t bytes;

	if (mp_arg_is(name, "maxmemory")) {
		if (mp_parse_bytes(value, &bytes)) {
			text[mp_format_u64(text, bytes)] = '\0';
			return true;
		}
		snprintf(error, error_bytes, FAILED "argument must be a memory value", "maxmemory");
		return false;
	}
	policy = mp_memory_policy_of(value);
	if (policy < MP_MEMORY_POLICIES) {
		strcpy(text, policies[policy]);
		return true;
	}
	snprintf(error, error_bytes,
		 FAILED "argument(s) must be one of the following: volatile-lru, volatile-lfu, "
			"volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, "
			"noeviction",
		 "maxmemory-policy");
	return false;
}

/* Does the setting at place i come a second time there? */
static bool is_repeated(const struct resp_request *r, int i)
{
	if (!mp_memory_is_setting(r->argv[i]))
		return false;
	for (int earlier = 2; earlier < i; earlier += 2)
		if (r->argv[earlier].len == r->argv[i].len &&
		    strncasecmp(r->argv[earlier].data, r->argv[i].data, r->argv[i].len) == 0)
			return true;
	return false;
}

size_t mp_memory_encode_settings(const struct resp_request *r, int hidden_database, char *out,
				 size_t cap, char *error, size_t error_bytes)
{
	enum { HEAD = 4, SETTINGS_MAX = 2 };
	char number[MP_DECIMAL_BYTES], texts[SETTINGS_MAX][MP_DECIMAL_BYTES];
	struct mp_slice argv[HEAD + 2 * SETTINGS_MAX] = {
		{"EVAL", 4}, {store_script, sizeof(store_script) - 1}, {"0", 1}, {number, 0}};
	int argc = HEAD;

	argv[3].len = mp_format_i64(number, hidden_database);
	if (r->argc % 2 != 0) {
		snprintf(error, error_bytes,
			 "ERR wrong number of arguments for 'config|set' command");
		return 0;
	}
	for (int i = 2; i < r->argc; i += 2) {
		char *text = texts[(argc - HEAD) / 2];
		bool is_bytes = mp_arg_is(r->argv[i], "maxmemory");

		if (is_repeated(r, i)) {
			snprintf(error, error_bytes,
				 "ERR CONFIG SET failed (possibly related to argument '%s') - "
				 "duplicate parameter",
				 is_bytes ? "maxmemory" : "maxmemory-policy");
			return 0;
		}
		if (!mp_memory_is_setting(r->argv[i]) || argc == HEAD + 2 * SETTINGS_MAX) {
			snprintf(error, error_bytes,
				 "ERR muproxy: maxmemory and maxmemory-policy are the group's, and "
				 "are to be set without others");
			return 0;
		}
		if (!take_value(r->argv[i], r->argv[i + 1], text, error, error_bytes))
			return 0;
		argv[argc++] = mp_slice_of(is_bytes ? "maxmemory" : "maxmemory-policy");
		argv[argc++] = mp_slice_of(text);
	}
	return resp_encode(out, cap, argc, argv);
}

/* ------------------------------------------------------------------ eviction */

/*
 * Deleted, and said to be evicted to whoever wants to know. Redis says nothing
 * else; the servers also say "del" here. ARGV: database, 'K' or '', 'E' or ''.
 */
static const char evict_script[] =
	"for i = 1, #KEYS do "
	"if redis.call('DEL', KEYS[i]) == 1 then "
	"if ARGV[2] == 'K' then "
	"redis.call('PUBLISH', '__keyspace@' .. ARGV[1] .. '__:' .. KEYS[i], 'evicted') end "
	"if ARGV[3] == 'E' then "
	"redis.call('PUBLISH', '__keyevent@' .. ARGV[1] .. '__:evicted', KEYS[i]) end "
	"end end";

size_t mp_encode_eviction(char *out, size_t cap, uint32_t database, int count,
			  const struct mp_slice *keys, const char notify[2])
{
	struct mp_slice argv[3 + MP_EVICT_KEYS_MAX + 3] = {
		{"EVAL", 4}, {evict_script, sizeof(evict_script) - 1}};
	char number[MP_DECIMAL_BYTES], index[MP_DECIMAL_BYTES];
	int argc = 3;

	argv[2] = (struct mp_slice){number, mp_format_i64(number, count)};
	for (int i = 0; i < count; i++)
		argv[argc++] = keys[i];
	argv[argc++] = (struct mp_slice){index, mp_format_u64(index, database)};
	argv[argc++] = (struct mp_slice){&notify[0], notify[0] != '\0'};
	argv[argc++] = (struct mp_slice){&notify[1], notify[1] != '\0'};
	return resp_encode(out, cap, argc, argv);
}

bool mp_memory_is_eviction(const struct resp_request *r, int *first, int *count)
{
	int64_t keys;

	if (r->argc < 6 || r->argv[1].len != sizeof(evict_script) - 1 ||
	    memcmp(r->argv[1].data, evict_script, r->argv[1].len) != 0 ||
	    !mp_parse_i64(r->argv[2], &keys) || keys != r->argc - 6)
		return false;
	*first = 3;
	*count = (int)keys;
	return true;
}
