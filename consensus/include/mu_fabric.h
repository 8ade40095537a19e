/*
 * mu_fabric.h - the fabric contract: asynchronous one-sided memory access
 * between the replicas of a group, and the write permission that decides who
 * may change whose log (Mu, OSDI 2020, sections 3.2 and 5.2).
 *
 * One fabric instance belongs to one replica. It owns that replica's three
 * memory regions and its connections to every peer. It is used by two threads
 * at once, one a plane; see each function for which plane may call it.
 *
 * The contract, which tests/conformance holds every fabric to:
 *
 *  F1  Operations posted on one connection (plane, peer) execute in posting
 *      order and complete in posting order. Connections are independent.
 *  F2  The bytes of one write may become visible piecewise and in any order;
 *      two writes of one connection become visible in order.
 *  F3  A write to the replication region by a peer that does not hold the
 *      write permission changes no memory and completes MU_FABRIC_DENIED.
 *      A fabric that can no longer ask the target answers UNREACHABLE.
 *  F4  When revoke_write() has returned 0, no write of a former holder can
 *      land any more, whatever was in flight, and whether that peer runs, is
 *      stopped or is dead.
 *  F5  A write that completed MU_FABRIC_OK was wholly in the target's memory,
 *      under permission from its first byte to its last, and stays there. A
 *      write that completed otherwise may have landed wholly, partly or not.
 *  F6  Reads need no permission. A read may be torn against a concurrent
 *      write, but an aligned 8-byte word never is.
 *  F7  Every operation completes within the fabric's op_timeout; of when the
 *      one before it did, or a part of it arrived, where that was later.
 *  F8  After an operation completed with an error its connection is DOWN:
 *      what was posted behind it completes UNREACHABLE, behind a DENIED one
 *      without effect, and posting is refused, until connect() has brought it
 *      UP again. Nothing posted before takes effect once it is UP.
 *  F9  Memory outlives the process, and permission with it, exactly as far as
 *      the medium does; memory that did not survive is formatted anew before
 *      any peer can reach it.
 */
#ifndef MU_FABRIC_H
#define MU_FABRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Replica ids are 1..MU_MAX_REPLICAS; arrays by id leave element 0 unused. */
#define MU_MAX_REPLICAS 7
#define MU_ID_SLOTS (MU_MAX_REPLICAS + 1)

/*
 * Who is using the fabric: each plane has connections and completions of its own.
 * Those of the data plane are for the replication region, those of the background
 * plane for the background region; a fabric may deny all else.
 */
enum mu_plane {
	MU_PLANE_DATA = 0,       /* the data thread: log writes and reads */
	MU_PLANE_BACKGROUND = 1, /* the background thread: heartbeats, permissions */
};
#define MU_PLANES 2

enum mu_region {
	MU_REGION_BACKGROUND = 0,  /* every peer may read and write it at any time */
	MU_REGION_REPLICATION = 1, /* every peer may read it; one holder may write it */
	MU_REGION_PRIVATE = 2,     /* never remote; persists like the others */
};
#define MU_REGIONS 3

enum mu_fabric_status {
	MU_FABRIC_OK = 0,
	MU_FABRIC_DENIED,      /* no write permission: memory unchanged by this write */
	MU_FABRIC_UNREACHABLE, /* the target cannot be reached, or the connection was lost */
};

enum mu_connection {
	MU_CONNECTION_DOWN = 0,   /* posting is refused; call connect() */
	MU_CONNECTION_CONNECTING, /* connect() is under way; posting is refused */
	MU_CONNECTION_UP,
};

struct mu_completion {
	uint64_t cookie; /* as posted */
	uint8_t peer;
	uint8_t status; /* enum mu_fabric_status */
};

struct mu_fabric;

/*
 * All functions return at once; none blocks on a peer, but revoke_write(),
 * which may wait for at most about a millisecond before it falls back on a
 * means that needs no wait. `plane` names the calling thread's own plane.
 */
struct mu_fabric_ops {
	const char *name; /* "shm", "verbs", "tcp", "sim" */

	/*
	 * Begin (again) to connect to a peer. Cheap to call repeatedly: a no-op
	 * while CONNECTING or UP. What happened shows in state(); but where a grant
	 * needs no connection, that the peer has other memory by now may show only
	 * when something is posted.
	 */
	void (*connect)(struct mu_fabric *, enum mu_plane plane, unsigned peer);
	enum mu_connection (*state)(struct mu_fabric *, enum mu_plane plane, unsigned peer);
	/* Drop a connection: outstanding operations complete UNREACHABLE. */
	void (*disconnect)(struct mu_fabric *, enum mu_plane plane, unsigned peer);

	/*
	 * Write len bytes of src to a peer's region at offset. src must not
	 * change until the completion. `ballot` is the ballot under which the
	 * caller believes to hold the permission of the replication region (a
	 * fabric whose permission is per connection may ignore it); it is 0 for
	 * the background region. offset + len must lie in the region; the
	 * background region takes writes of at most 64 bytes that do not cross a
	 * 64-byte line.
	 * Returns 0, or -1 if posting is refused (connection not UP, queue full).
	 */
	int (*post_write)(struct mu_fabric *, enum mu_plane plane, unsigned peer,
			  enum mu_region region, uint64_t offset, const void *src, size_t len,
			  uint64_t ballot, uint64_t cookie);
	/* Read len bytes of a peer's region into dst. Same rules. */
	int (*post_read)(struct mu_fabric *, enum mu_plane plane, unsigned peer,
			 enum mu_region region, uint64_t offset, void *dst, size_t len,
			 uint64_t cookie);
	/*
	 * What was posted may wait until here or poll(), so that it leaves in as
	 * few system calls as can be. NULL: it never does.
	 */
	void (*flush)(struct mu_fabric *, enum mu_plane plane);
	/*
	 * A descriptor that is readable (level-triggered) while poll() has
	 * something to do, for those who would rather sleep than ask again. It
	 * stays the same for the life of the fabric. NULL: operations are over
	 * when they were posted. What a timeout ends shows in poll() alone.
	 */
	int (*wait_fd)(struct mu_fabric *, enum mu_plane plane);
	/* Take up to max completions of a plane; returns how many. Never blocks. */
	int (*poll)(struct mu_fabric *, enum mu_plane plane, struct mu_completion *out, int max);

	/*
	 * Target side, background plane only. At most one peer holds the write
	 * permission of the own replication region; it holds it for one ballot.
	 * revoke_write() takes it from whoever holds it (F4); it returns 0, or -1
	 * if that could not be made certain (then nothing may be granted: try
	 * again). grant_write() gives it to a peer, for a ballot; the caller has
	 * revoked before. Granting the same peer and ballot again is allowed.
	 * Returns 0, or -1 if the connection on which that peer would write is not
	 * there yet: it connects first.
	 */
	int (*revoke_write)(struct mu_fabric *);
	int (*grant_write)(struct mu_fabric *, unsigned peer, uint64_t ballot);

	/*
	 * Any thread: that peer is none of the group any more, and its process has ended;
	 * what is kept for it alone is given up. Should it come again, it is connected to
	 * like one that is new. NULL: nothing is kept that the end of it does not free.
	 */
	void (*forget)(struct mu_fabric *, unsigned peer);

	/*
	 * The own region's memory. The address stays the same for the life of
	 * the fabric, also when a revocation replaces what is behind it.
	 */
	void *(*local)(struct mu_fabric *, enum mu_region region);

	void (*close)(struct mu_fabric *);
};

/* A fabric is a struct that begins with this one. */
struct mu_fabric {
	const struct mu_fabric_ops *ops;
};

/*
 * Fill fresh memory before any peer can reach it (F9). Called by a fabric's
 * open function when there is no memory to resume from; regions are zeroed.
 */
typedef void mu_format_fn(void *ctx, void *regions[MU_REGIONS]);

/* What every fabric's open function is told of its replica. */
struct mu_fabric_config {
	uint64_t group_id;
	unsigned id; /* own id */
	/*
	 * Bit i: replica i is a member, or may become one, the own one included. Those that
	 * are not there yet are connected to once they are (and a peering has met them).
	 */
	uint32_t member_mask;
	size_t region_bytes[MU_REGIONS];
	uint64_t op_timeout_ns;
	mu_format_fn *format;
	void *format_ctx;
};

/*
 * The shm fabric: all replicas on one host, regions in named files of one
 * directory (tmpfs, hugetlbfs or persistent memory). Opening takes a lock on
 * the replica's file, so that an id runs once; memory from another boot of
 * the machine counts as lost. Returns 0 and *out, or -1 with a one-line
 * reason in err.
 */
int mu_fabric_shm_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		       const char *directory, char *err, size_t err_bytes);

/*
 * The tcp fabric: replicas anywhere, joined by a peering (mu_peering.h), each
 * with a thread a plane that executes what its peers post. Memory is in named
 * files as with shm. Attaches to the peering, which must outlive it.
 */
struct mu_peering;
struct mu_fabric_tcp_options {
	const char *directory;
	struct mu_peering *peering;
	/*
	 * How long the thread that serves the data plane looks for more before it
	 * sleeps; UINT64_MAX: it never sleeps, and wants a core for itself.
	 */
	uint64_t spin_ns;
	/* Told, on any thread, a line about what a peer did wrong; may be NULL. */
	void (*log)(void *ctx, const char *line);
	void *log_ctx;
};
int mu_fabric_tcp_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		       const struct mu_fabric_tcp_options *options, char *err, size_t err_bytes);

#ifdef __cplusplus
}
#endif
#endif
