/* redis_local.h - Redis commands that concern the connection alone. */
#ifndef MP_REDIS_LOCAL_H
#define MP_REDIS_LOCAL_H

#include "command.h"
#include "resp.h"
#include "session.h"

/* Answer a request of class LOCAL. */
void mp_redis_local(struct mp_session *s, const struct mp_command *command,
		    const struct resp_request *request);

#endif
