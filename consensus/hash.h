/*
 * hash.h - the hash that checksums are made of: XXH3, 64 bits, with a secret. Where
 * the processor has AVX2 long inputs are read by it, three times as fast; the value
 * is the same. It is a file of its own for being compiled for both.
 */
#ifndef MU_HASH_H
#define MU_HASH_H

#include <stddef.h>
#include <stdint.h>

#define MU_SECRET_BYTES 192

uint64_t mu_hash(const void *bytes, size_t length, const uint8_t secret[MU_SECRET_BYTES]);

/* The same by what any processor of this architecture has. */
uint64_t mu_hash_portable(const void *bytes, size_t length, const uint8_t secret[MU_SECRET_BYTES]);

#ifdef __x86_64__
#define MU_HASH_HAS_AVX2
/* Only where __builtin_cpu_supports("avx2"). */
uint64_t mu_hash_avx2(const void *bytes, size_t length, const uint8_t secret[MU_SECRET_BYTES]);
#endif

#endif
