/* watch.c - see watch.h. */
#include "watch.h"

#define XXH_INLINE_ALL
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "answer.h"
#include "command_special.h"
#include "state.h"

enum { PLACES = 1 << 16, WORDS_PER_KEY = 4 };

void mp_watch_close(struct mp_watch *watch)
{
	free(watch->touched);
}

bool mp_watch_is_on(const struct mp_proxy *proxy)
{
	return proxy->watch.touched != NULL;
}

static uint64_t *place_of(const struct mp_watch *watch, uint32_t database, struct mp_slice key)
{
	return &watch->touched[XXH3_64bits_withSeed(key.data, key.len, database) % PLACES];
}

void mp_watch_add(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_watch *watch = &proxy->watch;
	char token[64];
	int len;

	if (!watch->touched && !(watch->touched = calloc(PLACES, sizeof(*watch->touched)))) {
		mp_answer_error(proxy, r, "ERR muproxy: out of memory; nothing is watched");
		return;
	}
	watch->ballot = proxy->pipeline.ballot;
	len = snprintf(token, sizeof(token), "+%" PRIu64 " %" PRIu64 "\r\n", watch->ballot,
		       watch->touches);
	mp_answer(proxy, r, (struct mp_slice){token, (size_t)len}, true);
}

void mp_watch_touch_key(struct mp_proxy *proxy, uint32_t database, struct mp_slice key)
{
	struct mp_watch *watch = &proxy->watch;

	if (watch->touched)
		*place_of(watch, database, key) = ++watch->touches;
}

struct touching {
	struct mp_proxy *proxy;
	uint32_t database;
};

static void touch_key(void *ctx, struct mp_slice key)
{
	const struct touching *touching = ctx;

	mp_watch_touch_key(touching->proxy, touching->database, key);
}

static void touch_database(struct mp_watch *watch, uint32_t database)
{
	if (database < MP_MAX_DATABASES)
		watch->all[database] = ++watch->touches;
}

static void touch_everything(struct mp_watch *watch)
{
	watch->touches++;
	for (size_t i = 0; i < MP_MAX_DATABASES; i++)
		watch->all[i] = watch->touches;
}

/* A number that is none, or of no database, is refused further down, and touches nothing. */
static void touch_numbered(struct mp_proxy *proxy, struct mp_slice number,
			   const struct mp_slice *key)
{
	int64_t database;

	if (!mp_parse_i64(number, &database) || database < 0 || database >= proxy->databases)
		return;
	if (key)
		mp_watch_touch_key(proxy, (uint32_t)database, *key);
	else
		touch_database(&proxy->watch, (uint32_t)database);
}

/* COPY source destination [DB number] [REPLACE]; the last number counts. */
static void touch_copy(struct mp_proxy *proxy, uint32_t database, const struct resp_request *r)
{
	const struct mp_slice *number = NULL;

	for (int i = 3; i + 1 < r->argc; i++)
		if (mp_arg_is(r->argv[i], "db"))
			number = &r->argv[++i];
	if (number)
		touch_numbered(proxy, *number, &r->argv[2]);
	else
		mp_watch_touch_key(proxy, database, r->argv[2]);
}

/* The argument that is the only key a command changes, of several that it names; 0: it is none. */
static int destination_of(const struct mp_command *command)
{
	static const char *const first[] = {"sinterstore", "sunionstore",    "sdiffstore",
					    "zinterstore", "zunionstore",    "zdiffstore",
					    "zrangestore", "geosearchstore", "pfmerge"};

	for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++)
		if (strcmp(command->name, first[i]) == 0)
			return 1;
	return strcmp(command->name, "bitop") == 0 ? 2 : 0;
}

static void touch_named(struct mp_proxy *proxy, uint32_t database, const struct mp_command *command,
			const struct resp_request *r)
{
	struct touching touching = {proxy, database};
	int destination = destination_of(command);

	if (destination > 0 && destination < r->argc)
		touch_key(&touching, r->argv[destination]);
	else if (!mp_command_each_key(command, r, touch_key, &touching))
		touch_everything(&proxy->watch); /* a script may be in any database */
}

void mp_watch_touch(struct mp_proxy *proxy, uint32_t database, const struct mp_command *command,
		    const struct resp_request *request)
{
	const struct resp_request *r = request;

	if (!proxy->watch.touched)
		return;
	switch (command->rewrite) {
	case MP_REWRITE_GROUP:
	case MP_REWRITE_GROUP_READ:
		break; /* To read or claim on behalf of a group changes no key. */
	case MP_REWRITE_FLUSHDB:
		touch_database(&proxy->watch, database);
		break;
	case MP_REWRITE_SWAPDB:
		touch_numbered(proxy, r->argv[1], NULL);
		touch_numbered(proxy, r->argv[2], NULL);
		break;
	case MP_REWRITE_MOVE:
		mp_watch_touch_key(proxy, database, r->argv[1]);
		touch_numbered(proxy, r->argv[2], &r->argv[1]);
		break;
	case MP_REWRITE_COPY:
		touch_copy(proxy, database, r);
		break;
	default:
		touch_named(proxy, database, command, r);
	}
}

bool mp_watch_holds(struct mp_proxy *proxy, const struct resp_request *envelope)
{
	const struct mp_watch *watch = &proxy->watch;

	for (int i = 1; i + WORDS_PER_KEY <= envelope->argc; i += WORDS_PER_KEY) {
		const struct mp_slice *word = &envelope->argv[i];
		int64_t ballot, touches, database;

		if (!mp_parse_i64(word[0], &ballot) || !mp_parse_i64(word[1], &touches) ||
		    !mp_parse_i64(word[2], &database))
			return false;
		if (!watch->touched || (uint64_t)ballot != proxy->pipeline.ballot ||
		    watch->ballot != proxy->pipeline.ballot ||
		    (uint64_t)database >= MP_MAX_DATABASES ||
		    watch->all[database] > (uint64_t)touches ||
		    *place_of(watch, (uint32_t)database, word[3]) > (uint64_t)touches)
			return false;
	}
	return true;
}
