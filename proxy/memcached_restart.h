/*
 * memcached_restart.h - a memcached that the log cannot bring level: it was
 * away for longer than the log is long, came back empty after the log's
 * beginning had been reclaimed, or holds what another log made of it.
 *
 * A cache may miss whatever it likes, so an empty one is a correct state at
 * every LSN (DESIGN 6.5). It is emptied and goes on from a place that the log
 * still has; nothing has to be copied from anybody.
 */
#ifndef MP_MEMCACHED_RESTART_H
#define MP_MEMCACHED_RESTART_H

#include <stdbool.h>

struct mp_proxy;

/*
 * The log does not reach back to what the backends need. True: it is because of
 * the memcached, which is being emptied; it will become READY again with an LSN
 * that the log has. False: it is not, or there is none.
 */
bool mp_memcached_restart(struct mp_proxy *proxy);
/* The memcached is READY: one that an earlier proxy was filling is filled on. */
void mp_memcached_go_on_filling(struct mp_proxy *proxy);

#endif
