/*
 * monitor.h - MONITOR: the commands that clients of this replica send, in Redis's
 * form, as they arrive (within MULTI: as they are queued). What is executed on
 * behalf of other replicas' clients is shown there; what scripts call is not
 * shown. As in Redis, commands of its administration are left out, and passwords.
 * A monitor that does not read is disconnected, as any client is (client-output).
 */
#ifndef MP_MONITOR_H
#define MP_MONITOR_H

#include <stdbool.h>

#include "resp.h"
#include "session.h"

struct mp_command;

/* MONITOR */
void mp_monitor_begin(struct mp_session *s, const struct resp_request *request);
/* RESET, or the session is over. */
void mp_monitor_end(struct mp_session *s);
/* A command was understood and is about to be dealt with. */
void mp_monitor_show(struct mp_session *s, const struct mp_command *command,
		     const struct resp_request *request);
static inline bool mp_monitor_is_on(const struct mp_sessions *sessions)
{
	return !TAILQ_EMPTY(&sessions->monitors);
}

#endif
