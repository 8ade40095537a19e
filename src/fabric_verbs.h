/* fabric_verbs.h - the verbs fabric as a configuration has it; there in every build. */
#ifndef MUPROXY_FABRIC_VERBS_H
#define MUPROXY_FABRIC_VERBS_H

#include "conf.h"
#include "mu_peering.h"

/* Whether this build and machine can; else why not, in a line. */
bool fabric_verbs_usable(const struct conf *conf, char *why, size_t why_bytes);
/* 0, or -1 with one line in err. */
int fabric_verbs_open(struct mu_fabric **out, const struct conf *conf,
		      const struct mu_fabric_config *config, struct mu_peering *peering, char *err,
		      size_t err_bytes);
/* List RDMA devices on stdout. Returns how many ports; -1: this build cannot tell. */
int fabric_verbs_list(void);

#endif
