/* session_memcached.c - what Memcached clients send: taken, refused, or answered here. */
#include <stdio.h>
#include <string.h>

#include "classify.h"
#include "session.h"
#include "state.h"

/* What a client is told that asked for no reply: nothing. */
static void say(struct mp_session *s, bool noreply, const char *kind, const char *text)
{
	char line[MP_ERROR_BYTES + 32];
	int n;

	if (noreply)
		return;
	n = snprintf(line, sizeof(line), "%s%s%s\r\n", kind, *kind && *text ? " " : "", text);
	mp_session_say(s, (struct mp_slice){line, (size_t)n});
}

static void answer(struct mp_session *s, const struct mc_request *request)
{
	switch (request->verb) {
	case MC_QUIT:
		mp_session_close_after_replies(s);
		break;
	case MC_REFUSED:
		STAT_ADD(s->proxy, refused, 1);
		say(s, request->noreply, "CLIENT_ERROR muproxy:", request->refusal);
		break;
	default:
		say(s, request->noreply, "ERROR", "");
		break;
	}
}

/* A read goes to a server as it is taken here, so it is written anew; a write is later. */
static void take(struct mp_session *s, const struct mc_request *request,
		 const struct mp_request_meta *meta)
{
	struct mc_deadlines *deadlines = s->proxy->locks.deadlines;
	struct mp_bytes bytes;
	size_t len;

	if (meta->class != MP_REQUEST_READ) {
		mp_session_take(s, request->raw, meta);
		return;
	}
	len = mc_encode(request, 0, deadlines, NULL, 0);
	if (!mp_chunks_alloc(&s->proxy->chunks, len, &bytes)) {
		mp_session_kill(s);
		return;
	}
	mc_encode(request, 0, deadlines, bytes.data, len);
	mp_session_take_bytes(s, bytes, meta);
}

static void handle(struct mp_session *s, const struct mc_request *request)
{
	char error[MP_ERROR_BYTES];
	struct mp_request_meta meta;

	switch (mp_classify_memcached(request, &meta, error)) {
	case MP_VERDICT_SERVE:
		take(s, request, &meta);
		break;
	case MP_VERDICT_LOCAL:
		answer(s, request);
		break;
	case MP_VERDICT_ERROR:
		STAT_ADD(s->proxy, refused, 1);
		say(s, request->noreply, "CLIENT_ERROR", error);
		break;
	}
}

static void say_bad(struct mp_session *s)
{
	const char *error = mc_parser_error(s->parser.mc);

	STAT_ADD(s->proxy, protocol_errors, 1);
	if (*error)
		say(s, false, error, "");
}

bool mp_memcached_input(struct mp_session *s, const char *data, size_t len, size_t *used)
{
	struct mc_request request;

	switch (mc_parse(s->parser.mc, data, len, used, &request)) {
	case MC_MORE:
		return false;
	case MC_BAD:
		say_bad(s);
		if (request.verb == MC_DELETE)
			handle(s, &request); /* of the value that a set too large was to replace */
		return !s->dead;
	case MC_FATAL:
		say_bad(s);
		mp_session_close_after_error(s);
		return false;
	case MC_DONE:
		break;
	}
	handle(s, &request);
	return !s->dead && !s->closing;
}
