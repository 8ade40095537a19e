/*
 * mu_peering.h - what a fabric that spans hosts asks of whoever joins the
 * members of a group over TCP, and what it is told by him.
 *
 * A peering listens on one address, dials the other members, proves that both
 * ends belong to one group (group id, replica ids, format version, and a
 * shared secret where one is configured), and offers two things:
 *
 *  - a channel to every member for short messages (verbs: endpoints of queue
 *    pairs), kept up by the peering, the two ends agreeing on one connection;
 *  - streams: authenticated TCP connections that are handed over to the fabric
 *    (tcp: the connections that operations travel on).
 *
 * libmu knows only this interface. The peering of the programs and of the
 * tests is src/peering.h; it runs on a libevent loop, and all that is called
 * in struct mu_peering_events is called from that loop's thread.
 */
#ifndef MU_PEERING_H
#define MU_PEERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mu_fabric.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The longest message, in bytes. */
#define MU_PEERING_MESSAGE_BYTES 1024

struct mu_peering;

/* What a fabric is told, and when: see attach(). */
struct mu_peering_events {
	/*
	 * The channel to a peer is up: both ends proved themselves, and a fabric is
	 * attached at both. Or it is down: what was sent may be lost.
	 */
	void (*channel)(void *fabric, unsigned peer, bool up);
	void (*message)(void *fabric, unsigned peer, const void *message, size_t len);
	/*
	 * A stream: fd is connected, authenticated, non-blocking, TCP_NODELAY,
	 * and from now on the fabric's to close. dialled: this end asked for it
	 * and posts operations on it; else the peer did, and this end serves it.
	 */
	void (*stream)(void *fabric, enum mu_plane plane, unsigned peer, int fd, bool dialled);
	void (*stream_failed)(void *fabric, enum mu_plane plane, unsigned peer);
	/*
	 * Another process runs as this peer now: all streams that were handed over
	 * before are the old one's, which may not be dead. May be NULL.
	 */
	void (*replaced)(void *fabric, unsigned peer);
};

/* What a fabric may ask, from any thread; nothing here blocks on a peer. */
struct mu_peering_ops {
	/*
	 * From now on this fabric is told of everything, of the channels that are
	 * up to begin with. events NULL: of nothing any more; when this returns no
	 * call is under way, so it must not come from within one.
	 */
	void (*attach)(struct mu_peering *, const struct mu_peering_events *events, void *fabric);
	/*
	 * Send a message to a peer: it arrives whole and behind those sent
	 * before it, or the channel goes down. Returns 0, or -1 if there is no
	 * channel just now, or no room.
	 */
	int (*send)(struct mu_peering *, unsigned peer, const void *message, size_t len);
	/*
	 * Ask for a stream to a peer. Ends in one call of stream() or
	 * stream_failed(), within the timeout of the peering. One request per
	 * (plane, peer) may be under way. Returns 0, or -1 if one is.
	 *
	 * A peer that is asked for a stream again has lost the one before, or
	 * has been started anew: its fabric closes that one first.
	 */
	int (*dial)(struct mu_peering *, enum mu_plane plane, unsigned peer);
};

struct mu_peering {
	const struct mu_peering_ops *ops;
};

#ifdef __cplusplus
}
#endif
#endif
