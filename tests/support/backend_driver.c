/* backend_driver.c - see backend_driver.h. */
#include "config.h"

#include "backend_driver.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#undef skip /* also an op's name */

#include "resp.h"

enum { PASS_MS = 5, NOTE_BYTES = 120, MAX_WORDS = 64 };

int test_backend_setup(void **state)
{
	struct test_backend_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	test_dir_make(f->dir);
	*state = f;
	return 0;
}

int test_backend_teardown(void **state)
{
	struct test_backend_fixture *f = *state;

	test_server_kill(&f->server, SIGKILL);
	test_dir_remove(f->dir);
	free(f);
	return 0;
}

uint64_t test_hash(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *at = data;

	while (bytes-- > 0)
		hash = (hash ^ *at++) * 0x100000001b3ULL;
	return hash;
}

static void note(struct test_backend *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void note(struct test_backend *t, const char *format, ...)
{
	size_t room = sizeof(t->transcript) - t->transcript_len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->transcript + t->transcript_len, room, format, args);
	va_end(args);
	/* A test that makes more replies than can be noted is not about their text. */
	t->transcript_len += n > 0 && (size_t)n < room ? (size_t)n : 0;
}

static void note_reply(struct test_backend *t, int owner)
{
	char text[sizeof(t->reply_start)];
	size_t i, len = t->reply_bytes;

	t->answers++;
	if (len > NOTE_BYTES) {
		note(t, "%d:<%zu bytes> ", owner, len);
		return;
	}
	for (i = 0; i < len; i++)
		text[i] = t->reply_start[i] == '\r' ? ' ' : t->reply_start[i];
	text[len] = '\0';
	for (i = 0; text[i]; i++)
		if (text[i] == '\n')
			memmove(text + i, text + i + 1, strlen(text + i));
	note(t, "%d:%s", owner, text);
}

static void on_reply(void *ctx, void *owner, struct mp_slice piece, bool last)
{
	struct test_backend *t = ctx;
	size_t keep = sizeof(t->reply_start) - 1;

	if (t->pieces == 0) {
		t->reply_bytes = 0;
		t->reply_hash = TEST_HASH_START;
	}
	if (t->reply_bytes < keep)
		memcpy(t->reply_start + t->reply_bytes, piece.data,
		       piece.len < keep - t->reply_bytes ? piece.len : keep - t->reply_bytes);
	t->reply_bytes += piece.len;
	t->reply_hash = test_hash(t->reply_hash, piece.data, piece.len);
	t->pieces++;
	/* The contract: small replies come whole. */
	assert_true(last || piece.len >= 64 << 10);
	if (last) {
		note_reply(t, (int)(intptr_t)owner);
		t->pieces = 0;
	}
}

static void on_lost(void *ctx, void *owner)
{
	struct test_backend *t = ctx;

	t->answers++;
	t->pieces = 0;
	note(t, "%d:lost ", (int)(intptr_t)owner);
}

static void on_state(void *ctx, enum mp_backend_state state, uint64_t applied_lsn, const char *why)
{
	struct test_backend *t = ctx;

	t->state = state;
	t->applied_lsn = applied_lsn;
	t->states++;
	snprintf(t->why, sizeof(t->why), "%s", why);
	if (state != MP_BACKEND_READY)
		return;
	t->durable_lsn = applied_lsn;
	/* Stored beside the LSN, and read back with it. */
	if (applied_lsn > 0)
		assert_int_equal(t->backend->era, TEST_ERA);
	t->backend->era = TEST_ERA;
}

static void on_durable(void *ctx, uint64_t lsn)
{
	struct test_backend *t = ctx;

	assert_true(lsn > t->durable_lsn);
	t->durable_lsn = lsn;
}

static const struct mp_backend_events events = {
	.reply = on_reply,
	.lost = on_lost,
	.state = on_state,
	.durable = on_durable,
};

/* Only ends a pass in which nothing else happened. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

void test_backend_open_with(struct test_backend *t, test_open_fn *open, const char *address,
			    const char *password, uint64_t group_id)
{
	struct mp_backend_options options = {
		.address = address,
		.password = password,
		.group_id = group_id,
		.reconnect_min_ms = 2,
		.reconnect_max_ms = 50,
	};
	char err[256] = "";

	memset(t, 0, sizeof(*t));
	t->base = event_base_new();
	t->tick = event_new(t->base, -1, 0, on_tick, NULL);
	assert_non_null(t->tick);
	t->backend = open(t->base, &options, &events, t, err, sizeof(err));
	if (!t->backend)
		fail_msg("%s: %s", address, err);
}

void test_backend_open(struct test_backend *t, test_open_fn *open, const char *address)
{
	test_backend_open_with(t, open, address, NULL, TEST_GROUP);
}

void test_backend_close(struct test_backend *t)
{
	t->backend->ops->close(t->backend);
	event_free(t->tick);
	event_base_free(t->base);
}

void test_backend_pass(struct test_backend *t)
{
	struct timeval wait = {0, PASS_MS * 1000};

	event_add(t->tick, &wait);
	event_base_loop(t->base, EVLOOP_ONCE);
}

void test_until_ready(struct test_backend *t, uint64_t applied_lsn)
{
	test_until(t, t->state == MP_BACKEND_READY);
	assert_int_equal(t->applied_lsn, applied_lsn);
}

void test_until_failed(struct test_backend *t, const char *text)
{
	test_until(t, t->state == MP_BACKEND_FAILED);
	if (!strstr(t->why, text))
		fail_msg("'%s' is not in the reason '%s'", text, t->why);
}

void test_until_answers(struct test_backend *t, unsigned answers)
{
	t->backend->ops->flush(t->backend);
	test_until(t, t->answers >= answers);
	assert_int_equal(t->answers, answers);
}

void test_expect(struct test_backend *t, const char *transcript)
{
	assert_string_equal(t->transcript, transcript);
	t->transcript[0] = '\0';
	t->transcript_len = 0;
	t->answers = 0;
}

void test_begin(struct test_backend *t, uint64_t lsn, bool blind)
{
	t->backend->ops->begin(t->backend, lsn, blind);
}

void test_end(struct test_backend *t)
{
	t->backend->ops->end(t->backend);
}

void test_skip(struct test_backend *t, uint64_t lsn)
{
	t->backend->ops->skip(t->backend, lsn);
}

void test_write(struct test_backend *t, const char *wire, int owner)
{
	t->backend->ops->write(t->backend, 0, (struct mp_slice){wire, strlen(wire)}, 1,
			       (void *)(intptr_t)owner);
}

void test_read(struct test_backend *t, const char *wire, int owner)
{
	t->backend->ops->read(t->backend, 0, (struct mp_slice){wire, strlen(wire)},
			      (void *)(intptr_t)owner);
}

static struct mp_slice encode(const char *words, char *out, size_t cap)
{
	struct mp_slice argv[MAX_WORDS];
	const char *at = words;
	int argc = 0;

	while (*at) {
		size_t len = strcspn(at, " ");

		argv[argc++] = (struct mp_slice){at, len};
		at += len + (at[len] == ' ');
	}
	return (struct mp_slice){out, resp_encode(out, cap, argc, argv)};
}

void test_redis_write(struct test_backend *t, uint32_t database, const char *words, int owner)
{
	char wire[4096];

	t->backend->ops->write(t->backend, database, encode(words, wire, sizeof(wire)), 1,
			       (void *)(intptr_t)owner);
}

void test_redis_read(struct test_backend *t, uint32_t database, const char *words, int owner)
{
	char wire[4096];

	t->backend->ops->read(t->backend, database, encode(words, wire, sizeof(wire)),
			      (void *)(intptr_t)owner);
}

void test_redis_apply(struct test_backend *t, uint64_t lsn, bool blind, const char *words,
		      int owner)
{
	test_begin(t, lsn, blind);
	test_redis_write(t, 0, words, owner);
	test_end(t);
}
