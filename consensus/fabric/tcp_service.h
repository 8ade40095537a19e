/*
 * tcp_service.h - the thread that executes what the peers post on one plane.
 * The background plane has one of its own, so that heartbeats are not held up
 * behind the log, and it asks for a real-time priority as the background
 * thread does.
 */
#ifndef MU_TCP_SERVICE_H
#define MU_TCP_SERVICE_H

#include "tcp_target.h"

struct tcp_service;

typedef void tcp_log_fn(void *ctx, const char *line);

struct tcp_service_options {
	struct tcp_target *target;
	enum mu_plane plane;
	uint64_t spin_ns;
	tcp_log_fn *log; /* may be NULL */
	void *log_ctx;
};

/* NULL: errno. */
struct tcp_service *tcp_service_start(const struct tcp_service_options *options);
/* Ends the thread, and all connections with it. */
void tcp_service_stop(struct tcp_service *service);

/*
 * Serve this connection of a peer from now on; the one before is closed first,
 * and what it had sent but was not executed is lost (F8). Takes fd over. Any
 * thread.
 */
void tcp_service_take(struct tcp_service *service, unsigned peer, int fd);
/* Serve none of a peer's connections that were taken before. Any thread. */
void tcp_service_drop(struct tcp_service *service, unsigned peer);

#endif
