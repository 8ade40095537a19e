/* redis_multi.c - see redis_multi.h. Texts are those of Redis 7.0. */
#include "redis_multi.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"
#include "redis_local.h"
#include "redis_say.h"
#include "redis_wire.h"
#include "session.h"
#include "session_parts.h"
#include "state.h"
#include "transaction.h"

void mp_multi_free(struct mp_multi *multi)
{
	mp_buffer_free(&multi->queued);
	mp_buffer_free(&multi->watched);
}

static void unwatch(struct mp_multi *multi)
{
	mp_buffer_clear(&multi->watched);
	multi->watched_words = 0;
}

static void close_multi(struct mp_multi *multi)
{
	mp_buffer_clear(&multi->queued);
	multi->is_open = multi->is_aborted = multi->is_moved = multi->has_scan = false;
	multi->may_change = false;
	multi->count = 0;
}

void mp_multi_reset(struct mp_multi *multi)
{
	close_multi(multi);
	unwatch(multi);
}

/* ------------------------------------------------------------------ queueing */

static bool is_immediate(const char *name)
{
	static const char *const names[] = {"exec", "discard", "multi", "watch", "quit", "reset"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

bool mp_multi_queue(struct mp_session *s, const struct mp_command *command,
		    const struct resp_request *request)
{
	struct mp_multi *multi = &s->multi;

	if (!multi->is_open || is_immediate(command->name))
		return false;
	if (mp_pubsub_is_change(command)) {
		multi->is_aborted = true;
		mp_say_error(s, "ERR muproxy: %s is not served inside MULTI", command->name);
		return true;
	}
	if (mp_buffer_len(&multi->queued) + request->raw.len >
		    s->proxy->options.max_request_bytes ||
	    !redis_put_request(&multi->queued, request->argc, request->argv)) {
		multi->is_aborted = true;
		mp_say(s, "-ERR muproxy: the transaction is larger than a request may be\r\n");
		return true;
	}
	multi->count++;
	multi->may_change = multi->may_change || command->may_change;
	mp_say(s, "+QUEUED\r\n");
	return true;
}

bool mp_multi_lacks_memory(const struct mp_session *s, const struct mp_command *command)
{
	static const char *const names[] = {"exec", "discard", "quit", "reset"};

	if (!s->multi.is_open || mp_memory_word(s->proxy) != MP_MEMORY_FULL)
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], command->name) == 0)
			return false;
	return true;
}

void mp_multi_refused(struct mp_session *s, const char *error)
{
	if (strncmp(error, "EXECABORT", 9) == 0)
		mp_multi_reset(&s->multi); /* it was EXEC itself */
	else if (s->multi.is_open)
		s->multi.is_aborted = true;
}

/* ---------------------------------------------------------------------- EXEC */

/*
 * What the session answers by itself, in the place of the command. False: out of memory, or it
 * makes the request larger than one may be.
 */
static bool put_local(struct mp_session *s, const struct mp_command *command,
		      const struct resp_request *request, struct mp_buffer *out)
{
	struct mp_buffer reply = {0};
	struct mp_slice argv[2] = {{MP_TRANSACTION_REPLY, sizeof(MP_TRANSACTION_REPLY) - 1}};
	struct resp_request canned = {.argc = 2, .argv = argv};
	bool ok;

	s->multi.capture = &reply;
	mp_redis_local(s, command, request);
	s->multi.capture = NULL;
	argv[1] = mp_buffer_slice(&reply);
	ok = redis_put_request(out, canned.argc, canned.argv);
	mp_buffer_free(&reply);
	return ok && mp_buffer_len(out) <= s->proxy->options.max_request_bytes;
}

/* SELECT is executed by the backends, too: what follows it runs elsewhere. */
static bool is_good_select(struct mp_session *s, const struct resp_request *request)
{
	int64_t database;

	if (!mp_parse_i64(request->argv[1], &database) || database < 0 ||
	    database >= s->proxy->databases)
		return false;
	s->multi.database = (uint32_t)database;
	s->multi.is_moved = true;
	return true;
}

static bool put_one(struct mp_session *s, const struct resp_request *request, struct mp_buffer *out)
{
	char error[MP_ERROR_BYTES];
	const struct mp_command *command =
		mp_command_find(s->proxy->commands, request, error, sizeof(error));

	if (!command)
		return false; /* the backend has been replaced by one that does not know it */
	s->multi.has_scan = s->multi.has_scan || command->rewrite == MP_REWRITE_SCAN;
	if (command->class != MP_CLASS_LOCAL || strcmp(command->name, "ping") == 0 ||
	    strcmp(command->name, "echo") == 0 ||
	    (strcmp(command->name, "select") == 0 && is_good_select(s, request)))
		return mp_buffer_append(out, request->raw.data, request->raw.len);
	return put_local(s, command, request, out);
}

static bool put_all(struct mp_session *s, struct mp_buffer *out)
{
	struct mp_slice rest = mp_buffer_slice(&s->multi.queued);
	struct mp_proxy *proxy = s->proxy;

	while (rest.len > 0) {
		struct resp_request request;
		size_t used;

		if (!mp_parser_ready(proxy) ||
		    resp_parse(proxy->resp, rest.data, rest.len, &used, &request) != RESP_DONE) {
			mp_parser_spoilt(proxy);
			return false;
		}
		if (!put_one(s, &request, out))
			return false;
		rest.data += used;
		rest.len -= used;
	}
	return true;
}

static bool put_envelope(const struct mp_multi *multi, struct mp_buffer *out)
{
	char head[64];
	int len = snprintf(head, sizeof(head), "*%" PRIu32 "\r\n$%zu\r\n%s\r\n",
			   multi->watched_words + 1, sizeof(MP_TRANSACTION_ENVELOPE) - 1,
			   MP_TRANSACTION_ENVELOPE);

	return mp_buffer_append(out, head, (size_t)len) &&
	       mp_buffer_append(out, mp_buffer_data(&multi->watched),
				mp_buffer_len(&multi->watched));
}

static void send_exec(struct mp_session *s)
{
	struct mp_multi *multi = &s->multi;
	struct mp_buffer out = {0};
	struct mp_request_meta meta = {.protocol = MP_REDIS,
				       .class = MP_REQUEST_WRITE,
				       .database = s->database,
				       .resp = s->resp,
				       .transaction = true};
	struct mp_bytes bytes;

	multi->database = s->database;
	if (!put_envelope(multi, &out) || !put_all(s, &out) ||
	    mp_buffer_len(&out) > s->proxy->options.max_request_bytes ||
	    !mp_chunks_copy(&s->proxy->chunks, mp_buffer_slice(&out), &bytes)) {
		mp_buffer_free(&out);
		mp_say(s, "-EXECABORT Transaction discarded because of previous errors.\r\n");
		return;
	}
	mp_buffer_free(&out);
	meta.tokens = multi->has_scan;
	meta.noreply = s->is_silent;
	if (multi->is_moved) {
		meta.gates = true;
		meta.next_database = (uint8_t)multi->database;
	}
	if (mp_session_take_bytes(s, bytes, &meta))
		s->is_gated = meta.gates;
}

void mp_multi_exec(struct mp_session *s, const struct resp_request *request)
{
	struct mp_multi *multi = &s->multi;

	(void)request;
	if (!multi->is_open)
		mp_say(s, "-ERR EXEC without MULTI\r\n");
	else if (multi->is_aborted)
		mp_say(s, "-EXECABORT Transaction discarded because of previous errors.\r\n");
	else if (mp_buffer_len(&multi->queued) == 0 && multi->watched_words == 0)
		mp_say(s, "*0\r\n");
	else
		send_exec(s);
	if (multi->is_open)
		mp_multi_reset(multi);
}

/* ------------------------------------------------------------------- the others */

void mp_multi_begin(struct mp_session *s, const struct resp_request *request)
{
	(void)request;
	if (s->multi.is_open) {
		mp_say(s, "-ERR MULTI calls can not be nested\r\n");
		return;
	}
	s->multi.is_open = true;
	mp_say(s, "+OK\r\n");
}

void mp_multi_discard(struct mp_session *s, const struct resp_request *request)
{
	(void)request;
	if (!s->multi.is_open) {
		mp_say(s, "-ERR DISCARD without MULTI\r\n");
		return;
	}
	mp_multi_reset(&s->multi);
	mp_say(s, "+OK\r\n");
}

void mp_multi_unwatch(struct mp_session *s, const struct resp_request *request)
{
	(void)request;
	unwatch(&s->multi);
	mp_say(s, "+OK\r\n");
}

/* ---------------------------------------------------------------------- WATCH */

static bool put_word(struct mp_multi *multi, struct mp_slice word)
{
	char head[32];
	int len = snprintf(head, sizeof(head), "$%zu\r\n", word.len);

	multi->watched_words++;
	return mp_buffer_append(&multi->watched, head, (size_t)len) &&
	       mp_buffer_append(&multi->watched, word.data, word.len) &&
	       mp_buffer_append(&multi->watched, "\r\n", 2);
}

/* The next of the words that are remembered. */
static struct mp_slice take_word(struct mp_slice *rest)
{
	const char *text = (const char *)memchr(rest->data, '\n', rest->len) + 1;
	struct mp_slice word = {text, strtoul(rest->data + 1, NULL, 10)};

	rest->len -= (size_t)(word.data + word.len + 2 - rest->data);
	rest->data = word.data + word.len + 2;
	return word;
}

/* A key is watched from the first time on; as in Redis, to look costs what is watched already. */
static bool is_watched(const struct mp_multi *multi, struct mp_slice database, struct mp_slice key)
{
	struct mp_slice rest = mp_buffer_slice(&multi->watched);

	while (rest.len > 0) {
		bool same;

		take_word(&rest); /* ballot */
		take_word(&rest); /* touches */
		same = mp_slice_equal(take_word(&rest), database);
		if (mp_slice_equal(take_word(&rest), key) && same)
			return true;
	}
	return false;
}

/* token: "<ballot> <touches>". False: out of memory, or of what a request may hold. */
static bool remember(struct mp_session *s, const struct resp_request *watch, struct mp_slice token,
		     uint32_t database)
{
	const char *blank = memchr(token.data, ' ', token.len);
	struct mp_slice ballot = {token.data, (size_t)(blank - token.data)};
	struct mp_slice touches = {blank + 1, token.len - ballot.len - 1};
	char digits[16];
	struct mp_slice number = {digits,
				  (size_t)snprintf(digits, sizeof(digits), "%" PRIu32, database)};

	for (int i = 1; i < watch->argc; i++) {
		if (is_watched(&s->multi, number, watch->argv[i]))
			continue;
		if (!put_word(&s->multi, ballot) || !put_word(&s->multi, touches) ||
		    !put_word(&s->multi, number) || !put_word(&s->multi, watch->argv[i]))
			return false;
	}
	return mp_buffer_len(&s->multi.watched) <= s->proxy->options.max_request_bytes;
}

struct mp_slice mp_multi_on_reply(struct mp_session *s, struct mp_request *r, struct mp_slice reply)
{
	static const struct mp_slice ok = {"+OK\r\n", 5};
	struct resp_request watch;

	s->is_gated = false;
	r->meta.gates = false; /* the rest of the reply, if any, is just passed on */
	mp_session_mark_dirty(s);
	if (!r->meta.watch) {
		if (reply.len > 1 && reply.data[0] == '*' && reply.data[1] != '-')
			s->database = r->meta.next_database;
		return reply;
	}
	if (reply.len < 4 || reply.data[0] != '+')
		return reply;
	if (!mp_reparse_redis(s->proxy, mp_bytes_slice(&r->raw), &watch) ||
	    !remember(s, &watch, (struct mp_slice){reply.data + 1, reply.len - 3},
		      r->meta.database))
		mp_session_kill(s);
	return ok;
}
