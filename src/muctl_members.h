/* muctl_members.h - muctl add, remove, replace. */
#ifndef MUPROXY_MUCTL_MEMBERS_H
#define MUPROXY_MUCTL_MEMBERS_H

/* Make replicas members, by address or id, one after the other. Each waits; the exit code. */
int muctl_add(const char *admin, char *const *who, int count);
int muctl_remove(const char *admin, const char *id);
/* Add these, then remove that one. */
int muctl_replace(const char *admin, const char *id, char *const *who, int count);

#endif
