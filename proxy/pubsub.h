/*
 * pubsub.h - publish/subscribe.
 *
 * PUBLISH is a write: it goes through the log, and every replica's server
 * executes it once, in the log's order. Each proxy has one more connection to
 * its server, which is subscribed to all that any client of this replica wants;
 * what comes over it is handed to those clients. So whatever the server says,
 * scripts and keyspace events included, is heard, and no channel is matched with a
 * pattern here. A client is told that it is subscribed when the server has said
 * so: no message of a PUBLISH that begins later escapes it.
 *
 * Once and only once. A server that restarts from an older state is given
 * entries again, messages included. So an entry that publishes is enclosed by
 * two marks, messages on a channel of our own that tell its LSN. What belongs
 * to an entry that was heard to its end before is not handed on; of one that was
 * heard in part, only the rest. Keyspace events come with any write; those have
 * no marks but while entries are executed again, and then what was answered
 * counts as heard. An entry that was executed, but whose end was never heard,
 * may have lost messages: this replica's subscribers are disconnected then,
 * which tells them so, as it does with Redis.
 *
 *     pubsub.c          who wants what; handing messages on
 *     pubsub_wire.c     the connection, the marks
 *     pubsub_command.c  what clients send
 */
#ifndef MP_PUBSUB_H
#define MP_PUBSUB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "buffer.h"
#include "fifo.h"
#include "resp.h"
#include "slice.h"
#include "wire.h"

struct mp_command;
struct mp_proxy;
struct mp_request;
struct mp_session;

enum mp_topic_kind {
	MP_TOPIC_CHANNEL,
	MP_TOPIC_PATTERN,
	MP_TOPIC_SHARD,
	MP_TOPIC_KINDS,
};

struct mp_subscription;

/* What some client here wants, or is about to. */
struct mp_topic {
	UT_hash_handle hh; /* by name, in pubsub->topics[kind] */
	LIST_HEAD(, mp_subscription) subscriptions;
	enum mp_topic_kind kind;
	uint32_t told;    /* subscriptions that their clients were told of */
	uint64_t barrier; /* the server is subscribed when so much is confirmed */
	size_t len;
	char name[];
};

struct mp_subscription {
	LIST_ENTRY(mp_subscription) of_topic;
	UT_hash_handle hh; /* by topic, in subscriber->all[kind] */
	struct mp_topic *topic;
	struct mp_session *session;
	bool is_told;       /* the client knows, and gets messages */
	uint64_t after_lsn; /* of messages whose entry is known, these only */
};

/* A session that subscribes, or has done so once. */
struct mp_subscriber {
	struct mp_session *session;
	struct mp_subscription *all[MP_TOPIC_KINDS];
	uint32_t told[MP_TOPIC_KINDS];
	/* The request being carried out, if any: the session is gated meanwhile. */
	struct mp_buffer request;
	TAILQ_ENTRY(mp_subscriber) waiting;
	bool is_waiting; /* for the server to confirm */
	uint64_t barrier, since_ms;
	struct mp_buffer held; /* messages that must not go into the middle of a reply */
};

struct mp_pubsub {
	struct mp_topic *topics[MP_TOPIC_KINDS];
	TAILQ_HEAD(, mp_subscriber) waiting;
	uint64_t bytes; /* memory of topics and subscriptions */
	uint64_t told;  /* subscriptions that clients were told of */

	/* pubsub_wire.c */
	struct mp_wire wire;
	bool is_open;  /* the wire is; from the first subscription on */
	bool is_up;    /* the server is being talked to */
	bool was_lost; /* it has to be found out what was missed */
	struct resp_framer framer;
	size_t scanned;         /* bytes of the message under way that the framer has seen */
	unsigned greeting;      /* replies to come before those to subscriptions */
	uint64_t sent;          /* subscriptions and their ends */
	uint64_t confirmed;     /* of those, by the server */
	uint64_t level_barrier; /* all that was wanted when the connection came up */
	uint64_t uneven_ms;     /* since when it is not level; 0: it is */
	char mark[40];          /* the channel of our own */
	uint64_t era;           /* of the LSNs below */
	struct mp_fifo unheard; /* LSNs of entries whose end was not heard yet */
	uint64_t entry_lsn;     /* what comes now belongs to it; 0: not known */
	uint32_t entry_count;   /* messages of it so far */
	uint32_t entry_skip;    /* messages of it that were heard before */
	uint64_t cut_lsn;       /* the entry during which the connection was lost, and ... */
	uint32_t cut_count;     /* ... messages of it that were heard */
	uint64_t heard_lsn;     /* marked entries up to here were heard to their ends */
	uint64_t answered_lsn;  /* entries up to here were answered by an earlier server */
	uint64_t replay_lsn;    /* entries up to here may be executed again */
};

void mp_pubsub_init(struct mp_proxy *proxy);
/* When sessions and backends are gone. */
void mp_pubsub_close(struct mp_proxy *proxy);
/* Once a turn: what waits for too long; flush. */
void mp_pubsub_turn(struct mp_proxy *proxy);

/* --- pubsub.c */
/* Session and topic may be new. NULL: out of memory, or of the room for subscriptions. */
struct mp_subscriber *mp_pubsub_subscriber(struct mp_session *s);
struct mp_subscription *mp_pubsub_subscribe(struct mp_session *s, enum mp_topic_kind kind,
					    struct mp_slice name);
/* NULL: it has none such. */
struct mp_subscription *mp_pubsub_find(struct mp_session *s, enum mp_topic_kind kind,
				       struct mp_slice name);
void mp_pubsub_tell(struct mp_subscription *subscription);
/* The client is told that it is not subscribed any more; the server still is, for this one. */
void mp_pubsub_untell(struct mp_subscription *subscription);
void mp_pubsub_unsubscribe(struct mp_subscription *subscription);
void mp_pubsub_unsubscribe_all(struct mp_session *s);
/* The session is gone. */
void mp_pubsub_leave(struct mp_session *s);
/* Disconnect all that may have missed something. */
void mp_pubsub_cut_all(struct mp_proxy *proxy, const char *why);
/* A reply has ended: held messages may go; and a request that waits for its turn. */
void mp_pubsub_between_replies(struct mp_session *s);
/* A message, in the server's form of RESP2, whose first byte is changed here. */
void mp_pubsub_deliver(struct mp_proxy *proxy, enum mp_topic_kind kind, struct mp_slice name,
		       char *message, size_t len);
/* Clients here who get what is published there. */
uint64_t mp_pubsub_receivers(const struct mp_pubsub *pubsub, struct mp_slice channel,
			     bool is_shard);
/* Is it subscribed to anything? */
bool mp_pubsub_is_subscribed(const struct mp_session *s);

/* --- pubsub_wire.c */
void mp_pubsub_wire_subscribe(struct mp_proxy *proxy, struct mp_topic *topic);
void mp_pubsub_wire_unsubscribe(struct mp_proxy *proxy, const struct mp_topic *topic);
static inline bool mp_pubsub_has_topics(const struct mp_pubsub *pubsub)
{
	return pubsub->topics[MP_TOPIC_CHANNEL] || pubsub->topics[MP_TOPIC_PATTERN] ||
	       pubsub->topics[MP_TOPIC_SHARD];
}
/* All that clients were told that they would hear is heard: entries may be executed. */
bool mp_pubsub_is_level(const struct mp_pubsub *pubsub);
/* The data connection was lost; is there (again), with what the server has applied. */
void mp_pubsub_backend_lost(struct mp_proxy *proxy, uint64_t answered_lsn);
void mp_pubsub_backend_ready(struct mp_proxy *proxy, uint64_t handed_lsn, uint64_t applied_lsn);
/* The server holds another state: of what was published meanwhile nobody here can tell. */
void mp_pubsub_restored(struct mp_proxy *proxy);
/* Does that entry have to be enclosed by marks? speaks: it publishes. */
bool mp_pubsub_marks(struct mp_proxy *proxy, uint64_t lsn, bool speaks);
/* The mark of an entry's begin, of its end (lsn 0), in wire form to out; returns its length. */
enum { MP_PUBSUB_MARK_BYTES = 128 };
size_t mp_pubsub_put_mark(const struct mp_pubsub *pubsub, uint64_t lsn,
			  char out[MP_PUBSUB_MARK_BYTES]);

/* --- pubsub_command.c */
/* (P|S)(UN)SUBSCRIBE (redis_local.c) */
void mp_pubsub_change(struct mp_session *s, const struct resp_request *r);
/*
 * An EXEC with such: what it subscribes to is asked of the server before (ask, then await, which
 * ends in mp_multi_prepared()), so that each can be carried out at its place when the transaction
 * was executed. Afterwards, and also if it was not, what nobody was told of is given up (settle).
 * ask: false, no memory for it. change_in_exec: the confirmations are captured (redis_multi.h).
 */
bool mp_pubsub_ask(struct mp_session *s, const struct resp_request *r);
void mp_pubsub_await(struct mp_session *s);
void mp_pubsub_change_in_exec(struct mp_session *s, const struct resp_request *r);
void mp_pubsub_settle(struct mp_session *s);
/* Its turn has come: no reply is owed before it. */
void mp_pubsub_carry_out(struct mp_subscriber *subscriber);
/* The server has confirmed what a waiting subscriber wants, or (false) that takes too long. */
void mp_pubsub_finish(struct mp_subscriber *subscriber, bool confirmed);
/* Is it one of these? */
bool mp_pubsub_is_change(const struct mp_command *command);
/* ... one that subscribes, in MULTI too? */
bool mp_pubsub_begins(const struct mp_command *command);
/* Not for a RESP2 client that is subscribed? Then what it is told. error: MP_ERROR_BYTES. */
bool mp_pubsub_forbids(const struct mp_session *s, const struct mp_command *command, char *error);
/* The reply to PUBLISH as its client gets it; number: room for one. */
enum { MP_PUBSUB_NUMBER_BYTES = 32 };
struct mp_slice mp_pubsub_on_reply(struct mp_session *s, struct mp_request *r,
				   struct mp_slice reply, char number[MP_PUBSUB_NUMBER_BYTES]);
struct mp_slice mp_pubsub_count(const struct mp_session *s, const struct resp_request *publish,
				struct mp_slice reply, char number[MP_PUBSUB_NUMBER_BYTES]);
/* PING of a RESP2 client that is subscribed. */
void mp_pubsub_pong(struct mp_session *s, struct mp_slice text);
/* PUBSUB ... */
void mp_pubsub_channels(struct mp_session *s, const struct resp_request *r);
void mp_pubsub_shardchannels(struct mp_session *s, const struct resp_request *r);
void mp_pubsub_numsub(struct mp_session *s, const struct resp_request *r);
void mp_pubsub_shardnumsub(struct mp_session *s, const struct resp_request *r);
void mp_pubsub_numpat(struct mp_session *s, const struct resp_request *r);

#endif
