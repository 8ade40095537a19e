/* blocking.c - see blocking.h. */
#include "blocking.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "blocking_form.h"
#include "blocking_table.h"
#include "classify.h"
#include "state.h"

enum {
	SWEEP_US_PER_KEY = 200, /* of keys that are waited for */
	ATTEMPT_BYTES = 128,    /* of an attempt, besides its key and the request's options */
	ALL_KEYS = -1,
};

void mp_blocking_init(struct mp_blocking *blocking)
{
	TAILQ_INIT(&blocking->due);
	TAILQ_INIT(&blocking->again);
}

void mp_blocking_close(struct mp_blocking *blocking)
{
	assert(!blocking->waiters && !blocking->keys);
	mp_buffer_free(&blocking->name);
	mp_buffer_free(&blocking->wire);
}

/* ----------------------------------------------------------------- entering */

/* What a read is sent as: wire, for now. */
static bool set_question(struct mp_proxy *proxy, struct mp_request *r)
{
	mp_bytes_release(&proxy->chunks, &r->question);
	return mp_chunks_copy(&proxy->chunks, mp_buffer_slice(&proxy->blocking.wire), &r->question);
}

/* The first that is asked on behalf of a read of streams. */
static bool put_first(struct mp_proxy *proxy, struct mp_request *r,
		      const struct mp_blocking_form *form, const struct resp_request *request)
{
	struct mp_buffer *wire = &proxy->blocking.wire;

	r->asked = mp_blocking_has_last_ids(form, request);
	mp_buffer_clear(wire);
	return (r->asked ? mp_blocking_put_question(form, request, wire)
			 : mp_blocking_put_read(form, request, wire)) &&
	       set_question(proxy, r);
}

bool mp_blocking_enter(struct mp_proxy *proxy, struct mp_request *r)
{
	const struct mp_command *command;
	struct mp_blocking_form form;
	struct resp_request request;
	char error[MP_ERROR_BYTES];

	assert(!r->waiter);
	if (!mp_reparse_redis(proxy, mp_bytes_slice(&r->raw), &request) ||
	    !(command = mp_command_find(proxy->commands, &request, error, sizeof(error))) ||
	    !mp_blocking_form_of(command, &request, &form)) {
		mp_answer_error(proxy, r, "ERR muproxy: not understood by the leader");
		return false;
	}
	if (form.kind == MP_WAIT_STREAM && !put_first(proxy, r, &form, &request)) {
		mp_answer_error(proxy, r, "ERR muproxy: out of memory");
		return false;
	}
	if (mp_waiter_add(proxy, r, &form, &request))
		return true;
	mp_answer_error(proxy, r,
			"ERR muproxy: too many keys are waited for, or too much memory is "
			"taken by who waits; nothing was executed");
	return false;
}

void mp_blocking_end(struct mp_proxy *proxy, struct mp_request *r)
{
	if (r->waiter)
		mp_waiter_free(proxy, r->waiter);
}

/* ------------------------------------------------------------------- feeding */

static void feed(void *ctx, const struct mp_feed *fed)
{
	struct mp_blocking *blocking = ctx;
	struct mp_wait_key *key;

	if (fed->all_databases) {
		blocking->wants_sweep = true;
		return;
	}
	key = mp_wait_find_key(blocking, fed->database, fed->key);
	if (!key)
		return;
	mp_wait_set_due(blocking, key, fed->kinds, fed->elements);
	key->is_fed = true;
}

void mp_blocking_touch_key(struct mp_proxy *proxy, uint32_t database, struct mp_slice key)
{
	struct mp_feed gone = {.database = database, .key = key, .kinds = MP_WAIT_GROUP};

	if (proxy->blocking.group_links > 0)
		feed(&proxy->blocking, &gone);
}

struct removal {
	struct mp_proxy *proxy;
	uint32_t database;
};

static void may_remove(void *ctx, struct mp_slice key)
{
	const struct removal *removal = ctx;

	mp_blocking_touch_key(removal->proxy, removal->database, key);
}

void mp_blocking_touch(struct mp_proxy *proxy, uint32_t database, const struct mp_command *command,
		       const struct resp_request *request)
{
	struct mp_blocking *blocking = &proxy->blocking;
	struct removal removal = {proxy, database};

	if (!mp_blocking_is_on(blocking))
		return;
	mp_blocking_feeds(command, request, database, feed, blocking);
	/* Streams' own commands leave streams where they are. */
	if (blocking->group_links > 0 && command->name[0] != 'x' &&
	    !mp_command_each_key(command, request, may_remove, &removal))
		blocking->wants_sweep = true;
}

/* Any key may have got something. */
static void sweep(struct mp_proxy *proxy)
{
	struct mp_blocking *blocking = &proxy->blocking;
	struct mp_wait_key *key, *next;
	uint64_t now_ns = mp_now_ns(proxy);

	if (!blocking->wants_sweep || now_ns < blocking->next_sweep_ns)
		return;
	blocking->wants_sweep = false;
	HASH_ITER(hh, blocking->keys, key, next) {
		if (key->is_due)
			continue;
		mp_wait_set_due(blocking, key, MP_WAIT_ANY, 1);
		key->is_unsure = key->is_fed = true;
	}
	blocking->next_sweep_ns =
		now_ns + (uint64_t)HASH_COUNT(blocking->keys) * SWEEP_US_PER_KEY * 1000;
}

uint64_t mp_blocking_deadline_ns(const struct mp_proxy *proxy)
{
	const struct mp_blocking *blocking = &proxy->blocking;

	return blocking->wants_sweep && proxy->pipeline.ballot ? blocking->next_sweep_ns
							       : UINT64_MAX;
}

/* ------------------------------------------------------------------ attempts */

/* A client that has left is served no more, though its requests are still there. */
static bool is_there(const struct mp_request *r)
{
	if (r->link)
		return r->link->state != MP_LINK_CLOSED && !r->link->proxy->draining;
	return r->session && !r->session->dead;
}

/* The next of the key's waiters who can be tried. NULL: there is none. */
static struct mp_wait_link *next_waiter(struct mp_wait_key *key)
{
	struct mp_wait_link *link;

	while ((link = key->cursor)) {
		struct mp_waiter *w = link->waiter;

		key->cursor = TAILQ_NEXT(link, place);
		if (!(w->form.kind & key->kinds) || !is_there(w->r) ||
		    (link->group && link->group->tries == 0))
			continue;
		if (!w->is_under_way)
			return link;
		w->again |= key->is_fed;
	}
	return NULL;
}

/* An attempt writes like any other request. */
static void touch(struct mp_proxy *proxy, const struct mp_waiter *w,
		  const struct resp_request *request)
{
	uint32_t database = w->r->meta.database;
	struct mp_wait_key *destination;
	struct mp_slice to;

	if (w->form.group)
		return; /* no key changes */
	mp_watch_touch_key(proxy, database, mp_wait_key_bytes(w->key));
	if (!w->form.destination)
		return;
	to = request->argv[w->form.destination];
	mp_watch_touch_key(proxy, database, to);
	destination = mp_wait_find_key(&proxy->blocking, database, to);
	if (destination)
		mp_wait_set_due(&proxy->blocking, destination, MP_WAIT_LIST, 1);
}

/* key NULL: a read of all streams. */
static void attempt(struct mp_proxy *proxy, struct mp_waiter *w, struct mp_wait_key *key)
{
	bool reads = w->form.kind == MP_WAIT_STREAM;
	struct mp_blocking *blocking = &proxy->blocking;
	struct mp_request *r = w->r;
	struct resp_request request;

	mp_buffer_clear(&blocking->wire);
	if (!mp_reparse_redis(proxy, mp_bytes_slice(w->resolved.len ? &w->resolved : &r->raw),
			      &request) ||
	    !(key ? mp_blocking_put_attempt(&w->form, &request, mp_wait_key_bytes(key),
					    mp_pipeline_now_ms(proxy), &blocking->wire)
		  : mp_blocking_put_read(&w->form, &request, &blocking->wire)) ||
	    (reads && !set_question(proxy, r))) {
		mp_answer_error(proxy, r, "ERR muproxy: out of memory; nothing was executed");
		return;
	}
	w->is_under_way = true;
	w->key = key;
	if (reads) {
		r->wakes = true;
		mp_pipeline_add_reading(proxy, r);
		return;
	}
	touch(proxy, w, &request);
	mp_pipeline_add_attempt(proxy, r, mp_buffer_slice(&blocking->wire));
}

static void attempt_again(struct mp_proxy *proxy, struct mp_waiter *w)
{
	int i = w->next_link;

	w->next_link = i == ALL_KEYS ? w->count : i + 1;
	attempt(proxy, w, i == ALL_KEYS ? NULL : w->links[i].key);
}

/* All who just read are tried, and of the others as many as there may be elements for them. */
static void count_try(struct mp_wait_link *link)
{
	uint32_t *tries = link->group ? &link->group->tries : &link->key->tries;

	if (link->waiter->form.kind == MP_WAIT_STREAM)
		return;
	--*tries;
	link->waiter->is_unsure = *tries == 0 && link->key->is_unsure;
}

void mp_blocking_run(struct mp_proxy *proxy)
{
	struct mp_blocking *blocking = &proxy->blocking;
	struct mp_wait_link *link;
	struct mp_wait_key *key;
	struct mp_waiter *w;

	while ((w = TAILQ_FIRST(&blocking->again)) &&
	       mp_pipeline_room(proxy, w->r->raw.len + ATTEMPT_BYTES) &&
	       (w = TAILQ_FIRST(&blocking->again))) {
		TAILQ_REMOVE(&blocking->again, w, due);
		w->is_due = false;
		if (w->is_under_way)
			w->again = true;
		else if (is_there(w->r))
			attempt_again(proxy, w);
	}
	sweep(proxy);
	/* To ask for room may propose a batch, and cost the request of any waiter. */
	while ((key = TAILQ_FIRST(&blocking->due)) &&
	       mp_pipeline_room(proxy, key->name_len + ATTEMPT_BYTES) &&
	       (key = TAILQ_FIRST(&blocking->due))) {
		link = key->tries > 0 ? next_waiter(key) : NULL;
		if (!link) {
			mp_wait_clear_due(blocking, key);
			continue;
		}
		count_try(link);
		attempt(proxy, link->waiter, key);
	}
}

/* -------------------------------------------------------------------- results */

bool mp_blocking_is_nothing(const struct mp_request *r, struct mp_slice reply)
{
	if (mp_slice_is(reply, "*-1\r\n") || mp_slice_is(reply, "$-1\r\n") ||
	    mp_slice_is(reply, "_\r\n"))
		return true;
	/* Redis wakes nobody for a key of another type; where it moves to is another matter. */
	return r->wakes && !r->meta.moves && mp_starts_with(reply, "-WRONGTYPE ");
}

void mp_blocking_answer(struct mp_proxy *proxy, struct mp_request *r, enum mp_give_up why)
{
	switch (why) {
	case MP_GIVE_UP_ERROR:
		mp_answer_error(proxy, r, "UNBLOCKED client unblocked via CLIENT UNBLOCK");
		break;
	case MP_GIVE_UP_DRAIN:
		mp_answer_error(proxy, r,
				"UNBLOCKED force unblock from blocking operation, instance "
				"state changed (master -> replica?)");
		break;
	default:
		mp_answer(proxy, r, mp_resp_nil_array(r->meta.resp), true);
	}
}

void mp_blocking_unserved(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_blocking *blocking = &proxy->blocking;
	struct mp_waiter *w = r->waiter;

	r->state = MP_REQUEST_BLOCKED;
	r->lsn = 0;
	if (!is_there(r) && !r->session) {
		mp_blocking_end(proxy, r);
		mp_drop(proxy, r);
	} else if (r->give_up) {
		mp_blocking_answer(proxy, r, (enum mp_give_up)r->give_up);
	} else if (!w && r->link) {
		mp_drop(proxy, r); /* its sender knows that we lead no more */
	} else if (!w) {
		r->since_ms = mp_now_ms(proxy);
		mp_session_unsend(r->session, r);
	} else {
		w->is_under_way = false;
		w->is_unsure = false;
		/* Who knows its last IDs by now has not looked at its streams yet. */
		if (!w->is_proven && w->next_link != ALL_KEYS) {
			blocking->blocked++;
			w->is_proven = true;
		}
		if (w->again)
			w->next_link = 0;
		w->again = false;
		w->is_due = w->next_link < w->count;
		if (w->is_due)
			TAILQ_INSERT_TAIL(&blocking->again, w, due);
	}
}

/* An element has come to where it was to go. */
static void feed_destination(struct mp_proxy *proxy, const struct mp_waiter *w)
{
	struct mp_feed fed = {
		.database = w->r->meta.database, .kinds = MP_WAIT_LIST, .elements = 1};
	struct resp_request request;

	if (!mp_reparse_redis(proxy, mp_bytes_slice(&w->r->raw), &request))
		return;
	fed.key = request.argv[w->form.destination];
	feed(&proxy->blocking, &fed);
}

void mp_blocking_served(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice piece)
{
	struct mp_waiter *w = r->waiter;
	bool is_error = piece.len > 0 && piece.data[0] == '-';

	if (!w)
		return;
	/* Who gets an error has left to the others what was there for him. */
	if (w->key && (w->is_unsure || is_error))
		mp_wait_set_due(&proxy->blocking, w->key, w->form.kind, MP_FEED_UNKNOWN);
	if (w->form.destination && !is_error)
		feed_destination(proxy, w);
	mp_blocking_end(proxy, r);
}

void mp_blocking_take_ids(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice answer)
{
	struct mp_buffer *wire = &proxy->blocking.wire;
	struct mp_waiter *w = r->waiter;
	struct resp_request request;

	if (!w) {
		mp_blocking_unserved(proxy, r); /* whoever leads now will ask again */
		return;
	}
	if (answer.len > 0 && answer.data[0] == '-') {
		mp_answer(proxy, r, answer, true);
		return;
	}
	mp_buffer_clear(wire);
	if (!mp_reparse_redis(proxy, mp_bytes_slice(&r->raw), &request) ||
	    !mp_blocking_put_resolved(&w->form, &request, answer, wire) ||
	    !mp_chunks_copy(&proxy->chunks, mp_buffer_slice(wire), &w->resolved)) {
		mp_answer_error(proxy, r, "ERR muproxy: out of memory");
		return;
	}
	r->asked = false;
	w->again = false; /* what has come meanwhile is found by what follows */
	w->next_link = ALL_KEYS;
	mp_blocking_unserved(proxy, r);
}

/* ---------------------------------------------------------------------- ends */

static void give_up_in(const struct mp_request_list *list, const struct mp_link *link,
		       uint64_t sequence, enum mp_give_up why)
{
	struct mp_request *r;

	TAILQ_FOREACH(r, list, place)
		if (r->link == link && r->origin.sequence == sequence)
			r->give_up = (uint8_t)why;
}

void mp_blocking_give_up(struct mp_proxy *proxy, struct mp_link *link, uint64_t sequence,
			 enum mp_give_up why)
{
	uint64_t id[2] = {link->peer_nonce, sequence};
	struct mp_waiter *w;

	HASH_FIND(hh, proxy->blocking.waiters, id, sizeof(id), w);
	if (w && w->r->link == link) {
		if (w->r->state == MP_REQUEST_BLOCKED)
			mp_blocking_answer(proxy, w->r, why);
		else
			w->r->give_up = (uint8_t)why;
		return;
	}
	/* It may not be in the pipeline yet. */
	give_up_in(&proxy->router.inbox, link, sequence, why);
	give_up_in(&proxy->large.held, link, sequence, why);
}

void mp_blocking_link_closed(struct mp_proxy *proxy, const struct mp_link *link)
{
	struct mp_waiter *w, *next;

	HASH_ITER(hh, proxy->blocking.waiters, w, next) {
		struct mp_request *r = w->r;

		if (r->link != link || r->state != MP_REQUEST_BLOCKED)
			continue;
		mp_blocking_end(proxy, r);
		mp_drop(proxy, r);
	}
}

void mp_blocking_abandon(struct mp_proxy *proxy)
{
	struct mp_blocking *blocking = &proxy->blocking;
	struct mp_waiter *w, *next;

	HASH_ITER(hh, blocking->waiters, w, next) {
		struct mp_request *r = w->r;

		mp_blocking_end(proxy, r);
		/* What is under way is taken apart with its batch, or answered by the own server.
		 */
		if (r->state == MP_REQUEST_BLOCKED)
			mp_blocking_unserved(proxy, r);
	}
	blocking->wants_sweep = false;
}
