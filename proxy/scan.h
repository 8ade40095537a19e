/*
 * scan.h - cursors of SCAN, SSCAN, HSCAN and ZSCAN, which outlive servers.
 *
 * A server's cursor is a place in its own hash table; another's tables are in
 * another order, for each start of a server has a secret of its own to hash by. So
 * a client is given the cursor with a tag in its upper bits, which names the server
 * (by its replica and the start that it is). Who is given a cursor of another
 * server's begins anew: what was there throughout is returned once more, which SCAN
 * may do, rather than not at all. A scan that is under way when the leader dies
 * takes up to twice as long, and ends unless leaders go on dying.
 *
 * Cursors have 63 bits: 36 of the server's (tables of 2^36 places are beyond any
 * memory), 3 of the replica's id, 24 of a hash of the server's run id.
 */
#ifndef MP_SCAN_H
#define MP_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "resp.h"
#include "slice.h"

enum { MP_SCAN_HEAD_BYTES = 64 };

/* Never 0. */
uint32_t mp_scan_tag(unsigned replica, const char *run_id);
/* Which server the request's cursor is of; 0: it is where scans begin, or no cursor at all. */
uint32_t mp_scan_tag_of(const struct resp_request *request);
/* Append the request as the server of that tag is to be given it. False: out of memory. */
bool mp_scan_question(const struct resp_request *request, uint32_t tag, struct mp_buffer *out);
/*
 * What stands for the first *used bytes of that server's reply, which are there; 0:
 * the reply is the client's as it is. restarts: the question's cursor was of another
 * server, so whatever was found, it is not over.
 */
size_t mp_scan_head(struct mp_slice reply, uint32_t tag, bool restarts,
		    char out[MP_SCAN_HEAD_BYTES], size_t *used);

#endif
