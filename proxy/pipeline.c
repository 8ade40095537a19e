/* pipeline.c - see pipeline.h. */
#include "pipeline.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "answer.h"
#include "backends.h"
#include "classify.h"
#include "log.h"
#include "redis_scripts.h"
#include "rewrite_scripts.h"
#include "state.h"

void mp_pipeline_init(struct mp_pipeline *pipeline)
{
	STAILQ_INIT(&pipeline->proposed);
	STAILQ_INIT(&pipeline->spare);
}

static struct mp_batch *batch_get(struct mp_pipeline *pipeline)
{
	struct mp_batch *batch = STAILQ_FIRST(&pipeline->spare);

	if (batch) {
		STAILQ_REMOVE_HEAD(&pipeline->spare, next);
	} else {
		batch = calloc(1, sizeof(*batch));
		if (!batch)
			return NULL;
	}
	*batch = (struct mp_batch){.lsn = MU_LSN_NONE, .clock_limit_ms = UINT64_MAX};
	TAILQ_INIT(&batch->requests);
	return batch;
}

static void batch_put(struct mp_proxy *proxy, struct mp_batch *batch)
{
	assert(TAILQ_EMPTY(&batch->requests));
	mp_expiry_batch_done(proxy, batch);
	STAILQ_INSERT_HEAD(&proxy->pipeline.spare, batch, next);
}

void mp_pipeline_done(struct mp_proxy *proxy, struct mp_batch *batch)
{
	batch_put(proxy, batch);
}

bool mp_pipeline_idle(const struct mp_proxy *proxy)
{
	return !proxy->pipeline.filling && STAILQ_EMPTY(&proxy->pipeline.proposed);
}

/* --------------------------------------------------------------- proposing */

static bool is_empty(const struct mp_batch *batch)
{
	return TAILQ_EMPTY(&batch->requests) && !batch->writes;
}

/* What has a record can never be logged: its proposal is too large. */
static void refuse_writes(struct mp_proxy *proxy, struct mp_batch *batch)
{
	struct mp_request *r, *next;

	for (r = TAILQ_FIRST(&batch->requests); r; r = next) {
		next = TAILQ_NEXT(r, place);
		if (!r->logged)
			continue;
		TAILQ_REMOVE(&batch->requests, r, place);
		mp_answer_error(proxy, r, "ERR muproxy: the request is larger than the log takes");
	}
	batch->writes = false;
	mp_records_clear(&proxy->pipeline.records);
}

static enum mu_error propose_writes(struct mp_proxy *proxy, struct mp_batch *batch)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	struct iovec iov[MP_RECORDS_PIECES];
	int iovcnt = mp_records_iov(&pipeline->records, iov);
	enum mu_error error =
		mu_propose(proxy->mu, iov, iovcnt, pipeline->timestamp_ms, &batch->lsn);

	if (error != MU_OK)
		return error;
	pipeline->proposed_lsn = batch->lsn;
	mp_records_clear(&pipeline->records);
	STAT_ADD(proxy, proposals, 1);
	return MU_OK;
}

void mp_pipeline_propose(struct mp_proxy *proxy)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	struct mp_batch *batch = pipeline->filling;
	enum mu_error error = MU_OK;

	if (!batch) {
		pipeline->timestamp_ms = 0;
		return;
	}
	if (batch->writes)
		error = propose_writes(proxy, batch);
	if (error == MU_ERR_TOO_LARGE) {
		refuse_writes(proxy, batch);
		error = MU_OK;
	}
	if (error == MU_OK && !batch->writes && !is_empty(batch) && !proxy->options.unfenced_reads)
		error = mu_fence(proxy->mu, &batch->fence);
	/* No room; or deposed, which mp_pipeline_follow() is about to find out. */
	pipeline->stuck = error != MU_OK;
	if (pipeline->stuck)
		return;
	pipeline->timestamp_ms = 0;
	pipeline->filling = NULL;
	if (is_empty(batch))
		batch_put(proxy, batch);
	else
		STAILQ_INSERT_TAIL(&pipeline->proposed, batch, next);
	if (proxy->options.unfenced_reads)
		mp_pipeline_run_reads(proxy);
}

bool mp_pipeline_room(struct mp_proxy *proxy, size_t bytes)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	uint64_t most = proxy->options.max_batch_bytes;

	if (pipeline->stuck)
		return false;
	if (pipeline->records.bytes > 0 &&
	    (pipeline->records.bytes + bytes > most || mp_records_full(&pipeline->records)))
		mp_pipeline_propose(proxy);
	return !pipeline->stuck;
}

/* ----------------------------------------------------------------- filling */

static struct mp_batch *filling(struct mp_pipeline *pipeline)
{
	if (!pipeline->filling)
		pipeline->filling = batch_get(pipeline);
	return pipeline->filling;
}

static void out_of_memory(struct mp_proxy *proxy, struct mp_request *r)
{
	mp_answer_error(proxy, r, "ERR muproxy: out of memory; nothing was executed");
}

/* The time that the batch's entry will carry, and so of all that is decided for it. */
static uint64_t timestamp_ms(struct mp_proxy *proxy)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;

	if (pipeline->timestamp_ms == 0)
		pipeline->timestamp_ms = mp_expiry_now_ms(proxy);
	return pipeline->timestamp_ms;
}

int64_t mp_pipeline_now_s(struct mp_proxy *proxy)
{
	return (int64_t)(timestamp_ms(proxy) / 1000);
}

int64_t mp_pipeline_now_ms(struct mp_proxy *proxy)
{
	return (int64_t)timestamp_ms(proxy);
}

/* The request has a record now, so the batch is one with an entry. */
static void join(struct mp_proxy *proxy, struct mp_request *r, const struct mp_record *record,
		 struct mp_slice wire, bool stays, struct mp_slice reply)
{
	struct mp_batch *batch = filling(&proxy->pipeline);

	timestamp_ms(proxy);
	proxy->memory.written_bytes += wire.len;
	if (!batch || !mp_records_add(&proxy->pipeline.records, record, wire, stays, reply)) {
		out_of_memory(proxy, r);
		return;
	}
	batch->writes = true;
	r->logged = true;
	r->state = MP_REQUEST_BATCHED;
	TAILQ_INSERT_TAIL(&batch->requests, r, place);
}

void mp_pipeline_add_own(struct mp_proxy *proxy, enum mp_protocol protocol, uint32_t database,
			 struct mp_slice wire, unsigned flags, bool is_open)
{
	struct mp_record record = {
		.version = MP_RECORD_VERSION,
		.protocol = (uint8_t)protocol,
		.flags = (uint8_t)(MP_RECORD_DEADLINES | MP_RECORD_OWN | flags),
		.commands = 1,
		.database = (uint8_t)database,
	};
	struct mp_batch *batch = filling(&proxy->pipeline);
	uint64_t now_ms = timestamp_ms(proxy);

	if (!batch ||
	    !mp_records_add(&proxy->pipeline.records, &record, wire, false, (struct mp_slice){0})) {
		mp_error("out of memory for what is to expire, or to be evicted");
		return;
	}
	batch->writes = true;
	if (is_open)
		mp_expiry_limit(proxy, batch, (int64_t)now_ms);
}

static struct mp_record record_of(const struct mp_request *r)
{
	return (struct mp_record){
		.version = MP_RECORD_VERSION,
		.protocol = (uint8_t)r->meta.protocol,
		.flags = r->meta.blind ? MP_RECORD_BLIND : 0,
		.commands = 1,
		.database = (uint8_t)r->meta.database,
		.origin = r->origin,
	};
}

enum mp_rewriting mp_pipeline_rewrite(struct mp_proxy *proxy, const struct mp_origin *origin,
				      uint32_t database, uint32_t resp,
				      const struct mp_command *command,
				      const struct resp_request *request, struct mp_buffer *out,
				      int *commands, char *error)
{
	int64_t now_ms = (int64_t)timestamp_ms(proxy);
	struct mp_script_terms terms = {
		.now_ms = now_ms,
		.seed = mp_next_seed(now_ms),
		.database = database,
		.databases = proxy->databases,
		.nonce = origin->nonce,
		.sequence = origin->sequence,
		.is_full = proxy->memory.is_full,
		.resp = resp,
	};
	size_t len, cap = request->raw.len + 256;
	char *room;

	for (;;) {
		room = mp_buffer_reserve(out, cap);
		if (!room)
			return MP_REWRITE_NO_MEMORY;
		*commands = 1;
		if (command->rewrite == MP_REWRITE_SCRIPT)
			len = mp_script_rewrite(command, request, &terms, room, cap, error,
						MP_ERROR_BYTES);
		else
			len = mp_command_rewrite(command, request, now_ms, proxy->databases, room,
						 cap, commands, error, MP_ERROR_BYTES);
		if (len <= cap)
			break;
		cap = len;
	}
	mp_buffer_commit(out, len);
	return len > 0 ? MP_REWRITTEN : MP_REWRITE_REFUSED;
}

/* The form for the log, into pipeline->rewritten. False: refused, the request was answered. */
static bool rewrite_redis(struct mp_proxy *proxy, struct mp_request *r,
			  const struct mp_command *command, const struct resp_request *request,
			  int *commands)
{
	char error[MP_ERROR_BYTES];

	mp_buffer_clear(&proxy->pipeline.rewritten);
	switch (mp_pipeline_rewrite(proxy, &r->origin, r->meta.database, r->meta.resp, command,
				    request, &proxy->pipeline.rewritten, commands, error)) {
	case MP_REWRITTEN:
		return true;
	case MP_REWRITE_REFUSED:
		mp_answer_error(proxy, r, "%s", error);
		break;
	case MP_REWRITE_NO_MEMORY:
		out_of_memory(proxy, r);
		break;
	}
	return false;
}

/* The request and its command once more. False: it was answered. */
static bool look_again(struct mp_proxy *proxy, struct mp_request *r, struct resp_request *request,
		       const struct mp_command **command)
{
	char error[MP_ERROR_BYTES];

	if (mp_reparse_redis(proxy, mp_bytes_slice(&r->raw), request) &&
	    (*command = mp_command_find(proxy->commands, request, error, sizeof(error))))
		return true;
	mp_answer_error(proxy, r, "ERR muproxy: not understood by the leader");
	return false;
}

void mp_pipeline_add_transaction(struct mp_proxy *proxy, struct mp_request *r, uint32_t commands,
				 unsigned flags)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	struct mp_record record = record_of(r);

	record.flags = (uint8_t)(MP_RECORD_TRANSACTION | flags);
	record.commands = commands;
	join(proxy, r, &record, mp_buffer_slice(&pipeline->rewritten), false,
	     mp_buffer_slice(&pipeline->recipe));
	if (flags & MP_RECORD_DEADLINES)
		mp_expiry_proposed(proxy, mp_buffer_slice(&pipeline->rewritten), (int)commands,
				   record.database);
	mp_buffer_clear(&pipeline->rewritten);
	mp_buffer_clear(&pipeline->recipe);
}

static void add_redis(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_record record = record_of(r);
	struct mp_slice wire = mp_bytes_slice(&r->raw);
	const struct mp_command *command = NULL;
	struct resp_request request;
	int commands = 1;

	if (r->meta.rewrite || mp_watch_is_on(proxy) || mp_blocking_is_on(&proxy->blocking)) {
		if (!look_again(proxy, r, &request, &command))
			return;
		mp_watch_touch(proxy, r->meta.database, command, &request);
		mp_blocking_touch(proxy, r->meta.database, command, &request);
	}
	if (r->meta.rewrite) {
		if (!rewrite_redis(proxy, r, command, &request, &commands))
			return;
		wire = mp_buffer_slice(&proxy->pipeline.rewritten);
		record.flags |= MP_RECORD_DEADLINES;
	}
	if (r->meta.settings)
		record.flags |= MP_RECORD_SETTINGS;
	if (r->meta.speaks)
		record.flags |= MP_RECORD_SPEAKS;
	assert(commands > 0);
	record.commands = (uint32_t)commands;
	join(proxy, r, &record, wire, !r->meta.rewrite, (struct mp_slice){0});
	if (r->meta.rewrite)
		mp_expiry_proposed(proxy, wire, commands, record.database);
	mp_buffer_clear(&proxy->pipeline.rewritten);
}

void mp_pipeline_add_attempt(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice wire)
{
	struct mp_record record = record_of(r);

	assert(r->state == MP_REQUEST_BLOCKED && !r->meta.blind);
	record.flags = MP_RECORD_WAKES;
	join(proxy, r, &record, wire, false, (struct mp_slice){0});
}

static size_t encode_memcached(struct mp_proxy *proxy, const struct mc_request *request, size_t cap)
{
	struct mp_buffer *out = &proxy->pipeline.rewritten;

	for (;;) {
		size_t len;
		char *room;

		mp_buffer_clear(out);
		room = mp_buffer_reserve(out, cap);
		if (!room)
			return 0;
		len = mc_encode(request, mp_pipeline_now_s(proxy), proxy->locks.deadlines, room,
				cap);
		if (len <= cap)
			return len;
		cap = len;
	}
}

static void add_memcached(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_record record = record_of(r);
	struct mc_request request;
	struct mp_slice wire;

	if (!mp_reparse_memcached(proxy, mp_bytes_slice(&r->raw), &request)) {
		mp_answer_error(proxy, r, "ERR muproxy: not understood by the leader");
		return;
	}
	wire.len = encode_memcached(proxy, &request, r->raw.len + 64);
	if (wire.len == 0) {
		out_of_memory(proxy, r);
		return;
	}
	wire.data = mp_buffer_data(&proxy->pipeline.rewritten);
	mp_lock_note_write(proxy, &request);
	join(proxy, r, &record, wire, false, (struct mp_slice){0});
	mp_buffer_clear(&proxy->pipeline.rewritten);
}

static void add_unlogged(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_batch *batch = filling(&proxy->pipeline);

	if (!batch) {
		out_of_memory(proxy, r);
		return;
	}
	TAILQ_INSERT_TAIL(&batch->requests, r, place);
}

void mp_pipeline_add_reading(struct mp_proxy *proxy, struct mp_request *r)
{
	assert(r->state == MP_REQUEST_BLOCKED);
	r->state = MP_REQUEST_BATCHED;
	r->logged = false;
	add_unlogged(proxy, r);
}

void mp_pipeline_add(struct mp_proxy *proxy, struct mp_request *r)
{
	assert(proxy->pipeline.ballot && !proxy->pipeline.stuck);
	r->logged = false;
	switch (r->meta.class) {
	case MP_REQUEST_READ:
		r->state = MP_REQUEST_BATCHED;
		if (r->meta.watch) {
			mp_watch_add(proxy, r);
			break;
		}
		if (r->meta.ttl || r->meta.groups)
			r->now_ms = mp_expiry_now_ms(proxy);
		STAT_ADD(proxy, reads, 1);
		if (!r->meta.blocks || mp_blocking_enter(proxy, r))
			add_unlogged(proxy, r);
		break;
	case MP_REQUEST_WRITE:
		STAT_ADD(proxy, writes, 1);
		if (proxy->memory.is_full && r->meta.denyoom)
			mp_answer_error(proxy, r, MP_OOM);
		else if (r->meta.blocks && !mp_blocking_enter(proxy, r))
			break;
		else if (r->meta.transaction)
			mp_transaction_add(proxy, r);
		else if (r->meta.protocol == MP_REDIS)
			add_redis(proxy, r);
		else
			add_memcached(proxy, r);
		break;
	case MP_REQUEST_CONDITIONAL:
		STAT_ADD(proxy, writes, 1);
		mp_lock_enter(proxy, r);
		break;
	}
	if (mp_blocking_is_due(&proxy->blocking))
		mp_blocking_run(proxy);
}

void mp_pipeline_add_question(struct mp_proxy *proxy, struct mp_request *r)
{
	assert(r->state == MP_REQUEST_DECIDING && r->question.len > 0);
	add_unlogged(proxy, r);
}

void mp_pipeline_add_decided(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice wire,
			     int commands, struct mp_slice reply)
{
	struct mp_record record = record_of(r);

	record.flags = MP_RECORD_BLIND;
	assert(commands >= 0 && commands <= UINT8_MAX && (commands == 0) == (wire.len == 0));
	record.commands = (uint8_t)commands;
	join(proxy, r, &record, wire, false, reply);
}

/* --------------------------------------------------------------- executing */

static void run_reads(struct mp_proxy *proxy, struct mp_batch *batch)
{
	struct mp_request *r;

	while ((r = TAILQ_FIRST(&batch->requests))) {
		TAILQ_REMOVE(&batch->requests, r, place);
		mp_apply_read(proxy, r);
	}
	batch_put(proxy, batch);
}

static bool may_read(const struct mp_proxy *proxy, const struct mp_batch *batch)
{
	uint64_t ballot = proxy->pipeline.ballot;

	if (proxy->options.unfenced_reads)
		return true;
	return proxy->view.ballot == ballot && proxy->view.fence >= batch->fence &&
	       mp_apply_reached(proxy, ballot);
}

void mp_pipeline_run_reads(struct mp_proxy *proxy)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	struct mp_batch *batch;

	while ((batch = STAILQ_FIRST(&pipeline->proposed)) && !batch->writes) {
		if (!may_read(proxy, batch))
			return;
		STAILQ_REMOVE_HEAD(&pipeline->proposed, next);
		run_reads(proxy, batch);
	}
}

struct mp_batch *mp_pipeline_committed(struct mp_proxy *proxy, uint64_t lsn, uint64_t ballot)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	struct mp_batch *batch;

	if (ballot != pipeline->ballot)
		return NULL;
	STAILQ_FOREACH(batch, &pipeline->proposed, next)
		if (batch->writes)
			break;
	if (!batch || batch->lsn != lsn) {
		assert(!batch || batch->lsn > lsn);
		return NULL;
	}
	/* An entry proposed after the reads came is committed: that proves more than their fence.
	 */
	while ((batch = STAILQ_FIRST(&pipeline->proposed)) && !batch->writes) {
		STAILQ_REMOVE_HEAD(&pipeline->proposed, next);
		run_reads(proxy, batch);
	}
	STAILQ_REMOVE_HEAD(&pipeline->proposed, next);
	return batch;
}

/* ------------------------------------------------------ beginning, ending */

static void abandon_batch(struct mp_proxy *proxy, struct mp_batch *batch, uint64_t ballot)
{
	struct mp_request *r;

	while ((r = TAILQ_FIRST(&batch->requests))) {
		TAILQ_REMOVE(&batch->requests, r, place);
		if (r->state == MP_REQUEST_DECIDING)
			r->asked = false; /* the lock knows it, and gives it back */
		else if (r->link)
			mp_drop(proxy, r);
		else
			mp_doubt_add(proxy, r, ballot);
	}
	batch_put(proxy, batch);
}

void mp_pipeline_abandon(struct mp_proxy *proxy)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	uint64_t ballot = pipeline->ballot;
	struct mp_batch *batch;

	if (!ballot)
		return;
	mp_info("no longer leading under ballot %" PRIu64, ballot);
	pipeline->ballot = 0;
	pipeline->closed_ballot = ballot;
	mp_blocking_abandon(proxy);
	while ((batch = STAILQ_FIRST(&pipeline->proposed))) {
		STAILQ_REMOVE_HEAD(&pipeline->proposed, next);
		abandon_batch(proxy, batch, ballot);
	}
	if (pipeline->filling)
		abandon_batch(proxy, pipeline->filling, ballot);
	pipeline->filling = NULL;
	pipeline->stuck = false;
	pipeline->timestamp_ms = 0;
	mp_records_clear(&pipeline->records);
	mp_expiry_abandon(proxy);
	mp_router_drop_inbox(proxy);
	mp_locks_abandon(proxy);
	mp_memcached_abandon(proxy, ballot);
	mp_doubt_settle(proxy);
}

void mp_pipeline_follow(struct mp_proxy *proxy)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	uint64_t ballot = proxy->view.role == MU_ROLE_LEADER ? proxy->view.ballot : 0;

	if (pipeline->ballot && pipeline->ballot != ballot)
		mp_pipeline_abandon(proxy);
	/* What is due is known only once every entry of earlier leaders has been handed on. */
	if (pipeline->ballot || !ballot || ballot == pipeline->closed_ballot ||
	    !mp_backends_level(proxy) || !mp_apply_reached(proxy, ballot) || proxy->draining)
		return;
	mp_info("leading under ballot %" PRIu64, ballot);
	pipeline->ballot = ballot;
	pipeline->proposed_lsn = 0;
}

void mp_pipeline_close(struct mp_proxy *proxy)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	struct mp_batch *batch;

	mp_pipeline_abandon(proxy);
	while ((batch = STAILQ_FIRST(&pipeline->spare))) {
		STAILQ_REMOVE_HEAD(&pipeline->spare, next);
		free(batch);
	}
	mp_records_free(&pipeline->records);
	mp_buffer_free(&pipeline->rewritten);
	mp_buffer_free(&pipeline->recipe);
}
