/*
 * ring_copy.c - storing bytes into the own ring while peers may read it: the
 * one place where the data plane writes, but for entries of its own, memory that
 * the other plane and other replicas look at without any lock. Whole words, so
 * that none is torn; they believe nothing that its checksum does not prove.
 */
#include <string.h>

#include "node.h"

void mu_ring_store(struct mu *mu, uint64_t lsn, const void *bytes, size_t len)
{
	uint64_t *to = (uint64_t *)(void *)mu_ring_at(&mu->ring, lsn), word;
	const char *from = bytes;

	assert(len <= mu_ring_room(&mu->ring, lsn) && len % sizeof(word) == 0);
	for (; len; len -= sizeof(word), from += sizeof(word)) {
		memcpy(&word, from, sizeof(word));
		__atomic_store_n(to++, word, __ATOMIC_RELAXED);
	}
}
