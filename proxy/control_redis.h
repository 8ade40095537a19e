/* control_redis.h - a redis-server's health and figures, by hiredis. See control.h. */
#ifndef MP_CONTROL_REDIS_H
#define MP_CONTROL_REDIS_H

#include <stdbool.h>
#include <stddef.h>

#include "control.h"

/*
 * Connects to address ("unix:/path" or "host:port"), asks, and closes. Blocks
 * for timeout_ms at most for each exchange (look-ups of a host
 * name not counted). password: NULL for none. False with a one-line reason in
 * err: the server cannot be reached, or answers with an error, such as LOADING.
 */
bool mp_control_redis(const char *address, const char *password, int timeout_ms,
		      struct mp_server_info *info, char *err, size_t err_bytes);

#endif
