/* test_records.c - a log entry's payload: built of records, taken apart again. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "records.h"

static const struct mp_record plain = {
	.version = MP_RECORD_VERSION,
	.protocol = MP_REDIS,
	.commands = 1,
	.origin = {.nonce = 7, .sequence = 9, .replica = 3, .handle = 0xabcdef},
};

static struct mp_slice text(const char *s)
{
	return (struct mp_slice){s, strlen(s)};
}

/* The payload as consensus would store it; the caller frees it. */
static char *payload_of(const struct mp_records *records)
{
	struct iovec iov[MP_RECORDS_PIECES];
	int count = mp_records_iov(records, iov);
	char *payload = malloc(records->bytes + 1);
	size_t at = 0;

	assert_non_null(payload);
	for (int i = 0; i < count; i++) {
		memcpy(payload + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	assert_int_equal(at, records->bytes);
	assert_int_equal(at % 8, 0);
	return payload;
}

static void assert_slice(struct mp_slice slice, struct mp_slice expected)
{
	assert_int_equal(slice.len, expected.len);
	assert_memory_equal(slice.data, expected.data, expected.len);
}

static void what_goes_in_comes_out(void **state)
{
	static char large[100000];
	struct mp_records records = {0};
	struct mp_record_view view;
	struct mp_record empty = plain;
	size_t at = 0;
	char *payload;

	(void)state;
	memset(large, 'x', sizeof(large));
	empty.commands = 0;
	assert_true(mp_records_add(&records, &plain, text("SET a 1"), true, text("")));
	assert_true(mp_records_add(&records, &plain, (struct mp_slice){large, sizeof(large)}, true,
				   text("a reply")));
	assert_true(mp_records_add(&records, &plain, (struct mp_slice){large, sizeof(large)}, false,
				   text("")));
	assert_true(mp_records_add(&records, &empty, text(""), true, text("NOT_FOUND\r\n")));
	/* A large value that stays is not copied: it is a piece of its own. */
	assert_int_equal(records.pieces, 3);
	payload = payload_of(&records);

	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_OK);
	assert_slice(view.wire, text("SET a 1"));
	assert_int_equal(view.reply.len, 0);
	assert_memory_equal(&view.head.origin, &plain.origin, sizeof(plain.origin));
	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_OK);
	assert_slice(view.wire, (struct mp_slice){large, sizeof(large)});
	assert_slice(view.reply, text("a reply"));
	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_OK);
	assert_slice(view.wire, (struct mp_slice){large, sizeof(large)});
	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_OK);
	assert_int_equal(view.wire.len, 0);
	assert_slice(view.reply, text("NOT_FOUND\r\n"));
	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_END);
	free(payload);
	mp_records_free(&records);
}

static void clearing_makes_room_again(void **state)
{
	static char large[20000];
	struct mp_records records = {0};
	int added;

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (added = 0; !mp_records_full(&records); added++)
			assert_true(mp_records_add(&records, &plain,
						   (struct mp_slice){large, sizeof(large)}, true,
						   text("")));
		assert_true(added >= 20);
		assert_int_equal(records.bytes, (uint64_t)added * mp_record_span(20000, 0));
		mp_records_clear(&records);
		assert_int_equal(records.bytes, 0);
	}
	mp_records_free(&records);
}

/* What another version wrote, or what is cut, is recognized as such. */
static void damage_is_noticed(void **state)
{
	struct mp_records records = {0};
	struct mp_record_view view;
	struct mp_record *head;
	char *payload;
	size_t at;

	(void)state;
	assert_true(mp_records_add(&records, &plain, text("SET a 1"), true, text("reply")));
	payload = payload_of(&records);
	head = (struct mp_record *)payload;
	for (size_t len = 1; len < records.bytes; len++) {
		at = 0;
		assert_int_equal(mp_record_next(payload, len, &at, &view), MP_RECORD_BAD);
	}
	head->version++;
	at = 0;
	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_BAD);
	head->version--;
	head->protocol = 9;
	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_BAD);
	head->protocol = MP_MEMCACHED;
	head->commands = 0;
	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_BAD);
	head->commands = 1;
	head->bytes = UINT32_MAX;
	head->reply_bytes = UINT32_MAX;
	assert_int_equal(mp_record_next(payload, records.bytes, &at, &view), MP_RECORD_BAD);
	free(payload);
	mp_records_free(&records);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_in_comes_out),
		cmocka_unit_test(clearing_makes_room_again),
		cmocka_unit_test(damage_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
