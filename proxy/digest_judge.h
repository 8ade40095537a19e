/* digest_judge.h - replicas' answers to one question compared (digest.h). */
#ifndef MP_DIGEST_JUDGE_H
#define MP_DIGEST_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

struct mp_digest;

/* As many questions more are asked for the key that makes the numbers of keys differ. */
enum { MP_DIGEST_HURRIED_MAX = 500 };

struct mp_digest_verdict {
	uint32_t wrong;      /* bit i: replica i says otherwise than a majority */
	uint64_t keys;       /* that differ */
	bool is_count_wrong; /* so does the number of keys that there are */
};

/* What differs is told in the log. */
void mp_digest_judge(const struct mp_digest *digest, struct mp_digest_verdict *verdict);

#endif
