/*
 * memcached_login.h - Memcached clients that have to prove who they are, if the
 * replica has a list of its users (users.h). As with memcached:
 *
 *  - in the binary protocol by SASL, mechanism PLAIN (memcached -S);
 *  - in the others by a first `set` of any key, whose value is "user password"
 *    (memcached -Y).
 *
 * A connection that speaks the binary protocol is closed at the first other
 * request; the others are told so.
 */
#ifndef MP_MEMCACHED_LOGIN_H
#define MP_MEMCACHED_LOGIN_H

#include <stdbool.h>

#include "mc_request.h"

struct mp_session;

/* May the client's request be served? False: it has been answered here. */
bool mp_memcached_admits(struct mp_session *s, const struct mc_request *request);
/* Answer a request of SASL's, from whomever. */
void mp_memcached_sasl(struct mp_session *s, const struct mc_request *request);

#endif
