/*
 * tcp_target.h - the own memory in the tcp fabric, as operations are executed
 * on it: by the service threads for the peers, and by a plane's own thread for
 * a connection to oneself.
 *
 * A write to the replication region is copied piece by piece. For each piece
 * the permission is checked, and the piece copied, under one lock; revocation
 * changes the permission under that lock. So when revoke has returned, no
 * piece is being copied, and none will be (F4): the writer has no part in it,
 * be it running, stopped or dead. `revocations` counts them: a write all of
 * whose pieces saw the same count had the permission from its first byte to
 * its last (F5), although the same ballot may be granted again.
 */
#ifndef MU_TCP_TARGET_H
#define MU_TCP_TARGET_H

#include <pthread.h>
#include <stdbool.h>

#include "own_memory.h"
#include "tcp_wire.h"

/* What the memory's header notes: who is in the middle of a write, for whoever looks at it. */
struct tcp_notes {
	_Atomic uint64_t writing[MU_ID_SLOTS][MU_PLANES];
};
static_assert(sizeof(struct tcp_notes) <= OWN_MEMORY_NOTES_BYTES, "they fit");

struct tcp_target {
	struct mu_fabric_config config;
	struct own_memory memory;
	pthread_mutex_t lock; /* the permission's, and of copies to the replication region */
	uint64_t revocations;
	bool vacant; /* background plane: revoked since this process last granted */
};

/* One write, from its first piece to its last. */
struct tcp_permit {
	bool begun;
	uint64_t revocations;
};

int tcp_target_open(struct tcp_target *target, const struct mu_fabric_config *config,
		    const char *directory, char *err, size_t err_bytes);
void tcp_target_close(struct tcp_target *target);

/* What is wrong with a request; NULL: it may be executed. */
const char *tcp_target_fault(const struct tcp_target *target, const struct tcp_request *request);

/*
 * Copy a piece of a write from src. Pieces of the replication region but the
 * last end where a word does; the background region's come whole. False: it is
 * not permitted, and nothing was copied.
 */
bool tcp_target_write(struct tcp_target *target, unsigned peer, const struct tcp_request *request,
		      struct tcp_permit *permit, uint64_t offset, const uint8_t *src, size_t len);
/* Copy a piece of a region out to dst; pieces but the last end where a word does. */
void tcp_target_read(struct tcp_target *target, enum mu_region region, uint64_t offset,
		     uint8_t *dst, size_t len);
/* Show in the memory that a peer is in the middle of a write, or is not. */
void tcp_target_show_writing(struct tcp_target *target, unsigned peer, enum mu_plane plane,
			     bool writing);

void tcp_target_revoke(struct tcp_target *target);
void tcp_target_grant(struct tcp_target *target, unsigned peer, uint64_t ballot);

#endif
