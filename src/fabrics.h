/*
 * fabrics.h - the fabric that a configuration asks for, and the peering that
 * it runs over if the group is on several hosts.
 */
#ifndef MUPROXY_FABRICS_H
#define MUPROXY_FABRICS_H

#include "book.h"
#include "conf.h"
#include "peering.h"

/* What members that choose by themselves (fabric = auto) tell each other through the peering. */
enum fabrics_fact {
	FACT_HAS_VERBS = 1,
	FACT_CHOSE_TCP = 2,
	FACT_CHOSE_VERBS = 4,
	FACT_KEEPS_BOOK = 8, /* it has a state-file */
};

struct fabrics {
	struct mu_fabric *fabric; /* NULL: not open */
	struct peering *peering;  /* NULL: all on one host, and never others */
	unsigned id;
	uint32_t members;
	uint32_t facts; /* of the choice, as told to the others; 0: nothing was chosen */
};

/*
 * Open it. With fabric = auto this takes until all members have said what they
 * have, some seconds at most. The user gets the connections that peers make to
 * each other for what is not the fabric's. False: one line in err.
 */
bool fabrics_open(struct fabrics *fabrics, const struct conf *conf, const struct book *book,
		  const struct mu_fabric_config *config, const struct peering_user *user, char *err,
		  size_t err_bytes);
/* Who is a member by now. By the thread that asks fabrics_outvoted(). */
void fabrics_know_members(struct fabrics *fabrics, const struct book *book);
/* How a replica greets its peers, also where it has no peering yet; points into the book. */
void fabrics_peering_options(const struct conf *conf, const struct book *book,
			     struct peering_options *options);
void fabrics_close(struct fabrics *fabrics);

/*
 * Members that did not hear of each other for long may have chosen differently;
 * then they do not work with each other. True if most members have chosen
 * another fabric than this one, or if a majority is there only with some that have
 * chosen tcp, and this one verbs: it has to be started anew. One line in why.
 */
bool fabrics_outvoted(const struct fabrics *fabrics, char *why, size_t why_bytes);

#endif
