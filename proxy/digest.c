/* digest.c - see digest.h: asking, answering, and what comes of it. */
#include "digest.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "classify.h"
#include "digest_judge.h"
#include "log.h"
#include "proxy/digest.inc"
#include "question.h"
#include "redis_wire.h"
#include "state.h"

enum {
	PATIENCE_MS = 5000,      /* then those who have answered are compared */
	HURRY_MS = 20,           /* between questions, while a number of keys differs */
	HAND_OVER_MS = 3000,     /* for a leader that is wrong to be rid of that role */
	NAMES_BYTES = 256 << 10, /* longer lists of names are not taken */
	TAG_BYTES = 48,
};

/* ----------------------------------------------------------- a question's state */

/* Tells it from all others, and who is to name more keys. */
static void put_tag(const struct mp_proxy *proxy, char tag[TAG_BYTES])
{
	snprintf(tag, TAG_BYTES, "%" PRIx64 "-%" PRIx64 "-%" PRIx32, proxy->options.origin_nonce,
		 proxy->digest.serial, proxy->digest.lacking);
}

static bool is_lacked(const struct mp_proxy *proxy, struct mp_slice tag)
{
	char text[TAG_BYTES];
	uint32_t lacking;

	snprintf(text, sizeof(text), "%.*s", (int)tag.len, tag.data);
	return sscanf(text, "%*x-%*x-%" SCNx32, &lacking) == 1 && lacking >> proxy->options.id & 1;
}

static void drop(struct redisReply **reply)
{
	freeReplyObject(*reply);
	*reply = NULL;
}

static void end_question(struct mp_digest *digest)
{
	digest->is_asked = false;
	drop(&digest->keys);
	for (unsigned id = 0; id < MU_ID_SLOTS; id++)
		drop(&digest->answer[id]);
}

static void forget(struct mp_digest *digest)
{
	end_question(digest);
	for (unsigned id = 0; id < MU_ID_SLOTS; id++)
		drop(&digest->named[id].keys);
	digest->hurried = 0;
}

void mp_digest_close(struct mp_proxy *proxy)
{
	forget(&proxy->digest);
	mp_buffer_free(&proxy->digest.wire);
}

/* ---------------------------------------------------------------- naming keys */

/* Behind the end of a database comes the next. */
static void move_cursor(struct mp_proxy *proxy, const redisReply *scan)
{
	struct mp_digest *digest = &proxy->digest;

	snprintf(digest->cursor, sizeof(digest->cursor), "%s", scan->element[0]->str);
	if (strcmp(digest->cursor, "0") == 0 && (int)++digest->scan_database >= proxy->databases)
		digest->scan_database = 0;
}

static void ask_names(struct mp_proxy *proxy)
{
	struct mp_digest *digest = &proxy->digest;
	char count[16];
	struct mp_slice argv[4] = {mp_slice_of("SCAN"),
				   mp_slice_of(digest->cursor[0] ? digest->cursor : "0"),
				   mp_slice_of("COUNT")};

	if (digest->is_scanning || mp_target_of(proxy, MP_REDIS)->state != MP_BACKEND_READY)
		return;
	snprintf(count, sizeof(count), "%u", proxy->options.digest_keys);
	argv[3] = mp_slice_of(count);
	digest->is_scanning =
		mp_question_ask(proxy, MP_PURPOSE_NAMES, 0, digest->scan_database, 4, argv);
}

static bool is_scan(const redisReply *reply)
{
	return reply->elements == 2 && reply->element[0]->type == REDIS_REPLY_STRING &&
	       reply->element[1]->type == REDIS_REPLY_ARRAY;
}

void mp_digest_hear_names(struct mp_proxy *proxy, unsigned peer, uint32_t database,
			  struct mp_slice answer)
{
	struct mp_digest *digest = &proxy->digest;
	struct redisReply *reply;

	if (answer.len > NAMES_BYTES || (int)database >= proxy->databases)
		return;
	reply = mp_question_array(answer);
	if (reply && is_scan(reply)) {
		drop(&digest->named[peer].keys);
		digest->named[peer].keys = reply;
		digest->named[peer].database = database;
	} else {
		freeReplyObject(reply);
	}
}

static void take_names(struct mp_proxy *proxy, const struct mp_request *r, struct mp_slice answer)
{
	struct mp_digest *digest = &proxy->digest;
	struct mp_frame_names head = {.database = r->meta.database};
	struct mp_link *link = mp_relay_out_link(proxy);
	redisReply *scan = mp_question_array(answer);
	bool is_empty = false;

	digest->is_scanning = false;
	if (scan && is_scan(scan)) {
		move_cursor(proxy, scan);
		is_empty = scan->element[1]->elements == 0;
	}
	freeReplyObject(scan);
	/* Most databases are. But if all are, that has to be compared, too. */
	if (is_empty && ++digest->empty_scans < (unsigned)proxy->databases) {
		ask_names(proxy);
		return;
	}
	digest->empty_scans = 0;
	if (proxy->pipeline.ballot)
		mp_digest_hear_names(proxy, proxy->options.id, head.database, answer);
	else if (link && answer.len <= NAMES_BYTES)
		mp_link_send(link, MP_FRAME_NAMES, &head, sizeof(head), answer);
}

/* ------------------------------------------------------------------- answering */

void mp_digest_note(struct mp_proxy *proxy, const struct mp_record_view *record)
{
	struct resp_request request;

	if (mp_reparse_redis(proxy, record->wire, &request)) {
		proxy->digest.is_lacked = is_lacked(proxy, request.argv[request.argc - 1]);
		if (mp_question_ask(proxy, MP_PURPOSE_DIGEST, 0, record->head.database,
				    request.argc, request.argv))
			return;
	}
	mp_error("out of memory for a digest");
}

void mp_digest_hear(struct mp_proxy *proxy, unsigned peer, struct mp_slice answer)
{
	struct mp_digest *digest = &proxy->digest;
	char tag[TAG_BYTES];
	struct redisReply *reply;

	if (!digest->is_asked || digest->answer[peer])
		return;
	reply = mp_question_array(answer);
	if (!reply)
		return;
	put_tag(proxy, tag);
	/* To another question, as if entries are applied again; or of another form. */
	if (reply->elements != 2 + digest->keys->elements ||
	    reply->element[0]->type != REDIS_REPLY_STRING ||
	    strcmp(reply->element[0]->str, tag) != 0)
		freeReplyObject(reply);
	else
		digest->answer[peer] = reply;
}

void mp_digest_answer(struct mp_proxy *proxy, const struct mp_request *r, struct mp_slice answer)
{
	struct mp_link *link = mp_relay_out_link(proxy);

	if (r->purpose == MP_PURPOSE_NAMES) {
		take_names(proxy, r, answer);
		return;
	}
	if (proxy->pipeline.ballot)
		mp_digest_hear(proxy, proxy->options.id, answer);
	else if (link)
		mp_link_send(link, MP_FRAME_DIGEST, NULL, 0, answer);
	if (proxy->digest.is_lacked)
		ask_names(proxy);
}

void mp_digest_lost(struct mp_proxy *proxy)
{
	proxy->digest.is_scanning = false;
	proxy->digest.cursor[0] = '\0'; /* another start of the server may know it not */
}

/* --------------------------------------------------------------------- healing */

void mp_digest_be_told(struct mp_proxy *proxy)
{
	struct mp_digest *digest = &proxy->digest;
	const char *why;

	if (digest->is_wrong)
		return;
	mp_error("redis: the server here holds something else than most others: it is to be "
		 "restored from one of them");
	digest->is_wrong = true;
	digest->wrong_ns = mp_now_ns(proxy);
	if (proxy->pipeline.ballot)
		mu_hand_over(proxy->mu, 0, &why);
}

/* Once somebody else leads, if that is to be had. */
static void heal(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_digest *digest = &proxy->digest;

	if (proxy->pipeline.ballot && now_ns - digest->wrong_ns < mp_ms_in_ns(HAND_OVER_MS))
		return;
	digest->is_wrong = false;
	STAT_ADD(proxy, digest_heals, 1);
	mp_transfer_want(proxy, mp_target_of(proxy, MP_REDIS));
	proxy->apply.stale = true;
}

static void tell(struct mp_proxy *proxy, unsigned id)
{
	if (id == proxy->options.id)
		mp_digest_be_told(proxy);
	else
		mp_relay_in_tell(proxy, id, MP_FRAME_WRONG, (struct mp_slice){0});
}

static void judge(struct mp_proxy *proxy)
{
	struct mp_digest *digest = &proxy->digest;
	struct mp_digest_verdict verdict;

	mp_digest_judge(digest, &verdict);
	STAT_ADD(proxy, digested_keys, digest->keys->elements);
	STAT_ADD(proxy, divergent_keys, verdict.keys);
	if (verdict.is_count_wrong && verdict.keys == 0)
		STAT_ADD(proxy, divergent_counts, digest->hurried == 0);
	end_question(digest);
	if (!verdict.wrong) {
		digest->hurried = 0;
	} else if (verdict.keys == 0 && digest->hurried < MP_DIGEST_HURRIED_MAX) {
		digest->hurried++; /* which key is it? */
	} else {
		digest->hurried = 0;
		for (unsigned id = 1; id < MU_ID_SLOTS; id++)
			if (verdict.wrong >> id & 1)
				tell(proxy, id);
	}
}

/* ---------------------------------------------------------------------- asking */

static bool all_have_answered(struct mp_proxy *proxy)
{
	uint32_t level = mp_backends_level_members(proxy);

	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (level >> id & 1 && !proxy->digest.answer[id])
			return false;
	return true;
}

/* Of whom there are names, the next one behind the last; 0: of nobody. */
static unsigned next_source(const struct mp_digest *digest)
{
	for (unsigned i = 1; i <= MU_ID_SLOTS; i++) {
		unsigned id = (digest->last + i) % MU_ID_SLOTS;

		if (digest->named[id].keys)
			return id;
	}
	return 0;
}

static uint32_t lacking(const struct mp_digest *digest)
{
	uint32_t ids = 0;

	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (!digest->named[id].keys)
			ids |= 1U << id;
	return ids;
}

/* EVAL script numkeys key ... tag */
static bool put_question(struct mp_proxy *proxy, const redisReply *keys)
{
	struct mp_digest *digest = &proxy->digest;
	int argc = (int)keys->elements + 4;
	struct mp_slice *argv = calloc((size_t)argc, sizeof(*argv));
	char count[16], tag[TAG_BYTES];
	bool ok;

	if (!argv)
		return false;
	snprintf(count, sizeof(count), "%zu", keys->elements);
	put_tag(proxy, tag);
	argv[0] = mp_slice_of("EVAL");
	argv[1] = mp_slice_of(mp_digest_script);
	argv[2] = mp_slice_of(count);
	for (size_t i = 0; i < keys->elements; i++)
		argv[3 + i] = (struct mp_slice){keys->element[i]->str, keys->element[i]->len};
	argv[argc - 1] = mp_slice_of(tag);
	mp_buffer_clear(&digest->wire);
	ok = redis_put_request(&digest->wire, argc, argv);
	free(argv);
	return ok;
}

static void ask(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_digest *digest = &proxy->digest;
	unsigned source = next_source(digest);
	struct redisReply *scan;

	if (!digest->named[proxy->options.id].keys)
		ask_names(proxy);
	if (!source)
		return;
	scan = digest->named[source].keys;
	digest->named[source].keys = NULL;
	digest->last = source;
	digest->serial++;
	digest->lacking = lacking(digest);
	if (put_question(proxy, scan->element[1]) &&
	    mp_pipeline_room(proxy, mp_buffer_len(&digest->wire))) {
		digest->database = digest->named[source].database;
		digest->keys = scan->element[1];
		scan->element[1] = NULL;
		digest->is_asked = true;
		digest->asked_ns = now_ns;
		mp_pipeline_add_own(proxy, MP_REDIS, digest->database,
				    mp_buffer_slice(&digest->wire),
				    MP_RECORD_BLIND | MP_RECORD_DIGEST, false);
	}
	freeReplyObject(scan);
}

static bool is_on(const struct mp_proxy *proxy)
{
	return proxy->options.digest_interval_ms > 0 && proxy->options.redis_backend;
}

void mp_digest_turn(struct mp_proxy *proxy)
{
	struct mp_digest *digest = &proxy->digest;
	uint64_t now_ns = mp_now_ns(proxy);
	uint64_t ballot = proxy->pipeline.ballot;

	if (digest->is_wrong)
		heal(proxy, now_ns);
	if (!is_on(proxy))
		return;
	if (ballot != digest->ballot) {
		forget(digest);
		digest->ballot = ballot;
		digest->next_ns = now_ns + mp_ms_in_ns(proxy->options.digest_interval_ms);
	}
	if (!ballot || proxy->draining)
		return;
	if (digest->is_asked &&
	    (all_have_answered(proxy) || now_ns - digest->asked_ns > mp_ms_in_ns(PATIENCE_MS)))
		judge(proxy);
	if (digest->is_asked || now_ns < digest->next_ns)
		return;
	digest->next_ns =
		now_ns + mp_ms_in_ns(digest->hurried && HURRY_MS < proxy->options.digest_interval_ms
					     ? HURRY_MS
					     : proxy->options.digest_interval_ms);
	if (mp_backends_level(proxy) && !proxy->pipeline.stuck)
		ask(proxy, now_ns);
}

uint64_t mp_digest_deadline_ns(const struct mp_proxy *proxy)
{
	const struct mp_digest *digest = &proxy->digest;

	if (digest->is_wrong)
		return digest->wrong_ns + mp_ms_in_ns(HAND_OVER_MS);
	if (!is_on(proxy) || !proxy->pipeline.ballot || proxy->draining)
		return UINT64_MAX;
	return digest->is_asked ? digest->asked_ns + mp_ms_in_ns(PATIENCE_MS) : digest->next_ns;
}
