/* session_memcached.c - what Memcached clients send: taken, refused, or answered here. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

#include "classify.h"
#include "mc_binary.h"
#include "mc_translate.h"
#include "memcached_login.h"
#include "session.h"
#include "state.h"

enum {
	ANSWER_BYTES = 2048,
	/*
	 * A gets' reply is held whole, to put in the tokens: of more keys, it goes in parts.
	 * Their line may be as long as any command's (mc_parser.c).
	 */
	GETS_KEYS = 7,
	PART_LINE_BYTES = GETS_KEYS * (MC_MAX_KEY_BYTES + 1) + 64,
};

static void say(struct mp_session *s, const char *data, size_t len)
{
	if (len > 0)
		mp_session_say(s, (struct mp_slice){data, len});
}

/* An error, in the client's protocol. What asked for no reply gets none. */
static void say_error(struct mp_session *s, const struct mc_request *request, const char *format,
		      ...) __attribute__((format(printf, 3, 4)));
static void say_error(struct mp_session *s, const struct mc_request *request, const char *format,
		      ...)
{
	char line[MP_ERROR_BYTES + 64], frame[sizeof(line) + MC_BINARY_HEADER_BYTES];
	struct mc_writer w = {frame, sizeof(frame), 0};
	va_list args;
	int n;

	if (request->noreply)
		return;
	va_start(args, format);
	n = vsnprintf(line, sizeof(line) - 2, format, args);
	va_end(args);
	if (n > (int)sizeof(line) - 3)
		n = (int)sizeof(line) - 3;
	if (request->dialect == MC_BINARY) {
		mc_put_error_line(&w, request, (struct mp_slice){line, (size_t)n});
		say(s, frame, w.bytes);
	} else {
		memcpy(line + n, "\r\n", 2);
		say(s, line, (size_t)n + 2);
	}
}

/* ------------------------------------------------------- answered by ourselves */

/* An answer of the binary protocol without anything in it. */
static void say_done(struct mp_session *s, const struct mc_request *request)
{
	char frame[MC_BINARY_HEADER_BYTES];
	struct mc_writer w = {frame, sizeof(frame), 0};

	if (request->quiet)
		return;
	mc_put_header(&w, request, MC_STATUS_OK, (struct mc_binary_body){0}, 0);
	say(s, frame, w.bytes);
}

static void quit(struct mp_session *s, const struct mc_request *request)
{
	if (request->dialect == MC_BINARY)
		say_done(s, request);
	mp_session_close_after_replies(s);
}

/* stats muproxy: this replica's own counters. */
static void say_stats(struct mp_session *s, const struct mc_request *request)
{
	struct mp_proxy *proxy = s->proxy;
	const struct mp_proxy_stats *stats = &proxy->stats;
	const struct {
		const char *name;
		uint64_t value;
	} own[] = {
		{"replica", proxy->options.id},
		{"is_leader", proxy->pipeline.ballot != 0},
		{"clients", stats->clients},
		{"requests", stats->requests},
		{"reads", stats->reads},
		{"writes", stats->writes},
		{"local", stats->local},
		{"refused", stats->refused},
		{"relayed", stats->relayed},
		{"proposals", stats->proposals},
		{"held", stats->held},
		{"unknown", stats->unknown},
		{"protocol_errors", stats->protocol_errors},
		{"bytes_in", stats->bytes_in},
		{"bytes_out", stats->bytes_out},
		{"applied_lsn", stats->memcached_applied_lsn},
		{"stale", stats->stale},
		{"item_size_max", proxy->mc_limits.max_value_bytes},
	};
	char text[ANSWER_BYTES], frames[ANSWER_BYTES * 2];
	struct mc_writer out = {frames, sizeof(frames), 0};
	struct mc_request as_stats = *request;
	int n = snprintf(text, sizeof(text), "STAT version %s\r\n", PACKAGE_VERSION);

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "STAT %s %" PRIu64 "\r\n",
			      own[i].name, own[i].value);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "END\r\n");
	if (request->dialect != MC_BINARY) {
		say(s, text, (size_t)n);
		return;
	}
	as_stats.verb = MC_STATS;
	mc_translate(&as_stats, (struct mp_slice){text, (size_t)n}, 0, &out);
	say(s, frames, out.bytes);
}

/* "<verb> <exptime> <key>", or "<verb> <key>+": mc_parser_internal(). Returns its length. */
static size_t part_line(const struct mc_request *part, const char *verb, char line[PART_LINE_BYTES])
{
	struct mc_writer w = {line, PART_LINE_BYTES, 0};

	mc_put_text(&w, verb);
	if (part->verb != MC_GETS_PART) {
		mc_put_text(&w, " ");
		mc_put_i64(&w, part->exptime);
	}
	for (int i = 0; i < part->key_count; i++) {
		mc_put_text(&w, " ");
		mc_put_slice(&w, part->keys[i]);
	}
	mc_put_text(&w, "\r\n");
	return w.bytes;
}

/*
 * A request of several keys as several, of so many at most each; as: the parts' verb, and its
 * name. Of none there is just the end.
 */
static void take_parts(struct mp_session *s, const struct mc_request *request, enum mc_verb as,
		       const char *verb, int most)
{
	char line[PART_LINE_BYTES], error[MP_ERROR_BYTES];
	struct mc_request part = *request;

	part.verb = as;
	for (int i = 0; i < request->key_count && !s->dead; i += part.key_count) {
		struct mp_request_meta meta;
		int left = request->key_count - i;

		part.keys = &request->keys[i];
		part.key_count = left < most ? left : most;
		mp_classify_memcached(&part, &meta, error);
		mp_session_take(s, (struct mp_slice){line, part_line(&part, verb, line)}, &meta);
	}
	if (!s->dead)
		say(s, "END\r\n", 5);
}

static void answer(struct mp_session *s, const struct mc_request *request)
{
	switch (request->verb) {
	case MC_QUIT:
		quit(s, request);
		break;
	case MC_NOOP:
		if (request->dialect == MC_BINARY)
			say_done(s, request);
		else
			say(s, "MN\r\n", 4);
		break;
	case MC_OWN_STATS:
		say_stats(s, request);
		break;
	case MC_GAT:
		take_parts(s, request, MC_GAT_PART, "+gat", 1);
		break;
	case MC_GATS:
		take_parts(s, request, MC_GATS_PART, "+gats", 1);
		break;
	case MC_SASL:
		mp_memcached_sasl(s, request);
		break;
	case MC_REFUSED:
		STAT_ADD(s->proxy, refused, 1);
		say_error(s, request, "CLIENT_ERROR muproxy: %s", request->refusal);
		break;
	default:
		say_error(s, request, "ERROR");
		break;
	}
}

/* ------------------------------------------------------------------- the rest */

/*
 * A read that goes to a server as it is taken here is written anew; all others
 * are later.
 */
static void take(struct mp_session *s, const struct mc_request *request,
		 const struct mp_request_meta *meta)
{
	struct mc_deadlines *deadlines = s->proxy->locks.deadlines;
	struct mp_bytes bytes;
	size_t len;

	if (request->verb == MC_GETS && request->key_count > GETS_KEYS) {
		take_parts(s, request, MC_GETS_PART, "+gets", GETS_KEYS);
		return;
	}
	if (meta->class != MP_REQUEST_READ || meta->translate) {
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

	if (!mp_memcached_admits(s, request))
		return;
	switch (mp_classify_memcached(request, &meta, error)) {
	case MP_VERDICT_SERVE:
		take(s, request, &meta);
		break;
	case MP_VERDICT_LOCAL:
		answer(s, request);
		break;
	case MP_VERDICT_ERROR:
		STAT_ADD(s->proxy, refused, 1);
		say_error(s, request, "CLIENT_ERROR %s", error);
		break;
	}
}

static void say_bad(struct mp_session *s)
{
	struct mp_slice text = mc_parser_answer(s->parser.mc);

	STAT_ADD(s->proxy, protocol_errors, 1);
	say(s, text.data, text.len);
}

bool mp_memcached_input(struct mp_session *s, const char *data, size_t len, size_t *used)
{
	struct mc_request request;

	switch (mc_parse(s->parser.mc, data, len, used, &request)) {
	case MC_MORE:
		return false;
	case MC_BAD:
		say_bad(s);
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
