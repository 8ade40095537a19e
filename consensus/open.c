/* open.c - formatting memory, resuming from it, closing. */
#include <stdlib.h>
#include <string.h>

#include "node.h"

void mu_format(const struct mu_config *config, uint64_t incarnation, void *regions[MU_REGIONS])
{
	struct mu_private_region *record = regions[MU_REGION_PRIVATE];
	struct mu_replication_header *header = regions[MU_REGION_REPLICATION];
	uint64_t configuration = config->configuration
					 ? config->configuration
					 : mu_configuration(0, 0, config->member_mask);

	assert(incarnation);
	header->incarnation = incarnation;
	header->commit = MU_LSN_NONE;
	header->origin.base = MU_LSN_NONE;
	*record = (struct mu_private_region){
		.magic = MU_LAYOUT_MAGIC,
		.version = MU_LAYOUT_VERSION,
		.group_id = config->group_id,
		.id = config->id,
		.ring_bytes = config->ring_bytes,
		.incarnation = incarnation,
		.voting = 0,
		.configuration = configuration,
	};
	header->configuration = configuration;
}

static bool record_fits(const struct mu *mu)
{
	const struct mu_private_region *record = mu->record;

	return record->magic == MU_LAYOUT_MAGIC && record->version == MU_LAYOUT_VERSION &&
	       record->group_id == mu->config.group_id && record->id == mu->config.id &&
	       record->ring_bytes == mu->config.ring_bytes &&
	       record->incarnation == mu->header->incarnation && record->incarnation;
}

/* Find the log again. False if what the memory says of it is not there. */
static bool resume_log(struct mu *mu)
{
	struct mu_data *d = &mu->data;
	struct mu_position tail, next;
	uint64_t commit = mu_load(&mu->header->commit);
	uint64_t granted = MU_MUTANT(forget_granted) ? 0 : mu->record->granted;

	d->commit.lsn = d->oldest.lsn = MU_LSN_NONE;
	d->origin = mu_load_origin(mu);
	d->committed = mu->header->configuration;
	mu_set_configuration(mu, mu->record->configuration);
	if (commit != MU_LSN_NONE) {
		if (!mu_ring_entry(&mu->ring, commit, &d->commit))
			return false;
		d->oldest_lsn = mu_ring_oldest(&mu->ring, &d->commit, d->origin.base);
		/* Rule 4: granted = max(record, ballots in the log). */
		tail = d->commit;
		while (mu_ring_next(&mu->ring, &tail, &next))
			tail = next;
		if (granted < tail.ballot)
			granted = tail.ballot;
		mu_take_configuration(mu, &tail);
		d->timestamp_ms = d->commit.timestamp_ms;
	}
	mu_record_granted(mu, granted);
	return true;
}

static void resume_shared(struct mu *mu)
{
	struct mu_shared *s = &mu->shared;
	struct mu_data *d = &mu->data;

	MU_SET(s->voting, mu->record->voting);
	MU_SET(s->members, mu_configuration_members(mu->record->configuration));
	MU_SET(s->configuration, d->configuration);
	MU_SET(s->committed, d->committed);
	mu->bg.committed = d->committed;
	MU_SET(s->applied_lsn, mu->record->applied);
	MU_SET(s->commit_lsn, d->commit.lsn);
	MU_SET(s->commit_end, d->commit.end);
	MU_SET(s->oldest_lsn, d->oldest_lsn);
}

static bool allocate_scratch(struct mu *mu)
{
	/* Any entry fits, and a good many small ones. */
	mu->scratch_bytes = mu->ring.max_span + 16384;
	if (mu->scratch_bytes > mu->ring.bytes)
		mu->scratch_bytes = mu->ring.bytes;
	mu->scratch = calloc(MU_ID_SLOTS, mu->scratch_bytes);
	if (!mu->scratch)
		return false;
	for (unsigned id = 0; id < MU_ID_SLOTS; id++) {
		mu->data.peer[id].scratch = mu->scratch + id * mu->scratch_bytes;
		mu->data.peer[id].readmit_lsn = MU_LSN_NONE;
	}
	return true;
}

void mu_add_peers(struct mu *mu, uint32_t peer_mask)
{
	atomic_fetch_or_explicit(&mu->shared.peers, peer_mask, memory_order_relaxed);
}

enum mu_error mu_open(struct mu **out, const struct mu_config *config, struct mu_fabric *fabric)
{
	enum mu_error error = mu_config_check(config, NULL);
	struct mu *mu;

	if (error)
		return error;
	mu = aligned_alloc(_Alignof(struct mu), sizeof(*mu));
	if (!mu)
		return MU_ERR_NO_MEMORY;
	memset(mu, 0, sizeof(*mu));
	mu->config = *config;
	mu_add_peers(mu, config->peer_mask ? config->peer_mask : config->member_mask);
	mu->fabric = fabric;
	mu->header = fabric->ops->local(fabric, MU_REGION_REPLICATION);
	mu->lines = fabric->ops->local(fabric, MU_REGION_BACKGROUND);
	mu->record = fabric->ops->local(fabric, MU_REGION_PRIVATE);
	mu->bg.random = config->random_seed * 0x9e3779b97f4a7c15ULL + config->id;
	mu_ring_init(&mu->ring, config, mu->header);
	error = MU_ERR_MISMATCH;
	if (!record_fits(mu) || !resume_log(mu))
		goto fail;
	error = MU_ERR_NO_MEMORY;
	if (!allocate_scratch(mu))
		goto fail;
	resume_shared(mu);
	*out = mu;
	return MU_OK;
fail:
	free(mu->scratch);
	free(mu);
	return error;
}

void mu_close(struct mu *mu)
{
	if (!mu)
		return;
	free(mu->data.reader.buffer);
	free(mu->scratch);
	free(mu);
}
