/*
 * membership.h - who the group is: found out as a replica starts, from its configuration,
 * its state-file, or a member that it is to ask (join); and kept up with as it runs.
 */
#ifndef MUPROXY_MEMBERSHIP_H
#define MUPROXY_MEMBERSHIP_H

#include "book.h"
#include "conf.h"
#include "fabrics.h"

/* A fabric that takes up new replicas may be asked for any of these. */
#define MEMBERSHIP_ALL_IDS (((1U << MU_MAX_REPLICAS) - 1) << 1)

struct membership {
	const struct conf *conf;
	struct book book;   /* as last looked at */
	struct book stored; /* as in the state-file */
	bool complained;    /* that it cannot be stored */
	uint32_t forgotten; /* bit i: the fabric keeps nothing for replica i, which was removed */
};

/*
 * Find out. What the state-file or a member says goes before [member] sections, but for
 * addresses: these are the operator's word. May take some seconds, if nobody answers.
 * False: one line in err, "file:line: reason".
 */
bool membership_find(struct membership *membership, const struct conf *conf, char *err,
		     size_t err_bytes);

/* What consensus is to be told of it. */
void membership_mu_config(const struct membership *membership, struct mu_config *config);

/*
 * What has come since: tell the peering and consensus, and keep it in the state-file.
 * Some times a second, by one thread, which it may keep waiting for the disk.
 */
void membership_look(struct membership *membership, struct mu *mu, const struct fabrics *fabrics);

/*
 * An operator's wish, of the leader (mu_change_members()). who: an id, or the address of
 * one that waits to be added. False, with the reason in why.
 */
bool membership_change(const struct membership *membership, struct mu *mu, struct peering *peering,
		       enum mu_change change, const char *who, unsigned *id, char *why,
		       size_t why_bytes);

#endif
