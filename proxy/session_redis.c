/* session_redis.c - what Redis clients send: taken, refused, or answered here (redis_local.c). */
#include <stdio.h>
#include <string.h>

#include "answer.h"
#include "classify.h"
#include "local_reads.h"
#include "monitor.h"
#include "redis_local.h"
#include "redis_login.h"
#include "session_parts.h"
#include "state.h"

static void say_error(struct mp_session *s, const char *text)
{
	char reply[MP_ERROR_BYTES + 32];
	size_t len = mp_format_error(MP_REDIS, text, reply, sizeof(reply));

	mp_session_say(s, (struct mp_slice){reply, len});
}

/* What was not sent in the form that everybody further down can read is put into it. */
static void take(struct mp_session *s, const struct resp_request *request,
		 const struct mp_request_meta *meta)
{
	struct mp_bytes bytes;
	size_t len;

	if (!request->is_inline) {
		mp_session_take(s, request->raw, meta);
		return;
	}
	len = resp_encode(NULL, 0, request->argc, request->argv);
	if (!mp_chunks_alloc(&s->proxy->chunks, len, &bytes)) {
		mp_session_kill(s);
		return;
	}
	resp_encode(bytes.data, len, request->argc, request->argv);
	mp_session_take_bytes(s, bytes, meta);
}

/* For CLIENT LIST. The table of commands may be gone by then. */
static void remember(struct mp_session *s, const struct mp_command *command)
{
	if (command)
		memcpy(s->last_command, command->name, sizeof(s->last_command));
	else
		s->last_command[0] = '\0';
}

static void handle(struct mp_session *s, const struct resp_request *request)
{
	const struct mp_command *command = NULL;
	char error[MP_ERROR_BYTES];
	struct mp_request_meta meta;
	enum mp_verdict verdict;

	verdict = mp_classify_redis(s->proxy, request, s->database, &meta, &command, error);
	remember(s, command);
	if (command &&
	    (!mp_redis_admits(s, command, error) || mp_pubsub_forbids(s, command, error)))
		verdict = MP_VERDICT_ERROR;
	if (command && verdict != MP_VERDICT_ERROR && mp_multi_lacks_memory(s, command)) {
		snprintf(error, sizeof(error), MP_OOM);
		verdict = MP_VERDICT_ERROR;
	}
	if (s->is_monitor && command && command->touches_keys && verdict != MP_VERDICT_ERROR) {
		snprintf(error, sizeof(error), "ERR Replica can't interact with the keyspace");
		verdict = MP_VERDICT_ERROR;
	}
	if (mp_monitor_is_on(&s->proxy->sessions) && verdict != MP_VERDICT_ERROR)
		mp_monitor_show(s, command, request);
	switch (verdict) {
	case MP_VERDICT_SERVE:
		meta.resp = s->resp;
		meta.noreply = s->is_silent;
		meta.local = mp_local_reads_wanted(s, &meta);
		if (mp_multi_queue(s, command, request))
			break;
		if (meta.watch && s->multi.is_open) {
			say_error(s, "ERR WATCH inside MULTI is not allowed");
			break;
		}
		take(s, request, &meta);
		s->is_gated = meta.gates;
		break;
	case MP_VERDICT_LOCAL:
		if (!mp_multi_queue(s, command, request))
			mp_redis_local(s, command, request);
		break;
	case MP_VERDICT_ERROR:
		STAT_ADD(s->proxy, refused, 1);
		mp_multi_refused(s, error);
		say_error(s, error);
		break;
	}
}

/* What is queued is refused, or not, by settings that were made before. */
static bool awaits_memory(struct mp_session *s)
{
	if (!s->multi.is_open || !mp_memory_is_unsure(s->proxy))
		return false;
	mp_session_hold(s);
	return true;
}

bool mp_redis_input(struct mp_session *s, const char *data, size_t len, size_t *used)
{
	struct resp_request request;

	switch (resp_parse(s->parser.resp, data, len, used, &request)) {
	case RESP_MORE:
		return false;
	case RESP_ERROR:
		STAT_ADD(s->proxy, protocol_errors, 1);
		say_error(s, resp_parser_error(s->parser.resp));
		mp_session_close_after_error(s);
		return false;
	case RESP_DONE:
		break;
	}
	if (request.argc > 0 && (mp_pause_holds(s, &request) || awaits_memory(s))) {
		*used = 0;
		return true; /* to be told that nothing more is taken */
	}
	if (request.argc > 0) {
		s->is_silent = s->wants_no_replies || s->skips_next;
		s->skips_next = false;
		handle(s, &request);
		s->is_silent = false;
	}
	return !s->dead && !s->closing;
}
