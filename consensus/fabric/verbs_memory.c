/* verbs_memory.c - protection domains and what is registered in them. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "verbs.h"

#define STAGES_BYTES ((size_t)VERBS_STAGES * VERBS_STAGE_BYTES)

/* How much memory this process may lock, in KiB; SIZE_MAX: as much as it likes. */
static size_t lockable_kib(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return SIZE_MAX;
	return (size_t)limit.rlim_cur >> 10;
}

const char *verbs_reason(int error)
{
	if (error == ENOMEM && lockable_kib() != SIZE_MAX)
		return "out of memory, or of what may be locked of it (RLIMIT_MEMLOCK: 'ulimit -l "
		       "unlimited', or LimitMEMLOCK=infinity in a systemd unit)";
	return strerror(error);
}

/*
 * Registered memory cannot be swapped out, and how much of that there may be is
 * limited: of all that a process registers, so that the last bit may be too much.
 */
static int explain_registration(const struct verbs_fabric *verbs, size_t bytes, int reason,
				const struct memory_error *error)
{
	size_t all = MU_PLANES * STAGES_BYTES;

	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		all += verbs->config.region_bytes[verbs_region_of((enum mu_plane)plane)];
	if (reason == ENOMEM && lockable_kib() != SIZE_MAX)
		return memory_error_set(
			error,
			"RDMA device %s: cannot register %zu KiB of memory: this process may lock "
			"%zu KiB (RLIMIT_MEMLOCK), and needs more than %zu: 'ulimit -l unlimited', "
			"or LimitMEMLOCK=infinity in a systemd unit",
			verbs->port.device, bytes >> 10, lockable_kib(), all >> 10);
	return memory_error_set(error, "RDMA device %s: cannot register %zu KiB of memory: %s%s",
				verbs->port.device, bytes >> 10, strerror(reason),
				reason == EOPNOTSUPP
					? " (files of a DAX file system cannot be; use "
					  "tmpfs, hugetlbfs or a DAX device)"
					: "");
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

static int open_descriptors(struct verbs_plane *plane)
{
	struct epoll_event readable = {.events = EPOLLIN};

	fcntl(plane->channel->fd, F_SETFL, fcntl(plane->channel->fd, F_GETFL) | O_NONBLOCK);
	plane->call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	plane->wait_fd = epoll_create1(EPOLL_CLOEXEC);
	if (plane->call_fd < 0 || plane->wait_fd < 0 ||
	    epoll_ctl(plane->wait_fd, EPOLL_CTL_ADD, plane->channel->fd, &readable) != 0 ||
	    epoll_ctl(plane->wait_fd, EPOLL_CTL_ADD, plane->call_fd, &readable) != 0)
		return -1;
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
	if (plane->domain == NULL || plane->completions == NULL || open_descriptors(plane) != 0)
		return memory_error_set(error, "RDMA device %s: %s", verbs->port.device,
					verbs_reason(errno));
	plane->memory = ibv_reg_mr(plane->domain, verbs->memory.region[region], bytes,
				   IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
					   IBV_ACCESS_REMOTE_WRITE);
	if (plane->memory == NULL)
		return explain_registration(verbs, bytes, errno, error);
	return open_stages(verbs, plane, error);
}

void verbs_plane_close(struct verbs_plane *plane)
{
	if (plane->wait_fd > 0)
		close(plane->wait_fd);
	if (plane->call_fd > 0)
		close(plane->call_fd);
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
static bool place(struct verbs_fabric *verbs, enum mu_plane which, struct verbs_op *op, void *bytes,
		  size_t len, int access, uint64_t *address, uint32_t *key)
{
	struct verbs_plane *plane = &verbs->plane[which];
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
	if (op->passing == NULL) {
		if (!plane->has_complained)
			verbs_say(verbs, "cannot register %zu KiB for one operation: %s", len >> 10,
				  verbs_reason(errno));
		plane->has_complained = true;
		return false;
	}
	*address = (uintptr_t)bytes;
	*key = op->passing->lkey;
	return true;
}

bool verbs_source(struct verbs_fabric *verbs, enum mu_plane plane, struct verbs_op *op,
		  const void *src, size_t len, uint64_t *address, uint32_t *key)
{
	if (!place(verbs, plane, op, (void *)(uintptr_t)src, len, 0, address, key))
		return false;
	if (op->stage >= 0)
		memcpy(stage_address(&verbs->plane[plane].stages, op->stage), src, len);
	return true;
}

bool verbs_destination(struct verbs_fabric *verbs, enum mu_plane plane, struct verbs_op *op,
		       void *dst, size_t len, uint64_t *address, uint32_t *key)
{
	if (!place(verbs, plane, op, dst, len, IBV_ACCESS_LOCAL_WRITE, address, key))
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
