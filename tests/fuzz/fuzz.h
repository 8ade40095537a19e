/* fuzz.h - what the harnesses share. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdlib.h>

#include "feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must hold however this is compiled. */
#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

/* How input arrives must not matter, neither to a parser nor to what finds replies' ends. */
static inline void check_pieces(test_feed *feed, const void *limits, test_feed_framer *framer,
				struct mp_slice input, uint64_t seed)
{
	struct test_notes whole = {0}, pieces = {0}, bytes = {0};

	feed(limits, input, test_cut_whole, NULL, &whole);
	feed(limits, input, test_cut_random, &seed, &pieces);
	feed(limits, input, test_cut_bytes, NULL, &bytes);
	CHECK(test_notes_same(&whole, &pieces));
	CHECK(test_notes_same(&whole, &bytes));
	test_notes_free(&whole);
	test_notes_free(&pieces);
	test_notes_free(&bytes);
	framer(input, test_cut_whole, NULL, &whole);
	framer(input, test_cut_random, &seed, &pieces);
	CHECK(test_notes_same(&whole, &pieces));
	test_notes_free(&whole);
	test_notes_free(&pieces);
}

#endif
