/* verbs_inbox.c - see the header. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "verbs_inbox.h"

void verbs_inbox_wake(struct verbs_inbox *inbox)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread is awake. */
	(void)!write(inbox->wake_fd, &one, sizeof(one));
}

static void put(struct verbs_inbox *inbox, const struct verbs_event *event)
{
	pthread_mutex_lock(&inbox->mutex);
	if (inbox->tail - inbox->head < VERBS_INBOX_EVENTS)
		inbox->event[inbox->tail++ % VERBS_INBOX_EVENTS] = *event;
	pthread_mutex_unlock(&inbox->mutex);
	verbs_inbox_wake(inbox);
}

bool verbs_inbox_get(struct verbs_inbox *inbox, struct verbs_event *event)
{
	bool is_there;

	pthread_mutex_lock(&inbox->mutex);
	is_there = inbox->head != inbox->tail;
	if (is_there)
		*event = inbox->event[inbox->head++ % VERBS_INBOX_EVENTS];
	pthread_mutex_unlock(&inbox->mutex);
	return is_there;
}

void verbs_inbox_put(struct verbs_inbox *inbox, unsigned peer, const struct verbs_message *message)
{
	struct verbs_event event = {.kind = VERBS_EVENT_MESSAGE,
				    .peer = peer,
				    .turn = verbs_inbox_turn(inbox, peer),
				    .message = *message};

	put(inbox, &event);
}

/* ------------------------------------------------------- what the peering calls */

static void on_channel(void *ctx, unsigned peer, bool up)
{
	struct verbs_inbox *inbox = ctx;
	uint32_t turn = ((verbs_inbox_turn(inbox, peer) >> 1) + 1) << 1 | up;
	struct verbs_event event = {
		.kind = up ? VERBS_EVENT_UP : VERBS_EVENT_DOWN, .peer = peer, .turn = turn};

	/* Here, so that it is true even if the event finds no room. */
	atomic_store(&inbox->turn[peer], turn);
	put(inbox, &event);
}

static bool is_sound(const struct verbs_message *message)
{
	return message->magic == VERBS_MESSAGE_MAGIC && message->process != 0 &&
	       message->plane < MU_PLANES;
}

static void on_message(void *ctx, unsigned peer, const void *bytes, size_t len)
{
	struct verbs_message message;

	if (len != sizeof(message))
		return;
	memcpy(&message, bytes, len);
	if (is_sound(&message))
		verbs_inbox_put(ctx, peer, &message);
}

/* This fabric asks for no streams. */
static void on_stream(void *ctx, enum mu_plane plane, unsigned peer, int fd, bool dialled)
{
	(void)ctx;
	(void)plane;
	(void)peer;
	(void)dialled;
	close(fd);
}

static void on_stream_failed(void *ctx, enum mu_plane plane, unsigned peer)
{
	(void)ctx;
	(void)plane;
	(void)peer;
}

static const struct mu_peering_events peering_events = {
	.channel = on_channel,
	.message = on_message,
	.stream = on_stream,
	.stream_failed = on_stream_failed,
};

/* --------------------------------------------------------- opening, closing */

int verbs_inbox_open(struct verbs_inbox *inbox, unsigned own_id)
{
	inbox->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (inbox->wake_fd < 0)
		return errno;
	pthread_mutex_init(&inbox->mutex, NULL);
	atomic_store(&inbox->turn[own_id], 1);
	return 0;
}

void verbs_inbox_attach(struct verbs_inbox *inbox, struct mu_peering *peering)
{
	peering->ops->attach(peering, &peering_events, inbox);
}

void verbs_inbox_close(struct verbs_inbox *inbox)
{
	close(inbox->wake_fd);
	pthread_mutex_destroy(&inbox->mutex);
}
