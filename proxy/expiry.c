/* expiry.c - see expiry.h: following the entries, and asking the backend. */
#include "expiry.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"
#include "deadline_effects.h"
#include "decimal.h"
#include "log.h"
#include "question.h"
#include "redis_scripts.h"
#include "state.h"

/* Up to a thousand keys and a few, in about a millisecond; whoever has a deadline is told. */
static const char scan_script[] = "local found = redis.call('SCAN', ARGV[1], 'COUNT', 1000) "
				  "local out = {found[1]} "
				  "for _, key in ipairs(found[2]) do "
				  "local due = redis.call('PEXPIRETIME', key) "
				  "if due >= 0 then "
				  "out[#out + 1] = key "
				  "out[#out + 1] = string.format('%.0f', due) "
				  "end end "
				  "return out";

void mp_expiry_close(struct mp_expiry *expiry)
{
	mp_deadlines_free(&expiry->index);
	mp_buffer_free(&expiry->wire);
	mp_fifo_free(&expiry->asking);
}

/* ----------------------------------------------------------------- questions */

/* The index is not what it has to be: this replica must not lead. */
static void fail(struct mp_proxy *proxy)
{
	if (proxy->expiry.is_complete)
		mp_error("out of memory for keys' deadlines: this replica cannot lead until its "
			 "backend has been connected to anew");
	proxy->expiry.is_complete = false;
}

/* Until what was asked at that time is answered. */
static void stop_clock(struct mp_expiry *expiry, uint64_t now_ms)
{
	*(uint64_t *)mp_fifo_push(&expiry->asking) = now_ms;
}

/* Ask for a key's real deadline, as of here in the log. */
static void ask_deadline(struct mp_proxy *proxy, struct mp_deadline *node, uint64_t now_ms)
{
	struct mp_expiry *expiry = &proxy->expiry;
	struct mp_slice argv[2] = {{"PEXPIRETIME", 11}, {node->key, node->key_bytes}};

	mp_deadlines_ask(&expiry->index, node, ++expiry->serial);
	if (!mp_question_ask(proxy, MP_PURPOSE_DEADLINE, node->ask, node->database, 2, argv)) {
		fail(proxy);
		return;
	}
	stop_clock(expiry, now_ms);
}

/* ... and for what the scripts of a record have set. */
static void ask_scripts(struct mp_proxy *proxy, struct mp_slice stamp, uint64_t now_ms)
{
	struct mp_expiry *expiry = &proxy->expiry;
	char number[MP_DECIMAL_BYTES];
	struct mp_slice argv[5] = {{"EVAL", 4},
				   mp_slice_of(mp_script_question),
				   {"0", 1},
				   {number, mp_format_i64(number, proxy->databases)},
				   stamp};

	if (!mp_question_ask(proxy, MP_PURPOSE_SCRIPT, ++expiry->serial, 0, 5, argv)) {
		fail(proxy);
		return;
	}
	expiry->scripts++;
	stop_clock(expiry, now_ms);
}

static void take_deadline(struct mp_proxy *proxy, const struct mp_request *r,
			  struct mp_slice answer)
{
	struct mp_deadlines *index = &proxy->expiry.index;
	struct resp_request question;
	struct mp_deadline *node;
	int64_t when_ms;

	if (!mp_reparse_redis(proxy, mp_bytes_slice(&r->raw), &question))
		return;
	node = mp_deadlines_find(index, r->meta.database, question.argv[1]);
	/* Commands on it have been handed on since? Then another question is on its way. */
	if (!node || node->state != MP_DEADLINE_ASKED || node->ask != r->origin.sequence)
		return;
	if (answer.len < 4 || answer.data[0] != ':' ||
	    !mp_parse_i64((struct mp_slice){answer.data + 1, answer.len - 3}, &when_ms)) {
		mp_error("redis: PEXPIRETIME: %.*s", (int)(answer.len < 100 ? answer.len : 100),
			 answer.data);
		mp_deadlines_requeue(index, node, node->due_ms, false);
	} else if (when_ms < MP_DEADLINE_PAD_MS) {
		mp_deadlines_remove(index, node);
	} else {
		mp_deadlines_requeue(index, node, when_ms - MP_DEADLINE_PAD_MS, true);
	}
}

/* ------------------------------------------------------- following the entries */

bool mp_effects_of(struct mp_proxy *proxy, struct mp_slice wire, int commands, uint32_t database,
		   mp_effect_visitor *visit, void *ctx)
{
	if (!mp_parser_ready(proxy))
		return false;
	if (mp_effects_each(proxy->resp, wire, commands, database, visit, ctx))
		return true;
	mp_parser_spoilt(proxy);
	return false;
}

struct following {
	struct mp_proxy *proxy;
	uint64_t now_ms;
	bool has_asked; /* for what the record's scripts have set */
};

static void lower(const struct following *f, uint32_t database, struct mp_slice key,
		  int64_t when_ms, bool is_exact)
{
	struct mp_deadlines *index = &f->proxy->expiry.index;
	struct mp_deadline *node;

	if (!mp_deadlines_lower(index, database, key, when_ms, is_exact)) {
		fail(f->proxy);
		return;
	}
	/* The question under way comes before this command. */
	node = mp_deadlines_find(index, database, key);
	if (node->state == MP_DEADLINE_ASKED)
		ask_deadline(f->proxy, node, f->now_ms);
}

static void follow_move(const struct following *f, const struct mp_effect *e)
{
	struct mp_deadlines *index = &f->proxy->expiry.index;
	const struct mp_deadline *from = mp_deadlines_find(index, e->database, e->key);
	struct mp_deadline *to;

	if (f->proxy->expiry.is_complete && f->proxy->expiry.scripts == 0) {
		/* A bound that was not exact does not become so by moving. */
		if (from)
			lower(f, e->to_database, e->to, from->due_ms, from->is_exact);
		return;
	}
	/* It may have one that the scan, or an answer, has not come to, and would not find in the
	 * new place. */
	lower(f, e->to_database, e->to, (int64_t)f->now_ms, false);
	to = mp_deadlines_find(index, e->to_database, e->to);
	if (to && to->state == MP_DEADLINE_QUEUED)
		ask_deadline(f->proxy, to, f->now_ms);
}

static void follow_expire(const struct following *f, const struct mp_effect *e)
{
	struct mp_deadlines *index = &f->proxy->expiry.index;
	struct mp_deadline *node = mp_deadlines_find(index, e->database, e->key);

	if (!node || node->due_ms > e->when_ms)
		return;
	if (node->is_exact)
		mp_deadlines_remove(index, node);
	else
		ask_deadline(f->proxy, node, f->now_ms);
}

static void follow_eviction(const struct following *f, const struct mp_effect *e)
{
	struct mp_deadlines *index = &f->proxy->expiry.index;
	struct mp_deadline *node = mp_deadlines_find(index, e->database, e->key);

	f->proxy->memory.evicted++;
	if (node)
		mp_deadlines_remove(index, node);
}

static void start_scan(struct mp_proxy *proxy);

/* The index is not to be trusted: the backend is asked for everything. */
static void begin_anew(struct mp_proxy *proxy)
{
	proxy->expiry.is_complete = false;
	start_scan(proxy);
}

static void follow_swap(const struct following *f, const struct mp_effect *e)
{
	struct mp_expiry *expiry = &f->proxy->expiry;

	if (!mp_deadlines_swap(&expiry->index, e->database, e->to_database))
		fail(f->proxy);
	if (!expiry->is_complete)
		start_scan(f->proxy);
	if (expiry->scripts == 0)
		return;
	if (expiry->swap_count == MP_SWAPS)
		begin_anew(f->proxy);
	else
		expiry->swaps[expiry->swap_count++] =
			(struct mp_swap){++expiry->serial, e->database, e->to_database};
}

static void follow(void *ctx, const struct mp_effect *e)
{
	struct following *f = ctx;
	struct mp_deadlines *index = &f->proxy->expiry.index;

	switch (e->kind) {
	case MP_EFFECT_SET:
		if (!mp_deadlines_set(index, e->database, e->key, e->when_ms))
			fail(f->proxy);
		break;
	case MP_EFFECT_MAYBE:
		lower(f, e->database, e->key, e->when_ms, true);
		break;
	case MP_EFFECT_MOVE:
		follow_move(f, e);
		break;
	case MP_EFFECT_EXPIRE:
		follow_expire(f, e);
		break;
	case MP_EFFECT_GONE:
		follow_eviction(f, e);
		break;
	case MP_EFFECT_FLUSH:
		mp_deadlines_flush(index, e->database);
		break;
	case MP_EFFECT_SWAP:
		follow_swap(f, e);
		break;
	case MP_EFFECT_SCRIPT:
		/* They have all been executed by the time that it is asked. */
		if (!f->has_asked)
			ask_scripts(f->proxy, e->key, f->now_ms);
		f->has_asked = true;
		break;
	}
}

void mp_expiry_note(struct mp_proxy *proxy, const struct mp_record_view *record, uint64_t now_ms)
{
	struct following f = {.proxy = proxy, .now_ms = now_ms};

	if (!mp_effects_of(proxy, record->wire, (int)record->head.commands, record->head.database,
			   follow, &f))
		fail(proxy);
}

/* ----------------------------------------------------------------- parsed replies */

/* A deadline that a script has set, or found; databases may have changed places since. */
static void take_told(const struct following *f, uint64_t serial, uint32_t database,
		      struct mp_slice key, int64_t when_ms)
{
	struct mp_expiry *expiry = &f->proxy->expiry;

	lower(f, database, key, when_ms, false);
	for (uint32_t i = 0; i < expiry->swap_count; i++) {
		const struct mp_swap *swap = &expiry->swaps[i];

		if (swap->serial < serial || (swap->one != database && swap->other != database))
			continue;
		database = swap->one == database ? swap->other : swap->one;
		lower(f, database, key, when_ms, false);
	}
}

static void take_scripts(struct mp_proxy *proxy, const struct mp_request *r, struct mp_slice answer)
{
	struct following f = {.proxy = proxy, .now_ms = proxy->apply.now_ms};
	redisReply *reply = mp_question_array(answer);

	if (!reply) {
		begin_anew(proxy);
		return;
	}
	for (size_t i = 0; i + 2 < reply->elements; i += 3) {
		redisReply *const *told = &reply->element[i];

		if (told[0]->str && told[1]->str && told[2]->str)
			take_told(&f, r->origin.sequence, (uint32_t)atoi(told[0]->str),
				  (struct mp_slice){told[1]->str, told[1]->len},
				  atoll(told[2]->str));
	}
	freeReplyObject(reply);
}

/* ------------------------------------------------------------------- the scan */

static void ask_scan(struct mp_proxy *proxy, struct mp_slice cursor)
{
	struct mp_slice argv[4] = {
		{"EVAL", 4}, {scan_script, sizeof(scan_script) - 1}, {"0", 1}, cursor};

	if (!mp_question_ask(proxy, MP_PURPOSE_SCAN, proxy->expiry.scan_serial,
			     proxy->expiry.scan_database, 4, argv))
		mp_error("out of memory for a scan of the backend's deadlines");
}

/* An answer to an earlier one will be told by its serial. */
static void start_scan(struct mp_proxy *proxy)
{
	proxy->expiry.scan_serial = ++proxy->expiry.serial;
	proxy->expiry.scan_database = 0;
	ask_scan(proxy, (struct mp_slice){"0", 1});
}

static bool take_scanned(struct mp_proxy *proxy, const redisReply *reply)
{
	size_t i;

	for (i = 1; i + 1 < reply->elements; i += 2) {
		const redisReply *key = reply->element[i], *due = reply->element[i + 1];
		long long when_ms = due->type == REDIS_REPLY_STRING ? atoll(due->str) : 0;

		if (key->type != REDIS_REPLY_STRING || when_ms < MP_DEADLINE_PAD_MS)
			continue;
		if (!mp_deadlines_lower(&proxy->expiry.index, proxy->expiry.scan_database,
					(struct mp_slice){key->str, key->len},
					when_ms - MP_DEADLINE_PAD_MS, true))
			return false;
	}
	return true;
}

static void scan_on(struct mp_proxy *proxy, const redisReply *cursor)
{
	struct mp_expiry *expiry = &proxy->expiry;

	if (strcmp(cursor->str, "0") != 0) {
		ask_scan(proxy, (struct mp_slice){cursor->str, cursor->len});
		return;
	}
	if ((int)++expiry->scan_database < proxy->databases) {
		ask_scan(proxy, (struct mp_slice){"0", 1});
		return;
	}
	expiry->is_complete = true;
	mp_info("redis: %zu keys have deadlines", expiry->index.count);
}

static void take_scan(struct mp_proxy *proxy, struct mp_slice answer)
{
	redisReply *reply = mp_question_array(answer);

	if (!reply)
		return;
	if (reply->elements > 0 && reply->element[0]->type == REDIS_REPLY_STRING &&
	    take_scanned(proxy, reply))
		scan_on(proxy, reply->element[0]);
	freeReplyObject(reply);
}

void mp_expiry_restart(struct mp_proxy *proxy, uint64_t keys)
{
	struct mp_expiry *expiry = &proxy->expiry;

	/* What the index holds stays true; what was being asked will not be answered. */
	expiry->asking.item_bytes = sizeof(uint64_t);
	mp_fifo_clear(&expiry->asking);
	expiry->scripts = expiry->swap_count = 0;
	mp_deadlines_requeue_all(&expiry->index);
	expiry->is_complete = keys == 0;
	if (!expiry->is_complete)
		start_scan(proxy);
}

void mp_expiry_forget(struct mp_proxy *proxy)
{
	mp_deadlines_free(&proxy->expiry.index);
	proxy->expiry.is_complete = false;
}

void mp_expiry_answer(struct mp_proxy *proxy, const struct mp_request *r, struct mp_slice answer)
{
	struct mp_expiry *expiry = &proxy->expiry;

	/* They are answered in the order in which they were asked. */
	if (r->purpose != MP_PURPOSE_SCAN)
		mp_fifo_pop(&expiry->asking);
	if (r->purpose == MP_PURPOSE_DEADLINE) {
		take_deadline(proxy, r, answer);
	} else if (r->purpose == MP_PURPOSE_SCRIPT) {
		take_scripts(proxy, r, answer);
		if (--expiry->scripts == 0)
			expiry->swap_count = 0;
	} else if (r->origin.sequence == expiry->scan_serial) {
		take_scan(proxy, answer);
	}
}
