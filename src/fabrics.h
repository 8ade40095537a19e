/*
 * fabrics.h - the fabric that a configuration asks for, and the peering that
 * it runs over if the group is on several hosts.
 */
#ifndef MUPROXY_FABRICS_H
#define MUPROXY_FABRICS_H

#include "conf.h"
#include "peering.h"

struct fabrics {
	struct mu_fabric *fabric; /* NULL: not open */
	struct peering *peering;  /* NULL: all on one host */
};

/*
 * Open it. With fabric = auto this takes until all members have said what they
 * have, some seconds at most. The user gets the connections that peers make to
 * each other for what is not the fabric's. False: one line in err.
 */
bool fabrics_open(struct fabrics *fabrics, const struct conf *conf,
		  const struct mu_fabric_config *config, const struct peering_user *user, char *err,
		  size_t err_bytes);
void fabrics_close(struct fabrics *fabrics);

#endif
