/*
 * verbs_inbox.h - what the peering has to say to the maker: messages of peers,
 * and that the channel to one has come up or gone down, in order.
 */
#ifndef MU_VERBS_INBOX_H
#define MU_VERBS_INBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "verbs_message.h"

/* What finds no room is lost; all that it may be is asked for or said again. */
#define VERBS_INBOX_EVENTS 256

enum verbs_event_kind { VERBS_EVENT_MESSAGE, VERBS_EVENT_UP, VERBS_EVENT_DOWN };
struct verbs_event {
	enum verbs_event_kind kind;
	unsigned peer;
	uint32_t turn; /* of the channel, when it came */
	struct verbs_message message;
};

struct verbs_inbox {
	int wake_fd; /* readable when there is something, or verbs_inbox_wake() was called */
	/* Of each channel, another number each time it comes up or goes down; odd: it is up. */
	_Atomic uint32_t turn[MU_ID_SLOTS];
	pthread_mutex_t mutex; /* of what follows */
	uint32_t head, tail;
	struct verbs_event event[VERBS_INBOX_EVENTS];
};

/* Returns 0 or errno. To itself a replica has a channel that is always up. */
int verbs_inbox_open(struct verbs_inbox *inbox, unsigned own_id);
/* Hear what this peering says; until it has been attached to something else. */
void verbs_inbox_attach(struct verbs_inbox *inbox, struct mu_peering *peering);
void verbs_inbox_close(struct verbs_inbox *inbox);

/* Any thread. */
void verbs_inbox_put(struct verbs_inbox *inbox, unsigned peer, const struct verbs_message *message);
void verbs_inbox_wake(struct verbs_inbox *inbox);
/* False: there is nothing. */
bool verbs_inbox_get(struct verbs_inbox *inbox, struct verbs_event *event);

static inline uint32_t verbs_inbox_turn(const struct verbs_inbox *inbox, unsigned peer)
{
	return atomic_load(&inbox->turn[peer]);
}

static inline bool verbs_inbox_is_up(uint32_t turn)
{
	return turn & 1;
}

#endif
