/*
 * feed.h - feeding a parser in pieces and writing down what it says, so that
 * feeding the same bytes in other pieces can be compared: it must not matter.
 * Every piece is a fresh allocation of exactly its size: the buffer moves, and
 * a sanitizer sees each byte read too far.
 */
#ifndef TEST_FEED_H
#define TEST_FEED_H

#include <stdbool.h>
#include <stddef.h>

#include "mc_text.h"
#include "resp.h"
#include "slice.h"

/* What a parser said, as text. */
struct test_notes {
	char *text;
	size_t len, cap;
};
void test_notes_free(struct test_notes *notes);
bool test_notes_same(const struct test_notes *a, const struct test_notes *b);

/* Where the pieces end: a position in the input, growing, the last its length. */
typedef size_t (*test_cut)(size_t from, size_t len, void *ctx);
size_t test_cut_whole(size_t from, size_t len, void *ctx);  /* all at once */
size_t test_cut_bytes(size_t from, size_t len, void *ctx);  /* byte by byte */
size_t test_cut_at(size_t from, size_t len, void *ctx);     /* in two, at *(size_t *)ctx */
size_t test_cut_random(size_t from, size_t len, void *ctx); /* by a generator at *(uint64_t *)ctx */
uint64_t test_random(uint64_t *state);

/*
 * All the requests in the input, up to a fatal error.
 * limits: struct resp_limits, and struct mc_limits.
 */
typedef void test_feed(const void *limits, struct mp_slice input, test_cut cut, void *ctx,
		       struct test_notes *notes);
test_feed test_feed_resp, test_feed_mc;
/* Where the replies in the input end. */
typedef void test_feed_framer(struct mp_slice input, test_cut cut, void *ctx,
			      struct test_notes *notes);
test_feed_framer test_feed_resp_framer, test_feed_mc_framer;
#endif
