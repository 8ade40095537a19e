/* stream_groups.c - see stream_groups.h: what is logged or asked. */
#include "stream_groups.h"

#include <stdlib.h>
#include <string.h>

#include "command_special.h"
#include "decimal.h"
#include "redis_scripts.h"

enum {
	FEW_WORDS = 64, /* what is longer costs an allocation */
	HEAD_WORDS = 3, /* EVALSHA sha 0 */
	TAIL_WORDS = 2, /* time, way */
	NAME_BYTES = 32,
};

enum mp_rewrite mp_groups_treatment(const struct mp_command *command,
				    const struct resp_request *request)
{
	switch (command->rewrite) {
	case MP_REWRITE_GROUP_READ:
		return MP_REWRITE_GROUP_READ;
	case MP_REWRITE_PENDING: /* key group start end count: else a summary, without times */
		return request->argc > 3 ? MP_REWRITE_PENDING : MP_REWRITE_NONE;
	case MP_REWRITE_STREAM_INFO:
		return request->argc > 3 && mp_arg_is(request->argv[3], "full")
			       ? MP_REWRITE_STREAM_INFO
			       : MP_REWRITE_NONE;
	default:
		return MP_REWRITE_NONE;
	}
}

/* The way's name in groups.lua. */
static struct mp_slice name_of(enum mp_groups_way way, struct mp_slice command, char *room)
{
	size_t len = command.len < NAME_BYTES ? command.len : NAME_BYTES;

	if (way == MP_GROUPS_WOKEN)
		return mp_slice_of("xreadgroup_woken");
	for (size_t i = 0; i < len; i++)
		room[i] = (char)(command.data[i] | 0x20); /* letters only: it was found by them */
	return (struct mp_slice){room, len};
}

size_t mp_groups_encode(enum mp_groups_way way, int argc, const struct mp_slice *argv,
			int64_t now_ms, char *out, size_t cap)
{
	int words = HEAD_WORDS + argc + TAIL_WORDS;
	struct mp_slice few[FEW_WORDS], *all = few;
	char time[MP_DECIMAL_BYTES], name[NAME_BYTES];
	size_t len;

	if (words > FEW_WORDS && !(all = malloc((size_t)words * sizeof(*all))))
		return 0;
	all[0] = way == MP_GROUPS_READ ? mp_slice_of("EVALSHA_RO") : mp_slice_of("EVALSHA");
	all[1] = mp_slice_of(mp_prelude_sha1);
	all[2] = mp_slice_of("0");
	memcpy(&all[HEAD_WORDS], argv, (size_t)argc * sizeof(*all));
	all[words - 2] = (struct mp_slice){time, mp_format_i64(time, now_ms)};
	all[words - 1] = name_of(way, argv[0], name);
	len = resp_encode(out, cap, words, all);
	if (all != few)
		free(all);
	return len;
}

bool mp_groups_put(enum mp_groups_way way, int argc, const struct mp_slice *argv, int64_t now_ms,
		   struct mp_buffer *out)
{
	size_t len = mp_groups_encode(way, argc, argv, now_ms, NULL, 0);
	char *room = len ? mp_buffer_reserve(out, len) : NULL;

	if (!room || !mp_groups_encode(way, argc, argv, now_ms, room, len))
		return false;
	mp_buffer_commit(out, len);
	return true;
}
