/* sim_clock.c - see sim_clock.h. A binary heap, ordered by (time, serial). */
#include "sim_clock.h"

#include <assert.h>
#include <stdlib.h>

struct sim_happening {
	uint64_t when_ns;
	uint64_t serial;
	sim_happen_fn *fn;
	void *ctx;
	uint64_t stamp;
};

void sim_clock_init(struct sim_clock *clock)
{
	*clock = (struct sim_clock){0};
}

void sim_clock_free(struct sim_clock *clock)
{
	free(clock->heap);
	*clock = (struct sim_clock){0};
}

static bool before(const struct sim_happening *a, const struct sim_happening *b)
{
	return a->when_ns != b->when_ns ? a->when_ns < b->when_ns : a->serial < b->serial;
}

static void sift_up(struct sim_clock *clock, size_t at)
{
	struct sim_happening moving = clock->heap[at];

	while (at > 0 && before(&moving, &clock->heap[(at - 1) / 2])) {
		clock->heap[at] = clock->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	clock->heap[at] = moving;
}

static void sift_down(struct sim_clock *clock, size_t at)
{
	struct sim_happening moving = clock->heap[at];
	size_t child;

	while ((child = 2 * at + 1) < clock->count) {
		if (child + 1 < clock->count &&
		    before(&clock->heap[child + 1], &clock->heap[child]))
			child++;
		if (!before(&clock->heap[child], &moving))
			break;
		clock->heap[at] = clock->heap[child];
		at = child;
	}
	clock->heap[at] = moving;
}

void sim_clock_at(struct sim_clock *clock, uint64_t when_ns, sim_happen_fn *fn, void *ctx,
		  uint64_t stamp)
{
	if (clock->count == clock->capacity) {
		clock->capacity = clock->capacity ? clock->capacity * 2 : 256;
		clock->heap = realloc(clock->heap, clock->capacity * sizeof(*clock->heap));
		if (clock->heap == NULL)
			abort();
	}
	clock->heap[clock->count] = (struct sim_happening){
		.when_ns = when_ns > clock->now_ns ? when_ns : clock->now_ns,
		.serial = clock->serial++,
		.fn = fn,
		.ctx = ctx,
		.stamp = stamp,
	};
	sift_up(clock, clock->count++);
}

bool sim_clock_advance(struct sim_clock *clock)
{
	struct sim_happening next;

	if (clock->count == 0)
		return false;
	next = clock->heap[0];
	clock->heap[0] = clock->heap[--clock->count];
	if (clock->count > 0)
		sift_down(clock, 0);

	assert(next.when_ns >= clock->now_ns);
	clock->now_ns = next.when_ns;
	clock->happened++;
	next.fn(next.ctx, next.stamp);
	return true;
}
