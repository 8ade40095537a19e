/* peering.c - see peering.h and, for the parts, peering_parts.h. */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "net.h"
#include "peering_parts.h"

enum {
	BACKLOG = 64,
	ACCEPTS_PER_EVENT = 32,
	TICK_MS = 20,
	COMPLAINT_MS = 10000,  /* the same one again */
	STRANGERS_MS = 1000,   /* any two about those who have proved nothing */
	ACCEPT_PAUSE_MS = 100, /* when descriptors or memory have run out */
};

uint64_t peering_now_ms(void)
{
	return clock_ns() / 1000000;
}

/* FNV-1a: two reasons that differ are told apart, that is all. */
static uint64_t hash_of(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3ULL;
	return hash;
}

void peering_complain(struct peering *p, unsigned peer, bool proven, const char *why,
		      const char *format, ...)
{
	struct complaint *last = &p->complaint[peer];
	uint64_t now_ms = peering_now_ms(), hash = hash_of(why);
	char text[400];
	va_list args;

	if ((peer && hash == last->why && now_ms < last->again_ms) ||
	    (!proven && now_ms < p->strangers_ms))
		return;
	*last = (struct complaint){.why = hash, .again_ms = now_ms + COMPLAINT_MS};
	if (!proven)
		p->strangers_ms = now_ms + STRANGERS_MS;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	mp_warn("peering: %s", text);
}

void peering_wake(struct peering *p)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread is awake. */
	if (write(p->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/* ------------------------------------------------------------------ streams */

/*
 * A peer that is gone without a word is noticed while something is under way,
 * and while nothing is.
 */
static void tune(int fd, const struct peering_options *o)
{
	static const int on = 1, idle_s = 1, interval_s = 1, probes = 3;
	unsigned timeout_ms = o->silence_ms;
	int buffer_bytes = (int)o->stream_buffer_bytes;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
	if (buffer_bytes == 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof(buffer_bytes));
}

static enum mu_plane plane_of(enum peering_purpose purpose)
{
	return purpose == PEERING_DATA ? MU_PLANE_DATA : MU_PLANE_BACKGROUND;
}

static void end_request(struct peering *p, enum peering_purpose purpose, unsigned peer)
{
	atomic_fetch_and(&p->asked[purpose], ~(1U << peer));
}

void peering_hand_over(struct peering *p, enum peering_purpose purpose, unsigned peer, int fd,
		       bool dialled, unsigned attachment)
{
	if (dialled)
		end_request(p, purpose, peer);
	tune(fd, &p->options);
	if (purpose == PEERING_USER) {
		if (p->user.taken)
			p->user.taken(p->user.ctx, peer, fd, dialled);
		else
			close(fd);
		return;
	}
	pthread_mutex_lock(&p->events_lock);
	if (p->events && attachment == p->attachment)
		p->events->stream(p->fabric, plane_of(purpose), peer, fd, dialled);
	else
		close(fd);
	pthread_mutex_unlock(&p->events_lock);
}

void peering_tell_failed(struct peering *p, enum peering_purpose purpose, unsigned peer,
			 unsigned attachment)
{
	end_request(p, purpose, peer);
	if (purpose == PEERING_USER) {
		if (p->user.taken)
			p->user.taken(p->user.ctx, peer, -1, true);
		return;
	}
	pthread_mutex_lock(&p->events_lock);
	if (p->events && attachment == p->attachment)
		p->events->stream_failed(p->fabric, plane_of(purpose), peer);
	pthread_mutex_unlock(&p->events_lock);
}

/* --------------------------------------------------------------- the thread */

/* Who waits in line makes the listener readable, over and over. */
static void pause_accepting(struct peering *p, const char *why)
{
	peering_complain(p, 0, false, why, "cannot accept connections: %s", why);
	event_del(p->accept_event);
	p->accept_ms = peering_now_ms() + ACCEPT_PAUSE_MS;
}

static void on_acceptable(evutil_socket_t listener, short what, void *ctx)
{
	struct peering *p = ctx;

	(void)what;
	for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
		int fd = mp_accept(listener);

		if (fd >= 0) {
			greeting_accept(p, fd);
			continue;
		}
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			pause_accepting(p, strerror(errno));
		return;
	}
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct peering *p = ctx;
	uint64_t now_ms = peering_now_ms();

	(void)fd;
	(void)what;
	if (p->accept_ms && now_ms >= p->accept_ms) {
		p->accept_ms = 0;
		event_add(p->accept_event, NULL);
	}
	greeting_tick(p, now_ms);
	channel_tick(p, now_ms);
	peering_dial_tick(p, now_ms);
}

static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
	struct peering *p = ctx;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) < 0 || atomic_load(&p->stop)) {
		event_base_loopbreak(p->base);
		return;
	}
	PEERING_EACH(p, id)
	{
		channel_announce(p, id);
		channel_flush(p, id);
	}
	peering_dial_tick(p, peering_now_ms());
}

static void *run(void *ctx)
{
	struct peering *p = ctx;

	event_base_loop(p->base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

/* ----------------------------------------------------- asked by other threads */

static struct peering *of(struct mu_peering *ops)
{
	return (struct peering *)ops;
}

static void tell_all(struct peering *p)
{
	PEERING_EACH(p, id)
	channel_tell_state(p, id);
	peering_wake(p);
}

static void attach(struct mu_peering *ops, const struct mu_peering_events *events, void *fabric)
{
	struct peering *p = of(ops);

	pthread_mutex_lock(&p->events_lock);
	p->events = events;
	p->fabric = fabric;
	atomic_fetch_add(&p->attachment, 1);
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++)
		p->channel[id].announced = false;
	atomic_store(&p->attached, events != NULL);
	pthread_mutex_unlock(&p->events_lock);
	tell_all(p);
}

static int send_message(struct mu_peering *ops, unsigned peer, const void *message, size_t len)
{
	struct peering *p = of(ops);

	assert(peer >= 1 && peer <= MU_MAX_REPLICAS && len <= MU_PEERING_MESSAGE_BYTES);
	if (channel_send(p, peer, PEERING_MESSAGE, message, len) != 0)
		return -1;
	peering_wake(p);
	return 0;
}

static int ask(struct peering *p, enum peering_purpose purpose, unsigned peer)
{
	uint32_t bit = 1U << peer;

	if (peer == p->options.id || !peering_knows(p, peer) ||
	    (atomic_fetch_or(&p->asked[purpose], bit) & bit))
		return -1;
	peering_wake(p);
	return 0;
}

static int dial(struct mu_peering *ops, enum mu_plane plane, unsigned peer)
{
	return ask(of(ops), plane == MU_PLANE_DATA ? PEERING_DATA : PEERING_BACKGROUND, peer);
}

int peering_dial(struct peering *p, unsigned peer)
{
	return ask(p, PEERING_USER, peer);
}

void peering_set_facts(struct peering *p, uint32_t facts)
{
	atomic_store(&p->facts, facts);
	tell_all(p);
}

struct peering_peer peering_peer(struct peering *p, unsigned id)
{
	struct peering_peer peer;

	pthread_mutex_lock(&p->lock);
	peer.up = p->channel[id].open;
	peer.facts = p->channel[id].state.facts;
	pthread_mutex_unlock(&p->lock);
	return peer;
}

/* ---------------------------------------------------------- opening, closing */

void peering_options_init(struct peering_options *options)
{
	*options = (struct peering_options){
		.connect_ms = 300,
		.greet_ms = 2000,
		.dial_ms = 1000,
		.ping_ms = 500,
		.silence_ms = 3000,
	};
}

static bool open_events(struct peering *p)
{
	struct event_config *config = event_config_new();
	struct timeval tick = {.tv_usec = TICK_MS * 1000};

	if (!config)
		return false;
	/* Others wake it by the eventfd. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	p->base = event_base_new_with_config(config);
	event_config_free(config);
	p->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!p->base || p->wake_fd < 0)
		return false;
	p->accept_event = event_new(p->base, p->listener, EV_READ | EV_PERSIST, on_acceptable, p);
	p->wake_event = event_new(p->base, p->wake_fd, EV_READ | EV_PERSIST, on_wake, p);
	p->tick_event = event_new(p->base, -1, EV_PERSIST, on_tick, p);
	return p->accept_event && p->wake_event && p->tick_event &&
	       event_add(p->accept_event, NULL) == 0 && event_add(p->wake_event, NULL) == 0 &&
	       event_add(p->tick_event, &tick) == 0;
}

static void free_peering(struct peering *p)
{
	struct event *events[] = {p->accept_event, p->wake_event, p->tick_event};

	while (!TAILQ_EMPTY(&p->greetings))
		greeting_free(TAILQ_FIRST(&p->greetings));
	PEERING_EACH(p, id)
	channel_close(p, id, NULL);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i])
			event_free(events[i]);
	if (p->base)
		event_base_free(p->base);
	if (p->listener >= 0)
		close(p->listener);
	if (p->wake_fd >= 0)
		close(p->wake_fd);
	peering_places_close(p->places);
	pthread_mutex_destroy(&p->events_lock);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static const struct mu_peering_ops peering_ops = {
	.attach = attach,
	.send = send_message,
	.dial = dial,
};

static void fill_book(struct peering *p, const struct peering_options *options)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		/* What others say of themselves is newer, and this replica's own word, too. */
		struct book_place place = {
			.stamp = id == options->id ? (uint64_t)now.tv_sec * 1000 +
							     (uint64_t)now.tv_nsec / 1000000
						   : 1};

		if (options->address[id])
			snprintf(place.address, sizeof(place.address), "%s", options->address[id]);
		book_take_place(&p->book, id, &place);
	}
	p->known = book_known(&p->book);
	p->book.configuration =
		options->configuration ? options->configuration : mu_configuration(0, 0, p->known);
	p->removed = (uint32_t)mu_configuration_removed(p->book.configuration);
}

static struct peering *new_peering(const struct peering_options *options)
{
	struct peering *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->ops.ops = &peering_ops;
	p->options = *options;
	p->listener = p->wake_fd = -1;
	atomic_store(&p->facts, options->facts);
	TAILQ_INIT(&p->greetings);
	pthread_mutex_init(&p->events_lock, NULL);
	pthread_mutex_init(&p->lock, NULL);
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		p->channel[id].peering = p;
		p->channel[id].peer = id;
		p->channel[id].fd = -1;
	}
	fill_book(p, options);
	while (p->nonce == 0)
		if (getrandom(&p->nonce, sizeof(p->nonce), 0) < 0 && errno != EINTR)
			p->nonce = clock_ns();
	return p;
}

struct peering *peering_open(const struct peering_options *options, char *err, size_t err_bytes)
{
	const char *others[MU_ID_SLOTS];
	struct peering *p = new_peering(options);

	assert(options->id >= 1 && options->id <= MU_MAX_REPLICAS);
	assert(options->address[options->id]);
	if (!p) {
		snprintf(err, err_bytes, "out of memory");
		return NULL;
	}
	memcpy(others, options->address, sizeof(others));
	others[options->id] = NULL;
	p->listener = mp_listen(options->listen ? options->listen : options->address[options->id],
				BACKLOG, err, err_bytes);
	if (p->listener >= 0) {
		p->places = peering_places_open(others);
		if (p->places && open_events(p)) {
			memset(p->options.address, 0, sizeof(p->options.address));
			p->options.listen = NULL;
			return p;
		}
		snprintf(err, err_bytes, "no event loop for the peers: %s", strerror(errno));
	}
	free_peering(p);
	return NULL;
}

int peering_port(const struct peering *p)
{
	return mp_local_port(p->listener);
}

struct mu_peering *peering_base(struct peering *p)
{
	return &p->ops;
}

void peering_set_user(struct peering *p, const struct peering_user *user)
{
	assert(!p->started);
	p->user = *user;
}

int peering_start(struct peering *p)
{
	sigset_t all, before;
	int rc;

	PEERING_EACH(p, id)
	p->channel[id].lost_ms = peering_now_ms();
	/* Signals are for the thread that opened the replica. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&p->thread, NULL, run, p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	p->started = rc == 0;
	if (p->started)
		pthread_setname_np(p->thread, "mu-peering");
	errno = rc;
	return rc ? -1 : 0;
}

void peering_close(struct peering *p)
{
	if (!p)
		return;
	assert(!p->events);
	if (p->started) {
		atomic_store(&p->stop, true);
		peering_wake(p);
		pthread_join(p->thread, NULL);
	}
	free_peering(p);
}
