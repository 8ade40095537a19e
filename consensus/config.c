/* config.c - settings, their defaults and bounds; names of things. */
#include <string.h>

#include "node.h"

const char *mu_strerror(enum mu_error error)
{
	switch (error) {
	case MU_OK:
		return "no error";
	case MU_ERR_INVALID:
		return "invalid argument or setting";
	case MU_ERR_NOT_LEADER:
		return "this replica does not lead";
	case MU_ERR_FULL:
		return "no room just now";
	case MU_ERR_TOO_LARGE:
		return "larger than the largest proposal";
	case MU_ERR_STALE:
		return "the log does not reach back that far";
	case MU_ERR_MISMATCH:
		return "memory of another format, group or shape";
	case MU_ERR_NO_MEMORY:
		return "out of memory";
	}
	return "unknown error";
}

const char *mu_role_name(enum mu_role role)
{
	static const char *const names[] = {"blank", "follower", "candidate", "leader"};

	return (unsigned)role < sizeof(names) / sizeof(*names) ? names[role] : "?";
}

const char *mu_backend_health_name(enum mu_backend_health health)
{
	static const char *const names[] = {"unknown", "level", "down", "stale"};

	return (unsigned)health < sizeof(names) / sizeof(*names) ? names[health] : "?";
}

void mu_config_init(struct mu_config *config)
{
	memset(config, 0, sizeof(*config));
	config->ring_bytes = 256ULL << 20;
	config->max_entry_bytes = 1 << 20;
	config->max_proposal_bytes = config->ring_bytes / 4;
	config->tick_ns = 1000 * 1000;
	config->data_stall_ns = 500ULL * 1000 * 1000;
	config->takeover_timeout_ns = 100ULL * 1000 * 1000;
	config->random_seed = 1;
	config->score_max = 15; /* these as in the paper */
	config->score_failed = 2;
	config->score_alive = 6;
	config->score_gain = 1;
	config->score_loss = 1;
}

/* NULL, or what is wrong with the failure detector's settings. */
static const char *wrong_score(const struct mu_config *config)
{
	if (config->score_max < 2 || config->score_max > 1000)
		return "score_max is not 2 to 1000";
	if (config->score_failed < 1 || config->score_failed > config->score_alive ||
	    config->score_alive >= config->score_max)
		return "not 1 <= score_failed <= score_alive < score_max";
	if (config->score_gain < 1 || config->score_gain > config->score_max ||
	    config->score_loss < 1 || config->score_loss > config->score_max)
		return "score_gain or score_loss is not 1 to score_max";
	return NULL;
}

enum mu_error mu_config_check(const struct mu_config *config, const char **why)
{
	uint32_t ids = ((1u << MU_MAX_REPLICAS) - 1) << 1;
	uint32_t peers = config->peer_mask ? config->peer_mask : config->member_mask;
	const char *wrong = NULL;

	if (config->id < 1 || config->id > MU_MAX_REPLICAS)
		wrong = "id is not 1 to 7";
	else if (!(peers >> config->id & 1) || (config->member_mask & ~ids) || (peers & ~ids))
		wrong = "the members do not include this id, or one is not 1 to 7";
	else if (!config->member_mask || (config->member_mask & ~peers) ||
		 (mu_configuration_members(config->configuration) & ~(uint64_t)peers))
		wrong = "there are no members, or one is not among the peers";
	else if (config->ring_bytes < 4096 || (config->ring_bytes & (config->ring_bytes - 1)) ||
		 config->ring_bytes > 1ULL << 40)
		wrong = "ring_bytes is not a power of two of at least 4096";
	else if (config->max_entry_bytes < 64 ||
		 mu_entry_span(config->max_entry_bytes) > config->ring_bytes / 8)
		wrong = "max_entry_bytes is less than 64 or more than about ring_bytes / 8";
	else if (config->max_proposal_bytes < 1 ||
		 config->max_proposal_bytes > config->ring_bytes / 4)
		wrong = "max_proposal_bytes is 0 or more than ring_bytes / 4";
	else if (!config->tick_ns || !config->data_stall_ns || !config->takeover_timeout_ns)
		wrong = "a time is 0";
	else
		wrong = wrong_score(config);
	if (why)
		*why = wrong;
	return wrong ? MU_ERR_INVALID : MU_OK;
}

size_t mu_region_bytes(const struct mu_config *config, enum mu_region region)
{
	switch (region) {
	case MU_REGION_BACKGROUND:
		return sizeof(struct mu_background_region);
	case MU_REGION_REPLICATION:
		return MU_RING_OFFSET + config->ring_bytes;
	case MU_REGION_PRIVATE:
		return sizeof(struct mu_private_region);
	}
	return 0;
}
