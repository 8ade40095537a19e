/*
 * verbs_attempt.c - connections in the making, at the end that posts.
 *
 * Everything here is done again until it works: an attempt that fails or is not
 * answered leaves the connection DOWN, and its plane asks anew; the more of them
 * fail in a row, the longer the next one waits.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "verbs_maker.h"

#define BACKOFF_MIN_NS 2000000u
#define BACKOFF_DOUBLINGS 7u
/* A peer that is stopped answers no requests; it may be continued at any time. */
#define ANSWER_TIMEOUT_NS 1000000000u
/* After which a peer is asked again who it is. */
#define HELLO_AGAIN_NS 50000000u

static uint64_t random_u64(void)
{
	uint64_t number = 0;

	while (number == 0)
		if (getrandom(&number, sizeof(number), 0) < 0 && errno != EINTR)
			abort(); /* there is no kernel without it */
	return number;
}

void verbs_attempt_give_up(struct verbs_maker *maker, enum mu_plane plane, unsigned peer)
{
	struct attempt *attempt = &maker->attempt[plane][peer];
	unsigned doublings =
		attempt->failures < BACKOFF_DOUBLINGS ? attempt->failures : BACKOFF_DOUBLINGS;
	int connecting = MU_CONNECTION_CONNECTING;

	verbs_queue_pair_free(attempt->qp);
	attempt->qp = NULL;
	attempt->failures++;
	attempt->not_before_ns = verbs_clock_ns() + ((uint64_t)BACKOFF_MIN_NS << doublings);
	atomic_compare_exchange_strong(&maker->verbs->plane[plane].out[peer].state, &connecting,
				       MU_CONNECTION_DOWN);
}

void verbs_attempt_complain(struct verbs_maker *maker, enum mu_plane plane, unsigned peer,
			    const char *what, int error)
{
	if (maker->attempt[plane][peer].failures == 0)
		verbs_say(maker->verbs, "replica %u: %s: %s", peer, what, verbs_reason(error));
}

/* Whether there is a channel to it, but it has not said yet which process it is. */
static bool is_stranger(const struct verbs_maker *maker, unsigned peer)
{
	uint32_t turn = verbs_inbox_turn(&maker->inbox, peer);

	return verbs_inbox_is_up(turn) && maker->met_turn[peer] != turn;
}

/*
 * Nothing is asked of a peer before it is known who it is: another process might
 * make a queue pair with the number of one to which a connection still leads.
 */
static void introduce(struct verbs_maker *maker, uint64_t now_ns)
{
	struct verbs_message hello = {.kind = VERBS_HELLO};

	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++) {
		if (is_stranger(maker, peer) && now_ns >= maker->hello_ns[peer]) {
			maker->hello_ns[peer] = now_ns + HELLO_AGAIN_NS;
			verbs_maker_send(maker->verbs, peer, &hello);
		}
	}
}

static void request(struct verbs_maker *maker, enum mu_plane plane, unsigned peer)
{
	struct verbs_fabric *verbs = maker->verbs;
	struct attempt *attempt = &maker->attempt[plane][peer];
	struct verbs_numbers *numbers = verbs_numbers_of(verbs);
	const struct verbs_queue_pair_wants wants = {
		.domain = verbs->plane[plane].domain,
		.completions = verbs->plane[plane].completions,
		.work_requests = verbs->work_requests,
		.inline_bytes = VERBS_INLINE_BYTES,
	};
	struct verbs_message message = {.kind = VERBS_REQUEST, .plane = (uint8_t)plane};

	verbs_maker_look_at_port(maker);
	attempt->qp = verbs_queue_pair_new(&verbs->port, &wants, numbers,
					   &numbers->last[VERBS_POSTING][plane][peer],
					   &attempt->inline_bytes);
	if (attempt->qp == NULL) {
		verbs_attempt_complain(maker, plane, peer, "cannot make a queue pair", errno);
		verbs_attempt_give_up(maker, plane, peer);
		return;
	}
	attempt->name = random_u64();
	attempt->deadline_ns = verbs_clock_ns() + ANSWER_TIMEOUT_NS;
	verbs_endpoint_describe(&attempt->own, &verbs->port, attempt->qp);
	message.attempt = attempt->name;
	message.endpoint = attempt->own;
	if (verbs_maker_send(verbs, peer, &message) != 0)
		verbs_attempt_give_up(maker, plane, peer);
}

/* All is arranged: let the plane's thread have it. */
static void hand_over(struct verbs_maker *maker, enum mu_plane plane, unsigned peer,
		      const struct verbs_message *answer)
{
	struct verbs_out *out = &maker->verbs->plane[plane].out[peer];
	struct attempt *attempt = &maker->attempt[plane][peer];
	int connecting = MU_CONNECTION_CONNECTING;

	/* While it is not UP the plane's thread does not look at these. */
	out->qp = attempt->qp;
	out->generation = ++maker->generation;
	out->inline_bytes = attempt->inline_bytes;
	memcpy(out->target, answer->target, sizeof(out->target));
	atomic_store(&out->attempt, attempt->name);
	if (atomic_compare_exchange_strong(&out->state, &connecting, MU_CONNECTION_UP)) {
		attempt->qp = NULL;
		attempt->failures = 0;
		verbs_call(&maker->verbs->plane[plane]);
		return;
	}
	/* Disconnected meanwhile. */
	out->qp = NULL;
	atomic_store(&out->attempt, 0);
	verbs_attempt_give_up(maker, plane, peer);
}

static bool reaches_all(const struct verbs_fabric *verbs, const struct verbs_message *answer)
{
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		if (answer->target[plane].bytes !=
		    verbs->config.region_bytes[verbs_region_of((enum mu_plane)plane)])
			return false;
	return true;
}

void verbs_attempt_accepted(struct verbs_maker *maker, enum mu_plane plane, unsigned peer,
			    const struct verbs_message *answer)
{
	struct verbs_fabric *verbs = maker->verbs;
	struct attempt *attempt = &maker->attempt[plane][peer];
	int error;

	if (!reaches_all(verbs, answer)) {
		verbs_attempt_complain(maker, plane, peer,
				       "its memory is of another size than configured here",
				       EINVAL);
		verbs_attempt_give_up(maker, plane, peer);
		return;
	}
	error = verbs_queue_pair_serve(attempt->qp, &verbs->port, &answer->endpoint,
				       &verbs->transport);
	if (error == 0)
		error = verbs_queue_pair_start(attempt->qp, &verbs->port, &attempt->own,
					       &answer->endpoint, &verbs->transport, 0);
	if (error == 0) {
		hand_over(maker, plane, peer, answer);
	} else {
		verbs_attempt_complain(maker, plane, peer, "cannot connect a queue pair", error);
		verbs_attempt_give_up(maker, plane, peer);
	}
}

/* When there is something to be done about a connection; UINT64_MAX: nothing, until it is told. */
static uint64_t due_ns(const struct verbs_maker *maker, enum mu_plane plane, unsigned peer)
{
	const struct attempt *attempt = &maker->attempt[plane][peer];

	if (attempt->qp != NULL)
		return attempt->deadline_ns;
	if (atomic_load(&maker->verbs->plane[plane].out[peer].state) != MU_CONNECTION_CONNECTING)
		return UINT64_MAX;
	return is_stranger(maker, peer) ? maker->hello_ns[peer] : attempt->not_before_ns;
}

void verbs_attempts_step(struct verbs_maker *maker, uint64_t now_ns)
{
	introduce(maker, now_ns);
	for (unsigned i = 0; i < MU_PLANES * MU_ID_SLOTS; i++) {
		enum mu_plane plane = (enum mu_plane)(i / MU_ID_SLOTS);
		unsigned peer = i % MU_ID_SLOTS;

		if (now_ns < due_ns(maker, plane, peer))
			continue;
		if (maker->attempt[plane][peer].qp != NULL)
			verbs_attempt_give_up(maker, plane, peer);
		else
			request(maker, plane, peer);
	}
}

int verbs_attempts_rest_ms(const struct verbs_maker *maker, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	for (unsigned peer = 0; peer < MU_ID_SLOTS; peer++) {
		if (is_stranger(maker, peer) && maker->hello_ns[peer] < next_ns)
			next_ns = maker->hello_ns[peer];
		for (unsigned plane = 0; plane < MU_PLANES; plane++)
			if (due_ns(maker, (enum mu_plane)plane, peer) < next_ns)
				next_ns = due_ns(maker, (enum mu_plane)plane, peer);
	}
	if (next_ns == UINT64_MAX)
		return -1;
	return next_ns <= now_ns ? 0 : (int)((next_ns - now_ns) / 1000000 + 1);
}
