/*
 * link.h - one connection between two replicas: a socket, its buffers, frames
 * (frame.h) in and out, the greeting. What the frames are about is its user's:
 * relay_out.c at the follower's end, relay_in.c at the leader's.
 */
#ifndef MP_LINK_H
#define MP_LINK_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "buffer.h"
#include "frame.h"
#include "slice.h"

struct mp_proxy;
struct mp_link;

/* What a link tells its user. */
struct mp_link_events {
	/* The other end has greeted properly: link->peer and link->peer_nonce are known. */
	void (*up)(struct mp_link *link);
	/* A frame after the greeting. False: it makes no sense, why says so; the link ends. */
	bool (*frame)(struct mp_link *link, enum mp_frame_type type, struct mp_slice body,
		      const char **why);
	/*
	 * The connection is gone; why: one line, or NULL if the other end just
	 * closed. The link may be in use up the stack: let go of it in a later turn.
	 */
	void (*closed)(struct mp_link *link, const char *why);
};

enum mp_link_state { MP_LINK_CONNECTING, MP_LINK_GREETING, MP_LINK_UP, MP_LINK_CLOSED };

struct mp_link {
	TAILQ_ENTRY(mp_link) place; /* its user's list */
	struct mp_proxy *proxy;
	const struct mp_link_events *events;
	enum mp_link_state state;
	int fd;
	struct event readable, writable;
	struct mp_buffer in, out;
	struct mp_spill *spill; /* ... what goes behind `out`, in a file (spill.h), or NULL */
	struct mp_buffer late;  /* ... and behind that what is not in it yet */
	bool outbound;
	bool paused;  /* not read from until mp_link_resume() */
	bool adopted; /* set by frame(): it took the memory of `in`, up to the frame's end, over */
	bool congested;               /* the socket is full: writable is waited for */
	enum mp_link_purpose purpose; /* outbound: set it before anything is sent */
	unsigned peer;                /* who it has to be, or said it is; 0: not known yet */
	uint64_t peer_nonce;
	uint64_t ballot;   /* that the leading end has told, 0: none, or deposed */
	uint8_t memory;    /* what that end has told last of memory: enum mp_memory_word */
	uint32_t held;     /* clients of the end that follows, as it has told last (pause.h) */
	uint64_t heard_ns; /* when something was received last */
	uint32_t holds;    /* requests that still point to it, and its user */
};

/* A link over a socket that is connecting (outbound) or was accepted. NULL: out of memory. */
struct mp_link *mp_link_new(struct mp_proxy *proxy, int fd, unsigned peer, bool outbound,
			    const struct mp_link_events *events);
/* Queue a frame: its body in two parts. It goes out with the next flush. */
void mp_link_send(struct mp_link *link, enum mp_frame_type type, const void *head,
		  size_t head_bytes, struct mp_slice tail);
/* How much of what was queued the socket has not taken: bytes. */
uint64_t mp_link_unsent(const struct mp_link *link);
/* Send what is queued, as far as the socket takes it; waits for the rest by itself. */
void mp_link_flush(struct mp_link *link);
void mp_link_pause(struct mp_link *link);
void mp_link_resume(struct mp_link *link);
/* End it: the socket is closed, closed() is called. No-op if it is closed. */
void mp_link_close(struct mp_link *link, const char *why);
/* Holds keep the memory; the last one to let go frees it (closing it first, silently). */
void mp_link_hold(struct mp_link *link);
void mp_link_release(struct mp_link *link);

#endif
