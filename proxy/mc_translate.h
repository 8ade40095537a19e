/*
 * mc_translate.h - what a backend answers, as the client is to have it: in its
 * protocol, with its tokens (mc_token.h).
 */
#ifndef MP_MC_TRANSLATE_H
#define MP_MC_TRANSLATE_H

#include "mc_decide.h"

/* Does a reply say that the backend did nothing? */
bool mc_is_error(struct mp_slice reply);

/*
 * The whole reply to a request of class READ or WRITE, or to the record of a
 * decided one that has no reply of its own. May come to nothing (quiet).
 */
void mc_translate(const struct mc_request *, struct mp_slice reply, uint64_t term,
		  struct mc_writer *out);

/*
 * A decided reply (struct mc_canned, and text), with what its record's last
 * command was answered: empty, if there was no record.
 */
void mc_fill_canned(struct mp_slice canned, struct mp_slice reply, uint64_t term,
		    struct mc_writer *out);

/* Does the reply to mg say that this client is to refresh the item (W)? */
bool mc_has_won(struct mp_slice reply);
#endif
