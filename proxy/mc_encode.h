/*
 * mc_encode.h - Memcached requests as the backends get them, in clean form.
 * Pure functions: no clock, no I/O. Every wire form made here yields exactly
 * one reply a command (noreply and quiet are left out).
 *
 * Where a form of the text protocol will do it is used; keys that it cannot say
 * and stores whose new token is wanted take the meta commands.
 */
#ifndef MP_MC_ENCODE_H
#define MP_MC_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mc_request.h"
#include "mc_writer.h"
#include "slice.h"

enum mc_class {
	MC_CLASS_READ,    /* get gets stats version, mg that only reads: to the leader's backend,
			     after a fence */
	MC_CLASS_WRITE,   /* plain set and delete, flush_all, settings: through the log */
	MC_CLASS_DECIDED, /* whatever asks what is there (mc_decide.h) */
	MC_CLASS_LOCAL,   /* noop, quit, refused, unknown, ...: the session's */
};
enum mc_class mc_class_of(const struct mc_request *);

/*
 * Is a request of class WRITE a blind write (command.h)? All are: each assigns
 * an item or removes one, or a setting, and none fails for what it finds. So is
 * what mc_decide logs.
 */
bool mc_is_blind(const struct mc_request *);

/* Is a backend's reply not the client's as it is (mc_translate.h)? */
bool mc_needs_translation(const struct mc_request *);
/* Is it a part of what a client asked for, so that its reply has no END? */
bool mc_is_part(const struct mc_request *);
/* Does the reply hold tokens? */
bool mc_has_tokens(const struct mc_request *);
/* Does it put (part of) a value in, whatever the decision? */
bool mc_stores(const struct mc_request *);
/* Is the token of what is stored part of the reply? */
bool mc_wants_token(const struct mc_request *);

/*
 * Deadlines. A relative exptime (up to 30 days) is made absolute with now_s:
 * the Unix time of the log. (An adapter whose memcached has another idea of the
 * time sets that right, see backend_memcached.c.)
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
/* An exptime as sent, absolute. 0: never, -1: at once. */
int64_t mc_absolute(int64_t exptime, int64_t now_s);
/* The same, and it is remembered as the key's. */
int64_t mc_deadline(struct mc_deadlines *, struct mp_slice key, int64_t exptime, int64_t now_s);
/* The deadline of an item that is to keep it, and that has left_s to live (-1: no deadline). */
int64_t mc_kept_deadline(struct mc_deadlines *, struct mp_slice key, int64_t left_s, int64_t now_s);

/*
 * The wire form of a request of class READ or WRITE. Returns its length;
 * > cap: it did not fit (call again with more).
 */
size_t mc_encode(const struct mc_request *, int64_t now_s, struct mc_deadlines *, char *out,
		 size_t cap);

/* The wire form that fetches keys[0] of a request of class DECIDED; at most MC_FETCH_BYTES. */
#define MC_FETCH_BYTES 300
size_t mc_encode_fetch(const struct mc_request *, char *out, size_t cap);

/* The wire form that removes keys[0]; at most MC_FETCH_BYTES. */
size_t mc_encode_delete(const struct mc_request *, char *out, size_t cap);
/* The wire form by which backends note that mg's win of keys[0] is taken. */
size_t mc_encode_won(const struct mc_request *, char *out, size_t cap);

/* --- pieces of wire forms, for mc_decide.c */

/* A value: two parts, and blanks to fill it up. */
struct mc_value {
	struct mp_slice head, tail;
	size_t blanks;
};
void mc_put_store(struct mc_writer *w, const struct mc_request *r, uint32_t flags,
		  int64_t deadline_s, const struct mc_value *value);
void mc_put_delete(struct mc_writer *w, const struct mc_request *r);
/* "<verb> <key>[ b]" of a meta command, without its end. */
void mc_put_meta(struct mc_writer *w, const struct mc_request *r, const char *verb);
/* A space and a meta command's flag with a number. */
void mc_put_flag(struct mc_writer *w, char flag, int64_t value);
/* The flag by which an item gets that token, a backend's (mc_token.h). */
void mc_put_token(struct mc_writer *w, uint64_t cas);
/* What becomes of mg's flags that change the item. */
struct mc_mg_changes {
	bool vivify, recache, touch; /* N, R, T: put in, with these deadlines; else left out */
	int64_t vivify_s, recache_s, touch_s;
	bool is_made; /* The item to vivify is there by now, with a deadline: take its win. */
};
/* mg with the client's flags in their order, but for quiet, and with its end. */
void mc_put_mg(struct mc_writer *w, const struct mc_request *r,
	       const struct mc_mg_changes *changes);
/* The deadline to store an item with whose win mc_put_win() is to take. */
int64_t mc_deadline_to_be_won(int64_t deadline_s);
/* mg that takes the win of what was just stored so, with these flags ("" or " u"). */
void mc_put_win(struct mc_writer *w, const struct mc_request *r, const char *flags,
		int64_t deadline_s);
/* touch and gat of keys[0]. */
void mc_put_touch(struct mc_writer *w, const struct mc_request *r, int64_t deadline_s);
#endif
