/*
 * verbs_maker.c - the fabric's own thread: it makes queue pairs, arranges with
 * the peers' makers which ones form a connection (verbs_message.h), and hears
 * what the device has to say of its own accord.
 *
 * Everything here is done again until it works: an attempt that fails or is not
 * answered leaves the connection DOWN, and its plane asks anew; the more of them
 * fail in a row, the longer the next one waits.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "verbs.h"

/* Messages that wait for the thread. One that finds no room is lost, and is asked for again. */
#define INBOX_ENTRIES 256
#define BACKOFF_MIN_NS 2000000u
#define BACKOFF_DOUBLINGS 7u
/* A peer that is stopped answers no requests; it may be continued at any time. */
#define ANSWER_TIMEOUT_NS 1000000000u

enum event_kind { EVENT_MESSAGE, EVENT_UP, EVENT_DOWN };
struct event {
	enum event_kind kind;
	unsigned peer;
	struct verbs_message message;
};

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
	int wake_fd;
	_Atomic bool stop;
	_Atomic bool has_channel[MU_ID_SLOTS];

	pthread_mutex_t mutex; /* of the inbox */
	uint32_t head, tail;
	struct event inbox[INBOX_ENTRIES];

	/* The thread's own. */
	struct attempt attempt[MU_PLANES][MU_ID_SLOTS];
	uint64_t process[MU_ID_SLOTS]; /* of the peer; 0: not heard from */
	uint32_t generation;
};

static uint64_t random_u64(void)
{
	uint64_t number = 0;

	while (number == 0)
		if (getrandom(&number, sizeof(number), 0) < 0 && errno != EINTR)
			abort(); /* there is no kernel without it */
	return number;
}

/* ------------------------------------------------------------------ inbox */

void verbs_maker_wake(struct verbs_maker *maker)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread is awake. */
	(void)!write(maker->wake_fd, &one, sizeof(one));
}

static void put(struct verbs_maker *maker, const struct event *event)
{
	pthread_mutex_lock(&maker->mutex);
	if (maker->tail - maker->head < INBOX_ENTRIES)
		maker->inbox[maker->tail++ % INBOX_ENTRIES] = *event;
	pthread_mutex_unlock(&maker->mutex);
	verbs_maker_wake(maker);
}

static bool get(struct verbs_maker *maker, struct event *event)
{
	bool is_there;

	pthread_mutex_lock(&maker->mutex);
	is_there = maker->head != maker->tail;
	if (is_there)
		*event = maker->inbox[maker->head++ % INBOX_ENTRIES];
	pthread_mutex_unlock(&maker->mutex);
	return is_there;
}

static void on_channel(void *fabric, unsigned peer, bool up)
{
	struct verbs_fabric *verbs = fabric;
	struct event event = {.kind = up ? EVENT_UP : EVENT_DOWN, .peer = peer};

	/* Here, so that it is true even if the event finds no room. */
	atomic_store(&verbs->maker->has_channel[peer], up);
	put(verbs->maker, &event);
}

static bool is_sound(const struct verbs_message *message)
{
	return message->magic == VERBS_MESSAGE_MAGIC && message->process != 0 &&
	       message->plane < MU_PLANES;
}

static void on_message(void *fabric, unsigned peer, const void *bytes, size_t len)
{
	struct verbs_fabric *verbs = fabric;
	struct event event = {.kind = EVENT_MESSAGE, .peer = peer};

	if (len != sizeof(event.message))
		return;
	memcpy(&event.message, bytes, len);
	if (is_sound(&event.message))
		put(verbs->maker, &event);
}

/* This fabric asks for no streams. */
static void on_stream(void *fabric, enum mu_plane plane, unsigned peer, int fd, bool dialled)
{
	(void)fabric;
	(void)plane;
	(void)peer;
	(void)dialled;
	close(fd);
}

static void on_stream_failed(void *fabric, enum mu_plane plane, unsigned peer)
{
	(void)fabric;
	(void)plane;
	(void)peer;
}

static const struct mu_peering_events peering_events = {
	.channel = on_channel,
	.message = on_message,
	.stream = on_stream,
	.stream_failed = on_stream_failed,
};

bool verbs_maker_has_channel(const struct verbs_maker *maker, unsigned peer)
{
	return atomic_load_explicit(&maker->has_channel[peer], memory_order_relaxed);
}

/* A replica is a peer of itself, to whom no channel leads. */
static int send_message(struct verbs_fabric *verbs, unsigned peer, struct verbs_message *message)
{
	message->magic = VERBS_MESSAGE_MAGIC;
	message->process = verbs->process;
	if (peer != verbs->config.id)
		return verbs->peering->ops->send(verbs->peering, peer, message, sizeof(*message));
	on_message(verbs, peer, message, sizeof(*message));
	return 0;
}

void verbs_maker_tell_gone(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer,
			   uint64_t attempt)
{
	struct verbs_message message = {
		.kind = VERBS_GONE_SERVING, .plane = (uint8_t)plane, .attempt = attempt};

	/* If it does not get through, the peer finds out by itself, later. */
	send_message(verbs, peer, &message);
}

/* ------------------------------------------------------------ posting end */

static struct verbs_numbers *numbers_of(struct verbs_fabric *verbs)
{
	static_assert(sizeof(struct verbs_numbers) <= OWN_MEMORY_NOTES_BYTES, "there is room");
	return (struct verbs_numbers *)(void *)verbs->memory.header->notes;
}

/* Forget an attempt that came to nothing. */
static void give_up(struct verbs_maker *maker, enum mu_plane plane, unsigned peer)
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

/* The first time of several in a row. */
static void complain(struct verbs_maker *maker, enum mu_plane plane, unsigned peer,
		     const char *what, int error)
{
	if (maker->attempt[plane][peer].failures == 0)
		verbs_say(maker->verbs, "replica %u: %s: %s", peer, what, strerror(error));
}

static void request(struct verbs_maker *maker, enum mu_plane plane, unsigned peer)
{
	struct verbs_fabric *verbs = maker->verbs;
	struct attempt *attempt = &maker->attempt[plane][peer];
	struct verbs_numbers *numbers = numbers_of(verbs);
	const struct verbs_queue_pair_wants wants = {
		.domain = verbs->plane[plane].domain,
		.completions = verbs->plane[plane].completions,
		.work_requests = verbs->work_requests,
		.inline_bytes = VERBS_INLINE_BYTES,
	};
	struct verbs_message message = {.kind = VERBS_REQUEST, .plane = (uint8_t)plane};

	attempt->qp = verbs_queue_pair_new(&verbs->port, &wants, numbers,
					   &numbers->last[VERBS_POSTING][plane][peer],
					   &attempt->inline_bytes);
	if (attempt->qp == NULL) {
		complain(maker, plane, peer, "cannot make a queue pair", errno);
		give_up(maker, plane, peer);
		return;
	}
	attempt->name = random_u64();
	attempt->deadline_ns = verbs_clock_ns() + ANSWER_TIMEOUT_NS;
	verbs_endpoint_describe(&attempt->own, &verbs->port, attempt->qp);
	message.attempt = attempt->name;
	message.endpoint = attempt->own;
	if (send_message(verbs, peer, &message) != 0)
		give_up(maker, plane, peer);
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
	atomic_store(&out->is_lost, false);
	if (atomic_compare_exchange_strong(&out->state, &connecting, MU_CONNECTION_UP)) {
		attempt->qp = NULL;
		attempt->failures = 0;
		return;
	}
	/* Disconnected meanwhile. */
	out->qp = NULL;
	give_up(maker, plane, peer);
}

static bool reaches_all(const struct verbs_fabric *verbs, const struct verbs_message *answer)
{
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		if (answer->target[plane].bytes !=
		    verbs->config.region_bytes[verbs_region_of((enum mu_plane)plane)])
			return false;
	return true;
}

static void accepted(struct verbs_maker *maker, enum mu_plane plane, unsigned peer,
		     const struct verbs_message *answer)
{
	struct verbs_fabric *verbs = maker->verbs;
	struct attempt *attempt = &maker->attempt[plane][peer];
	int error;

	if (!reaches_all(verbs, answer)) {
		complain(maker, plane, peer, "its memory is of another size than configured here",
			 EINVAL);
		give_up(maker, plane, peer);
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
		complain(maker, plane, peer, "cannot connect a queue pair", error);
		give_up(maker, plane, peer);
	}
}

static void step_attempts(struct verbs_maker *maker, uint64_t now_ns)
{
	for (unsigned i = 0; i < MU_PLANES * MU_ID_SLOTS; i++) {
		enum mu_plane plane = (enum mu_plane)(i / MU_ID_SLOTS);
		unsigned peer = i % MU_ID_SLOTS;
		struct attempt *attempt = &maker->attempt[plane][peer];
		int state = atomic_load(&maker->verbs->plane[plane].out[peer].state);

		if (attempt->qp != NULL && now_ns >= attempt->deadline_ns)
			give_up(maker, plane, peer);
		else if (attempt->qp == NULL && state == MU_CONNECTION_CONNECTING &&
			 now_ns >= attempt->not_before_ns)
			request(maker, plane, peer);
	}
}

/* How long there is nothing to do, in ms, rounded up; -1: for ever. */
static int rest_ms(const struct verbs_maker *maker, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	for (unsigned i = 0; i < MU_PLANES * MU_ID_SLOTS; i++) {
		unsigned plane = i / MU_ID_SLOTS, peer = i % MU_ID_SLOTS;
		const struct attempt *attempt = &maker->attempt[plane][peer];
		uint64_t due_ns = attempt->not_before_ns;

		if (attempt->qp != NULL)
			due_ns = attempt->deadline_ns;
		else if (atomic_load(&maker->verbs->plane[plane].out[peer].state) !=
			 MU_CONNECTION_CONNECTING)
			continue;
		if (due_ns < next_ns)
			next_ns = due_ns;
	}
	if (next_ns == UINT64_MAX)
		return -1;
	return next_ns <= now_ns ? 0 : (int)((next_ns - now_ns) / 1000000 + 1);
}

/* ------------------------------------------------------------ serving end */

/* Returns 0 with the answer filled in, or errno. */
static int serve(struct verbs_maker *maker, unsigned peer, const struct verbs_message *wish,
		 struct verbs_message *answer)
{
	struct verbs_fabric *verbs = maker->verbs;
	struct verbs_numbers *numbers = numbers_of(verbs);
	enum mu_plane plane = (enum mu_plane)wish->plane;
	const struct verbs_queue_pair_wants wants = {.domain = verbs->plane[plane].domain,
						     .completions = verbs->unused};
	struct ibv_qp *qp = verbs_queue_pair_new(&verbs->port, &wants, numbers,
						 &numbers->last[VERBS_SERVING][plane][peer], NULL);
	int error;

	if (qp == NULL)
		return errno;
	verbs_endpoint_describe(&answer->endpoint, &verbs->port, qp);
	for (unsigned i = 0; i < MU_PLANES; i++) {
		const struct ibv_mr *memory = verbs->plane[i].memory;

		answer->target[i] = (struct verbs_target){.address = (uintptr_t)memory->addr,
							  .bytes = memory->length,
							  .key = memory->rkey};
	}
	error = verbs_queue_pair_serve(qp, &verbs->port, &wish->endpoint, &verbs->transport);
	if (error != 0) {
		verbs_queue_pair_free(qp);
		return error;
	}
	return verbs_in_serve(verbs, plane, peer, qp, &answer->endpoint, &wish->endpoint,
			      wish->attempt);
}

static void requested(struct verbs_maker *maker, unsigned peer, const struct verbs_message *wish)
{
	struct verbs_message answer = {
		.kind = VERBS_ACCEPT, .plane = wish->plane, .attempt = wish->attempt};
	int error = serve(maker, peer, wish, &answer);

	if (error != 0) {
		verbs_say(maker->verbs, "replica %u: cannot serve it a connection: %s", peer,
			  strerror(error));
		answer.kind = VERBS_REFUSE;
		answer.reason = (uint16_t)error;
	}
	/* If this does not get through, the peer asks again. */
	send_message(maker->verbs, peer, &answer);
}

/* ------------------------------------------------------------ what is heard */

/* Another process at the other end: whatever led to the former one leads nowhere. */
static void meet(struct verbs_maker *maker, unsigned peer, uint64_t process)
{
	if (maker->process[peer] == process)
		return;
	if (maker->process[peer] != 0) {
		verbs_in_drop(maker->verbs, peer);
		for (unsigned plane = 0; plane < MU_PLANES; plane++)
			verbs_out_lose(&maker->verbs->plane[plane].out[peer]);
	}
	maker->process[peer] = process;
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		maker->attempt[plane][peer].failures = 0;
}

static void heard(struct verbs_maker *maker, unsigned peer, const struct verbs_message *message)
{
	enum mu_plane plane = (enum mu_plane)message->plane;
	struct verbs_out *out = &maker->verbs->plane[plane].out[peer];
	struct attempt *attempt = &maker->attempt[plane][peer];
	bool is_ours = attempt->qp != NULL && attempt->name == message->attempt;

	meet(maker, peer, message->process);
	switch ((enum verbs_message_kind)message->kind) {
	case VERBS_HELLO:
		break;
	case VERBS_REQUEST:
		requested(maker, peer, message);
		break;
	case VERBS_ACCEPT:
		if (is_ours)
			accepted(maker, plane, peer, message);
		break;
	case VERBS_REFUSE:
		if (is_ours) {
			complain(maker, plane, peer, "refuses a connection", message->reason);
			give_up(maker, plane, peer);
		}
		break;
	case VERBS_GONE_SERVING:
		if (atomic_load(&out->attempt) == message->attempt)
			verbs_out_lose(out);
		break;
	}
}

static void channel_changed(struct verbs_maker *maker, unsigned peer, bool up)
{
	struct verbs_message hello = {.kind = VERBS_HELLO};

	for (unsigned plane = 0; plane < MU_PLANES; plane++) {
		maker->attempt[plane][peer].not_before_ns = 0;
		if (!up && maker->attempt[plane][peer].qp != NULL)
			give_up(maker, (enum mu_plane)plane, peer);
	}
	if (up)
		send_message(maker->verbs, peer, &hello);
}

/*
 * What the device says of its own accord. Of a queue pair that serves and got
 * into error nobody else would tell; its peer mostly knows, by a completion.
 */
static void take_device_events(struct verbs_maker *maker)
{
	struct verbs_fabric *verbs = maker->verbs;
	struct ibv_async_event event;

	while (ibv_get_async_event(verbs->port.context, &event) == 0) {
		const struct ibv_qp *qp = event.element.qp;
		enum ibv_event_type type = event.event_type;
		enum mu_plane plane;
		unsigned peer;
		uint64_t attempt;

		/* At once: who destroys what it is about waits for this. */
		ibv_ack_async_event(&event);
		switch (type) {
		case IBV_EVENT_QP_FATAL:
		case IBV_EVENT_QP_REQ_ERR:
		case IBV_EVENT_QP_ACCESS_ERR:
			if (verbs_in_find(verbs, qp, &plane, &peer, &attempt))
				verbs_maker_tell_gone(verbs, plane, peer, attempt);
			break;
		case IBV_EVENT_PORT_ACTIVE:
		case IBV_EVENT_PORT_ERR:
		case IBV_EVENT_DEVICE_FATAL:
		case IBV_EVENT_CQ_ERR:
			verbs_say(verbs, "device %s: %s", verbs->port.device,
				  ibv_event_type_str(type));
			break;
		default:
			break;
		}
	}
}

static void *run(void *ctx)
{
	struct verbs_maker *maker = ctx;
	struct pollfd fds[] = {{.fd = maker->wake_fd, .events = POLLIN},
			       {.fd = maker->verbs->port.context->async_fd, .events = POLLIN}};
	struct event event;
	uint64_t count;

	while (!atomic_load(&maker->stop)) {
		if (poll(fds, 2, rest_ms(maker, verbs_clock_ns())) > 0 && fds[0].revents)
			(void)!read(maker->wake_fd, &count, sizeof(count));
		take_device_events(maker);
		while (get(maker, &event)) {
			if (event.kind == EVENT_MESSAGE)
				heard(maker, event.peer, &event.message);
			else
				channel_changed(maker, event.peer, event.kind == EVENT_UP);
		}
		step_attempts(maker, verbs_clock_ns());
	}
	return NULL;
}

/* --------------------------------------------------------- starting, ending */

static int start_thread(struct verbs_maker *maker)
{
	sigset_t all, before;
	int error;

	/* Signals are for the threads of who opened the fabric. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&maker->thread, NULL, run, maker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		pthread_setname_np(maker->thread, "mu-verbs");
	return error;
}

int verbs_maker_start(struct verbs_fabric *verbs, const struct memory_error *error)
{
	struct verbs_maker *maker = calloc(1, sizeof(*maker));
	int reason;

	if (maker == NULL)
		return memory_error_set(error, "out of memory");
	maker->verbs = verbs;
	pthread_mutex_init(&maker->mutex, NULL);
	maker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	atomic_store(&maker->has_channel[verbs->config.id], true);
	verbs->maker = maker;
	reason = maker->wake_fd < 0 ? errno : start_thread(maker);
	if (reason == 0) {
		verbs->peering->ops->attach(verbs->peering, &peering_events, verbs);
		return 0;
	}
	if (maker->wake_fd >= 0)
		close(maker->wake_fd);
	pthread_mutex_destroy(&maker->mutex);
	free(maker);
	verbs->maker = NULL;
	return memory_error_set(error, "no thread: %s", strerror(reason));
}

void verbs_maker_stop(struct verbs_fabric *verbs)
{
	struct verbs_maker *maker = verbs->maker;

	verbs->peering->ops->attach(verbs->peering, NULL, NULL);
	atomic_store(&maker->stop, true);
	verbs_maker_wake(maker);
	pthread_join(maker->thread, NULL);
	for (unsigned i = 0; i < MU_PLANES * MU_ID_SLOTS; i++)
		verbs_queue_pair_free(maker->attempt[i / MU_ID_SLOTS][i % MU_ID_SLOTS].qp);
	close(maker->wake_fd);
	pthread_mutex_destroy(&maker->mutex);
	free(maker);
	verbs->maker = NULL;
}
