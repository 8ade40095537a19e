/* memcached_digest_judge.h - what replicas say of one item compared (memcached_digest.h). */
#ifndef MP_MEMCACHED_DIGEST_JUDGE_H
#define MP_MEMCACHED_DIGEST_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "mu.h"

enum { MEMCACHED_DEADLINE_SLACK_S = 5 };

/* Of one item; part of the format of the link. */
struct memcached_word {
	uint64_t hash;      /* of value and flags; 0: it is not there */
	int64_t deadline_s; /* Unix time; 0: none */
};

struct memcached_verdict {
	bool differs;
	bool has_majority;
	uint32_t wrong; /* bit i: replica i is to drop it */
};

/* word[i]: replica i's; NULL: it has not answered. */
struct memcached_verdict memcached_judge(const struct memcached_word *const word[MU_ID_SLOTS]);

#endif
