/*
 * peering_dial.c - who is to be dialled, and when.
 *
 * The channel between two members is dialled by the one with the higher id.
 * Should that not come about (it cannot reach the other, or was not told of
 * it), the other tries too, somewhat later. Streams are dialled by whoever
 * wants one, once there is a channel.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "net.h"
#include "log.h"
#include "peering_parts.h"

enum {
	RETRY_MIN_MS = 20,
	RETRY_MAX_MS = 640,
	STREAM_RETRY_MAX_MS = 160,
	LOWER_ID_WAITS_MS = 1000,
};

/* Doubles with every failure, and differs from replica to replica. */
static uint64_t pause_ms(const struct peering *p, const struct dial *dial, uint64_t most)
{
	uint64_t pause = RETRY_MIN_MS;

	for (unsigned i = 1; i < dial->failures && pause < most; i++)
		pause *= 2;
	return pause + pause * p->options.id / 16;
}

void peering_dial_failed(struct peering *p, enum peering_purpose purpose, unsigned peer,
			 uint64_t now_ms)
{
	struct dial *dial = &p->dial[purpose][peer];

	dial->greeting = NULL;
	dial->failures++;
	dial->next_ms =
		now_ms +
		pause_ms(p, dial, purpose == PEERING_CHANNEL ? RETRY_MAX_MS : STREAM_RETRY_MAX_MS);
	if (dial->failures % 4 == 0)
		peering_places_renew(p->places, peer);
}

void peering_dial_greeted(struct peering *p, struct greeting *g)
{
	struct dial *dial = &p->dial[g->purpose][g->peer];

	dial->greeting = NULL;
	dial->failures = 0;
	dial->next_ms = 0;
	dial->wanted = false;
}

static void attempt(struct peering *p, enum peering_purpose purpose, unsigned peer, uint64_t now_ms)
{
	struct dial *dial = &p->dial[purpose][peer];
	struct mp_address address;
	char why[256];
	int fd;

	if (!peering_places_get(p->places, peer, &address, why, sizeof(why))) {
		if (why[0])
			peering_complain(p, peer, true, why, "replica %u: %s", peer, why);
		peering_places_renew(p->places, peer);
		dial->failures++;
		dial->next_ms = now_ms + pause_ms(p, dial, RETRY_MAX_MS);
		return;
	}
	fd = mp_connect_begin(&address, dial->failures);
	if (fd >= 0) {
		dial->greeting = greeting_dial(p, purpose, peer, fd, address.text);
		if (dial->greeting)
			return;
		close(fd);
		errno = ENOMEM;
	}
	mp_debug("peering: replica %u at %s: %s", peer, address.text, strerror(errno));
	peering_dial_failed(p, purpose, peer, now_ms);
}

/* Is it this replica's turn to see to a channel? */
static bool wants_channel(const struct peering *p, unsigned peer, uint64_t now_ms)
{
	const struct channel *c = &p->channel[peer];

	/* Who was removed may still come, to hear of it. */
	return !c->up && !(atomic_load(&p->removed) >> peer & 1) &&
	       (p->options.id > peer || now_ms >= c->lost_ms + LOWER_ID_WAITS_MS);
}

static void give_up(struct peering *p, enum peering_purpose purpose, unsigned peer)
{
	struct dial *dial = &p->dial[purpose][peer];

	dial->wanted = false;
	if (dial->greeting)
		greeting_free(dial->greeting);
	dial->failures++;
	peering_tell_failed(p, purpose, peer, dial->attachment);
}

/* A fabric's streams would be dropped at once where there is no fabric for them. */
static bool may_attempt(struct peering *p, enum peering_purpose purpose, unsigned peer)
{
	return purpose == PEERING_USER ? p->channel[peer].up : channel_joins_fabrics(p, peer);
}

static void step_stream(struct peering *p, enum peering_purpose purpose, unsigned peer,
			uint64_t now_ms)
{
	struct dial *dial = &p->dial[purpose][peer];
	bool asked = atomic_load(&p->asked[purpose]) >> peer & 1;

	if (asked && !dial->wanted) {
		dial->wanted = true;
		dial->deadline_ms = now_ms + p->options.dial_ms;
		dial->attachment = p->attachment;
	}
	if (!dial->wanted)
		return;
	if (now_ms >= dial->deadline_ms)
		give_up(p, purpose, peer);
	else if (!dial->greeting && now_ms >= dial->next_ms && may_attempt(p, purpose, peer))
		attempt(p, purpose, peer, now_ms);
}

void peering_dial_tick(struct peering *p, uint64_t now_ms)
{
	PEERING_EACH(p, id)
	{
		struct dial *dial = &p->dial[PEERING_CHANNEL][id];

		if (wants_channel(p, id, now_ms) && !dial->greeting && now_ms >= dial->next_ms)
			attempt(p, PEERING_CHANNEL, id, now_ms);
		for (unsigned purpose = PEERING_DATA; purpose < PEERING_PURPOSES; purpose++)
			step_stream(p, (enum peering_purpose)purpose, id, now_ms);
	}
}
