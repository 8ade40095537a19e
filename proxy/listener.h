/* listener.h - where clients and other replicas connect. */
#ifndef MP_LISTENER_H
#define MP_LISTENER_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_proxy;

enum mp_listener_kind { MP_LISTEN_REDIS, MP_LISTEN_MEMCACHED, MP_LISTEN_PEER, MP_LISTENERS };

struct mp_listener {
	struct mp_proxy *proxy;
	enum mp_listener_kind kind;
	int fd; /* -1: none */
	struct event readable;
	bool accepting;
};

struct mp_listeners {
	struct mp_listener at[MP_LISTENERS];
	uint64_t opened_ns;
	uint64_t retry_ns; /* file descriptors ran out: when to try again; 0: they did not */
};

void mp_listeners_init(struct mp_listeners *listeners);
/* Binds all; clients are not accepted yet. False: one line in err. */
bool mp_listeners_open(struct mp_proxy *proxy, char *err, size_t err_bytes);
/*
 * Once a turn: accept clients as soon as their requests can be understood (the
 * backend's command table is there), or hold_timeout_ms later at the latest,
 * when they are told that it is not. Returns when it wants another turn.
 */
uint64_t mp_listeners_turn(struct mp_proxy *proxy);
/* No more clients; the ports are given back. Replicas may still connect. */
void mp_listeners_drain(struct mp_proxy *proxy);
void mp_listeners_close(struct mp_proxy *proxy);

#endif
