/* lock.c - see lock.h. */
#include "lock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "classify.h"
#include "mc_decide.h"
#include "state.h"

enum {
	LOCKS_MAX = 65536,
	PATIENCE = 3, /* questions in vain, before plain writes have to wait */
};

void mp_locks_init(struct mp_locks *locks)
{
	TAILQ_INIT(&locks->answered);
}

bool mp_locks_open(struct mp_locks *locks)
{
	locks->deadlines = calloc(1, sizeof(*locks->deadlines));
	return locks->deadlines != NULL;
}

static struct mp_lock *find(struct mp_locks *locks, struct mp_slice key)
{
	struct mp_lock *lock = NULL;

	if (locks->table)
		HASH_FIND(hh, locks->table, key.data, key.len, lock);
	return lock;
}

static struct mp_lock *make(struct mp_locks *locks, struct mp_slice key)
{
	struct mp_lock *lock;

	assert(key.len <= MP_LOCK_KEY_BYTES);
	lock = calloc(1, sizeof(*lock));
	if (!lock)
		return NULL;
	memcpy(lock->key, key.data, key.len);
	lock->key_len = (uint8_t)key.len;
	TAILQ_INIT(&lock->waiters);
	HASH_ADD(hh, locks->table, key, lock->key_len, lock);
	return lock;
}

static void destroy(struct mp_locks *locks, struct mp_lock *lock)
{
	assert(!lock->holder && TAILQ_EMPTY(&lock->waiters));
	if (lock->is_answered)
		TAILQ_REMOVE(&locks->answered, lock, answered);
	if (lock->asked >= PATIENCE)
		locks->contended--;
	HASH_DEL(locks->table, lock);
	mp_buffer_free(&lock->answer);
	free(lock);
}

/* The request as its client sent it. False: it does not parse, which only a broken peer brings
 * about. */
static bool look_into(struct mp_proxy *proxy, const struct mp_request *r,
		      struct mc_request *request)
{
	return mp_reparse_memcached(proxy, mp_bytes_slice(&r->raw), request) &&
	       request->key_count >= 1 && request->keys[0].len <= MP_LOCK_KEY_BYTES;
}

/* Nobody waits for it any more, so it must not be executed either (relay_in.c relies on it). */
static bool is_abandoned(const struct mp_request *r)
{
	return r->link ? r->link->state == MP_LINK_CLOSED : !r->session;
}

bool mp_locks_are_full(const struct mp_locks *locks)
{
	return HASH_COUNT(locks->table) >= LOCKS_MAX;
}

bool mp_lock_holds_back(struct mp_proxy *proxy, const struct mp_request *r)
{
	struct mp_locks *locks = &proxy->locks;
	struct mc_request request;
	struct mp_lock *lock;

	if (!locks->table || r->meta.protocol != MP_MEMCACHED)
		return false;
	if (r->meta.class == MP_REQUEST_CONDITIONAL)
		return mp_locks_are_full(locks);
	if (locks->contended == 0 || !mp_request_writes(r) || !look_into(proxy, r, &request))
		return false;
	lock = find(locks, request.keys[0]);
	return lock && lock->asked >= PATIENCE;
}

void mp_lock_note_write(struct mp_proxy *proxy, const struct mc_request *request)
{
	struct mp_locks *locks = &proxy->locks;
	struct mp_lock *lock, *next;

	if (!locks->table)
		return;
	for (int i = 0; i < request->key_count; i++) {
		lock = find(locks, request->keys[i]);
		if (lock)
			lock->outdated = true;
	}
	if (request->verb == MC_FLUSH_ALL)
		HASH_ITER(hh, locks->table, lock, next)
			lock->outdated = true;
}

/* Put the holder's question into the pipeline. False: the holder was answered with an error. */
static bool ask(struct mp_proxy *proxy, struct mp_lock *lock)
{
	struct mp_request *r = lock->holder;
	struct mc_request request;
	bool ok = r->question.len > 0;

	if (!ok && look_into(proxy, r, &request) &&
	    mp_chunks_alloc(&proxy->chunks, MC_FETCH_BYTES, &r->question)) {
		r->question.len = mc_encode_fetch(&request, r->question.data, MC_FETCH_BYTES);
		assert(r->question.len <= MC_FETCH_BYTES);
		ok = true;
	}
	if (!ok) {
		lock->holder = NULL;
		r->lock = NULL;
		mp_answer_error(proxy, r, "ERR muproxy: out of memory; nothing was executed");
		return false;
	}
	lock->outdated = false;
	r->asked = true;
	mp_pipeline_add_question(proxy, r);
	return true;
}

/* The lock is free: for the next that still wants it. */
static void pass_on(struct mp_proxy *proxy, struct mp_lock *lock)
{
	struct mp_request *r;

	assert(!lock->holder);
	if (lock->asked >= PATIENCE)
		proxy->locks.contended--;
	lock->asked = 0;
	while ((r = TAILQ_FIRST(&lock->waiters))) {
		TAILQ_REMOVE(&lock->waiters, r, place);
		if (is_abandoned(r)) {
			r->lock = NULL;
			mp_drop(proxy, r);
			continue;
		}
		lock->holder = r;
		if (ask(proxy, lock))
			return;
	}
	destroy(&proxy->locks, lock);
}

void mp_lock_enter(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mc_request request;
	struct mp_lock *lock = NULL;

	r->state = MP_REQUEST_DECIDING;
	r->asked = false;
	if (look_into(proxy, r, &request)) {
		lock = find(&proxy->locks, request.keys[0]);
		if (lock) {
			r->lock = lock;
			TAILQ_INSERT_TAIL(&lock->waiters, r, place);
			return;
		}
		lock = make(&proxy->locks, request.keys[0]);
	}
	if (!lock) {
		mp_answer_error(proxy, r, "ERR muproxy: not understood by the leader");
		return;
	}
	r->lock = lock;
	lock->holder = r;
	if (!ask(proxy, lock))
		destroy(&proxy->locks, lock);
}

/* It did not come to a decision, so nothing was executed. */
static void give_back(struct mp_proxy *proxy, struct mp_request *r)
{
	r->lock = NULL;
	if (r->session)
		mp_session_unsend(r->session, r);
	else
		mp_drop(proxy, r);
}

void mp_lock_answer(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice answer)
{
	struct mp_lock *lock = r->lock;

	r->asked = false;
	if (!lock) {
		give_back(proxy, r);
		return;
	}
	assert(lock->holder == r && !lock->is_answered);
	mp_buffer_clear(&lock->answer);
	if (!mp_buffer_append(&lock->answer, answer.data, answer.len))
		lock->outdated = true; /* no memory for it just now: ask again */
	lock->is_answered = true;
	TAILQ_INSERT_TAIL(&proxy->locks.answered, lock, answered);
}

void mp_lock_lost(struct mp_proxy *proxy, struct mp_request *r)
{
	r->asked = false;
	/* Otherwise its lock goes with the pipeline, which cannot outlive the backend. */
	if (!r->lock)
		give_back(proxy, r);
}

/* The decision's record, into locks->decided. False: out of memory, or the answer is an error. */
static bool decide(struct mp_proxy *proxy, struct mp_lock *lock, struct mc_decision *decision)
{
	struct mp_locks *locks = &proxy->locks;
	struct mp_slice answer = mp_buffer_slice(&lock->answer);
	size_t cap = lock->holder->raw.len + answer.len + 512;
	struct mc_request request;
	struct mc_item item;

	if (!look_into(proxy, lock->holder, &request) || !mc_parse_item(answer, &item))
		return false;
	for (;;) {
		char *room;

		mp_buffer_clear(&locks->decided);
		room = mp_buffer_reserve(&locks->decided, cap);
		if (!room)
			return false;
		mc_decide(&request, &item, mc_term(proxy->pipeline.ballot),
			  mp_pipeline_now_s(proxy), &proxy->mc_limits, locks->deadlines, room, cap,
			  decision);
		if (decision->record_bytes <= cap)
			return true;
		cap = decision->record_bytes;
	}
}

static void run(struct mp_proxy *proxy, struct mp_lock *lock)
{
	struct mp_request *r = lock->holder;
	struct mp_slice record, reply;
	struct mc_decision decision;
	bool decided;

	if (is_abandoned(r)) {
		lock->holder = NULL;
		r->lock = NULL;
		mp_drop(proxy, r);
		pass_on(proxy, lock);
		return;
	}
	if (lock->outdated) {
		if (++lock->asked == PATIENCE)
			proxy->locks.contended++;
		if (!ask(proxy, lock))
			pass_on(proxy, lock);
		return;
	}
	decided = decide(proxy, lock, &decision);
	lock->holder = NULL;
	r->lock = NULL;
	if (decided) {
		record.data = mp_buffer_data(&proxy->locks.decided);
		record.len = decision.record_bytes;
		reply.data = decision.reply;
		reply.len = decision.reply_bytes;
		mp_pipeline_add_decided(proxy, r, record, decision.commands, reply);
	} else {
		mp_answer_error(proxy, r,
				"ERR muproxy: the backend did not tell the item; "
				"nothing was executed");
	}
	pass_on(proxy, lock);
}

void mp_locks_run(struct mp_proxy *proxy)
{
	struct mp_locks *locks = &proxy->locks;
	struct mp_lock *lock;

	while ((lock = TAILQ_FIRST(&locks->answered))) {
		if (!mp_pipeline_room(proxy, lock->holder->raw.len + mp_buffer_len(&lock->answer)))
			return;
		TAILQ_REMOVE(&locks->answered, lock, answered);
		lock->is_answered = false;
		run(proxy, lock);
	}
}

void mp_locks_abandon(struct mp_proxy *proxy)
{
	struct mp_lock *lock, *next;
	struct mp_request *r;

	HASH_ITER(hh, proxy->locks.table, lock, next) {
		r = lock->holder;
		lock->holder = NULL;
		if (r && r->asked)
			r->lock = NULL; /* its question is with the backend: given back with the
					   answer */
		else if (r)
			give_back(proxy, r);
		while ((r = TAILQ_FIRST(&lock->waiters))) {
			TAILQ_REMOVE(&lock->waiters, r, place);
			give_back(proxy, r);
		}
		destroy(&proxy->locks, lock);
	}
}

void mp_locks_close(struct mp_locks *locks)
{
	assert(!locks->table);
	free(locks->deadlines);
	mp_buffer_free(&locks->decided);
}
