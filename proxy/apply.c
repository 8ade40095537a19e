/* apply.c - see apply.h. */
#include "apply.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "answer.h"
#include "apply_entry.h"
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
};

/* ------------------------------------------------------------------ reading */

void mp_apply_become_stale(struct mp_proxy *proxy, const char *why)
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
		mp_apply_become_stale(proxy,
				      "the log does not reach back to what a backend has applied");
		return;
	}
	if (!apply->stale)
		mp_warn("the log does not reach back to what a backend has applied: its state will "
			"be restored from another replica's, and until then this one relays its "
			"clients' requests, but cannot lead");
	apply->stale = true;
}

uint64_t mp_apply_settled_lsn(const struct mp_target *target)
{
	return target->durable_lsn < target->handed_lsn ? target->durable_lsn : target->handed_lsn;
}

/*
 * The backend that is farthest behind; NULL: not all have been met. Where there is no log,
 * the Redis: what is named then is where a log may begin, and a memcached that came back empty
 * would let it begin before all that the Redis holds. It can be emptied anywhere.
 */
static const struct mp_target *hindmost(const struct mp_proxy *proxy)
{
	const struct mp_apply *apply = &proxy->apply;
	const struct mp_target *redis = &apply->target[mp_target_index(MP_REDIS)];
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
	if (last && proxy->view.commit_lsn == MU_LSN_NONE && redis->backend)
		last = redis;
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

void mp_apply_met(struct mp_proxy *proxy, const struct mp_target *target, uint64_t applied_lsn)
{
	struct mp_apply *apply = &proxy->apply;

	if (apply->seen_era > target->backend->era ||
	    (apply->seen_era == target->backend->era && apply->seen_lsn >= applied_lsn))
		return;
	apply->seen_era = target->backend->era;
	apply->seen_lsn = applied_lsn;
}

/* Reading goes on behind start_lsn: what lies before that and was not read will not be. */
static void pass_over(struct mp_proxy *proxy, uint64_t start_lsn)
{
	struct mp_apply *apply = &proxy->apply;
	bool another = apply->seen_era != 0 && apply->seen_era != apply->era;

	if (another || start_lsn > apply->seen_lsn) {
		apply->unread_sequence = proxy->requests.sequence;
		apply->seen_lsn = start_lsn;
	}
	if (another)
		apply->seen_ballot = 0;
	apply->seen_era = apply->era;
}

/* `former`: the era of which a backend holds all that the log begins with. 0: of none. */
static void tell_where(const struct mp_apply *apply, uint64_t former)
{
	if (former && former != apply->era && apply->applied_lsn > 0)
		mp_warn("all replicas' logs were lost: the group goes on with what its servers "
			"have kept, up to LSN %" PRIu64 " of era %" PRIx64
			". What was acknowledged after that, if anything was, is lost",
			apply->applied_lsn, former);
	mp_info("applying the log of era %" PRIx64 " behind LSN %" PRIu64, apply->era,
		apply->applied_lsn);
}

/* A backend that is away counts, too: the log must not be reclaimed behind its back. */
static bool seek(struct mp_proxy *proxy)
{
	struct mp_apply *apply = &proxy->apply;
	const struct mp_target *last = hindmost(proxy);
	enum mu_error error;
	uint64_t former;

	if (!last || proxy->adopt.is_wanted)
		return false;
	former = last->backend->era;
	error = read_from(proxy, last);
	if (error == MU_ERR_FULL)
		return false; /* the log is still on its way to here */
	if (error == MU_ERR_STALE && mp_memcached_restart(proxy))
		return false; /* it is tried again when that is done */
	apply->seek_wanted = false;
	apply->applied_lsn = apply->read_lsn = mp_apply_settled_lsn(last);
	if (error == MU_OK) {
		tell_where(apply, former);
		apply->stale = false;
		pass_over(proxy, apply->applied_lsn);
		mp_transfer_unwant(proxy);
		return true;
	}
	if (error == MU_ERR_STALE)
		ask_for_state(proxy);
	else
		mp_apply_become_stale(proxy, mu_strerror(error));
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
		struct mp_target *target = &apply->target[i];
		struct mp_backend *backend = target->backend;

		if (!backend || target->state != MP_BACKEND_READY)
			continue;
		backend->ops->flush(backend);
		backend->ops->attend(backend, !TAILQ_EMPTY(&target->running));
	}
}

void mp_apply_receive(struct mp_proxy *proxy)
{
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &proxy->apply.target[i];

		if (target->backend && target->state == MP_BACKEND_READY)
			target->backend->ops->receive(target->backend);
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
			mp_apply_entry(proxy, &entry);
			apply->read_lsn = entry.lsn;
			handed++;
		}
		if (handed > 0)
			mp_backends_tell_applied(proxy);
		/* The reader was overtaken: what the backends have decides how it goes on. */
		if (!apply->stale && !apply->seek_wanted && mu_stale(proxy->mu))
			apply->seek_wanted = true;
		mp_pipeline_run_reads(proxy);
	}
	flush(apply);
	return handed == ENTRIES_PER_TURN;
}

/* ------------------------------------------------------------------ asking */

void mp_apply_expect(struct mp_target *target, struct mp_request *r)
{
	struct mp_backend *backend = target->backend;

	if (r->state != MP_REQUEST_DECIDING)
		r->state = MP_REQUEST_RUNNING;
	r->since_ms = mp_now_ms(target->proxy);
	TAILQ_INSERT_TAIL(&target->running, r, place);
	if (backend->ops->speak)
		backend->ops->speak(backend, r->meta.ttl ? 0 : r->meta.resp);
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

	mp_buffer_clear(out);
	if (!mp_reparse_redis(proxy, raw, &request) ||
	    !mp_groups_put(MP_GROUPS_READ, request.argc, request.argv, (int64_t)r->now_ms, out))
		return raw;
	return mp_buffer_slice(out);
}

void mp_apply_read(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_target *target = mp_target_of(proxy, r->meta.protocol);
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
	if (r->large)
		bytes = mp_large_question();
	r->is_begun = false;
	mp_apply_expect(target, r);
	/* One that is not the leader's own goes by the entry that it was executed with. */
	if (r->now_ms == 0)
		r->now_ms = proxy->apply.now_ms;
	if (r->meta.ttl)
		bytes = ask_deadline(proxy, r);
	if (r->meta.groups == MP_REWRITE_PENDING)
		bytes = ask_pending(proxy, r);
	if (r->meta.scan)
		bytes = ask_scan(proxy, target, r);
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
