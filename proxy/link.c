/* link.c - see link.h. */
#include "link.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "net.h"
#include "spill.h"
#include "state.h"

enum {
	READ_BYTES = 256 << 10,
	GREETING_BYTES = sizeof(struct mp_frame) + sizeof(struct mp_frame_hello),
	REFUSAL_BYTES = 256,
	KEEP_BYTES = 1 << 20,
	SPILL_BYTES = 64 << 10, /* frames are small: so much goes to a file at once */
};

static void on_readable(evutil_socket_t fd, short what, void *ctx);
static void on_writable(evutil_socket_t fd, short what, void *ctx);

static void say_hello(struct mp_link *link)
{
	const struct mp_proxy_options *options = &link->proxy->options;
	struct mp_frame_hello hello = {
		.magic = MP_FRAME_MAGIC,
		.version = MP_FRAME_VERSION,
		.replica = (uint16_t)options->id,
		.purpose = (uint16_t)link->purpose,
		.group_id = options->group_id,
		.nonce = options->origin_nonce,
	};

	mp_link_send(link, MP_FRAME_HELLO, &hello, sizeof(hello), (struct mp_slice){0});
}

struct mp_link *mp_link_new(struct mp_proxy *proxy, int fd, unsigned peer, bool outbound,
			    const struct mp_link_events *events)
{
	struct mp_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->proxy = proxy;
	link->events = events;
	link->fd = fd;
	link->peer = peer;
	link->outbound = outbound;
	link->holds = 1;
	link->heard_ns = mp_now_ns(proxy);
	link->in.keep_bytes = link->out.keep_bytes = link->late.keep_bytes = KEEP_BYTES;
	link->state = outbound ? MP_LINK_CONNECTING : MP_LINK_GREETING;
	event_assign(&link->readable, proxy->base, fd, EV_READ | EV_PERSIST, on_readable, link);
	event_assign(&link->writable, proxy->base, fd, EV_WRITE, on_writable, link);
	event_add(outbound ? &link->writable : &link->readable, NULL);
	return link;
}

void mp_link_hold(struct mp_link *link)
{
	link->holds++;
}

void mp_link_release(struct mp_link *link)
{
	assert(link->holds > 0);
	if (--link->holds > 0)
		return;
	link->events = NULL;
	mp_link_close(link, NULL);
	free(link);
}

void mp_link_close(struct mp_link *link, const char *why)
{
	if (link->state == MP_LINK_CLOSED)
		return;
	event_del(&link->readable);
	event_del(&link->writable);
	close(link->fd);
	link->fd = -1;
	mp_buffer_free(&link->in);
	mp_buffer_free(&link->out);
	mp_buffer_free(&link->late);
	mp_spill_close(link->spill);
	link->spill = NULL;
	link->state = MP_LINK_CLOSED;
	if (link->events)
		link->events->closed(link, why);
}

/* ------------------------------------------------------------------ sending */

/* Puts a frame at the end of a buffer. */
static bool put_frame(struct mp_buffer *to, const struct mp_frame *frame, const void *head,
		      size_t head_bytes, struct mp_slice tail)
{
	char *room = mp_buffer_reserve(to, frame->bytes);

	if (!room)
		return false;
	memcpy(room, frame, sizeof(*frame));
	if (head_bytes)
		memcpy(room + sizeof(*frame), head, head_bytes);
	if (tail.len)
		memcpy(room + sizeof(*frame) + head_bytes, tail.data, tail.len);
	mp_buffer_commit(to, frame->bytes);
	return true;
}

/*
 * Where the next frame goes. If the other end takes replies more slowly than servers give them,
 * neither servers nor those whose replies are behind can be made to wait: what is more than a few
 * MiB goes to a file. If there can be none, memory is what is left.
 */
static struct mp_buffer *queue_end(struct mp_link *link)
{
	if (!link->spill && link->congested && mp_buffer_len(&link->out) > MP_SPILL_FROM_BYTES)
		link->spill = mp_spill_open(&link->proxy->sessions.spills);
	return link->spill ? &link->late : &link->out;
}

void mp_link_send(struct mp_link *link, enum mp_frame_type type, const void *head,
		  size_t head_bytes, struct mp_slice tail)
{
	size_t bytes = sizeof(struct mp_frame) + head_bytes + tail.len;
	struct mp_frame frame = {.bytes = (uint32_t)bytes, .type = (uint8_t)type};

	if (link->state == MP_LINK_CLOSED)
		return;
	assert(bytes <= UINT32_MAX);
	if (!put_frame(queue_end(link), &frame, head, head_bytes, tail)) {
		mp_link_close(link, "out of memory");
		return;
	}
	/* What the file has no room for stays in memory, and is tried again. */
	if (mp_buffer_len(&link->late) >= SPILL_BYTES &&
	    mp_spill_append(link->spill, mp_buffer_slice(&link->late)))
		mp_buffer_clear(&link->late);
}

uint64_t mp_link_unsent(const struct mp_link *link)
{
	return mp_buffer_len(&link->out) + mp_spill_len(link->spill) + mp_buffer_len(&link->late);
}

/* There is something in `out` as long as there is a spill: what is sent makes it go on. */
static bool refill(struct mp_link *link)
{
	if (!mp_spill_refill(&link->spill, &link->out))
		return false;
	if (link->spill || mp_buffer_len(&link->late) == 0)
		return true;
	if (!mp_buffer_append(&link->out, mp_buffer_data(&link->late), mp_buffer_len(&link->late)))
		return false;
	mp_buffer_free(&link->late);
	return true;
}

void mp_link_flush(struct mp_link *link)
{
	if (link->congested || link->state == MP_LINK_CONNECTING || link->state == MP_LINK_CLOSED ||
	    mp_buffer_len(&link->out) == 0)
		return;
	if (!mp_buffer_send(&link->out, link->fd) || !refill(link)) {
		mp_link_close(link, strerror(errno));
		return;
	}
	if (mp_buffer_len(&link->out) > 0) {
		link->congested = true;
		event_add(&link->writable, NULL);
	}
}

void mp_link_pause(struct mp_link *link)
{
	if (!link->paused && link->state != MP_LINK_CLOSED)
		event_del(&link->readable);
	link->paused = true;
}

static void handle_frames(struct mp_link *link);

void mp_link_resume(struct mp_link *link)
{
	if (!link->paused || link->state == MP_LINK_CLOSED)
		return;
	link->paused = false;
	event_add(&link->readable, NULL);
	handle_frames(link); /* what had been received already */
}

/* ---------------------------------------------------------------- greeting */

/* The other end is told why, as far as it still listens. */
static void refuse(struct mp_link *link, const char *why)
{
	mp_link_send(link, MP_FRAME_REFUSED, NULL, 0, mp_slice_of(why));
	mp_link_flush(link);
	mp_link_close(link, why);
}

static const char *hello_fault(const struct mp_link *link, const struct mp_frame *frame,
			       const struct mp_frame_hello *hello)
{
	const struct mp_proxy_options *options = &link->proxy->options;

	if (frame->bytes != GREETING_BYTES || frame->type != MP_FRAME_HELLO ||
	    hello->magic != MP_FRAME_MAGIC)
		return "not a muproxy replica";
	if (hello->version != MP_FRAME_VERSION)
		return "another version of the link's format";
	if (hello->group_id != options->group_id)
		return "another group";
	if (hello->replica == options->id || hello->replica == 0 ||
	    hello->replica > MU_MAX_REPLICAS ||
	    (!options->dial && !options->peer_address[hello->replica]))
		return "not another member of the group";
	if (link->peer && hello->replica != link->peer)
		return "not the replica that it has to be";
	if (hello->purpose > MP_LINK_TRANSFER)
		return "a link for something unknown";
	return NULL;
}

/* The answer to our greeting may be a refusal; its text is the other end's, so it is not trusted.
 */
static void be_refused(struct mp_link *link, const struct mp_frame *frame)
{
	char why[REFUSAL_BYTES + 32];
	size_t len = frame->bytes - sizeof(*frame);

	snprintf(why, sizeof(why), "refused there: %.*s", (int)len,
		 mp_buffer_data(&link->in) + sizeof(*frame));
	for (char *c = why; *c; c++)
		if (*c < ' ')
			*c = '?';
	mp_link_close(link, why);
}

/* False: not yet, or never. */
static bool take_greeting(struct mp_link *link)
{
	struct mp_frame frame;
	struct mp_frame_hello hello;
	const char *why;

	if (mp_buffer_len(&link->in) < sizeof(frame))
		return false;
	memcpy(&frame, mp_buffer_data(&link->in), sizeof(frame));
	if (link->outbound && frame.type == MP_FRAME_REFUSED && frame.bytes >= sizeof(frame) &&
	    frame.bytes <= sizeof(frame) + REFUSAL_BYTES) {
		if (mp_buffer_len(&link->in) >= frame.bytes)
			be_refused(link, &frame);
		return false;
	}
	if (frame.bytes != GREETING_BYTES || frame.type != MP_FRAME_HELLO) {
		refuse(link, "not a muproxy replica");
		return false;
	}
	if (mp_buffer_len(&link->in) < GREETING_BYTES)
		return false;
	memcpy(&hello, mp_buffer_data(&link->in) + sizeof(frame), sizeof(hello));
	why = hello_fault(link, &frame, &hello);
	if (why) {
		refuse(link, why);
		return false;
	}
	mp_buffer_consume(&link->in, GREETING_BYTES);
	link->peer = hello.replica;
	link->peer_nonce = hello.nonce;
	link->state = MP_LINK_UP;
	if (!link->outbound) {
		link->purpose = (enum mp_link_purpose)hello.purpose;
		say_hello(link);
	}
	link->events->up(link);
	return link->state == MP_LINK_UP;
}

/* ----------------------------------------------------------------- reading */

static uint64_t frame_limit(const struct mp_link *link)
{
	uint64_t most = link->proxy->options.max_request_bytes + (1 << 20);

	return most < UINT32_MAX ? most : UINT32_MAX;
}

/* One frame off the front. False: no whole one there, or the link is over or paused. */
static bool take_frame(struct mp_link *link)
{
	struct mp_frame frame;
	const char *why = NULL;
	struct mp_slice body;

	if (link->paused || mp_buffer_len(&link->in) < sizeof(frame))
		return false;
	memcpy(&frame, mp_buffer_data(&link->in), sizeof(frame));
	if (frame.bytes < sizeof(frame) || frame.bytes > frame_limit(link)) {
		mp_link_close(link, "garbage instead of a frame");
		return false;
	}
	if (mp_buffer_len(&link->in) < frame.bytes)
		return false;
	body.data = mp_buffer_data(&link->in) + sizeof(frame);
	body.len = frame.bytes - sizeof(frame);
	if (!link->events->frame(link, frame.type, body, &why)) {
		mp_link_close(link, why);
		return false;
	}
	if (link->state != MP_LINK_UP)
		return false;
	if (!link->adopted)
		mp_buffer_consume(&link->in, frame.bytes);
	link->adopted = false;
	return true;
}

static void handle_frames(struct mp_link *link)
{
	if (link->state == MP_LINK_UP || (link->state == MP_LINK_GREETING && take_greeting(link)))
		while (take_frame(link))
			;
}

/* How much more a frame under way needs, so that a large one takes few reads. */
static size_t wanted(const struct mp_link *link)
{
	size_t most, have = mp_buffer_len(&link->in);
	struct mp_frame frame;

	if (link->state != MP_LINK_UP || have < sizeof(frame))
		return READ_BYTES;
	memcpy(&frame, mp_buffer_data(&link->in), sizeof(frame));
	if (frame.bytes < have + READ_BYTES)
		return READ_BYTES;
	/* At most as much again as is there: a false length must not cost its size. */
	most = have > READ_BYTES ? have : READ_BYTES;
	return frame.bytes - have < most ? frame.bytes - have : most;
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct mp_link *link = ctx;
	ssize_t n;

	(void)what;
	n = mp_buffer_receive(&link->in, fd, wanted(link));
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n <= 0) {
		mp_link_close(link, n < 0 ? strerror(errno) : NULL);
		return;
	}
	link->heard_ns = mp_now_ns(link->proxy);
	handle_frames(link);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct mp_link *link = ctx;

	(void)what;
	link->congested = false;
	if (link->state == MP_LINK_CONNECTING) {
		int error = mp_connect_result(fd);

		if (error) {
			mp_link_close(link, strerror(error));
			return;
		}
		link->state = MP_LINK_GREETING;
		event_add(&link->readable, NULL);
		say_hello(link);
	}
	mp_link_flush(link);
}
