/* mc_base64.h - keys of the meta commands with flag b. */
#ifndef MP_MC_BASE64_H
#define MP_MC_BASE64_H

#include <stddef.h>

#include "slice.h"

/* Servers take keys of up to 250 bytes, in base64. */
#define MC_MAX_BASE64_KEY_BYTES 186

static inline size_t mc_base64_bytes(size_t bytes)
{
	return (bytes + 2) / 3 * 4;
}

/* To out, which has mc_base64_bytes() of room; returns the length. */
size_t mc_base64_encode(struct mp_slice in, char *out);
/* To out, which has in.len / 4 * 3 of room. 0: it is none. */
size_t mc_base64_decode(struct mp_slice in, char *out);
#endif
