/*
 * wire.h - a connection to a server that is always wanted: it connects,
 * reconnects with exponential back-off, and moves bytes between two buffers
 * and a non-blocking socket. What the bytes mean is its user's.
 *
 * Its user is told everything from within the event loop, never from within a
 * function called here (but mp_wire_receive()).
 */
#ifndef MP_WIRE_H
#define MP_WIRE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "net.h"

struct mp_wire_events {
	/* Connected; both buffers are empty. */
	void (*up)(void *ctx);
	/* New bytes are at the end of wire->in. Take away what is understood. */
	void (*bytes)(void *ctx);
	/*
	 * The connection, or an attempt to connect, has failed; the next attempt
	 * comes by itself. Both buffers are empty. why is good during the call.
	 */
	void (*down)(void *ctx, const char *why);
};

enum mp_wire_state {
	MP_WIRE_WAITING, /* for the next attempt to connect */
	MP_WIRE_CONNECTING,
	MP_WIRE_UP,
	/*
	 * We broke the connection off; waiting for the server to close it too. It
	 * may still be executing what it had received, and must have finished
	 * before a new connection goes on from what it shows to have executed.
	 */
	MP_WIRE_LINGERING,
};

struct mp_wire {
	struct mp_buffer in, out;
	enum mp_wire_state state;
	bool is_broken; /* mp_wire_break() was called; down() is about to be told */
	bool is_held;   /* mp_wire_hold() */
	/* the rest is private */
	const struct mp_wire_events *events;
	void *ctx;
	struct mp_address address;
	struct event_base *base;
	struct event *readable, *writable; /* of fd */
	struct event *timer;               /* what it means depends on the state */
	struct event *rest_timer;
	int fd;
	bool writable_is_pending;
	bool is_resting; /* mp_wire_rest(): the loop does not look at fd */
	unsigned attempt;
	int delay_ms, min_ms, max_ms; /* between attempts */
	uint64_t progress_ms;         /* when bytes moved last, either way */
	char why[160];                /* of mp_wire_break() */
};

/*
 * Ready a zeroed wire; the first attempt to connect is made in the loop's next
 * pass. False with a one-line reason in err.
 */
bool mp_wire_open(struct mp_wire *wire, struct event_base *base, const char *address, int min_ms,
		  int max_ms, const struct mp_wire_events *events, void *ctx, char *err,
		  size_t err_bytes);
/* Close and give everything back; nothing is told any more. */
void mp_wire_close(struct mp_wire *wire);

/* Put bytes behind what is queued (no-op unless UP); they go with the next flush. */
void mp_wire_put(struct mp_wire *wire, const void *data, size_t bytes);
/* The same for a large message, which goes at once, as far as it can, without being copied. */
void mp_wire_put_large(struct mp_wire *wire, const void *data, size_t bytes);
/* Send what is queued as far as the socket takes it; the rest follows by itself. */
void mp_wire_flush(struct mp_wire *wire);

/*
 * Nobody waits for what the server says: the loop is not to wake up for it. It is
 * taken by mp_wire_receive(), or some milliseconds later. Until mp_wire_attend().
 */
void mp_wire_rest(struct mp_wire *wire);
void mp_wire_attend(struct mp_wire *wire);
/* If it rests: take what has come. Tells as the loop does, so call it as the loop would. */
void mp_wire_receive(struct mp_wire *wire);

/*
 * Give this connection up because of why (copied), if it is UP and not given up
 * yet: nothing is sent or told any more but down(), in the loop's next pass.
 */
void mp_wire_break(struct mp_wire *wire, const char *why);
/*
 * Stay away from the server until mp_wire_release(): as mp_wire_break(), but no
 * attempt to connect follows. May be called in any state.
 */
void mp_wire_hold(struct mp_wire *wire, const char *why);
void mp_wire_release(struct mp_wire *wire);
/* The server is fit for use: the next attempt, should one be needed, comes soon again. */
void mp_wire_reset_delay(struct mp_wire *wire);
/* Let the next attempt wait the full max_ms, and those after it. */
void mp_wire_max_delay(struct mp_wire *wire);

/* Milliseconds of the monotonic clock, a few behind at most. */
uint64_t mp_wire_now_ms(void);

#endif
