/* group_key.c - see group_key.h: HMAC-SHA256, by OpenSSL's libcrypto. */
#include "group_key.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define INFO_MAX 128

bool group_key_expand(const uint8_t key[GROUP_KEY_BYTES], const void *info, size_t info_bytes,
		      uint8_t out[GROUP_KEY_BYTES])
{
	uint8_t block[INFO_MAX + 1];
	unsigned bytes = GROUP_KEY_BYTES;

	if (info_bytes > INFO_MAX)
		return false;
	memcpy(block, info, info_bytes);
	block[info_bytes] = 1; /* the block's number */
	return HMAC(EVP_sha256(), key, GROUP_KEY_BYTES, block, info_bytes + 1, out, &bytes) &&
	       bytes == GROUP_KEY_BYTES;
}
