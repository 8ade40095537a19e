/* hash.c - see hash.h. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hash.h"

/* What is shorter is not read by vectors anyway (XXH3_MIDSIZE_MAX). */
enum { SHORT_BYTES = 240 };

uint64_t mu_hash_portable(const void *bytes, size_t length, const uint8_t secret[MU_SECRET_BYTES])
{
	return XXH3_64bits_withSecret(bytes, length, secret, MU_SECRET_BYTES);
}

uint64_t mu_hash(const void *bytes, size_t length, const uint8_t secret[MU_SECRET_BYTES])
{
#ifdef MU_HASH_HAS_AVX2
	if (length > SHORT_BYTES && __builtin_cpu_supports("avx2"))
		return mu_hash_avx2(bytes, length, secret);
#endif
	return mu_hash_portable(bytes, length, secret);
}
