/* memcached_digest.c - see memcached_digest.h: asking, answering, and what comes of it. */
#include "memcached_digest.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "backends.h"
#include "log.h"
#include "mc_base64.h"
#include "mc_item.h"
#include "mc_writer.h"
#include "memcached_digest_judge.h"
#include "state.h"

enum {
	PATIENCE_MS = 5000, /* then those who have answered are compared */
	HURRY_MS = 20,      /* between questions, while something is found */
	NAMING_MS = 20,     /* how often it is looked whether the own keys are listed */
	KEYS_TOLD = 10,     /* of one question */
	LINE_BYTES = 512,   /* of a command about a key */
};

/* A question, in the log: this, and a list of keys. */
struct question {
	uint64_t nonce, serial; /* tell it from all others */
	uint32_t lacking;       /* bit i: replica i is to name more keys */
	uint32_t count;
};
/* An answer, over a link: this, and a memcached_word for each key. */
struct answer {
	uint64_t nonce, serial;
};

static uint64_t interval_ns(const struct mp_proxy *proxy)
{
	return mp_ms_in_ns(proxy->options.memcached_digest_interval_ms);
}

static unsigned count_of(struct mp_slice list)
{
	struct mp_slice key;
	unsigned count = 0;

	while (memcached_keys_next(&list, &key))
		count++;
	return count;
}

/* ----------------------------------------------------------- a question's state */

static void end_question(struct mp_memcached_digest *digest)
{
	digest->is_asked = false;
	mp_buffer_clear(&digest->keys);
	for (unsigned id = 0; id < MU_ID_SLOTS; id++)
		mp_buffer_clear(&digest->answer[id]);
}

static void forget(struct mp_memcached_digest *digest)
{
	end_question(digest);
	mp_buffer_clear(&digest->suspects);
	for (unsigned id = 0; id < MU_ID_SLOTS; id++)
		mp_buffer_clear(&digest->named[id]);
}

void mp_memcached_digest_close(struct mp_proxy *proxy)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;

	mp_buffer_free(&digest->keys);
	mp_buffer_free(&digest->suspects);
	mp_buffer_free(&digest->wire);
	mp_buffer_free(&digest->words);
	for (unsigned id = 0; id < MU_ID_SLOTS; id++) {
		mp_buffer_free(&digest->answer[id]);
		mp_buffer_free(&digest->named[id]);
	}
	memcached_keys_close(&digest->own);
}

/* ---------------------------------------------------------------- naming keys */

void mp_memcached_digest_hear_names(struct mp_proxy *proxy, unsigned peer, struct mp_slice keys)
{
	struct mp_buffer *named = &proxy->memcached_digest.named[peer];

	mp_buffer_clear(named);
	if (count_of(keys) <= MP_DIGEST_KEYS_MAX)
		mp_buffer_append(named, keys.data, keys.len);
}

/* As far as they are listed; otherwise it is tried again. */
static void name_keys(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	struct mp_link *link = mp_relay_out_link(proxy);
	struct mp_slice keys;

	digest->naming_ns = now_ns + mp_ms_in_ns(NAMING_MS);
	if (mp_target_of(proxy, MP_MEMCACHED)->state != MP_BACKEND_READY ||
	    (!proxy->pipeline.ballot && !link))
		return;
	mp_buffer_clear(&digest->wire);
	if (!memcached_keys_take(&digest->own, proxy->base, &proxy->memcached.address,
				 proxy->options.memcached_digest_keys, &digest->wire)) {
		if (!digest->own.is_listing)
			digest->naming_ns = now_ns + interval_ns(proxy);
		return;
	}
	digest->is_lacked = false;
	keys = mp_buffer_slice(&digest->wire);
	if (proxy->pipeline.ballot)
		mp_memcached_digest_hear_names(proxy, proxy->options.id, keys);
	else
		mp_link_send(link, MP_FRAME_ITEM_NAMES, NULL, 0, keys);
}

/* ------------------------------------------------------------------- answering */

/* "mg key [b] flags" and the like. */
static void put_line(struct mc_writer *w, const char *verb, struct mp_slice key, const char *flags)
{
	char text[MC_MAX_KEY_BYTES * 2];
	bool is_odd = mc_key_is_odd(key);

	mc_put_text(w, verb);
	if (is_odd)
		mc_put(w, text, mc_base64_encode(key, text));
	else
		mc_put_slice(w, key);
	mc_put_text(w, is_odd ? " b" : "");
	mc_put_text(w, flags);
	mc_put_text(w, "\r\n");
}

static bool ask_item(struct mp_proxy *proxy, uint64_t serial, struct mp_slice key)
{
	struct mp_request *r = mp_requests_get(&proxy->requests);
	char line[LINE_BYTES];
	struct mc_writer w = {line, sizeof(line), 0};

	if (!r)
		return false;
	put_line(&w, "mg ", key, " u f t c v");
	if (!mp_chunks_copy(&proxy->chunks, (struct mp_slice){line, w.bytes}, &r->raw)) {
		mp_requests_put(&proxy->requests, &proxy->chunks, r);
		return false;
	}
	r->meta = (struct mp_request_meta){.protocol = MP_MEMCACHED, .class = MP_REQUEST_READ};
	r->purpose = MP_PURPOSE_ITEM;
	r->origin.sequence = serial;
	mp_requests_charge(&proxy->requests, r);
	mp_apply_read(proxy, r);
	return true;
}

void mp_memcached_digest_note(struct mp_proxy *proxy, const struct mp_record_view *record)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	struct mp_slice list = record->wire, key;
	struct question question;
	struct answer answer;

	if (list.len < sizeof(question))
		return;
	memcpy(&question, list.data, sizeof(question));
	list = (struct mp_slice){list.data + sizeof(question), list.len - sizeof(question)};
	answer = (struct answer){question.nonce, question.serial};
	mp_buffer_clear(&digest->words);
	mp_buffer_append(&digest->words, &answer, sizeof(answer));
	digest->answering = question.serial;
	digest->awaited = question.count;
	if (question.lacking >> proxy->options.id & 1)
		digest->is_lacked = true;
	while (memcached_keys_next(&list, &key))
		if (!ask_item(proxy, question.serial, key))
			mp_memcached_digest_lost(proxy);
}

/* By reading it we have taken what its next reader is to have: the right to refresh it. */
static void mark_again(struct mp_proxy *proxy, const struct mp_request *r,
		       const struct mc_item *item)
{
	struct mp_slice raw = mp_bytes_slice(&r->raw);
	const char *s = raw.data, *end = s + raw.len - 2;
	char line[LINE_BYTES], flags[40];
	struct mc_writer w = {line, sizeof(line), 0};

	mc_next_word(&s, end);
	mc_put_text(&w, "md ");
	mc_put_slice(&w, mc_next_word(&s, end));
	mc_put_text(&w, mp_slice_is(mc_next_word(&s, end), "b") ? " b" : "");
	snprintf(flags, sizeof(flags), " I C%" PRIu64 "\r\n", item->cas);
	mc_put_text(&w, flags);
	mp_backend_memcached_say(mp_target_of(proxy, MP_MEMCACHED)->backend,
				 (struct memcached_command){{line, w.bytes}, {NULL, 0}});
}

static struct memcached_word word_of(struct mp_proxy *proxy, const struct mc_item *item)
{
	const struct mp_backend *backend = mp_target_of(proxy, MP_MEMCACHED)->backend;
	struct memcached_word word = {0};

	if (!item->found || item->stale || item->won || item->sent)
		return word;
	word.hash = XXH3_64bits_withSeed(item->value.data, item->value.len, item->flags);
	word.hash += word.hash == 0;
	if (item->left_s >= 0)
		word.deadline_s = mp_backend_memcached_deadline_s(backend, item->left_s);
	return word;
}

static void send_answer(struct mp_proxy *proxy)
{
	struct mp_slice words = mp_buffer_slice(&proxy->memcached_digest.words);
	struct mp_link *link = mp_relay_out_link(proxy);

	if (proxy->pipeline.ballot)
		mp_memcached_digest_hear(proxy, proxy->options.id, words);
	else if (link)
		mp_link_send(link, MP_FRAME_ITEMS, NULL, 0, words);
}

void mp_memcached_digest_answer(struct mp_proxy *proxy, const struct mp_request *r,
				struct mp_slice reply)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	struct memcached_word word = {0};
	struct mc_item item;

	if (mc_parse_item(reply, &item)) {
		word = word_of(proxy, &item);
		if (item.stale && item.won)
			mark_again(proxy, r, &item);
	}
	if (digest->awaited == 0 || r->origin.sequence != digest->answering)
		return; /* another question has come */
	if (!mp_buffer_append(&digest->words, &word, sizeof(word)))
		digest->awaited = 0;
	else if (--digest->awaited == 0)
		send_answer(proxy);
}

void mp_memcached_digest_lost(struct mp_proxy *proxy)
{
	proxy->memcached_digest.awaited = 0;
}

void mp_memcached_digest_hear(struct mp_proxy *proxy, unsigned peer, struct mp_slice answer)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	struct answer head;

	if (!digest->is_asked || mp_buffer_len(&digest->answer[peer]) > 0 ||
	    answer.len != sizeof(head) + count_of(mp_buffer_slice(&digest->keys)) *
						 sizeof(struct memcached_word))
		return;
	memcpy(&head, answer.data, sizeof(head));
	/* To another question, as if entries are applied again. */
	if (head.nonce == proxy->options.origin_nonce && head.serial == digest->serial)
		mp_buffer_append(&digest->answer[peer], answer.data + sizeof(head),
				 answer.len - sizeof(head));
}

/* --------------------------------------------------------------------- healing */

/* As people can read it. */
static void put_name(struct mp_slice key, char *out, size_t out_bytes)
{
	size_t len = 0;

	for (size_t i = 0; i < key.len && len + 5 < out_bytes; i++) {
		unsigned char c = (unsigned char)key.data[i];

		len += (size_t)snprintf(out + len, out_bytes - len,
					isprint(c) && c != '\\' ? "%c" : "\\x%02x", c);
	}
	out[len] = '\0';
}

void mp_memcached_digest_be_told(struct mp_proxy *proxy, struct mp_slice keys)
{
	const struct mp_target *target = mp_target_of(proxy, MP_MEMCACHED);
	struct mp_slice key;

	if (!target->backend || target->state != MP_BACKEND_READY)
		return;
	while (memcached_keys_next(&keys, &key)) {
		char line[LINE_BYTES];
		struct mc_writer w = {line, sizeof(line), 0};

		put_line(&w, "md ", key, "");
		mp_backend_memcached_say(target->backend,
					 (struct memcached_command){{line, w.bytes}, {NULL, 0}});
		STAT_ADD(proxy, memcached_digest_heals, 1);
	}
	target->backend->ops->flush(target->backend);
}

static void tell(struct mp_proxy *proxy, unsigned id, struct mp_slice keys)
{
	if (id == proxy->options.id)
		mp_memcached_digest_be_told(proxy, keys);
	else
		mp_relay_in_tell(proxy, id, MP_FRAME_WRONG_ITEMS, keys);
}

/* "replica 1: 0123456789abcdef, replica 2: ... until 1700000000" */
static void log_difference(const struct memcached_word *const word[MU_ID_SLOTS],
			   struct mp_slice key, bool has_majority)
{
	char name[100], words[400] = "";
	size_t len = 0;

	for (unsigned id = 1; id < MU_ID_SLOTS && len + 80 < sizeof(words); id++) {
		if (!word[id])
			continue;
		if (word[id]->hash == 0)
			len += (size_t)snprintf(words + len, sizeof(words) - len,
						"%s replica %u: nothing", len ? "," : "", id);
		else
			len += (size_t)snprintf(words + len, sizeof(words) - len,
						"%s replica %u: %016" PRIx64 " until %" PRId64,
						len ? "," : "", id, word[id]->hash,
						word[id]->deadline_s);
	}
	put_name(key, name, sizeof(name));
	mp_error("memcached: servers differ in key '%s':%s%s", name, words,
		 has_majority ? "" : "; there is no majority, so all drop it");
}

/* What all have said about the key at that place. */
static void gather_words(const struct mp_memcached_digest *digest, size_t place,
			 const struct memcached_word *word[MU_ID_SLOTS],
			 struct memcached_word copies[MU_ID_SLOTS])
{
	for (unsigned id = 0; id < MU_ID_SLOTS; id++) {
		const struct mp_buffer *answer = &digest->answer[id];

		word[id] = NULL;
		if (mp_buffer_len(answer) == 0)
			continue;
		memcpy(&copies[id], mp_buffer_data(answer) + place * sizeof(copies[id]),
		       sizeof(copies[id]));
		word[id] = &copies[id];
	}
}

/* A key that differs; `count` others did before it. wrong: lists for each replica. */
static void take_difference(struct mp_proxy *proxy, struct mp_slice key,
			    const struct memcached_word *const word[MU_ID_SLOTS],
			    const struct memcached_verdict *verdict, uint64_t count,
			    struct mp_buffer wrong[MU_ID_SLOTS])
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;

	if (!digest->is_again) {
		memcached_keys_put(&digest->suspects, key);
		return;
	}
	STAT_ADD(proxy, memcached_divergent_keys, 1);
	if (count < KEYS_TOLD)
		log_difference(word, key, verdict->has_majority);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (verdict->wrong >> id & 1)
			memcached_keys_put(&wrong[id], key);
}

/* Returns how many keys differ. */
static uint64_t compare(struct mp_proxy *proxy)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	struct mp_slice list = mp_buffer_slice(&digest->keys), key;
	struct mp_buffer wrong[MU_ID_SLOTS] = {{0}};
	uint64_t count = 0;

	for (size_t place = 0; memcached_keys_next(&list, &key); place++) {
		const struct memcached_word *word[MU_ID_SLOTS];
		struct memcached_word copies[MU_ID_SLOTS];
		struct memcached_verdict verdict;

		gather_words(digest, place, word, copies);
		verdict = memcached_judge(word);
		if (verdict.differs)
			take_difference(proxy, key, word, &verdict, count++, wrong);
	}
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		if (mp_buffer_len(&wrong[id]) > 0)
			tell(proxy, id, mp_buffer_slice(&wrong[id]));
		mp_buffer_free(&wrong[id]);
	}
	return count;
}

static void judge(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	uint64_t count = compare(proxy);

	STAT_ADD(proxy, memcached_digested_keys, count_of(mp_buffer_slice(&digest->keys)));
	if (digest->is_again && count > KEYS_TOLD)
		mp_error("memcached: ...and in %" PRIu64 " more keys", count - KEYS_TOLD);
	if (count > 0 && HURRY_MS < proxy->options.memcached_digest_interval_ms)
		digest->next_ns = now_ns + mp_ms_in_ns(HURRY_MS);
	end_question(digest);
}

/* ---------------------------------------------------------------------- asking */

static bool all_have_answered(struct mp_proxy *proxy)
{
	uint32_t level = mp_backends_level_members(proxy);

	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (level >> id & 1 && mp_buffer_len(&proxy->memcached_digest.answer[id]) == 0)
			return false;
	return true;
}

/* What the next question is about; NULL: nobody has named anything. */
static struct mp_buffer *next_keys(struct mp_memcached_digest *digest)
{
	digest->is_again = mp_buffer_len(&digest->suspects) > 0;
	if (digest->is_again)
		return &digest->suspects;
	for (unsigned i = 1; i <= MU_ID_SLOTS; i++) {
		unsigned id = (digest->last + i) % MU_ID_SLOTS;

		if (mp_buffer_len(&digest->named[id]) > 0) {
			digest->last = id;
			return &digest->named[id];
		}
	}
	return NULL;
}

static bool put_question(struct mp_proxy *proxy, struct mp_slice keys)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	struct question question = {.nonce = proxy->options.origin_nonce,
				    .serial = ++digest->serial,
				    .count = count_of(keys)};

	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (mp_buffer_len(&digest->named[id]) == 0)
			question.lacking |= 1U << id;
	mp_buffer_clear(&digest->wire);
	return mp_buffer_append(&digest->wire, &question, sizeof(question)) &&
	       mp_buffer_append(&digest->wire, keys.data, keys.len);
}

static void ask(struct mp_proxy *proxy, uint64_t now_ns)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	struct mp_buffer *source = next_keys(digest);

	if (!source) {
		digest->is_lacked = true; /* the own ones come first */
		digest->next_ns = now_ns + mp_ms_in_ns(NAMING_MS);
		if (digest->naming_ns > digest->next_ns)
			digest->next_ns = digest->naming_ns;
		return;
	}
	if (!mp_buffer_append(&digest->keys, mp_buffer_data(source), mp_buffer_len(source)))
		return;
	mp_buffer_clear(source);
	if (!put_question(proxy, mp_buffer_slice(&digest->keys)) ||
	    !mp_pipeline_room(proxy, mp_buffer_len(&digest->wire))) {
		end_question(digest);
		return;
	}
	digest->is_asked = true;
	digest->asked_ns = now_ns;
	mp_pipeline_add_own(proxy, MP_MEMCACHED, 0, mp_buffer_slice(&digest->wire),
			    MP_RECORD_BLIND | MP_RECORD_DIGEST, false);
}

static bool is_on(const struct mp_proxy *proxy)
{
	return proxy->options.memcached_digest_interval_ms > 0 &&
	       proxy->options.memcached_backend && !proxy->draining;
}

void mp_memcached_digest_turn(struct mp_proxy *proxy)
{
	struct mp_memcached_digest *digest = &proxy->memcached_digest;
	uint64_t now_ns = mp_now_ns(proxy), ballot = proxy->pipeline.ballot;

	if (!is_on(proxy))
		return;
	if (digest->is_lacked && now_ns >= digest->naming_ns)
		name_keys(proxy, now_ns);
	if (ballot != digest->ballot) {
		forget(digest);
		digest->ballot = ballot;
		digest->next_ns = now_ns + interval_ns(proxy);
	}
	if (!ballot)
		return;
	if (digest->is_asked &&
	    (all_have_answered(proxy) || now_ns - digest->asked_ns > mp_ms_in_ns(PATIENCE_MS)))
		judge(proxy, now_ns);
	if (digest->is_asked || now_ns < digest->next_ns)
		return;
	digest->next_ns = now_ns + interval_ns(proxy);
	if (mp_backends_level(proxy) && !proxy->pipeline.stuck)
		ask(proxy, now_ns);
}

uint64_t mp_memcached_digest_deadline_ns(const struct mp_proxy *proxy)
{
	const struct mp_memcached_digest *digest = &proxy->memcached_digest;
	uint64_t due_ns = UINT64_MAX;

	if (!is_on(proxy))
		return UINT64_MAX;
	if (proxy->pipeline.ballot)
		due_ns = digest->is_asked ? digest->asked_ns + mp_ms_in_ns(PATIENCE_MS)
					  : digest->next_ns;
	return digest->is_lacked && digest->naming_ns < due_ns ? digest->naming_ns : due_ns;
}
