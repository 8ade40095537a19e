/* pubsub_wire.c - see pubsub.h: the connection on which everything is heard, and the marks. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "classify.h"
#include "command_special.h"
#include "decimal.h"
#include "log.h"
#include "pubsub.h"
#include "redis_transfer.h"
#include "redis_wire.h"
#include "state.h"

enum {
	RECONNECT_MIN_MS = 5,
	RECONNECT_MAX_MS = 200,
};

/*
 * The server drops a subscriber that leaves too much unread. This one reads for
 * many clients, and what they leave unread is bounded here.
 */
#define OUTPUT_LIMIT "pubsub 268435456 0 0"

/* --------------------------------------------------------------- what is sent */

static void send_words(struct mp_pubsub *pubsub, int count, const struct mp_slice *words)
{
	if (!redis_put_request(&pubsub->wire.out, count, words))
		mp_wire_break(&pubsub->wire, "out of memory for what is to be sent");
}

static uint64_t send_topic(struct mp_pubsub *pubsub, const char *command, struct mp_slice name)
{
	struct mp_slice words[2] = {mp_slice_of(command), name};

	send_words(pubsub, 2, words);
	return ++pubsub->sent;
}

static void subscribe(struct mp_pubsub *pubsub, struct mp_topic *topic)
{
	static const char *const commands[MP_TOPIC_KINDS] = {"SUBSCRIBE", "PSUBSCRIBE",
							     "SSUBSCRIBE"};
	struct mp_slice name = {topic->name, topic->len};

	topic->barrier = send_topic(pubsub, commands[topic->kind], name);
}

static void greet(struct mp_proxy *proxy)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;
	struct mp_slice auth[2] = {mp_slice_of("AUTH")};
	struct mp_slice name[3] = {mp_slice_of("CLIENT"), mp_slice_of("SETNAME"),
				   mp_slice_of("muproxy-subscribe")};
	struct mp_slice limit[4] = {mp_slice_of("CONFIG"), mp_slice_of("SET"),
				    mp_slice_of("client-output-buffer-limit"),
				    mp_slice_of(OUTPUT_LIMIT)};

	pubsub->greeting = 2;
	if (proxy->options.redis_password) {
		auth[1] = mp_slice_of(proxy->options.redis_password);
		send_words(pubsub, 2, auth);
		pubsub->greeting++;
	}
	send_words(pubsub, 3, name);
	send_words(pubsub, 4, limit);
}

/* ------------------------------------------------------------------ the marks */

/* LSNs of another log mean nothing in this one. */
static void forget_lsns(struct mp_pubsub *pubsub)
{
	struct mp_subscription *subscription;
	struct mp_topic *topic;

	pubsub->cut_lsn = pubsub->heard_lsn = pubsub->answered_lsn = pubsub->replay_lsn = 0;
	mp_fifo_clear(&pubsub->unheard);
	for (int kind = 0; kind < MP_TOPIC_KINDS; kind++)
		for (topic = pubsub->topics[kind]; topic; topic = topic->hh.next)
			LIST_FOREACH(subscription, &topic->subscriptions, of_topic)
	subscription->after_lsn = 0;
}

bool mp_pubsub_marks(struct mp_proxy *proxy, uint64_t lsn, bool speaks)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;
	uint64_t *unheard;

	if (pubsub->era != proxy->apply.era) {
		pubsub->era = proxy->apply.era;
		forget_lsns(pubsub);
	}
	if (!pubsub->is_up || !mp_pubsub_has_topics(pubsub) ||
	    !(speaks || lsn <= pubsub->replay_lsn))
		return false;
	unheard = mp_fifo_push(&pubsub->unheard);
	*unheard = lsn;
	return true;
}

size_t mp_pubsub_put_mark(const struct mp_pubsub *pubsub, uint64_t lsn,
			  char out[MP_PUBSUB_MARK_BYTES])
{
	char number[MP_DECIMAL_BYTES];
	struct mp_slice words[3] = {mp_slice_of("PUBLISH"),
				    mp_slice_of(pubsub->mark),
				    {number, mp_format_u64(number, lsn)}};

	return resp_encode(out, MP_PUBSUB_MARK_BYTES, 3, words);
}

static void end_entry(struct mp_pubsub *pubsub)
{
	pubsub->entry_lsn = 0;
	pubsub->entry_count = pubsub->entry_skip = 0;
}

static void on_mark(struct mp_pubsub *pubsub, struct mp_slice number)
{
	int64_t lsn;

	if (!mp_parse_i64(number, &lsn))
		return;
	if (lsn > 0) {
		end_entry(pubsub);
		pubsub->entry_lsn = (uint64_t)lsn;
		if (pubsub->entry_lsn == pubsub->cut_lsn)
			pubsub->entry_skip = pubsub->cut_count;
		return;
	}
	if (pubsub->entry_lsn > pubsub->heard_lsn)
		pubsub->heard_lsn = pubsub->entry_lsn;
	while (pubsub->unheard.count > 0 &&
	       *(uint64_t *)mp_fifo_at(&pubsub->unheard, 0) <= pubsub->entry_lsn)
		mp_fifo_pop(&pubsub->unheard);
	end_entry(pubsub);
}

/* ------------------------------------------------------------------- messages */

static bool is_event(struct mp_slice channel)
{
	return mp_starts_with(channel, "__keyspace@") || mp_starts_with(channel, "__keyevent@");
}

/* What we write into the hidden database is nobody's business. */
static bool is_hidden(const struct mp_proxy *proxy, struct mp_slice channel)
{
	char database[MP_DECIMAL_BYTES + sizeof("__:")];

	memcpy(database + mp_format_i64(database, proxy->databases), "__:", sizeof("__:"));
	channel.data += sizeof("__keyspace@") - 1;
	channel.len -= sizeof("__keyspace@") - 1;
	return mp_starts_with(channel, database);
}

/* Was it handed on before? */
static bool is_repeated(struct mp_pubsub *pubsub, struct mp_slice channel)
{
	if (pubsub->entry_lsn == 0)
		return false;
	if (is_event(channel))
		return pubsub->entry_lsn <= pubsub->answered_lsn;
	return pubsub->entry_lsn <= pubsub->heard_lsn ||
	       ++pubsub->entry_count <= pubsub->entry_skip;
}

static void on_message(struct mp_proxy *proxy, char *message, size_t len, enum mp_topic_kind kind)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;
	struct resp_request parts;
	struct mp_slice channel;

	if (!mp_reparse_redis(proxy, (struct mp_slice){message, len}, &parts) ||
	    parts.argc != (kind == MP_TOPIC_PATTERN ? 4 : 3)) {
		mp_wire_break(&pubsub->wire, "a message that is not understood");
		return;
	}
	channel = parts.argv[kind == MP_TOPIC_PATTERN ? 2 : 1];
	if (kind != MP_TOPIC_SHARD && mp_slice_is(channel, pubsub->mark)) {
		if (kind == MP_TOPIC_CHANNEL)
			on_mark(pubsub, parts.argv[2]);
		return;
	}
	if ((is_event(channel) && is_hidden(proxy, channel)) || redis_is_gate(proxy, channel) ||
	    is_repeated(pubsub, channel))
		return;
	mp_pubsub_deliver(proxy, kind, parts.argv[1], message, len);
}

static void serve_waiting(struct mp_pubsub *pubsub)
{
	struct mp_subscriber *first;

	while ((first = TAILQ_FIRST(&pubsub->waiting)) && pubsub->is_up &&
	       first->barrier <= pubsub->confirmed)
		mp_pubsub_finish(first, true);
}

static void on_reply(struct mp_proxy *proxy, struct mp_slice reply)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;
	char why[120];

	if (pubsub->greeting > 0) {
		pubsub->greeting--;
		return;
	}
	if (reply.data[0] == '*') {
		pubsub->confirmed++;
		serve_waiting(pubsub);
		return;
	}
	snprintf(why, sizeof(why), "%.*s", (int)(reply.len - 2), reply.data);
	mp_wire_break(&pubsub->wire, why);
}

static void take(struct mp_proxy *proxy, char *data, size_t len)
{
	struct mp_slice words[2];

	redis_command_head((struct mp_slice){data, len}, words);
	if (mp_slice_is(words[0], "message"))
		on_message(proxy, data, len, MP_TOPIC_CHANNEL);
	else if (mp_slice_is(words[0], "pmessage"))
		on_message(proxy, data, len, MP_TOPIC_PATTERN);
	else if (mp_slice_is(words[0], "smessage"))
		on_message(proxy, data, len, MP_TOPIC_SHARD);
	else
		on_reply(proxy, (struct mp_slice){data, len});
}

/* --------------------------------------------------------------------- events */

/*
 * After a loss, when both connections are there again: entries that were
 * executed but not heard to their ends will not come again.
 */
static void look_for_gaps(struct mp_proxy *proxy)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;

	if (!pubsub->was_lost || !pubsub->is_up ||
	    mp_target_of(proxy, MP_REDIS)->state != MP_BACKEND_READY)
		return;
	pubsub->was_lost = false;
	if (pubsub->unheard.count > 0)
		mp_pubsub_cut_all(proxy, "what the server had to tell them is lost");
	mp_fifo_clear(&pubsub->unheard);
}

static void on_up(void *ctx)
{
	struct mp_proxy *proxy = ctx;
	struct mp_pubsub *pubsub = &proxy->pubsub;
	struct mp_subscriber *waiting;
	struct mp_topic *topic;

	pubsub->is_up = true;
	greet(proxy);
	send_topic(pubsub, "SUBSCRIBE", mp_slice_of(pubsub->mark));
	for (int kind = 0; kind < MP_TOPIC_KINDS; kind++)
		for (topic = pubsub->topics[kind]; topic; topic = topic->hh.next)
			subscribe(pubsub, topic);
	pubsub->level_barrier = pubsub->sent;
	TAILQ_FOREACH(waiting, &pubsub->waiting, waiting)
		waiting->barrier = pubsub->sent;
	mp_wire_flush(&pubsub->wire);
	look_for_gaps(proxy);
}

static void on_bytes(void *ctx)
{
	struct mp_proxy *proxy = ctx;
	struct mp_pubsub *pubsub = &proxy->pubsub;
	struct mp_buffer *in = &pubsub->wire.in;

	mp_wire_reset_delay(&pubsub->wire);
	while (mp_buffer_len(in) > pubsub->scanned && !pubsub->wire.is_broken) {
		size_t used;
		enum resp_result result =
			resp_frame(&pubsub->framer, mp_buffer_data(in) + pubsub->scanned,
				   mp_buffer_len(in) - pubsub->scanned, &used);

		pubsub->scanned += used;
		if (result == RESP_MORE)
			return;
		if (result == RESP_ERROR) {
			mp_wire_break(&pubsub->wire, "it does not speak Redis's protocol");
			return;
		}
		take(proxy, mp_buffer_data(in), pubsub->scanned);
		mp_buffer_consume(in, pubsub->scanned);
		pubsub->scanned = 0;
	}
}

static void on_down(void *ctx, const char *why)
{
	struct mp_proxy *proxy = ctx;
	struct mp_pubsub *pubsub = &proxy->pubsub;

	if (pubsub->is_up && mp_pubsub_has_topics(pubsub))
		mp_warn("redis: subscriptions are interrupted: %s", why);
	if (pubsub->is_up)
		pubsub->was_lost = true;
	pubsub->is_up = false;
	pubsub->framer = (struct resp_framer){0};
	pubsub->scanned = 0;
	pubsub->confirmed = pubsub->sent;
	if (pubsub->entry_lsn > pubsub->heard_lsn) {
		pubsub->cut_lsn = pubsub->entry_lsn;
		pubsub->cut_count = pubsub->entry_count;
	}
	end_entry(pubsub);
}

static const struct mp_wire_events events = {.up = on_up, .bytes = on_bytes, .down = on_down};

/* ------------------------------------------------------------------ interface */

static void open_wire(struct mp_proxy *proxy)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;
	char why[160];

	snprintf(pubsub->mark, sizeof(pubsub->mark), "muproxy:%016" PRIx64,
		 proxy->options.origin_nonce);
	pubsub->is_open = true;
	pubsub->era = proxy->apply.era;
	/* The address was good for the data connection. */
	if (!mp_wire_open(&pubsub->wire, proxy->base, proxy->options.redis_backend,
			  RECONNECT_MIN_MS, RECONNECT_MAX_MS, &events, proxy, why, sizeof(why)))
		mp_error("redis: no subscriptions: %s", why);
}

void mp_pubsub_wire_subscribe(struct mp_proxy *proxy, struct mp_topic *topic)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;

	if (!pubsub->is_open)
		open_wire(proxy);
	topic->barrier = UINT64_MAX;
	if (pubsub->is_up)
		subscribe(pubsub, topic);
}

void mp_pubsub_wire_unsubscribe(struct mp_proxy *proxy, const struct mp_topic *topic)
{
	static const char *const commands[MP_TOPIC_KINDS] = {"UNSUBSCRIBE", "PUNSUBSCRIBE",
							     "SUNSUBSCRIBE"};

	if (proxy->pubsub.is_up)
		send_topic(&proxy->pubsub, commands[topic->kind],
			   (struct mp_slice){topic->name, topic->len});
}

bool mp_pubsub_is_level(const struct mp_pubsub *pubsub)
{
	return pubsub->told == 0 || (pubsub->is_up && pubsub->confirmed >= pubsub->level_barrier);
}

void mp_pubsub_backend_lost(struct mp_proxy *proxy, uint64_t answered_lsn)
{
	if (answered_lsn > proxy->pubsub.answered_lsn)
		proxy->pubsub.answered_lsn = answered_lsn;
}

void mp_pubsub_backend_ready(struct mp_proxy *proxy, uint64_t handed_lsn, uint64_t applied_lsn)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;
	size_t kept = 0;

	if (handed_lsn > pubsub->replay_lsn)
		pubsub->replay_lsn = handed_lsn;
	/* What it has not executed it will be given again. */
	while (kept < pubsub->unheard.count &&
	       *(uint64_t *)mp_fifo_at(&pubsub->unheard, kept) <= applied_lsn)
		kept++;
	pubsub->unheard.count = kept;
	look_for_gaps(proxy);
}

void mp_pubsub_restored(struct mp_proxy *proxy)
{
	mp_pubsub_cut_all(proxy, "the server has been restored");
	forget_lsns(&proxy->pubsub);
}

/* Whoever waits for the server, or is to be served by it, does so for a while only. */
void mp_pubsub_turn(struct mp_proxy *proxy)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;
	struct mp_subscriber *first;

	if (!pubsub->is_open)
		return;
	mp_wire_flush(&pubsub->wire);
	while ((first = TAILQ_FIRST(&pubsub->waiting)) &&
	       mp_now_ms(proxy) - first->since_ms > proxy->options.hold_timeout_ms)
		mp_pubsub_finish(first, false);
	if (mp_pubsub_is_level(pubsub) ||
	    mp_target_of(proxy, MP_REDIS)->state != MP_BACKEND_READY) {
		pubsub->uneven_ms = 0;
	} else if (pubsub->uneven_ms == 0) {
		pubsub->uneven_ms = mp_now_ms(proxy);
	} else if (mp_now_ms(proxy) - pubsub->uneven_ms > proxy->options.backend_timeout_ms) {
		pubsub->uneven_ms = 0;
		mp_pubsub_cut_all(proxy, "the server takes no subscriptions");
	}
}
