/*
 * blocking_home.h - commands that wait for a key: the side of the replica that
 * the client is connected to, whoever leads. It keeps the time, so that a
 * timeout outlasts leaders, and hears of the client's leaving and of CLIENT
 * UNBLOCK. Who waits at another replica, the leader, is given up by a frame;
 * the answer comes from there, for an element may be on its way.
 */
#ifndef MP_BLOCKING_HOME_H
#define MP_BLOCKING_HOME_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "blocking.h"
#include "request.h"

struct mp_proxy;
struct mp_session;

/* Of a request that was sent and may wait. */
struct mp_patience {
	TAILQ_ENTRY(mp_patience) place;
	struct mp_proxy *proxy;
	struct mp_request *r;
	struct event timer;
	uint64_t deadline_ms; /* UINT64_MAX: none */
};
TAILQ_HEAD(mp_patience_list, mp_patience);

/*
 * The request is about to be sent, for the first time or again. False: it was
 * answered instead, since it is out of time.
 */
bool mp_patience_begin(struct mp_proxy *proxy, struct mp_request *r);
/* It is answered, or gone. */
void mp_patience_end(struct mp_request *r);
/* Another request stands for it from now on. */
void mp_patience_move(struct mp_request *from, struct mp_request *to);
/* It is to wait no longer: it will be answered, now or soon. */
void mp_patience_give_up(struct mp_request *r, enum mp_give_up why);
/* Its client has left: nobody wants an answer. */
void mp_patience_leave(struct mp_proxy *proxy, struct mp_request *r);
/* It will send nothing more: it gets what is there for it, and waits for nothing. */
void mp_patience_client_ended(struct mp_session *s);
/* The replica ends: nobody waits here any more. */
void mp_patience_drain(struct mp_proxy *proxy);
/* The request for which a client waits now, or NULL. */
struct mp_request *mp_patience_of(const struct mp_session *s);

#endif
