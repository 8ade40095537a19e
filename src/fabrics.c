/*
 * fabrics.c - see fabrics.h.
 *
 * With fabric = auto the members agree by what each tells the others through
 * the peering: whether it could use verbs, and what it has chosen. Who hears
 * of a choice follows it; otherwise each chooses once it has heard of all, by
 * the same rule. A member that is not heard of for a while is not waited for:
 * then it is tcp, which is to be had everywhere.
 *
 * Members that were parted while they chose may find, once they are joined, that
 * they chose differently. Then both ends say so and do not work with each other
 * (the peering's objection), and the minority has to be started anew. If neither
 * are a majority, since others are away, it is those on verbs who have to.
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

#define FACT_CHOSE (FACT_CHOSE_TCP | FACT_CHOSE_VERBS)
#define CHOICE_WAIT_NS 10000000000u
#define CHOICE_POLL_NS 5000000u

/* ------------------------------------------------------------------ choosing */

struct choice {
	bool verbs;
	bool followed; /* somebody runs on it already */
	char why[200];
};

static const char *name_of(uint32_t facts)
{
	return facts & FACT_CHOSE_VERBS ? "verbs" : "tcp";
}

static bool differ(uint32_t theirs, uint32_t here)
{
	return (theirs & FACT_CHOSE) && (here & FACT_CHOSE) &&
	       (theirs & FACT_CHOSE) != (here & FACT_CHOSE);
}

static const char *objection(uint32_t theirs, uint32_t here)
{
	if (!differ(theirs, here))
		return NULL;
	return theirs & FACT_CHOSE_VERBS ? "fabric = auto: it runs on verbs, and here is tcp"
					 : "fabric = auto: it runs on tcp, and here is verbs";
}

/* Has somebody chosen? */
static bool follow(struct peering *peering, uint32_t members, struct choice *choice)
{
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		uint32_t facts = members >> id & 1 ? peering_peer(peering, id).facts : 0;

		if (!(facts & FACT_CHOSE))
			continue;
		choice->verbs = facts & FACT_CHOSE_VERBS;
		choice->followed = true;
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

/* What a replica tells of itself, however the choice goes. */
static uint32_t facts_kept(const struct conf *conf)
{
	return conf->state_file ? FACT_KEEPS_BOOK : 0;
}

/* False: the others run on what is not to be had here. */
static bool settle(struct fabrics *fabrics, const struct conf *conf, char *err, size_t err_bytes)
{
	struct peering *peering = fabrics->peering;
	struct choice choice = {.verbs = false};
	uint32_t others = fabrics->members & ~(1U << conf->mu.id);
	char lacking[150];
	bool able = fabric_verbs_usable(conf, lacking, sizeof(lacking));

	agree(peering, others, &choice);
	if (!able && choice.verbs && choice.followed) {
		snprintf(err, err_bytes, "fabric: auto: verbs (%s), but here: %s", choice.why,
			 lacking);
		return false;
	}
	if (!able) {
		choice.verbs = false;
		snprintf(choice.why, sizeof(choice.why), "%s", lacking);
	}
	fabrics->facts =
		(able ? FACT_HAS_VERBS : 0) | (choice.verbs ? FACT_CHOSE_VERBS : FACT_CHOSE_TCP);
	peering_set_facts(peering, fabrics->facts | facts_kept(conf));
	mp_info("fabric: auto: %s (%s)", name_of(fabrics->facts), choice.why);
	return true;
}

/* How many members that are there, this one included, run on what it runs on, and how many not. */
static void count_choices(const struct fabrics *fabrics, unsigned *with, unsigned *against)
{
	*with = fabrics->members >> fabrics->id & 1;
	*against = 0;
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		struct peering_peer peer;

		if (id == fabrics->id || !(fabrics->members >> id & 1))
			continue;
		peer = peering_peer(fabrics->peering, id);
		if (!peer.up || !(peer.facts & FACT_CHOSE))
			continue;
		*with += !differ(peer.facts, fabrics->facts);
		*against += differ(peer.facts, fabrics->facts);
	}
}

bool fabrics_outvoted(const struct fabrics *fabrics, char *why, size_t why_bytes)
{
	unsigned members = (unsigned)__builtin_popcount(fabrics->members), with, against;

	if (!fabrics->facts)
		return false;
	count_choices(fabrics, &with, &against);
	if (2 * against > members) {
		snprintf(why, why_bytes,
			 "fabric: auto: %u of %u members run on another fabric than %s, which was "
			 "chosen here: start this replica again",
			 against, members, name_of(fabrics->facts));
		return true;
	}
	if (!(fabrics->facts & FACT_CHOSE_VERBS) || 2 * with > members ||
	    2 * (with + against) <= members)
		return false;
	snprintf(
		why, why_bytes,
		"fabric: auto: of the members that are there %u run on tcp, and %u on verbs, which "
		"was chosen here; all are needed, and tcp is to be had everywhere: start this "
		"replica again",
		against, with);
	return true;
}

void fabrics_know_members(struct fabrics *fabrics, const struct book *book)
{
	/* Before they change for the first time it is those that are known. */
	fabrics->members = book->configuration
				   ? (uint32_t)mu_configuration_members(book->configuration)
				   : book_known(book);
}

/* ------------------------------------------------------------------- opening */

static void log_line(void *ctx, const char *line)
{
	(void)ctx;
	mp_warn("fabric: %s", line);
}

void fabrics_peering_options(const struct conf *conf, const struct book *book,
			     struct peering_options *options)
{
	peering_options_init(options);
	options->id = conf->mu.id;
	options->group_id = conf->mu.group_id;
	options->listen = conf->peer_listen;
	options->secret = conf->peering_key;
	options->secret_bytes = sizeof(conf->peering_key);
	options->fabric = conf->fabric;
	options->ring_bytes = conf->mu.ring_bytes;
	options->configuration = book->configuration;
	options->admits = true;
	options->facts = facts_kept(conf);
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++)
		if (book->place[id].address[0])
			options->address[id] = book->place[id].address;
}

static bool open_peering(struct fabrics *fabrics, const struct conf *conf, const struct book *book,
			 const struct peering_user *user, char *err, size_t err_bytes)
{
	struct peering_options options;
	char why[150];

	fabrics_peering_options(conf, book, &options);
	options.objection = objection;
	/* From the first greeting on: nobody shall take it for a member that has none. */
	if (conf->fabric == CONF_FABRIC_AUTO && fabric_verbs_usable(conf, why, sizeof(why)))
		options.facts |= FACT_HAS_VERBS;
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

static bool open_shm(struct fabrics *fabrics, const struct conf *conf,
		     const struct mu_fabric_config *config, char *err, size_t err_bytes)
{
	return mu_fabric_shm_open(&fabrics->fabric, config, conf->memory_dir, err, err_bytes) == 0;
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
	if (conf->fabric == CONF_FABRIC_SHM)
		return open_shm(fabrics, conf, config, err, err_bytes) &&
		       start_peering(fabrics, err, err_bytes);
	if (conf->fabric == CONF_FABRIC_TCP)
		return open_tcp(fabrics, conf, config, err, err_bytes) &&
		       start_peering(fabrics, err, err_bytes);
	if (conf->fabric == CONF_FABRIC_VERBS)
		return open_verbs(fabrics, conf, config, err, err_bytes) &&
		       start_peering(fabrics, err, err_bytes);
	if (!start_peering(fabrics, err, err_bytes) || !settle(fabrics, conf, err, err_bytes))
		return false;
	return fabrics->facts & FACT_CHOSE_VERBS ? open_verbs(fabrics, conf, config, err, err_bytes)
						 : open_tcp(fabrics, conf, config, err, err_bytes);
}

bool fabrics_open(struct fabrics *fabrics, const struct conf *conf, const struct book *book,
		  const struct mu_fabric_config *config, const struct peering_user *user, char *err,
		  size_t err_bytes)
{
	*fabrics = (struct fabrics){.id = conf->mu.id};
	fabrics_know_members(fabrics, book);
	if (!conf_has_peering(conf))
		return open_shm(fabrics, conf, config, err, err_bytes);
	if (open_peering(fabrics, conf, book, user, err, err_bytes) &&
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
	*fabrics = (struct fabrics){.fabric = NULL};
}
