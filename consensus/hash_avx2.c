/* hash_avx2.c - XXH3 compiled for AVX2, whatever the rest is compiled for. See hash.h. */
#include "hash.h"

#ifdef MU_HASH_HAS_AVX2
/* Before any function is compiled for more than the rest is. */
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX2
#include <xxhash.h>

uint64_t mu_hash_avx2(const void *bytes, size_t length, const uint8_t secret[MU_SECRET_BYTES])
{
	return XXH3_64bits_withSecret(bytes, length, secret, MU_SECRET_BYTES);
}
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
