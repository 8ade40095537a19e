/*
 * shm.c - the fabric for replicas of one host: regions are shared files, and
 * every operation is a copy that is over when it was posted. No system call,
 * lock or allocation on the way of an operation.
 *
 * How a write and the revocation of its permission meet. `word` is the ballot
 * of the holder, `busy` the writer's own word in the target's header:
 *
 *      writer                              owner of the memory, revoking
 *   W1 busy = generation, segment       R1 word = 0
 *   W2 word is my ballot, and           R2 busy of every peer is 0 or of an
 *      generation the one I mapped?        older generation?  then done
 *   W3 copy a piece, in one segment     R3 else let copies of those segments
 *   W4 busy = the same, again              take their place, and publish
 *   W5 as W2                               generation + 1
 *   (from W1 on for the next piece)
 *   W6 busy = 0
 *
 * W1, W2, W4, W5, R1 and R2 are sequentially consistent, W1, W4 and R1 as
 * exchanges, which are full fences where they need be. So:
 *
 * - If R2 finds the writer idle, then either its W6 came before, and all that
 *   it copied is in memory (W6 releases, R2 acquires); or its W1 is still to
 *   come, and W2 will see what R1 wrote: it copies nothing.
 * - If R2 finds it busy in a segment, then that is the only one in which it may
 *   still write: before the next comes another W1 and W2. If it does not leave,
 *   being stopped, R3 makes what it still does there harmless: its mapping is
 *   of the old file. Should it find word and generation unchanged at W5, then
 *   W5 is before R1 in the order of all these, so W4 is before R2, and R2 or R3
 *   read behind W4: all of W3 is in the copy. Hence what completed OK stays (F5).
 * - The same ballot granted anew cannot deceive W5: R2 had seen the writer idle,
 *   or generation was written before word, and W5 reads them the other way.
 * - A process that died in the middle of a write leaves its busy word behind.
 *   Its lock is free then, and whoever took the lock since has begun with W1
 *   after R1: the owner just clears the word.
 *
 * The revoker looks at the busy words of all peers, not only the last holder's:
 * the process that began the revocation of an earlier one may have died in it.
 *
 * A connection to oneself is like any other, with a mapping of its own: R3 must
 * get out of the way of the own data thread as well.
 */
#include "config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm_copy.h"
#include "shm_memory.h"

/* Completions that wait to be polled, a plane; posting is refused beyond. */
#define QUEUE_ENTRIES 1024
/* A write is copied in pieces of this size, so that a revoker waits for one at most. */
#define PIECE_BYTES (256u << 10)
/* How long a revoker waits for a writer to leave before it moves the memory. */
#define LEAVE_TIMEOUT_NS 1500000
#define LEAVE_POLL_NS 20000

struct connection {
	enum mu_connection state;
	struct shm_view view; /* kept while DOWN: reconnecting is cheap if it is current */
};

/* Of one plane, and used by its thread alone. */
struct plane {
	_Alignas(SHM_LINE_BYTES) struct connection connection[MU_ID_SLOTS];
	uint32_t head, tail; /* of the queue; they only grow */
	struct mu_completion queue[QUEUE_ENTRIES];
};

struct shm_fabric {
	struct mu_fabric base;
	struct mu_fabric_config config;
	struct memory_directory dir;
	int lock_fd;
	struct shm_memory memory;
	bool vacant; /* background plane: revoked since this process last granted */
	struct plane plane[MU_PLANES];
};

#ifdef MU_FAULTS
/* For the conformance suite's self-check: a revocation without R2 (1), or without R3 (2). */
extern int shm_fault;
int shm_fault;
#define FAULT_WITHOUT_R2 (shm_fault == 1)
#define FAULT_WITHOUT_R3 (shm_fault == 2)
#else
#define FAULT_WITHOUT_R2 0
#define FAULT_WITHOUT_R3 0
#endif

static struct shm_fabric *of(struct mu_fabric *fabric)
{
	return (struct shm_fabric *)fabric;
}

static struct connection *connection_of(struct shm_fabric *shm, enum mu_plane plane, unsigned peer)
{
	assert(plane == MU_PLANE_DATA || plane == MU_PLANE_BACKGROUND);
	assert(peer >= 1 && peer < MU_ID_SLOTS);
	return &shm->plane[plane].connection[peer];
}

/* ------------------------------------------------------------- connections */

/*
 * Whether the memory that is mapped is still the peer's: the peer tells it to
 * the own header if it is opened with other memory.
 */
static bool is_of_announced_incarnation(struct shm_fabric *shm, const struct connection *connection,
					unsigned peer)
{
	return atomic_load_explicit(&shm->memory.header->peer_incarnation[peer],
				    memory_order_acquire) ==
	       connection->view.header->identity.incarnation;
}

static void shm_connect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	struct shm_fabric *shm = of(fabric);
	struct connection *connection = connection_of(shm, plane, peer);
	uint64_t unknown = 0;

	if (connection->state == MU_CONNECTION_UP || !(shm->config.member_mask & (1U << peer)))
		return;
	if (!shm_view_is_current(&connection->view, &shm->dir, peer)) {
		shm_view_close(&connection->view);
		if (shm_view_open(&connection->view, &shm->dir, &shm->config, peer) != 0)
			return;
	}
	/* Not heard of this peer since the own memory was formatted: go by what is there. */
	atomic_compare_exchange_strong(&shm->memory.header->peer_incarnation[peer], &unknown,
				       connection->view.header->identity.incarnation);
	if (is_of_announced_incarnation(shm, connection, peer))
		connection->state = MU_CONNECTION_UP;
}

static enum mu_connection shm_state(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	return connection_of(of(fabric), plane, peer)->state;
}

/* Nothing is ever outstanding but completions, and what they tell has happened. */
static void shm_disconnect(struct mu_fabric *fabric, enum mu_plane plane, unsigned peer)
{
	connection_of(of(fabric), plane, peer)->state = MU_CONNECTION_DOWN;
}

/* -------------------------------------------------------------- operations */

static bool queue_is_full(const struct plane *plane)
{
	return plane->tail - plane->head == QUEUE_ENTRIES;
}

static void complete(struct plane *plane, struct connection *connection, unsigned peer,
		     uint64_t cookie, enum mu_fabric_status status)
{
	if (status != MU_FABRIC_OK)
		connection->state = MU_CONNECTION_DOWN;
	plane->queue[plane->tail++ % QUEUE_ENTRIES] =
		(struct mu_completion){cookie, (uint8_t)peer, (uint8_t)status};
}

static int shm_poll(struct mu_fabric *fabric, enum mu_plane which, struct mu_completion *out,
		    int max)
{
	struct plane *plane = &of(fabric)->plane[which];
	int taken = 0;

	while (taken < max && plane->head != plane->tail)
		out[taken++] = plane->queue[plane->head++ % QUEUE_ENTRIES];
	return taken;
}

/* What an operation must keep to, in any region; the caller's to get right. */
static void check_bounds(const struct shm_fabric *shm, enum mu_region region, uint64_t offset,
			 size_t len)
{
	assert(region == MU_REGION_BACKGROUND || region == MU_REGION_REPLICATION);
	assert(len <= shm->config.region_bytes[region]);
	assert(offset <= shm->config.region_bytes[region] - len);
}

/* W2 and W5. */
static enum mu_fabric_status may_write(const struct shm_view *view, uint64_t ballot)
{
	if (atomic_load(&view->header->word) != ballot)
		return MU_FABRIC_DENIED;
	if (atomic_load(&view->header->generation) != view->generation)
		return MU_FABRIC_UNREACHABLE;
	return MU_FABRIC_OK;
}

/*
 * Announce what comes next, and ask whether it is allowed. W1 and W2; and as
 * W4 and W5 it covers what was copied since.
 */
static enum mu_fabric_status enter(const struct shm_view *view, struct shm_busy *busy,
				   uint64_t offset, uint64_t ballot)
{
	unsigned segment = (unsigned)(offset >> view->segment_shift);

	atomic_exchange(&busy->writing, shm_busy_word(view->generation, segment));
	return may_write(view, ballot);
}

static enum mu_fabric_status write_log(const struct shm_view *view, struct shm_busy *busy,
				       uint64_t offset, const uint8_t *src, size_t len,
				       uint64_t ballot)
{
	const uint64_t segment = (uint64_t)1 << view->segment_shift;
	uint8_t *log = view->region[MU_REGION_REPLICATION];
	enum mu_fabric_status status;

	/* The line is on its way while the fence of W1 drains. */
	__builtin_prefetch(log + offset, 1);
	status = enter(view, busy, offset, ballot);
	while (status == MU_FABRIC_OK && len > 0) {
		uint64_t room = segment - (offset & (segment - 1));
		size_t piece = len < room ? len : room;

		if (piece > PIECE_BYTES)
			piece = PIECE_BYTES;
		shm_copy_out(log + offset, src, piece);
		status = enter(view, busy, offset, ballot);
		offset += piece;
		src += piece;
		len -= piece;
		if (status == MU_FABRIC_OK && len > 0 && piece == room)
			status = enter(view, busy, offset, ballot);
	}
	atomic_store_explicit(&busy->writing, 0, memory_order_release);
	return status;
}

static int shm_post_write(struct mu_fabric *fabric, enum mu_plane which, unsigned peer,
			  enum mu_region region, uint64_t offset, const void *src, size_t len,
			  uint64_t ballot, uint64_t cookie)
{
	struct shm_fabric *shm = of(fabric);
	struct connection *connection = connection_of(shm, which, peer);
	const struct shm_view *view = &connection->view;
	enum mu_fabric_status status = MU_FABRIC_OK;

	check_bounds(shm, region, offset, len);
	if (connection->state != MU_CONNECTION_UP || queue_is_full(&shm->plane[which]))
		return -1;
	if (!is_of_announced_incarnation(shm, connection, peer)) {
		status = MU_FABRIC_UNREACHABLE;
	} else if (region == MU_REGION_BACKGROUND) {
		assert(len <= SHM_LINE_BYTES);
		assert(offset % SHM_LINE_BYTES + len <= SHM_LINE_BYTES);
		shm_copy_out(view->region[region] + offset, src, len);
	} else if (SHM_BALLOT_HOLDER(ballot) != shm->config.id) {
		status = MU_FABRIC_DENIED;
	} else {
		status = write_log(view, &view->header->busy[shm->config.id][which], offset, src,
				   len, ballot);
	}
	complete(&shm->plane[which], connection, peer, cookie, status);
	return 0;
}

static int shm_post_read(struct mu_fabric *fabric, enum mu_plane which, unsigned peer,
			 enum mu_region region, uint64_t offset, void *dst, size_t len,
			 uint64_t cookie)
{
	struct shm_fabric *shm = of(fabric);
	struct connection *connection = connection_of(shm, which, peer);
	const struct shm_view *view = &connection->view;
	enum mu_fabric_status status = MU_FABRIC_OK;

	check_bounds(shm, region, offset, len);
	if (connection->state != MU_CONNECTION_UP || queue_is_full(&shm->plane[which]))
		return -1;
	shm_copy_in(dst, view->region[region] + offset, len);
	/*
	 * Judged after the copy, whose loads acquire: what was read had not been
	 * replaced before it was read to the end.
	 */
	if (!is_of_announced_incarnation(shm, connection, peer) ||
	    (region == MU_REGION_REPLICATION &&
	     atomic_load(&view->header->generation) != view->generation))
		status = MU_FABRIC_UNREACHABLE;
	complete(&shm->plane[which], connection, peer, cookie, status);
	return 0;
}

/* -------------------------------------------------------------- permission */

/* Segments that somebody writes into: one a writer at most. */
struct written {
	unsigned count;
	unsigned segment[MU_ID_SLOTS * MU_PLANES];
};

static void note(struct written *written, unsigned segment)
{
	for (unsigned i = 0; i < written->count; i++)
		if (written->segment[i] == segment)
			return;
	written->segment[written->count++] = segment;
}

/* R2 for one writer. */
static void look_at(struct shm_fabric *shm, unsigned peer, enum mu_plane plane,
		    struct written *written)
{
	_Atomic uint64_t *busy = &shm->memory.header->busy[peer][plane].writing;
	uint64_t seen = atomic_load(busy);

	if (shm_busy_generation(seen) != atomic_load(&shm->memory.header->generation))
		return;
	if (peer == shm->config.id || !memory_lock_is_free(&shm->dir, peer))
		note(written, shm_busy_segment(seen));
	else
		atomic_compare_exchange_strong(busy, &seen, 0);
}

static struct written look_at_all(struct shm_fabric *shm)
{
	struct written written = {0};

	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
		for (unsigned plane = 0; plane < MU_PLANES; plane++)
			look_at(shm, peer, (enum mu_plane)plane, &written);
	return written;
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/*
 * R2, for a while: what is still written into at the end of it. Sleeps in
 * between instead of yielding: this thread may run at a real-time priority, and
 * the writer that it waits for on this very core.
 */
static struct written wait_for_writers(struct shm_fabric *shm)
{
	const struct timespec pause = {0, LEAVE_POLL_NS};
	struct written written = look_at_all(shm);
	uint64_t deadline_ns;

	if (written.count == 0 || FAULT_WITHOUT_R2)
		return (struct written){0};
	deadline_ns = clock_ns() + LEAVE_TIMEOUT_NS;
	do {
		nanosleep(&pause, NULL);
		written = look_at_all(shm);
	} while (written.count > 0 && clock_ns() < deadline_ns);
	return written;
}

static int shm_revoke_write(struct mu_fabric *fabric)
{
	struct shm_fabric *shm = of(fabric);
	struct written written;

	atomic_exchange(&shm->memory.header->word, 0);
	written = wait_for_writers(shm);
	if (written.count > 0 && !FAULT_WITHOUT_R3 &&
	    shm_memory_replace(&shm->memory, &shm->dir, shm->config.id, written.segment,
			       written.count) != 0)
		return -1;
	shm->vacant = true;
	return 0;
}

/*
 * The caller has revoked before, but perhaps in a process that died in the
 * middle of it. So do it again, unless it was this process.
 */
static int shm_grant_write(struct mu_fabric *fabric, unsigned peer, uint64_t ballot)
{
	struct shm_fabric *shm = of(fabric);

	assert(peer >= 1 && peer < MU_ID_SLOTS);
	assert(SHM_BALLOT_HOLDER(ballot) == peer);
	if (atomic_load(&shm->memory.header->word) == ballot)
		return 0;
	if (!shm->vacant && shm_revoke_write(fabric) != 0)
		return -1;
	shm->vacant = false;
	atomic_store(&shm->memory.header->word, ballot);
	return 0;
}

/* ------------------------------------------------------------ open and close */

static void *shm_local(struct mu_fabric *fabric, enum mu_region region)
{
	return of(fabric)->memory.region[region];
}

static void shm_close(struct mu_fabric *fabric)
{
	struct shm_fabric *shm = of(fabric);

	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
			shm_view_close(&shm->plane[plane].connection[peer].view);
	shm_memory_close(&shm->memory);
	/* The lock last: with it free, nothing of this process may be under way. */
	close(shm->lock_fd);
	memory_directory_close(&shm->dir);
	free(shm);
}

static const struct mu_fabric_ops shm_ops = {
	.name = "shm",
	.connect = shm_connect,
	.state = shm_state,
	.disconnect = shm_disconnect,
	.post_write = shm_post_write,
	.post_read = shm_post_read,
	.poll = shm_poll,
	.revoke_write = shm_revoke_write,
	.grant_write = shm_grant_write,
	.local = shm_local,
	.close = shm_close,
};

int mu_fabric_shm_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		       const char *directory, char *err, size_t err_bytes)
{
	const struct memory_error error = {err, err_bytes};
	struct shm_fabric *shm;

	if (memory_check_config(config, &error) != 0)
		return -1;
	shm = aligned_alloc(SHM_LINE_BYTES, sizeof(*shm));
	if (shm == NULL)
		return memory_error_set(&error, "out of memory");
	memset(shm, 0, sizeof(*shm));
	shm->base.ops = &shm_ops;
	shm->config = *config;
	if (memory_directory_open(&shm->dir, directory, &error) != 0)
		goto free_shm;
	shm->lock_fd = memory_lock(&shm->dir, config->id, &error);
	if (shm->lock_fd < 0)
		goto close_directory;
	if (shm_memory_open(&shm->memory, &shm->dir, config, &error) != 0)
		goto unlock;
	*out = &shm->base;
	return 0;
unlock:
	close(shm->lock_fd);
close_directory:
	memory_directory_close(&shm->dir);
free_shm:
	free(shm);
	return -1;
}
