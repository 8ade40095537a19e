/*
 * peering_address.h - where the members are: their names looked up on a thread
 * of its own, since a look-up may take many seconds.
 */
#ifndef MUPROXY_PEERING_ADDRESS_H
#define MUPROXY_PEERING_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "net.h"
#include "mu_fabric.h"

struct peering_places;

/* texts by id; NULL: not dialled. They are copied. NULL: out of memory or threads. */
struct peering_places *peering_places_open(const char *const text[MU_ID_SLOTS]);
void peering_places_close(struct peering_places *places);

/* Another address for that replica, or the first. */
void peering_places_set(struct peering_places *places, unsigned id, const char *text);

/*
 * Where replica id is, as far as known; false while it is not. The reason of a
 * look-up that failed is in why ("" if there is none yet).
 */
bool peering_places_get(struct peering_places *places, unsigned id, struct mp_address *address,
			char *why, size_t why_bytes);
/* It could not be reached there: look the name up again. No-op for numeric addresses. */
void peering_places_renew(struct peering_places *places, unsigned id);

#endif
