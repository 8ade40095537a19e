/* blocking_form.c - see blocking_form.h. */
#include "blocking_form.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command_special.h"
#include "decimal.h"
#include "redis_wire.h"
#include "stream_groups.h"

/* ------------------------------------------------------------ who waits for what */

/* As Redis reads it: any way of writing a number of seconds; parts of a ms count as one. */
static int64_t timeout_ms(struct mp_slice arg)
{
	char text[128], *end;
	long double seconds;
	int64_t whole_ms;

	if (arg.len == 0 || arg.len >= sizeof(text))
		return 0;
	memcpy(text, arg.data, arg.len);
	text[arg.len] = '\0';
	errno = 0;
	seconds = strtold(text, &end);
	if (end != text + arg.len || !(seconds > 0) || seconds > (long double)(INT64_MAX / 2000))
		return 0;
	whole_ms = (int64_t)(seconds * 1000);
	return whole_ms + ((long double)whole_ms < seconds * 1000);
}

/* KEY [key ...] TIMEOUT */
static bool take_pop(const struct resp_request *r, struct mp_blocking_form *form)
{
	form->first_key = 1;
	form->keys = r->argc - 2;
	form->timeout_ms = timeout_ms(r->argv[r->argc - 1]);
	return true;
}

/* TIMEOUT NUMKEYS key [key ...] LEFT|RIGHT|MIN|MAX [COUNT n] */
static bool take_mpop(const struct resp_request *r, struct mp_blocking_form *form)
{
	int64_t keys;

	if (!mp_parse_i64(r->argv[2], &keys) || keys < 1 || keys > r->argc - 4)
		return false;
	form->first_key = 3;
	form->keys = (int)keys;
	form->options = 3 + (int)keys;
	form->timeout_ms = timeout_ms(r->argv[1]);
	return true;
}

/* SOURCE DESTINATION [LEFT|RIGHT LEFT|RIGHT] TIMEOUT */
static bool take_move(const struct resp_request *r, struct mp_blocking_form *form)
{
	form->first_key = form->keys = 1;
	form->destination = 2;
	form->timeout_ms = timeout_ms(r->argv[r->argc - 1]);
	return true;
}

/*
 * [COUNT n] [BLOCK ms] STREAMS key [key ...] id [id ...]. What is false here
 * although it has BLOCK must be an error to a server: it is sent there as it is.
 */
static bool take_xread(const struct resp_request *r, struct mp_blocking_form *form)
{
	bool blocks = false;
	int i = 1;

	for (; i + 1 < r->argc && !mp_arg_is(r->argv[i], "streams"); i += 2) {
		if (form->kind == MP_WAIT_GROUP && mp_arg_is(r->argv[i], "group")) {
			form->group = i++ + 1;
		} else if (form->kind == MP_WAIT_GROUP && mp_arg_is(r->argv[i], "noack")) {
			form->noack = true;
			i--;
		} else if (mp_arg_is(r->argv[i], "count")) {
			form->count = i + 1;
		} else if (mp_arg_is(r->argv[i], "block")) {
			blocks = true;
			if (!mp_parse_i64(r->argv[i + 1], &form->timeout_ms) ||
			    form->timeout_ms < 0)
				return false;
		} else {
			return false;
		}
	}
	form->first_key = i + 1;
	form->keys = (r->argc - form->first_key) / 2;
	form->ids = form->first_key + form->keys;
	return blocks && form->keys > 0 && (r->argc - form->first_key) % 2 == 0;
}

/* [GROUP group consumer] [NOACK], and as above. Only what is new to the group is waited for. */
static bool take_xreadgroup(const struct resp_request *r, struct mp_blocking_form *form)
{
	bool waits = take_xread(r, form) && form->group;

	for (int i = 0; waits && i < form->keys; i++)
		waits = mp_slice_is(r->argv[form->ids + i], ">");
	return waits;
}

static const struct {
	const char *command;
	enum mp_wait_kind kind;
	bool (*take)(const struct resp_request *, struct mp_blocking_form *);
} forms[] = {
	{"blpop", MP_WAIT_LIST, take_pop},       {"brpop", MP_WAIT_LIST, take_pop},
	{"blmpop", MP_WAIT_LIST, take_mpop},     {"blmove", MP_WAIT_LIST, take_move},
	{"brpoplpush", MP_WAIT_LIST, take_move}, {"bzpopmin", MP_WAIT_ZSET, take_pop},
	{"bzpopmax", MP_WAIT_ZSET, take_pop},    {"bzmpop", MP_WAIT_ZSET, take_mpop},
	{"xread", MP_WAIT_STREAM, take_xread},   {"xreadgroup", MP_WAIT_GROUP, take_xreadgroup},
};

bool mp_blocking_form_of(const struct mp_command *command, const struct resp_request *request,
			 struct mp_blocking_form *form)
{
	if (command->rewrite != MP_REWRITE_BLOCK && command->rewrite != MP_REWRITE_GROUP_READ)
		return false;
	*form = (struct mp_blocking_form){0};
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (strcmp(forms[i].command, command->name) != 0)
			continue;
		form->kind = forms[i].kind;
		return forms[i].take(request, form);
	}
	return false;
}

/*
 * The source may be of another type, then there is nothing; or the destination,
 * then that is the answer.
 */
static const char move_script[] =
	"if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return false end "
	"return redis.pcall('LMOVE', KEYS[1], KEYS[2], ARGV[1], ARGV[2])";

static bool put_move(const struct mp_blocking_form *form, const struct resp_request *request,
		     struct mp_buffer *out)
{
	bool is_blmove = request->argc > 4;
	struct mp_slice argv[7] = {
		{"EVAL", 4},
		{move_script, sizeof(move_script) - 1},
		{"2", 1},
		request->argv[form->first_key],
		request->argv[form->destination],
		is_blmove ? request->argv[3] : mp_slice_of("RIGHT"),
		is_blmove ? request->argv[4] : mp_slice_of("LEFT"),
	};

	return redis_put_request(out, 7, argv);
}

/* XREAD [COUNT n] STREAMS */
static int put_head(const struct mp_blocking_form *form, const struct resp_request *request,
		    struct mp_slice argv[4])
{
	int argc = 0;

	argv[argc++] = mp_slice_of("XREAD");
	if (form->count) {
		argv[argc++] = mp_slice_of("COUNT");
		argv[argc++] = request->argv[form->count];
	}
	argv[argc++] = mp_slice_of("STREAMS");
	return argc;
}

static bool put_read_of(const struct mp_blocking_form *form, const struct resp_request *request,
			struct mp_slice key, struct mp_buffer *out)
{
	struct mp_slice argv[6];
	int argc = put_head(form, request, argv), i = 0;

	while (i + 1 < form->keys && !mp_slice_equal(request->argv[form->first_key + i], key))
		i++;
	argv[argc++] = key;
	argv[argc++] = request->argv[form->ids + i];
	return redis_put_request(out, argc, argv);
}

/* XREADGROUP GROUP group consumer [COUNT n] [NOACK] STREAMS key >, as it is logged. */
static bool put_group_read(const struct mp_blocking_form *form, const struct resp_request *request,
			   struct mp_slice key, int64_t now_ms, struct mp_buffer *out)
{
	struct mp_slice argv[10] = {request->argv[0], mp_slice_of("GROUP"),
				    request->argv[form->group], request->argv[form->group + 1]};
	int argc = 4;

	if (form->count) {
		argv[argc++] = mp_slice_of("COUNT");
		argv[argc++] = request->argv[form->count];
	}
	if (form->noack)
		argv[argc++] = mp_slice_of("NOACK");
	argv[argc++] = mp_slice_of("STREAMS");
	argv[argc++] = key;
	argv[argc++] = mp_slice_of(">");
	return mp_groups_put(MP_GROUPS_WOKEN, argc, argv, now_ms, out);
}

bool mp_blocking_put_attempt(const struct mp_blocking_form *form,
			     const struct resp_request *request, struct mp_slice key,
			     int64_t now_ms, struct mp_buffer *out)
{
	struct mp_slice argv[8] = {request->argv[0]};
	int argc = 1, options = form->options ? request->argc - form->options : 0;

	if (form->destination)
		return put_move(form, request, out);
	if (form->group)
		return put_group_read(form, request, key, now_ms, out);
	if (form->ids)
		return put_read_of(form, request, key, out);
	if (!form->options) {
		argv[argc++] = key;
		argv[argc++] = mp_slice_of("0");
		return redis_put_request(out, argc, argv);
	}
	argv[argc++] = mp_slice_of("0");
	argv[argc++] = mp_slice_of("1");
	argv[argc++] = key;
	/* WHERE COUNT n: a request with more has been refused by a server. */
	for (int i = 0; i < options && argc < 8; i++)
		argv[argc++] = request->argv[form->options + i];
	return redis_put_request(out, argc, argv);
}

/* ------------------------------------------------------------ reads of streams */

bool mp_blocking_has_last_ids(const struct mp_blocking_form *form,
			      const struct resp_request *request)
{
	for (int i = 0; form->ids && i < form->keys; i++)
		if (mp_slice_is(request->argv[form->ids + i], "$"))
			return true;
	return false;
}

/* A command of a head, and of arguments of the request. */
static bool put_command(int head, const struct mp_slice *words, const struct resp_request *request,
			int first, int count, struct mp_buffer *out)
{
	struct mp_slice *argv = malloc((size_t)(head + count) * sizeof(*argv));
	bool ok;

	if (!argv)
		return false;
	memcpy(argv, words, (size_t)head * sizeof(*argv));
	memcpy(argv + head, &request->argv[first], (size_t)count * sizeof(*argv));
	ok = redis_put_request(out, head + count, argv);
	free(argv);
	return ok;
}

bool mp_blocking_put_read(const struct mp_blocking_form *form, const struct resp_request *request,
			  struct mp_buffer *out)
{
	struct mp_slice words[4];
	int head = put_head(form, request, words);

	return put_command(head, words, request, form->first_key, 2 * form->keys, out);
}

/* KEYS and ARGV: the streams and their IDs. Answers the last one where it is "$". */
static const char last_ids_script[] =
	"local ids = {} "
	"for i, key in ipairs(KEYS) do "
	"ids[i] = '' "
	"if ARGV[i] == '$' then "
	"ids[i] = '0-0' "
	"if redis.call('EXISTS', key) == 1 then "
	"local info = redis.pcall('XINFO', 'STREAM', key) "
	"if info.err then return info end "
	"for k = 1, #info, 2 do "
	"if info[k] == 'last-generated-id' then ids[i] = info[k + 1] end "
	"end end end end "
	"return ids";

bool mp_blocking_put_question(const struct mp_blocking_form *form,
			      const struct resp_request *request, struct mp_buffer *out)
{
	char number[MP_DECIMAL_BYTES];
	struct mp_slice words[3] = {{"EVAL", 4},
				    {last_ids_script, sizeof(last_ids_script) - 1},
				    {number, mp_format_i64(number, form->keys)}};

	return put_command(3, words, request, form->first_key, 2 * form->keys, out);
}

/* The next line of what is left, without its end. */
static struct mp_slice next_line(struct mp_slice *rest)
{
	const char *end = memchr(rest->data, '\r', rest->len);
	struct mp_slice line = {rest->data, end ? (size_t)(end - rest->data) : rest->len};
	size_t used = line.len + 2 < rest->len ? line.len + 2 : rest->len;

	rest->data += used;
	rest->len -= used;
	return line;
}

bool mp_blocking_put_resolved(const struct mp_blocking_form *form,
			      const struct resp_request *request, struct mp_slice answer,
			      struct mp_buffer *out)
{
	struct mp_slice line = next_line(&answer), *argv;
	bool ok = true;
	int64_t count;

	if (line.len < 2 || line.data[0] != '*' ||
	    !mp_parse_i64((struct mp_slice){line.data + 1, line.len - 1}, &count) ||
	    count != form->keys)
		return false;
	argv = malloc((size_t)request->argc * sizeof(*argv));
	if (!argv)
		return false;
	memcpy(argv, request->argv, (size_t)request->argc * sizeof(*argv));
	for (int i = 0; i < form->keys; i++) {
		ok = ok && answer.len > 0 && answer.data[0] == '$';
		next_line(&answer);
		line = next_line(&answer);
		if (line.len > 0)
			argv[form->ids + i] = line;
	}
	ok = ok && redis_put_request(out, request->argc, argv);
	free(argv);
	return ok;
}

/* ------------------------------------------------------------- who brings what */

/* Where the key is that is fed, and how much it gets. */
enum feeding {
	FIRST,  /* argument 1 */
	SECOND, /* argument 2 */
	STORE,  /* behind the word STORE or STOREDIST */
	COPY,   /* argument 2, in the database behind the word DB */
	MOVE,   /* argument 1, in the database that is argument 2 */
	SWAP,   /* every key of two databases */
	SCRIPT, /* the declared keys, and then all */
};

static const struct feeder {
	const char *command;
	enum feeding where;
	unsigned kinds;
	/* It brings (arguments - behind) / each elements; each 0: nobody knows how many. */
	uint8_t behind, each;
} feeders[] = {
	{"lpush", FIRST, MP_WAIT_LIST, 2, 1},
	{"rpush", FIRST, MP_WAIT_LIST, 2, 1},
	{"lmove", SECOND, MP_WAIT_LIST, 4, 1},
	{"blmove", SECOND, MP_WAIT_LIST, 5, 1},
	{"rpoplpush", SECOND, MP_WAIT_LIST, 2, 1},
	{"brpoplpush", SECOND, MP_WAIT_LIST, 3, 1},
	{"sort", STORE, MP_WAIT_LIST, 0, 0},
	{"xadd", FIRST, MP_WAIT_STREAM | MP_WAIT_GROUP, 2, 1},
	{"xgroup|destroy", SECOND, MP_WAIT_GROUP, 0, 0},
	{"zadd", FIRST, MP_WAIT_ZSET, 2, 2},
	{"zincrby", FIRST, MP_WAIT_ZSET, 3, 1},
	{"geoadd", FIRST, MP_WAIT_ZSET, 2, 3},
	{"zunionstore", FIRST, MP_WAIT_ZSET, 0, 0},
	{"zinterstore", FIRST, MP_WAIT_ZSET, 0, 0},
	{"zdiffstore", FIRST, MP_WAIT_ZSET, 0, 0},
	{"zrangestore", FIRST, MP_WAIT_ZSET, 0, 0},
	{"geosearchstore", FIRST, MP_WAIT_ZSET, 0, 0},
	{"georadius", STORE, MP_WAIT_ZSET, 0, 0},
	{"georadiusbymember", STORE, MP_WAIT_ZSET, 0, 0},
	{"rename", SECOND, MP_WAIT_ANY, 0, 0},
	{"renamenx", SECOND, MP_WAIT_ANY, 0, 0},
	{"restore", FIRST, MP_WAIT_ANY, 0, 0},
	{"copy", COPY, MP_WAIT_ANY, 0, 0},
	{"move", MOVE, MP_WAIT_ANY, 0, 0},
	{"swapdb", SWAP, MP_WAIT_ANY, 0, 0},
	{"eval", SCRIPT, MP_WAIT_ANY, 0, 0},
	{"evalsha", SCRIPT, MP_WAIT_ANY, 0, 0},
	{"fcall", SCRIPT, MP_WAIT_ANY, 0, 0},
};

static const struct feeder *feeder_of(const struct mp_command *command)
{
	for (size_t i = 0; i < sizeof(feeders) / sizeof(feeders[0]); i++)
		if (strcmp(feeders[i].command, command->name) == 0)
			return &feeders[i];
	return NULL;
}

/* The argument behind one of these words, the last such; 0: there is none. */
static int behind_word(const struct resp_request *r, const char *one, const char *other)
{
	int found = 0;

	for (int i = 2; i + 1 < r->argc; i++)
		if (mp_arg_is(r->argv[i], one) || mp_arg_is(r->argv[i], other))
			found = i + 1;
	return found;
}

/* A command by which databases may change, or many keys are fed. False: it is none of these. */
static bool feed_far(const struct feeder *feeder, const struct resp_request *r, struct mp_feed *fed,
		     void (*feed)(void *, const struct mp_feed *), void *ctx)
{
	int place = feeder->where == COPY ? behind_word(r, "db", "db") : 2;
	int64_t number = fed->database;

	switch (feeder->where) {
	case COPY:
	case MOVE:
		if (place && !mp_parse_i64(r->argv[place], &number))
			return true;
		fed->database = (uint32_t)number;
		fed->key = r->argv[feeder->where == COPY ? 2 : 1];
		feed(ctx, fed);
		return true;
	case SWAP:
		fed->all_databases = true;
		feed(ctx, fed);
		return true;
	case SCRIPT:
		if (!mp_parse_i64(r->argv[2], &number))
			return true;
		for (int i = 3; i < r->argc && i < 3 + number; i++) {
			fed->key = r->argv[i];
			feed(ctx, fed);
		}
		fed->key = (struct mp_slice){0};
		fed->all_databases = true;
		feed(ctx, fed);
		return true;
	case FIRST:
	case SECOND:
	case STORE:
		break;
	}
	return false;
}

void mp_blocking_feeds(const struct mp_command *command, const struct resp_request *r,
		       uint32_t database, void (*feed)(void *ctx, const struct mp_feed *),
		       void *ctx)
{
	const struct feeder *feeder = feeder_of(command);
	struct mp_feed fed = {.database = database, .elements = MP_FEED_UNKNOWN};
	int place;

	if (!feeder)
		return;
	fed.kinds = feeder->kinds;
	if (feed_far(feeder, r, &fed, feed, ctx))
		return;
	place = feeder->where == FIRST ? 1 : 2;
	if (feeder->where == STORE && !(place = behind_word(r, "store", "storedist")))
		return;
	if (feeder->each && r->argc > feeder->behind)
		fed.elements = (uint32_t)(r->argc - feeder->behind) / feeder->each;
	fed.key = r->argv[place];
	feed(ctx, &fed);
}
