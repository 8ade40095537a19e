/*
 * memcached_transfer.h - Memcached's way of state transfer (transfer.h): a server that had
 * to be emptied (memcached_restart.h) is filled again with the items of another replica's,
 * behind its own service, since an empty cache is fit to serve.
 *
 * What is copied may be lost on the way, and never be old:
 *
 *   from       the end that is filled notes the LSN up to which entries were handed to its
 *              server, ever, and from there on which keys the log touches
 *              (memcached_touched.h);
 *   settled    the donor waits until its server has executed all up to there, the
 *              deletes behind stores that failed included. So a key that was not touched
 *              since has there the value that it had at that LSN, or none;
 *   listed     it lists its items (lru_crawler metadump hash, which leaves none out) and
 *              reads each, over connections of its own. Behind what it has read it says
 *              up to which LSN entries had been handed to its server when the last answer
 *              came: nothing that it has read is newer;
 *   added      when the log was handed on here so far, each item whose key was not touched
 *              goes to the server as an `add`, over the connection that the log takes: it
 *              is the value that the key has at this very place of the log. What the log
 *              brings later comes behind it.
 *
 * An item that is marked as stale or won stays away; so that reading it has taken its win
 * from nobody, it is marked anew. Deadlines are the donor's, in seconds, rounded down.
 * Everything that is flushed in the meantime ends it, for there is nothing more to copy;
 * a donor whose server has a flush before it (flush_all with a delay), of which the other
 * one knows nothing, declines.
 *
 * If either server or its connection is lost it begins anew, from a later LSN: what was
 * added is right, and is not added again. So it is if the proxy ends: until all was copied
 * the server is marked as partial (backend.h), which has its successor go on.
 */
#ifndef MP_MEMCACHED_TRANSFER_H
#define MP_MEMCACHED_TRANSFER_H

#include "transfer.h"

enum memcached_note {
	/* To the donor, first: its server has to have applied LSN b of era a. */
	MEMCACHED_NOTE_FROM = 1,
	/* From it: it holds a items, b bytes. */
	MEMCACHED_NOTE_TOTAL,
	/* What has come until here was read when LSN b of era a, at most, was handed on. */
	MEMCACHED_NOTE_READ,
	/* That was all. */
	MEMCACHED_NOTE_END,
};

extern const struct mp_restorer mp_memcached_restorer;
extern const struct mp_donor mp_memcached_donor;

#endif
