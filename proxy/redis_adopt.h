/*
 * redis_adopt.h - a Redis is filled with what another one, the seed, holds
 * (adopt.h), by Redis's own replication: for a while the server here is the
 * seed's replica.
 *
 *   asked     the seed: who it is, which databases it has data in. It must be no
 *             newer than the server here, which could not read its data;
 *   following the server is told REPLICAOF, and sends its state for that to this
 *             proxy, which shows it. When it is level, the seed is asked how far it
 *             has come itself;
 *   cut       when the server has come as far, it is made a master again. All that
 *             the seed had acknowledged by then is here; of what followed some, up to
 *             one place;
 *   converted what a log goes by: deadlines are padded (expiry.h), functions become
 *             ours (redis_scripts.h); a server here, that is due to expire a key itself
 *             up to then, is right to do so;
 *   named     a memcached beside it is told the era and the LSN, emptied unless it has
 *             been filled from a seed of its own; then they are stored here.
 *
 * Without a seed, for the memcached has one alone, the server is only named: it is empty.
 *
 * A server that is left in the middle is the seed's replica still, or has a mark
 * in place of our position in the log: it is begun anew with. One that was killed in
 * the middle, and comes back with a part of the seed's data and no mark, is refused
 * as a stranger's.
 */
#ifndef MP_REDIS_ADOPT_H
#define MP_REDIS_ADOPT_H

#include <stdbool.h>
#include <stdint.h>

struct mp_proxy;
struct redis_adopt;

/* is_empty: the server here is known to be. NULL: errno. */
struct redis_adopt *redis_adopt_begin(struct mp_proxy *proxy, bool is_empty);
/* Returns when it wants another turn at the latest. Ends in mp_adopt_done(), or fails. */
uint64_t redis_adopt_turn(struct redis_adopt *adopt, uint64_t now_ns);
/* How many the server holds, once it is done. */
uint64_t redis_adopt_keys(const struct redis_adopt *adopt);
void redis_adopt_end(struct redis_adopt *adopt);

#endif
