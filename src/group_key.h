/*
 * group_key.h - keys made of the group's key, one for each use. What they are used
 * for travels in clear, and is not the same algorithm everywhere (HMAC, XXH3): so
 * none of it may tell anything of another use's key, nor of the group's.
 */
#ifndef MUPROXY_GROUP_KEY_H
#define MUPROXY_GROUP_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GROUP_KEY_BYTES 32

/*
 * HKDF-Expand of RFC 5869 over SHA-256, of one block: the group's key is random
 * as it is, and needs no extracting. `info` says what for. False: the library cannot.
 */
bool group_key_expand(const uint8_t key[GROUP_KEY_BYTES], const void *info, size_t info_bytes,
		      uint8_t out[GROUP_KEY_BYTES]);

#endif
