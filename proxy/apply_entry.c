/* apply_entry.c - see apply_entry.h. */
#include "apply_entry.h"

#include <assert.h>
#include <string.h>

#include "answer.h"
#include "log.h"
#include "state.h"

/* What an entry holds for a target, and whether the target takes it. */
struct share {
	bool takes, present, begun, blind;
	bool speaks, is_marked; /* pubsub.h */
	uint32_t database;      /* of its first record */
};

static bool takes(const struct mp_target *target, uint64_t lsn)
{
	return target->backend && target->state == MP_BACKEND_READY && lsn > target->handed_lsn;
}

/* False: a payload that this program does not understand. */
static bool survey(struct mp_proxy *proxy, const struct mu_entry *entry, struct share *share)
{
	struct mp_record_view record;
	enum mp_record_result result;
	size_t at = 0;

	for (unsigned i = 0; i < MP_TARGETS; i++)
		share[i] = (struct share){.takes = takes(&proxy->apply.target[i], entry->lsn),
					  .blind = true};
	while ((result = mp_record_next(entry->payload, entry->payload_bytes, &at, &record)) ==
	       MP_RECORD_OK) {
		struct share *mine = &share[mp_target_index(record.head.protocol)];

		if (record.wire.len == 0 || record.head.flags & MP_RECORD_DIGEST)
			continue;
		if (!mine->present)
			mine->database = record.head.database;
		mine->present = true;
		mine->speaks = mine->speaks || (record.head.flags & MP_RECORD_SPEAKS);
		mine->blind = mine->blind && (record.head.flags & MP_RECORD_BLIND);
	}
	return result == MP_RECORD_END;
}

/* lsn 0: the end. */
static void put_mark(struct mp_proxy *proxy, const struct share *share, uint64_t lsn)
{
	struct mp_backend *backend = mp_target_of(proxy, MP_REDIS)->backend;
	char mark[MP_PUBSUB_MARK_BYTES];
	size_t len = mp_pubsub_put_mark(&proxy->pubsub, lsn, mark);

	backend->ops->write(backend, share->database, (struct mp_slice){mark, len}, 1, NULL);
}

static void begin(struct mp_proxy *proxy, const struct mu_entry *entry, struct share *share)
{
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_backend *backend = proxy->apply.target[i].backend;

		share[i].begun = share[i].takes && share[i].present;
		if (!share[i].begun)
			continue;
		backend->ops->begin(backend, entry->lsn, share[i].blind);
		share[i].is_marked = proxy->apply.target[i].protocol == MP_REDIS &&
				     mp_pubsub_marks(proxy, entry->lsn, share[i].speaks);
		if (share[i].is_marked)
			put_mark(proxy, &share[i], entry->lsn);
	}
}

static void end(struct mp_proxy *proxy, const struct mu_entry *entry, const struct share *share)
{
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &proxy->apply.target[i];

		if (!share[i].takes)
			continue;
		if (share[i].is_marked)
			put_mark(proxy, &share[i], 0);
		if (share[i].begun)
			target->backend->ops->end(target->backend);
		else
			target->backend->ops->skip(target->backend, entry->lsn);
		target->handed_lsn = entry->lsn;
		if (entry->lsn > target->passed_lsn)
			target->passed_lsn = entry->lsn;
	}
}

/* Out of memory for a canned reply costs its client the answer, not the write. */
static bool keep_canned(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice reply)
{
	mp_bytes_release(&proxy->chunks, &r->canned);
	r->has_spare = false;
	if (reply.len == 0)
		return true;
	return mp_chunks_copy(&proxy->chunks, reply, &r->canned);
}

/* A decision that came to nothing. */
static void answer_unexecuted(struct mp_proxy *proxy, struct mp_target *target,
			      struct mp_request *r, struct mp_slice reply)
{
	if (r->meta.protocol == MP_MEMCACHED && keep_canned(proxy, r, reply))
		reply = mp_memcached_reply(proxy, target, r, (struct mp_slice){0});
	mp_answer(proxy, r, reply, true);
}

/* r: whose write it is, in no list, or NULL. */
static void hand_record(struct mp_proxy *proxy, const struct mp_record_view *record, uint64_t lsn,
			struct mp_request *r)
{
	struct mp_target *target = mp_target_of(proxy, record->head.protocol);
	struct mp_backend *backend = target->backend;

	if (record->head.flags & MP_RECORD_DIGEST) {
		if (target->protocol == MP_MEMCACHED)
			mp_memcached_digest_note(proxy, record);
		else
			mp_digest_note(proxy, record);
		return;
	}
	if (r) {
		r->lsn = lsn;
		if (record->wire.len == 0) {
			answer_unexecuted(proxy, target, r, record->reply);
			return;
		}
		if (keep_canned(proxy, r, record->reply)) {
			mp_apply_expect(target, r);
			r->wakes = record->head.flags & MP_RECORD_WAKES;
		} else {
			mp_answer_error(proxy, r,
					"ERR muproxy: executed, but out of memory for "
					"the reply");
			r = NULL;
		}
	}
	if (record->head.flags & MP_RECORD_TRANSACTION)
		backend->ops->transaction(backend, record->head.database, record->wire,
					  (int)record->head.commands, r);
	else if (record->wire.len > 0)
		backend->ops->write(backend, record->head.database, record->wire,
				    (int)record->head.commands, r);
	if (target->protocol == MP_MEMCACHED && proxy->memcached.touched.slot)
		mp_touched_note(&proxy->memcached.touched, record->wire);
	if (record->head.flags & MP_RECORD_DEADLINES)
		mp_expiry_note(proxy, record, proxy->apply.now_ms);
	if (record->head.flags & MP_RECORD_SETTINGS) {
		mp_pause_note(proxy, record->wire, record->head.commands);
		mp_memory_ask(proxy);
	}
}

/* The batch's requests up to the next that has a record: reads, for their place in the order. */
static struct mp_request *next_logged(struct mp_proxy *proxy, struct mp_batch *batch)
{
	struct mp_request *r;

	while ((r = TAILQ_FIRST(&batch->requests))) {
		TAILQ_REMOVE(&batch->requests, r, place);
		if (r->logged)
			return r;
		mp_apply_read(proxy, r);
	}
	return NULL;
}

static void hand_records(struct mp_proxy *proxy, const struct mu_entry *entry,
			 const struct share *share, struct mp_batch *batch)
{
	struct mp_record_view record;
	size_t at = 0;

	while (mp_record_next(entry->payload, entry->payload_bytes, &at, &record) == MP_RECORD_OK) {
		struct mp_request *r = NULL;
		bool own = record.head.flags & MP_RECORD_OWN;

		if (batch && !own) {
			r = next_logged(proxy, batch);
			assert(r && r->origin.sequence == record.head.origin.sequence);
		}
		if (!share[mp_target_index(record.head.protocol)].takes) {
			assert(!batch); /* a leader's backends are all there */
			if (!own && entry->lsn > proxy->apply.seen_lsn)
				mp_doubt_note(proxy, &record.head.origin, entry->lsn);
			continue;
		}
		if (!batch && !own)
			r = mp_doubt_claim(proxy, &record.head.origin, entry->lsn);
		hand_record(proxy, &record, entry->lsn, r);
	}
	if (batch) {
		struct mp_request *rest = next_logged(proxy, batch);

		assert(!rest);
		mp_pipeline_done(proxy, batch);
	}
}

/* One that a leader has made for itself: no records, but there is a leader of this ballot. */
static void hand_ballot(struct mp_proxy *proxy, const struct mu_entry *entry)
{
	struct share share[MP_TARGETS];

	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &proxy->apply.target[i];

		share[i] = (struct share){.takes = takes(target, entry->lsn)};
		if (share[i].takes && entry->ballot > target->leader_ballot)
			target->leader_ballot = entry->ballot;
	}
	if (entry->ballot > proxy->apply.seen_ballot)
		proxy->apply.seen_ballot = entry->ballot;
	end(proxy, entry, share);
}

static void see(struct mp_proxy *proxy, const struct mu_entry *entry)
{
	if (entry->lsn > proxy->apply.seen_lsn)
		proxy->apply.seen_lsn = entry->lsn;
	if (entry->kind != MU_ENTRY_APPLICATION)
		mp_doubt_settle(proxy);
}

void mp_apply_entry(struct mp_proxy *proxy, const struct mu_entry *entry)
{
	struct share share[MP_TARGETS];
	struct mp_batch *batch = NULL;

	proxy->apply.now_ms = entry->timestamp_ms;
	if (entry->kind != MU_ENTRY_APPLICATION) {
		hand_ballot(proxy, entry);
	} else if (survey(proxy, entry, share)) {
		batch = mp_pipeline_committed(proxy, entry->lsn, entry->ballot);
		begin(proxy, entry, share);
		hand_records(proxy, entry, share, batch);
		end(proxy, entry, share);
	} else {
		mp_apply_become_stale(proxy, "the log holds records of a format that this program "
					     "does not know");
		return;
	}
	see(proxy, entry);
}
