/*
 * mc_token.h - CAS tokens. Backends number their items' versions each on its
 * own, so a token that one leader's gave means nothing to another's. Clients
 * get
 *
 *     term mod 2^13 (bits 40 to 52) | backend's cas mod 2^40
 *
 * which is below 2^53, JavaScript's exact integers. term: a number that differs
 * between consecutive leaderships, such as mc_term(ballot). A token of another
 * term is refused (EXISTS), whatever its number. It could be mistaken for one
 * of this term only after 8192 changes of leadership, or be current again only
 * after 2^40 writes to one server, with the key's version falling on the very
 * same number.
 *
 * A token that a client has chosen (flag E) is its own, whoever leads: every
 * backend is told to give the item the same one. It is told it moved up by 2^48,
 * beyond what any counts to (a million writes a second for nine years), so that
 * it can be told from a number of theirs.
 */
#ifndef MP_MC_TOKEN_H
#define MP_MC_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

enum { MC_CAS_BITS = 40, MC_TERM_BITS = 13 };
_Static_assert(MC_CAS_BITS + MC_TERM_BITS == 53, "tokens are exact in a double");

#define MC_CHOSEN_BASE (UINT64_C(1) << 48)
#define MC_CHOSEN_MAX (UINT64_MAX - MC_CHOSEN_BASE)

/* What a backend is to have for a token that a client has chosen, which is up to MC_CHOSEN_MAX. */
static inline uint64_t mc_cas_of_chosen(uint64_t token)
{
	return MC_CHOSEN_BASE + token;
}

static inline bool mc_cas_is_chosen(uint64_t backend_cas)
{
	return backend_cas >= MC_CHOSEN_BASE;
}

/* What the client gets. */
static inline uint64_t mc_cas_tag(uint64_t term, uint64_t backend_cas)
{
	uint64_t term_part = term & ((UINT64_C(1) << MC_TERM_BITS) - 1);

	if (mc_cas_is_chosen(backend_cas))
		return backend_cas - MC_CHOSEN_BASE;
	return term_part << MC_CAS_BITS | (backend_cas & ((UINT64_C(1) << MC_CAS_BITS) - 1));
}

/* Is this token one for the item's current version? */
static inline bool mc_cas_matches(uint64_t token, uint64_t term, uint64_t backend_cas)
{
	return token == mc_cas_tag(term, backend_cas);
}

/* Of a ballot, (round << 8) | id with id below 8. */
static inline uint64_t mc_term(uint64_t ballot)
{
	return (ballot >> 8) * 8 + (ballot & 7);
}
#endif
