/* mc_decide.c - see mc_decide.h. */
#include "mc_decide.h"

#include <assert.h>
#include <string.h>

#include "mc_answer.h"
#include "mc_parser.h"

enum { DEADLINE_TO_BE_WON_S = 3600 }; /* of an item that R is to win: any */

/* What a decision works with. */
struct deciding {
	const struct mc_request *request;
	const struct mc_item *item;
	uint64_t term;
	int64_t now_s;
	const struct mc_limits *limits;
	struct mc_deadlines *deadlines;
	struct mc_writer record;
	struct mc_result_facts facts;
	struct mc_decision *decision;
};

static void answer(struct deciding *d, enum mc_outcome outcome)
{
	mc_answer(d->request, outcome, &d->facts, d->decision);
}

/* --------------------------------------------------------------- the record */

/* A meta command on the key, one of the record's. flags: "" or " u" and the like. */
static void put_command(struct deciding *d, const char *verb, const char *flags)
{
	mc_put_meta(&d->record, d->request, verb);
	mc_put_text(&d->record, flags);
	mc_put_text(&d->record, "\r\n");
	d->decision->commands++;
}

static void put_delete(struct deciding *d)
{
	mc_put_delete(&d->record, d->request);
	d->decision->commands++;
}

/* Marked as stale it gets a new token, unless cas is one that a client has chosen: then that. */
static void mark_stale(struct deciding *d, uint64_t cas)
{
	mc_put_meta(&d->record, d->request, "md");
	mc_put_text(&d->record, " I");
	if (mc_cas_is_chosen(cas))
		mc_put_token(&d->record, cas);
	mc_put_text(&d->record, "\r\n");
	d->decision->commands++;
}

/* What the item is to have if it becomes another one; 0: what backends choose. */
static uint64_t next_cas(const struct deciding *d)
{
	return mc_has(d->request, 'E') ? mc_cas_of_chosen(d->request->chosen) : 0;
}

/*
 * The item is to stay what it is. If reading it has taken the win that comes
 * with a stale item, that is made good: the next reader wins.
 */
static void keep(struct deciding *d)
{
	if (d->item->won && d->item->stale)
		mark_stale(d, d->item->cas);
}

/* The key is missing, and the command wants it. */
static void miss(struct deciding *d, enum mc_outcome outcome)
{
	put_delete(d);
	answer(d, outcome);
}

static void fail(struct deciding *d, enum mc_outcome outcome)
{
	keep(d);
	answer(d, outcome);
}

static void put_store(struct deciding *d, uint32_t flags, int64_t deadline_s,
		      const struct mc_value *value)
{
	mc_put_store(&d->record, d->request, flags, deadline_s, value);
	d->decision->commands++;
	d->facts.deadline_s = deadline_s;
}

/* What the client sent becomes the item. */
static void store(struct deciding *d)
{
	const struct mc_request *r = d->request;

	put_store(d, r->flags, mc_deadline(d->deadlines, r->keys[0], r->exptime, d->now_s),
		  &(struct mc_value){.head = r->value});
	answer(d, MC_DONE_WELL);
}

static int64_t kept_deadline(struct deciding *d)
{
	return mc_kept_deadline(d->deadlines, d->request->keys[0], d->item->left_s, d->now_s);
}

/*
 * What is stored anew is as stale as the item was before, as much somebody's to
 * refresh, and has been read, or not. (Of an item that is not stale R takes the
 * win; of one that is, any mg does, so it is read before it is stale.)
 */
static void store_with_marks(struct deciding *d, int64_t deadline_s, const struct mc_value *value)
{
	const struct mc_item *item = d->item;
	bool takes_win = item->sent && !item->stale;

	put_store(d, item->flags, takes_win ? mc_deadline_to_be_won(deadline_s) : deadline_s,
		  value);
	d->facts.deadline_s = deadline_s;
	if (!item->stale && !item->sent && !item->fetched)
		return;
	if (takes_win) {
		mc_put_win(&d->record, d->request, item->fetched ? "" : " u", deadline_s);
		d->decision->commands++;
	} else if (item->fetched) {
		put_command(d, "mg", "");
	}
	if (item->stale)
		mark_stale(d, next_cas(d));
	if (item->stale && item->sent)
		put_command(d, "mg", " u");
	if (mc_wants_token(d->request))
		put_command(d, "me", "");
}

/* ------------------------------------------------------------------- stores */

static bool matches(const struct deciding *d)
{
	return mc_cas_matches(d->request->cas, d->term, d->item->cas);
}

/* ms with I: a value older than the item's is stored as a stale one. */
static bool is_older(const struct deciding *d)
{
	return mc_has(d->request, 'I') && d->request->cas > 0 &&
	       d->request->cas < mc_cas_tag(d->term, d->item->cas);
}

static void decide_cas(struct deciding *d)
{
	const struct mc_request *r = d->request;

	if (!d->item->found) {
		miss(d, MC_NOT_THERE);
	} else if (d->request->cas != 0 && matches(d)) {
		store(d);
	} else if (is_older(d)) {
		put_store(d, r->flags, kept_deadline(d), &(struct mc_value){.head = r->value});
		mark_stale(d, next_cas(d));
		if (d->item->sent)
			put_command(d, "mg", " u");
		if (mc_wants_token(r))
			put_command(d, "me", "");
		answer(d, MC_DONE_WELL);
	} else {
		fail(d, MC_IS_THERE);
	}
}

/* An item that is missing, and that the client wants then. */
static void begin(struct deciding *d, uint32_t flags, int64_t exptime, struct mp_slice value)
{
	put_store(d, flags, mc_deadline(d->deadlines, d->request->keys[0], exptime, d->now_s),
		  &(struct mc_value){.head = value});
	answer(d, MC_DONE_WELL);
}

/* append, prepend: the item keeps what else it has */
static void decide_extend(struct deciding *d)
{
	struct mp_slice old = d->item->value, more = d->request->value;
	struct mc_value value = {.head = old, .tail = more};

	if (!d->item->found && d->request->vivify) {
		begin(d, d->request->flags, d->request->vivify_exptime, more);
	} else if (!d->item->found) {
		miss(d, MC_NOT_PUT);
	} else if (d->request->compare && d->request->cas != 0 && !matches(d)) {
		fail(d, MC_IS_THERE);
	} else if (!mc_fits(d->limits, d->request->keys[0].len, d->item->flags,
			    old.len + more.len)) {
		fail(d, MC_NOT_PUT);
	} else {
		if (d->request->verb == MC_PREPEND)
			value = (struct mc_value){.head = more, .tail = old};
		d->facts.old_bytes = old.len;
		put_store(d, d->item->flags, kept_deadline(d), &value);
		answer(d, MC_DONE_WELL);
	}
}

/* ----------------------------------------------------------------- counters */

/*
 * The number that a value is to incr and decr, as strtoull(3) reads it: blanks
 * before, a sign, and behind the digits nothing but a blank, or a NUL. What follows that
 * does not count, but a minus anywhere makes what would be 2^63 or more no
 * number at all: so -1 is none.
 */
static bool read_value(struct mp_slice value, uint64_t *number)
{
	const char *nul = memchr(value.data, '\0', value.len);

	if (nul)
		value.len = (size_t)(nul - value.data);
	return mc_read_u64(value, number);
}

/* Of a meta command's flags: is there a first, with no second before it? */
static bool comes_first(const struct mc_request *r, char first, char second)
{
	const char *s = r->args.data, *end;
	struct mp_slice word;

	if (r->dialect != MC_META || !mc_has(r, first))
		return false;
	end = s + r->args.len;
	do
		word = mc_next_word(&s, end);
	while (*word.data != first && *word.data != second);
	return *word.data == first;
}

/* How long a new item is to live: of N and T the flag that comes last has its way. */
static int64_t first_exptime(const struct mc_request *r)
{
	return comes_first(r, 'N', 'T') && mc_has(r, 'T') ? r->exptime : r->vivify_exptime;
}

/* A counter that is missing begins, if the client says with what. */
static void begin_counting(struct deciding *d)
{
	const struct mc_request *r = d->request;
	char digits[MP_DECIMAL_BYTES];
	struct mp_slice text = {digits, mp_format_u64(digits, r->initial)};

	if (!r->vivify) {
		miss(d, MC_NOT_THERE);
		return;
	}
	d->facts.number = r->initial;
	d->facts.is_new = true;
	begin(d, 0, first_exptime(r), text);
}

static int64_t counter_deadline(struct deciding *d)
{
	const struct mc_request *r = d->request;

	if (r->dialect == MC_META && mc_has(r, 'T'))
		return mc_deadline(d->deadlines, r->keys[0], r->exptime, d->now_s);
	return kept_deadline(d);
}

/* incr wraps at 2^64, decr stops at 0. A shorter result is padded to the old length. */
static void count(struct deciding *d, uint64_t number)
{
	const struct mc_request *r = d->request;
	char digits[MP_DECIMAL_BYTES];
	struct mc_value value = {0};

	if (r->verb == MC_INCR)
		number += r->number;
	else
		number = number > r->number ? number - r->number : 0;
	value.head = (struct mp_slice){digits, mp_format_u64(digits, number)};
	if (d->item->value.len > value.head.len)
		value.blanks = d->item->value.len - value.head.len;
	d->facts.number = number;
	d->facts.old_deadline_s = kept_deadline(d);
	if (value.head.len <= d->item->value.len)
		store_with_marks(d, counter_deadline(d), &value);
	else /* a new item to memcached, too */
		put_store(d, d->item->flags, counter_deadline(d), &value);
	answer(d, MC_DONE_WELL);
}

static void decide_delta(struct deciding *d)
{
	const struct mc_request *r = d->request;
	uint64_t number;

	if (!d->item->found)
		begin_counting(d);
	else if (d->item->value.len == 0)
		fail(d, MC_NO_NUMBER);
	else if (r->compare && r->cas != 0 && !matches(d))
		fail(d, MC_IS_THERE);
	else if (!read_value(d->item->value, &number))
		fail(d, MC_NO_NUMBER);
	else
		count(d, number);
}

/* ------------------------------------------------- items that stay, or go */

/* md with I or x: an item without the mark, or without its value, gets that, and stays. */
static void leave_remains(struct deciding *d)
{
	const struct mc_request *r = d->request;
	struct mc_writer *w = &d->record;

	mc_put_meta(w, r, "md");
	if (mc_has(r, 'x')) {
		mc_put_text(w, " x");
		mc_put_flag(w, 'F', r->flags);
	}
	if (mc_has(r, 'I'))
		mc_put_text(w, " I");
	if (mc_has(r, 'T'))
		mc_put_flag(w, 'T', mc_deadline(d->deadlines, r->keys[0], r->exptime, d->now_s));
	if (mc_has(r, 'E'))
		mc_put_token(w, next_cas(d));
	mc_put_text(w, "\r\n");
	d->decision->commands++;
}

/* (At md x memcached forgets that a key came in base64, as at mg N; see vivify().) */
static void decide_delete(struct deciding *d)
{
	const struct mc_request *r = d->request;

	if (!d->item->found) {
		miss(d, MC_NOT_THERE);
		return;
	}
	if (r->compare && !matches(d)) {
		fail(d, MC_IS_THERE);
		return;
	}
	if (mc_has(r, 'x') && mc_key_is_odd(r->keys[0])) {
		put_store(d, r->flags, mc_deadline(d->deadlines, r->keys[0], r->exptime, d->now_s),
			  &(struct mc_value){0});
		if (mc_has(r, 'I'))
			mark_stale(d, next_cas(d));
	} else if (mc_has(r, 'I') || mc_has(r, 'x')) {
		leave_remains(d);
	} else {
		put_delete(d);
	}
	answer(d, MC_DONE_WELL);
}

/* touch and gat. What gat answers is what the server says, so as not to put values in the log. */
static void decide_touch(struct deciding *d)
{
	const struct mc_request *r = d->request;

	if (!d->item->found) {
		miss(d, MC_NOT_THERE);
		return;
	}
	keep(d);
	mc_put_touch(&d->record, r, mc_deadline(d->deadlines, r->keys[0], r->exptime, d->now_s));
	d->decision->commands++;
	d->facts.flags = d->item->flags;
	d->facts.token = mc_cas_tag(d->term, d->item->cas);
	if (r->verb == MC_TOUCH)
		answer(d, MC_DONE_WELL);
}

/*
 * Does this mg win the right to refresh the item, since it has less than R to live?
 * memcached takes flags as they come: what T says counts for an R that stands behind it.
 */
static bool wins_recache(const struct deciding *d)
{
	const struct mc_request *r = d->request;
	int64_t threshold_s = mc_absolute(r->recache_exptime, d->now_s);
	int64_t deadline_s = d->item->left_s >= 0 ? d->now_s + d->item->left_s : 0;

	if (comes_first(r, 'T', 'R'))
		deadline_s = mc_absolute(r->exptime, d->now_s);
	return mc_has(r, 'R') && deadline_s != 0 && threshold_s > 0 && deadline_s < threshold_s;
}

/*
 * mg's N makes an item. memcached forgets then that the key came in base64, and would
 * ever after tell it bare: one with a line end in it would look like two replies. Such an
 * item is made by a store, which does not forget, and won by R.
 */
static void vivify(struct deciding *d, struct mc_mg_changes *changes)
{
	const struct mc_request *r = d->request;
	int64_t exptime = r->vivify_exptime;

	if (mc_key_is_odd(r->keys[0])) {
		changes->is_made = true;
		changes->touch = false;
		exptime = first_exptime(r);
		put_store(d, 0, d->now_s + DEADLINE_TO_BE_WON_S, &(struct mc_value){0});
	}
	changes->vivify = true;
	changes->vivify_s = mc_deadline(d->deadlines, r->keys[0], exptime, d->now_s);
}

/* mg with N, R or T: the server's answer is the client's, but its clock decides nothing. */
static void decide_mg(struct deciding *d)
{
	const struct mc_request *r = d->request;
	struct mc_mg_changes changes = {.touch = mc_has(r, 'T'), .recache_s = INT32_MAX};

	if (!d->item->found) {
		put_delete(d);
		if (!r->vivify) {
			answer(d, MC_NOT_THERE);
			return;
		}
		vivify(d, &changes);
	} else {
		keep(d);
		changes.recache = wins_recache(d);
	}
	if (changes.touch)
		changes.touch_s = mc_deadline(d->deadlines, r->keys[0], r->exptime, d->now_s);
	mc_put_mg(&d->record, r, &changes);
	d->decision->commands++;
}

static void decide(struct deciding *d)
{
	bool found = d->item->found;

	switch (d->request->verb) {
	case MC_ADD:
		if (found)
			fail(d, MC_NOT_PUT);
		else
			store(d);
		break;
	case MC_REPLACE:
		if (found)
			store(d);
		else
			miss(d, MC_NOT_PUT);
		break;
	case MC_CAS:
		decide_cas(d);
		break;
	case MC_APPEND:
	case MC_PREPEND:
		decide_extend(d);
		break;
	case MC_INCR:
	case MC_DECR:
		decide_delta(d);
		break;
	case MC_DELETE:
		decide_delete(d);
		break;
	case MC_MG:
		decide_mg(d);
		break;
	default:
		decide_touch(d);
		break;
	}
}

void mc_decide(const struct mc_request *r, const struct mc_item *item, uint64_t term, int64_t now_s,
	       const struct mc_limits *limits, struct mc_deadlines *deadlines, char *out,
	       size_t cap, struct mc_decision *decision)
{
	struct deciding d = {.request = r,
			     .item = item,
			     .term = term,
			     .now_s = now_s,
			     .limits = limits,
			     .deadlines = deadlines,
			     .record = {out, cap, 0},
			     .facts.now_s = now_s,
			     .decision = decision};

	assert(mc_class_of(r) == MC_CLASS_DECIDED && r->key_count == 1);
	decision->commands = 0;
	decision->reply_bytes = 0;
	decide(&d);
	decision->record_bytes = d.record.bytes;
}
