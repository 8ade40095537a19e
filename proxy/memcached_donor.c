/* memcached_donor.c - see memcached_transfer.h: the end that gives. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memcached_reader.h"
#include "memcached_transfer.h"
#include "state.h"

enum {
	LAST_RESORT_ATTEMPT = 8, /* from then on a server that is being filled itself will do */
};

struct memcached_donor {
	struct mp_donation *donation;
	enum {
		BEGUN,    /* it is not known from where on */
		SETTLING, /* until its server has applied: */
		READING,
	} state;
	uint64_t era, lsn;
	struct memcached_reader reader;
};

static const struct mp_target *target_of(const struct memcached_donor *donor)
{
	return mp_target_of(donor->donation->proxy, MP_MEMCACHED);
}

static void fail(struct memcached_donor *donor, const char *why)
{
	mp_donation_fail(donor->donation, "%s", why);
}

/* ------------------------------------------------------------ what is read is given */

static void on_total(void *ctx, uint64_t items, uint64_t bytes)
{
	mp_donation_tell(((struct memcached_donor *)ctx)->donation, MEMCACHED_NOTE_TOTAL, items,
			 bytes);
}

static bool on_item(void *ctx, struct memcached_command command)
{
	struct memcached_donor *donor = ctx;

	mp_donation_send(donor->donation, command.line);
	return mp_donation_send(donor->donation, command.block);
}

static void on_read(void *ctx)
{
	struct memcached_donor *donor = ctx;

	if (donor->donation->proxy->apply.era != donor->era)
		fail(donor, "its log has begun anew");
	mp_donation_tell(donor->donation, MEMCACHED_NOTE_READ, donor->era,
			 target_of(donor)->passed_lsn);
}

static void on_end(void *ctx)
{
	mp_donation_tell(((struct memcached_donor *)ctx)->donation, MEMCACHED_NOTE_END, 0, 0);
}

static void on_failed(void *ctx, const char *why)
{
	mp_donation_fail(((struct memcached_donor *)ctx)->donation, "its server: %s", why);
}

static const struct memcached_reader_events events = {
	.total = on_total,
	.item = on_item,
	.read = on_read,
	.end = on_end,
	.failed = on_failed,
	.has_our_tokens = true,
};

/* --------------------------------------------------------------- the other end */

static bool is_partial(const struct mp_proxy *proxy)
{
	return proxy->transfer.restore.wanted & 1U << mp_target_index(MP_MEMCACHED);
}

static void begin(struct mp_donation *donation)
{
	struct memcached_donor *donor;

	if (is_partial(donation->proxy) && donation->attempt < LAST_RESORT_ATTEMPT) {
		mp_donation_fail(donation, "its own server is to be filled first");
		return;
	}
	donor = calloc(1, sizeof(*donor));
	if (!donor) {
		mp_donation_fail(donation, "out of memory");
		return;
	}
	donor->donation = donation;
	donation->own = donor;
	mp_donation_agree(donation);
}

static bool note(struct mp_donation *donation, const struct mp_frame_note *note)
{
	struct memcached_donor *donor = donation->own;

	if (note->what != MEMCACHED_NOTE_FROM || donor->state != BEGUN)
		return false;
	donor->state = SETTLING;
	donor->era = note->a;
	donor->lsn = note->b;
	return true;
}

static void data(struct mp_donation *donation, struct mp_slice bytes)
{
	(void)bytes;
	mp_donation_fail(donation, "it sends what nobody asked for");
}

/* The server has executed all that was asked for: it may be read. */
static void turn(struct mp_donation *donation)
{
	struct memcached_donor *donor = donation->own;
	struct mp_proxy *proxy = donation->proxy;
	const struct mp_target *target = target_of(donor);

	if (donor->state != SETTLING)
		return;
	if (proxy->apply.era != donor->era) {
		fail(donor, "its log is another one");
		return;
	}
	if (target->state != MP_BACKEND_READY ||
	    mp_backend_memcached_settled_lsn(target->backend) < donor->lsn)
		return;
	donor->state = READING;
	if (!memcached_reader_open(&donor->reader, proxy->base, &proxy->memcached.address, &events,
				   donor))
		mp_donation_fail(donation, "its server: %s", strerror(errno));
}

static void room(struct mp_donation *donation)
{
	memcached_reader_resume(&((struct memcached_donor *)donation->own)->reader);
}

static void end(struct mp_donation *donation)
{
	struct memcached_donor *donor = donation->own;

	memcached_reader_close(&donor->reader);
	free(donor);
	donation->own = NULL;
}

const struct mp_donor mp_memcached_donor = {
	.begin = begin,
	.note = note,
	.data = data,
	.turn = turn,
	.room = room,
	.end = end,
};
