/* classify.h - what is to be done with a request, here or at the leader. */
#ifndef MP_CLASSIFY_H
#define MP_CLASSIFY_H

#include "command.h"
#include "mc_text.h"
#include "request.h"
#include "resp.h"

struct mp_proxy;

enum mp_verdict {
	MP_VERDICT_SERVE, /* meta says how */
	MP_VERDICT_LOCAL, /* the session's own business */
	MP_VERDICT_ERROR, /* answer error (as mp_format_error takes it) */
};

/* error: MP_ERROR_BYTES. *command: what was found, if LOCAL. */
enum mp_verdict mp_classify_redis(const struct mp_proxy *proxy, const struct resp_request *request,
				  uint32_t database, struct mp_request_meta *meta,
				  const struct mp_command **command, char *error);
enum mp_verdict mp_classify_memcached(const struct mc_request *request,
				      struct mp_request_meta *meta, char *error);

/*
 * A request's bytes, as they were taken, once more. False: they are not exactly
 * one whole request, which only a broken peer brings about. What *request
 * points to is good until the next call.
 */
bool mp_reparse_redis(struct mp_proxy *proxy, struct mp_slice raw, struct resp_request *request);
bool mp_reparse_memcached(struct mp_proxy *proxy, struct mp_slice raw, struct mc_request *request);

/* Does this write have to be rewritten for the log? */
bool mp_needs_rewrite(const struct mp_command *command, const struct resp_request *request);

/* proxy->resp is there to parse with. False: out of memory. */
bool mp_parser_ready(struct mp_proxy *proxy);
/* It stopped in the middle of something, and is of no more use. */
void mp_parser_spoilt(struct mp_proxy *proxy);

#endif
