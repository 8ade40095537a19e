/*
 * mu_verbs.h - the verbs fabric (mu_fabric.h): replicas on several hosts, over
 * RDMA by InfiniBand or RoCE v2 and libibverbs. There only if libmu was
 * configured with verbs.
 */
#ifndef MU_VERBS_H
#define MU_VERBS_H

#include <stdio.h>

#include "mu_fabric.h"
#include "mu_peering.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How revoke_write() makes certain that nothing lands any more. */
enum mu_verbs_barrier {
	/* It destroys the holder's queue pair: strict (F4). */
	MU_VERBS_BARRIER_QUEUE_PAIR = 0,
	/*
	 * It does nothing beyond taking the access right away: a write that is
	 * being executed at that moment may still land, against F4. For measuring
	 * what the barrier costs, and to see that tests notice.
	 */
	MU_VERBS_BARRIER_NONE,
};

/* Zero, but for gid_index, means: choose. */
struct mu_verbs_options {
	const char *device;     /* "mlx5_0"; NULL: choose */
	unsigned port;          /* from 1 on; 0: choose */
	int gid_index;          /* -1: choose */
	unsigned service_level; /* 0 to 15 */
	unsigned traffic_class; /* 0 to 255; of packets that carry a GID, as all of RoCE do */
	/* The partition to be in, by its place in the port's table of P_Keys. */
	unsigned pkey_index;
	enum mu_verbs_barrier barrier;
	/*
	 * How the device goes about a peer that does not answer: it sends again
	 * after 4.096 us * 2^transport_timeout (1 to 31), transport_retries times
	 * (0 to 6). 0 and -1: chosen to fit op_timeout_ns, which holds in any case.
	 */
	unsigned transport_timeout;
	int transport_retries;
	/* Told, in one line, of what an operator may want to know; any thread. NULL: nobody. */
	void (*say)(void *ctx, const char *line);
	void *say_ctx;
};
void mu_verbs_options_init(struct mu_verbs_options *options);

/*
 * Open a replica's fabric; its memory lies in a file of `directory` (tmpfs,
 * hugetlbfs or persistent memory), its connections are arranged for over
 * `peering`, which must live longer. Returns 0 and *out, or -1 with one line in
 * err. It has a thread of its own, which makes queue pairs.
 */
int mu_fabric_verbs_open(struct mu_fabric **out, const struct mu_fabric_config *config,
			 const struct mu_verbs_options *options, const char *directory,
			 struct mu_peering *peering, char *err, size_t err_bytes);

/* What a fabric chose, in words: "rxe0 port 1, GID 1 (::ffff:10.77.0.1, RoCE v2), MTU 4096". */
const char *mu_verbs_describe(const struct mu_fabric *fabric);

/* The last revocation that found a holder, in ns. */
struct mu_verbs_revocation {
	uint64_t count;      /* of all that did */
	uint64_t flags_ns;   /* taking the access right away */
	uint64_t barrier_ns; /* making certain */
};
/* On the thread that revokes. */
struct mu_verbs_revocation mu_verbs_last_revocation(const struct mu_fabric *fabric);

/* Is there a device, as these options have it, that could be used? Else why not, in err. */
bool mu_verbs_is_usable(const struct mu_verbs_options *options, char *err, size_t err_bytes);
/* List devices, ports and GIDs, with a mark at what would be chosen. Returns how many ports. */
int mu_verbs_list(FILE *out, const struct mu_verbs_options *options);

#ifdef __cplusplus
}
#endif
#endif
