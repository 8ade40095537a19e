/*
 * blocking_form.h - what blocking commands wait for, and for how long; and what
 * other commands may bring them.
 */
#ifndef MP_BLOCKING_FORM_H
#define MP_BLOCKING_FORM_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "command.h"
#include "resp.h"
#include "slice.h"

/* Of what type a key has to become. */
enum mp_wait_kind {
	MP_WAIT_LIST = 1,
	MP_WAIT_ZSET = 2,
	MP_WAIT_STREAM = 4, /* it gets something: to read is all that is wanted */
	MP_WAIT_GROUP = 8,  /* it gets something for a consumer group, or goes, or the group does */
	MP_WAIT_ANY = 15,
};

/* Places are those of arguments. */
struct mp_blocking_form {
	enum mp_wait_kind kind;
	int first_key, keys;
	int destination;    /* that a list's element goes to; 0: to the client alone */
	int options;        /* behind the keys, up to the end; 0: there are none */
	int ids;            /* of streams: behind the keys, as many; 0: there are none */
	int count;          /* of streams: what stands behind COUNT; 0: nothing does */
	int group;          /* of streams: behind GROUP, then the consumer; 0: on behalf of none */
	bool noack;         /* ... and NOACK is there */
	int64_t timeout_ms; /* 0: for ever */
};

/*
 * False: this request does not wait, whatever its command; a server will say
 * what is wrong with it. A timeout that makes no sense to us counts as none.
 */
bool mp_blocking_form_of(const struct mp_command *command, const struct resp_request *request,
			 struct mp_blocking_form *form);
/*
 * Append the request's attempt on behalf of that key of its, at that time of the log.
 * False: out of memory.
 */
bool mp_blocking_put_attempt(const struct mp_blocking_form *form,
			     const struct resp_request *request, struct mp_slice key,
			     int64_t now_ms, struct mp_buffer *out);

/* The same on behalf of all its keys, as a read of streams that does not wait. */
bool mp_blocking_put_read(const struct mp_blocking_form *form, const struct resp_request *request,
			  struct mp_buffer *out);

/* Has a read of streams IDs that are "$": the last one that there is when it comes? */
bool mp_blocking_has_last_ids(const struct mp_blocking_form *form,
			      const struct resp_request *request);
/* Append the question for them. False: out of memory. */
bool mp_blocking_put_question(const struct mp_blocking_form *form,
			      const struct resp_request *request, struct mp_buffer *out);
/* Append the request with the IDs of that answer. False: it is none, or out of memory. */
bool mp_blocking_put_resolved(const struct mp_blocking_form *form,
			      const struct resp_request *request, struct mp_slice answer,
			      struct mp_buffer *out);

enum { MP_FEED_UNKNOWN = 0 };
struct mp_feed {
	uint32_t database;
	struct mp_slice key; /* data NULL: any key of the database */
	bool all_databases;  /* ... or of any */
	unsigned kinds;      /* enum mp_wait_kind */
	uint32_t elements;   /* at most; or MP_FEED_UNKNOWN */
};
/* What a write may put where others wait for it: calls feed() for each key. */
void mp_blocking_feeds(const struct mp_command *command, const struct resp_request *request,
		       uint32_t database, void (*feed)(void *ctx, const struct mp_feed *),
		       void *ctx);

#endif
