/* records.c - see records.h. */
#include "records.h"

#include <assert.h>
#include <string.h>

/* From here on copying a value costs more than another piece. */
enum { OUTSIDE_BYTES = 16 << 10 };
/* A record has three parts at most: header, wire form outside, reply and padding. */
enum { PIECES_PER_RECORD = 3 };

static void own_piece(struct mp_records *records, size_t offset, size_t len)
{
	int last = records->pieces - 1;

	if (len == 0)
		return;
	if (last >= 0 && !records->piece[last].outside &&
	    records->piece[last].offset + records->piece[last].len == offset) {
		records->piece[last].len += len;
		return;
	}
	assert(records->pieces < MP_RECORDS_PIECES);
	records->piece[records->pieces].outside = NULL;
	records->piece[records->pieces].offset = offset;
	records->piece[records->pieces++].len = len;
}

static void outside_piece(struct mp_records *records, struct mp_slice wire)
{
	assert(records->pieces < MP_RECORDS_PIECES);
	records->piece[records->pieces].outside = wire.data;
	records->piece[records->pieces].offset = 0;
	records->piece[records->pieces++].len = wire.len;
}

bool mp_records_add(struct mp_records *records, const struct mp_record *record,
		    struct mp_slice wire, bool stays, struct mp_slice reply)
{
	bool outside = stays && wire.len >= OUTSIDE_BYTES;
	size_t offset = mp_buffer_len(&records->own), own, padding;
	struct mp_record head = *record;
	uint64_t span;
	char *at;

	assert(!mp_records_full(records));
	if (wire.len > UINT32_MAX || reply.len > UINT32_MAX)
		return false;
	head.bytes = (uint32_t)wire.len;
	head.reply_bytes = (uint32_t)reply.len;
	span = mp_record_span(head.bytes, head.reply_bytes);
	padding = span - sizeof(head) - wire.len - reply.len;
	own = outside ? span - wire.len : span;
	at = mp_buffer_reserve(&records->own, own);
	if (!at)
		return false;
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	if (outside) {
		own_piece(records, offset, sizeof(head));
		outside_piece(records, wire);
		own_piece(records, offset + sizeof(head), own - sizeof(head));
	} else {
		if (wire.len > 0)
			memcpy(at, wire.data, wire.len);
		at += wire.len;
		own_piece(records, offset, own);
	}
	if (reply.len > 0)
		memcpy(at, reply.data, reply.len);
	memset(at + reply.len, 0, padding);
	mp_buffer_commit(&records->own, own);
	records->bytes += span;
	return true;
}

bool mp_records_full(const struct mp_records *records)
{
	return records->pieces > MP_RECORDS_PIECES - PIECES_PER_RECORD;
}

int mp_records_iov(const struct mp_records *records, struct iovec *iov)
{
	char *own = mp_buffer_data(&records->own);

	for (int i = 0; i < records->pieces; i++) {
		const char *base = records->piece[i].outside;

		if (!base)
			base = own + records->piece[i].offset;
		iov[i] = (struct iovec){(void *)(uintptr_t)base, records->piece[i].len};
	}
	return records->pieces;
}

void mp_records_clear(struct mp_records *records)
{
	mp_buffer_clear(&records->own);
	records->pieces = 0;
	records->bytes = 0;
}

void mp_records_free(struct mp_records *records)
{
	mp_buffer_free(&records->own);
	*records = (struct mp_records){0};
}

enum mp_record_result mp_record_next(const void *payload, size_t payload_bytes, size_t *at,
				     struct mp_record_view *out)
{
	const char *data = payload;
	size_t left = payload_bytes - *at;
	uint64_t span;

	if (left == 0)
		return MP_RECORD_END;
	if (left < sizeof(out->head))
		return MP_RECORD_BAD;
	memcpy(&out->head, data + *at, sizeof(out->head));
	span = mp_record_span(out->head.bytes, out->head.reply_bytes);
	if (span > left || out->head.version != MP_RECORD_VERSION ||
	    (out->head.protocol != MP_REDIS && out->head.protocol != MP_MEMCACHED) ||
	    (out->head.bytes > 0) != (out->head.commands > 0))
		return MP_RECORD_BAD;
	out->wire = (struct mp_slice){data + *at + sizeof(out->head), out->head.bytes};
	out->reply = (struct mp_slice){out->wire.data + out->head.bytes, out->head.reply_bytes};
	*at += span;
	return MP_RECORD_OK;
}
