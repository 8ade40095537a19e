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
	multi->is_open = multi->is_aborted = multi->has_own = multi->has_scan = false;
	multi->may_change = multi->subscribes = multi->is_silent = false;
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

/* Is it in the session's hands, in an EXEC? PING answers subscribers in a way of its own. */
static bool is_own(const struct mp_multi *multi, const struct mp_command *command)
{
	return command->class == MP_CLASS_LOCAL && strcmp(command->name, "echo") != 0 &&
	       (multi->subscribes || strcmp(command->name, "ping") != 0);
}

static void queue(struct mp_multi *multi, const struct mp_command *command)
{
	multi->count++;
	multi->may_change = multi->may_change || command->may_change;
	multi->subscribes = multi->subscribes || mp_pubsub_is_change(command);
	multi->has_own =
		multi->has_own || is_own(multi, command) || command->rewrite == MP_REWRITE_PUBLISH;
}

bool mp_multi_queue(struct mp_session *s, const struct mp_command *command,
		    const struct resp_request *request)
{
	struct mp_multi *multi = &s->multi;

	if (!multi->is_open || is_immediate(command->name))
		return false;
	if (mp_buffer_len(&multi->queued) + request->raw.len >
		    s->proxy->options.max_request_bytes ||
	    !redis_put_request(&multi->queued, request->argc, request->argv)) {
		multi->is_aborted = true;
		mp_say(s, "-ERR muproxy: the transaction is larger than a request may be\r\n");
		return true;
	}
	queue(multi, command);
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

/* In the place of what the session carries out, when the reply is there: a reply that it knows. */
static bool put_blank(struct mp_buffer *out)
{
	static const struct mp_slice argv[] = {
		{MP_TRANSACTION_REPLY, sizeof(MP_TRANSACTION_REPLY) - 1}, {"+\r\n", 3}};

	return redis_put_request(out, 2, argv);
}

/* SELECT is executed by the backends, too: what follows it runs elsewhere. */
static bool is_good_select(const struct mp_session *s, const struct mp_command *command,
			   const struct resp_request *request)
{
	int64_t database;

	return strcmp(command->name, "select") == 0 && mp_parse_i64(request->argv[1], &database) &&
	       database >= 0 && database < s->proxy->databases;
}

/*
 * The next of what is queued, which moves behind it. NULL: out of memory, or the backend has
 * been replaced by one that does not know it.
 */
static const struct mp_command *next_queued(struct mp_proxy *proxy, struct mp_slice *rest,
					    struct resp_request *request)
{
	char error[MP_ERROR_BYTES];
	size_t used;

	if (!mp_parser_ready(proxy) ||
	    resp_parse(proxy->resp, rest->data, rest->len, &used, request) != RESP_DONE) {
		mp_parser_spoilt(proxy);
		return NULL;
	}
	rest->data += used;
	rest->len -= used;
	return mp_command_find(proxy->commands, request, error, sizeof(error));
}

static bool put_all(struct mp_session *s, struct mp_buffer *out)
{
	struct mp_slice rest = mp_buffer_slice(&s->multi.queued);
	bool ok = true;

	while (rest.len > 0 && ok) {
		struct resp_request request;
		const struct mp_command *command = next_queued(s->proxy, &rest, &request);

		if (!command)
			return false;
		s->multi.has_scan = s->multi.has_scan || command->rewrite == MP_REWRITE_SCAN;
		if (is_own(&s->multi, command) && !is_good_select(s, command, &request))
			ok = put_blank(out);
		else
			ok = mp_buffer_append(out, request.raw.data, request.raw.len);
	}
	return ok;
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
				       .transaction = true,
				       .gates = multi->has_own,
				       .blanks = multi->has_own,
				       .noreply = multi->is_silent};
	struct mp_bytes bytes;

	if (!put_envelope(multi, &out) || !put_all(s, &out) ||
	    mp_buffer_len(&out) > s->proxy->options.max_request_bytes ||
	    !mp_chunks_copy(&s->proxy->chunks, mp_buffer_slice(&out), &bytes)) {
		mp_buffer_free(&out);
		mp_pubsub_settle(s);
		mp_say(s, "-EXECABORT Transaction discarded because of previous errors.\r\n");
		mp_multi_reset(multi);
		return;
	}
	mp_buffer_free(&out);
	meta.tokens = multi->has_scan;
	if (!mp_session_take_bytes(s, bytes, &meta) || !meta.blanks)
		mp_multi_reset(multi);
	else
		s->is_gated = true; /* what is queued is looked at again when the reply is there */
}

/* Ask the server for all that is to be subscribed to. False: no memory for that. */
static bool ask_for_subscriptions(struct mp_session *s)
{
	struct mp_slice rest = mp_buffer_slice(&s->multi.queued);

	while (rest.len > 0) {
		struct resp_request request;
		const struct mp_command *command = next_queued(s->proxy, &rest, &request);

		if (!command || (mp_pubsub_begins(command) && !mp_pubsub_ask(s, &request)))
			return false;
	}
	return true;
}

void mp_multi_prepared(struct mp_session *s, bool confirmed)
{
	s->is_gated = false;
	mp_session_mark_dirty(s);
	if (confirmed) {
		send_exec(s);
		return;
	}
	mp_pubsub_settle(s);
	mp_multi_reset(&s->multi);
	mp_say(s, "-EXECABORT muproxy: this replica's server does not confirm the "
		  "subscription; nothing was executed\r\n");
}

static void prepare_exec(struct mp_session *s)
{
	s->multi.is_silent = s->is_silent;
	if (!s->multi.subscribes) {
		send_exec(s);
	} else if (!ask_for_subscriptions(s)) {
		mp_pubsub_settle(s);
		mp_multi_reset(&s->multi);
		mp_say(s, "-EXECABORT muproxy: no memory for more subscriptions\r\n");
	} else {
		s->is_gated = true;
		mp_pubsub_await(s);
	}
}

void mp_multi_exec(struct mp_session *s, const struct resp_request *request)
{
	struct mp_multi *multi = &s->multi;
	const char *answer = NULL;

	(void)request;
	if (!multi->is_open)
		answer = "-ERR EXEC without MULTI\r\n";
	else if (multi->is_aborted)
		answer = "-EXECABORT Transaction discarded because of previous errors.\r\n";
	else if (mp_buffer_len(&multi->queued) == 0 && multi->watched_words == 0)
		answer = "*0\r\n";
	if (!answer) {
		prepare_exec(s);
		return;
	}
	mp_say(s, answer);
	if (multi->is_open)
		mp_multi_reset(multi);
}

/* ------------------------------------------------------- the reply to an EXEC */

/* The next reply of those in *rest, which moves behind it. False: there is none. */
static bool next_reply(struct mp_slice *rest, struct mp_slice *reply)
{
	struct resp_framer framer = {0};
	size_t used;

	if (resp_frame(&framer, rest->data, rest->len, &used) != RESP_DONE)
		return false;
	*reply = (struct mp_slice){rest->data, used};
	rest->data += used;
	rest->len -= used;
	return true;
}

/* theirs: what the transaction's reply has in its place. */
static void finish_one(struct mp_session *s, const struct mp_command *command,
		       const struct resp_request *request, struct mp_slice theirs)
{
	char number[MP_PUBSUB_NUMBER_BYTES];

	if (mp_pubsub_is_change(command)) {
		mp_pubsub_change_in_exec(s, request);
	} else if (is_own(&s->multi, command)) {
		mp_redis_local(s, command, request);
	} else {
		if (command->rewrite == MP_REWRITE_PUBLISH)
			theirs = mp_pubsub_count(s, request, theirs, number);
		mp_session_say(s, theirs);
	}
}

static bool finish_all(struct mp_session *s, struct mp_slice reply)
{
	struct mp_slice queued = mp_buffer_slice(&s->multi.queued);
	const char *end = memchr(reply.data, '\n', reply.len);
	struct mp_slice head = {reply.data, end ? (size_t)(end + 1 - reply.data) : 0};

	mp_session_say(s, head);
	reply.data += head.len;
	reply.len -= head.len;
	while (queued.len > 0 && !s->dead) {
		struct resp_request request;
		const struct mp_command *command = next_queued(s->proxy, &queued, &request);
		struct mp_slice theirs;

		if (!command || !next_reply(&reply, &theirs))
			return false;
		finish_one(s, command, &request, theirs);
	}
	return !s->dead;
}

bool mp_multi_on_exec(struct mp_session *s, struct mp_slice reply, struct mp_buffer *out)
{
	bool executed = reply.len > 1 && reply.data[0] == '*' && reply.data[1] != '-';
	bool ok = true;

	s->is_gated = false;
	mp_session_mark_dirty(s);
	if (executed) {
		s->multi.capture = out;
		s->is_silent = s->multi.is_silent;
		ok = finish_all(s, reply);
		s->is_silent = false;
		s->multi.capture = NULL;
	} else if (!s->multi.is_silent) {
		ok = mp_buffer_append(out, reply.data, reply.len);
	}
	if (s->multi.subscribes)
		mp_pubsub_settle(s);
	mp_multi_reset(&s->multi);
	if (!ok)
		mp_session_kill(s);
	return ok;
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

struct mp_slice mp_multi_on_watch(struct mp_session *s, struct mp_request *r, struct mp_slice reply)
{
	static const struct mp_slice ok = {"+OK\r\n", 5};
	struct resp_request watch;

	s->is_gated = false;
	r->meta.gates = false; /* the rest of the reply, if any, is just passed on */
	mp_session_mark_dirty(s);
	if (reply.len < 4 || reply.data[0] != '+')
		return reply;
	if (!mp_reparse_redis(s->proxy, mp_bytes_slice(&r->raw), &watch) ||
	    !remember(s, &watch, (struct mp_slice){reply.data + 1, reply.len - 3},
		      r->meta.database))
		mp_session_kill(s);
	return ok;
}
