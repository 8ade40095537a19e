/*
 * memory.h - maxmemory and maxmemory-policy, which are the group's. Servers must
 * not evict by themselves (each would choose other keys), so they run with
 * maxmemory 0, and what Redis does in a server the leader does through the log.
 *
 * Settings. CONFIG SET writes them into the hidden database, at one place of the
 * log. Whoever hands on such a record, or finds its server again, asks its server
 * for them; so they are where the data are, and outlive everybody who dies. The
 * servers are given the policy, for them to keep each key's idle time or frequency.
 *
 * Measuring. The leader asks its own server how much memory it uses: not for each
 * request, but after writes that might have filled an eighth of what was left, and
 * ten times a second at most otherwise. So the limit may be passed by
 * what comes in meanwhile.
 *
 * Evicting. Candidates are drawn as Redis draws them, five for each victim and more:
 * by the server's own RANDOMKEY, in each database as many as its share is; of keys
 * with a deadline, which a server cannot draw, from our own index of them
 * (deadlines.h), and for volatile-ttl off its top. The server is asked for their
 * idle time or frequency and size, and those that come out worst, as many as it
 * takes, are deleted by an entry of the log.
 *
 * Where nothing can be evicted, requests that may need memory are refused, by the
 * leader, before they are logged; scripts are told beforehand (prelude.lua).
 */
#ifndef MP_MEMORY_H
#define MP_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "maxmemory.h"
#include "request.h"
#include "slice.h"

struct mp_proxy;

/* What the leader is about, as far as it is about anything. */
enum mp_memory_state {
	MP_MEMORY_IDLE,
	MP_MEMORY_MEASURES, /* the server is asked how much it uses */
	MP_MEMORY_CHOOSES,  /* ... which keys are to go */
	MP_MEMORY_CHOSEN,   /* they are in `victims`, to be logged */
	MP_MEMORY_EVICTS,   /* they are logged; when that is carried out, it is measured anew */
};

/* Of what may need memory. */
enum mp_memory_word {
	MP_MEMORY_LEFT,   /* it is served */
	MP_MEMORY_FULL,   /* it is refused */
	MP_MEMORY_UNSURE, /* the leader is about to know, by settings that have just been made */
};

struct mp_memory {
	/* The group's settings. */
	uint64_t limit_bytes; /* 0: none */
	enum mp_memory_policy policy;
	uint32_t asked; /* questions for them under way: not known yet, or perhaps changed */
	bool is_known;
	uint64_t evicted; /* keys, in the entries that were handed on here */

	/* The leader's. */
	bool is_full;     /* what may need memory is refused */
	bool is_over;     /* far: requests wait for eviction */
	bool is_measured; /* against this limit: until then requests wait */
	bool is_awaited;  /* sessions are held until it knows */
	enum mp_memory_state state;
	uint64_t ballot;        /* that all this is about */
	uint64_t used_bytes;    /* when it was measured last */
	uint64_t written_bytes; /* logged since */
	uint64_t next_ns;       /* when it is measured again, at the latest */
	uint64_t evicts_lsn;    /* EVICTS: the entry that is waited for; 0: not proposed yet */
	/* Keyspace events that are wanted: 'K' or 0, 'E' or 0. */
	char notify_evicted[2], notify_expired[2];
	struct mp_buffer victims; /* the server's answer */
	struct mp_buffer wire;
};

void mp_memory_close(struct mp_memory *memory);

/* --- memory_settings.c */
/* The backend is there (again), or a record that may change the settings was handed to it. */
void mp_memory_ask(struct mp_proxy *proxy);
/* The backend is gone, and with it all that was asked. */
void mp_memory_lost(struct mp_proxy *proxy);
void mp_memory_take_settings(struct mp_proxy *proxy, struct mp_slice answer);

/* --- memory.c: the leader */
/* An answer of purpose SETTINGS, MEASURE, NOTIFY or VICTIMS. */
void mp_memory_answer(struct mp_proxy *proxy, const struct mp_request *r, struct mp_slice answer);
/* How things are for the own clients' requests; at a replica that follows, as its leader has told.
 */
enum mp_memory_word mp_memory_word(const struct mp_proxy *proxy);
/* Nobody is sure: then a session that wants to know is let go (session_parts.h) when somebody is.
 */
bool mp_memory_is_unsure(struct mp_proxy *proxy);
/* Once a turn. */
void mp_memory_tell(struct mp_proxy *proxy);
/* Once a turn, before requests go into the pipeline. False: they have to wait. */
bool mp_memory_turn(struct mp_proxy *proxy);
/* When it wants the next turn (monotonic ns). */
uint64_t mp_memory_deadline_ns(struct mp_proxy *proxy);

/* --- memory_victims.c: what is asked, and what is logged */
/* Ask for keys to evict, worth so many bytes. False: there are none to ask about. */
bool mp_memory_choose(struct mp_proxy *proxy, uint64_t bytes);
/* Log the deletion of what is in `victims`. How many that are; 0: there are none. */
uint32_t mp_memory_evict(struct mp_proxy *proxy);

#endif
