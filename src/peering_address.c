/* peering_address.c - see peering_address.h. */
#include "config.h"

#include "peering_address.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct place {
	char text[sizeof(((struct mp_address *)NULL)->text)]; /* "": none */
	bool numeric;
	bool wanted; /* is to be looked up */
	bool known;
	struct mp_address address;
	char why[256];
};

struct peering_places {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t change;
	pthread_t thread;
	bool closed; /* the thread frees all this when it comes to see it */
	struct place place[MU_ID_SLOTS];
};

static bool is_numeric(const char *text)
{
	char host[256];
	struct in6_addr in6;
	int port;

	return mp_address_split(text, host, sizeof(host), &port) &&
	       (inet_pton(AF_INET, host, &in6) == 1 || inet_pton(AF_INET6, host, &in6) == 1);
}

static void free_places(struct peering_places *places)
{
	pthread_mutex_destroy(&places->lock);
	pthread_cond_destroy(&places->change);
	free(places);
}

static struct place *next_wanted(struct peering_places *places)
{
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (places->place[id].wanted)
			return &places->place[id];
	return NULL;
}

/* With the lock held, but for the look-up itself. */
static void look_up(struct peering_places *places, struct place *place)
{
	struct mp_address address;
	char text[sizeof(place->text)], why[sizeof(place->why)] = "";
	bool found;

	place->wanted = false;
	memcpy(text, place->text, sizeof(text));
	pthread_mutex_unlock(&places->lock);
	found = mp_address_parse(text, &address, why, sizeof(why));
	pthread_mutex_lock(&places->lock);
	if (strcmp(text, place->text) != 0)
		return; /* it has another one by now */
	memcpy(place->why, why, sizeof(why));
	/* What was known before may still be true when nobody can tell. */
	if (found)
		place->address = address;
	place->known = place->known || found;
}

static void *run(void *ctx)
{
	struct peering_places *places = ctx;

	pthread_mutex_lock(&places->lock);
	while (!places->closed) {
		struct place *place = next_wanted(places);

		if (place)
			look_up(places, place);
		else
			pthread_cond_wait(&places->change, &places->lock);
	}
	pthread_mutex_unlock(&places->lock);
	free_places(places);
	return NULL;
}

static void set(struct place *place, const char *text)
{
	*place = (struct place){.numeric = is_numeric(text)};
	snprintf(place->text, sizeof(place->text), "%s", text);
	if (place->numeric)
		place->known =
			mp_address_parse(text, &place->address, place->why, sizeof(place->why));
	else
		place->wanted = true;
}

struct peering_places *peering_places_open(const char *const text[MU_ID_SLOTS])
{
	struct peering_places *places = calloc(1, sizeof(*places));
	sigset_t all, before;
	int rc;

	if (!places)
		return NULL;
	pthread_mutex_init(&places->lock, NULL);
	pthread_cond_init(&places->change, NULL);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (text[id])
			set(&places->place[id], text[id]);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&places->thread, NULL, run, places);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0) {
		pthread_detach(places->thread);
		return places;
	}
	free_places(places);
	return NULL;
}

/* Does not wait for a look-up: the thread frees what it still needs. */
void peering_places_close(struct peering_places *places)
{
	if (!places)
		return;
	pthread_mutex_lock(&places->lock);
	places->closed = true;
	pthread_cond_signal(&places->change);
	pthread_mutex_unlock(&places->lock);
}

void peering_places_set(struct peering_places *places, unsigned id, const char *text)
{
	pthread_mutex_lock(&places->lock);
	if (strcmp(places->place[id].text, text) != 0)
		set(&places->place[id], text);
	pthread_cond_signal(&places->change);
	pthread_mutex_unlock(&places->lock);
}

bool peering_places_get(struct peering_places *places, unsigned id, struct mp_address *address,
			char *why, size_t why_bytes)
{
	struct place *place = &places->place[id];
	bool known;

	pthread_mutex_lock(&places->lock);
	known = place->known;
	if (known)
		*address = place->address;
	snprintf(why, why_bytes, "%s", place->why);
	pthread_mutex_unlock(&places->lock);
	return known;
}

void peering_places_renew(struct peering_places *places, unsigned id)
{
	struct place *place = &places->place[id];

	pthread_mutex_lock(&places->lock);
	if (!place->numeric && !place->wanted && place->text[0]) {
		place->wanted = true;
		pthread_cond_signal(&places->change);
	}
	pthread_mutex_unlock(&places->lock);
}
