/*
 * fabrics.c - see fabrics.h.
 *
 * With fabric = auto the members agree by what each tells the others through
 * the peering: whether it could use verbs, and what it has chosen. Who hears
 * of a choice follows it; otherwise each chooses once it has heard of all, by
 * the same rule. A member that is not heard of for a while is not waited for:
 * then it is tcp, which is to be had everywhere.
 */
#include "config.h"

#include "fabrics.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "fabric_verbs.h"
#include "log.h"

/* Facts that members tell each other. */
enum { FACT_HAS_VERBS = 1, FACT_CHOSE_TCP = 2, FACT_CHOSE_VERBS = 4 };

#define CHOICE_WAIT_NS 10000000000u
#define CHOICE_POLL_NS 5000000u

/* ------------------------------------------------------------------ choosing */

struct choice {
	bool verbs;
	char why[200];
};

/* Has somebody chosen? */
static bool follow(struct peering *peering, uint32_t members, struct choice *choice)
{
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		uint32_t facts = members >> id & 1 ? peering_peer(peering, id).facts : 0;

		if (!(facts & (FACT_CHOSE_TCP | FACT_CHOSE_VERBS)))
			continue;
		choice->verbs = facts & FACT_CHOSE_VERBS;
		snprintf(choice->why, sizeof(choice->why), "replica %u runs on it", id);
		return true;
	}
	return false;
}

/* Choose by what all have; false: not all have been heard of, and the first such is in *missing. */
static bool choose(struct peering *peering, uint32_t members, struct choice *choice,
		   unsigned *missing)
{
	choice->verbs = true;
	snprintf(choice->why, sizeof(choice->why), "every member has a usable RDMA device");
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		struct peering_peer peer;

		if (!(members >> id & 1))
			continue;
		peer = peering_peer(peering, id);
		*missing = id;
		if (!peer.up)
			return false;
		if (choice->verbs && !(peer.facts & FACT_HAS_VERBS)) {
			choice->verbs = false;
			snprintf(choice->why, sizeof(choice->why),
				 "replica %u has no usable RDMA device", id);
		}
	}
	return true;
}

static void agree(struct peering *peering, uint32_t others, struct choice *choice)
{
	const struct timespec pause = clock_timespec(CHOICE_POLL_NS);
	uint64_t until_ns = clock_ns() + CHOICE_WAIT_NS;
	unsigned missing = 0;

	mp_info("fabric: auto: asking the other members what they have");
	while (!follow(peering, others, choice) && !choose(peering, others, choice, &missing)) {
		if (clock_ns() >= until_ns) {
			choice->verbs = false;
			snprintf(choice->why, sizeof(choice->why),
				 "replica %u has not been heard of", missing);
			return;
		}
		nanosleep(&pause, NULL);
	}
}

static struct choice settle(struct peering *peering, const struct conf *conf)
{
	struct choice choice = {.why = "configured"};
	uint32_t others = conf->mu.member_mask & ~(1U << conf->mu.id);
	char lacking[150];
	bool able;

	if (conf->fabric != CONF_FABRIC_AUTO)
		return choice;
	able = fabric_verbs_usable(conf, lacking, sizeof(lacking));
	peering_set_facts(peering, able ? FACT_HAS_VERBS : 0);
	agree(peering, others, &choice);
	if (!able) {
		choice.verbs = false;
		snprintf(choice.why, sizeof(choice.why), "%s", lacking);
	}
	peering_set_facts(peering, (able ? FACT_HAS_VERBS : 0) |
					   (choice.verbs ? FACT_CHOSE_VERBS : FACT_CHOSE_TCP));
	return choice;
}

/* ------------------------------------------------------------------- opening */

static void log_line(void *ctx, const char *line)
{
	(void)ctx;
	mp_warn("fabric: %s", line);
}

static bool open_peering(struct fabrics *fabrics, const struct conf *conf,
			 const struct peering_user *user, char *err, size_t err_bytes)
{
	struct peering_options options;

	peering_options_init(&options);
	options.id = conf->mu.id;
	options.group_id = conf->mu.group_id;
	options.listen = conf->peer_listen;
	options.secret = conf->mu.checksum_key;
	options.secret_bytes = sizeof(conf->mu.checksum_key);
	options.fabric = conf->fabric;
	options.ring_bytes = conf->mu.ring_bytes;
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++)
		options.address[id] = conf->member[id];
	fabrics->peering = peering_open(&options, err, err_bytes);
	if (!fabrics->peering)
		return false;
	peering_set_user(fabrics->peering, user);
	return true;
}

static bool start_peering(struct fabrics *fabrics, char *err, size_t err_bytes)
{
	if (peering_start(fabrics->peering) == 0)
		return true;
	snprintf(err, err_bytes, "no thread for the peers: %s", strerror(errno));
	return false;
}

static bool open_tcp(struct fabrics *fabrics, const struct conf *conf,
		     const struct mu_fabric_config *config, char *err, size_t err_bytes)
{
	struct mu_fabric_tcp_options options = {
		.directory = conf->memory_dir,
		.peering = peering_base(fabrics->peering),
		.spin_ns = conf->wait == CONF_WAIT_SPIN ? UINT64_MAX : conf->spin_ns,
		.log = log_line,
	};

	return mu_fabric_tcp_open(&fabrics->fabric, config, &options, err, err_bytes) == 0;
}

static bool open_verbs(struct fabrics *fabrics, const struct conf *conf,
		       const struct mu_fabric_config *config, char *err, size_t err_bytes)
{
	return fabric_verbs_open(&fabrics->fabric, conf, config, peering_base(fabrics->peering),
				 err, err_bytes) == 0;
}

/*
 * The memory comes before the peering runs where that can be: what is wrong
 * with it is then said at once, and no peer sees a member come and go.
 */
static bool open_over_peering(struct fabrics *fabrics, const struct conf *conf,
			      const struct mu_fabric_config *config, char *err, size_t err_bytes)
{
	struct choice choice;

	if (conf->fabric == CONF_FABRIC_TCP)
		return open_tcp(fabrics, conf, config, err, err_bytes) &&
		       start_peering(fabrics, err, err_bytes);
	if (conf->fabric == CONF_FABRIC_VERBS)
		return open_verbs(fabrics, conf, config, err, err_bytes) &&
		       start_peering(fabrics, err, err_bytes);
	if (!start_peering(fabrics, err, err_bytes))
		return false;
	choice = settle(fabrics->peering, conf);
	mp_info("fabric: auto: %s (%s)", choice.verbs ? "verbs" : "tcp", choice.why);
	return choice.verbs ? open_verbs(fabrics, conf, config, err, err_bytes)
			    : open_tcp(fabrics, conf, config, err, err_bytes);
}

bool fabrics_open(struct fabrics *fabrics, const struct conf *conf,
		  const struct mu_fabric_config *config, const struct peering_user *user, char *err,
		  size_t err_bytes)
{
	*fabrics = (struct fabrics){NULL, NULL};
	if (conf->fabric == CONF_FABRIC_SHM)
		return mu_fabric_shm_open(&fabrics->fabric, config, conf->memory_dir, err,
					  err_bytes) == 0;
	if (open_peering(fabrics, conf, user, err, err_bytes) &&
	    open_over_peering(fabrics, conf, config, err, err_bytes))
		return true;
	fabrics_close(fabrics);
	return false;
}

void fabrics_close(struct fabrics *fabrics)
{
	if (fabrics->fabric)
		fabrics->fabric->ops->close(fabrics->fabric);
	peering_close(fabrics->peering);
	*fabrics = (struct fabrics){NULL, NULL};
}
