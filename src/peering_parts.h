/*
 * peering_parts.h - a peering from inside. All runs on its thread, but for what
 * is said to be guarded.
 *
 *   peering.c            the thread, the listener, what other threads ask for
 *   peering_address.*    names to addresses, without waiting for them
 *   peering_dial.c       who is to be dialled, and when
 *   peering_greeting.c   one connection until both ends know each other
 *   peering_channel.c    channels: messages, signs of life, one process an id
 *   peering_book.c       who is where, told and heard
 *   peering_ask.c        to be told once, by any member, before there is a peering
 */
#ifndef MUPROXY_PEERING_PARTS_H
#define MUPROXY_PEERING_PARTS_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "buffer.h"
#include "peering.h"
#include "peering_address.h"
#include "peering_wire.h"

enum greeting_state {
	GREETING_CONNECTING,
	GREETING_HELLO, /* the peer's hello is awaited */
	GREETING_PROOF, /* ... its proof */
	GREETING_HELD,  /* it has proved itself, but its id is in use: is it, still? */
};

struct greeting {
	TAILQ_ENTRY(greeting) place;
	struct peering *peering;
	enum greeting_state state;
	bool dialled;
	bool proven; /* knows the secret: it is who it says it is */
	enum peering_purpose purpose;
	unsigned peer; /* 0: has not said yet */
	int fd;
	struct event io;
	uint64_t deadline_ms;
	struct peering_hello mine, theirs;
	struct peering_head head;
	uint8_t body[sizeof(struct peering_hello)];
	size_t got; /* of head and body */
	char remote[64];
};
TAILQ_HEAD(greeting_list, greeting);

struct channel {
	struct peering *peering;
	unsigned peer;
	bool up;
	bool announced; /* the fabric has been told so; guarded by events_lock */
	bool dialled;
	int fd;
	uint64_t nonce; /* of the process at the other end */
	char remote[64];
	struct event readable, writable;
	struct mp_buffer in;
	struct mp_buffer out; /* guarded by lock */
	bool open;            /* takes messages; guarded by lock */
	bool congested;
	struct peering_state state; /* the peer's; guarded by lock */
	struct peering_state told;  /* what the peer knows of this end; guarded by lock */
	uint64_t heard_ms, pinged_ms;
	struct greeting *challenger; /* claims to be the same replica */
	uint64_t challenged_ms;
	uint64_t lost_ms; /* since when it is not up */
	uint32_t owed;    /* bit i: where replica i is has still to be told */
};

struct dial {
	bool wanted;
	uint64_t deadline_ms; /* of the request */
	uint64_t next_ms;     /* no attempt before */
	unsigned failures;
	unsigned attachment; /* of the fabric that asked */
	struct greeting *greeting;
};

/* What was last complained of, so that the log is not filled with it. */
struct complaint {
	uint64_t why; /* a hash */
	uint64_t again_ms;
};

struct peering {
	struct mu_peering ops; /* first */
	struct peering_options options;
	_Atomic uint32_t known;   /* bit i: it is known where replica i is; only grows */
	_Atomic uint32_t removed; /* bit i: replica i was removed from the group */
	struct book book;         /* guarded by lock */
	uint64_t nonce;
	struct peering_user user;

	struct event_base *base;
	int listener, wake_fd;
	struct event *accept_event, *wake_event, *tick_event;
	pthread_t thread;
	bool started;
	_Atomic bool stop;

	/* Bit i: a request to dial replica i is under way. */
	_Atomic uint32_t asked[PEERING_PURPOSES];
	_Atomic uint32_t facts;

	pthread_mutex_t events_lock; /* held in calls of the fabric */
	const struct mu_peering_events *events;
	void *fabric;
	_Atomic unsigned attachment; /* counts fabrics; changes under events_lock */
	_Atomic bool attached;

	pthread_mutex_t lock; /* never taken for long */

	struct greeting_list greetings;
	unsigned accepted; /* greetings that somebody else began */
	struct channel channel[MU_ID_SLOTS];
	struct dial dial[PEERING_PURPOSES][MU_ID_SLOTS];
	struct peering_places *places;
	struct complaint complaint[MU_ID_SLOTS]; /* 0: of strangers */
	uint64_t strangers_ms;                   /* no line about any of them before */
	uint64_t accept_ms;                      /* nobody is accepted before; 0: all are */
};

static inline bool peering_knows(const struct peering *p, unsigned id)
{
	return id >= 1 && id <= MU_MAX_REPLICAS && (atomic_load(&p->known) >> id & 1);
}

#define PEERING_EACH(p, id)                                \
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) \
		if (id != (p)->options.id && peering_knows((p), id))

uint64_t peering_now_ms(void);
/*
 * A line in the log about a peer (0: somebody unknown), unless one for the same
 * reason was just there. Of those who have not proved who they are, there are few.
 */
void peering_complain(struct peering *p, unsigned peer, bool proven, const char *why,
		      const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Let the thread have a look at what was asked. */
void peering_wake(struct peering *p);
/* A stream that both ends agree on is handed to whom it is for. */
void peering_hand_over(struct peering *p, enum peering_purpose purpose, unsigned peer, int fd,
		       bool dialled, unsigned attachment);
void peering_tell_failed(struct peering *p, enum peering_purpose purpose, unsigned peer,
			 unsigned attachment);

/* --- peering_dial.c --- */
void peering_dial_tick(struct peering *p, uint64_t now_ms);
/* The greeting of a dial has ended. */
void peering_dial_greeted(struct peering *p, struct greeting *greeting);
void peering_dial_failed(struct peering *p, enum peering_purpose purpose, unsigned peer,
			 uint64_t now_ms);

/* --- peering_greeting.c --- */
void greeting_accept(struct peering *p, int fd);
/* Returns NULL if memory is short. */
struct greeting *greeting_dial(struct peering *p, enum peering_purpose purpose, unsigned peer,
			       int fd, const char *remote);
/* End it without a word; fd is closed unless it was taken (-1). */
void greeting_free(struct greeting *greeting);
/* What became of one that was held. */
void greeting_admit(struct greeting *greeting);
void greeting_refuse(struct greeting *greeting, bool quiet, const char *why);
void greeting_tick(struct peering *p, uint64_t now_ms);

/* --- peering_channel.c --- */
enum channel_verdict { CHANNEL_ADMIT, CHANNEL_REFUSE, CHANNEL_HOLD };
/* May this greeting, in which the peer has proved itself, become the channel? */
enum channel_verdict channel_offer(struct peering *p, struct greeting *greeting);
/* It does; takes fd over. */
void channel_open(struct peering *p, struct greeting *greeting);
void channel_close(struct peering *p, unsigned peer, const char *why);
/* A held greeting is no more. */
void channel_forget(struct peering *p, const struct greeting *greeting);
/* Queue a frame. -1: no channel, or no room. Any thread. */
int channel_send(struct peering *p, unsigned peer, enum peering_frame_type type, const void *body,
		 size_t len);
void channel_flush(struct peering *p, unsigned peer);
/* Tell the fabric what changed. */
void channel_announce(struct peering *p, unsigned peer);
/* Queue for the peer what changed here; channel_tick() repeats it should there be no room. Any
 * thread. */
void channel_tell_state(struct peering *p, unsigned peer);
/* What speaks against working with this peer (peering.h); NULL: nothing. */
const char *channel_objection(struct peering *p, unsigned peer);
/* Is there a fabric at the other end that this one can work with? */
bool channel_joins_fabrics(struct peering *p, unsigned peer);
void channel_tick(struct peering *p, uint64_t now_ms);

/* A text of somebody else's, to be shown. */
static inline void peering_make_printable(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

/* --- peering_book.c --- */
/* May somebody who bears this id, and knows the secret, be spoken to? */
bool peering_admits(const struct peering *p, unsigned id);
/* The own word of where it is, or a peer's of himself or another: news go on to all. */
void peering_learn(struct peering *p, unsigned id, uint64_t stamp, const char *address);
/* False: it makes no sense. */
bool peering_take_place(struct peering *p, const char *body, size_t bytes);
/* Queue for a channel what its peer has not been told. */
void peering_tell_places(struct peering *p, unsigned peer);
/* The whole answer to a question, as bytes; returns how many. */
size_t peering_write_book(struct peering *p, uint8_t *out, size_t cap);
/* A NUL within it, nothing but what can be seen before. */
bool peering_address_is_sound(const char address[BOOK_ADDRESS_BYTES]);

#endif
