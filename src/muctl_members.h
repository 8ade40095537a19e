/* muctl_members.h - muctl add, remove, replace. */
#ifndef MUPROXY_MUCTL_MEMBERS_H
#define MUPROXY_MUCTL_MEMBERS_H

#include "mu.h"

/*
 * Where to ask: of several, whoever leads is asked, and if he is lost midway, the next one. A
 * single one has to be the leader's.
 */
struct muctl_admins {
	const char *address[MU_MAX_REPLICAS];
	int count;
};

/* Make replicas members, by address or id, one after the other. Each waits; the exit code. */
int muctl_add(const struct muctl_admins *admins, char *const *who, int count);
int muctl_remove(const struct muctl_admins *admins, const char *id);
/* Add these, then remove that one. */
int muctl_replace(const struct muctl_admins *admins, const char *id, char *const *who, int count);

#endif
