/* tcp_target.c - see tcp_target.h. */
#include "config.h"

#include <assert.h>
#include <stdatomic.h>

#include "shm_copy.h"
#include "tcp_target.h"

#define LINE_BYTES 64u

#ifdef MU_FAULTS
#include <time.h>

/*
 * For the conformance suite's self-check: a revocation that does not wait for
 * the copy of a piece (1), or one that lets a write under way go on (2). A copy
 * takes microseconds, so that a revocation would meet one by chance, once in
 * some hundred rounds: the broken one dawdles before it copies.
 */
extern int tcp_fault;
int tcp_fault;
#define FAULT_WITHOUT_LOCK (tcp_fault == 1)
#define FAULT_LETS_FINISH (tcp_fault == 2)
#define FAULT_DAWDLE() nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL)
#else
#define FAULT_WITHOUT_LOCK 0
#define FAULT_LETS_FINISH 0
#define FAULT_DAWDLE() ((void)0)
#endif

/* ------------------------------------------------------------ open and close */

/*
 * Whoever revokes may run at a real-time priority, and whoever copies not: then
 * the latter must be lent it while it is waited for.
 */
static void init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

static void clear_writing(struct tcp_target *target)
{
	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
		for (unsigned plane = 0; plane < MU_PLANES; plane++)
			tcp_target_show_writing(target, peer, (enum mu_plane)plane, false);
}

int tcp_target_open(struct tcp_target *target, const struct mu_fabric_config *config,
		    const char *directory, char *err, size_t err_bytes)
{
	*target = (struct tcp_target){.config = *config};
	if (own_memory_open(&target->memory, config, directory, err, err_bytes) != 0)
		return -1;
	init_lock(&target->lock);
	clear_writing(target);
	return 0;
}

void tcp_target_close(struct tcp_target *target)
{
	pthread_mutex_destroy(&target->lock);
	own_memory_close(&target->memory);
}

/* --------------------------------------------------------------- operations */

const char *tcp_target_fault(const struct tcp_target *target, const struct tcp_request *request)
{
	size_t bytes;

	if (request->op == TCP_NUDGE)
		return request->region || request->zero || request->len || request->offset ||
				       request->ballot
			       ? "an operation out of bounds"
			       : NULL;
	if (request->op != TCP_WRITE && request->op != TCP_READ)
		return "an operation that does not exist";
	if (request->region != MU_REGION_BACKGROUND && request->region != MU_REGION_REPLICATION)
		return "a region that is nobody else's";
	bytes = target->config.region_bytes[request->region];
	if (request->zero != 0 || request->len == 0 || request->len > bytes ||
	    request->offset > bytes - request->len)
		return "an operation out of bounds";
	if (request->op == TCP_WRITE && request->region == MU_REGION_BACKGROUND &&
	    request->offset % LINE_BYTES + request->len > LINE_BYTES)
		return "a write of more than a line";
	return NULL;
}

static bool is_permitted(struct tcp_target *target, unsigned peer, uint64_t ballot,
			 struct tcp_permit *permit)
{
	bool begun = permit->begun;

	permit->begun = true;
	if (begun && FAULT_LETS_FINISH) {
		FAULT_DAWDLE();
		return true;
	}
	if (OWN_MEMORY_BALLOT_HOLDER(ballot) != peer ||
	    atomic_load(&target->memory.header->word) != ballot)
		return false;
	if (!begun)
		permit->revocations = target->revocations;
	return permit->revocations == target->revocations;
}

bool tcp_target_write(struct tcp_target *target, unsigned peer, const struct tcp_request *request,
		      struct tcp_permit *permit, uint64_t offset, const uint8_t *src, size_t len)
{
	uint8_t *to = target->memory.region[request->region] + offset;
	bool permitted;

	if (request->region == MU_REGION_BACKGROUND) {
		shm_copy_out(to, src, len);
		return true;
	}
	pthread_mutex_lock(&target->lock);
	permitted = is_permitted(target, peer, request->ballot, permit);
	if (FAULT_WITHOUT_LOCK) {
		pthread_mutex_unlock(&target->lock);
		FAULT_DAWDLE();
	}
	if (permitted)
		shm_copy_out(to, src, len);
	if (!FAULT_WITHOUT_LOCK)
		pthread_mutex_unlock(&target->lock);
	return permitted;
}

void tcp_target_read(struct tcp_target *target, enum mu_region region, uint64_t offset,
		     uint8_t *dst, size_t len)
{
	shm_copy_in(dst, target->memory.region[region] + offset, len);
}

void tcp_target_show_writing(struct tcp_target *target, unsigned peer, enum mu_plane plane,
			     bool writing)
{
	struct tcp_notes *notes = (struct tcp_notes *)(void *)target->memory.header->notes;

	atomic_store_explicit(&notes->writing[peer][plane], writing, memory_order_relaxed);
}

/* --------------------------------------------------------------- permission */

void tcp_target_revoke(struct tcp_target *target)
{
	pthread_mutex_lock(&target->lock);
	atomic_store(&target->memory.header->word, 0);
	target->revocations++;
	pthread_mutex_unlock(&target->lock);
	target->vacant = true;
}

/*
 * The caller has revoked before, perhaps in a process that is no more; what
 * that one executed ended with it.
 */
void tcp_target_grant(struct tcp_target *target, unsigned peer, uint64_t ballot)
{
	assert(peer >= 1 && peer < MU_ID_SLOTS);
	assert(OWN_MEMORY_BALLOT_HOLDER(ballot) == peer);
	if (atomic_load(&target->memory.header->word) == ballot)
		return;
	if (!target->vacant)
		tcp_target_revoke(target);
	target->vacant = false;
	pthread_mutex_lock(&target->lock);
	atomic_store(&target->memory.header->word, ballot);
	pthread_mutex_unlock(&target->lock);
}
