/*
 * large_order.h - a client's requests behind a large read (large_reads.h), which must not see
 * less of what is written than it does: they wait, and those under way are asked again.
 */
#ifndef MP_LARGE_ORDER_H
#define MP_LARGE_ORDER_H

#include <stdbool.h>

#include "request.h"

struct mp_proxy;

/*
 * All of its client's requests that came later, and may be with the server, wait from here
 * on. False: there is one that cannot be asked again, and all is as it was, or the client's
 * connection is being closed.
 */
bool mp_large_recall(struct mp_proxy *proxy, struct mp_request *r);
/* r, relayed, goes into `held`, in the order of its client's requests. */
void mp_large_hold(struct mp_proxy *proxy, struct mp_request *r);

#endif
