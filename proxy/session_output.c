/* session_output.c - see session.h: sending to clients, as far as they read. */
#include "session.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "log.h"
#include "paced.h"
#include "session_parts.h"
#include "state.h"

enum { DIRECT_BYTES = 16 << 10 }; /* replies from this size on skip the output buffer */

void mp_session_charge_output(struct mp_session *s)
{
	s->proxy->sessions.out_bytes += s->out.cap - s->out_charged;
	s->out_charged = s->out.cap;
}

void mp_session_mark_dirty(struct mp_session *s)
{
	if (s->is_dirty || s->dead)
		return;
	s->is_dirty = true;
	TAILQ_INSERT_TAIL(&s->proxy->sessions.dirty, s, dirty);
}

/* Each client's unread replies are bounded, and all of theirs together. */
static bool output_bounded(const struct mp_session *s)
{
	const struct mp_proxy_options *options = &s->proxy->options;
	size_t len = mp_buffer_len(&s->out);
	bool is_pushed_to = s->is_monitor || mp_pubsub_is_subscribed(s);

	if (len + (is_pushed_to ? mp_spill_len(s->spill) : 0) > options->client_output_bytes)
		return false;
	return len <= MP_SESSION_OUT_BYTES ||
	       s->proxy->sessions.out_bytes <=
		       options->max_held_bytes + options->client_output_bytes;
}

/*
 * Is it to go to a file? What a client has not asked for, as subscriber or monitor, no
 * back-pressure bounds, so it is not to fill the disk.
 */
static bool is_for_file(struct mp_session *s, size_t bytes)
{
	const struct mp_proxy_options *options = &s->proxy->options;
	uint64_t from = options->client_output_bytes;

	if (s->spill)
		return true;
	if (from > MP_SPILL_FROM_BYTES)
		from = MP_SPILL_FROM_BYTES;
	if (mp_buffer_len(&s->out) + bytes <= from || s->is_monitor || mp_pubsub_is_subscribed(s))
		return false;
	s->spill = mp_spill_open(&s->proxy->sessions.spills);
	return s->spill != NULL;
}

static void cannot_spill(struct mp_session *s)
{
	mp_warn("client %u: disconnected, %" PRIu64 " bytes of its replies are in a file in %s: %s",
		s->id, mp_spill_len(s->spill), s->proxy->options.spill_directory, strerror(errno));
	mp_session_kill(s);
}

static bool put_part(struct mp_session *s, struct mp_slice part)
{
	bool ok;

	if (is_for_file(s, part.len)) {
		ok = mp_spill_append(s->spill, part);
		if (!ok)
			cannot_spill(s);
		return ok;
	}
	if (part.len >= DIRECT_BYTES && !s->congested)
		ok = mp_buffer_send_with(&s->out, s->fd, part.data, part.len);
	else
		ok = mp_buffer_append(&s->out, part.data, part.len);
	if (!ok)
		mp_session_kill(s);
	return ok;
}

/* There is something in `out` as long as there is a spill: what is sent makes it go on. */
static void refill(struct mp_session *s)
{
	if (!mp_spill_refill(&s->spill, &s->out))
		cannot_spill(s);
}

/* A file behind a file: it is moved into that one. */
static void append_spilled(struct mp_session *s, struct mp_spill *spill)
{
	struct mp_buffer piece = {0};

	while (mp_spill_len(spill) > 0) {
		if (!mp_spill_take(spill, &piece) ||
		    !mp_spill_append(s->spill, mp_buffer_slice(&piece))) {
			cannot_spill(s);
			break;
		}
		mp_buffer_clear(&piece);
	}
	mp_buffer_free(&piece);
	mp_spill_close(spill);
}

void mp_session_put_spilled(struct mp_session *s, struct mp_spill *spill)
{
	if (s->dead) {
		mp_spill_close(spill);
		return;
	}
	STAT_ADD(s->proxy, bytes_out, mp_spill_len(spill));
	if (s->spill) {
		append_spilled(s, spill);
	} else {
		s->spill = spill;
		refill(s);
	}
	mp_session_charge_output(s);
	mp_session_mark_dirty(s);
}

void mp_session_put(struct mp_session *s, struct mp_slice piece)
{
	if (s->dead)
		return;
	STAT_ADD(s->proxy, bytes_out, piece.len);
	while (piece.len > MP_SPILL_PIECE_BYTES) {
		if (!put_part(s, (struct mp_slice){piece.data, MP_SPILL_PIECE_BYTES}))
			return;
		piece.data += MP_SPILL_PIECE_BYTES;
		piece.len -= MP_SPILL_PIECE_BYTES;
	}
	if (!put_part(s, piece))
		return;
	mp_session_charge_output(s);
	if (!output_bounded(s)) {
		mp_warn("client %u: disconnected, it leaves %zu bytes of replies unread", s->id,
			mp_buffer_len(&s->out));
		mp_session_kill(s);
		return;
	}
	mp_session_mark_dirty(s);
}

/* What is to go out has gone, or will by itself. */
static void after_output(struct mp_session *s)
{
	if (s->closing && !s->head && mp_buffer_len(&s->out) == 0) {
		if (!s->lingers || shutdown(s->fd, SHUT_WR) != 0)
			mp_session_kill(s);
		return;
	}
	mp_session_caught_up(s);
	if (s->head && mp_request_is_paced(s->head))
		mp_paced_on_taken(s->head);
}

static bool has_output(const struct mp_session *s)
{
	return !s->congested && mp_buffer_len(&s->out) > 0;
}

/* taken: by the socket, of what there was; -errno. */
static void on_sent(struct mp_session *s, ssize_t taken)
{
	if (taken < 0 && taken != -EAGAIN) {
		mp_session_kill(s);
		return;
	}
	if (taken > 0) {
		mp_buffer_consume(&s->out, (size_t)taken);
		refill(s);
		if (s->dead)
			return;
	}
	if (mp_buffer_len(&s->out) > 0) {
		s->congested = true;
		event_add(&s->writable, NULL);
	}
	mp_session_charge_output(s);
	mp_router_ready(s->proxy, s);
	after_output(s);
}

static void send_all(struct mp_sessions *sessions, struct mp_sending *list, unsigned count)
{
	mp_sender_send(&sessions->sender, list, count);
	for (unsigned i = 0; i < count; i++)
		on_sent(list[i].owner, list[i].result);
}

void mp_session_on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct mp_session *s = ctx;

	(void)fd;
	(void)what;
	s->congested = false;
	mp_session_mark_dirty(s);
}

void mp_sessions_flush(struct mp_proxy *proxy)
{
	struct mp_sessions *sessions = &proxy->sessions;
	struct mp_sending list[MP_SENDER_MOST];
	unsigned count = 0;
	struct mp_session *s;

	while ((s = TAILQ_FIRST(&sessions->dirty))) {
		TAILQ_REMOVE(&sessions->dirty, s, dirty);
		s->is_dirty = false;
		if (has_output(s))
			list[count++] = (struct mp_sending){
				.fd = s->fd, .bytes = mp_buffer_slice(&s->out), .owner = s};
		else
			after_output(s);
		if (count == MP_SENDER_MOST) {
			send_all(sessions, list, count);
			count = 0;
		}
	}
	send_all(sessions, list, count);
	mp_sessions_bury(sessions);
}
