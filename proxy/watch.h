/*
 * watch.h - WATCH, at the leader. Every write that goes into the pipeline
 * touches the keys that it may change; a key that was touched after it was watched
 * fails the EXEC. Keys share a fixed table by their hash, so a stranger's write
 * may fail an EXEC, too, and so does a write that in the end changes nothing, for
 * what is under a key the leader does not know before the log has said it:
 * a client that watches is prepared to try again. (DETERMINISM, Redis 13.)
 *
 * Tokens name the ballot: what was watched under another leader, who knows
 * what has happened since?
 */
#ifndef MP_WATCH_H
#define MP_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "command.h"
#include "request.h"
#include "resp.h"
#include "slice.h"

struct mp_proxy;

struct mp_watch {
	uint64_t ballot;                /* under which the rest counts */
	uint64_t touches;               /* so far */
	uint64_t all[MP_MAX_DATABASES]; /* by database: the last that touched every key there */
	uint64_t *touched; /* by hash: the last one there; NULL: nobody has watched yet */
};

void mp_watch_close(struct mp_watch *watch);
/* Has anybody watched a key? */
bool mp_watch_is_on(const struct mp_proxy *proxy);
/* WATCH: answers with a token, "+<ballot> <touches>\r\n". */
void mp_watch_add(struct mp_proxy *proxy, struct mp_request *r);
/* A write goes into the pipeline. */
void mp_watch_touch(struct mp_proxy *proxy, uint32_t database, const struct mp_command *command,
		    const struct resp_request *request);
void mp_watch_touch_key(struct mp_proxy *proxy, uint32_t database, struct mp_slice key);
/* Nobody has touched what a transaction's envelope names: <ballot> <touches> <database> <key> ...
 */
bool mp_watch_holds(struct mp_proxy *proxy, const struct resp_request *envelope);

#endif
