/*
 * session.h - one client's connection: its bytes in and out, and its requests
 * in order. What the bytes mean is session_redis.c's and session_memcached.c's.
 *
 * Requests form a queue. Replies are sent in its order: the oldest request's
 * reply goes straight to the socket's buffer, later ones' wait in theirs. A
 * client that piles up too many requests or unread replies is not read from
 * until it is better; large replies that it leaves unread go to a file (spill.h), and
 * one that piles up what it has not asked for beyond client_output_bytes is disconnected. A session
 * that ends while requests of it are under way leaves them behind as orphans: they are finished,
 * and nobody is told.
 */
#ifndef MP_SESSION_H
#define MP_SESSION_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "buffer.h"
#include "command.h"
#include "mc_text.h"
#include "redis_multi.h"
#include "request.h"
#include "resp.h"
#include "sender.h"
#include "slice.h"
#include "spill.h"

struct mp_proxy;
struct mp_subscriber;

struct mp_session {
	TAILQ_ENTRY(mp_session) all;      /* every session, or the dead of this turn */
	TAILQ_ENTRY(mp_session) ready;    /* router.h: `unsent` may go as soon as there is a way */
	TAILQ_ENTRY(mp_session) dirty;    /* has output to send at the end of the turn */
	TAILQ_ENTRY(mp_session) monitors; /* monitor.h */
	TAILQ_ENTRY(mp_session) halted;   /* not read from because of all the others */
	bool is_ready, is_dirty, is_halted;
	bool dead;    /* over; freed at the end of the turn */
	bool closing; /* takes no more requests; over when all replies are out */
	bool ended;   /* closing because the client sends nothing more: it will not wait either */
	bool lingers; /* closing after an error: what it goes on sending is read and thrown away */
	bool paused;  /* not read from until it has caught up */
	bool congested; /* the socket is full: writable is waited for */
	bool adopted;   /* the request just taken took the memory of `in` over */
	enum mp_protocol protocol;
	struct mp_proxy *proxy;
	int fd;
	struct event readable, writable;
	uint32_t id;
	uint32_t database;
	uint8_t resp;          /* Redis: the protocol's version that it speaks */
	struct mp_multi multi; /* Redis */
	bool is_gated;         /* not read on from before an answer is there (redis_multi.h) */
	bool is_held; /* ... for a CLIENT PAUSE (pause.h), or to know of memory (memory.h) */
	char *name;   /* CLIENT SETNAME, or NULL */
	char last_command[sizeof(((struct mp_command *)0)->name)]; /* "": none that is known */
	bool reads_locally;                                        /* Redis: see local_reads.h */
	bool is_monitor;                                           /* monitor.h */
	bool wants_no_replies;                                     /* CLIENT REPLY OFF */
	bool skips_next;      /* CLIENT REPLY SKIP: the next request is not replied to */
	bool is_silent;       /* the request being dealt with is not replied to */
	bool is_logged_in;    /* it has proved to be one of the users, if there is a list */
	struct mp_slice user; /* Redis: which one (redis_login.h) */
	struct mp_subscriber *subscriber; /* pubsub.h; NULL: it never was one */
	union {
		struct resp_parser *resp;
		struct mc_parser *mc;
	} parser;
	struct mp_buffer in, out;
	struct mp_spill *spill;         /* what goes out behind `out`, or NULL */
	size_t in_charged, out_charged; /* bytes of their memory that are accounted for */

	struct mp_request *head, *tail; /* all that are not answered to the end */
	struct mp_request *unsent;      /* the first that is WAITING */
	uint32_t pending;               /* how many there are */
	uint32_t under_way;             /* of them sent and not answered to the end */
	uint32_t under_way_here;        /* ... of those, local reads */
	uint64_t written_lsn;           /* of its last write that was answered */
	uint32_t window;                /* so many may be under way at once */
	size_t pending_bytes;
	size_t pending_spilled;     /* of those, in files */
	uint32_t doubtful;          /* of them in DOUBT */
	uint32_t doubtful_writes;   /* of those, writes */
	struct mp_request *barrier; /* nothing behind it may go before it is answered */
	uint64_t born_ms;
	uint64_t heard_ms; /* when it sent something last */
};
TAILQ_HEAD(mp_session_list, mp_session);

struct mp_sessions {
	struct mp_session_list all, dead, dirty, halted, monitors;
	uint32_t count[MP_MEMCACHED + 1]; /* by protocol */
	uint32_t last_id;
	uint32_t lingering;    /* sessions that linger */
	uint32_t held;         /* ... that are held */
	uint64_t out_bytes;    /* memory of all output buffers */
	uint64_t in_bytes;     /* memory of all input buffers */
	uint64_t taken_bytes;  /* of requests, since the last turn */
	uint64_t next_reap_ms; /* when idle clients are looked for again */
	struct mp_spills spills;
	struct mp_sender sender;
	char *scratch; /* what is read first goes here; most of it never needs a home */
};

void mp_sessions_init(struct mp_sessions *sessions);
bool mp_sessions_open(struct mp_sessions *sessions);
/* Ends every session at once. */
void mp_sessions_close(struct mp_proxy *proxy);

/* Takes the socket over; if the session cannot be had, it is told so and closed. */
void mp_session_accept(struct mp_proxy *proxy, int fd, enum mp_protocol protocol);
/* End it now. Safe anywhere: the memory lives to the end of the turn. */
void mp_session_kill(struct mp_session *s);
/* Take no more requests; end when the replies to those that are there are out. */
void mp_session_close_after_replies(struct mp_session *s);
/*
 * The same for a client that is in the middle of sending something wrong: it
 * would never see why if the connection were reset under its hands. It is
 * given a moment to read the error.
 */
void mp_session_close_after_error(struct mp_session *s);

/*
 * Take a request of which raw are the bytes, as the newest of the session: it
 * waits for the router. NULL: out of memory; the session is over.
 */
struct mp_request *mp_session_take(struct mp_session *s, struct mp_slice raw,
				   const struct mp_request_meta *meta);
/* The same, but its bytes are here already. */
struct mp_request *mp_session_take_bytes(struct mp_session *s, struct mp_bytes raw,
					 const struct mp_request_meta *meta);
/* An answer that the session gives by itself, behind the replies still to come. */
void mp_session_say(struct mp_session *s, struct mp_slice reply);
/* A piece of the reply to a request of this session. last: r is gone afterwards. */
void mp_session_reply(struct mp_session *s, struct mp_request *r, struct mp_slice piece, bool last);
/* None of its reply has reached the client: what is here of it is void, another one will come. */
void mp_session_take_back(struct mp_session *s, struct mp_request *r);

/*
 * Put another request in the place of one whose reply is not waited for any
 * longer; that one becomes an orphan. The new one is in no list and has no
 * reply yet. NULL: out of memory, nothing has changed.
 */
struct mp_request *mp_session_replace(struct mp_session *s, struct mp_request *r);

/*
 * May another request of it go? Never past one in doubt or a barrier; and not
 * too many at once, as long as it has not shown that it takes their replies.
 */
bool mp_session_may_send(const struct mp_session *s);
/* The request went somewhere, or waits again: keeps `unsent` right. */
void mp_session_sent(struct mp_session *s, struct mp_request *r);
void mp_session_unsend(struct mp_session *s, struct mp_request *r);

/* Once a turn: read on from those that may go on, send what is queued, free the dead. */
void mp_sessions_resume(struct mp_proxy *proxy);
void mp_sessions_flush(struct mp_proxy *proxy);
/* Are there clients that mp_sessions_sweep() has to look after? */
bool mp_sessions_unfinished(const struct mp_proxy *proxy);
/* Disconnect clients that have been in the middle of a request for too long. */
void mp_sessions_sweep(struct mp_proxy *proxy, uint64_t now_ms);
/* Stop reading from clients (drain). */
void mp_sessions_drain(struct mp_proxy *proxy);
/* Clients that may be read on from wait for the next turn. */
bool mp_sessions_pending(const struct mp_proxy *proxy);
/* No client has a request or a reply under way. */
bool mp_sessions_quiet(const struct mp_proxy *proxy);

/*
 * The two protocols. Each takes one request off data: true, *used are its
 * bytes; false: it is not whole yet (*used may be > 0 even so), or the session
 * is closing. Whatever it is, it has been answered or taken.
 */
bool mp_redis_input(struct mp_session *s, const char *data, size_t len, size_t *used);
bool mp_memcached_input(struct mp_session *s, const char *data, size_t len, size_t *used);

#endif
