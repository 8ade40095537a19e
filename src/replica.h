/*
 * replica.h - one running replica: its fabric, consensus and proxy, and the
 * two threads that drive them (DESIGN 5).
 *
 * The data thread runs the clients' event loop, proposals and the backends;
 * the background thread runs heartbeats, scores and permissions and never
 * waits for the other. Everything here may be called by one other thread, the
 * one that opened the replica.
 */
#ifndef MUPROXY_REPLICA_H
#define MUPROXY_REPLICA_H

#include <stdbool.h>
#include <stddef.h>

#include "book.h"
#include "conf.h"

struct replica;

/*
 * Open fabric, consensus and proxy; listeners are bound, nothing runs yet.
 * conf must outlive the replica. NULL: one line "file:line: reason" in err.
 */
struct replica *replica_open(const struct conf *conf, char *err, size_t err_bytes);
/* Start the threads. -1: errno, and nothing runs. */
int replica_start(struct replica *replica);

/*
 * Begin to stop: no new clients, what was taken is answered, leadership is
 * given up. Returns at once; replica_drained() tells when it is done. What is
 * not finished drain_timeout_ms later is given up.
 */
void replica_drain(struct replica *replica);
bool replica_draining(const struct replica *replica);
bool replica_drained(const struct replica *replica);

/*
 * End the threads and close everything. The threads are given a second to
 * come; false means that one hangs, and nothing could be closed: only ending
 * the process is left.
 */
bool replica_close(struct replica *replica);

/* What it knows of its group, and its counters. */
void replica_group_status(const struct replica *replica, struct mu_group_status *status);
/*
 * The operator's word to go on without what lost memories held (mu_accept_loss()).
 * False, with the reason, if nothing is to be done. Any thread.
 */
bool replica_accept_loss(struct replica *replica, const char **why);
/*
 * Make another replica lead (mu_hand_over()); heir 0: whichever is fit. Goes on by
 * itself: look who leads. False, with the reason, if that cannot be. Any thread.
 */
bool replica_hand_over(struct replica *replica, unsigned heir, const char **why);
/*
 * Before maintenance: hand over if this replica leads, and stay out of it until this
 * is taken back; clients are served, but replica_rests() tells. Likewise.
 */
bool replica_rest(struct replica *replica, bool rests, const char **why);
bool replica_rests(const struct replica *replica);
/*
 * Keep up with the group's members (membership.h): some times a second, by the thread that
 * opened the replica. False once this one was removed from the group, and does not lead.
 */
bool replica_look_at_members(struct replica *replica);
/* Who is where, as of then; by that thread. */
const struct book *replica_book(const struct replica *replica);
/*
 * An operator's wish, of the leader: see membership_change(). By that thread. It goes on by
 * itself: look at the group's status.
 */
bool replica_change_members(struct replica *replica, enum mu_change change, const char *who,
			    unsigned *id, char *why, size_t why_bytes);
/* The operator's word to have the Redis here given another's state (proxy.h). Any thread. */
bool replica_replace_redis(struct replica *replica);
void replica_proxy_stats(const struct replica *replica, struct mp_proxy_stats *stats);
/* The fabric that it runs on: "shm", "tcp", ... */
const char *replica_fabric(const struct replica *replica);
/* Most members have chosen another fabric (fabrics.h): this process is of no use. */
bool replica_outvoted(const struct replica *replica, char *why, size_t why_bytes);
double replica_uptime_s(const struct replica *replica);

#endif
