/* peering_proof.h - the proof of knowing the group's secret (peering_wire.h). */
#ifndef MUPROXY_PEERING_PROOF_H
#define MUPROXY_PEERING_PROOF_H

#include <stdbool.h>
#include <stddef.h>

#include "peering.h"
#include "peering_wire.h"

enum peering_role { PEERING_DIALLER = 1, PEERING_ACCEPTOR = 2 };

/* A challenge that nobody can foresee. False: the system gives no random bytes. */
bool peering_challenge(uint8_t challenge[PEERING_CHALLENGE_BYTES]);

/* The proof of whoever has this role. False: the library cannot. */
bool peering_prove(const uint8_t *secret, size_t secret_bytes, enum peering_role role,
		   const struct peering_hello *dialler, const struct peering_hello *acceptor,
		   struct peering_proof *proof);
/* Is this that proof? Takes the same time for all that are not. */
bool peering_proof_holds(const uint8_t *secret, size_t secret_bytes, enum peering_role role,
			 const struct peering_hello *dialler, const struct peering_hello *acceptor,
			 const struct peering_proof *proof);

/* A hello with what the options say, and a challenge; the rest is 0. False: no random numbers. */
bool peering_begin_hello(struct peering_hello *hello, const struct peering_options *options);

#endif
