/* tcp_raw.h - a member of a group whose end of the tcp fabric's streams the test has itself. */
#ifndef MU_CONFORMANCE_TCP_RAW_H
#define MU_CONFORMANCE_TCP_RAW_H

#include "fabric/tcp_wire.h"
#include "mu_peering.h"
#include "peering.h"
#include "tcp_fixture.h"

#define RAW_ID 3
#define RAW_BALLOT BALLOT(1, RAW_ID)

/* A member without a fabric, that says on its streams what it likes. */
struct raw {
	struct group *group;
	struct mu_fabric *target;
	const uint8_t *memory;
	struct peering *peering;
	struct mu_peering *base;
	_Atomic int stream;          /* the last that came; -1: none, -2: failed */
	_Atomic int dialled_by_peer; /* likewise; replica 1's, who takes this for a fabric */
	uint32_t sequence;
};

/* In a group of its own, with replica 2, which it may write. */
void raw_start(struct raw *raw);
void raw_stop(struct raw *raw);
/* A new stream to replica 2, which has been welcomed. */
int raw_dial(struct raw *raw);
/* So many bytes, which must come. */
void raw_read(int fd, void *to, size_t bytes);
void raw_send(int fd, const void *bytes, size_t len);

#endif
