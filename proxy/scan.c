/* scan.c - see scan.h. */
#include "scan.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "command_special.h"
#include "decimal.h"

enum { PLACE_BITS = 36, RUN_BITS = 24 };
#define PLACE_MASK ((UINT64_C(1) << PLACE_BITS) - 1)

uint32_t mp_scan_tag(unsigned replica, const char *run_id)
{
	uint64_t run = XXH3_64bits(run_id, strlen(run_id)) & ((1U << RUN_BITS) - 1);

	assert(replica > 0 && replica < 8);
	return (uint32_t)replica << RUN_BITS | (uint32_t)run;
}

/* The argument that is the cursor. */
static int place_of(const struct resp_request *r)
{
	return mp_arg_is(r->argv[0], "scan") ? 1 : 2;
}

/* False: it is no cursor of ours; the server says what is wrong with it. */
static bool take_cursor(const struct resp_request *r, uint64_t *cursor)
{
	int64_t value;

	if (r->argc <= place_of(r) || !mp_parse_i64(r->argv[place_of(r)], &value) || value < 0)
		return false;
	*cursor = (uint64_t)value;
	return true;
}

uint32_t mp_scan_tag_of(const struct resp_request *r)
{
	uint64_t cursor;

	return take_cursor(r, &cursor) ? (uint32_t)(cursor >> PLACE_BITS) : 0;
}

bool mp_scan_question(const struct resp_request *r, uint32_t tag, struct mp_buffer *out)
{
	const struct mp_slice *before, *word;
	char digits[MP_DECIMAL_BYTES], text[MP_DECIMAL_BYTES + 16];
	const char *end = r->raw.data + r->raw.len, *rest;
	uint64_t cursor;
	int len;

	if (!take_cursor(r, &cursor) || cursor == 0)
		return mp_buffer_append(out, r->raw.data, r->raw.len);
	cursor = cursor >> PLACE_BITS == tag ? cursor & PLACE_MASK : 0;
	len = (int)mp_format_u64(digits, cursor);
	len = snprintf(text, sizeof(text), "$%d\r\n%.*s\r\n", len, len, digits);
	word = &r->argv[place_of(r)];
	before = word - 1;
	rest = word->data + word->len + 2;
	return mp_buffer_append(out, r->raw.data,
				(size_t)(before->data + before->len + 2 - r->raw.data)) &&
	       mp_buffer_append(out, text, (size_t)len) &&
	       mp_buffer_append(out, rest, (size_t)(end - rest));
}

/* Takes a line "<type><number>" off; false: there is none such. */
static bool take_line(struct mp_slice *rest, char type, struct mp_slice *number)
{
	const char *end = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;

	if (!end || end < rest->data + 2 || (type && rest->data[0] != type))
		return false;
	*number = (struct mp_slice){rest->data + (type != '\0'),
				    (size_t)(end - rest->data) - 1 - (type != '\0')};
	rest->len -= (size_t)(end + 1 - rest->data);
	rest->data = end + 1;
	return true;
}

size_t mp_scan_head(struct mp_slice reply, uint32_t tag, bool restarts,
		    char out[MP_SCAN_HEAD_BYTES], size_t *used)
{
	struct mp_slice rest = reply, number;
	char digits[MP_DECIMAL_BYTES];
	int64_t place;
	int len;

	if (!take_line(&rest, '*', &number) || !take_line(&rest, '$', &number) ||
	    !take_line(&rest, '\0', &number) || !mp_parse_i64(number, &place) || place < 0 ||
	    (place == 0 && !restarts))
		return 0;
	if (restarts)
		place = 0;
	*used = reply.len - rest.len;
	len = (int)mp_format_u64(digits, (uint64_t)tag << PLACE_BITS | (uint64_t)place);
	return (size_t)snprintf(out, MP_SCAN_HEAD_BYTES, "*2\r\n$%d\r\n%.*s\r\n", len, len, digits);
}
