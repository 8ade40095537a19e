/*
 * memcached_older.h - what the log has for memcacheds that know flags which the
 * one beside us does not: where servers are replaced by newer ones, one by one,
 * replicas may have different ones for a while. What such a server cannot do comes
 * out as a miss, or as a token of its own: never as an older value.
 */
#ifndef MP_MEMCACHED_OLDER_H
#define MP_MEMCACHED_OLDER_H

#include <stdbool.h>

#include "mc_writer.h"
#include "slice.h"

/* Does the line, in clean form (mc_encode.h), leave an item without its value (md x)? */
bool memcached_empties(struct mp_slice line);
/* Is there something in it that a server with these news (enum mc_news) does not know? */
bool memcached_is_too_new(struct mp_slice line, unsigned news);
/* Then the same, as it may have it. */
void memcached_put_older(struct mc_writer *out, struct mp_slice line, unsigned news);

#endif
