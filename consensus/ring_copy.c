/*
 * ring_copy.c - storing bytes into the own ring while peers may read it: the
 * one place where the data plane writes memory that other replicas look at
 * without any lock. They believe nothing that its checksum does not prove.
 */
#include <string.h>

#include "node.h"

__attribute__((no_sanitize("thread"))) void mu_ring_store(struct mu *mu, uint64_t lsn,
							  const void *bytes, size_t len)
{
	assert(len <= mu_ring_room(&mu->ring, lsn));
	memcpy(mu_ring_at(&mu->ring, lsn), bytes, len);
}
