/*
 * records.h - the payload of the next log entry while it grows: records
 * (record.h) one behind the other. Small ones are copied together; a large
 * value stays where it is until it is copied into the log.
 */
#ifndef MP_RECORDS_H
#define MP_RECORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "buffer.h"
#include "record.h"
#include "slice.h"

enum { MP_RECORDS_PIECES = 64 };

/* A zeroed one is empty and ready. */
struct mp_records {
	struct mp_buffer own;
	struct {
		const char *outside; /* NULL: `own`, from offset on */
		size_t offset, len;
	} piece[MP_RECORDS_PIECES];
	int pieces;
	uint64_t bytes; /* of the payload */
};

/*
 * Add a record: its wire form and (reply.len > 0) its reply, of which the
 * lengths in record need not tell. stays: wire is good until mp_records_clear().
 * False: out of memory; nothing was added.
 */
bool mp_records_add(struct mp_records *records, const struct mp_record *record,
		    struct mp_slice wire, bool stays, struct mp_slice reply);
/* No room for another record, however small. */
bool mp_records_full(const struct mp_records *records);
/* The payload. Returns how many of iov (of MP_RECORDS_PIECES) are in use. */
int mp_records_iov(const struct mp_records *records, struct iovec *iov);
void mp_records_clear(struct mp_records *records);
void mp_records_free(struct mp_records *records);

/* Walks through a payload. */
struct mp_record_view {
	struct mp_record head;
	struct mp_slice wire, reply;
};
enum mp_record_result { MP_RECORD_OK, MP_RECORD_END, MP_RECORD_BAD };
/* The record at *at, which moves behind it. BAD: not a record that this program knows. */
enum mp_record_result mp_record_next(const void *payload, size_t payload_bytes, size_t *at,
				     struct mp_record_view *out);

#endif
