/* redis_shapes.c - see redis_shapes.h. */
#include "redis_shapes.h"

#include <string.h>
#include <strings.h>

#include "redis_wire.h"

/* Commands whose first argument names a subcommand, which has an arity of its own. */
static const char *const containers[] = {
	"acl",    "client", "cluster", "command", "config", "debug",   "function", "latency",
	"memory", "module", "object",  "pubsub",  "script", "slowlog", "xgroup",   "xinfo",
};

static bool is_container(struct mp_slice name)
{
	size_t i;

	for (i = 0; i < sizeof(containers) / sizeof(containers[0]); i++)
		if (strlen(containers[i]) == name.len &&
		    strncasecmp(containers[i], name.data, name.len) == 0)
			return true;
	return false;
}

/* FNV-1a, of the lower-cased word. */
static uint64_t hash(uint64_t seed, struct mp_slice word)
{
	size_t i;

	for (i = 0; i < word.len; i++) {
		unsigned char c = (unsigned char)word.data[i];

		seed = (seed ^ (c >= 'A' && c <= 'Z' ? c | 0x20u : c)) * 0x100000001b3ULL;
	}
	return seed;
}

static uint64_t hash_of(const struct mp_slice words[2])
{
	uint64_t h = hash(0xcbf29ce484222325ULL, words[0]);

	if (is_container(words[0]))
		h = hash(h ^ ' ', words[1]);
	return h ? h : 1;
}

/* The place of that name, or the free one where it would be; NULL: the table is full. */
static const struct redis_shape *find(const struct redis_shapes *shapes, uint64_t name)
{
	uint32_t i, at = (uint32_t)name;

	for (i = 0; i < REDIS_SHAPES; i++) {
		const struct redis_shape *place = &shapes->known[(at + i) % REDIS_SHAPES];

		if (place->name == name || place->name == 0)
			return place;
	}
	return NULL;
}

static bool knows(const struct redis_shapes *shapes, const struct mp_slice words[2], int64_t count)
{
	uint64_t name = hash_of(words);
	const struct redis_shape *shape = find(shapes, name);

	if (!shape || shape->name != name)
		return false;
	return count == shape->least || (shape->least < shape->most && count > shape->least);
}

bool redis_shapes_know(const struct redis_shapes *shapes, struct mp_slice bytes, int commands)
{
	for (;;) {
		struct mp_slice words[2];
		int64_t count = redis_command_head(bytes, words);
		size_t used;

		if (count == 0 || !knows(shapes, words, count))
			return false;
		if (--commands == 0)
			return true;
		used = redis_command_bytes(bytes);
		bytes.data += used;
		bytes.len -= used;
	}
}

void redis_shapes_learn(struct redis_shapes *shapes, struct mp_slice bytes)
{
	struct mp_slice words[2];
	int64_t count = redis_command_head(bytes, words);
	uint64_t name = hash_of(words);
	struct redis_shape *shape = (struct redis_shape *)find(shapes, name);

	if (count == 0 || count > UINT32_MAX || !shape)
		return;
	if (shape->name == 0) {
		/* A table that fills up only slows down; keep searches in it short. */
		if (shapes->count >= REDIS_SHAPES / 4 * 3)
			return;
		shapes->count++;
		*shape = (struct redis_shape){name, (uint32_t)count, (uint32_t)count};
	}
	if (count < shape->least)
		shape->least = (uint32_t)count;
	if (count > shape->most)
		shape->most = (uint32_t)count;
}

void redis_shapes_forget(struct redis_shapes *shapes)
{
	memset(shapes, 0, sizeof(*shapes));
}
