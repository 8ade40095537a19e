/*
 * ttl.h - reads of deadlines (TTL, PTTL, EXPIRETIME, PEXPIRETIME). The backend
 * holds padded ones and its clock is not the log's, so it is asked for the
 * deadline, and the reply is made of that.
 */
#ifndef MP_TTL_H
#define MP_TTL_H

#include <stddef.h>
#include <stdint.h>

#include "command.h"

enum { MP_TTL_REPLY_BYTES = 32 };

/* Encodes the question about key; returns its length; writes only if it fits cap. */
size_t mp_ttl_question(struct mp_slice key, char *out, size_t cap);
/*
 * The client's reply, given the backend's answer to the question: an integer
 * made for the log's time, or (an error) the answer itself.
 */
struct mp_slice mp_ttl_reply(enum mp_rewrite kind, struct mp_slice answer, uint64_t now_ms,
			     char out[MP_TTL_REPLY_BYTES]);

#endif
