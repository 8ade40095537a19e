/*
 * memory.c - what must hold of a replica's log at every moment, whoever wrote
 * it last: should its process die now, this is what a restart finds, and what
 * a candidate reads.
 */
#include <inttypes.h>

#include "layout.h"
#include "run.h"

/* Rule 5: the entry that the commit word names is there. */
void memory_check(struct run *run, unsigned id)
{
	const uint8_t *region = sim_memory(run->world, id, MU_REGION_REPLICATION);
	const struct mu_replication_header *header = (const void *)region;
	const struct mu_entry_header *named;

	if (region == NULL || header->commit == MU_LSN_NONE)
		return;
	named = (const void *)(region + MU_RING_OFFSET +
			       (header->commit & (run->plan.config.ring_bytes - 1)));
	if (named->lsn != header->commit)
		run_fail(run, FOUND_REUSE,
			 "replica %u's commit word names lsn %" PRIu64
			 ", in whose place lies %" PRIu64,
			 id, header->commit, named->lsn);
}
