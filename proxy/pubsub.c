/* pubsub.c - see pubsub.h: who wants what, and handing messages on. */
#include "pubsub.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "glob.h"
#include "log.h"
#include "session_parts.h"
#include "state.h"

void mp_pubsub_init(struct mp_proxy *proxy)
{
	TAILQ_INIT(&proxy->pubsub.waiting);
	proxy->pubsub.unheard.item_bytes = sizeof(uint64_t);
}

void mp_pubsub_close(struct mp_proxy *proxy)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;

	assert(!mp_pubsub_has_topics(pubsub) && TAILQ_EMPTY(&pubsub->waiting));
	if (pubsub->is_open)
		mp_wire_close(&pubsub->wire);
	mp_fifo_free(&pubsub->unheard);
}

/* -------------------------------------------------------------------- topics */

static struct mp_topic *find_topic(const struct mp_pubsub *pubsub, enum mp_topic_kind kind,
				   struct mp_slice name)
{
	struct mp_topic *topic;

	HASH_FIND(hh, pubsub->topics[kind], name.data, name.len, topic);
	return topic;
}

static size_t topic_bytes(size_t name_len)
{
	return sizeof(struct mp_topic) + name_len;
}

static struct mp_topic *make_topic(struct mp_proxy *proxy, enum mp_topic_kind kind,
				   struct mp_slice name)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;
	struct mp_topic *topic = malloc(topic_bytes(name.len));

	if (!topic)
		return NULL;
	memset(topic, 0, sizeof(*topic));
	LIST_INIT(&topic->subscriptions);
	topic->kind = kind;
	topic->len = name.len;
	memcpy(topic->name, name.data, name.len);
	HASH_ADD_KEYPTR(hh, pubsub->topics[kind], topic->name, topic->len, topic);
	pubsub->bytes += topic_bytes(name.len);
	mp_pubsub_wire_subscribe(proxy, topic);
	return topic;
}

static void drop_topic(struct mp_proxy *proxy, struct mp_topic *topic)
{
	struct mp_pubsub *pubsub = &proxy->pubsub;

	HASH_DEL(pubsub->topics[topic->kind], topic);
	mp_pubsub_wire_unsubscribe(proxy, topic);
	pubsub->bytes -= topic_bytes(topic->len);
	free(topic);
}

/* ------------------------------------------------------------- subscriptions */

struct mp_subscriber *mp_pubsub_subscriber(struct mp_session *s)
{
	if (s->subscriber)
		return s->subscriber;
	s->subscriber = calloc(1, sizeof(*s->subscriber));
	if (s->subscriber)
		s->subscriber->session = s;
	return s->subscriber;
}

struct mp_subscription *mp_pubsub_find(struct mp_session *s, enum mp_topic_kind kind,
				       struct mp_slice name)
{
	struct mp_topic *topic = find_topic(&s->proxy->pubsub, kind, name);
	struct mp_subscription *subscription = NULL;

	if (topic && s->subscriber)
		HASH_FIND_PTR(s->subscriber->all[kind], &topic, subscription);
	return subscription;
}

struct mp_subscription *mp_pubsub_subscribe(struct mp_session *s, enum mp_topic_kind kind,
					    struct mp_slice name)
{
	struct mp_proxy *proxy = s->proxy;
	struct mp_subscription *subscription = mp_pubsub_find(s, kind, name);
	struct mp_topic *topic = find_topic(&proxy->pubsub, kind, name);

	if (subscription)
		return subscription;
	if (proxy->pubsub.bytes + topic_bytes(name.len) > proxy->options.max_held_bytes)
		return NULL;
	subscription = calloc(1, sizeof(*subscription));
	if (!subscription || (!topic && !(topic = make_topic(proxy, kind, name)))) {
		free(subscription);
		return NULL;
	}
	subscription->topic = topic;
	subscription->session = s;
	LIST_INSERT_HEAD(&topic->subscriptions, subscription, of_topic);
	HASH_ADD_PTR(s->subscriber->all[kind], topic, subscription);
	proxy->pubsub.bytes += sizeof(*subscription);
	return subscription;
}

void mp_pubsub_tell(struct mp_subscription *subscription)
{
	struct mp_session *s = subscription->session;

	if (subscription->is_told)
		return;
	subscription->is_told = true;
	subscription->after_lsn = s->proxy->view.commit_lsn;
	s->proxy->pubsub.told++;
	subscription->topic->told++;
	s->subscriber->told[subscription->topic->kind]++;
}

void mp_pubsub_untell(struct mp_subscription *subscription)
{
	struct mp_session *s = subscription->session;

	if (!subscription->is_told)
		return;
	subscription->is_told = false;
	s->proxy->pubsub.told--;
	subscription->topic->told--;
	s->subscriber->told[subscription->topic->kind]--;
}

void mp_pubsub_unsubscribe(struct mp_subscription *subscription)
{
	struct mp_session *s = subscription->session;
	struct mp_topic *topic = subscription->topic;

	mp_pubsub_untell(subscription);
	LIST_REMOVE(subscription, of_topic);
	HASH_DEL(s->subscriber->all[topic->kind], subscription);
	s->proxy->pubsub.bytes -= sizeof(*subscription);
	free(subscription);
	if (LIST_EMPTY(&topic->subscriptions))
		drop_topic(s->proxy, topic);
}

void mp_pubsub_unsubscribe_all(struct mp_session *s)
{
	if (!s->subscriber)
		return;
	for (int kind = 0; kind < MP_TOPIC_KINDS; kind++)
		while (s->subscriber->all[kind])
			mp_pubsub_unsubscribe(s->subscriber->all[kind]);
}

void mp_pubsub_leave(struct mp_session *s)
{
	struct mp_subscriber *subscriber = s->subscriber;

	if (!subscriber)
		return;
	if (subscriber->is_waiting)
		TAILQ_REMOVE(&s->proxy->pubsub.waiting, subscriber, waiting);
	mp_pubsub_unsubscribe_all(s);
	mp_buffer_free(&subscriber->request);
	mp_buffer_free(&subscriber->held);
	free(subscriber);
	s->subscriber = NULL;
}

void mp_pubsub_cut_all(struct mp_proxy *proxy, const char *why)
{
	struct mp_session *s, *next;
	unsigned count = 0;

	for (s = TAILQ_FIRST(&proxy->sessions.all); s; s = next) {
		next = TAILQ_NEXT(s, all);
		if (!mp_pubsub_is_subscribed(s))
			continue;
		mp_session_kill(s);
		count++;
	}
	if (count > 0)
		mp_warn("%u subscribers disconnected: %s", count, why);
}

bool mp_pubsub_is_subscribed(const struct mp_session *s)
{
	const struct mp_subscriber *subscriber = s->subscriber;

	return subscriber &&
	       (subscriber->told[MP_TOPIC_CHANNEL] || subscriber->told[MP_TOPIC_PATTERN] ||
		subscriber->told[MP_TOPIC_SHARD]);
}

/* ------------------------------------------------------------------ messages */

/* What waits for the end of a reply is bounded like what waits for the client to read. */
static void hold(struct mp_session *s, struct mp_slice message)
{
	struct mp_buffer *held = &s->subscriber->held;

	if (mp_buffer_len(held) + message.len > s->proxy->options.client_output_bytes) {
		mp_warn("client %u: disconnected, %zu bytes of messages wait for it", s->id,
			mp_buffer_len(held));
		mp_session_kill(s);
	} else if (!mp_buffer_append(held, message.data, message.len)) {
		mp_session_kill(s);
	}
}

void mp_pubsub_between_replies(struct mp_session *s)
{
	struct mp_subscriber *subscriber = s->subscriber;

	if (mp_buffer_len(&subscriber->held) > 0) {
		mp_session_put(s, mp_buffer_slice(&subscriber->held));
		mp_buffer_clear(&subscriber->held);
	}
	if (!s->head && mp_buffer_len(&subscriber->request) > 0 && !subscriber->is_waiting)
		mp_pubsub_carry_out(subscriber);
}

/* A push may go between replies, at any time, but not into one. */
static void hand_on(struct mp_session *s, char *message, size_t len)
{
	if (s->dead)
		return;
	message[0] = s->resp == 3 ? '>' : '*';
	if (s->head && s->head->streamed)
		hold(s, (struct mp_slice){message, len});
	else
		mp_session_put(s, (struct mp_slice){message, len});
}

void mp_pubsub_deliver(struct mp_proxy *proxy, enum mp_topic_kind kind, struct mp_slice name,
		       char *message, size_t len)
{
	const struct mp_pubsub *pubsub = &proxy->pubsub;
	const struct mp_topic *topic = find_topic(pubsub, kind, name);
	struct mp_subscription *subscription;
	uint64_t lsn = pubsub->entry_lsn;

	/* What the server says while it follows another one may come twice. */
	if (!topic || mp_transfer_is_on(proxy))
		return;
	/* Sessions that end on the way keep what they have to the end of the turn. */
	LIST_FOREACH(subscription, &topic->subscriptions, of_topic)
	if (subscription->is_told && (lsn == 0 || lsn > subscription->after_lsn))
		hand_on(subscription->session, message, len);
}

uint64_t mp_pubsub_receivers(const struct mp_pubsub *pubsub, struct mp_slice channel, bool is_shard)
{
	const struct mp_topic *topic =
		find_topic(pubsub, is_shard ? MP_TOPIC_SHARD : MP_TOPIC_CHANNEL, channel);
	uint64_t count = topic ? topic->told : 0;

	if (is_shard)
		return count;
	for (topic = pubsub->topics[MP_TOPIC_PATTERN]; topic; topic = topic->hh.next)
		if (mp_glob_match((struct mp_slice){topic->name, topic->len}, channel))
			count += topic->told;
	return count;
}
