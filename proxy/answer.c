/* answer.c - see answer.h. */
#include "answer.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mc_binary.h"
#include "state.h"

/* It waits for a key no more. */
static void forget_waiting(struct mp_proxy *proxy, struct mp_request *r)
{
	mp_blocking_end(proxy, r);
	mp_patience_end(r);
}

void mp_drop(struct mp_proxy *proxy, struct mp_request *r)
{
	assert(!r->session);
	if (r->meta.blocks)
		forget_waiting(proxy, r);
	mp_large_forget(r);
	if (r->link)
		mp_link_release(r->link);
	mp_requests_put(&proxy->requests, &proxy->chunks, r);
}

/*
 * Tokens in a shadow's answer are no good. As long as the leader may still
 * answer it only counts for want of a better one (doubt.c).
 */
static bool put_aside(struct mp_proxy *proxy, struct mp_request *shadow, struct mp_request *twin,
		      struct mp_slice reply)
{
	if (twin->state != MP_REQUEST_RELAYED || twin->streamed || reply.len == 0)
		return false;
	mp_bytes_release(&proxy->chunks, &twin->canned);
	if (!mp_chunks_copy(&proxy->chunks, reply, &twin->canned))
		return false;
	twin->has_spare = true;
	mp_requests_charge(&proxy->requests, twin);
	mp_drop(proxy, shadow);
	return true;
}

/*
 * A shadow's reply is handed on when it is whole: the leader's may be here before. If it
 * cannot be kept, or would not be needed, there is only the leader's.
 */
static void gather(struct mp_proxy *proxy, struct mp_request *shadow, struct mp_slice piece)
{
	struct mp_request *twin = shadow->twin;

	if (!twin)
		return;
	if (!twin->streamed &&
	    mp_requests_keep(&proxy->requests, shadow, &proxy->sessions.spills, piece))
		return;
	twin->twin = shadow->twin = NULL;
	mp_requests_unkeep(&proxy->requests, shadow);
}

/* The rest of a reply, of which the beginning was handed on. */
static void hand_on_spilled(struct mp_proxy *proxy, struct mp_request *twin, struct mp_spill *spill)
{
	struct mp_buffer piece = {0};

	while (mp_spill_len(spill) > 0) {
		if (!mp_spill_take(spill, &piece)) {
			mp_warn("a reply cannot be read from its file: %s", strerror(errno));
			if (twin->session)
				mp_session_kill(twin->session);
			break;
		}
		mp_answer(proxy, twin, mp_buffer_slice(&piece), false);
		mp_buffer_clear(&piece);
	}
	mp_buffer_free(&piece);
	mp_answer(proxy, twin, (struct mp_slice){0}, true);
}

static void answer_twin(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice piece,
			bool last)
{
	struct mp_request *twin;

	if (!last || mp_buffer_len(&r->reply) > 0 || r->spill) {
		gather(proxy, r, piece);
		piece = mp_buffer_slice(&r->reply);
	}
	if (!last)
		return;
	twin = r->twin;
	if (twin && r->meta.tokens && put_aside(proxy, r, twin, piece))
		return;
	if (r->meta.blocks && mp_blocking_is_nothing(r, piece)) {
		mp_doubt_unserved(proxy, r);
		return;
	}
	if (twin)
		twin->twin = r->twin = NULL;
	if (twin && mp_doubt_leave(proxy, twin)) {
		mp_answer(proxy, twin, piece, !r->spill);
		if (r->spill)
			hand_on_spilled(proxy, twin, r->spill);
	}
	mp_drop(proxy, r);
}

void mp_answer(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice piece, bool last)
{
	if (r->shadow) {
		answer_twin(proxy, r, piece, last);
		return;
	}
	if (last && r->meta.blocks)
		forget_waiting(proxy, r);
	if (r->session) {
		mp_session_reply(r->session, r, piece, last);
		return;
	}
	if (r->link)
		mp_relay_in_reply(r, piece, last);
	if (last)
		mp_drop(proxy, r);
}

size_t mp_format_error(enum mp_protocol protocol, const char *text, char *out, size_t bytes)
{
	int n;

	if (protocol == MP_REDIS)
		n = snprintf(out, bytes, "-%s\r\n", text);
	else /* Memcached's error kinds stand first; "ERR" is Redis's way. */
		n = snprintf(out, bytes, "SERVER_ERROR %s\r\n",
			     strncmp(text, "ERR ", 4) == 0 ? text + 4 : text);
	assert(n > 0);
	if ((size_t)n < bytes)
		return (size_t)n;
	memcpy(out + bytes - 3, "\r\n", 3); /* cut, but still a line */
	return bytes - 1;
}

size_t mp_format_error_to(enum mp_protocol protocol, struct mp_slice raw, const char *text,
			  char *out, size_t bytes)
{
	struct mc_writer w = {out, bytes, 0};
	struct mc_request request = {0};
	char line[MP_ERROR_BYTES];
	size_t len = mp_format_error(protocol, text, out, bytes);

	if (protocol != MP_MEMCACHED || raw.len < MC_BINARY_HEADER_BYTES ||
	    (unsigned char)raw.data[0] != MC_BINARY_REQUEST)
		return len;
	snprintf(line, sizeof(line), "%.*s", (int)len, out);
	mc_read_header(&request, raw.data);
	mc_put_error_line(&w, &request, mp_slice_of(line));
	assert(w.bytes <= bytes);
	return w.bytes;
}

void mp_answer_error(struct mp_proxy *proxy, struct mp_request *r, const char *format, ...)
{
	char text[MP_ERROR_BYTES], reply[MP_ERROR_BYTES + 32];
	struct mp_slice slice = {reply, 0};
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	slice.len = mp_format_error_to(r->meta.protocol, mp_bytes_slice(&r->raw), text, reply,
				       sizeof(reply));
	mp_answer(proxy, r, slice, true);
}
