/* question.c - see question.h. */
#include "question.h"

#include <hiredis/hiredis.h>

#include "answer.h"
#include "log.h"
#include "redis_transfer.h"
#include "state.h"

bool mp_question_ask(struct mp_proxy *proxy, enum mp_request_purpose purpose, uint64_t serial,
		     uint32_t database, int argc, const struct mp_slice *argv)
{
	struct mp_request *r = mp_requests_get(&proxy->requests);
	size_t len = resp_encode(NULL, 0, argc, argv);

	if (!r)
		return false;
	if (!mp_chunks_alloc(&proxy->chunks, len, &r->raw)) {
		mp_requests_put(&proxy->requests, &proxy->chunks, r);
		return false;
	}
	resp_encode(r->raw.data, len, argc, argv);
	r->meta = (struct mp_request_meta){
		.protocol = MP_REDIS, .class = MP_REQUEST_READ, .database = database};
	r->purpose = (uint8_t)purpose;
	r->origin.sequence = serial;
	mp_requests_charge(&proxy->requests, r);
	mp_apply_read(proxy, r);
	return true;
}

void mp_question_answer(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice answer)
{
	if (r->purpose < MP_PURPOSE_SETTINGS)
		mp_expiry_answer(proxy, r, answer);
	else if (r->purpose == MP_PURPOSE_GATE)
		redis_gate_answer(proxy, r);
	else if (r->purpose == MP_PURPOSE_ITEM)
		mp_memcached_digest_answer(proxy, r, answer);
	else if (r->purpose >= MP_PURPOSE_DIGEST)
		mp_digest_answer(proxy, r, answer);
	else
		mp_memory_answer(proxy, r, answer);
	mp_drop(proxy, r);
}

void mp_question_lost(struct mp_proxy *proxy, struct mp_request *r)
{
	if (r->purpose == MP_PURPOSE_GATE)
		redis_gate_lost(proxy, r);
	if (r->purpose == MP_PURPOSE_ITEM)
		mp_memcached_digest_lost(proxy);
	else if (r->purpose >= MP_PURPOSE_DIGEST)
		mp_digest_lost(proxy);
	/* The backend is gone; whoever else asked begins anew when it is back. */
	mp_drop(proxy, r);
}

struct redisReply *mp_question_array(struct mp_slice answer)
{
	redisReader *reader = redisReaderCreate();
	redisReply *reply = NULL;
	void *got = NULL;

	if (reader && redisReaderFeed(reader, answer.data, answer.len) == REDIS_OK &&
	    redisReaderGetReply(reader, &got) == REDIS_OK)
		reply = got;
	if (reader)
		redisReaderFree(reader);
	if (reply && reply->type == REDIS_REPLY_ARRAY)
		return reply;
	mp_error("redis: it does not tell of its keys: %.*s",
		 (int)(answer.len < 100 ? answer.len : 100), answer.data);
	freeReplyObject(reply);
	return NULL;
}
