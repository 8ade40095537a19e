/*
 * rewrite.c - requests made deterministic before they are logged (DESIGN 6.4):
 * every deadline becomes a point in time, padded so far into the future that no
 * server acts on it by itself (deadline_effects.h). Arguments are judged as Redis 7.0
 * judges them, in its order and with its texts, so that a client cannot tell
 * who did.
 */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "command_special.h"
#include "deadline_effects.h"
#include "decimal.h"
#include "maxmemory.h"
#include "pause.h"
#include "rewrite_scripts.h"
#include "stream_groups.h"

enum { XADD_ARGS_MAX = 7900 }; /* what Lua's unpack() takes, and some */

#define NOT_AN_INTEGER "ERR value is not an integer or out of range"
#define NOT_AN_INT "ERR value is out of range, value must between -2147483648 and 2147483647"
#define SYNTAX_ERROR "ERR syntax error"
#define NO_MEMORY "ERR muproxy: out of memory; nothing was executed"
#define NO_SUCH_DATABASE "ERR DB index is out of range"

/* What a rewrite works with: the request, the clock, and where results go. */
struct rewriting {
	const struct mp_command *command;
	const struct resp_request *request;
	int64_t now_ms;
	int databases;
	char *out;
	size_t cap;
	int *commands;
	char *error;
	size_t error_bytes;
};

static size_t refuse(const struct rewriting *w, const char *text)
{
	snprintf(w->error, w->error_bytes, "%s", text);
	return 0;
}

static size_t refuse_deadline(const struct rewriting *w)
{
	snprintf(w->error, w->error_bytes, "ERR invalid expire time in '%s' command",
		 w->command->name);
	return 0;
}

static size_t emit(const struct rewriting *w, int argc, const struct mp_slice *argv)
{
	return resp_encode(w->out, w->cap, argc, argv);
}

/* The request as it is. */
static size_t emit_unchanged(const struct rewriting *w)
{
	const struct resp_request *r = w->request;

	if (r->is_inline)
		return emit(w, r->argc, r->argv);
	if (r->raw.len <= w->cap)
		memcpy(w->out, r->raw.data, r->raw.len);
	return r->raw.len;
}

/* --------------------------------------------------------------- deadlines */

enum unit { NO_UNIT, EX, PX, EXAT, PXAT };

/* SET's, SETEX's and GETEX's deadline in Unix ms. False: Redis calls it invalid. */
static bool deadline_ms(enum unit unit, int64_t value, int64_t now_ms, int64_t *when_ms)
{
	if (value <= 0)
		return false;
	if ((unit == EX || unit == EXAT) && __builtin_mul_overflow(value, 1000, &value))
		return false;
	if ((unit == EX || unit == PX) && __builtin_add_overflow(value, now_ms, &value))
		return false;
	*when_ms = value;
	return true;
}

/* The options of SET and GETEX, as far as understood. */
struct options {
	bool nx, xx, get, keepttl, persist;
	enum unit unit;
	struct mp_slice deadline;
	struct mp_slice comparison, operand; /* newer servers' IFEQ and its kin; {0}: not given */
};

static enum unit unit_of(struct mp_slice arg)
{
	static const char *const names[] = {
		[EX] = "ex", [PX] = "px", [EXAT] = "exat", [PXAT] = "pxat"};

	for (enum unit unit = EX; unit <= PXAT; unit++)
		if (mp_arg_is(arg, names[unit]))
			return unit;
	return NO_UNIT;
}

/* One word that is an option by itself. False: it is none, or contradicts another. */
static bool take_flag(struct options *o, struct mp_slice arg, bool is_set)
{
	bool *flag = NULL;

	if (!is_set) {
		if (mp_arg_is(arg, "persist") && o->unit == NO_UNIT)
			flag = &o->persist;
	} else if (mp_arg_is(arg, "nx") && !o->xx) {
		flag = &o->nx;
	} else if (mp_arg_is(arg, "xx") && !o->nx) {
		flag = &o->xx;
	} else if (mp_arg_is(arg, "get")) {
		flag = &o->get;
	} else if (mp_arg_is(arg, "keepttl") && o->unit == NO_UNIT) {
		flag = &o->keepttl;
	}
	if (flag)
		*flag = true;
	return flag != NULL;
}

/* A condition on the value that is there: the servers know whether they have it. */
static bool is_comparison(struct mp_slice arg)
{
	return mp_arg_is(arg, "ifeq") || mp_arg_is(arg, "ifne") || mp_arg_is(arg, "ifdeq") ||
	       mp_arg_is(arg, "ifdne");
}

/* The options from argument `i` on. False: a syntax error. The same unit may come again. */
static bool take_options(const struct resp_request *r, int i, bool is_set, struct options *o)
{
	memset(o, 0, sizeof(*o));
	for (; i < r->argc; i++) {
		enum unit unit;

		if (take_flag(o, r->argv[i], is_set))
			continue;
		if (is_set && i + 1 < r->argc && !o->comparison.data && is_comparison(r->argv[i])) {
			o->comparison = r->argv[i];
			o->operand = r->argv[++i];
			continue;
		}
		unit = unit_of(r->argv[i]);
		if (unit == NO_UNIT || i + 1 == r->argc || o->keepttl || o->persist ||
		    (o->unit != NO_UNIT && o->unit != unit))
			return false;
		o->unit = unit;
		o->deadline = r->argv[++i];
	}
	return true;
}

/*
 * What a server that deletes a key whose deadline has passed when it is given
 * (EXPIRE, GETEX, RESTORE; SET does not) has to be told.
 */
static int64_t padded_or_past(const struct rewriting *w, int64_t when_ms)
{
	return when_ms > w->now_ms ? mp_deadline_pad(when_ms) : MP_DEADLINE_PAST_MS;
}

/* SET key value, with what options are left, and its deadline if when_ms > 0. */
static size_t emit_set(const struct rewriting *w, struct mp_slice value, const struct options *o,
		       int64_t when_ms)
{
	struct mp_slice argv[10] = {mp_slice_of("SET"), w->request->argv[1], value};
	char digits[MP_DECIMAL_BYTES];
	int argc = 3;

	if (o->nx)
		argv[argc++] = mp_slice_of("NX");
	if (o->xx)
		argv[argc++] = mp_slice_of("XX");
	if (o->comparison.data) {
		argv[argc++] = o->comparison;
		argv[argc++] = o->operand;
	}
	if (o->get)
		argv[argc++] = mp_slice_of("GET");
	if (when_ms > 0) {
		argv[argc++] = mp_slice_of("PXAT");
		argv[argc++] =
			(struct mp_slice){digits, mp_format_i64(digits, mp_deadline_pad(when_ms))};
	}
	return emit(w, argc, argv);
}

static size_t rewrite_set(const struct rewriting *w)
{
	struct options o;
	int64_t value, when_ms;

	if (w->request->argc == 3)
		return emit_unchanged(w);
	if (!take_options(w->request, 3, true, &o))
		return refuse(w, SYNTAX_ERROR);
	if (o.unit == NO_UNIT)
		return emit_unchanged(w);
	if (!mp_parse_i64(o.deadline, &value))
		return refuse(w, NOT_AN_INTEGER);
	if (!deadline_ms(o.unit, value, w->now_ms, &when_ms))
		return refuse_deadline(w);
	return emit_set(w, w->request->argv[2], &o, when_ms);
}

static size_t rewrite_setex(const struct rewriting *w)
{
	static const struct options none;
	enum unit unit = w->command->name[0] == 'p' ? PX : EX;
	int64_t value, when_ms;

	if (!mp_parse_i64(w->request->argv[2], &value))
		return refuse(w, NOT_AN_INTEGER);
	if (!deadline_ms(unit, value, w->now_ms, &when_ms))
		return refuse_deadline(w);
	return emit_set(w, w->request->argv[3], &none, when_ms);
}

/*
 * GETEX looks at the key before it judges the deadline: a bad one on a missing
 * key is answered nil. It changes nothing then, so the servers may judge it;
 * but one that is too great depends on the clock, and becomes plainly bad.
 */
static size_t rewrite_getex(const struct rewriting *w)
{
	struct mp_slice argv[4] = {mp_slice_of("GETEX"), w->request->argv[1], mp_slice_of("PXAT")};
	char digits[MP_DECIMAL_BYTES];
	struct options o;
	int64_t value, when_ms;

	if (!take_options(w->request, 2, false, &o))
		return refuse(w, SYNTAX_ERROR);
	if (o.unit == NO_UNIT || !mp_parse_i64(o.deadline, &value))
		return emit_unchanged(w);
	if (deadline_ms(o.unit, value, w->now_ms, &when_ms))
		when_ms = padded_or_past(w, when_ms);
	else
		when_ms = 0;
	argv[3] = (struct mp_slice){digits, mp_format_i64(digits, when_ms)};
	return emit(w, 4, argv);
}

/* ------------------------------------------------------------------ EXPIRE */

enum { NX, XX, GT, LT, CONDITIONS };
static const char *const conditions[CONDITIONS] = {"nx", "xx", "gt", "lt"};

static size_t refuse_condition(const struct rewriting *w, struct mp_slice arg)
{
	static const char prefix[] = "ERR Unsupported option ";
	size_t len = strnlen(arg.data, arg.len);

	/* Redis takes line ends off the end, and makes blanks of the others. */
	while (len > 0 && (arg.data[len - 1] == '\r' || arg.data[len - 1] == '\n'))
		len--;
	if (len > w->error_bytes - sizeof(prefix))
		len = w->error_bytes - sizeof(prefix);
	snprintf(w->error, w->error_bytes, "%s%.*s", prefix, (int)len, arg.data);
	for (char *c = w->error; *c; c++)
		if (*c == '\r' || *c == '\n')
			*c = ' ';
	return 0;
}

/* EXPIRE's point in time in Unix ms, which may lie in the past. False: out of range. */
static bool expire_ms(const struct rewriting *w, int64_t value, int64_t *when_ms)
{
	const char *name = w->command->name;
	size_t len = strlen(name);
	bool absolute = len > 2 && strcmp(name + len - 2, "at") == 0;

	if (name[0] != 'p' && __builtin_mul_overflow(value, 1000, &value))
		return false;
	return !__builtin_add_overflow(value, absolute ? 0 : w->now_ms, when_ms);
}

static size_t rewrite_expire(const struct rewriting *w)
{
	const struct resp_request *r = w->request;
	struct mp_slice argv[3 + CONDITIONS] = {mp_slice_of("PEXPIREAT"), r->argv[1]};
	bool given[CONDITIONS] = {false};
	char digits[MP_DECIMAL_BYTES];
	int64_t value, when_ms;
	int argc = 3;

	for (int i = 3; i < r->argc; i++) {
		int c = 0;

		while (c < CONDITIONS && !mp_arg_is(r->argv[i], conditions[c]))
			c++;
		if (c == CONDITIONS)
			return refuse_condition(w, r->argv[i]);
		given[c] = true;
	}
	if (given[NX] && (given[XX] || given[GT] || given[LT]))
		return refuse(w, "ERR NX and XX, GT or LT options at the same time are not "
				 "compatible");
	if (given[GT] && given[LT])
		return refuse(w, "ERR GT and LT options at the same time are not compatible");
	if (!mp_parse_i64(r->argv[2], &value))
		return refuse(w, NOT_AN_INTEGER);
	if (!expire_ms(w, value, &when_ms))
		return refuse_deadline(w);
	/* GT and LT compare what is padded alike; nothing is before the past. */
	argv[2] = (struct mp_slice){digits, mp_format_i64(digits, padded_or_past(w, when_ms))};
	for (int c = 0; c < CONDITIONS; c++)
		if (given[c])
			argv[argc++] = mp_slice_of(conditions[c]);
	return emit(w, argc, argv);
}

/* ----------------------------------------------------------------- RESTORE */

/*
 * The first byte of what DUMP yields is the value's type. Those of 7.0 end here; some of newer
 * servers' are hashes with deadlines of fields, which each server would carry out by itself.
 * What is shorter than a dump's version and checksum no server takes.
 */
enum { RDB_TYPE_MAX = 21, DUMP_TAIL_BYTES = 10 };

static bool is_too_new(struct mp_slice dump)
{
	return dump.len >= DUMP_TAIL_BYTES && (unsigned char)*dump.data > RDB_TYPE_MAX;
}

struct restore {
	bool replace, absttl;
	const char *hint; /* "IDLETIME" or "FREQ" */
	struct mp_slice hint_value;
};

/* False: a server refuses it at once, whatever the key. */
static bool take_restore(const struct resp_request *r, struct restore *o)
{
	memset(o, 0, sizeof(*o));
	for (int i = 4; i < r->argc; i++) {
		bool idle = mp_arg_is(r->argv[i], "idletime");
		int64_t value;

		if (mp_arg_is(r->argv[i], "replace")) {
			o->replace = true;
		} else if (mp_arg_is(r->argv[i], "absttl")) {
			o->absttl = true;
		} else if ((idle || mp_arg_is(r->argv[i], "freq")) && i + 1 < r->argc) {
			const char *hint = idle ? "IDLETIME" : "FREQ";

			if (o->hint && strcmp(o->hint, hint) != 0)
				return false;
			o->hint = hint;
			o->hint_value = r->argv[++i];
			if (!mp_parse_i64(o->hint_value, &value) || value < 0 ||
			    (!idle && value > 255))
				return false;
		} else {
			return false;
		}
	}
	return true;
}

/*
 * RESTORE has errors that depend on the key (BUSYKEY comes before a bad TTL),
 * so what does not become a point in time is left to the servers: it fails
 * everywhere, or it means the same everywhere.
 */
static size_t rewrite_restore(const struct rewriting *w)
{
	const struct resp_request *r = w->request;
	struct mp_slice argv[8] = {
		mp_slice_of("RESTORE"), r->argv[1], {0}, r->argv[3], mp_slice_of("ABSTTL")};
	char digits[MP_DECIMAL_BYTES];
	struct restore o;
	int64_t ttl_ms, when_ms;
	int argc = 5;

	if (is_too_new(r->argv[3]))
		return refuse(w, "ERR muproxy: restore: values of that type are not served, "
				 "deadlines of fields among them");
	if (!take_restore(r, &o) || !mp_parse_i64(r->argv[2], &ttl_ms) || ttl_ms <= 0)
		return emit_unchanged(w);
	/* Too far to add: Redis's sum wraps into the past, and the key is not kept. */
	if (__builtin_add_overflow(ttl_ms, o.absttl ? 0 : w->now_ms, &when_ms))
		when_ms = 0;
	argv[2] = (struct mp_slice){digits, mp_format_i64(digits, padded_or_past(w, when_ms))};
	if (o.replace)
		argv[argc++] = mp_slice_of("REPLACE");
	if (o.hint) {
		argv[argc++] = mp_slice_of(o.hint);
		argv[argc++] = o.hint_value;
	}
	return emit(w, argc, argv);
}

/* --------------------------------------------------------------- databases */

static void append(const struct rewriting *w, size_t *bytes, int argc, const struct mp_slice *argv)
{
	bool room = *bytes < w->cap;

	*bytes +=
		resp_encode(room ? w->out + *bytes : NULL, room ? w->cap - *bytes : 0, argc, argv);
}

/* FLUSHALL and FLUSHDB [SYNC | ASYNC] */
static bool is_good_flush(const struct resp_request *r)
{
	return r->argc == 1 ||
	       (r->argc == 2 && (mp_arg_is(r->argv[1], "sync") || mp_arg_is(r->argv[1], "async")));
}

static size_t rewrite_flushdb(const struct rewriting *w)
{
	return is_good_flush(w->request) ? emit_unchanged(w) : refuse(w, SYNTAX_ERROR);
}

/* The last database is the proxy's own: FLUSHALL empties the others one by one. */
static size_t rewrite_flushall(const struct rewriting *w)
{
	const struct resp_request *r = w->request;
	struct mp_slice flush[2] = {mp_slice_of("FLUSHDB")};
	size_t bytes = 0;

	if (!is_good_flush(r))
		return refuse(w, SYNTAX_ERROR);
	if (r->argc == 2)
		flush[1] = r->argv[1];
	for (int i = 0; i < w->databases; i++) {
		char digits[MP_DECIMAL_BYTES];
		struct mp_slice index = {digits, mp_format_i64(digits, i)};

		append(w, &bytes, 2, (struct mp_slice[]){mp_slice_of("SELECT"), index});
		append(w, &bytes, r->argc, flush);
	}
	*w->commands = 2 * w->databases;
	return bytes;
}

/* A database's number as Redis reads it: any int. False: *error says why not. */
static bool parse_database(struct mp_slice arg, int64_t *index, const char **error)
{
	if (!mp_parse_i64(arg, index))
		*error = NOT_AN_INTEGER;
	else if (*index < INT_MIN || *index > INT_MAX)
		*error = NOT_AN_INT;
	else
		return true;
	return false;
}

/* Existing and visible. */
static bool is_visible(const struct rewriting *w, int64_t index)
{
	return index >= 0 && index < w->databases;
}

static size_t rewrite_move(const struct rewriting *w)
{
	const char *error;
	int64_t index;

	if (!parse_database(w->request->argv[2], &index, &error))
		return refuse(w, error);
	if (!is_visible(w, index))
		return refuse(w, NO_SUCH_DATABASE);
	return emit_unchanged(w);
}

static size_t rewrite_copy(const struct rewriting *w)
{
	const struct resp_request *r = w->request;

	for (int i = 3; i < r->argc; i++) {
		const char *error;
		int64_t index;

		if (mp_arg_is(r->argv[i], "replace"))
			continue;
		if (!mp_arg_is(r->argv[i], "db") || i + 1 == r->argc)
			return refuse(w, SYNTAX_ERROR);
		if (!parse_database(r->argv[++i], &index, &error))
			return refuse(w, error);
		if (!is_visible(w, index))
			return refuse(w, NO_SUCH_DATABASE);
	}
	return emit_unchanged(w);
}

static size_t rewrite_swapdb(const struct rewriting *w)
{
	int64_t first, second;
	const char *error;

	if (!parse_database(w->request->argv[1], &first, &error))
		return refuse(w, "ERR invalid first DB index");
	if (!parse_database(w->request->argv[2], &second, &error))
		return refuse(w, "ERR invalid second DB index");
	if (!is_visible(w, first) || !is_visible(w, second))
		return refuse(w, NO_SUCH_DATABASE);
	return emit_unchanged(w);
}

/* ------------------------------------------------------------- clock and luck */

static size_t rewrite_xadd(const struct rewriting *w)
{
	int star = mp_xadd_star(w->request);
	size_t len;

	if (star < 0)
		return refuse(w, "ERR Invalid stream ID specified as stream command argument");
	if (star == 0)
		return emit_unchanged(w);
	if (w->request->argc > XADD_ARGS_MAX)
		return refuse(w, "ERR muproxy: XADD with * and more than 7900 arguments is not "
				 "served: name the ID");
	len = mp_encode_xadd(w->request, star, w->now_ms, w->out, w->cap);
	return len ? len : refuse(w, NO_MEMORY);
}

/*
 * Not predictable, and not the same for all requests of a millisecond; what it is is logged. Always
 * of ten digits: a rewrite that is done again for want of room comes out as long as it said.
 */
uint32_t mp_next_seed(int64_t now_ms)
{
	static uint64_t state;

	state = (state ^ (uint64_t)now_ms) * 6364136223846793005ULL + 1442695040888963407ULL;
	return 1000000000 + (uint32_t)(state >> 33) % 1147483646;
}

static size_t rewrite_spop(const struct rewriting *w)
{
	const struct resp_request *r = w->request;
	int64_t count = -1;

	if (r->argc > 3)
		return refuse(w, SYNTAX_ERROR);
	if (r->argc == 3 && !mp_parse_i64(r->argv[2], &count))
		return refuse(w, "ERR value is out of range, must be positive");
	if (r->argc == 3 && count < 0)
		return refuse(w, "ERR value is out of range, must be positive");
	return mp_encode_spop(r->argv[1], count, mp_next_seed(w->now_ms), w->out, w->cap);
}

static size_t rewrite_settings(const struct rewriting *w)
{
	for (int i = 2; i < w->request->argc; i += 2)
		if (mp_memory_is_setting(w->request->argv[i]))
			return mp_memory_encode_settings(w->request, w->databases, w->out, w->cap,
							 w->error, w->error_bytes);
	return emit_unchanged(w);
}

static size_t rewrite_pause(const struct rewriting *w)
{
	const char *error = NULL;
	size_t len = mp_pause_encode(w->request, w->now_ms, w->out, w->cap, &error);

	return error ? refuse(w, error) : len;
}

static size_t rewrite_group(const struct rewriting *w)
{
	size_t len;

	if (w->request->argc > MP_GROUPS_ARGS_MAX)
		return refuse(w, "ERR muproxy: consumer groups' commands with more than 7900 "
				 "arguments are not served");
	len = mp_groups_encode(MP_GROUPS_AS_NAMED, w->request->argc, w->request->argv, w->now_ms,
			       w->out, w->cap);
	return len ? len : refuse(w, NO_MEMORY);
}

/* ---------------------------------------------------------------- dispatch */

static size_t (*const rewrites[])(const struct rewriting *) = {
	[MP_REWRITE_NONE] = emit_unchanged,       [MP_REWRITE_SET] = rewrite_set,
	[MP_REWRITE_SETEX] = rewrite_setex,       [MP_REWRITE_EXPIRE] = rewrite_expire,
	[MP_REWRITE_GETEX] = rewrite_getex,       [MP_REWRITE_RESTORE] = rewrite_restore,
	[MP_REWRITE_FLUSHALL] = rewrite_flushall, [MP_REWRITE_MOVE] = rewrite_move,
	[MP_REWRITE_COPY] = rewrite_copy,         [MP_REWRITE_SWAPDB] = rewrite_swapdb,
	[MP_REWRITE_XADD] = rewrite_xadd,         [MP_REWRITE_SPOP] = rewrite_spop,
	[MP_REWRITE_NOTE] = emit_unchanged,       [MP_REWRITE_FLUSHDB] = rewrite_flushdb,
	[MP_REWRITE_PUBLISH] = emit_unchanged,    [MP_REWRITE_SETTINGS] = rewrite_settings,
	[MP_REWRITE_BLOCK] = emit_unchanged,      [MP_REWRITE_GROUP] = rewrite_group,
	[MP_REWRITE_GROUP_READ] = rewrite_group,  [MP_REWRITE_PAUSE] = rewrite_pause,
};

size_t mp_command_rewrite(const struct mp_command *command, const struct resp_request *request,
			  int64_t now_ms, int databases, char *out, size_t cap, int *commands,
			  char *error, size_t error_bytes)
{
	struct rewriting w = {command, request,  now_ms, databases,  out,
			      cap,     commands, error,  error_bytes};

	assert(command->class == MP_CLASS_WRITE && command->rewrite != MP_REWRITE_SCRIPT);
	assert(databases > 0 && databases <= MP_MAX_DATABASES);
	*commands = 1;
	return rewrites[command->rewrite](&w);
}

bool mp_command_is_blind(const struct mp_command *command, const struct resp_request *request)
{
	struct options o;

	if (!command->blind || command->rewrite != MP_REWRITE_SET || request->argc == 3)
		return command->blind;
	return take_options(request, 3, true, &o) && !o.nx && !o.xx && !o.get && !o.keepttl &&
	       !o.comparison.data;
}
