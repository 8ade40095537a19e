/* memcached_path.c - see memcached_path.h. */
#include "memcached_path.h"

#include <assert.h>
#include <string.h>

#include "answer.h"
#include "classify.h"
#include "log.h"
#include "mc_translate.h"
#include "state.h"

enum { REQUEST_OVERHEAD_BYTES = 4096 }; /* of a request, around its value */

void mp_memcached_init(struct mp_memcached *memcached)
{
	TAILQ_INIT(&memcached->follow_ups);
}

bool mp_memcached_open(struct mp_proxy *proxy, char *err, size_t err_bytes)
{
	const char *address = proxy->options.memcached_backend;

	return !address || mp_address_parse(address, &proxy->memcached.address, err, err_bytes);
}

/* Nobody is left to be told. */
void mp_memcached_close(struct mp_proxy *proxy)
{
	struct mp_memcached *memcached = &proxy->memcached;
	struct mp_request *r;

	mp_listing_close(proxy);
	while ((r = TAILQ_FIRST(&memcached->follow_ups))) {
		TAILQ_REMOVE(&memcached->follow_ups, r, place);
		mp_drop(proxy, r);
	}
	mp_buffer_free(&memcached->out);
}

void mp_memcached_set_limits(struct mp_proxy *proxy, const struct mp_backend *backend)
{
	uint64_t most = proxy->options.max_request_bytes - REQUEST_OVERHEAD_BYTES;
	uint64_t item_size_max = mp_backend_memcached_item_size_max(backend);

	proxy->mc_limits.news = mp_backend_memcached_news(backend);
	proxy->mc_limits.max_value_bytes = item_size_max < most ? item_size_max : most;
	proxy->mc_limits.max_item_bytes = item_size_max;
}

/* What is to be written, and of what. */
struct form {
	void (*write)(struct mc_writer *out, const struct form *form);
	const struct mc_request *request;
	struct mp_slice canned, reply;
	uint64_t term;
};

/* Write into memcached->out. Empty: out of memory. */
static struct mp_slice write_out(struct mp_memcached *memcached, const struct form *form,
				 size_t room)
{
	for (;;) {
		struct mc_writer w = {NULL, room, 0};

		mp_buffer_clear(&memcached->out);
		w.out = mp_buffer_reserve(&memcached->out, room);
		if (!w.out)
			return (struct mp_slice){0};
		form->write(&w, form);
		if (w.bytes <= room)
			return (struct mp_slice){w.out, w.bytes};
		room = w.bytes;
	}
}

/* --------------------------------------------------------------- questions */

static void write_question(struct mc_writer *out, const struct form *form)
{
	out->bytes = mc_encode(form->request, 0, NULL, out->out, out->cap);
}

struct mp_slice mp_memcached_question(struct mp_proxy *proxy, const struct mp_request *r)
{
	struct mp_slice raw = mp_bytes_slice(&r->raw);
	struct form form = {.write = write_question};
	struct mc_request request;

	if (!mp_reparse_memcached(proxy, raw, &request) || mc_class_of(&request) != MC_CLASS_READ)
		return (struct mp_slice){0};
	form.request = &request;
	return write_out(&proxy->memcached, &form, raw.len + 64);
}

/* ----------------------------------------------------------------- replies */

static void write_canned(struct mc_writer *out, const struct form *form)
{
	mc_fill_canned(form->canned, form->reply, form->term, out);
}

static void write_translated(struct mc_writer *out, const struct form *form)
{
	mc_translate(form->request, form->reply, form->term, out);
}

/*
 * Tokens are the leader's. Where another replica leads, the own backend's are
 * good for nothing: id 0 makes a term that nobody leads under.
 */
static uint64_t term_of(const struct mp_proxy *proxy, const struct mp_target *target)
{
	uint64_t ballot = proxy->pipeline.ballot;

	return mc_term(ballot ? ballot : target->leader_ballot & ~(uint64_t)0xff);
}

struct mp_slice mp_memcached_reply(struct mp_proxy *proxy, const struct mp_target *target,
				   const struct mp_request *r, struct mp_slice reply)
{
	struct form form = {.canned = mp_bytes_slice(&r->canned),
			    .reply = reply,
			    .term = term_of(proxy, target)};
	struct mc_request request;

	if (form.canned.len > 0) {
		form.write = write_canned;
		return write_out(&proxy->memcached, &form, form.canned.len + reply.len);
	}
	if (!r->meta.translate)
		return reply;
	if (!mp_reparse_memcached(proxy, mp_bytes_slice(&r->raw), &request))
		return (struct mp_slice){0};
	form.request = &request;
	form.write = write_translated;
	return write_out(&proxy->memcached, &form, reply.len + 512);
}

/* -------------------------------------------------------------- follow-ups */

/* r, no more in any list, with what is to be logged. False: out of memory. */
static bool follow_up(struct mp_proxy *proxy, struct mp_request *r,
		      size_t (*encode)(const struct mc_request *, char *, size_t),
		      const struct mc_request *request)
{
	char wire[MC_FETCH_BYTES];
	size_t len = encode(request, wire, sizeof(wire));

	assert(len <= sizeof(wire));
	mp_bytes_release(&proxy->chunks, &r->question);
	if (!mp_chunks_copy(&proxy->chunks, (struct mp_slice){wire, len}, &r->question))
		return false;
	r->state = MP_REQUEST_RUNNING;
	TAILQ_INSERT_TAIL(&proxy->memcached.follow_ups, r, place);
	return true;
}

/* The store failed here. Its client is told so when the key is gone everywhere. */
static bool follow_with_delete(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice reply)
{
	struct mc_canned head = {.dialect = MC_TEXT};
	struct mc_request request;
	struct mp_target *target = &proxy->apply.target[mp_target_index(MP_MEMCACHED)];
	struct mp_slice answer = mp_memcached_reply(proxy, target, r, reply);
	struct mp_bytes canned;

	if (!mp_chunks_alloc(&proxy->chunks, sizeof(head) + answer.len, &canned))
		return false;
	memcpy(canned.data, &head, sizeof(head));
	memcpy(canned.data + sizeof(head), answer.data, answer.len);
	if (!mp_reparse_memcached(proxy, mp_bytes_slice(&r->raw), &request) ||
	    !mc_stores(&request) || !follow_up(proxy, r, mc_encode_delete, &request)) {
		mp_bytes_release(&proxy->chunks, &canned);
		return false;
	}
	mp_bytes_release(&proxy->chunks, &r->canned);
	r->canned = canned;
	return true;
}

/* Nobody waits for this one. */
static void note_win(struct mp_proxy *proxy, const struct mp_request *r)
{
	struct mp_request *note;
	struct mc_request request;

	if (!mp_reparse_memcached(proxy, mp_bytes_slice(&r->raw), &request) ||
	    request.verb != MC_MG)
		return;
	note = mp_requests_get(&proxy->requests);
	if (!note)
		return;
	note->meta = (struct mp_request_meta){
		.protocol = MP_MEMCACHED, .class = MP_REQUEST_WRITE, .blind = true};
	note->origin = (struct mp_origin){
		.nonce = proxy->options.origin_nonce,
		.replica = proxy->options.id & 0xff,
		.handle = note->handle & ((1U << MP_ORIGIN_HANDLE_BITS) - 1),
		.sequence = ++proxy->requests.sequence,
	};
	mp_requests_charge(&proxy->requests, note);
	if (!follow_up(proxy, note, mc_encode_won, &request))
		mp_drop(proxy, note);
}

bool mp_memcached_follow_up(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice reply)
{
	if (!proxy->pipeline.ballot || r->shadow)
		return false;
	if (mp_request_writes(r))
		return mp_starts_with(reply, "SERVER_ERROR") && follow_with_delete(proxy, r, reply);
	if (r->meta.translate && (mp_starts_with(reply, "HD") || mp_starts_with(reply, "VA ")) &&
	    mc_has_won(reply))
		note_win(proxy, r);
	return false;
}

void mp_memcached_run(struct mp_proxy *proxy)
{
	struct mp_memcached *memcached = &proxy->memcached;
	struct mp_request *r;

	while ((r = TAILQ_FIRST(&memcached->follow_ups))) {
		struct mp_bytes wire = r->question, canned = r->canned;
		struct mc_request request;

		if (!mp_pipeline_room(proxy, wire.len + canned.len))
			return;
		TAILQ_REMOVE(&memcached->follow_ups, r, place);
		r->question = r->canned = (struct mp_bytes){0};
		if (mp_reparse_memcached(proxy, mp_bytes_slice(&wire), &request))
			mp_lock_note_write(proxy, &request);
		mp_pipeline_add_decided(proxy, r, mp_bytes_slice(&wire), 1,
					mp_bytes_slice(&canned));
		mp_bytes_release(&proxy->chunks, &wire);
		mp_bytes_release(&proxy->chunks, &canned);
	}
}

void mp_memcached_abandon(struct mp_proxy *proxy, uint64_t ballot)
{
	struct mp_memcached *memcached = &proxy->memcached;
	struct mp_request *r;

	while ((r = TAILQ_FIRST(&memcached->follow_ups))) {
		TAILQ_REMOVE(&memcached->follow_ups, r, place);
		mp_bytes_release(&proxy->chunks, &r->canned);
		mp_bytes_release(&proxy->chunks, &r->question);
		if (r->link)
			mp_drop(proxy, r); /* its sender is told that we are deposed */
		else
			mp_doubt_add(proxy, r, ballot);
	}
}
