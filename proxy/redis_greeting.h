/*
 * redis_greeting.h - what is said to a Redis server on a new connection before
 * any command: who it is, whether it is fit to be a backend, and which LSN it
 * has applied. Fed bytes, yields bytes to send; knows no sockets. This is
 * control, not data: the replies are parsed by hiredis' reader.
 */
#ifndef MP_REDIS_GREETING_H
#define MP_REDIS_GREETING_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

/* By this name the data connection is found in CLIENT LIST. */
#define REDIS_CLIENT_NAME "muproxy-apply"

enum redis_greeting_outcome {
	REDIS_GREETING_MORE,    /* feed more */
	REDIS_GREETING_READY,   /* the results are there */
	REDIS_GREETING_LATER,   /* loading its data, or busy: try again; why */
	REDIS_GREETING_REFUSED, /* not fit to be a backend; why */
};

struct redis_greeting {
	/* in */
	uint64_t group_id;
	const char *password; /* or NULL */
	/*
	 * An entry that this server has refused, 0: none. If it has executed
	 * entries behind that one it is marked as failed, for good. (Should both
	 * this process and the server's last seconds be lost before the mark is on
	 * disk, nobody knows any more; the periodic comparison of replicas does.)
	 */
	uint64_t failed_lsn;
	/* out */
	char version[32], run_id[48];
	bool is_valkey; /* which has a name and versions of its own, also for its clients */
	int64_t pid;
	uint32_t databases; /* all of them; the last one is the hidden one */
	uint64_t era, applied_lsn;
	uint64_t volatile_keys; /* that have a deadline */
	char why[160];
	/* private */
	redisReader *reader;
	const struct redis_step *steps; /* whose reply is the next */
	struct mp_buffer *out;
	int64_t client_id;
	char *left_auth;     /* it was left while being restored; this was its masterauth */
	bool is_ours;        /* it has the applied key */
	uint64_t stored_lsn; /* by that key */
	unsigned kills;      /* replies to CLIENT KILL to come */
	uint64_t keys;       /* in all databases */
	enum redis_greeting_outcome outcome;
};

/* Begin: the inputs are set, the rest zeroed. Puts what is to be sent into out. */
void redis_greeting_start(struct redis_greeting *greeting, struct mp_buffer *out);
/* Bytes from the server, all of which are used; may put more into out. */
enum redis_greeting_outcome redis_greeting_feed(struct redis_greeting *greeting, const char *data,
						size_t len);
/* Gives the memory back; a greeting that is not under way has none. */
void redis_greeting_end(struct redis_greeting *greeting);

#endif
