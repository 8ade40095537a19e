/* bench_floor.c - see the header. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench_floor.h"
#include "clock.h"

struct bench_floor {
	struct bench_group *group;
	const uint8_t *bytes;
	/* The followers' memory behind the ring, mapped here; NULL where there is none. */
	uint8_t *memory[MU_ID_SLOTS];
	uint64_t offset; /* where that memory lies in the region */
	uint64_t at;     /* where in it the next bytes go */
};

struct bench_floor *bench_floor_new(struct bench_group *group, const uint8_t *bytes)
{
	const struct bench_options *options = group->run.options;
	struct bench_floor *floor = calloc(1, sizeof(*floor));

	if (floor == NULL) {
		fputs("mubench: out of memory\n", stderr);
		return NULL;
	}
	*floor = (struct bench_floor){
		.group = group, .bytes = bytes, .offset = bench_extra_offset(options)};
	for (unsigned id = 2; id <= options->replicas && options->fabric->map_floor != NULL; id++) {
		floor->memory[id] = options->fabric->map_floor(
			group->run.directory, id, floor->offset, bench_extra_bytes(options));
		if (floor->memory[id] == NULL) {
			bench_floor_free(floor);
			return NULL;
		}
	}
	return floor;
}

void bench_floor_free(struct bench_floor *floor)
{
	for (unsigned id = 0; id < MU_ID_SLOTS; id++)
		if (floor->memory[id] != NULL)
			munmap(floor->memory[id], bench_extra_bytes(floor->group->run.options));
	free(floor);
}

/* Where the next bytes go. */
static uint64_t next_place(struct bench_floor *floor, size_t len)
{
	uint64_t at = floor->at;

	if (at + len > floor->group->run.options->ring_bytes)
		at = 0;
	floor->at = at + len;
	return at;
}

/* ------------------------------------------------------------ bare writes */

/* Those under way: each follower's are done in order. */
struct bare {
	struct mu_fabric *fabric;
	unsigned followers;
	unsigned posted; /* to each */
	unsigned done[MU_ID_SLOTS];
};

static unsigned count_done(const struct bare *bare)
{
	unsigned count = 0;

	for (unsigned id = 2; id < 2 + bare->followers; id++)
		count += bare->done[id] == bare->posted;
	return count;
}

/* Until so many followers have all; false if a write failed. */
static bool await_done(struct bare *bare, unsigned followers)
{
	struct mu_completion done[64];

	while (count_done(bare) < followers) {
		int n = bare->fabric->ops->poll(bare->fabric, MU_PLANE_DATA, done, 64);

		for (int i = 0; i < n; i++) {
			if (done[i].status != MU_FABRIC_OK)
				return false;
			bare->done[done[i].peer]++;
		}
	}
	return true;
}

/* To all followers, out of memory that the fabric knows, as the log is; false if one is refused. */
static bool write_all(struct bench_floor *floor, struct bare *bare, size_t len, uint64_t ballot)
{
	struct mu_fabric *fabric = bare->fabric;
	const uint8_t *from = fabric->ops->local(fabric, MU_REGION_REPLICATION);
	uint64_t offset = floor->offset + next_place(floor, len);

	for (unsigned id = 2; id < 2 + bare->followers; id++)
		if (fabric->ops->post_write(fabric, MU_PLANE_DATA, id, MU_REGION_REPLICATION,
					    offset, from + floor->offset, len, ballot, 0) != 0)
			return false;
	bare->posted++;
	return true;
}

bool bench_floor_write(struct bench_floor *floor, size_t len, unsigned count, uint64_t *ns)
{
	struct bench_replica *leader = &floor->group->leader;
	struct bare bare = {.fabric = leader->fabric,
			    .followers = floor->group->run.options->replicas - 1};
	struct mu_view view;
	uint64_t start_ns;

	mu_view(leader->mu, &view);
	start_ns = clock_ns();
	for (unsigned i = 0; i < count; i++)
		if (!write_all(floor, &bare, len, view.ballot))
			return false;
	if (!await_done(&bare, bare.followers / 2))
		return false;
	*ns = clock_ns() - start_ns;
	return await_done(&bare, bare.followers);
}

/* -------------------------------------------------------- without the fabric */

static void copy(struct bench_floor *floor, size_t len, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = next_place(floor, len);

		for (unsigned id = 2; id <= floor->group->run.options->replicas; id++)
			memcpy(floor->memory[id] + at, floor->bytes, len);
	}
	__asm__ volatile("" ::: "memory"); /* they are not to be left out */
}

bool bench_floor_copy(struct bench_floor *floor, size_t len, unsigned count, uint64_t *ns)
{
	const struct bench_run *run = &floor->group->run;
	const struct bench_fabric *fabric = run->options->fabric;
	uint64_t start_ns = clock_ns();
	bool done = true;

	if (fabric->exchange != NULL)
		done = fabric->exchange(run->directory, run->options->replicas, floor->bytes, len,
					count);
	else
		copy(floor, len, count);
	*ns = clock_ns() - start_ns;
	return done;
}
