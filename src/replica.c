/* replica.c - see replica.h. */
#include "config.h"

#include "replica.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"
#include "fabrics.h"
#include "log.h"
#include "membership.h"

enum {
	JOIN_TIMEOUT_S = 1,
	/* A background step that wants to be called again at once gets a breath in between. */
	BACKGROUND_BREATH_NS = 20 * 1000,
	/* For how long what a follower has to apply gathers; and how many ticks at most. */
	GATHER_NS = 4 * 1000 * 1000,
	GATHER_TICKS = 4,
	/* How long a draining leader waits to be rid of its role. */
	RESIGN_NS = 50 * 1000 * 1000,
	/* ...and for another one to take it over from one that is to stop. */
	HAND_OVER_NS = 1000 * 1000 * 1000,
};

/* Connections for the proxy. */
struct handed {
	/* What was asked for, one a peer: bit i, and the connection to replica i, -1: none. */
	uint32_t dialled;
	int dialled_fd[MU_ID_SLOTS];
	/* What peers asked for. More at once than all of them could have a use for are closed. */
	unsigned taken;
	struct {
		unsigned peer;
		int fd;
	} accepted[4 * MU_MAX_REPLICAS];
};

enum stage {
	STAGE_RUNNING,
	STAGE_DRAINING, /* asked to stop: finishing what was taken */
	STAGE_DRAINED,  /* the data thread has ended */
};

struct replica {
	const struct conf *conf;
	struct mu_config mu_config;   /* conf's, with the seed and the members filled in */
	struct membership membership; /* the opening thread's */
	struct fabrics fabrics;
	struct mu *mu;
	struct mp_proxy *proxy;
	uint64_t opened_ns;

	/* The data thread's own. */
	struct event_base *base;
	struct event *wake_event, *timer_event;
	struct event *fabric_event; /* completions; NULL: the fabric has none to wait for */
	int timer_fd;
	uint64_t timer_ns; /* when timer_fd fires; UINT64_MAX: not armed */
	int own_events;    /* of wake and timer, in this pass of the loop */

	int wake_fd; /* written by other threads to wake the data thread */
	pthread_t data_thread, background_thread;
	bool started;
	/* Connections for the proxy, from the peering's thread to the data thread. */
	pthread_mutex_t handed_lock;
	struct handed handed;

	_Atomic bool rests; /* an operator's wish, see replica_rest() */
	_Atomic int stage;  /* enum stage */
	_Atomic bool background_stop;
};

/* ----------------------------------------------------------- data thread */

static void wake_data_thread(struct replica *r)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread is awake. */
	if (write(r->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/* Both descriptors are edge-triggered: each event comes once, and nobody needs to read them. */
static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
	struct replica *r = ctx;

	(void)fd;
	(void)what;
	r->own_events++;
}

/* Level-triggered; the turn that follows polls the fabric. */
static void on_fabric(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	(void)ctx;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct replica *r = ctx;

	(void)fd;
	(void)what;
	r->own_events++;
	r->timer_ns = UINT64_MAX;
}

/* ------------------------------------------ connections for the proxy */

/* On the peering's thread. What cannot be taken is closed: the peer will dial again. */
static void on_connection(void *ctx, unsigned peer, int fd, bool dialled)
{
	struct replica *r = ctx;
	struct handed *handed = &r->handed;

	pthread_mutex_lock(&r->handed_lock);
	if (dialled) {
		/* The proxy asks again only once it has been told. */
		assert(!(handed->dialled >> peer & 1));
		handed->dialled |= 1U << peer;
		handed->dialled_fd[peer] = fd;
	} else if (handed->taken < sizeof(handed->accepted) / sizeof(handed->accepted[0])) {
		handed->accepted[handed->taken].peer = peer;
		handed->accepted[handed->taken++].fd = fd;
	} else {
		close(fd);
	}
	pthread_mutex_unlock(&r->handed_lock);
	wake_data_thread(r);
}

static void take_connections(struct replica *r)
{
	struct handed handed;

	if (!r->fabrics.peering)
		return;
	pthread_mutex_lock(&r->handed_lock);
	if (!r->handed.dialled && !r->handed.taken) {
		pthread_mutex_unlock(&r->handed_lock);
		return;
	}
	handed = r->handed;
	r->handed.dialled = r->handed.taken = 0;
	pthread_mutex_unlock(&r->handed_lock);
	for (unsigned i = 0; i < handed.taken; i++)
		mp_proxy_link(r->proxy, handed.accepted[i].peer, handed.accepted[i].fd, false);
	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
		if (handed.dialled >> peer & 1)
			mp_proxy_link(r->proxy, peer, handed.dialled_fd[peer], true);
}

static void close_handed(struct replica *r)
{
	for (unsigned i = 0; i < r->handed.taken; i++)
		close(r->handed.accepted[i].fd);
	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
		if (r->handed.dialled >> peer & 1 && r->handed.dialled_fd[peer] >= 0)
			close(r->handed.dialled_fd[peer]);
}

static void dial_peer(void *ctx, unsigned peer)
{
	struct replica *r = ctx;

	/* If one is under way, then that one will come. */
	peering_dial(r->fabrics.peering, peer);
}

/* ---------------------------------------------------- the data thread */

/*
 * See to it that the loop wakes at deadline_ns at the latest. A timer that is
 * armed for earlier is left: waking too soon once is cheaper than a system
 * call in every turn that moves its deadline.
 */
static void arm_timer(struct replica *r, uint64_t deadline_ns)
{
	struct itimerspec when = {.it_value = clock_timespec(deadline_ns)};

	if (deadline_ns == UINT64_MAX || r->timer_ns <= deadline_ns)
		return;
	timerfd_settime(r->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
	r->timer_ns = deadline_ns;
}

/*
 * One pass of the event loop, asleep until deadline_ns at most. Returns
 * whether anything but our own wake-ups came.
 */
static bool run_events(struct replica *r, uint64_t deadline_ns, bool sleep)
{
	r->own_events = 0;
	if (sleep)
		arm_timer(r, deadline_ns);
	event_base_loop(r->base, EVLOOP_ONCE | (sleep ? 0 : EVLOOP_NONBLOCK));
	return event_base_get_max_events(r->base, EVENT_BASE_COUNT_ACTIVE, 1) > r->own_events;
}

/* Who leads sees to another leader first, if there can be one: clients then hardly notice. */
static bool is_rid_of_lead(struct replica *r, uint64_t now_ns, uint64_t *deadline_ns)
{
	struct mu_view view;
	const char *why;

	mu_view(r->mu, &view);
	if (*deadline_ns == 0)
		*deadline_ns =
			mu_hand_over(r->mu, 0, &why) == MU_OK ? now_ns + HAND_OVER_NS : now_ns;
	return view.role != MU_ROLE_LEADER || now_ns >= *deadline_ns;
}

/* Progress of stopping; true when the thread may end. */
static bool step_drain(struct replica *r, uint64_t now_ns, uint64_t *deadline_ns, bool *drains,
		       bool *resigned)
{
	struct mu_view view;

	if (!*drains) {
		if (!is_rid_of_lead(r, now_ns, deadline_ns))
			return false;
		mp_proxy_drain(r->proxy);
		*drains = true;
		*deadline_ns = now_ns + (uint64_t)r->conf->drain_timeout_ms * 1000000;
	}
	if (!*resigned) {
		if (!mp_proxy_drained(r->proxy) && now_ns < *deadline_ns)
			return false;
		if (!mp_proxy_drained(r->proxy))
			mp_warn("drain-timeout passed: giving up what is still under way");
		mu_resign(r->mu);
		*resigned = true;
		*deadline_ns = now_ns + RESIGN_NS;
	}
	mu_view(r->mu, &view);
	return view.role != MU_ROLE_LEADER || now_ns >= *deadline_ns;
}

static void *run_data_thread(void *ctx)
{
	struct replica *r = ctx;
	bool spin_always = r->conf->wait == CONF_WAIT_SPIN;
	uint64_t now = clock_ns(), spin_until = 0, next = now;
	uint64_t drain_deadline = 0, latest;
	bool drains = false, resigned = false;

	pthread_setname_np(pthread_self(), "mu-data");
	for (;;) {
		bool spin = spin_always || now < spin_until;

		latest = drain_deadline && drain_deadline < next ? drain_deadline : next;
		if (run_events(r, latest, !spin && latest > now))
			spin_until = clock_ns() + r->conf->spin_ns;
		now = clock_ns();
		take_connections(r);
		mp_proxy_rest(r->proxy, atomic_load_explicit(&r->rests, memory_order_relaxed));
		next = mp_proxy_turn(r->proxy, now);
		if (atomic_load_explicit(&r->stage, memory_order_relaxed) == STAGE_DRAINING &&
		    step_drain(r, now, &drain_deadline, &drains, &resigned))
			break;
		/* Spinning is for what is about to come; whoever brings it may need this core. */
		if (spin && !spin_always)
			sched_yield();
	}
	atomic_store(&r->stage, STAGE_DRAINED);
	return NULL;
}

/* ----------------------------------------------------- background thread */

/*
 * Heartbeats must go out on time however busy the machine is, so the thread
 * asks for the lowest real-time priority; it works without, too.
 */
static void ask_for_realtime(void)
{
	struct sched_param param = {.sched_priority = 1};
	int rc = pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);

	if (rc)
		mp_info("heartbeats run without real-time priority: %s", strerror(rc));
}

/* True if it was. woken_ns: when it was last. */
static bool rouse_data_thread(struct replica *r, uint64_t now_ns, uint64_t woken_ns)
{
	uint64_t gather_ns = GATHER_TICKS * r->mu_config.tick_ns;
	enum mu_wanted wanted = mu_data_wanted(r->mu);

	if (gather_ns > GATHER_NS)
		gather_ns = GATHER_NS;
	if (wanted == MU_WANTED_NOT || (wanted == MU_WANTED_SOON && now_ns < woken_ns + gather_ns))
		return false;
	wake_data_thread(r);
	return true;
}

static void *run_background_thread(void *ctx)
{
	struct replica *r = ctx;
	struct timespec until;
	uint64_t now, next, woken_ns = 0;

	pthread_setname_np(pthread_self(), "mu-background");
	ask_for_realtime();
	while (!atomic_load_explicit(&r->background_stop, memory_order_relaxed)) {
		now = clock_ns();
		next = mu_background_step(r->mu, now);
		if (rouse_data_thread(r, now, woken_ns))
			woken_ns = now;
		if (next < now + BACKGROUND_BREATH_NS)
			next = now + BACKGROUND_BREATH_NS;
		if (next > now + r->mu_config.tick_ns)
			next = now + r->mu_config.tick_ns;
		until = clock_timespec(next);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	}
	return NULL;
}

/* --------------------------------------------------------------- opening */

static uint64_t random_u64(void)
{
	uint64_t number = 0;

	while (number == 0) {
		ssize_t n = getrandom(&number, sizeof(number), 0);

		assert(n == sizeof(number) || errno == EINTR);
		(void)n;
	}
	return number;
}

static void format_memory(void *ctx, void *regions[MU_REGIONS])
{
	const struct mu_config *config = ctx;

	mu_format(config, random_u64(), regions);
}

/* "file:line: words", the line found by what the words quote. */
static bool fail_at(const struct conf *conf, const char *key, char *err, size_t err_bytes,
		    const char *words)
{
	snprintf(err, err_bytes, "%s:%d: %s", conf->file, conf_blame(conf, words, key), words);
	return false;
}

static bool find_members(struct replica *r, char *err, size_t err_bytes)
{
	if (!membership_find(&r->membership, r->conf, err, err_bytes))
		return false;
	membership_mu_config(&r->membership, &r->mu_config);
	return true;
}

static bool open_consensus(struct replica *r, char *err, size_t err_bytes)
{
	const struct conf *conf = r->conf;
	struct mu_fabric_config fabric = {
		.group_id = conf->mu.group_id,
		.id = conf->mu.id,
		.member_mask = r->mu_config.peer_mask ? MEMBERSHIP_ALL_IDS : conf->mu.member_mask,
		.op_timeout_ns = conf->op_timeout_ns,
		.format = format_memory,
		.format_ctx = &r->mu_config,
	};
	const struct peering_user user = {on_connection, r};
	char why[400];
	enum mu_error error;
	int i;

	for (i = 0; i < MU_REGIONS; i++)
		fabric.region_bytes[i] = mu_region_bytes(&r->mu_config, (enum mu_region)i);
	if (!fabrics_open(&r->fabrics, conf, &r->membership.book, &fabric, &user, why, sizeof(why)))
		return fail_at(conf, strstr(why, "group") ? "group" : "memory-dir", err, err_bytes,
			       why);
	error = mu_open(&r->mu, &r->mu_config, r->fabrics.fabric);
	if (error == MU_ERR_MISMATCH) {
		snprintf(why, sizeof(why),
			 "the memory of replica %u in %s is of another group, key or ring-size",
			 conf->mu.id, conf->memory_dir);
		return fail_at(conf, "group", err, err_bytes, why);
	}
	return error == MU_OK || fail_at(conf, "memory-dir", err, err_bytes, mu_strerror(error));
}

static bool open_loop(struct replica *r)
{
	struct event_config *config = event_config_new();

	if (!config)
		return false;
	/* One thread only ever touches this base. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
	r->base = event_base_new_with_config(config);
	event_config_free(config);
	r->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	r->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	r->timer_ns = UINT64_MAX;
	if (!r->base || r->wake_fd < 0 || r->timer_fd < 0)
		return false;
	r->wake_event = event_new(r->base, r->wake_fd, EV_READ | EV_PERSIST | EV_ET, on_wake, r);
	r->timer_event = event_new(r->base, r->timer_fd, EV_READ | EV_PERSIST | EV_ET, on_timer, r);
	return r->wake_event && r->timer_event && event_add(r->wake_event, NULL) == 0 &&
	       event_add(r->timer_event, NULL) == 0;
}

/* Let the data thread sleep until what it has posted completes. */
static bool watch_fabric(struct replica *r, char *err, size_t err_bytes)
{
	int (*wait_fd)(struct mu_fabric *, enum mu_plane) = r->fabrics.fabric->ops->wait_fd;

	if (!wait_fd)
		return true;
	r->fabric_event = event_new(r->base, wait_fd(r->fabrics.fabric, MU_PLANE_DATA),
				    EV_READ | EV_PERSIST, on_fabric, r);
	if (r->fabric_event && event_add(r->fabric_event, NULL) == 0)
		return true;
	snprintf(err, err_bytes, "no event for the fabric: %s", strerror(errno));
	return false;
}

static bool open_proxy(struct replica *r, char *err, size_t err_bytes)
{
	struct mp_proxy_options options = r->conf->proxy;
	char why[400];

	options.origin_nonce = random_u64();
	if (r->fabrics.peering) {
		options.dial = dial_peer;
		options.dial_ctx = r;
	}
	r->proxy = mp_proxy_open(r->base, r->mu, &options, why, sizeof(why));
	return r->proxy || fail_at(r->conf, "listen", err, err_bytes, why);
}

static void free_replica(struct replica *r)
{
	if (r->proxy)
		mp_proxy_close(r->proxy);
	if (r->fabric_event)
		event_free(r->fabric_event);
	if (r->mu)
		mu_close(r->mu);
	fabrics_close(&r->fabrics);
	close_handed(r);
	pthread_mutex_destroy(&r->handed_lock);
	if (r->wake_event)
		event_free(r->wake_event);
	if (r->timer_event)
		event_free(r->timer_event);
	if (r->base)
		event_base_free(r->base);
	if (r->wake_fd >= 0)
		close(r->wake_fd);
	if (r->timer_fd >= 0)
		close(r->timer_fd);
	free(r);
}

struct replica *replica_open(const struct conf *conf, char *err, size_t err_bytes)
{
	struct replica *r = calloc(1, sizeof(*r));

	if (!r) {
		snprintf(err, err_bytes, "out of memory");
		return NULL;
	}
	r->conf = conf;
	r->mu_config = conf->mu;
	r->mu_config.random_seed = random_u64();
	r->opened_ns = clock_ns();
	r->wake_fd = r->timer_fd = -1;
	pthread_mutex_init(&r->handed_lock, NULL);
	if (!open_loop(r))
		snprintf(err, err_bytes, "no event loop: %s", strerror(errno));
	else if (find_members(r, err, err_bytes) && open_consensus(r, err, err_bytes) &&
		 watch_fabric(r, err, err_bytes) && open_proxy(r, err, err_bytes))
		return r;
	free_replica(r);
	return NULL;
}

/* ------------------------------------------------------ running, stopping */

static bool join(pthread_t thread)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += JOIN_TIMEOUT_S;
	return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

int replica_start(struct replica *r)
{
	sigset_t all, before;
	int rc;

	/* Signals are for the thread that opened the replica. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&r->background_thread, NULL, run_background_thread, r);
	if (rc == 0) {
		rc = pthread_create(&r->data_thread, NULL, run_data_thread, r);
		if (rc) {
			atomic_store(&r->background_stop, true);
			join(r->background_thread);
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	r->started = rc == 0;
	if (rc == 0) {
		pthread_setname_np(r->data_thread, "mu-data");
		pthread_setname_np(r->background_thread, "mu-background");
	}
	errno = rc;
	return rc ? -1 : 0;
}

void replica_drain(struct replica *r)
{
	int running = STAGE_RUNNING;

	atomic_compare_exchange_strong(&r->stage, &running, STAGE_DRAINING);
	wake_data_thread(r);
}

bool replica_draining(const struct replica *r)
{
	return atomic_load(&r->stage) != STAGE_RUNNING;
}

bool replica_drained(const struct replica *r)
{
	return atomic_load(&r->stage) == STAGE_DRAINED;
}

bool replica_close(struct replica *r)
{
	if (r->started) {
		assert(replica_draining(r));
		if (!join(r->data_thread))
			return false;
		atomic_store(&r->background_stop, true);
		if (!join(r->background_thread))
			return false;
	}
	free_replica(r);
	return true;
}

void replica_group_status(const struct replica *r, struct mu_group_status *status)
{
	mu_group_status(r->mu, status);
}

bool replica_accept_loss(struct replica *r, const char **why)
{
	return mu_accept_loss(r->mu, why) == MU_OK;
}

bool replica_hand_over(struct replica *r, unsigned heir, const char **why)
{
	return mu_hand_over(r->mu, heir, why) == MU_OK;
}

bool replica_rest(struct replica *r, bool rests, const char **why)
{
	struct mu_group_status status;

	mu_group_status(r->mu, &status);
	if (rests && status.leader == 0) {
		*why = "nobody leads: this replica may be needed";
		return false;
	}
	if (rests && status.leader == status.id && !replica_hand_over(r, 0, why))
		return false;
	atomic_store(&r->rests, rests);
	wake_data_thread(r);
	return true;
}

bool replica_rests(const struct replica *r)
{
	return atomic_load(&r->rests);
}

bool replica_replace_redis(struct replica *r)
{
	if (!mp_proxy_replace_redis(r->proxy))
		return false;
	wake_data_thread(r);
	return true;
}

void replica_proxy_stats(const struct replica *r, struct mp_proxy_stats *stats)
{
	mp_proxy_get_stats(r->proxy, stats);
}

bool replica_outvoted(const struct replica *r, char *why, size_t why_bytes)
{
	return fabrics_outvoted(&r->fabrics, why, why_bytes);
}

double replica_uptime_s(const struct replica *r)
{
	return (double)(clock_ns() - r->opened_ns) / 1e9;
}

const char *replica_fabric(const struct replica *r)
{
	return r->fabrics.fabric->ops->name;
}

bool replica_look_at_members(struct replica *r)
{
	struct mu_group_status status;

	membership_look(&r->membership, r->mu, &r->fabrics);
	fabrics_know_members(&r->fabrics, &r->membership.book);
	mu_group_status(r->mu, &status);
	return !status.replica[status.id].removed || status.leader == status.id;
}

const struct book *replica_book(const struct replica *r)
{
	return &r->membership.book;
}

bool replica_change_members(struct replica *r, enum mu_change change, const char *who, unsigned *id,
			    char *why, size_t why_bytes)
{
	return membership_change(&r->membership, r->mu, r->fabrics.peering, change, who, id, why,
				 why_bytes);
}
