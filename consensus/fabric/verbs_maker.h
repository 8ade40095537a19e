/*
 * verbs_maker.h - the fabric's own thread, between the files that it runs:
 * verbs_maker.c has the thread, the serving end of connections, and what is
 * heard; verbs_attempt.c the posting end. Everything here belongs to that thread.
 */
#ifndef MU_VERBS_MAKER_H
#define MU_VERBS_MAKER_H

#include "verbs.h"
#include "verbs_inbox.h"

/* A connection in the making, at the end that posts. */
struct attempt {
	struct ibv_qp *qp; /* NULL: none is under way */
	uint64_t name;
	struct verbs_endpoint own;
	uint32_t inline_bytes;
	uint64_t deadline_ns;   /* for the answer */
	uint64_t not_before_ns; /* the next one */
	unsigned failures;      /* in a row */
};

struct verbs_maker {
	struct verbs_fabric *verbs;
	pthread_t thread;
	_Atomic bool stop;
	struct verbs_inbox inbox;

	/* The thread's own. */
	struct attempt attempt[MU_PLANES][MU_ID_SLOTS];
	uint64_t process[MU_ID_SLOTS];  /* of the peer; 0: not heard from */
	uint32_t met_turn[MU_ID_SLOTS]; /* of the channel, in which that was heard */
	uint64_t hello_ns[MU_ID_SLOTS]; /* when to ask for it again */
	uint32_t generation;
	/* What has been complained of, so that it is once as long as it lasts. */
	bool has_refused[MU_PLANES][MU_ID_SLOTS], port_is_down;
};

static inline struct verbs_numbers *verbs_numbers_of(struct verbs_fabric *verbs)
{
	static_assert(sizeof(struct verbs_numbers) <= OWN_MEMORY_NOTES_BYTES, "there is room");
	return (struct verbs_numbers *)(void *)verbs->memory.header->notes;
}

/* --- verbs_maker.c --- */
int verbs_maker_send(struct verbs_fabric *verbs, unsigned peer, struct verbs_message *message);
/* A queue pair is connected by the way that the port is reached at this moment. */
void verbs_maker_look_at_port(struct verbs_maker *maker);

/* --- verbs_attempt.c --- */
/* Ask for what is wanted, if it is time; give up what was not answered. */
void verbs_attempts_step(struct verbs_maker *maker, uint64_t now_ns);
/* How long there is nothing to do, in ms, rounded up; -1: for ever. */
int verbs_attempts_rest_ms(const struct verbs_maker *maker, uint64_t now_ns);
/* Forget an attempt that came to nothing. */
void verbs_attempt_give_up(struct verbs_maker *maker, enum mu_plane plane, unsigned peer);
/* Tell of a failure, if it is the first of several in a row. */
void verbs_attempt_complain(struct verbs_maker *maker, enum mu_plane plane, unsigned peer,
			    const char *what, int error);
/* The peer serves the attempt that is under way. */
void verbs_attempt_accepted(struct verbs_maker *maker, enum mu_plane plane, unsigned peer,
			    const struct verbs_message *answer);

#endif
