/* pause.c - see pause.h. */
#include "pause.h"

#include <string.h>

#include "classify.h"
#include "redis_login.h"
#include "session_parts.h"
#include "state.h"

static void end(struct mp_proxy *proxy)
{
	proxy->pause = (struct mp_pause){0};
	mp_sessions_let_go(proxy);
}

/* As in Redis: one pause on top of another only makes it longer, and harder. */
static void take(struct mp_proxy *proxy, const struct mp_pause *given)
{
	struct mp_pause *pause = &proxy->pause;

	if (given->until_ms == 0) {
		end(proxy);
		return;
	}
	pause->is_for_all = pause->is_for_all || given->is_for_all;
	if (pause->until_ms < given->until_ms)
		pause->until_ms = given->until_ms;
}

void mp_pause_note(struct mp_proxy *proxy, struct mp_slice wire, uint32_t commands)
{
	struct resp_request request;
	struct mp_pause given;
	size_t used;

	for (; commands > 0 && mp_parser_ready(proxy); commands--) {
		if (resp_parse(proxy->resp, wire.data, wire.len, &used, &request) != RESP_DONE) {
			mp_parser_spoilt(proxy);
			return;
		}
		if (mp_pause_is_logged(&request, &given))
			take(proxy, &given);
		wire.data += used;
		wire.len -= used;
	}
}

/* What has been queued counts when it is to be executed, too. */
static bool may_change(const struct mp_session *s, const struct mp_command *command)
{
	return command->may_change || (strcmp(command->name, "exec") == 0 && s->multi.may_change);
}

bool mp_pause_holds(struct mp_session *s, const struct resp_request *request)
{
	const struct mp_pause *pause = &s->proxy->pause;
	const struct mp_command *command;
	char error[MP_ERROR_BYTES];

	if (pause->until_ms == 0 || !s->proxy->commands)
		return false;
	/* What is refused anyway is refused now. */
	command = mp_command_find(s->proxy->commands, request, error, sizeof(error));
	if (!command || !mp_redis_admits(s, command, error) ||
	    (!pause->is_for_all && !may_change(s, command)))
		return false;
	mp_session_hold(s);
	return true;
}

uint32_t mp_pause_held(const struct mp_proxy *proxy)
{
	/* Others are held for a moment, to know of memory. */
	return proxy->pause.until_ms ? proxy->sessions.held : 0;
}

uint64_t mp_pause_turn(struct mp_proxy *proxy)
{
	uint64_t until_ms = proxy->pause.until_ms, now_ms;

	if (until_ms == 0)
		return UINT64_MAX;
	now_ms = mp_expiry_reader_ms(proxy);
	if (now_ms >= until_ms) {
		end(proxy);
		return UINT64_MAX;
	}
	if (until_ms - now_ms > INT32_MAX)
		return UINT64_MAX; /* the turns until then are enough */
	return mp_now_ns(proxy) + (until_ms - now_ms) * UINT64_C(1000000);
}
