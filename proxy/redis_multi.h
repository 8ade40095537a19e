/*
 * redis_multi.h - a connection between MULTI and EXEC, and what it watches:
 * commands are judged as they are queued, by Redis's rules and with its texts;
 * EXEC makes one request of them (transaction.h). What the session answers by
 * itself (CLIENT, HELLO) it does when EXEC is sent, in its order.
 *
 * A session that waits for the answer to a WATCH is not read on from, for EXEC
 * needs the token that comes with it; nor one that waits to learn in which
 * database its EXEC, which may have failed, has left it.
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
	bool is_moved;            /* it has a SELECT */
	bool has_scan;            /* its reply has a cursor of the leader's server (scan.h) */
	uint32_t count;           /* commands queued */
	uint32_t database;        /* that the next queued command is to run in */
	struct mp_buffer queued;  /* in wire form */
	struct mp_buffer watched; /* words of the envelope, as bulk strings */
	uint32_t watched_words;
	struct mp_buffer
		*capture; /* of what the session says, while EXEC looks at its own commands */
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
/* The reply to a request of the session that gates. Returns what the client is told. */
struct mp_slice mp_multi_on_reply(struct mp_session *s, struct mp_request *r,
				  struct mp_slice reply);

/* MULTI, EXEC, DISCARD, UNWATCH (redis_local.c). */
void mp_multi_begin(struct mp_session *s, const struct resp_request *request);
void mp_multi_exec(struct mp_session *s, const struct resp_request *request);
void mp_multi_discard(struct mp_session *s, const struct resp_request *request);
void mp_multi_unwatch(struct mp_session *s, const struct resp_request *request);

#endif
