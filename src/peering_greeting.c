/*
 * peering_greeting.c - one connection until both ends know each other, in both
 * roles (peering_wire.h). Nothing more than the greeting is read from it, so
 * that what follows is there for whoever gets the connection.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "net.h"
#include "peering_parts.h"
#include "peering_proof.h"

/* Connections that have not proved anything; beyond, one must go. */
enum {
	ACCEPTED_MAX = 64,
	ACCEPTED_HOST_MAX = 32, /* from one address: more than all members have need of */
};

static void on_event(evutil_socket_t fd, short what, void *ctx);

/* ------------------------------------------------------------ beginning, end */

static bool make_hello(struct greeting *g, unsigned to)
{
	struct peering *p = g->peering;

	if (!peering_begin_hello(&g->mine, &p->options))
		return false;
	g->mine.purpose = (uint8_t)g->purpose;
	g->mine.to = (uint8_t)to;
	g->mine.nonce = p->nonce;
	g->mine.facts = atomic_load(&p->facts);
	pthread_mutex_lock(&p->lock);
	g->mine.configuration = p->book.configuration;
	g->mine.stamp = p->book.place[p->options.id].stamp;
	memcpy(g->mine.address, p->book.place[p->options.id].address, sizeof(g->mine.address));
	pthread_mutex_unlock(&p->lock);
	return true;
}

static struct greeting *new_greeting(struct peering *p, int fd, const char *remote)
{
	struct greeting *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->peering = p;
	g->fd = fd;
	g->deadline_ms = peering_now_ms() + p->options.greet_ms;
	snprintf(g->remote, sizeof(g->remote), "%s", remote);
	TAILQ_INSERT_TAIL(&p->greetings, g, place);
	return g;
}

void greeting_free(struct greeting *g)
{
	struct peering *p = g->peering;

	event_del(&g->io);
	if (g->fd >= 0)
		close(g->fd);
	channel_forget(p, g);
	if (g->dialled && p->dial[g->purpose][g->peer].greeting == g)
		p->dial[g->purpose][g->peer].greeting = NULL;
	if (!g->dialled)
		p->accepted--;
	TAILQ_REMOVE(&p->greetings, g, place);
	free(g);
}

/* It came to nothing. */
static void end(struct greeting *g)
{
	struct peering *p = g->peering;
	enum peering_purpose purpose = g->purpose;
	unsigned peer = g->peer;
	bool dialled = g->dialled;

	greeting_free(g);
	if (dialled)
		peering_dial_failed(p, purpose, peer, peering_now_ms());
}

/* The connection is new and this is little: if it does not go at once, nothing will. */
static bool say(struct greeting *g, enum peering_greeting_type type, const void *body, size_t len)
{
	struct {
		struct peering_head head;
		uint8_t body[sizeof(struct peering_hello)];
	} message = {.head = {.magic = PEERING_MAGIC,
			      .version = PEERING_VERSION,
			      .type = (uint16_t)type,
			      .bytes = (uint16_t)len}};
	size_t bytes = sizeof(message.head) + len;

	assert(len <= sizeof(message.body));
	memcpy(message.body, body, len);
	return send(g->fd, &message, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

/* Whom a line in the log is about: "replica 2 at 10.0.0.2:7400", or the address alone. */
static const char *who(const struct greeting *g, char text[100])
{
	if (g->peer)
		snprintf(text, 100, "replica %u at %s", g->peer, g->remote);
	else
		snprintf(text, 100, "%s", g->remote);
	return text;
}

void greeting_refuse(struct greeting *g, bool quiet, const char *why)
{
	size_t len = strlen(why);
	char text[100];

	say(g, PEERING_REFUSED, why, len < PEERING_REFUSAL_BYTES ? len : PEERING_REFUSAL_BYTES);
	if (quiet)
		mp_debug("peering: %s refused: %s", who(g, text), why);
	else
		peering_complain(g->peering, g->peer, g->proven, why, "%s refused: %s",
				 who(g, text), why);
	end(g);
}

/* --------------------------------------------------------------- both hellos */

static void list_members(uint64_t configuration, char text[32])
{
	uint64_t members = mu_configuration_members(configuration);
	size_t at = 0;

	text[0] = '\0';
	for (unsigned id = 0; id < 32 && at < 24; id++)
		if (members >> id & 1)
			at += (size_t)snprintf(text + at, 32 - at, "%s%u", at ? "," : "", id);
}

/* Of those that have changed the later one is right, and both will come to it. */
static bool are_at_odds(uint64_t one, uint64_t other)
{
	return one != other && mu_configuration_epoch(one) == mu_configuration_epoch(other);
}

/* That it is asked by whom it does not know, and does not know whom it asks. */
static bool is_question(const struct greeting *g)
{
	return g->theirs.purpose == PEERING_ASK && !g->dialled;
}

/* What speaks against the peer's hello; NULL: nothing. */
static const char *hello_fault(const struct greeting *g, char text[PEERING_REFUSAL_BYTES])
{
	const struct peering *p = g->peering;
	const struct peering_hello *theirs = &g->theirs;
	char here[32], there[32];

	if (theirs->group_id != p->options.group_id)
		return "another group";
	if (theirs->nonce == p->nonce)
		return "the address leads back to where it was dialled";
	if (g->dialled && theirs->from != g->peer) {
		snprintf(text, PEERING_REFUSAL_BYTES, "the address of replica %u leads to %u",
			 g->peer, theirs->from);
		return text;
	}
	if (theirs->from == p->options.id) {
		snprintf(text, PEERING_REFUSAL_BYTES, "replica %u is already running here",
			 p->options.id);
		return text;
	}
	if (are_at_odds(theirs->configuration, g->mine.configuration) && !is_question(g)) {
		list_members(g->mine.configuration, here);
		list_members(theirs->configuration, there);
		snprintf(text, PEERING_REFUSAL_BYTES, "other members: %s there, %s here", there,
			 here);
		return text;
	}
	if (!peering_admits(p, theirs->from))
		return "not a member of the group";
	if (!peering_address_is_sound(theirs->address))
		return "it has no address";
	if (theirs->to != (is_question(g) ? 0 : p->options.id)) {
		snprintf(text, PEERING_REFUSAL_BYTES, "this is replica %u, not %u", p->options.id,
			 theirs->to);
		return text;
	}
	if (theirs->has_secret != g->mine.has_secret)
		return theirs->has_secret ? "it has a secret, and here is none"
					  : "it has no secret, and here is one";
	if (theirs->fabric != p->options.fabric)
		return "it is configured with another fabric";
	if (theirs->ring_bytes != p->options.ring_bytes)
		return "it is configured with another ring-size";
	if ((theirs->purpose >= PEERING_PURPOSES && !is_question(g)) ||
	    (g->dialled && theirs->purpose != g->purpose))
		return "an unknown purpose";
	return NULL;
}

static bool prove(struct greeting *g)
{
	const struct peering_options *o = &g->peering->options;
	struct peering_proof proof;

	return peering_prove(o->secret, o->secret_bytes,
			     g->dialled ? PEERING_DIALLER : PEERING_ACCEPTOR,
			     g->dialled ? &g->mine : &g->theirs, g->dialled ? &g->theirs : &g->mine,
			     &proof) &&
	       say(g, PEERING_PROOF, &proof, sizeof(proof));
}

static void take_hello(struct greeting *g)
{
	char text[PEERING_REFUSAL_BYTES];
	const char *fault;

	memcpy(&g->theirs, g->body, sizeof(g->theirs));
	if (!g->dialled) {
		if (peering_admits(g->peering, g->theirs.from) &&
		    g->theirs.group_id == g->peering->options.group_id)
			g->peer = g->theirs.from;
		if (g->theirs.purpose < PEERING_PURPOSES || is_question(g))
			g->purpose = g->theirs.purpose;
		if (!make_hello(g, g->theirs.from)) {
			end(g);
			return;
		}
	}
	fault = hello_fault(g, text);
	if (fault) {
		greeting_refuse(g, false, fault);
		return;
	}
	g->state = GREETING_PROOF;
	if (g->dialled ? !prove(g) : !say(g, PEERING_HELLO, &g->mine, sizeof(g->mine)))
		end(g);
}

/* ------------------------------------------------------------------- proofs */

/* It is little: if it does not go at once, then it will be asked for again. */
static void answer(struct greeting *g)
{
	uint8_t frames[MU_ID_SLOTS * (sizeof(struct peering_frame) + sizeof(struct peering_place))];
	size_t bytes = peering_write_book(g->peering, frames, sizeof(frames));
	char text[100];

	if (send(g->fd, frames, bytes, MSG_NOSIGNAL) == (ssize_t)bytes)
		mp_info("peering: %s asked who the members are", who(g, text));
}

/* Both know each other: the connection is what it was made for. */
static void join(struct greeting *g)
{
	struct peering *p = g->peering;
	int fd = g->fd;

	if (is_question(g)) {
		answer(g);
	} else if (g->purpose == PEERING_CHANNEL) {
		peering_learn(p, g->peer, g->theirs.stamp, g->theirs.address);
		channel_open(p, g);
	} else {
		event_del(&g->io);
		g->fd = -1;
		peering_hand_over(p, g->purpose, g->peer, fd, g->dialled,
				  g->dialled ? p->dial[g->purpose][g->peer].attachment
					     : p->attachment);
	}
	if (g->dialled)
		peering_dial_greeted(p, g);
	greeting_free(g);
}

void greeting_admit(struct greeting *g)
{
	if (!g->dialled && !prove(g))
		end(g);
	else
		join(g);
}

/* A stream belongs to the process that has the channel. */
static bool has_channel(const struct greeting *g)
{
	const struct channel *channel = &g->peering->channel[g->peer];

	return channel->up && channel->nonce == g->theirs.nonce &&
	       (g->purpose == PEERING_USER || !channel_objection(g->peering, g->peer));
}

static void take_proof(struct greeting *g)
{
	const struct peering_options *o = &g->peering->options;
	struct peering_proof proof;

	memcpy(&proof, g->body, sizeof(proof));
	if (!peering_proof_holds(o->secret, o->secret_bytes,
				 g->dialled ? PEERING_ACCEPTOR : PEERING_DIALLER,
				 g->dialled ? &g->mine : &g->theirs,
				 g->dialled ? &g->theirs : &g->mine, &proof)) {
		greeting_refuse(g, false, "another secret");
		return;
	}
	g->proven = true;
	if (g->purpose != PEERING_CHANNEL) {
		if (is_question(g) || has_channel(g))
			greeting_admit(g);
		else
			greeting_refuse(g, true, "no channel with it, yet");
		return;
	}
	switch (g->dialled ? CHANNEL_ADMIT : channel_offer(g->peering, g)) {
	case CHANNEL_ADMIT:
		greeting_admit(g);
		break;
	case CHANNEL_REFUSE:
		greeting_refuse(g, true, "there is a channel already");
		break;
	case CHANNEL_HOLD: /* g may be gone */
		break;
	}
}

/* The text is the other end's, and so is not trusted. */
static void be_refused(struct greeting *g)
{
	char why[PEERING_REFUSAL_BYTES + 1], text[100];

	memcpy(why, g->body, g->head.bytes);
	why[g->head.bytes] = '\0';
	peering_make_printable(why);
	/* What passes by itself: both ends dialled, or one was a little faster. */
	if (strstr(why, "channel"))
		mp_debug("peering: refused by %s: %s", who(g, text), why);
	else
		peering_complain(g->peering, g->peer, true, why, "refused by %s: %s", who(g, text),
				 why);
	end(g);
}

/* ---------------------------------------------------------------- reading */

/* What is wrong with the head of a message at this point; NULL: nothing. */
static const char *head_fault(const struct greeting *g, char text[PEERING_REFUSAL_BYTES])
{
	const struct peering_head *head = &g->head;

	if (head->magic != PEERING_MAGIC)
		return "not a muproxy replica";
	if (head->type == PEERING_REFUSED && head->bytes <= PEERING_REFUSAL_BYTES)
		return NULL;
	if (head->version != PEERING_VERSION) {
		snprintf(text, PEERING_REFUSAL_BYTES,
			 "another version of the peers' format: %u there, %u here", head->version,
			 PEERING_VERSION);
		return text;
	}
	if (g->state == GREETING_HELLO && head->type == PEERING_HELLO &&
	    head->bytes == sizeof(struct peering_hello))
		return NULL;
	if (g->state == GREETING_PROOF && head->type == PEERING_PROOF &&
	    head->bytes == sizeof(struct peering_proof))
		return NULL;
	return "not a greeting";
}

static void take_message(struct greeting *g)
{
	g->got = 0;
	if (g->head.type == PEERING_REFUSED)
		be_refused(g);
	else if (g->state == GREETING_HELLO)
		take_hello(g);
	else
		take_proof(g);
}

static void lose(struct greeting *g, const char *why)
{
	char text[100];

	if (g->dialled)
		mp_debug("peering: %s: %s", who(g, text), why);
	end(g);
}

/* One step of reading; false: nothing more for now, or the greeting is gone. */
static bool read_some(struct greeting *g)
{
	bool in_head = g->got < sizeof(g->head);
	size_t whole = sizeof(g->head) + (in_head ? 0 : g->head.bytes);
	uint8_t *to = in_head ? (uint8_t *)&g->head + g->got : g->body + g->got - sizeof(g->head);
	char text[PEERING_REFUSAL_BYTES];
	const char *fault;
	ssize_t n = recv(g->fd, to, whole - g->got, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0 || g->state == GREETING_HELD) {
		lose(g, n < 0 ? strerror(errno) : "the connection was closed");
		return false;
	}
	g->got += (size_t)n;
	if (g->got < whole)
		return true;
	if (!in_head) {
		take_message(g);
		return false;
	}
	fault = head_fault(g, text);
	if (fault) {
		greeting_refuse(g, false, fault);
		return false;
	}
	return true;
}

static void connected(struct greeting *g)
{
	int error = mp_connect_result(g->fd);

	if (error) {
		lose(g, strerror(error));
		return;
	}
	g->state = GREETING_HELLO;
	g->deadline_ms = peering_now_ms() + g->peering->options.greet_ms;
	event_del(&g->io);
	event_assign(&g->io, g->peering->base, g->fd, EV_READ | EV_PERSIST, on_event, g);
	event_add(&g->io, NULL);
	if (!make_hello(g, g->peer) || !say(g, PEERING_HELLO, &g->mine, sizeof(g->mine)))
		end(g);
}

static void on_event(evutil_socket_t fd, short what, void *ctx)
{
	struct greeting *g = ctx;

	(void)fd;
	(void)what;
	if (g->state == GREETING_CONNECTING)
		connected(g);
	else
		while (read_some(g))
			;
}

/* ----------------------------------------------------------------- public */

/* "10.0.0.2:53412" and "10.0.0.2:40000" are of one host. */
static bool is_same_host(const char *one, const char *other)
{
	const char *port = strrchr(one, ':');

	return port && strncmp(one, other, (size_t)(port - one) + 1) == 0 &&
	       strrchr(other, ':') == other + (port - one);
}

/*
 * The one that is to make room: of this host, or of all (NULL). The oldest, but one
 * that has greeted only if there is none that has not: it knew the group.
 */
static struct greeting *least_promising(struct peering *p, const char *host)
{
	struct greeting *g, *oldest = NULL;

	TAILQ_FOREACH(g, &p->greetings, place) {
		if (g->dialled || g->state == GREETING_HELD ||
		    (host && !is_same_host(g->remote, host)))
			continue;
		if (g->state == GREETING_HELLO)
			return g;
		if (!oldest)
			oldest = g;
	}
	return oldest;
}

static unsigned accepted_from(const struct peering *p, const char *host)
{
	const struct greeting *g;
	unsigned count = 0;

	TAILQ_FOREACH(g, &p->greetings, place)
		count += !g->dialled && is_same_host(g->remote, host);
	return count;
}

/* Whoever opens many connections is in his own way, not in the members'. */
static void make_room(struct peering *p, const char *remote)
{
	bool crowded = accepted_from(p, remote) >= ACCEPTED_HOST_MAX;
	struct greeting *g;

	if (!crowded && p->accepted < ACCEPTED_MAX)
		return;
	g = least_promising(p, crowded ? remote : NULL);
	if (!g)
		return;
	peering_complain(p, 0, false, "crowd", "too many connections at once that do not greet");
	greeting_free(g);
}

void greeting_accept(struct peering *p, int fd)
{
	struct greeting *g;
	char remote[64];

	mp_remote_text(fd, remote, sizeof(remote));
	make_room(p, remote);
	g = p->accepted < ACCEPTED_MAX ? new_greeting(p, fd, remote) : NULL;
	if (!g) {
		close(fd);
		return;
	}
	p->accepted++;
	g->state = GREETING_HELLO;
	event_assign(&g->io, p->base, fd, EV_READ | EV_PERSIST, on_event, g);
	event_add(&g->io, NULL);
}

struct greeting *greeting_dial(struct peering *p, enum peering_purpose purpose, unsigned peer,
			       int fd, const char *remote)
{
	struct greeting *g = new_greeting(p, fd, remote);

	if (!g)
		return NULL;
	g->dialled = true;
	g->purpose = purpose;
	g->peer = peer;
	g->state = GREETING_CONNECTING;
	g->deadline_ms = peering_now_ms() + p->options.connect_ms;
	event_assign(&g->io, p->base, fd, EV_WRITE, on_event, g);
	event_add(&g->io, NULL);
	return g;
}

void greeting_tick(struct peering *p, uint64_t now_ms)
{
	struct greeting *g, *next;

	for (g = TAILQ_FIRST(&p->greetings); g; g = next) {
		next = TAILQ_NEXT(g, place);
		/* channel_tick() sees to those that are held. */
		if (g->state == GREETING_HELD || now_ms < g->deadline_ms)
			continue;
		if (!g->dialled)
			peering_complain(p, g->peer, false, "late", "%s does not greet in time",
					 g->remote);
		lose(g, g->state == GREETING_CONNECTING ? "no answer" : "does not greet in time");
	}
}
