/* memcached_touched.c - see memcached_touched.h. */
#include "memcached_touched.h"

#include <stdlib.h>

#include "mc_base64.h"
#include "mc_request.h"
#include "memcached_clock.h"

enum { FIRST_SLOTS = 4096 };

/* Which word of a command is its key: 0: it touches none, -1: it touches all. */
static int key_word(struct mp_slice verb)
{
	static const struct {
		const char *verb;
		int word;
	} known[] = {
		{"set", 1},    {"ms", 1},          {"mg", 1},        {"md", 1},
		{"delete", 1}, {"touch", 1},       {"gat", 2},       {"gats", 2},
		{"me", 0},     {"lru", 0},         {"verbosity", 0}, {"cache_memlimit", 0},
		{"slabs", 0},  {"lru_crawler", 0}, {"extstore", 0},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (mp_slice_is(verb, known[i].verb))
			return known[i].word;
	return -1; /* flush_all, and what is not known here */
}

/* As the server knows it: decoded, if it is in base64, into bytes. */
static struct mp_slice plain_key(struct mp_slice key, const char *s, const char *end,
				 char bytes[MC_MAX_KEY_BYTES])
{
	struct mp_slice word;

	while ((word = mc_next_word(&s, end)).len > 0)
		if (mp_slice_is(word, "b") && key.len <= MC_MAX_KEY_BYTES)
			return (struct mp_slice){bytes, mc_base64_decode(key, bytes)};
	return key;
}

/* 0: the command touches no key; 1 of those there are: it touches all. */
enum { TOUCHES_NONE = 0, TOUCHES_ALL = 1 };
static uint64_t hash_of(struct mp_slice line)
{
	const char *s = line.data, *end = line.data + line.len - 2;
	struct mp_slice verb = mc_next_word(&s, end), key = {0};
	char bytes[MC_MAX_KEY_BYTES];
	int word = key_word(verb);
	uint64_t hash;

	if (word <= 0)
		return word < 0 ? TOUCHES_ALL : TOUCHES_NONE;
	while (word-- > 0)
		key = mc_next_word(&s, end);
	if (*verb.data == 'm')
		key = plain_key(key, s, end, bytes);
	hash = mc_key_hash(key);
	return hash > TOUCHES_ALL ? hash : hash + 2;
}

/* Where it is, or would be. */
static uint64_t *place_of(const struct mp_touched *touched, uint64_t hash)
{
	uint32_t at = (uint32_t)hash & (touched->cap - 1);

	while (touched->slot[at] != 0 && touched->slot[at] != hash)
		at = (at + 1) & (touched->cap - 1);
	return &touched->slot[at];
}

static bool grow(struct mp_touched *touched)
{
	struct mp_touched larger = {.cap = touched->cap * 2, .count = touched->count};

	larger.slot = calloc(larger.cap, sizeof(*larger.slot));
	if (!larger.slot)
		return false;
	for (uint32_t i = 0; i < touched->cap; i++)
		if (touched->slot[i])
			*place_of(&larger, touched->slot[i]) = touched->slot[i];
	free(touched->slot);
	*touched = larger;
	return true;
}

bool mp_touched_open(struct mp_touched *touched)
{
	mp_touched_close(touched);
	touched->cap = FIRST_SLOTS;
	touched->slot = calloc(touched->cap, sizeof(*touched->slot));
	return touched->slot != NULL;
}

void mp_touched_close(struct mp_touched *touched)
{
	free(touched->slot);
	*touched = (struct mp_touched){0};
}

static void note(struct mp_touched *touched, uint64_t hash)
{
	uint64_t *place = place_of(touched, hash);

	if (*place)
		return;
	if (touched->count == MP_TOUCHED_MAX) {
		touched->all = "too many keys were written meanwhile";
		return;
	}
	*place = hash;
	/* Half of it stays free. */
	if (++touched->count * 2 > touched->cap && !grow(touched))
		touched->all = "out of memory for the keys that were written meanwhile";
}

void mp_touched_note(struct mp_touched *touched, struct mp_slice wire)
{
	while (touched->slot && !touched->all && wire.len > 0) {
		struct memcached_command command = memcached_next_command(wire);
		size_t len = command.line.len + command.block.len;
		uint64_t hash = hash_of(command.line);

		if (hash == TOUCHES_ALL)
			touched->all = "everything was flushed meanwhile";
		else if (hash != TOUCHES_NONE)
			note(touched, hash);
		wire = (struct mp_slice){wire.data + len, wire.len - len};
	}
}

bool mp_touched_has(const struct mp_touched *touched, struct mp_slice line)
{
	return touched->all || *place_of(touched, hash_of(line)) != 0;
}
