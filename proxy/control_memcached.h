/* control_memcached.h - a memcached's health and figures, by libmemcached. See control.h. */
#ifndef MP_CONTROL_MEMCACHED_H
#define MP_CONTROL_MEMCACHED_H

#include <stdbool.h>
#include <stddef.h>

#include "control.h"

/*
 * Connects to address ("unix:/path" or "host:port"), asks, and closes. Blocks
 * for timeout_ms at most for each exchange. False with a one-line reason in err.
 */
bool mp_control_memcached(const char *address, int timeout_ms, struct mp_server_info *info,
			  char *err, size_t err_bytes);

#endif
