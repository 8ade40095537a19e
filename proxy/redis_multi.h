/*
 * redis_multi.h - a connection between MULTI and EXEC, and what it watches:
 * commands are judged as they are queued, by Redis's rules and with its texts;
 * EXEC makes one request of them (transaction.h). What the session carries out
 * by itself (CLIENT, HELLO, SUBSCRIBE) has a blank in that request, and so in its
 * reply: when that is there, and so WATCH has held, it is done, in its order, and
 * what it says takes the blanks' places. What is to be subscribed to is asked of
 * the server before, so that nothing has to be waited for in the middle of it.
 *
 * A session that waits for the answer to a WATCH is not read on from, for EXEC
 * needs the token that comes with it; nor one whose EXEC, which may fail, has
 * such blanks.
 */
#ifndef MP_REDIS_MULTI_H
#define MP_REDIS_MULTI_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "command.h"
#include "resp.h"

struct mp_request;
struct mp_session;

/* A zeroed one is outside of MULTI, and watches nothing. */
struct mp_multi {
	bool is_open;
	bool is_aborted;          /* a command was refused: EXEC will be, too */
	bool may_change;          /* there is something queued that a pause holds (pause.h) */
	bool has_own;             /* something queued is the session's, or seen by it */
	bool subscribes;          /* ... or one of its kin is */
	bool is_silent;           /* EXEC is not replied to */
	bool has_scan;            /* its reply has a cursor of the leader's server (scan.h) */
	uint32_t count;           /* commands queued */
	struct mp_buffer queued;  /* in wire form */
	struct mp_buffer watched; /* words of the envelope, as bulk strings */
	uint32_t watched_words;
	struct mp_buffer
		*capture; /* of what the session says, while its commands of EXEC are carried out */
};

void mp_multi_free(struct mp_multi *multi);
/* DISCARD, RESET, the end: neither in MULTI, nor watching. */
void mp_multi_reset(struct mp_multi *multi);
/*
 * Between MULTI and EXEC: queue it, and say so. False: it is not for the queue
 * (EXEC, DISCARD, QUIT, ...), or the session is not in MULTI.
 */
bool mp_multi_queue(struct mp_session *s, const struct mp_command *command,
		    const struct resp_request *request);
/*
 * Between MULTI and EXEC with no memory left: as in Redis nothing is queued then, since a queue
 * takes memory, too.
 */
bool mp_multi_lacks_memory(const struct mp_session *s, const struct mp_command *command);
/* A command was refused, with this text. */
void mp_multi_refused(struct mp_session *s, const char *error);
/* The reply to a WATCH. Returns what the client is told. */
struct mp_slice mp_multi_on_watch(struct mp_session *s, struct mp_request *r,
				  struct mp_slice reply);
/*
 * The whole reply to an EXEC with blanks: what is the session's is carried out if the
 * transaction was. out: what the client is told. False: it could not be made; the session is over.
 */
bool mp_multi_on_exec(struct mp_session *s, struct mp_slice reply, struct mp_buffer *out);
/* What EXEC is to subscribe to is confirmed by the server, or (false) that takes too long. */
void mp_multi_prepared(struct mp_session *s, bool confirmed);

/* MULTI, EXEC, DISCARD, UNWATCH (redis_local.c). */
void mp_multi_begin(struct mp_session *s, const struct resp_request *request);
void mp_multi_exec(struct mp_session *s, const struct resp_request *request);
void mp_multi_discard(struct mp_session *s, const struct resp_request *request);
void mp_multi_unwatch(struct mp_session *s, const struct resp_request *request);

#endif
