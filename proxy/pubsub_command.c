/* pubsub_command.c - see pubsub.h: what clients send. Texts are those of Redis 7.0. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "classify.h"
#include "command_special.h"
#include "glob.h"
#include "pubsub.h"
#include "redis_say.h"
#include "redis_wire.h"
#include "session_parts.h"
#include "state.h"

/* ------------------------------------------------------------- confirmations */

static const struct change {
	const char *name;
	enum mp_topic_kind kind;
	bool begins;
} changes[] = {
	{"subscribe", MP_TOPIC_CHANNEL, true},     {"psubscribe", MP_TOPIC_PATTERN, true},
	{"ssubscribe", MP_TOPIC_SHARD, true},      {"unsubscribe", MP_TOPIC_CHANNEL, false},
	{"punsubscribe", MP_TOPIC_PATTERN, false}, {"sunsubscribe", MP_TOPIC_SHARD, false},
};

static const struct change *change_of(struct mp_slice name)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		if (mp_arg_is(name, changes[i].name))
			return &changes[i];
	return NULL;
}

/* Channels and patterns count together, shard channels by themselves. */
static uint32_t count_of(const struct mp_subscriber *subscriber, enum mp_topic_kind kind)
{
	if (kind == MP_TOPIC_SHARD)
		return subscriber->told[MP_TOPIC_SHARD];
	return subscriber->told[MP_TOPIC_CHANNEL] + subscriber->told[MP_TOPIC_PATTERN];
}

static void put(struct mp_session *s, struct mp_slice piece)
{
	if (!s->multi.capture)
		mp_session_put(s, piece);
	else if (!mp_buffer_append(s->multi.capture, piece.data, piece.len))
		mp_session_kill(s);
}

static void put_text(struct mp_session *s, const char *wire)
{
	put(s, mp_slice_of(wire));
}

/* name.data NULL: there was none to unsubscribe from. */
static void confirm(struct mp_session *s, const struct change *change, struct mp_slice name)
{
	char text[64];

	snprintf(text, sizeof(text), "%c3\r\n$%zu\r\n%s\r\n", s->resp == 3 ? '>' : '*',
		 strlen(change->name), change->name);
	put_text(s, text);
	if (name.data) {
		snprintf(text, sizeof(text), "$%zu\r\n", name.len);
		put_text(s, text);
		put(s, name);
		put_text(s, "\r\n");
	} else {
		put(s, mp_resp_nil(s->resp));
	}
	snprintf(text, sizeof(text), ":%" PRIu32 "\r\n", count_of(s->subscriber, change->kind));
	put_text(s, text);
}

/* ------------------------------------------------------------- what is changed */

/* In an EXEC it may be subscribed to again, and the server is to be so still: see settle. */
static void drop(struct mp_subscription *subscription)
{
	if (subscription->session->multi.capture)
		mp_pubsub_untell(subscription);
	else
		mp_pubsub_unsubscribe(subscription);
}

static void unsubscribe_one(struct mp_session *s, const struct change *change, struct mp_slice name)
{
	struct mp_subscription *subscription = mp_pubsub_find(s, change->kind, name);

	if (subscription)
		drop(subscription);
	confirm(s, change, name);
}

static void unsubscribe_every(struct mp_session *s, const struct change *change)
{
	struct mp_subscription *subscription = s->subscriber->all[change->kind], *next;
	struct mp_buffer name = {0};
	bool is_any = false;

	for (; subscription && !s->dead; subscription = next) {
		const struct mp_topic *topic = subscription->topic;

		next = subscription->hh.next;
		if (!subscription->is_told)
			continue;
		mp_buffer_clear(&name);
		if (!mp_buffer_append(&name, topic->name, topic->len)) {
			mp_session_kill(s);
			break;
		}
		drop(subscription);
		is_any = true;
		/* An empty name has no bytes to point to, and is a name even so. */
		confirm(s, change,
			mp_buffer_len(&name) ? mp_buffer_slice(&name) : (struct mp_slice){"", 0});
	}
	if (!is_any)
		confirm(s, change, (struct mp_slice){0});
	mp_buffer_free(&name);
}

static void unsubscribe(struct mp_session *s, const struct change *change,
			const struct resp_request *r)
{
	for (int i = 1; i < r->argc && !s->dead; i++)
		unsubscribe_one(s, change, r->argv[i]);
	if (r->argc == 1)
		unsubscribe_every(s, change);
}

static void tell_all(struct mp_session *s, const struct change *change,
		     const struct resp_request *r)
{
	for (int i = 1; i < r->argc && !s->dead; i++) {
		mp_pubsub_tell(mp_pubsub_find(s, change->kind, r->argv[i]));
		confirm(s, change, r->argv[i]);
	}
}

/* The session is read on from. */
static void release(struct mp_subscriber *subscriber)
{
	struct mp_session *s = subscriber->session;

	mp_buffer_free(&subscriber->request);
	s->is_gated = false;
	mp_session_mark_dirty(s);
}

/* It was taken, so it is a whole request. False: out of memory; the session is over. */
static bool look_again(struct mp_subscriber *subscriber, struct resp_request *r)
{
	struct mp_session *s = subscriber->session;

	if (mp_reparse_redis(s->proxy, mp_buffer_slice(&subscriber->request), r))
		return true;
	mp_session_kill(s);
	return false;
}

/* What is not told of is what this request has begun. */
static void undo(struct mp_session *s, const struct change *change, const struct resp_request *r)
{
	for (int i = 1; i < r->argc; i++) {
		struct mp_subscription *subscription = mp_pubsub_find(s, change->kind, r->argv[i]);

		if (subscription && !subscription->is_told)
			mp_pubsub_unsubscribe(subscription);
	}
}

void mp_pubsub_finish(struct mp_subscriber *subscriber, bool confirmed)
{
	struct mp_session *s = subscriber->session;
	const struct change *change;
	struct resp_request r;

	if (subscriber->is_waiting)
		TAILQ_REMOVE(&s->proxy->pubsub.waiting, subscriber, waiting);
	subscriber->is_waiting = false;
	subscriber->barrier = 0;
	if (s->dead)
		return;
	if (mp_buffer_len(&subscriber->request) == 0) {
		mp_multi_prepared(s, confirmed);
		return;
	}
	if (!look_again(subscriber, &r))
		return;
	change = change_of(r.argv[0]);
	if (confirmed) {
		tell_all(s, change, &r);
	} else {
		undo(s, change, &r);
		put_text(s, "-ERR muproxy: this replica's server does not confirm the "
			    "subscription\r\n");
	}
	release(subscriber);
}

/* The server is to be subscribed to all of it: subscriber->barrier. False: out of memory. */
static bool ask(struct mp_subscriber *subscriber, const struct change *change,
		const struct resp_request *r)
{
	for (int i = 1; i < r->argc; i++) {
		const struct mp_subscription *subscription =
			mp_pubsub_subscribe(subscriber->session, change->kind, r->argv[i]);

		if (!subscription)
			return false;
		if (subscription->topic->barrier > subscriber->barrier)
			subscriber->barrier = subscription->topic->barrier;
	}
	return true;
}

/* Until the server has confirmed that. */
static void await(struct mp_subscriber *subscriber)
{
	struct mp_session *s = subscriber->session;
	struct mp_pubsub *pubsub = &s->proxy->pubsub;

	if (pubsub->is_up && subscriber->barrier <= pubsub->confirmed) {
		mp_pubsub_finish(subscriber, true);
		return;
	}
	subscriber->is_waiting = true;
	subscriber->since_ms = mp_now_ms(s->proxy);
	TAILQ_INSERT_TAIL(&pubsub->waiting, subscriber, waiting);
}

/* Ask the server for what it is not subscribed to yet. */
static void begin(struct mp_subscriber *subscriber, const struct change *change,
		  const struct resp_request *r)
{
	subscriber->barrier = 0;
	if (ask(subscriber, change, r)) {
		await(subscriber);
		return;
	}
	undo(subscriber->session, change, r);
	put_text(subscriber->session, "-ERR muproxy: no memory for more subscriptions\r\n");
	release(subscriber);
}

void mp_pubsub_carry_out(struct mp_subscriber *subscriber)
{
	struct mp_session *s = subscriber->session;
	const struct change *change;
	struct resp_request r;

	if (s->dead || !look_again(subscriber, &r))
		return;
	change = change_of(r.argv[0]);
	if (change->begins) {
		begin(subscriber, change, &r);
		return;
	}
	unsubscribe(s, change, &r);
	release(subscriber);
}

/* ----------------------------------------------------------------- in an EXEC */

bool mp_pubsub_ask(struct mp_session *s, const struct resp_request *r)
{
	struct mp_subscriber *subscriber = mp_pubsub_subscriber(s);

	return subscriber && ask(subscriber, change_of(r->argv[0]), r);
}

void mp_pubsub_await(struct mp_session *s)
{
	struct mp_subscriber *subscriber = mp_pubsub_subscriber(s);

	if (!subscriber)
		mp_session_kill(s);
	else if (subscriber->barrier == 0)
		mp_multi_prepared(s, true);
	else
		await(subscriber);
}

void mp_pubsub_change_in_exec(struct mp_session *s, const struct resp_request *r)
{
	const struct change *change = change_of(r->argv[0]);

	if (!change->begins)
		unsubscribe(s, change, r);
	else if (change->kind == MP_TOPIC_SHARD)
		mp_say(s, "-ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client\r\n");
	else
		tell_all(s, change, r);
}

void mp_pubsub_settle(struct mp_session *s)
{
	struct mp_subscription *subscription, *next;

	if (!s->subscriber)
		return;
	s->subscriber->barrier = 0;
	for (int kind = 0; kind < MP_TOPIC_KINDS; kind++) {
		for (subscription = s->subscriber->all[kind]; subscription; subscription = next) {
			next = subscription->hh.next;
			if (!subscription->is_told)
				mp_pubsub_unsubscribe(subscription);
		}
	}
}

/* ------------------------------------------------------------ outside of one */

/* Nothing more is read until it is done, so that nothing has to be kept in order with it. */
void mp_pubsub_change(struct mp_session *s, const struct resp_request *r)
{
	struct mp_subscriber *subscriber = mp_pubsub_subscriber(s);

	if (!subscriber || !redis_put_request(&subscriber->request, r->argc, r->argv)) {
		mp_session_kill(s);
		return;
	}
	s->is_gated = true;
	if (!s->head)
		mp_pubsub_carry_out(subscriber);
}

/* ---------------------------------------------------------------- the others */

/* An array of as many elements as were put. */
static void say_array(struct mp_session *s, size_t elements, struct mp_buffer *body, bool ok)
{
	struct mp_buffer reply = {0};
	char head[32];
	int len = snprintf(head, sizeof(head), "*%zu\r\n", elements);

	ok = ok && mp_buffer_append(&reply, head, (size_t)len) &&
	     mp_buffer_append(&reply, mp_buffer_data(body), mp_buffer_len(body));
	if (ok)
		mp_session_say(s, mp_buffer_slice(&reply));
	else
		mp_session_kill(s);
	mp_buffer_free(&reply);
	mp_buffer_free(body);
}

static bool put_bulk(struct mp_buffer *out, struct mp_slice bulk)
{
	char head[32];
	int len = snprintf(head, sizeof(head), "$%zu\r\n", bulk.len);

	return mp_buffer_append(out, head, (size_t)len) &&
	       mp_buffer_append(out, bulk.data, bulk.len) && mp_buffer_append(out, "\r\n", 2);
}

void mp_pubsub_pong(struct mp_session *s, struct mp_slice text)
{
	struct mp_buffer body = {0};
	bool ok = put_bulk(&body, (struct mp_slice){"pong", 4}) && put_bulk(&body, text);

	say_array(s, 2, &body, ok);
}

bool mp_pubsub_is_change(const struct mp_command *command)
{
	return change_of((struct mp_slice){command->name, strlen(command->name)}) != NULL;
}

bool mp_pubsub_begins(const struct mp_command *command)
{
	const struct change *change =
		change_of((struct mp_slice){command->name, strlen(command->name)});

	return change && change->begins && change->kind != MP_TOPIC_SHARD;
}

bool mp_pubsub_forbids(const struct mp_session *s, const struct mp_command *command, char *error)
{
	static const char *const allowed[] = {"ping", "quit", "reset"};
	const char *name = command->name;

	if (s->resp != 2 || !mp_pubsub_is_subscribed(s) || mp_pubsub_is_change(command))
		return false;
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		if (strcmp(name, allowed[i]) == 0)
			return false;
	snprintf(error, MP_ERROR_BYTES,
		 "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
		 "RESET are allowed in this context",
		 name);
	return true;
}

struct mp_slice mp_pubsub_count(const struct mp_session *s, const struct resp_request *publish,
				struct mp_slice reply, char number[MP_PUBSUB_NUMBER_BYTES])
{
	int len;

	if (reply.len == 0 || reply.data[0] != ':')
		return reply;
	len = snprintf(number, MP_PUBSUB_NUMBER_BYTES, ":%" PRIu64 "\r\n",
		       mp_pubsub_receivers(&s->proxy->pubsub, publish->argv[1],
					   mp_arg_is(publish->argv[0], "spublish")));
	return (struct mp_slice){number, (size_t)len};
}

struct mp_slice mp_pubsub_on_reply(struct mp_session *s, struct mp_request *r,
				   struct mp_slice reply, char number[MP_PUBSUB_NUMBER_BYTES])
{
	struct resp_request publish;

	if (!mp_reparse_redis(s->proxy, mp_bytes_slice(&r->raw), &publish))
		return reply;
	return mp_pubsub_count(s, &publish, reply, number);
}

static void say_channels(struct mp_session *s, const struct resp_request *r,
			 enum mp_topic_kind kind)
{
	const struct mp_topic *topic;
	struct mp_buffer body = {0};
	size_t count = 0;
	bool ok = true;

	if (r->argc > 3) {
		mp_say_error(s,
			     "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try "
			     "PUBSUB HELP.",
			     (int)r->argv[1].len, r->argv[1].data);
		return;
	}
	for (topic = s->proxy->pubsub.topics[kind]; topic && ok; topic = topic->hh.next) {
		struct mp_slice name = {topic->name, topic->len};

		if (topic->told == 0 || (r->argc == 3 && !mp_glob_match(r->argv[2], name)))
			continue;
		ok = put_bulk(&body, name);
		count++;
	}
	say_array(s, count, &body, ok);
}

static void say_numsub(struct mp_session *s, const struct resp_request *r, enum mp_topic_kind kind)
{
	struct mp_buffer body = {0};
	bool ok = true;

	for (int i = 2; i < r->argc && ok; i++) {
		const struct mp_topic *topic;
		char number[32];

		HASH_FIND(hh, s->proxy->pubsub.topics[kind], r->argv[i].data, r->argv[i].len,
			  topic);
		snprintf(number, sizeof(number), ":%" PRIu32 "\r\n", topic ? topic->told : 0);
		ok = put_bulk(&body, r->argv[i]) && mp_buffer_append(&body, number, strlen(number));
	}
	say_array(s, 2 * ((size_t)r->argc - 2), &body, ok);
}

void mp_pubsub_channels(struct mp_session *s, const struct resp_request *r)
{
	say_channels(s, r, MP_TOPIC_CHANNEL);
}

void mp_pubsub_shardchannels(struct mp_session *s, const struct resp_request *r)
{
	say_channels(s, r, MP_TOPIC_SHARD);
}

void mp_pubsub_numsub(struct mp_session *s, const struct resp_request *r)
{
	say_numsub(s, r, MP_TOPIC_CHANNEL);
}

void mp_pubsub_shardnumsub(struct mp_session *s, const struct resp_request *r)
{
	say_numsub(s, r, MP_TOPIC_SHARD);
}

void mp_pubsub_numpat(struct mp_session *s, const struct resp_request *r)
{
	const struct mp_topic *topic = s->proxy->pubsub.topics[MP_TOPIC_PATTERN];
	int64_t count = 0;

	(void)r;
	for (; topic; topic = topic->hh.next)
		count += topic->told > 0;
	mp_say_number(s, count);
}
