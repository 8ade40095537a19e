/*
 * peering_channel.c - the channel between two members: frames (peering_wire.h)
 * in both directions, signs of life, and that an id is one process.
 *
 * A member that greets although there is a channel to another process of its
 * id is either the same replica, started anew while nobody has noticed the end
 * of its predecessor, or a second one that was given its id by mistake. So the
 * process that has the channel is asked for a sign of life: if it gives one,
 * the newcomer is refused.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "peering_parts.h"

enum {
	FRAME_BYTES_MAX = sizeof(struct peering_frame) + MU_PEERING_MESSAGE_BYTES,
	READ_BYTES = 16 << 10,
	OUT_BYTES_MAX = 256 << 10, /* messages that the peer has not taken yet */
};

/* ------------------------------------------------------------------ sending */

int channel_send(struct peering *p, unsigned peer, enum peering_frame_type type, const void *body,
		 size_t len)
{
	struct channel *c = &p->channel[peer];
	struct peering_frame frame = {.type = (uint16_t)type, .bytes = (uint16_t)len};
	int result = -1;

	assert(len <= MU_PEERING_MESSAGE_BYTES);
	pthread_mutex_lock(&p->lock);
	if (c->open && mp_buffer_len(&c->out) + sizeof(frame) + len <= OUT_BYTES_MAX &&
	    mp_buffer_reserve(&c->out, sizeof(frame) + len)) {
		mp_buffer_append(&c->out, &frame, sizeof(frame));
		mp_buffer_append(&c->out, body, len);
		result = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return result;
}

void channel_flush(struct peering *p, unsigned peer)
{
	struct channel *c = &p->channel[peer];
	size_t left;
	bool sent;

	if (!c->up || c->congested)
		return;
	pthread_mutex_lock(&p->lock);
	sent = mp_buffer_len(&c->out) == 0 || mp_buffer_send(&c->out, c->fd);
	left = mp_buffer_len(&c->out);
	pthread_mutex_unlock(&p->lock);
	if (!sent) {
		channel_close(p, peer, strerror(errno));
		return;
	}
	c->congested = left > 0;
	if (c->congested)
		event_add(&c->writable, NULL);
}

static struct peering_state own_state(struct peering *p)
{
	return (struct peering_state){.facts = atomic_load(&p->facts),
				      .attached = atomic_load(&p->attached)};
}

void channel_tell_state(struct peering *p, unsigned peer)
{
	struct channel *c = &p->channel[peer];
	struct peering_state state = own_state(p);

	if (channel_send(p, peer, PEERING_STATE, &state, sizeof(state)) != 0)
		return;
	pthread_mutex_lock(&p->lock);
	c->told = state;
	pthread_mutex_unlock(&p->lock);
}

/* There was no room for it, or two threads told it at once and the older came last. */
static bool owes_state(struct peering *p, unsigned peer)
{
	struct peering_state state = own_state(p);
	bool owes;

	pthread_mutex_lock(&p->lock);
	owes = memcmp(&p->channel[peer].told, &state, sizeof(state)) != 0;
	pthread_mutex_unlock(&p->lock);
	return owes;
}

/* ---------------------------------------------------------------- receiving */

static struct peering_state state_of(struct peering *p, unsigned peer)
{
	struct peering_state state;

	pthread_mutex_lock(&p->lock);
	state = p->channel[peer].state;
	pthread_mutex_unlock(&p->lock);
	return state;
}

const char *channel_objection(struct peering *p, unsigned peer)
{
	if (!p->options.objection)
		return NULL;
	return p->options.objection(state_of(p, peer).facts, atomic_load(&p->facts));
}

bool channel_joins_fabrics(struct peering *p, unsigned peer)
{
	return p->channel[peer].up && state_of(p, peer).attached && !channel_objection(p, peer);
}

void channel_announce(struct peering *p, unsigned peer)
{
	struct channel *c = &p->channel[peer];
	const char *objection = channel_objection(p, peer);
	bool up = channel_joins_fabrics(p, peer);

	if (c->up && objection)
		peering_complain(p, peer, true, objection, "replica %u at %s: %s", peer, c->remote,
				 objection);
	pthread_mutex_lock(&p->events_lock);
	if (p->events && c->announced != up) {
		c->announced = up;
		p->events->channel(p->fabric, peer, up);
	}
	pthread_mutex_unlock(&p->events_lock);
}

static void hand_message(struct peering *p, unsigned peer, const void *body, size_t len)
{
	/* A fabric that attached this moment may be answered before it was told of the channel. */
	channel_announce(p, peer);
	pthread_mutex_lock(&p->events_lock);
	if (p->events && p->channel[peer].announced)
		p->events->message(p->fabric, peer, body, len);
	pthread_mutex_unlock(&p->events_lock);
}

/* The process that has the channel lives; then whoever else claims its id is wrong. */
static void refuse_challenger(struct peering *p, unsigned peer)
{
	struct channel *c = &p->channel[peer];
	struct greeting *challenger = c->challenger;
	char why[PEERING_REFUSAL_BYTES];

	if (!challenger)
		return;
	c->challenger = NULL;
	snprintf(why, sizeof(why), "replica %u is already running, at %s", peer, c->remote);
	greeting_refuse(challenger, false, why);
}

/* False: the frame makes no sense. */
static bool take_frame(struct peering *p, unsigned peer, const struct peering_frame *frame,
		       const char *body)
{
	struct channel *c = &p->channel[peer];

	switch (frame->type) {
	case PEERING_MESSAGE:
		hand_message(p, peer, body, frame->bytes);
		return true;
	case PEERING_PING:
		channel_send(p, peer, PEERING_PONG, "", 0);
		channel_flush(p, peer);
		return true;
	case PEERING_PONG:
		refuse_challenger(p, peer);
		return true;
	case PEERING_STATE:
		if (frame->bytes != sizeof(c->state))
			return false;
		pthread_mutex_lock(&p->lock);
		memcpy(&c->state, body, sizeof(c->state));
		pthread_mutex_unlock(&p->lock);
		channel_announce(p, peer);
		return true;
	case PEERING_PLACE:
		return peering_take_place(p, body, frame->bytes);
	default:
		return false;
	}
}

/* The next whole frame; false: none, or the channel is closed. */
static bool next_frame(struct peering *p, unsigned peer)
{
	struct channel *c = &p->channel[peer];
	struct peering_frame frame;
	char body[MU_PEERING_MESSAGE_BYTES];

	if (!c->up || mp_buffer_len(&c->in) < sizeof(frame))
		return false;
	memcpy(&frame, mp_buffer_data(&c->in), sizeof(frame));
	if (frame.bytes > sizeof(body)) {
		channel_close(p, peer, "a frame that is too long");
		return false;
	}
	if (mp_buffer_len(&c->in) < sizeof(frame) + frame.bytes)
		return false;
	memcpy(body, mp_buffer_data(&c->in) + sizeof(frame), frame.bytes);
	mp_buffer_consume(&c->in, sizeof(frame) + frame.bytes);
	if (take_frame(p, peer, &frame, body))
		return true;
	channel_close(p, peer, "a frame that makes no sense");
	return false;
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct channel *c = ctx;
	ssize_t n;

	(void)what;
	n = mp_buffer_receive(&c->in, fd, READ_BYTES);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n <= 0) {
		channel_close(c->peering, c->peer, n < 0 ? strerror(errno) : "it was closed");
		return;
	}
	c->heard_ms = peering_now_ms();
	while (next_frame(c->peering, c->peer))
		;
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct channel *c = ctx;

	(void)fd;
	(void)what;
	c->congested = false;
	channel_flush(c->peering, c->peer);
}

/* ----------------------------------------------------------- opening, closing */

/*
 * If both ends dialled at once then each may have come to know another
 * connection first. The one that the higher id dialled stays.
 */
static bool prefers_present(const struct peering *p, const struct channel *c, unsigned peer)
{
	return c->dialled && p->options.id > peer;
}

enum channel_verdict channel_offer(struct peering *p, struct greeting *g)
{
	struct channel *c = &p->channel[g->peer];

	if (!c->up)
		return CHANNEL_ADMIT;
	if (c->nonce == g->theirs.nonce)
		return prefers_present(p, c, g->peer) ? CHANNEL_REFUSE : CHANNEL_ADMIT;
	if (c->challenger)
		return CHANNEL_REFUSE;
	g->state = GREETING_HELD;
	c->challenger = g;
	c->challenged_ms = peering_now_ms();
	channel_send(p, c->peer, PEERING_PING, "", 0);
	/* If this fails then the channel is closed, the challenger admitted, and g no more. */
	channel_flush(p, c->peer);
	return CHANNEL_HOLD;
}

void channel_forget(struct peering *p, const struct greeting *g)
{
	if (p->channel[g->peer].challenger == g)
		p->channel[g->peer].challenger = NULL;
}

void channel_close(struct peering *p, unsigned peer, const char *why)
{
	struct channel *c = &p->channel[peer];
	struct greeting *challenger = c->challenger;

	if (!c->up)
		return;
	if (why)
		mp_info("peering: replica %u at %s: disconnected: %s", peer, c->remote, why);
	event_del(&c->readable);
	event_del(&c->writable);
	close(c->fd);
	c->up = c->congested = false;
	c->lost_ms = peering_now_ms();
	c->challenger = NULL;
	mp_buffer_free(&c->in);
	pthread_mutex_lock(&p->lock);
	c->open = false;
	mp_buffer_free(&c->out);
	c->state = (struct peering_state){0};
	pthread_mutex_unlock(&p->lock);
	channel_announce(p, peer);
	if (challenger)
		greeting_admit(challenger);
}

/* Streams of the process before may be open for long: it is stopped, or beyond a broken link. */
static void tell_replaced(struct peering *p, unsigned peer)
{
	pthread_mutex_lock(&p->events_lock);
	if (p->events && p->events->replaced)
		p->events->replaced(p->fabric, peer);
	pthread_mutex_unlock(&p->events_lock);
}

void channel_open(struct peering *p, struct greeting *g)
{
	struct channel *c = &p->channel[g->peer];
	struct greeting *other = c->challenger == g ? NULL : c->challenger;
	bool again = c->nonce == g->theirs.nonce;
	bool successor = c->nonce && !again;

	/* Or it would be admitted by the closing, in the middle of this. */
	c->challenger = NULL;
	channel_close(p, g->peer, again ? NULL : "it was started anew");
	assert(!c->up);
	if (successor)
		tell_replaced(p, g->peer);
	event_del(&g->io);
	c->fd = g->fd;
	g->fd = -1;
	c->up = true;
	c->dialled = g->dialled;
	c->nonce = g->theirs.nonce;
	c->heard_ms = c->pinged_ms = peering_now_ms();
	memcpy(c->remote, g->remote, sizeof(c->remote));
	event_assign(&c->readable, p->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
	event_assign(&c->writable, p->base, c->fd, EV_WRITE, on_writable, c);
	event_add(&c->readable, NULL);
	pthread_mutex_lock(&p->lock);
	c->open = true;
	c->state.facts = g->theirs.facts;
	c->told.attached = UINT32_MAX; /* nothing, yet */
	pthread_mutex_unlock(&p->lock);
	p->complaint[g->peer] = (struct complaint){0};
	mp_info("peering: replica %u at %s: connected", g->peer, c->remote);
	channel_tell_state(p, g->peer);
	c->owed = p->options.admits ? atomic_load(&p->known) & ~(1U << g->peer) : 0;
	peering_tell_places(p, g->peer);
	channel_flush(p, g->peer);
	if (other)
		greeting_refuse(other, true, "there is a channel already");
}

void channel_tick(struct peering *p, uint64_t now_ms)
{
	const struct peering_options *o = &p->options;

	PEERING_EACH(p, id)
	{
		struct channel *c = &p->channel[id];

		if (c->up && c->challenger && now_ms >= c->challenged_ms + o->ping_ms)
			channel_close(p, id, "it does not answer, and has been started anew");
		if (c->up && owes_state(p, id)) {
			channel_tell_state(p, id);
			channel_flush(p, id);
		}
		if (c->up && c->owed) {
			peering_tell_places(p, id);
			channel_flush(p, id);
		}
		if (!c->up || now_ms < c->heard_ms + o->ping_ms)
			continue;
		if (now_ms >= c->heard_ms + o->silence_ms) {
			channel_close(p, id, "nothing is heard from it");
		} else if (now_ms >= c->pinged_ms + o->ping_ms) {
			c->pinged_ms = now_ms;
			channel_send(p, id, PEERING_PING, "", 0);
			channel_flush(p, id);
		}
	}
}
