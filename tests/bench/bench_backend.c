/*
 * bench_backend.c - what applying costs: CPU time of redis-server, and of the
 * adapter, per write, for units of 1, 10 and 100 writes, sent
 *     bare     as plain commands, without any LSN (the floor)
 *     blind    as units of blind writes: bare, the LSN stored lazily
 *     wrapped  as units that are not blind: MULTI ... SET applied ... EXEC
 * `mixed` puts a read of the same database behind every wrapped unit.
 *
 * usage: bench_backend [UNITS_IN_FLIGHT [MILLISECONDS]]
 */
#include "config.h"

#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "servers.h"

static const char set[] = "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$32\r\n"
			  "0123456789abcdef0123456789abcdef\r\n";
static const char get[] = "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000042\r\n";

enum mode { BARE, BLIND, WRAPPED, MIXED, MODES };
static const char *const mode_names[] = {"bare", "blind", "wrapped", "mixed"};

struct bench {
	struct event_base *base;
	struct mp_backend *backend;
	uint64_t lsn, answered, given;
	enum mp_backend_state state;
};

static void on_reply(void *ctx, void *owner, struct mp_slice piece, bool last)
{
	struct bench *b = ctx;

	(void)owner;
	(void)piece;
	b->answered += last;
}

static void on_lost(void *ctx, void *owner)
{
	(void)ctx;
	(void)owner;
	fprintf(stderr, "bench_backend: a reply was lost\n");
	abort();
}

static void on_state(void *ctx, enum mp_backend_state state, uint64_t applied_lsn, const char *why)
{
	struct bench *b = ctx;

	(void)applied_lsn;
	(void)why;
	b->state = state;
}

static void on_durable(void *ctx, uint64_t lsn)
{
	(void)ctx;
	(void)lsn;
}

static const struct mp_backend_events events = {on_reply, on_lost, on_state, on_durable};

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void give_unit(struct bench *b, enum mode mode, int batch)
{
	const struct mp_backend_ops *ops = b->backend->ops;
	struct mp_slice command = {set, sizeof(set) - 1};
	int i;

	if (mode != BARE)
		ops->begin(b->backend, b->lsn += 64, mode == BLIND);
	for (i = 0; i < batch; i++) {
		if (mode == BARE)
			ops->read(b->backend, 0, command, b);
		else
			ops->write(b->backend, 0, command, 1, b);
	}
	if (mode != BARE)
		ops->end(b->backend);
	b->given += (uint64_t)batch;
	if (mode == MIXED) {
		ops->read(b->backend, 0, (struct mp_slice){get, sizeof(get) - 1}, b);
		b->given++;
	}
}

/* As a data thread does: a pass of the loop, then what has to be sent, then one flush. */
static void run(struct bench *b, enum mode mode, int batch, int in_flight, int ms, clockid_t server)
{
	uint64_t start_ns = clock_ns(CLOCK_MONOTONIC), given = b->given, now_ns;
	uint64_t server_ns = clock_ns(server), own_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	double writes;

	do {
		while (b->given - b->answered < (uint64_t)(in_flight * batch))
			give_unit(b, mode, batch);
		b->backend->ops->flush(b->backend);
		event_base_loop(b->base, EVLOOP_ONCE);
		now_ns = clock_ns(CLOCK_MONOTONIC);
	} while (now_ns - start_ns < (uint64_t)ms * 1000000);
	writes = (double)(b->given - given);
	if (mode == MIXED)
		writes = writes * batch / (batch + 1);
	printf("%-8s %5d %12.0f %14.2f %14.2f\n", mode_names[mode], batch,
	       writes / ((double)(now_ns - start_ns) / 1e9),
	       (double)(clock_ns(server) - server_ns) / writes / 1e3,
	       (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_ns) / writes / 1e3);
	while (b->answered < b->given)
		event_base_loop(b->base, EVLOOP_ONCE);
}

int main(int argc, char **argv)
{
	int in_flight = argc > 1 ? atoi(argv[1]) : 4, ms = argc > 2 ? atoi(argv[2]) : 500;
	struct mp_backend_options options = {.reconnect_min_ms = 1, .reconnect_max_ms = 10};
	struct bench b = {.base = event_base_new()};
	static const int batches[] = {1, 10, 100};
	char dir[TEST_DIR_BYTES], err[256];
	struct test_server server;
	clockid_t server_clock;
	size_t i;
	int mode;

	if (in_flight < 1 || ms < 1) {
		fprintf(stderr, "usage: bench_backend [UNITS_IN_FLIGHT [MILLISECONDS]]\n");
		return 2;
	}
	test_dir_make(dir);
	test_redis_start(&server, dir, "");
	clock_getcpuclockid(server.pid, &server_clock);
	options.address = server.address;
	b.backend = mp_backend_redis_open(b.base, &options, &events, &b, err, sizeof(err));
	while (b.backend && b.state != MP_BACKEND_READY)
		event_base_loop(b.base, EVLOOP_ONCE);
	printf("%d units in flight, %d ms each\n", in_flight, ms);
	printf("%-8s %5s %12s %14s %14s\n", "sent", "batch", "writes/s", "server us/wr",
	       "adapter us/wr");
	for (i = 0; i < sizeof(batches) / sizeof(batches[0]); i++)
		for (mode = 0; mode < MODES; mode++)
			run(&b, (enum mode)mode, batches[i], in_flight, ms, server_clock);
	b.backend->ops->close(b.backend);
	event_base_free(b.base);
	test_server_kill(&server, SIGKILL);
	test_dir_remove(dir);
	return 0;
}
