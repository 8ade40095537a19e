/*
 * redis_client.h - who a Redis client is: HELLO, AUTH, and CLIENT's questions
 * about, and orders to, the clients of this replica. Answered by the session.
 */
#ifndef MP_REDIS_CLIENT_H
#define MP_REDIS_CLIENT_H

#include "resp.h"
#include "session.h"

void mp_redis_hello(struct mp_session *s, const struct resp_request *request);
void mp_redis_auth(struct mp_session *s, const struct resp_request *request);

void mp_client_id(struct mp_session *s, const struct resp_request *request);
void mp_client_getname(struct mp_session *s, const struct resp_request *request);
void mp_client_setname(struct mp_session *s, const struct resp_request *request);
void mp_client_setinfo(struct mp_session *s, const struct resp_request *request);
void mp_client_info(struct mp_session *s, const struct resp_request *request);
void mp_client_list(struct mp_session *s, const struct resp_request *request);
void mp_client_kill(struct mp_session *s, const struct resp_request *request);
void mp_client_on_off(struct mp_session *s, const struct resp_request *request);
void mp_client_getredir(struct mp_session *s, const struct resp_request *request);
void mp_client_unblock(struct mp_session *s, const struct resp_request *request);

#endif
