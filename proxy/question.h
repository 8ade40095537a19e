/* question.h - what the proxy asks its own backends on its own account. */
#ifndef MP_QUESTION_H
#define MP_QUESTION_H

#include <stdbool.h>
#include <stdint.h>

#include "request.h"
#include "slice.h"

struct mp_proxy;
struct redisReply;

/*
 * Ask the Redis, which is READY, behind all that it was given so far. serial:
 * comes back as the request's origin.sequence. False: out of memory.
 */
bool mp_question_ask(struct mp_proxy *proxy, enum mp_request_purpose purpose, uint64_t serial,
		     uint32_t database, int argc, const struct mp_slice *argv);
/* The whole answer to one, which is in no list any more. r is gone afterwards. */
void mp_question_answer(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice answer);
/* ... which will not come. */
void mp_question_lost(struct mp_proxy *proxy, struct mp_request *r);
/* An answer that is an array; the caller frees it. NULL: it is something else, which is logged. */
struct redisReply *mp_question_array(struct mp_slice answer);

#endif
