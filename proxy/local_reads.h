/*
 * local_reads.h - reads that a client wants answered by the server beside the
 * replica that it is connected to, whoever leads: it said READONLY, or the
 * configuration says read-mode = local.
 *
 * They ask nobody, so they cost no fence and go on where there is no leader; and
 * they may answer with the past, as far as this replica is behind. What is kept:
 * they are executed in a connection's order, and see what it wrote itself. Where
 * the own server has not come as far as that, or cannot be asked, a read goes to
 * the leader as any other, so one that comes later may see less than it did.
 */
#ifndef MP_LOCAL_READS_H
#define MP_LOCAL_READS_H

#include <stdbool.h>

struct mp_proxy;
struct mp_request;
struct mp_request_meta;
struct mp_session;

enum mp_local_way {
	MP_LOCAL_NO,    /* it goes as all others do */
	MP_LOCAL_WAITS, /* for the replies to requests of its session before it */
	MP_LOCAL_YES,
};

/* READONLY and READWRITE; what the configuration says. */
void mp_local_reads_begin(struct mp_session *s);
/* May this read be answered with the past, as far as the session is concerned? */
bool mp_local_reads_wanted(const struct mp_session *s, const struct mp_request_meta *meta);
/* A request that its session has not sent yet. */
enum mp_local_way mp_local_reads_way(const struct mp_proxy *proxy, const struct mp_request *r);
/* Hand it to the own server; it counts as sent from here on. */
void mp_local_reads_send(struct mp_proxy *proxy, struct mp_request *r);

#endif
