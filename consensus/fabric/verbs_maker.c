/*
 * verbs_maker.c - the fabric's own thread: it makes queue pairs, arranges with
 * the peers' makers which ones form a connection (verbs_message.h), and hears
 * what the device has to say of its own accord.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verbs_maker.h"

bool verbs_maker_has_channel(const struct verbs_maker *maker, unsigned peer)
{
	return verbs_inbox_is_up(verbs_inbox_turn(&maker->inbox, peer));
}

void verbs_maker_wake(struct verbs_maker *maker)
{
	verbs_inbox_wake(&maker->inbox);
}

/* A replica is a peer of itself, to whom no channel leads. */
int verbs_maker_send(struct verbs_fabric *verbs, unsigned peer, struct verbs_message *message)
{
	message->magic = VERBS_MESSAGE_MAGIC;
	message->process = verbs->process;
	if (peer != verbs->config.id)
		return verbs->peering->ops->send(verbs->peering, peer, message, sizeof(*message));
	verbs_inbox_put(&verbs->maker->inbox, peer, message);
	return 0;
}

void verbs_maker_tell_gone(struct verbs_fabric *verbs, enum mu_plane plane, unsigned peer,
			   uint64_t attempt)
{
	struct verbs_message message = {
		.kind = VERBS_GONE_SERVING, .plane = (uint8_t)plane, .attempt = attempt};

	/* If it does not get through: see verbs_grant_write(). */
	verbs_maker_send(verbs, peer, &message);
}

void verbs_maker_look_at_port(struct verbs_maker *maker)
{
	struct verbs_fabric *verbs = maker->verbs;
	enum verbs_port_news news = verbs_port_look_again(&verbs->port, &verbs->options);
	char now[sizeof(verbs->description)];

	if (news == VERBS_PORT_HAS_CHANGED) {
		verbs_port_describe(&verbs->port, now, sizeof(now));
		verbs_say(verbs, "now it is %s", now);
	} else if (news == VERBS_PORT_IS_DOWN && !maker->port_is_down) {
		verbs_say(verbs, "device %s, port %u is down, or has no address (GID) any more",
			  verbs->port.device, verbs->port.number);
	}
	maker->port_is_down = news == VERBS_PORT_IS_DOWN;
}

/* ------------------------------------------------------------ serving end */

/* Returns 0 with the answer filled in, or errno. */
static int serve(struct verbs_maker *maker, unsigned peer, const struct verbs_message *wish,
		 struct verbs_message *answer)
{
	struct verbs_fabric *verbs = maker->verbs;
	struct verbs_numbers *numbers = verbs_numbers_of(verbs);
	enum mu_plane plane = (enum mu_plane)wish->plane;
	const struct verbs_queue_pair_wants wants = {.domain = verbs->plane[plane].domain,
						     .completions = verbs->unused};
	struct ibv_qp *qp;
	int error;

	verbs_maker_look_at_port(maker);
	qp = verbs_queue_pair_new(&verbs->port, &wants, numbers,
				  &numbers->last[VERBS_SERVING][plane][peer], NULL);
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
		if (!maker->has_refused[wish->plane][peer])
			verbs_say(maker->verbs, "replica %u: cannot serve it a connection: %s",
				  peer, verbs_reason(error));
		answer.kind = VERBS_REFUSE;
		answer.reason = (uint16_t)error;
	}
	maker->has_refused[wish->plane][peer] = error != 0;
	/* If this does not get through, the peer asks again. */
	verbs_maker_send(maker->verbs, peer, &answer);
}

/* ------------------------------------------------------------ what is heard */

static void meet(struct verbs_maker *maker, unsigned peer, uint32_t turn, uint64_t process)
{
	bool is_other = maker->process[peer] != process;

	if (maker->met_turn[peer] == turn && !is_other)
		return;
	/* Another process at the other end: whatever led to the former one leads nowhere. */
	if (is_other && maker->process[peer] != 0)
		verbs_forget(&maker->verbs->base, peer);
	maker->process[peer] = process;
	maker->met_turn[peer] = turn;
	for (unsigned plane = 0; plane < MU_PLANES; plane++) {
		maker->attempt[plane][peer].not_before_ns = 0;
		if (is_other)
			maker->attempt[plane][peer].failures = 0;
	}
}

/* The serving end of this connection of ours is gone, also if it was not told that it is there. */
static void heard_gone(struct verbs_maker *maker, enum mu_plane plane, unsigned peer,
		       uint64_t attempt, bool is_in_the_making)
{
	if (is_in_the_making)
		verbs_attempt_give_up(maker, plane, peer);
	else if (atomic_load(&maker->verbs->plane[plane].out[peer].attempt) == attempt)
		verbs_out_lose(maker->verbs, plane, peer);
}

static void heard(struct verbs_maker *maker, unsigned peer, const struct verbs_message *message)
{
	enum mu_plane plane = (enum mu_plane)message->plane;
	struct verbs_message welcome = {.kind = VERBS_WELCOME};
	struct attempt *attempt = &maker->attempt[plane][peer];
	bool is_ours = attempt->qp != NULL && attempt->name == message->attempt;

	switch ((enum verbs_message_kind)message->kind) {
	case VERBS_HELLO:
		verbs_maker_send(maker->verbs, peer, &welcome);
		break;
	case VERBS_WELCOME:
		break;
	case VERBS_REQUEST:
		requested(maker, peer, message);
		break;
	case VERBS_ACCEPT:
		if (is_ours)
			verbs_attempt_accepted(maker, plane, peer, message);
		break;
	case VERBS_REFUSE:
		if (is_ours) {
			verbs_attempt_complain(maker, plane, peer, "refuses a connection",
					       message->reason);
			verbs_attempt_give_up(maker, plane, peer);
		}
		break;
	case VERBS_GONE_SERVING:
		heard_gone(maker, plane, peer, message->attempt, is_ours);
		break;
	}
}

static void channel_changed(struct verbs_maker *maker, unsigned peer, bool up)
{
	maker->hello_ns[peer] = 0;
	for (unsigned plane = 0; plane < MU_PLANES; plane++) {
		maker->attempt[plane][peer].not_before_ns = 0;
		if (!up && maker->attempt[plane][peer].qp != NULL)
			verbs_attempt_give_up(maker, (enum mu_plane)plane, peer);
	}
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

static void take_events(struct verbs_maker *maker)
{
	struct verbs_event event;

	while (verbs_inbox_get(&maker->inbox, &event)) {
		if (event.kind == VERBS_EVENT_MESSAGE) {
			meet(maker, event.peer, event.turn, event.message.process);
			heard(maker, event.peer, &event.message);
		} else {
			channel_changed(maker, event.peer, event.kind == VERBS_EVENT_UP);
		}
	}
}

static void *run(void *ctx)
{
	struct verbs_maker *maker = ctx;
	struct pollfd fds[] = {{.fd = maker->inbox.wake_fd, .events = POLLIN},
			       {.fd = maker->verbs->port.context->async_fd, .events = POLLIN}};
	uint64_t count;

	while (!atomic_load(&maker->stop)) {
		if (poll(fds, 2, verbs_attempts_rest_ms(maker, verbs_clock_ns())) > 0 &&
		    fds[0].revents)
			(void)!read(maker->inbox.wake_fd, &count, sizeof(count));
		take_device_events(maker);
		take_events(maker);
		verbs_attempts_step(maker, verbs_clock_ns());
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
	verbs->maker = maker;
	reason = verbs_inbox_open(&maker->inbox, verbs->config.id);
	if (reason == 0) {
		/* It knows itself. */
		maker->met_turn[verbs->config.id] =
			verbs_inbox_turn(&maker->inbox, verbs->config.id);
		reason = start_thread(maker);
		if (reason == 0) {
			verbs_inbox_attach(&maker->inbox, verbs->peering);
			return 0;
		}
		verbs_inbox_close(&maker->inbox);
	}
	free(maker);
	verbs->maker = NULL;
	return memory_error_set(error, "no thread: %s", strerror(reason));
}

void verbs_maker_stop(struct verbs_fabric *verbs)
{
	struct verbs_maker *maker = verbs->maker;

	verbs->peering->ops->attach(verbs->peering, NULL, NULL);
	atomic_store(&maker->stop, true);
	verbs_inbox_wake(&maker->inbox);
	pthread_join(maker->thread, NULL);
	for (unsigned i = 0; i < MU_PLANES * MU_ID_SLOTS; i++)
		verbs_queue_pair_free(maker->attempt[i / MU_ID_SLOTS][i % MU_ID_SLOTS].qp);
	verbs_inbox_close(&maker->inbox);
	free(maker);
	verbs->maker = NULL;
}
