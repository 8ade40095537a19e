/*
 * apply_entry.h - one committed entry of the log: each of its records goes to the
 * backend that it is for, and the client that waits for it, if he is ours, is known.
 */
#ifndef MP_APPLY_ENTRY_H
#define MP_APPLY_ENTRY_H

#include "mu.h"

struct mp_proxy;

/* Hand it to every backend that takes it: is READY, and has not had it yet. */
void mp_apply_entry(struct mp_proxy *proxy, const struct mu_entry *entry);

#endif
