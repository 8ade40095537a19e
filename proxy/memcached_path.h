/*
 * memcached_path.h - what is special about Memcached on the path between the
 * pipeline and the backend: backends speak text and meta, whatever the client
 * speaks; and some answers have consequences for the other replicas.
 */
#ifndef MP_MEMCACHED_PATH_H
#define MP_MEMCACHED_PATH_H

#include <stdbool.h>

#include "buffer.h"
#include "memcached_listing.h"
#include "memcached_touched.h"
#include "net.h"
#include "request.h"
#include "slice.h"

struct mp_proxy;
struct mp_target;
struct mp_backend;

struct mp_memcached {
	/* Executed here, and to be logged once more before they are answered; by `place`. */
	struct mp_request_list follow_ups;
	struct mp_buffer out; /* a form of a request or a reply on its way */
	struct mp_listing listing;
	struct mp_touched touched; /* while the server is being filled */
	struct mp_address address; /* of the server, looked up once */
};

void mp_memcached_init(struct mp_memcached *memcached);
/* False: one line in err. */
bool mp_memcached_open(struct mp_proxy *proxy, char *err, size_t err_bytes);
void mp_memcached_close(struct mp_proxy *proxy);

/* The values and flags that the backend takes. */
void mp_memcached_set_limits(struct mp_proxy *proxy, const struct mp_backend *backend);

/* A read in the backend's form; good until the next call here. Empty: out of memory. */
struct mp_slice mp_memcached_question(struct mp_proxy *proxy, const struct mp_request *r);
/*
 * What the client of an executed request is answered; good until the next call
 * here. reply: the backend's, whole; empty: there was nothing to execute.
 */
struct mp_slice mp_memcached_reply(struct mp_proxy *proxy, const struct mp_target *target,
				   const struct mp_request *r, struct mp_slice reply);
/*
 * Does the leader's backend's reply concern the others? A store that failed
 * here may have succeeded there: it is followed by a logged delete, and answered
 * after it (true: r is not the caller's any more). A win that mg handed out is
 * noted by a logged mg.
 */
bool mp_memcached_follow_up(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice reply);
/* Once a turn, as leader: log them. */
void mp_memcached_run(struct mp_proxy *proxy);
/* The pipeline was abandoned. */
void mp_memcached_abandon(struct mp_proxy *proxy, uint64_t ballot);

#endif
