/* memcached_digest_judge.c - see memcached_digest_judge.h. */
#include "memcached_digest_judge.h"

#include <stdlib.h>

static bool is_there(const struct memcached_word *word)
{
	return word && word->hash != 0;
}

static bool are_same(const struct memcached_word *a, const struct memcached_word *b)
{
	return a->hash == b->hash && (a->deadline_s == 0) == (b->deadline_s == 0) &&
	       llabs(a->deadline_s - b->deadline_s) <= MEMCACHED_DEADLINE_SLACK_S;
}

/* Who says the same as replica id, itself included. */
static uint32_t who_agrees(const struct memcached_word *const word[MU_ID_SLOTS], unsigned id)
{
	uint32_t ids = 0;

	for (unsigned other = 1; other < MU_ID_SLOTS; other++)
		if (is_there(word[other]) && are_same(word[id], word[other]))
			ids |= 1U << other;
	return ids;
}

struct memcached_verdict memcached_judge(const struct memcached_word *const word[MU_ID_SLOTS])
{
	struct memcached_verdict verdict = {0};
	uint32_t holders = 0, most = 0;

	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (is_there(word[id]))
			holders |= 1U << id;
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		uint32_t ids = holders >> id & 1 ? who_agrees(word, id) : holders;

		verdict.differs = verdict.differs || ids != holders;
		if (holders >> id & 1 && __builtin_popcount(ids) * 2 > __builtin_popcount(holders))
			most = ids;
	}
	verdict.has_majority = most != 0;
	if (verdict.differs)
		verdict.wrong = holders & ~most;
	return verdict;
}
