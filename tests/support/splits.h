/* splits.h - how input arrives must not matter to a parser (cmocka tests). */
#ifndef TEST_SPLITS_H
#define TEST_SPLITS_H

#include "feed.h"

/*
 * What is said at once, byte by byte, and cut in two anywhere, must be the
 * same; whole: what that is, to be freed.
 */
static inline void test_splits(test_feed *feed, const void *limits, struct mp_slice input,
			       struct test_notes *whole)
{
	struct test_notes pieces = {0};

	feed(limits, input, test_cut_whole, NULL, whole);
	feed(limits, input, test_cut_bytes, NULL, &pieces);
	assert_true(test_notes_same(whole, &pieces));
	test_notes_free(&pieces);
	for (size_t at = 1; at < input.len; at++) {
		feed(limits, input, test_cut_at, &at, &pieces);
		assert_true(test_notes_same(whole, &pieces));
		test_notes_free(&pieces);
	}
}

#endif
