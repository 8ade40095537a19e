/* apply.c - see apply.h. */
#include "apply.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "answer.h"
#include "backends.h"
#include "classify.h"
#include "log.h"
#include "memcached_restart.h"
#include "scan.h"
#include "state.h"
#include "stream_groups.h"
#include "transfer.h"
#include "ttl.h"

enum {
	BACKLOG_BYTES = 1 << 20, /* how far a backend may be behind what it was handed */
	ENTRIES_PER_TURN = 1024, /* then clients have a turn again */
	PENDING_BYTES = 256,     /* of a call of our script, besides the request's */
};

/* ------------------------------------------------------- one entry's records */

/* What an entry holds for a target, and whether the target takes it. */
struct share {
	bool takes, present, begun, blind;
	bool speaks, is_marked; /* pubsub.h */
	uint32_t database;      /* of its first record */
};

static struct mp_target *target_of(struct mp_proxy *proxy, unsigned protocol)
{
	return &proxy->apply.target[mp_target_index(protocol)];
}

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

		if (record.wire.len == 0)
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
	struct mp_backend *backend = target_of(proxy, MP_REDIS)->backend;
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

static void start_running(struct mp_proxy *proxy, struct mp_target *target, struct mp_request *r)
{
	if (r->state != MP_REQUEST_DECIDING)
		r->state = MP_REQUEST_RUNNING;
	r->since_ms = mp_now_ms(proxy);
	TAILQ_INSERT_TAIL(&target->running, r, place);
}

/* In which form the reply that comes next goes to its client. */
static void speak(struct mp_backend *backend, const struct mp_request *r)
{
	if (backend->ops->speak)
		backend->ops->speak(backend, r->meta.ttl ? 0 : r->meta.resp);
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
	struct mp_target *target = target_of(proxy, record->head.protocol);
	struct mp_backend *backend = target->backend;

	if (r) {
		r->lsn = lsn;
		if (record->wire.len == 0) {
			answer_unexecuted(proxy, target, r, record->reply);
			return;
		}
		if (keep_canned(proxy, r, record->reply)) {
			start_running(proxy, target, r);
		} else {
			mp_answer_error(proxy, r,
					"ERR muproxy: executed, but out of memory for "
					"the reply");
			r = NULL;
		}
	}
	if (r) {
		speak(backend, r);
		r->wakes = record->head.flags & MP_RECORD_WAKES;
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
	if (record->head.flags & MP_RECORD_SETTINGS)
		mp_memory_ask(proxy);
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

static void become_stale(struct mp_proxy *proxy, const char *why)
{
	if (proxy->apply.stale)
		return;
	proxy->apply.stale = true;
	mp_error("out of service: %s. This replica relays its clients' requests, but cannot lead "
		 "or keep its backends level until that has changed",
		 why);
}

/* The log does not reach back to what a backend has applied: it gets another's state. */
static void ask_for_state(struct mp_proxy *proxy)
{
	struct mp_apply *apply = &proxy->apply;
	bool wanted = false;

	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &apply->target[i];

		if (target->backend && mu_holds(proxy->mu, target->backend->era,
						mp_apply_settled_lsn(target)) == MU_ERR_STALE)
			wanted = mp_transfer_want(proxy, target) || wanted;
	}
	if (!wanted) {
		become_stale(proxy, "the log does not reach back to what a backend has applied");
		return;
	}
	if (!apply->stale)
		mp_warn("the log does not reach back to what a backend has applied: its state will "
			"be restored from another replica's, and until then this one relays its "
			"clients' requests, but cannot lead");
	apply->stale = true;
}

static void hand_entry(struct mp_proxy *proxy, const struct mu_entry *entry)
{
	struct share share[MP_TARGETS];
	struct mp_batch *batch = NULL;

	proxy->apply.now_ms = entry->timestamp_ms;
	if (entry->kind == MU_ENTRY_APPLICATION) {
		if (!survey(proxy, entry, share)) {
			become_stale(proxy, "the log holds records of a format that this program "
					    "does not know");
			return;
		}
		batch = mp_pipeline_committed(proxy, entry->lsn, entry->ballot);
		begin(proxy, entry, share);
		hand_records(proxy, entry, share, batch);
		end(proxy, entry, share);
		return;
	}
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &proxy->apply.target[i];

		share[i] = (struct share){.takes = takes(target, entry->lsn)};
		if (share[i].takes && entry->ballot > target->leader_ballot)
			target->leader_ballot = entry->ballot;
	}
	end(proxy, entry, share);
	mp_doubt_settle(proxy);
}

/* ------------------------------------------------------------------ reading */

uint64_t mp_apply_settled_lsn(const struct mp_target *target)
{
	return target->durable_lsn < target->handed_lsn ? target->durable_lsn : target->handed_lsn;
}

/* The backend that is farthest behind; NULL: not all have been met. */
static const struct mp_target *hindmost(const struct mp_apply *apply)
{
	const struct mp_target *last = NULL;

	for (unsigned i = 0; i < MP_TARGETS; i++) {
		const struct mp_target *target = &apply->target[i];

		if (!target->backend)
			continue;
		if (!target->met)
			return NULL;
		if (!last || target->backend->era < last->backend->era ||
		    (target->backend->era == last->backend->era &&
		     mp_apply_settled_lsn(target) < mp_apply_settled_lsn(last)))
			last = target;
	}
	return last;
}

/*
 * The log is read from where the hindmost needs it on, if it is the log that all
 * of them belong to. From then on what they store is of its era.
 */
static enum mu_error read_from(struct mp_proxy *proxy, const struct mp_target *last)
{
	struct mp_apply *apply = &proxy->apply;
	enum mu_error error = mu_seek(proxy->mu, last->backend->era, mp_apply_settled_lsn(last));

	for (unsigned i = 0; i < MP_TARGETS && error == MU_OK; i++) {
		const struct mp_target *target = &apply->target[i];

		if (target->backend)
			error = mu_holds(proxy->mu, target->backend->era,
					 mp_apply_settled_lsn(target));
	}
	if (error)
		return error;
	mu_view(proxy->mu, &proxy->view);
	apply->era = proxy->view.era;
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &apply->target[i];

		if (!target->backend)
			continue;
		if (target->backend->era != apply->era)
			target->passed_lsn = 0;
		target->backend->era = apply->era;
	}
	return MU_OK;
}

/* A backend that is away counts, too: the log must not be reclaimed behind its back. */
static bool seek(struct mp_proxy *proxy)
{
	struct mp_apply *apply = &proxy->apply;
	const struct mp_target *last = hindmost(apply);
	enum mu_error error;

	if (!last || proxy->adopt.is_wanted)
		return false;
	error = read_from(proxy, last);
	if (error == MU_ERR_FULL)
		return false; /* the log is still on its way to here */
	if (error == MU_ERR_STALE && mp_memcached_restart(proxy))
		return false; /* it is tried again when that is done */
	apply->seek_wanted = false;
	apply->applied_lsn = mp_apply_settled_lsn(last);
	if (error == MU_OK) {
		mp_info("applying the log of era %" PRIx64 " behind LSN %" PRIu64, apply->era,
			apply->applied_lsn);
		apply->stale = false;
		mp_transfer_unwant(proxy);
		return true;
	}
	if (error == MU_ERR_STALE)
		ask_for_state(proxy);
	else
		become_stale(proxy, mu_strerror(error));
	return false;
}

static bool backends_take_more(const struct mp_proxy *proxy)
{
	const struct mp_apply *apply = &proxy->apply;

	for (unsigned i = 0; i < MP_TARGETS; i++) {
		const struct mp_target *target = &apply->target[i];

		if (!target->backend || target->state != MP_BACKEND_READY)
			continue;
		if (target->backend->ops->backlog(target->backend) > BACKLOG_BYTES ||
		    (target->protocol == MP_REDIS && !mp_pubsub_is_level(&proxy->pubsub)))
			return false;
	}
	return true;
}

static void flush(struct mp_apply *apply)
{
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_backend *backend = apply->target[i].backend;

		if (backend && apply->target[i].state == MP_BACKEND_READY)
			backend->ops->flush(backend);
	}
}

bool mp_apply_run(struct mp_proxy *proxy)
{
	struct mp_apply *apply = &proxy->apply;
	struct mu_entry entry;
	unsigned handed = 0;

	if (mp_transfer_is_on(proxy)) {
		flush(apply);
		return false;
	}
	/* Another log: it began anew, with the state that a backend had. */
	if (proxy->view.era && proxy->view.era != apply->era)
		apply->seek_wanted = true;
	if (!apply->seek_wanted || seek(proxy)) {
		while (!apply->stale && handed < ENTRIES_PER_TURN && backends_take_more(proxy)) {
			mp_pipeline_run_reads(proxy);
			if (!mu_next(proxy->mu, &entry))
				break;
			hand_entry(proxy, &entry);
			handed++;
		}
		/* The reader was overtaken: what the backends have decides how it goes on. */
		if (!apply->stale && !apply->seek_wanted && mu_stale(proxy->mu))
			apply->seek_wanted = true;
		mp_pipeline_run_reads(proxy);
	}
	flush(apply);
	return handed == ENTRIES_PER_TURN;
}

/* Good until the next call. Out of memory: the backend's padded reply is an error at least. */
static struct mp_slice ask_deadline(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_buffer *out = &proxy->apply.question;
	struct mp_slice raw = mp_bytes_slice(&r->raw);
	struct resp_request request;
	size_t len;

	if (!mp_reparse_redis(proxy, raw, &request))
		return raw;
	len = mp_ttl_question(request.argv[1], NULL, 0);
	mp_buffer_clear(out);
	if (!mp_buffer_reserve(out, len))
		return raw;
	mp_ttl_question(request.argv[1], mp_buffer_data(out), len);
	return (struct mp_slice){mp_buffer_data(out), len};
}

/* Likewise. Out of memory: the client's cursor is none of the backend's, which will say so. */
static struct mp_slice ask_scan(struct mp_proxy *proxy, const struct mp_target *target,
				const struct mp_request *r)
{
	struct mp_buffer *out = &proxy->apply.question;
	struct mp_slice raw = mp_bytes_slice(&r->raw);
	struct resp_request request;

	mp_buffer_clear(out);
	if (!mp_reparse_redis(proxy, raw, &request) ||
	    !mp_scan_question(&request, target->scan_tag, out))
		return raw;
	return mp_buffer_slice(out);
}

/* Likewise. Out of memory: the script fails, for want of arguments. */
static struct mp_slice ask_pending(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_buffer *out = &proxy->apply.question;
	struct mp_slice raw = mp_bytes_slice(&r->raw);
	struct resp_request request;
	size_t len, cap = raw.len + PENDING_BYTES;

	mp_buffer_clear(out);
	if (!mp_reparse_redis(proxy, raw, &request) || !mp_buffer_reserve(out, cap))
		return raw;
	len = mp_groups_encode(MP_GROUPS_READ, request.argc, request.argv, (int64_t)r->now_ms,
			       mp_buffer_data(out), cap);
	return len > 0 && len <= cap ? (struct mp_slice){mp_buffer_data(out), len} : raw;
}

void mp_apply_read(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_target *target = target_of(proxy, r->meta.protocol);
	struct mp_backend *backend = target->backend;
	bool question = r->state == MP_REQUEST_DECIDING;
	struct mp_slice bytes = mp_bytes_slice(question || r->meta.blocks ? &r->question : &r->raw);

	assert(target->state == MP_BACKEND_READY && bytes.len > 0);
	if (!question && r->meta.translate) {
		bytes = mp_memcached_question(proxy, r);
		if (bytes.len == 0) {
			mp_answer_error(proxy, r, "ERR muproxy: out of memory");
			return;
		}
	}
	if (r->meta.listing)
		bytes = mp_listing_question();
	start_running(proxy, target, r);
	/* One that is not the leader's own goes by the entry that it was executed with. */
	if (r->now_ms == 0)
		r->now_ms = proxy->apply.now_ms;
	if (r->meta.ttl)
		bytes = ask_deadline(proxy, r);
	if (r->meta.groups == MP_REWRITE_PENDING)
		bytes = ask_pending(proxy, r);
	if (r->meta.scan)
		bytes = ask_scan(proxy, target, r);
	speak(backend, r);
	backend->ops->read(backend, r->meta.database, bytes, r);
}

bool mp_apply_reached(const struct mp_proxy *proxy, uint64_t ballot)
{
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		const struct mp_target *target = &proxy->apply.target[i];

		if (target->backend && target->leader_ballot < ballot)
			return false;
	}
	return true;
}
