/* transfer_donor.c - see transfer.h: the end that gives. */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends.h"
#include "log.h"
#include "state.h"
#include "transfer.h"

/* Longer, and the log's ring could fill up on account of one that may never come. */
enum { PIN_MS = 1000 };

/* ---------------------------------------------------------- for the protocols */

void mp_donation_fail(struct mp_donation *donation, const char *format, ...)
{
	va_list args;

	if (donation->is_failed)
		return;
	donation->is_failed = true;
	va_start(args, format);
	vsnprintf(donation->why, sizeof(donation->why), format, args);
	va_end(args);
}

void mp_donation_agree(struct mp_donation *donation)
{
	mp_info("replica %u: its server is being restored from ours", donation->link->peer);
	mp_link_send(donation->link, MP_FRAME_AGREED, NULL, 0, (struct mp_slice){0});
}

void mp_donation_tell(struct mp_donation *donation, uint16_t what, uint64_t a, uint64_t b)
{
	struct mp_frame_note note = {.what = what, .a = a, .b = b};

	if (donation->is_failed)
		return;
	mp_link_send(donation->link, MP_FRAME_NOTE, &note, sizeof(note), (struct mp_slice){0});
}

bool mp_donation_send(struct mp_donation *donation, struct mp_slice bytes)
{
	struct mp_link *link = donation->link;

	if (donation->is_failed)
		return false;
	donation->bytes += bytes.len;
	while (bytes.len > 0) {
		struct mp_slice piece = bytes;

		if (piece.len > MP_TRANSFER_PIECE_BYTES)
			piece.len = MP_TRANSFER_PIECE_BYTES;
		mp_link_send(link, MP_FRAME_BYTES, NULL, 0, piece);
		bytes.data += piece.len;
		bytes.len -= piece.len;
	}
	mp_link_flush(link);
	donation->is_waiting = mp_link_unsent(link) > MP_TRANSFER_SOFT_BYTES;
	return !donation->is_waiting;
}

/* -------------------------------------------------------------------- the pin */

uint64_t mp_transfer_pin_lsn(const struct mp_proxy *proxy)
{
	const struct mp_donation *donation;
	uint64_t lowest = MU_LSN_NONE;

	TAILQ_FOREACH(donation, &proxy->transfer.donations, place)
		if (donation->pin_lsn < lowest)
			lowest = donation->pin_lsn;
	return lowest;
}

void mp_donation_pin(struct mp_donation *donation, uint64_t lsn)
{
	donation->pin_lsn = lsn;
	donation->pinned_ns = mp_now_ns(donation->proxy);
}

static void unpin(struct mp_donation *donation)
{
	if (donation->pin_lsn == MU_LSN_NONE)
		return;
	donation->pin_lsn = MU_LSN_NONE;
	mp_backends_tell_applied(donation->proxy);
}

/* ------------------------------------------------------------------- the link */

static struct mp_donation *donation_of(const struct mp_link *link)
{
	struct mp_donation *donation;

	TAILQ_FOREACH(donation, &link->proxy->transfer.donations, place)
		if (donation->link == link)
			return donation;
	return NULL;
}

static void begin(struct mp_donation *donation, const struct mp_frame_want *want)
{
	struct mp_proxy *proxy = donation->proxy;
	const struct mp_donor *ops = NULL;

	if (want->protocol >= 1 && want->protocol <= MP_TARGETS)
		ops = mp_transfer_kinds[want->protocol - 1].donor;
	if (!ops || !proxy->apply.target[want->protocol - 1].backend) {
		mp_donation_fail(donation, "it does not serve that protocol");
	} else if (!mp_backends_level(proxy) || proxy->draining) {
		mp_donation_fail(donation, "its own server is not level");
	} else {
		donation->ops = ops;
		donation->attempt = want->attempt;
		donation->ops->begin(donation);
	}
}

static bool on_frame(struct mp_link *link, enum mp_frame_type type, struct mp_slice body,
		     const char **why)
{
	struct mp_donation *donation = donation_of(link);
	struct mp_frame_note note;
	struct mp_frame_want want;

	*why = "a frame that nobody sends who is to be restored";
	if (donation->is_failed)
		return true;
	if (type == MP_FRAME_WANT && body.len == sizeof(want) && !donation->ops) {
		memcpy(&want, body.data, sizeof(want));
		begin(donation, &want);
		return true;
	}
	if (!donation->own)
		return false;
	if (type == MP_FRAME_NOTE && body.len == sizeof(note)) {
		memcpy(&note, body.data, sizeof(note));
		return donation->ops->note(donation, &note);
	}
	if (type != MP_FRAME_BYTES)
		return false;
	donation->ops->data(donation, body);
	return true;
}

/* The link may be in use up the stack, and so may what the protocol keeps. */
static void on_closed(struct mp_link *link, const char *why)
{
	struct mp_donation *donation = donation_of(link);

	TAILQ_INSERT_TAIL(&link->proxy->relay.closed, link, place);
	donation->link = NULL;
	mp_donation_fail(donation, "%s", why ? why : "");
}

/* Greeted already. */
static void on_up(struct mp_link *link)
{
	(void)link;
}

static const struct mp_link_events events = {
	.up = on_up,
	.frame = on_frame,
	.closed = on_closed,
};

void mp_donation_accept(struct mp_link *link)
{
	struct mp_proxy *proxy = link->proxy;
	struct mp_donation *donation = calloc(1, sizeof(*donation)), *other;

	TAILQ_FOREACH(other, &proxy->transfer.donations, place)
		if (other->link && other->link->peer == link->peer)
			mp_donation_fail(other, "it has connected anew");
	if (!donation) {
		link->events = NULL;
		mp_link_close(link, NULL);
		TAILQ_INSERT_TAIL(&proxy->relay.closed, link, place);
		return;
	}
	*donation = (struct mp_donation){
		.proxy = proxy, .link = link, .pin_lsn = MU_LSN_NONE, .begun_ns = mp_now_ns(proxy)};
	link->events = &events;
	TAILQ_INSERT_TAIL(&proxy->transfer.donations, donation, place);
}

/* ------------------------------------------------------------------- the turn */

static void say_why(struct mp_donation *donation)
{
	if (donation->link && donation->link->state == MP_LINK_UP) {
		mp_link_send(donation->link, MP_FRAME_FAILED, NULL, 0, mp_slice_of(donation->why));
		mp_link_flush(donation->link);
	}
}

static void end(struct mp_donation *donation)
{
	struct mp_proxy *proxy = donation->proxy;

	say_why(donation);
	if (donation->own)
		donation->ops->end(donation);
	assert(!donation->own);
	if (donation->link) {
		donation->link->events = NULL;
		mp_link_close(donation->link, NULL);
		TAILQ_INSERT_TAIL(&proxy->relay.closed, donation->link, place);
	}
	if (donation->ops)
		mp_info("restoring another replica's server has ended after %" PRIu64 " bytes%s%s",
			donation->bytes, donation->why[0] ? ": " : "", donation->why);
	TAILQ_REMOVE(&proxy->transfer.donations, donation, place);
	unpin(donation);
	free(donation);
}

void mp_donations_turn(struct mp_proxy *proxy)
{
	struct mp_donation *donation, *next;
	unsigned count = 0;

	for (donation = TAILQ_FIRST(&proxy->transfer.donations); donation; donation = next) {
		next = TAILQ_NEXT(donation, place);
		if (donation->pin_lsn != MU_LSN_NONE &&
		    mp_now_ns(proxy) - donation->pinned_ns > PIN_MS * UINT64_C(1000000))
			unpin(donation);
		if (!donation->is_failed && donation->is_waiting &&
		    mp_link_unsent(donation->link) <= MP_TRANSFER_SOFT_BYTES) {
			donation->is_waiting = false;
			donation->ops->room(donation);
		}
		if (!donation->is_failed && donation->own && donation->ops->turn)
			donation->ops->turn(donation);
		if (donation->is_failed) {
			end(donation);
			continue;
		}
		mp_link_flush(donation->link);
		count++;
	}
	STAT_SET(proxy, donations, count);
}

void mp_donations_close(struct mp_proxy *proxy)
{
	struct mp_donation *donation;

	while ((donation = TAILQ_FIRST(&proxy->transfer.donations))) {
		mp_donation_fail(donation, "it ends");
		end(donation);
	}
}
