/* memory_victims.c - see memory.h: what is evicted. */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "decimal.h"
#include "memory.h"
#include "question.h"
#include "rewrite_scripts.h"
#include "state.h"

enum {
	FEW_CANDIDATES = 80,
	MANY_CANDIDATES = 640,
	MUCH_BYTES = 1 << 20, /* from here on, many */
	EVICT_BYTES = 16 << 10,
};

/*
 * Of candidates, given as pairs of database and key, or drawn, those that are to
 * go: at most a fifth (but of keys chosen by luck, any), and no more than it takes.
 * ARGV: bytes wanted, databases, candidates wanted, by what, candidates.
 */
static const char choose_script[] =
	"local need, databases, want, by = tonumber(ARGV[1]), tonumber(ARGV[2]), "
	"tonumber(ARGV[3]), ARGV[4] "
	"local found, seen = {}, {} "
	"local function look(db, key, due) "
	"local name = db .. ' ' .. key "
	"if seen[name] then return end "
	"seen[name] = true "
	"local score = 0 "
	"if by == 'lru' then score = redis.pcall('OBJECT', 'IDLETIME', key) end "
	"if by == 'lfu' then score = redis.pcall('OBJECT', 'FREQ', key) end "
	"if type(score) ~= 'number' then score = 0 end "
	"if by == 'lfu' then score = -score end "
	"if by == 'ttl' then score = -due end "
	"local bytes = redis.call('MEMORY', 'USAGE', key, 'SAMPLES', '1') "
	"if bytes then found[#found + 1] = {db, key, score, bytes} end "
	"end "
	"if #ARGV > 4 then "
	"for i = 5, #ARGV, 2 do "
	"redis.call('SELECT', ARGV[i]) "
	"local due = redis.call('PEXPIRETIME', ARGV[i + 1]) "
	"if due >= 0 then look(ARGV[i], ARGV[i + 1], due) end "
	"end "
	"else "
	"local sizes, total = {}, 0 "
	"for db = 0, databases - 1 do "
	"redis.call('SELECT', db) "
	"sizes[db] = redis.call('DBSIZE') "
	"total = total + sizes[db] "
	"end "
	"for db = 0, databases - 1 do "
	"if sizes[db] > 0 then "
	"redis.call('SELECT', db) "
	"for _ = 1, math.ceil(want * sizes[db] / total) do "
	"local key = redis.call('RANDOMKEY') "
	"if key then look(db, key) end "
	"end "
	"end "
	"end "
	"end "
	"local most = by == 'random' and #found or math.ceil(#found / 5) "
	"if by ~= 'random' then table.sort(found, function(a, b) return a[3] > b[3] end) end "
	"local out = {} "
	"for i = 1, most do "
	"if need <= 0 then break end "
	"need = need - found[i][4] "
	"out[#out + 1] = tostring(found[i][1]) "
	"out[#out + 1] = found[i][2] "
	"end "
	"return out";

/* ------------------------------------------------------------------ choosing */

static bool is_volatile(enum mp_memory_policy policy)
{
	return policy >= MP_VOLATILE_LRU;
}

static struct mp_slice criterion(enum mp_memory_policy policy)
{
	const char *name = mp_memory_policy_name(policy);

	return mp_slice_of(strchr(name, '-') + 1);
}

/* Candidates with a deadline: as many as fit, at least one. */
static int put_volatile(struct mp_proxy *proxy, struct mp_slice *argv, int count,
			char (*numbers)[MP_DECIMAL_BYTES])
{
	const struct mp_deadlines *index = &proxy->expiry.index;
	bool by_time = proxy->memory.policy == MP_VOLATILE_TTL;
	int argc = 0;

	if ((size_t)count > index->heap_count)
		count = (int)index->heap_count;
	for (int i = 0; i < count; i++) {
		size_t place =
			by_time ? (size_t)i
				: mp_next_seed((int64_t)mp_now_ns(proxy)) % index->heap_count;
		const struct mp_deadline *node = index->heap[place].of;

		argv[argc++] =
			(struct mp_slice){numbers[i], mp_format_u64(numbers[i], node->database)};
		argv[argc++] = (struct mp_slice){node->key, node->key_bytes};
	}
	return argc;
}

bool mp_memory_choose(struct mp_proxy *proxy, uint64_t bytes)
{
	enum { HEAD = 7 };
	static char numbers[MANY_CANDIDATES][MP_DECIMAL_BYTES];
	static struct mp_slice argv[HEAD + 2 * MANY_CANDIDATES];
	struct mp_memory *memory = &proxy->memory;
	int candidates = bytes < MUCH_BYTES ? FEW_CANDIDATES : MANY_CANDIDATES, argc = HEAD;
	char need[MP_DECIMAL_BYTES], databases[MP_DECIMAL_BYTES], want[MP_DECIMAL_BYTES];

	argv[0] = (struct mp_slice){"EVAL", 4};
	argv[1] = (struct mp_slice){choose_script, sizeof(choose_script) - 1};
	argv[2] = (struct mp_slice){"0", 1};
	argv[3] = (struct mp_slice){need, mp_format_u64(need, bytes)};
	argv[4] = (struct mp_slice){databases, mp_format_i64(databases, proxy->databases)};
	argv[5] = (struct mp_slice){want, mp_format_i64(want, candidates)};
	argv[6] = criterion(memory->policy);
	if (is_volatile(memory->policy))
		argc += put_volatile(proxy, argv + HEAD, candidates, numbers);
	if (is_volatile(memory->policy) && argc == HEAD)
		return false;
	return mp_question_ask(proxy, MP_PURPOSE_VICTIMS, memory->ballot, 0, argc, argv);
}

/* ------------------------------------------------------------------- evicting */

/* One command: keys of one database. False: out of memory. */
static bool put_eviction(struct mp_proxy *proxy, uint32_t database, const struct mp_slice *keys,
			 int count)
{
	struct mp_memory *memory = &proxy->memory;
	bool speaks = memory->notify_evicted[0] || memory->notify_evicted[1];
	size_t len = mp_encode_eviction(NULL, 0, database, count, keys, memory->notify_evicted);

	mp_buffer_clear(&memory->wire);
	if (!mp_pipeline_room(proxy, len) || !mp_buffer_reserve(&memory->wire, len))
		return false;
	mp_encode_eviction(mp_buffer_data(&memory->wire), len, database, count, keys,
			   memory->notify_evicted);
	mp_pipeline_add_own(proxy, MP_REDIS, database,
			    (struct mp_slice){mp_buffer_data(&memory->wire), len},
			    speaks ? MP_RECORD_SPEAKS : MP_RECORD_BLIND, false);
	for (int i = 0; i < count; i++) {
		mp_watch_touch_key(proxy, database, keys[i]);
		mp_blocking_touch_key(proxy, database, keys[i]);
	}
	return true;
}

/* How many of the pairs from `first` on go into one command. */
static int group_of(const redisReply *reply, size_t first, struct mp_slice *keys)
{
	const char *database = reply->element[first]->str;
	size_t bytes = 0;
	int count = 0;

	for (size_t i = first; i + 1 < reply->elements && count < MP_EVICT_KEYS_MAX; i += 2) {
		const redisReply *key = reply->element[i + 1];

		if (strcmp(reply->element[i]->str, database) != 0 || bytes > EVICT_BYTES)
			break;
		keys[count++] = (struct mp_slice){key->str, key->len};
		bytes += key->len;
	}
	return count;
}

uint32_t mp_memory_evict(struct mp_proxy *proxy)
{
	redisReply *reply = mp_question_array(mp_buffer_slice(&proxy->memory.victims));
	struct mp_slice keys[MP_EVICT_KEYS_MAX];
	uint32_t evicted = 0;

	mp_buffer_clear(&proxy->memory.victims);
	for (size_t i = 0; reply && i + 1 < reply->elements;) {
		uint32_t database = (uint32_t)atoi(reply->element[i]->str);
		int count = group_of(reply, i, keys);

		if (!put_eviction(proxy, database, keys, count))
			break;
		evicted += (uint32_t)count;
		i += 2 * (size_t)count;
	}
	freeReplyObject(reply);
	return evicted;
}
