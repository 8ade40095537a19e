/*
 * admin.h - what a replica tells of itself over HTTP on its admin address:
 *   GET /status   JSON: this replica, and the whole group as it sees it
 *   GET /healthz  200 "ok" if clients are served here, else 503 and the reason
 *   GET /metrics  the same and all counters, for Prometheus
 * and what it does at an operator's wish: admin_wishes.h.
 * Runs in the thread of the event base it is given, never in the data thread.
 */
#ifndef MUPROXY_ADMIN_H
#define MUPROXY_ADMIN_H

#include <event2/event.h>
#include <stddef.h>

#include "conf.h"
#include "replica.h"

struct admin;

/* Binds conf->admin_listen. NULL: one line "file:line: reason" in err. */
struct admin *admin_open(struct event_base *base, const struct conf *conf, struct replica *replica,
			 char *err, size_t err_bytes);
void admin_close(struct admin *admin);

#endif
