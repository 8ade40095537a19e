/*
 * redis_client.h - CLIENT's questions about, and orders to, the clients of this
 * replica. Answered by the session.
 */
#ifndef MP_REDIS_CLIENT_H
#define MP_REDIS_CLIENT_H

#include "resp.h"
#include "session.h"

/* Give the client a name; empty: none. False: it cannot have that one, and was told so. */
bool mp_client_take_name(struct mp_session *s, struct mp_slice name);

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
void mp_client_reply(struct mp_session *s, const struct resp_request *request);
void mp_client_tracking(struct mp_session *s, const struct resp_request *request);
void mp_client_trackinginfo(struct mp_session *s, const struct resp_request *request);
void mp_client_caching(struct mp_session *s, const struct resp_request *request);

/* Where it comes from: "127.0.0.1:49152". */
enum { MP_CLIENT_ADDRESS_BYTES = 64 };
void mp_client_address(const struct mp_session *s, char out[MP_CLIENT_ADDRESS_BYTES]);

#endif
