/*
 * redis_config.h - CONFIG GET: the backend's own, less its secrets (whoever has
 * the password of a backend can write past the log), and with as many
 * databases as clients have.
 */
#ifndef MP_REDIS_CONFIG_H
#define MP_REDIS_CONFIG_H

#include "buffer.h"
#include "slice.h"

/*
 * Append the client's reply, made of the backend's, to out; databases: as many
 * as clients see. What is no array or map of strings is appended as it is.
 * False: out of memory.
 */
bool mp_config_reply(struct mp_slice reply, int databases, struct mp_buffer *out);

#endif
