/*
 * backends.h - the servers beside this replica as apply.c's targets: opening
 * them, what they tell (replies, losses, states), and whether they are well.
 */
#ifndef MP_BACKENDS_H
#define MP_BACKENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_proxy;

void mp_backends_init(struct mp_proxy *proxy);
/* Opens them; they connect by themselves. False: one line in err. */
bool mp_backends_open(struct mp_proxy *proxy, char *err, size_t err_bytes);
void mp_backends_close(struct mp_proxy *proxy);
/* Once a turn: who does not answer? Tells consensus of their health. */
void mp_backends_watch(struct mp_proxy *proxy);
/* Consensus is told how far all of them are; the log may give up what lies before. */
void mp_backends_tell_applied(struct mp_proxy *proxy);
/* All there and brought level by the log: may this replica lead? */
bool mp_backends_level(const struct mp_proxy *proxy);
/* Bit i: replica i is a member, alive, and its backends are level. */
uint32_t mp_backends_level_members(struct mp_proxy *proxy);
/* When mp_backends_watch() has to be called next; UINT64_MAX: after an event. */
uint64_t mp_backends_deadline_ns(const struct mp_proxy *proxy);

#endif
