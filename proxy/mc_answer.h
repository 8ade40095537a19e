/* mc_answer.h - the answer to a decided request, in its client's protocol. */
#ifndef MP_MC_ANSWER_H
#define MP_MC_ANSWER_H

#include "mc_decide.h"

enum mc_outcome {
	MC_DONE_WELL, /* stored, deleted, touched, counted */
	MC_IS_THERE,  /* EXISTS */
	MC_NOT_THERE, /* NOT_FOUND */
	MC_NOT_PUT,   /* NOT_STORED */
	MC_NO_NUMBER,
};

/* What an answer may tell, besides the outcome. */
struct mc_result_facts {
	uint64_t number;    /* incr, decr */
	bool is_new;        /* ... of a counter that began with it: that is always told */
	uint32_t flags;     /* touch */
	uint64_t token;     /* touch */
	size_t old_bytes;   /* of append and prepend: what was there before */
	int64_t deadline_s; /* ma t: 0 none; and before the flags T and N had their say: */
	int64_t old_deadline_s;
	int64_t now_s;
};

/* To decision->reply, with what stands in front of it. */
void mc_answer(const struct mc_request *, enum mc_outcome, const struct mc_result_facts *,
	       struct mc_decision *);
#endif
