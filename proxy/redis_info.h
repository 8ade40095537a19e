/*
 * redis_info.h - INFO: the backend's own, less what is none of the clients'
 * (the hidden database, deadlines' padding), and a section about muproxy.
 */
#ifndef MP_REDIS_INFO_H
#define MP_REDIS_INFO_H

#include "buffer.h"
#include "request.h"
#include "slice.h"

struct mp_proxy;

/*
 * The client's reply, made of the backend's; good until out is touched. An
 * error, or what is not understood, is passed on as it is.
 */
struct mp_slice mp_info_reply(struct mp_proxy *proxy, const struct mp_request *r,
			      struct mp_slice reply, struct mp_buffer *out);

#endif
