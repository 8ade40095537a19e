/*
 * mc_decide.h - what becomes of a Memcached request (DETERMINISM, Memcached 1).
 *
 * Replicas' memcacheds evict each on its own, so a command that asks what is
 * there (add, replace, append, prepend, cas, incr, decr) could succeed on one
 * and fail on another. The leader decides those: under the key's lock it reads
 * the item from its backend (mc_encode_fetch), decides (mc_decide), and logs a
 * plain `set` or `delete`, or nothing; the client gets the reply decided. So on
 * every replica an item is what the last set in the log made it, or absent.
 * All other writes are logged as they are (mc_encode), with absolute deadlines,
 * and the leader's backend's reply is the client's. (touch and gat, too: they
 * move a deadline, not a value, so a replica that lacks the item is no worse
 * off than one that evicted it; and tokens of `cas` stay good.)
 *
 * Pure functions: no clock, no I/O. Every wire form made here yields exactly
 * one reply (noreply is left out).
 */
#ifndef MP_MC_DECIDE_H
#define MP_MC_DECIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mc_text.h"
#include "slice.h"

enum mc_class {
	MC_CLASS_READ,  /* get gets stats version: mc_encode, to the leader's backend, after a fence
			 */
	MC_CLASS_WRITE, /* set delete touch gat gats flush_all: mc_encode, through the log */
	MC_CLASS_DECIDED, /* add replace append prepend cas incr decr: mc_encode_fetch, mc_decide */
	MC_CLASS_LOCAL,   /* quit, refused, unknown: the session's */
};
enum mc_class mc_class_of(const struct mc_request *);

/*
 * Is a request of class WRITE a blind write (command.h)? All are: each assigns
 * an item or the deadline of one that is there, or removes, and none fails for
 * what it finds. So is what mc_decide logs.
 */
bool mc_is_blind(const struct mc_request *);

/* Does the reply hold CAS tokens of the backend, to be put into the clients' form? gets, gats. */
bool mc_has_tokens(const struct mc_request *);

/*
 * Deadlines. A relative exptime (up to 30 days) is made absolute with now_s: the
 * Unix time, as the leader's memcached has it (its `stats` call it `time`; if
 * it is unknown, the leader's own clock).
 *
 * An item's deadline can only be read back as seconds left, which added to
 * now_s gives it with an error of a second. A counter that is incremented all
 * the time would collect these errors and live for ever, or die too soon. So
 * the leader remembers the deadlines that it logged last, of as many keys as
 * there are slots, and takes them again where they fit. Losing one (slot
 * taken, new leader) costs a second once. Zeroed memory is ready.
 */
#define MC_DEADLINE_SLOTS 8192
struct mc_deadlines {
	struct {
		uint64_t key_hash;
		int64_t deadline_s;
	} slot[MC_DEADLINE_SLOTS];
};

/*
 * The wire form of a request of class READ or WRITE. Returns its length;
 * > cap: it did not fit (call again with more).
 */
size_t mc_encode(const struct mc_request *, int64_t now_s, struct mc_deadlines *, char *out,
		 size_t cap);

/* The wire form that fetches keys[0] of a request of class DECIDED; at most MC_FETCH_BYTES. */
#define MC_FETCH_BYTES 300
size_t mc_encode_fetch(const struct mc_request *, char *out, size_t cap);

struct mc_item {
	bool found;
	struct mp_slice value;
	uint32_t flags;
	int64_t left_s; /* until its deadline; -1: it has none */
	uint64_t cas;   /* the backend's */
};
/* The backend's whole reply to it. False: it is an error, or not understood. */
bool mc_parse_fetched(struct mp_slice reply, struct mc_item *item);

struct mc_decision {
	size_t record_bytes; /* what is to be logged; 0: nothing. > cap: it did not fit, call again
			      */
	size_t reply_bytes;
	char reply[80]; /* the client's (unless noreply), with CRLF, when the record is applied */
};
/*
 * Decide a request of class DECIDED on its item. The record is one `set` or
 * `delete` with one reply. A miss that fails (incr, replace, ...) logs a
 * `delete`: the leader may have lost the item alone, and what its client was
 * told is gone must not come back with the next leader. max_value_bytes: an
 * append that would exceed it is not done.
 * term: see below.
 */
void mc_decide(const struct mc_request *, const struct mc_item *, uint64_t term, int64_t now_s,
	       size_t max_value_bytes, struct mc_deadlines *, char *out, size_t cap,
	       struct mc_decision *);

/*
 * CAS tokens. Backends number their items' versions each on its own, so a
 * token that one leader's gave means nothing to another's. Clients get
 *
 *     term mod 2^13 (bits 40 to 52) | backend's cas mod 2^40
 *
 * which is below 2^53, JavaScript's exact integers. term: a number that differs
 * between consecutive leaderships, such as mc_term(ballot). A token of another
 * term is refused (EXISTS), whatever its number. It could be mistaken for one
 * of this term only after 8192 changes of leadership, or be current again only
 * after 2^40 writes to one server, with the key's version falling on the very
 * same number.
 */
uint64_t mc_cas_tag(uint64_t term, uint64_t backend_cas);
/* Is this token one for the item's current version? */
bool mc_cas_matches(uint64_t token, uint64_t term, uint64_t backend_cas);
/* Of a ballot, (round << 8) | id with id below 8. */
uint64_t mc_term(uint64_t ballot);
/*
 * Put the tokens in the whole reply to gets or gats into the clients' form.
 * Returns the length; > cap: it did not fit. Anything but VALUE lines and
 * their blocks is copied.
 */
size_t mc_cas_rewrite(uint64_t term, struct mp_slice reply, char *out, size_t cap);
#endif
