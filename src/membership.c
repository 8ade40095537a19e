/* membership.c - see membership.h. */
#include "config.h"

#include "membership.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "log.h"

enum { ASK_ROUNDS = 20, ASK_PAUSE_MS = 250, JOIN_BYTES = 2048 };

/* -------------------------------------------------------------- at the start */

static bool fail_at(const struct conf *conf, const char *key, char *err, size_t err_bytes,
		    const char *words)
{
	snprintf(err, err_bytes, "%s:%d: %s: %s", conf->file, conf_blame(conf, words, key), key,
		 words);
	return false;
}

/* The operator's word of where they are: he may have moved them while nobody ran. */
static void take_configured(struct book *book, const struct conf *conf)
{
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		if (!conf->member[id])
			continue;
		book->place[id].stamp = 1;
		snprintf(book->place[id].address, sizeof(book->place[id].address), "%s",
			 conf->member[id]);
	}
}

/* Each that is named in turn; true once one has answered. */
static bool ask_each(const struct peering_options *options, const char *join, struct book *book,
		     char *why, size_t why_bytes)
{
	char list[JOIN_BYTES], reason[300], *rest = list, *address;

	snprintf(list, sizeof(list), "%s", join);
	while ((address = strsep(&rest, " \t,"))) {
		if (!*address)
			continue;
		if (peering_ask(options, address, book, reason, sizeof(reason))) {
			mp_info("join: %s told who the members are", address);
			return true;
		}
		snprintf(why, why_bytes, "%s: %s", address, reason);
	}
	return false;
}

static bool ask_group(struct book *book, const struct conf *conf, char *why, size_t why_bytes)
{
	const struct timespec pause = clock_timespec(ASK_PAUSE_MS * UINT64_C(1000000));
	struct peering_options options;
	struct book mine = *book;

	fabrics_peering_options(conf, &mine, &options);
	for (int i = 0; i < ASK_ROUNDS; i++) {
		if (ask_each(&options, conf->join, book, why, why_bytes))
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* Before the members have changed for the first time the configuration's are right. */
static void settle_configuration(struct book *book, const struct conf *conf)
{
	if (!conf->join && mu_configuration_epoch(book->configuration) == 0)
		book->configuration = mu_configuration(0, 0, conf->mu.member_mask);
}

bool membership_find(struct membership *membership, const struct conf *conf, char *err,
		     size_t err_bytes)
{
	struct book *book = &membership->book;
	int found = 0;
	char why[600];

	*membership = (struct membership){.conf = conf};
	if (conf->state_file)
		found = book_load(book, conf->state_file, conf->mu.group_id, why, sizeof(why));
	if (found < 0)
		return fail_at(conf, "state-file", err, err_bytes, why);
	take_configured(book, conf);
	if (conf->join && !found && !ask_group(book, conf, why, sizeof(why)))
		return fail_at(conf, "join", err, err_bytes, why);
	settle_configuration(book, conf);
	if (book_is_removed(book, conf->mu.id)) {
		snprintf(why, sizeof(why),
			 "replica %u was removed from the group: a new one needs an id that never "
			 "was a member's",
			 conf->mu.id);
		return fail_at(conf, "id", err, err_bytes, why);
	}
	take_configured(book, conf); /* a member's word of where this one was is older */
	if (conf->state_file &&
	    !book_store(book, conf->state_file, conf->mu.group_id, why, sizeof(why)))
		return fail_at(conf, "state-file", err, err_bytes, why);
	membership->stored = *book;
	return true;
}

void membership_mu_config(const struct membership *membership, struct mu_config *config)
{
	const struct book *book = &membership->book;
	uint64_t now = mu_configuration_members(book->configuration);

	config->member_mask = (uint32_t)now;
	if (mu_configuration_epoch(book->configuration) > 0)
		config->configuration = book->configuration;
	if (conf_has_peering(membership->conf))
		config->peer_mask =
			(book_known(book) | (uint32_t)now | 1U << config->id) & MEMBERSHIP_ALL_IDS;
}

/* ------------------------------------------------------------- as it runs */

static void store(struct membership *membership)
{
	const struct conf *conf = membership->conf;
	char why[400];

	if (!conf->state_file ||
	    memcmp(&membership->stored, &membership->book, sizeof(struct book)) == 0)
		return;
	if (book_store(&membership->book, conf->state_file, conf->mu.group_id, why, sizeof(why))) {
		membership->stored = membership->book;
		membership->complained = false;
	} else if (!membership->complained) {
		mp_error("state-file: %s", why);
		membership->complained = true;
	}
}

/* Who was removed may come again, to hear of that; each time it goes it leaves nothing. */
static void forget_removed(struct membership *membership, const struct fabrics *fabrics)
{
	struct mu_fabric *fabric = fabrics->fabric;

	if (!fabric->ops->forget)
		return;
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		uint32_t bit = 1U << id;

		if (!book_is_removed(&membership->book, id) || id == fabrics->id)
			continue;
		if (peering_peer(fabrics->peering, id).up) {
			membership->forgotten &= ~bit;
		} else if (!(membership->forgotten & bit)) {
			fabric->ops->forget(fabric, id);
			membership->forgotten |= bit;
		}
	}
}

void membership_look(struct membership *membership, struct mu *mu, const struct fabrics *fabrics)
{
	struct mu_group_status status;

	mu_group_status(mu, &status);
	if (fabrics->peering) {
		peering_set_configuration(fabrics->peering, status.heard);
		peering_get_book(fabrics->peering, &membership->book);
		mu_add_peers(mu, book_known(&membership->book));
		forget_removed(membership, fabrics);
	} else {
		book_take_configuration(&membership->book, status.heard);
	}
	store(membership);
}

/* ------------------------------------------------------------------ a change */

/* 0: nobody. */
static unsigned find_replica(const struct book *book, const char *who)
{
	char *end;
	unsigned long id = strtoul(who, &end, 10);

	if (*who >= '0' && *who <= '9' && *end == '\0')
		return id <= MU_MAX_REPLICAS ? (unsigned)id : 0;
	for (unsigned i = 1; i <= MU_MAX_REPLICAS; i++)
		if (strcmp(book->place[i].address, who) == 0 && !book_is_removed(book, i))
			return i;
	return 0;
}

/* The first that would not know its group any more after its machine has rebooted; 0: none. */
static unsigned find_forgetful(const struct mu_group_status *status, struct peering *peering,
			       unsigned joins)
{
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		struct peering_peer peer;

		if (id == status->id || (!status->replica[id].member && id != joins))
			continue;
		peer = peering_peer(peering, id);
		if (peer.up && !(peer.facts & FACT_KEEPS_BOOK))
			return id;
	}
	return 0;
}

static bool may_change(const struct membership *membership, const struct mu_group_status *status,
		       struct peering *peering, unsigned joins, char *why, size_t why_bytes)
{
	unsigned forgetful;

	if (!conf_has_peering(membership->conf)) {
		snprintf(why, why_bytes,
			 "its members have peers in their configurations, and not addresses, so "
			 "who they are never changes");
		return false;
	}
	if (status->leader != status->id) {
		if (status->leader)
			snprintf(why, why_bytes, "replica %u leads: ask it, not this one",
				 status->leader);
		else
			snprintf(why, why_bytes, "nobody leads");
		return false;
	}
	forgetful =
		membership->conf->state_file ? find_forgetful(status, peering, joins) : status->id;
	if (forgetful)
		snprintf(
			why, why_bytes,
			"replica %u has no state-file, and would not know its group after a reboot",
			forgetful);
	return !forgetful;
}

bool membership_change(const struct membership *membership, struct mu *mu, struct peering *peering,
		       enum mu_change change, const char *who, unsigned *id, char *why,
		       size_t why_bytes)
{
	struct mu_group_status status;
	const char *reason;

	mu_group_status(mu, &status);
	*id = find_replica(&membership->book, who);
	if (!may_change(membership, &status, peering, change == MU_CHANGE_ADD ? *id : 0, why,
			why_bytes))
		return false;
	if (change == MU_CHANGE_ADD && !membership->book.place[*id].address[0]) {
		snprintf(why, why_bytes, "no replica %s has been heard of: start it with join = %s",
			 who, membership->book.place[status.id].address);
		return false;
	}
	if (*id == 0) {
		snprintf(why, why_bytes, "there is no replica %s", who);
		return false;
	}
	if (mu_change_members(mu, change, *id, &reason) == MU_OK)
		return true;
	snprintf(why, why_bytes, "replica %u: %s", *id, reason);
	return false;
}
