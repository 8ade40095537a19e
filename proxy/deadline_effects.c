/* deadline_effects.c - see deadline_effects.h. */
#include "deadline_effects.h"

#include <assert.h>
#include <string.h>

#include "command_special.h"
#include "decimal.h"
#include "maxmemory.h"
#include "redis_scripts.h"

/*
 * Nothing but a script can ask for a deadline and act on it at once. It compares
 * as numbers: a double holds every padded deadline up to the year 280000. And it
 * says that they have expired to whoever wants to know. ARGV: now, 'K' or '', 'E'
 * or '', database.
 */
static const char expire_script[] =
	"local now = tonumber(ARGV[1]) "
	"for i = 1, #KEYS do "
	"local due = redis.call('PEXPIRETIME', KEYS[i]) "
	"if due >= 0 and due <= now then "
	"redis.call('UNLINK', KEYS[i]) "
	"if ARGV[2] == 'K' then "
	"redis.call('PUBLISH', '__keyspace@' .. ARGV[4] .. '__:' .. KEYS[i], 'expired') end "
	"if ARGV[3] == 'E' then "
	"redis.call('PUBLISH', '__keyevent@' .. ARGV[4] .. '__:expired', KEYS[i]) end "
	"end "
	"end";

enum { EXPIRE_HEAD = 3, EXPIRE_TAIL = 4 };

size_t mp_encode_expire(char *out, size_t cap, uint32_t database, int count,
			const struct mp_slice *keys, int64_t now_ms, const char notify[2])
{
	struct mp_slice argv[EXPIRE_HEAD + MP_EXPIRE_KEYS_MAX + EXPIRE_TAIL], *tail;
	char number[MP_DECIMAL_BYTES], time[MP_DECIMAL_BYTES], index[MP_DECIMAL_BYTES];

	assert(count > 0 && count <= MP_EXPIRE_KEYS_MAX);
	argv[0] = (struct mp_slice){"EVAL", 4};
	argv[1] = (struct mp_slice){expire_script, sizeof(expire_script) - 1};
	argv[2] = (struct mp_slice){number, mp_format_i64(number, count)};
	memcpy(&argv[EXPIRE_HEAD], keys, (size_t)count * sizeof(*keys));
	tail = &argv[EXPIRE_HEAD + count];
	tail[0] = (struct mp_slice){time, mp_format_i64(time, mp_deadline_pad(now_ms))};
	tail[1] = (struct mp_slice){&notify[0], notify[0] != '\0'};
	tail[2] = (struct mp_slice){&notify[1], notify[1] != '\0'};
	tail[3] = (struct mp_slice){index, mp_format_u64(index, database)};
	return resp_encode(out, cap, EXPIRE_HEAD + count + EXPIRE_TAIL, argv);
}

/* One command being looked at. */
struct look {
	const struct resp_request *r;
	uint32_t *database; /* that it runs in */
	mp_effect_visitor *visit;
	void *ctx;
};

static void tell(const struct look *look, struct mp_effect effect)
{
	look->visit(look->ctx, &effect);
}

/* A deadline as it stands in the log. False: none, or one that is past everywhere. */
static bool take_deadline(struct mp_slice arg, int64_t *when_ms)
{
	if (!mp_parse_i64(arg, when_ms) || *when_ms < MP_DEADLINE_PAD_MS)
		return false;
	*when_ms -= MP_DEADLINE_PAD_MS;
	return true;
}

static void tell_deadline(const struct look *look, struct mp_slice arg, bool certain)
{
	int64_t when_ms;

	if (take_deadline(arg, &when_ms))
		tell(look, (struct mp_effect){.kind = certain ? MP_EFFECT_SET : MP_EFFECT_MAYBE,
					      .database = *look->database,
					      .key = look->r->argv[1],
					      .when_ms = when_ms});
}

static void look_at_set(const struct look *look)
{
	const struct resp_request *r = look->r;

	/* rewrite.c: SET key value [NX] [XX] [GET] PXAT deadline */
	if (r->argc > 4 && mp_arg_is(r->argv[r->argc - 2], "pxat"))
		tell_deadline(look, r->argv[r->argc - 1], r->argc == 5);
}

static void look_at_pexpireat(const struct look *look)
{
	if (look->r->argc >= 3)
		tell_deadline(look, look->r->argv[2], look->r->argc == 3);
}

/* A key of another type keeps what it had. */
static void look_at_getex(const struct look *look)
{
	if (look->r->argc == 4 && mp_arg_is(look->r->argv[2], "pxat"))
		tell_deadline(look, look->r->argv[3], false);
}

static void look_at_restore(const struct look *look)
{
	if (look->r->argc >= 4)
		tell_deadline(look, look->r->argv[2], false);
}

static void tell_move(const struct look *look, struct mp_slice to, uint32_t to_database)
{
	tell(look, (struct mp_effect){.kind = MP_EFFECT_MOVE,
				      .database = *look->database,
				      .key = look->r->argv[1],
				      .to = to,
				      .to_database = to_database});
}

static void look_at_rename(const struct look *look)
{
	if (look->r->argc == 3)
		tell_move(look, look->r->argv[2], *look->database);
}

static bool take_database(struct mp_slice arg, uint32_t *database)
{
	int64_t value;

	if (!mp_parse_i64(arg, &value) || value < 0 || value > INT32_MAX)
		return false;
	*database = (uint32_t)value;
	return true;
}

static void look_at_copy(const struct look *look)
{
	const struct resp_request *r = look->r;
	uint32_t database = *look->database;

	if (r->argc < 3)
		return;
	for (int i = 3; i + 1 < r->argc; i++)
		if (mp_arg_is(r->argv[i], "db"))
			take_database(r->argv[i + 1], &database);
	tell_move(look, r->argv[2], database);
}

static void look_at_move(const struct look *look)
{
	uint32_t database;

	if (look->r->argc == 3 && take_database(look->r->argv[2], &database))
		tell_move(look, look->r->argv[1], database);
}

static void look_at_eviction(const struct look *look)
{
	int first, count;

	if (!mp_memory_is_eviction(look->r, &first, &count))
		return;
	for (int i = first; i < first + count; i++)
		tell(look, (struct mp_effect){.kind = MP_EFFECT_GONE,
					      .database = *look->database,
					      .key = look->r->argv[i]});
}

static void look_at_eval(const struct look *look)
{
	const struct resp_request *r = look->r;
	size_t len = sizeof(expire_script) - 1;
	int64_t count, now_ms;
	int last;

	look_at_eviction(look);
	/* Not one of ours? (Clients' are run by EVALSHA.) */
	last = r->argc - EXPIRE_TAIL;
	if (last <= EXPIRE_HEAD || r->argv[1].len != len ||
	    memcmp(r->argv[1].data, expire_script, len) != 0)
		return;
	if (!mp_parse_i64(r->argv[2], &count) || count != last - EXPIRE_HEAD ||
	    !take_deadline(r->argv[last], &now_ms))
		return;
	for (int i = EXPIRE_HEAD; i < last; i++)
		tell(look, (struct mp_effect){.kind = MP_EFFECT_EXPIRE,
					      .database = *look->database,
					      .key = r->argv[i],
					      .when_ms = now_ms});
}

/* Nothing may be forgotten that the server still has. */
static void look_at_flushdb(const struct look *look)
{
	const struct resp_request *r = look->r;

	if (r->argc == 1 ||
	    (r->argc == 2 && (mp_arg_is(r->argv[1], "sync") || mp_arg_is(r->argv[1], "async"))))
		tell(look,
		     (struct mp_effect){.kind = MP_EFFECT_FLUSH, .database = *look->database});
}

static void look_at_swapdb(const struct look *look)
{
	struct mp_effect effect = {.kind = MP_EFFECT_SWAP};

	if (look->r->argc == 3 && take_database(look->r->argv[1], &effect.database) &&
	    take_database(look->r->argv[2], &effect.to_database))
		tell(look, effect);
}

static void look_at_select(const struct look *look)
{
	if (look->r->argc == 2)
		take_database(look->r->argv[1], look->database);
}

static void look_at_evalsha(const struct look *look)
{
	struct mp_slice stamp;

	if (mp_script_is_logged(look->r, &stamp))
		tell(look, (struct mp_effect){.kind = MP_EFFECT_SCRIPT, .key = stamp});
}

static const struct {
	const char *name;
	void (*look)(const struct look *);
} looks[] = {
	{"set", look_at_set},         {"pexpireat", look_at_pexpireat},
	{"getex", look_at_getex},     {"restore", look_at_restore},
	{"eval", look_at_eval},       {"evalsha", look_at_evalsha},
	{"rename", look_at_rename},   {"renamenx", look_at_rename},
	{"copy", look_at_copy},       {"move", look_at_move},
	{"flushdb", look_at_flushdb}, {"swapdb", look_at_swapdb},
	{"select", look_at_select},
};

bool mp_effects_each(struct resp_parser *parser, struct mp_slice wire, int commands,
		     uint32_t database, mp_effect_visitor *visit, void *ctx)
{
	struct resp_request request;
	struct look look = {&request, &database, visit, ctx};
	size_t used;

	for (; commands > 0; commands--) {
		if (resp_parse(parser, wire.data, wire.len, &used, &request) != RESP_DONE ||
		    request.argc == 0)
			return false;
		for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
			if (mp_arg_is(request.argv[0], looks[i].name)) {
				looks[i].look(&look);
				break;
			}
		}
		wire.data += used;
		wire.len -= used;
	}
	return true;
}
