/* watch.c - see watch.h. */
#include "watch.h"

#define XXH_INLINE_ALL
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "answer.h"
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

void mp_watch_touch(struct mp_proxy *proxy, uint32_t database, const struct mp_command *command,
		    const struct resp_request *request)
{
	struct mp_watch *watch = &proxy->watch;
	struct touching touching = {proxy, database};

	/* To read or claim on behalf of a group changes no key. */
	if (!watch->touched || command->rewrite == MP_REWRITE_GROUP ||
	    command->rewrite == MP_REWRITE_GROUP_READ)
		return;
	/* What it writes may not be told from its arguments' places alone, or be in two databases.
	 */
	if (command->rewrite == MP_REWRITE_MOVE || command->rewrite == MP_REWRITE_COPY ||
	    !mp_command_each_key(command, request, touch_key, &touching))
		watch->all = ++watch->touches;
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
		    watch->ballot != proxy->pipeline.ballot || watch->all > (uint64_t)touches ||
		    *place_of(watch, (uint32_t)database, word[3]) > (uint64_t)touches)
			return false;
	}
	return true;
}
