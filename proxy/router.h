/*
 * router.h - where requests go: into the own pipeline if this replica leads,
 * to the leader if another does, nowhere (they are held) if nobody does.
 * Requests of one session go in order, and never past one in doubt or past a
 * conditional that is not answered yet.
 */
#ifndef MP_ROUTER_H
#define MP_ROUTER_H

#include <stdint.h>

#include "request.h"
#include "session.h"

struct mp_proxy;

struct mp_router {
	struct mp_session_list ready; /* those with a request that may go, oldest first */
	struct mp_request_list inbox; /* relayed to us, for the pipeline */
};

void mp_router_init(struct mp_router *router);
/* The session may have a request to send now. */
void mp_router_ready(struct mp_proxy *proxy, struct mp_session *s);
void mp_router_forget(struct mp_proxy *proxy, struct mp_session *s);
/* Once a turn: send what can be sent. */
void mp_router_run(struct mp_proxy *proxy);
/* Is there something that the next turn could send? */
bool mp_router_pending(const struct mp_proxy *proxy);
/* Requests relayed under a ballot that has passed are dropped: their sender knows. */
void mp_router_drop_inbox(struct mp_proxy *proxy);
/* Give up what was held for longer than hold_timeout_ms. */
void mp_router_sweep(struct mp_proxy *proxy, uint64_t now_ms);

#endif
