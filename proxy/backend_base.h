/*
 * backend_base.h - what the adapters have in common: the connection, the
 * queue of replies still to come, taking replies apart, and the book-keeping of
 * the applied LSN. Private to the adapters (backend.h is for everybody else).
 *
 * The data path goes without hiredis and libmemcached: they build an object of
 * every reply, to be turned into the same bytes again for the client, when all
 * there is to know about most replies is where they end. Here a reply is
 * framed in the receive buffer and passed on from there.
 */
#ifndef MP_BACKEND_BASE_H
#define MP_BACKEND_BASE_H

#include "backend.h"
#include "fifo.h"
#include "wire.h"

struct mp_base;

enum mp_take_mode {
	MP_TAKE_READ,  /* any reply is the owner's */
	MP_TAKE_WRITE, /* one that says that the write was refused fails the backend */
	MP_TAKE_OWN,   /* our own command: no owner, any error fails the backend */
};

enum mp_take {
	MP_TAKE_MORE,   /* the reply is not whole yet */
	MP_TAKE_DONE,   /* the reply was whole and is gone from the buffer */
	MP_TAKE_BROKEN, /* the connection was given up because of it */
};

/* One reply, or one transaction's replies, still to come. */
struct mp_slot {
	void *owner;         /* whom the reply goes to, NULL: nobody */
	uint64_t lsn;        /* applied LSN once this is answered; 0: as it was */
	uint64_t stored_lsn; /* what the server itself says by then; 0: as it was */
	uint32_t members;    /* the adapter's */
	uint8_t kind;        /* the adapter's */
	uint8_t mode;        /* enum mp_take_mode */
};

/* What an adapter adds. */
struct mp_base_hooks {
	/* Connected: send the handshake. Ends in mp_base_ready, mp_base_refuse or mp_wire_break. */
	void (*greet)(struct mp_base *base);
	/* Bytes came in during the handshake, and after it. */
	void (*greeting)(struct mp_base *base);
	void (*bytes)(struct mp_base *base);
	/* As resp_frame: how many of the bytes belong to the head's reply, and is it whole? */
	enum mp_take (*frame)(struct mp_base *base, const char *data, size_t len, size_t *used);
	/* Called once for every reply, with its first piece: does it say that the backend failed?
	 */
	bool (*is_failure)(struct mp_base *base, struct mp_slice reply, enum mp_take_mode mode);
	/* What of a reply's first piece is the owner's. NULL: all of it. */
	struct mp_slice (*clean)(struct mp_slice piece);
	/* Send a command that stores applied_lsn. False: not now. */
	bool (*store)(struct mp_base *base);
	/* The connection is gone: tell every owner, forget what it was about. */
	void (*lose)(struct mp_base *base);
};

struct mp_base {
	struct mp_backend backend; /* first: what the world sees */
	const struct mp_base_hooks *hooks;
	struct mp_wire wire;
	struct mp_fifo slots; /* of struct mp_slot */
	uint64_t group_id;
	bool is_greeting;
	size_t scanned; /* bytes of the head's reply that the framer has seen */
	bool streamed;  /* a piece of the head's reply was told already */
	uint64_t waiting_since_ms;
	uint64_t unit_lsn;   /* the newest that was given */
	uint64_t stored_lsn; /* the newest that was sent to be stored */
	uint32_t unstored;   /* entries answered since */
	bool store_is_due;   /* store_timer is set */
	struct event *store_timer;
	struct event *greeting_timer;
	uint64_t failed_lsn; /* the entry refused, until it is applied after all; 0: none */
	char failure[256];   /* why the connection is being given up with state FAILED */
	char told[256];      /* the last reason told */
};

bool mp_base_open(struct mp_base *base, struct event_base *events_base,
		  const struct mp_backend_options *options, const struct mp_base_hooks *hooks,
		  const struct mp_backend_events *events, void *ctx, char *err, size_t err_bytes);
void mp_base_close(struct mp_base *base);

/* The handshake has ended well. */
void mp_base_ready(struct mp_base *base, uint64_t era, uint64_t applied_lsn, const char *why);
/* The server must not serve (FAILED). Told from the loop's next pass. */
void mp_base_refuse(struct mp_base *base, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The head's reply says that a committed entry was not executed (FAILED). */
void mp_base_fail(struct mp_base *base, struct mp_slice reply);

/* Something was sent that will be answered: a slot for it, at the end. */
struct mp_slot *mp_base_expect(struct mp_base *base, uint8_t kind, void *owner,
			       enum mp_take_mode mode);
/* Take (the next piece of) the reply at the front of wire.in and tell owner. */
enum mp_take mp_base_take(struct mp_base *base, void *owner, enum mp_take_mode mode);
/* The head is answered in full: pop it, do the book-keeping. */
void mp_base_answered(struct mp_base *base);
/* Everything up to lsn is given: it counts as applied once all that was sent is answered. */
void mp_base_mark(struct mp_base *base, uint64_t lsn);
/* Store the applied LSN now rather than later (if there is anything to store, and it can be). */
void mp_base_store(struct mp_base *base);
/* What was stored is lost: it has to be stored again. */
void mp_base_unstore(struct mp_base *base);
/* Tell an owner, unless NULL, that no reply will come. */
void mp_base_lost(struct mp_base *base, void *owner);

/* For the table of ops. */
void mp_base_flush(struct mp_backend *backend);
/* At the end of a unit: do not let more gather than the caches hold. */
void mp_base_flush_much(struct mp_base *base);
void mp_base_attend(struct mp_backend *backend, bool is_awaited);
void mp_base_receive(struct mp_backend *backend);
size_t mp_base_backlog(const struct mp_backend *backend);
uint64_t mp_base_oldest_ms(const struct mp_backend *backend);
void mp_base_hold(struct mp_backend *backend, const char *why);
void mp_base_release(struct mp_backend *backend, bool another);

#endif
