/* memcached_fill.c - see memcached_transfer.h: the end that is filled. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memcached_clock.h"
#include "memcached_transfer.h"
#include "state.h"

enum {
	BACKLOG_BYTES = 128 << 10, /* of the server, beyond which the log comes first */
	ITEMS_PER_TURN = 256,
	ITEM_OVERHEAD_BYTES = 56, /* that a server counts beside a key and its value */
};

struct fill {
	uint64_t era;
	struct mp_buffer items; /* commands, as the donor has sent them */
	/* The first of these bytes may go when the log was handed on so far; then the next. */
	struct {
		size_t bytes;
		uint64_t lsn;
	} part, next;
	size_t unread_bytes; /* behind them: no word about it has come */
	bool is_whole;       /* there are no more */
	uint64_t count, total_count, left_out, done_bytes, total_bytes;
	uint64_t handed_lsn; /* as seen last */
};

static void begin(struct mp_restore *restore)
{
	struct mp_proxy *proxy = restore->proxy;
	struct fill *fill = calloc(1, sizeof(*fill));

	if (!fill || !mp_touched_open(&proxy->memcached.touched)) {
		mp_touched_close(&proxy->memcached.touched);
		free(fill);
		mp_restore_fail(restore, "out of memory");
		return;
	}
	fill->era = proxy->apply.era;
	fill->items.keep_bytes = MP_TRANSFER_SOFT_BYTES;
	restore->own = fill;
	mp_restore_tell(restore, MEMCACHED_NOTE_FROM, fill->era, restore->target->passed_lsn);
	mp_restore_stage(restore, MP_TRANSFER_RECEIVING);
}

static void put_read(struct fill *fill, uint64_t lsn)
{
	fill->next.bytes += fill->unread_bytes;
	fill->next.lsn = lsn;
	fill->unread_bytes = 0;
	if (fill->part.bytes > 0)
		return;
	fill->part = fill->next;
	fill->next.bytes = 0;
}

static bool note(struct mp_restore *restore, const struct mp_frame_note *note)
{
	struct fill *fill = restore->own;

	switch ((enum memcached_note)note->what) {
	case MEMCACHED_NOTE_TOTAL:
		fill->total_count = note->a;
		fill->total_bytes = note->b;
		return true;
	case MEMCACHED_NOTE_READ:
		if (note->a != fill->era)
			mp_restore_fail(restore, "its log has begun anew");
		put_read(fill, note->b);
		return true;
	case MEMCACHED_NOTE_END:
		fill->is_whole = fill->unread_bytes == 0;
		return fill->is_whole;
	case MEMCACHED_NOTE_FROM:
		break;
	}
	return false;
}

static void data(struct mp_restore *restore, struct mp_slice bytes)
{
	struct fill *fill = restore->own;

	if (!mp_buffer_append(&fill->items, bytes.data, bytes.len)) {
		mp_restore_fail(restore, "out of memory");
		return;
	}
	fill->unread_bytes += bytes.len;
	if (fill->part.bytes + fill->next.bytes > MP_TRANSFER_SOFT_BYTES)
		mp_link_pause(restore->link);
}

/* One item to the server, or left out. False: it is none. */
static bool add(struct mp_restore *restore)
{
	const struct mp_touched *touched = &restore->proxy->memcached.touched;
	struct fill *fill = restore->own;
	struct mp_slice bytes = {mp_buffer_data(&fill->items), fill->part.bytes};
	struct memcached_command command = memcached_next_command(bytes);
	size_t len = command.line.len + command.block.len;
	const char *s = command.line.data;

	if (!mp_starts_with(bytes, "ms ") || command.block.len < 2)
		return false;
	mc_next_word(&s, s + command.line.len);
	fill->done_bytes +=
		mc_next_word(&s, command.block.data).len + command.block.len + ITEM_OVERHEAD_BYTES;
	if (mp_touched_has(touched, command.line))
		fill->left_out++;
	else
		mp_backend_memcached_say(restore->target->backend, command);
	fill->count++;
	fill->part.bytes -= len;
	mp_buffer_consume(&fill->items, len);
	if (fill->part.bytes == 0) {
		fill->part = fill->next;
		fill->next.bytes = 0;
	}
	return true;
}

static bool may_add(const struct mp_restore *restore)
{
	const struct fill *fill = restore->own;
	const struct mp_target *target = restore->target;

	return fill->part.bytes > 0 && target->handed_lsn >= fill->part.lsn &&
	       target->backend->ops->backlog(target->backend) < BACKLOG_BYTES;
}

/* False: it cannot go on. */
static bool check(struct mp_restore *restore)
{
	const struct mp_proxy *proxy = restore->proxy;
	const struct fill *fill = restore->own;
	const struct mp_touched *touched = &proxy->memcached.touched;

	if (touched->all)
		mp_restore_end(restore, "%s", touched->all);
	else if (restore->target->state != MP_BACKEND_READY || restore->target->is_restarting)
		mp_restore_fail(restore, "the own server was lost");
	else if (proxy->apply.era != fill->era)
		mp_restore_fail(restore, "the own log has begun anew");
	return !restore->is_failed;
}

static uint64_t turn(struct mp_restore *restore, uint64_t now_ns)
{
	struct fill *fill = restore->own;
	unsigned count = 0;

	if (!check(restore))
		return now_ns;
	while (count < ITEMS_PER_TURN && may_add(restore)) {
		if (!add(restore)) {
			mp_restore_fail(restore, "what it has sent is no item");
			return now_ns;
		}
		count++;
	}
	if (count > 0) {
		mp_restore_counted(restore, fill->count, fill->total_count);
		mp_restore_moved(restore, fill->done_bytes, fill->total_bytes);
		restore->target->backend->ops->flush(restore->target->backend);
	} else if (restore->target->handed_lsn != fill->handed_lsn) {
		mp_restore_moved(restore, fill->done_bytes, fill->total_bytes);
	}
	fill->handed_lsn = restore->target->handed_lsn;
	if (restore->link && restore->link->paused &&
	    fill->part.bytes + fill->next.bytes < MP_TRANSFER_SOFT_BYTES / 2)
		mp_link_resume(restore->link);
	if (fill->is_whole && mp_buffer_len(&fill->items) == 0) {
		mp_info("memcached: %" PRIu64 " items were copied to it, %" PRIu64
			" left out, since the log has brought newer ones",
			fill->count - fill->left_out, fill->left_out);
		mp_restore_done(restore, fill->era, restore->target->handed_lsn);
	}
	return may_add(restore) ? now_ns : UINT64_MAX;
}

static void end(struct mp_restore *restore)
{
	struct fill *fill = restore->own;

	if (!(restore->wanted & 1U << mp_target_index(MP_MEMCACHED)))
		mp_backend_memcached_be_whole(restore->target->backend);
	mp_touched_close(&restore->proxy->memcached.touched);
	mp_buffer_free(&fill->items);
	free(fill);
	restore->own = NULL;
}

const struct mp_restorer mp_memcached_restorer = {
	.beside_service = true,
	.begin = begin,
	.note = note,
	.data = data,
	.turn = turn,
	.end = end,
};
