/*
 * session_parts.h - what the parts of a session need of each other: session.c
 * (coming and going), session_input.c, session_queue.c (its requests, in
 * order), session_output.c.
 */
#ifndef MP_SESSION_PARTS_H
#define MP_SESSION_PARTS_H

#include "session.h"

/* With so many a client is not read from until it has caught up. */
enum {
	MP_SESSION_PENDING_MAX = 1024,        /* requests of it */
	MP_SESSION_PENDING_BYTES = 4 << 20,   /* their bytes, and those of replies that wait */
	MP_SESSION_OUT_BYTES = 1 << 20,       /* replies that it has not read */
	MP_SESSION_SCRATCH_BYTES = 128 << 10, /* of sessions.scratch */
	/*
	 * So much of requests, of all clients, and a turn comes before others are read from:
	 * what is copied on from here to the servers is then in the caches still.
	 */
	MP_SESSIONS_TURN_BYTES = 64 << 10,
};

/* --- session.c */
/* Free those that have ended. */
void mp_sessions_bury(struct mp_sessions *sessions);

/* --- session_input.c */
void mp_session_on_readable(evutil_socket_t fd, short what, void *ctx);
/* The request that comes next is not taken yet: it is looked at again when it is let go. */
void mp_session_hold(struct mp_session *s);
void mp_sessions_let_go(struct mp_proxy *proxy);
/* It may have caught up: then it is read on from in the next turn. */
void mp_session_caught_up(struct mp_session *s);
/* The memory of `in` has changed. */
void mp_session_charge_input(struct mp_session *s);

/* --- session_output.c */
void mp_session_on_writable(evutil_socket_t fd, short what, void *ctx);
/* Reply bytes whose turn it is. */
void mp_session_put(struct mp_session *s, struct mp_slice piece);
/* The same of what was spilled, which is the session's from here on. */
void mp_session_put_spilled(struct mp_session *s, struct mp_spill *spill);
/* To be looked at at the end of the turn: output, or the end. */
void mp_session_mark_dirty(struct mp_session *s);
void mp_session_charge_output(struct mp_session *s);

#endif
