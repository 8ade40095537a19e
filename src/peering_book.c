/*
 * peering_book.c - who is where, as far as this replica knows (book.h): each tells it of
 * itself as it greets, and all pass on what is new to them. So a replica that joins is
 * known to those that it has never met, and whoever comes back learns of it from anybody.
 */
#include "config.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "peering_parts.h"

bool peering_admits(const struct peering *p, unsigned id)
{
	return peering_knows(p, id) || (p->options.admits && id >= 1 && id <= MU_MAX_REPLICAS);
}

bool peering_address_is_sound(const char address[BOOK_ADDRESS_BYTES])
{
	size_t len = strnlen(address, BOOK_ADDRESS_BYTES);

	for (size_t i = 0; i < len; i++)
		if (address[i] <= ' ' || address[i] > '~')
			return false;
	return len > 0 && len < BOOK_ADDRESS_BYTES;
}

/* What replica `about` did not tell itself. */
static void owe_to_all(struct peering *p, unsigned about)
{
	PEERING_EACH(p, id)
	{
		if (id == about || !p->channel[id].up)
			continue;
		p->channel[id].owed |= 1U << about;
		peering_tell_places(p, id);
		channel_flush(p, id);
	}
}

void peering_learn(struct peering *p, unsigned id, uint64_t stamp, const char *address)
{
	struct book_place place = {.stamp = stamp};
	bool is_new = !peering_knows(p, id), moved;

	snprintf(place.address, sizeof(place.address), "%s", address);
	if (id == p->options.id || !p->options.admits)
		return;
	pthread_mutex_lock(&p->lock);
	moved = strcmp(p->book.place[id].address, address) != 0;
	if (!book_take_place(&p->book, id, &place)) {
		pthread_mutex_unlock(&p->lock);
		return;
	}
	pthread_mutex_unlock(&p->lock);
	if (moved) {
		peering_places_set(p->places, id, address);
		mp_info("peering: replica %u is at %s", id, address);
	}
	if (is_new)
		p->channel[id].lost_ms = peering_now_ms();
	atomic_fetch_or(&p->known, 1U << id);
	owe_to_all(p, id);
}

bool peering_take_place(struct peering *p, const char *body, size_t bytes)
{
	struct peering_place place;

	if (bytes != sizeof(place))
		return false;
	memcpy(&place, body, sizeof(place));
	if (place.id < 1 || place.id > MU_MAX_REPLICAS || !peering_address_is_sound(place.address))
		return false;
	peering_learn(p, place.id, place.stamp, place.address);
	return true;
}

static struct peering_place place_of(struct peering *p, unsigned id)
{
	struct peering_place place = {.id = (uint8_t)id};

	pthread_mutex_lock(&p->lock);
	place.stamp = p->book.place[id].stamp;
	memcpy(place.address, p->book.place[id].address, sizeof(place.address));
	pthread_mutex_unlock(&p->lock);
	return place;
}

void peering_tell_places(struct peering *p, unsigned peer)
{
	struct channel *c = &p->channel[peer];

	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		struct peering_place place;

		if (!(c->owed >> id & 1))
			continue;
		place = place_of(p, id);
		if (channel_send(p, peer, PEERING_PLACE, &place, sizeof(place)) != 0)
			return; /* channel_tick() tries again */
		c->owed &= ~(1U << id);
	}
}

static size_t put_frame(uint8_t *out, enum peering_frame_type type, const void *body, size_t len)
{
	struct peering_frame frame = {.type = (uint16_t)type, .bytes = (uint16_t)len};

	memcpy(out, &frame, sizeof(frame));
	memcpy(out + sizeof(frame), body, len);
	return sizeof(frame) + len;
}

size_t peering_write_book(struct peering *p, uint8_t *out, size_t cap)
{
	uint64_t configuration;
	size_t bytes = 0;

	assert(cap >= MU_ID_SLOTS * (sizeof(struct peering_frame) + sizeof(struct peering_place)));
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
		struct peering_place place;

		if (!peering_knows(p, id))
			continue;
		place = place_of(p, id);
		bytes += put_frame(out + bytes, PEERING_PLACE, &place, sizeof(place));
	}
	pthread_mutex_lock(&p->lock);
	configuration = p->book.configuration;
	pthread_mutex_unlock(&p->lock);
	return bytes +
	       put_frame(out + bytes, PEERING_CONFIGURATION, &configuration, sizeof(configuration));
}

void peering_get_book(struct peering *p, struct book *book)
{
	pthread_mutex_lock(&p->lock);
	*book = p->book;
	pthread_mutex_unlock(&p->lock);
}

void peering_set_configuration(struct peering *p, uint64_t configuration)
{
	pthread_mutex_lock(&p->lock);
	book_take_configuration(&p->book, configuration);
	atomic_store(&p->removed, (uint32_t)mu_configuration_removed(p->book.configuration));
	pthread_mutex_unlock(&p->lock);
}
