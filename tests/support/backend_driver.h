/*
 * backend_driver.h - drives one backend adapter (proxy/backend.h) in a test: an
 * event loop, and a transcript of what the adapter told. Owners are small
 * numbers; a reply is noted as "OWNER:TEXT" with line ends as blanks, a lost
 * one as "OWNER:lost", e.g. "1:+OK 2:$3 abc 3:lost ". A reply of more than 120
 * bytes is noted by its size: "4:<67108874 bytes>".
 */
#ifndef TEST_BACKEND_DRIVER_H
#define TEST_BACKEND_DRIVER_H

#include <event2/event.h>

#include "backend.h"
#include "servers.h"

typedef struct mp_backend *test_open_fn(struct event_base *, const struct mp_backend_options *,
					const struct mp_backend_events *, void *, char *, size_t);

struct test_backend {
	struct event_base *base;
	struct event *tick;
	struct mp_backend *backend;
	char transcript[64 << 10];
	size_t transcript_len;
	/* the newest state() */
	enum mp_backend_state state;
	uint64_t applied_lsn;
	char why[256];
	unsigned states; /* how often it was told */
	uint64_t durable_lsn;
	unsigned answers; /* replies told in full, and losses */
	/* the reply under way, or the newest */
	size_t reply_bytes, pieces;
	uint64_t reply_hash; /* of its bytes: FNV-1a */
	char reply_start[128];
};

/* A directory of its own, a server and what drives an adapter to it: cmocka's state. */
struct test_backend_fixture {
	char dir[TEST_DIR_BYTES];
	struct test_server server;
	struct test_backend t;
};
int test_backend_setup(void **state);
int test_backend_teardown(void **state);

enum { TEST_GROUP = 0x1234, TEST_ERA = 0x77 };

/* Opens the backend for TEST_GROUP, with a clean transcript; fails the test if it cannot. */
void test_backend_open(struct test_backend *t, test_open_fn *open, const char *address);
void test_backend_open_with(struct test_backend *t, test_open_fn *open, const char *address,
			    const char *password, uint64_t group_id);
void test_backend_close(struct test_backend *t);

/* One pass of the loop; waits a few milliseconds at most for something to happen. */
void test_backend_pass(struct test_backend *t);
/* Loop until CONDITION holds; fails the test when it does not within a minute. */
#define test_until(t, condition)                                                                 \
	do {                                                                                     \
		uint64_t test_end_ms_ = test_now_ms() + TEST_DEADLINE_MS;                        \
		while (!(condition)) {                                                           \
			if (test_now_ms() > test_end_ms_)                                        \
				fail_msg("not within %d ms: %s (state %d, %s; transcript '%s')", \
					 TEST_DEADLINE_MS, #condition, (t)->state, (t)->why,     \
					 (t)->transcript);                                       \
			test_backend_pass(t);                                                    \
		}                                                                                \
	} while (0)

/* Loop until READY, and check the applied LSN. */
void test_until_ready(struct test_backend *t, uint64_t applied_lsn);
/* Loop until FAILED; its reason has to contain text. */
void test_until_failed(struct test_backend *t, const char *text);
/* Flush, and loop until that many owners in all got their reply or loss. */
void test_until_answers(struct test_backend *t, unsigned answers);
/* The transcript is this; it is then begun anew. */
void test_expect(struct test_backend *t, const char *transcript);

/* The ops, with strings; the Redis ones take words separated by blanks. */
void test_begin(struct test_backend *t, uint64_t lsn, bool blind);
void test_end(struct test_backend *t);
void test_skip(struct test_backend *t, uint64_t lsn);
void test_write(struct test_backend *t, const char *wire, int owner);
void test_read(struct test_backend *t, const char *wire, int owner);
void test_redis_write(struct test_backend *t, uint32_t database, const char *words, int owner);
void test_redis_read(struct test_backend *t, uint32_t database, const char *words, int owner);
/* A unit of one write. */
void test_redis_apply(struct test_backend *t, uint64_t lsn, bool blind, const char *words,
		      int owner);

/* FNV-1a, as reply_hash: start with TEST_HASH_START. */
#define TEST_HASH_START 0xcbf29ce484222325ULL
uint64_t test_hash(uint64_t hash, const void *data, size_t bytes);

#endif
