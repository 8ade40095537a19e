/* memory_settings.c - see memory.h: how the settings come to be known. */
#include <hiredis/hiredis.h>
#include <stdlib.h>

#include "decimal.h"
#include "log.h"
#include "memory.h"
#include "question.h"
#include "state.h"

/* What was never set is an empty string: RESP3's null is none that hiredis 0.14 understands. */
static const char load_script[] =
	"redis.call('SELECT', ARGV[1]) "
	"local s = redis.call('HMGET', " MP_SETTINGS_KEY ", 'maxmemory', 'maxmemory-policy') "
	"return {s[1] or '', s[2] or ''}";

/* The own server's, which are those of all (CONFIG SET). Unknown: nothing is published. */
static void ask_notify(struct mp_proxy *proxy)
{
	struct mp_slice argv[3] = {{"CONFIG", 6}, {"GET", 3}, {"notify-keyspace-events", 22}};

	if (!mp_question_ask(proxy, MP_PURPOSE_NOTIFY, 0, 0, 3, argv))
		mp_error("out of memory: of what expires or is evicted there may be no events");
}

void mp_memory_ask(struct mp_proxy *proxy)
{
	struct mp_memory *memory = &proxy->memory;
	char number[MP_DECIMAL_BYTES];
	struct mp_slice argv[4] = {{"EVAL", 4},
				   {load_script, sizeof(load_script) - 1},
				   {"0", 1},
				   {number, mp_format_i64(number, proxy->databases)}};

	ask_notify(proxy);
	if (mp_question_ask(proxy, MP_PURPOSE_SETTINGS, 0, 0, 4, argv)) {
		memory->asked++;
		return;
	}
	mp_error("out of memory for the group's settings: this replica cannot lead until its "
		 "backend has been connected to anew");
	memory->is_known = false;
}

void mp_memory_lost(struct mp_proxy *proxy)
{
	proxy->memory.asked = 0;
	proxy->memory.is_known = false;
}

/* The own server keeps what is needed to choose by. */
static void give_policy(struct mp_proxy *proxy)
{
	struct mp_slice argv[4] = {{"CONFIG", 6},
				   {"SET", 3},
				   {"maxmemory-policy", 16},
				   mp_slice_of(mp_memory_policy_name(proxy->memory.policy))};

	if (!mp_question_ask(proxy, MP_PURPOSE_POLICY, 0, 0, 4, argv))
		mp_error("out of memory: the server is not told the policy for its memory");
}

static struct mp_slice text_of(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_STRING ? (struct mp_slice){reply->str, reply->len}
						 : (struct mp_slice){"", 0};
}

void mp_memory_take_settings(struct mp_proxy *proxy, struct mp_slice answer)
{
	struct mp_memory *memory = &proxy->memory;
	redisReply *reply = mp_question_array(answer);
	uint64_t limit = 0;

	if (memory->asked > 0)
		memory->asked--;
	if (!reply || reply->elements != 2) {
		freeReplyObject(reply);
		return;
	}
	memory->policy = mp_memory_policy_of(text_of(reply->element[1]));
	if (memory->policy == MP_MEMORY_POLICIES)
		memory->policy = MP_NOEVICTION;
	if (!mp_parse_bytes(text_of(reply->element[0]), &limit))
		limit = 0;
	freeReplyObject(reply);
	memory->limit_bytes = limit;
	memory->ballot = 0; /* begin anew */
	memory->is_full = memory->is_over = false;
	memory->is_known = memory->asked == 0;
	give_policy(proxy);
}
