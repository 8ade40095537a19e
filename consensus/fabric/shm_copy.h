/*
 * shm_copy.h - copies between private memory and memory that another process
 * may be reading or writing at the same moment. These copies race by design:
 * the fabric promises no more than that aligned 8-byte words are never torn
 * (F6), and those who use it check what they have read.
 *
 * Whole aligned words of the shared side are therefore moved by one atomic
 * access each, never by memcpy(), which gives no such promise. Stores release
 * and loads acquire, so that a later write is never seen without an earlier
 * one (F2); on x86 that costs nothing, on ARM it is what makes F2 true. Bytes
 * in front of the first and behind the last whole word go one at a time: the
 * rest of their words belongs to others and must not be written.
 *
 * The loops run a cache line a turn. Within the caches they reach about half
 * the speed of a vector memcpy(), tens of GB/s; mubench shows both.
 */
#ifndef MU_SHM_COPY_H
#define MU_SHM_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SHM_RACES_BY_DESIGN __attribute__((no_sanitize("thread")))
#define SHM_WORD sizeof(uint64_t)

/* The shared bytes may be anything to those who use them. */
typedef uint64_t __attribute__((may_alias)) shm_word;

/* How many bytes lie between p and the next aligned word, at most len. */
static inline size_t shm_bytes_to_word(const uint8_t *p, size_t len)
{
	size_t lead = -(uintptr_t)p % SHM_WORD;

	return lead < len ? lead : len;
}

SHM_RACES_BY_DESIGN static inline void shm_word_out(uint8_t *shared, const uint8_t *private)
{
	uint64_t word;

	memcpy(&word, private, sizeof(word));
	__atomic_store_n((shm_word *)(void *)shared, word, __ATOMIC_RELEASE);
}

SHM_RACES_BY_DESIGN static inline void shm_word_in(uint8_t *private, const uint8_t *shared)
{
	uint64_t word = __atomic_load_n((const shm_word *)(const void *)shared, __ATOMIC_ACQUIRE);

	memcpy(private, &word, sizeof(word));
}

/* Private memory to shared memory. */
SHM_RACES_BY_DESIGN static inline void shm_copy_out(uint8_t *shared, const uint8_t *private,
						    size_t len)
{
	size_t lead = shm_bytes_to_word(shared, len);

	for (len -= lead; lead > 0; lead--)
		__atomic_store_n(shared++, *private ++, __ATOMIC_RELEASE);
	for (; len >= 8 * SHM_WORD; len -= 8 * SHM_WORD) {
		for (int i = 0; i < 8; i++)
			shm_word_out(shared + i * SHM_WORD, private + i * SHM_WORD);
		shared += 8 * SHM_WORD;
		private += 8 * SHM_WORD;
	}
	for (; len >= SHM_WORD; len -= SHM_WORD) {
		shm_word_out(shared, private);
		shared += SHM_WORD;
		private += SHM_WORD;
	}
	for (; len > 0; len--)
		__atomic_store_n(shared++, *private ++, __ATOMIC_RELEASE);
}

/* Shared memory to private memory. */
SHM_RACES_BY_DESIGN static inline void shm_copy_in(uint8_t *private, const uint8_t *shared,
						   size_t len)
{
	size_t lead = shm_bytes_to_word(shared, len);

	for (len -= lead; lead > 0; lead--)
		*private ++ = __atomic_load_n(shared++, __ATOMIC_ACQUIRE);
	for (; len >= 8 * SHM_WORD; len -= 8 * SHM_WORD) {
		for (int i = 0; i < 8; i++)
			shm_word_in(private + i * SHM_WORD, shared + i * SHM_WORD);
		shared += 8 * SHM_WORD;
		private += 8 * SHM_WORD;
	}
	for (; len >= SHM_WORD; len -= SHM_WORD) {
		shm_word_in(private, shared);
		shared += SHM_WORD;
		private += SHM_WORD;
	}
	for (; len > 0; len--)
		*private ++ = __atomic_load_n(shared++, __ATOMIC_ACQUIRE);
}

#endif
