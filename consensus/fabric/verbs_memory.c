/* verbs_memory.c - protection domains and what is registered in them. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "verbs.h"

#define STAGES_BYTES ((size_t)VERBS_STAGES * VERBS_STAGE_BYTES)

/* Registered memory cannot be swapped out, and how much of that there may be is limited. */
static int explain_registration(const struct verbs_fabric *verbs, size_t bytes, int reason,
				const struct memory_error *error)
{
	struct rlimit limit;

	if (reason == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < bytes + 2 * STAGES_BYTES)
		return memory_error_set(
			error,
			"RDMA device %s: cannot register %zu MiB: this process may lock %zu KiB of "
			"memory (RLIMIT_MEMLOCK); raise it: 'ulimit -l unlimited', or "
			"LimitMEMLOCK=infinity in a systemd unit",
			verbs->port.device, (bytes + (1 << 20) - 1) >> 20,
			(size_t)limit.rlim_cur >> 10);
	return memory_error_set(error, "RDMA device %s: cannot register %zu KiB of memory: %s",
				verbs->port.device, bytes >> 10, strerror(reason));
}

/* Shared: a process that forks must not find these pages elsewhere after its next write. */
static int open_stages(struct verbs_fabric *verbs, struct verbs_plane *plane,
		       const struct memory_error *error)
{
	struct verbs_stages *stages = &plane->stages;

	stages->base =
		mmap(NULL, STAGES_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stages->base == MAP_FAILED) {
		stages->base = NULL;
		return memory_error_set(error, "out of memory");
	}
	stages->mr = ibv_reg_mr(plane->domain, stages->base, STAGES_BYTES, IBV_ACCESS_LOCAL_WRITE);
	if (stages->mr == NULL)
		return explain_registration(verbs, STAGES_BYTES, errno, error);
	for (; stages->free_count < VERBS_STAGES; stages->free_count++)
		stages->free[stages->free_count] = (uint16_t)stages->free_count;
	return 0;
}

/*
 * A plane has a protection domain of its own, so that the replication memory
 * cannot be reached by anything that is made for the background plane, whose
 * connections may always write.
 */
int verbs_plane_open(struct verbs_fabric *verbs, enum mu_plane which,
		     const struct memory_error *error)
{
	struct verbs_plane *plane = &verbs->plane[which];
	enum mu_region region = verbs_region_of(which);
	const size_t bytes = verbs->config.region_bytes[region];
	int entries = VERBS_WORK_REQUESTS * MU_ID_SLOTS;

	if (entries > verbs->port.completions)
		entries = verbs->port.completions;
	plane->domain = ibv_alloc_pd(verbs->port.context);
	plane->channel = ibv_create_comp_channel(verbs->port.context);
	if (plane->channel != NULL)
		plane->completions =
			ibv_create_cq(verbs->port.context, entries, NULL, plane->channel, 0);
	if (plane->domain == NULL || plane->completions == NULL)
		return memory_error_set(error, "RDMA device %s: %s", verbs->port.device,
					strerror(errno));
	plane->memory = ibv_reg_mr(plane->domain, verbs->memory.region[region], bytes,
				   IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
					   IBV_ACCESS_REMOTE_WRITE);
	if (plane->memory == NULL)
		return explain_registration(verbs, bytes, errno, error);
	return open_stages(verbs, plane, error);
}

void verbs_plane_close(struct verbs_plane *plane)
{
	if (plane->stages.mr != NULL)
		ibv_dereg_mr(plane->stages.mr);
	if (plane->stages.base != NULL)
		munmap(plane->stages.base, STAGES_BYTES);
	if (plane->memory != NULL)
		ibv_dereg_mr(plane->memory);
	if (plane->completions != NULL)
		ibv_destroy_cq(plane->completions);
	if (plane->channel != NULL)
		ibv_destroy_comp_channel(plane->channel);
	if (plane->domain != NULL)
		ibv_dealloc_pd(plane->domain);
}

/* ------------------------------------------------- where an operation's bytes are */

static bool is_within(const struct ibv_mr *mr, const void *at, size_t len)
{
	const uint8_t *base = mr->addr, *first = at;

	return first >= base && len <= mr->length && first - base <= (ptrdiff_t)(mr->length - len);
}

static uint8_t *stage_address(const struct verbs_stages *stages, int stage)
{
	return stages->base + (size_t)stage * VERBS_STAGE_BYTES;
}

/* The op is without stage and registration yet. */
static bool place(struct verbs_plane *plane, struct verbs_op *op, void *bytes, size_t len,
		  int access, uint64_t *address, uint32_t *key)
{
	struct verbs_stages *stages = &plane->stages;

	op->copy_to = NULL;
	op->passing = NULL;
	op->stage = -1;
	if (is_within(plane->memory, bytes, len)) {
		*address = (uintptr_t)bytes;
		*key = plane->memory->lkey;
		return true;
	}
	if (len <= VERBS_STAGE_BYTES) {
		if (stages->free_count == 0)
			return false;
		op->stage = (int16_t)stages->free[--stages->free_count];
		*address = (uintptr_t)stage_address(stages, op->stage);
		*key = stages->mr->lkey;
		return true;
	}
	op->passing = ibv_reg_mr(plane->domain, bytes, len, access);
	if (op->passing == NULL)
		return false;
	*address = (uintptr_t)bytes;
	*key = op->passing->lkey;
	return true;
}

bool verbs_source(struct verbs_plane *plane, struct verbs_op *op, const void *src, size_t len,
		  uint64_t *address, uint32_t *key)
{
	if (!place(plane, op, (void *)(uintptr_t)src, len, 0, address, key))
		return false;
	if (op->stage >= 0)
		memcpy(stage_address(&plane->stages, op->stage), src, len);
	return true;
}

bool verbs_destination(struct verbs_plane *plane, struct verbs_op *op, void *dst, size_t len,
		       uint64_t *address, uint32_t *key)
{
	if (!place(plane, op, dst, len, IBV_ACCESS_LOCAL_WRITE, address, key))
		return false;
	if (op->stage >= 0)
		op->copy_to = dst;
	return true;
}

void verbs_release(struct verbs_plane *plane, struct verbs_op *op, bool was_read)
{
	struct verbs_stages *stages = &plane->stages;

	if (op->stage >= 0) {
		if (was_read && op->copy_to != NULL)
			memcpy(op->copy_to, stage_address(stages, op->stage), op->len);
		stages->free[stages->free_count++] = (uint16_t)op->stage;
		op->stage = -1;
	}
	if (op->passing != NULL) {
		ibv_dereg_mr(op->passing);
		op->passing = NULL;
	}
}
