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
 */
#ifndef MP_MC_TOKEN_H
#define MP_MC_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

enum { MC_CAS_BITS = 40, MC_TERM_BITS = 13 };
_Static_assert(MC_CAS_BITS + MC_TERM_BITS == 53, "tokens are exact in a double");

static inline uint64_t mc_cas_tag(uint64_t term, uint64_t backend_cas)
{
	uint64_t term_part = term & ((UINT64_C(1) << MC_TERM_BITS) - 1);

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
