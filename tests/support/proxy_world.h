/*
 * proxy_world.h - three real proxies in one thread, with everything around
 * them faked so that a test decides what happens and when: consensus is one
 * log in memory (mu.h implemented anew), backends are tables in memory that
 * execute what they are sent when the test lets them. Clients and the links
 * between the proxies are real unix sockets.
 *
 * Nothing happens but in world_turn() and what calls it.
 */
#ifndef TEST_PROXY_WORLD_H
#define TEST_PROXY_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "servers.h"
#include "state.h"

enum { WORLD_REPLICAS = 3 };

struct world_options {
	uint32_t hold_timeout_ms, unknown_timeout_ms; /* 0: longer than any test */
	uint64_t max_request_bytes, client_output_bytes, max_held_bytes; /* 0: the proxy's own */
	const char *command_table; /* address of a Redis server to ask for it; NULL: no Redis */
	/* Told which replica asks for a connection to which; NULL: they connect by themselves. */
	void (*dial)(unsigned from, unsigned to);
};

/* What a test may change at any time. */
struct world {
	bool hold_commit;                    /* what is proposed stays uncommitted */
	bool hold_fence;                     /* no fence passes */
	bool full;                           /* the log has no room */
	bool frozen[WORLD_REPLICAS + 1];     /* this replica is not told of newer commits */
	bool paused[WORLD_REPLICAS + 1];     /* this replica's process is stopped */
	bool stalled[2][WORLD_REPLICAS + 1]; /* its backend [protocol - 1] executes nothing */
	bool halved[2][WORLD_REPLICAS + 1];  /* it says the first half of each reply, and no more */
	uint64_t reclaimed_lsn[WORLD_REPLICAS + 1]; /* its log does not reach back to before this */

	struct mp_proxy *proxy[WORLD_REPLICAS + 1]; /* NULL: killed */
	/* Seen from outside. */
	unsigned leader; /* 0: none */
	unsigned proposals, resigned;
};
extern struct world world;

void world_make(const struct world_options *options);
void world_free(void);
/* For cmocka: the end of each test; and a server that is only asked for its table of commands. */
int world_unmake(void **state);
extern struct test_server world_redis;
int world_start_redis(void **state);
int world_stop_redis(void **state);
/* One turn of every replica that runs. */
void world_turn(void);
/* Turns until nothing more moves (a fixed number: there are no timers in between). */
void world_settle(void);

/*
 * A new leader, under the next ballot. What was proposed and not committed is
 * kept (and so committed) or not.
 */
void world_elect(unsigned id, bool keep);
/* Nobody leads. */
void world_depose(void);
/* kill -9: its sockets close, nothing more is sent. Its backends' contents stay. */
void world_kill(unsigned id);
/* Start a killed one again. */
void world_start(unsigned id);
/* Cut the link of a follower to its leader; unread: what it has sent and the leader not read is
 * lost. */
void world_cut(unsigned follower, bool unread);
/* Commit what is held. */
void world_commit(void);

/* The backend's connection breaks; what was not executed yet is executed first, or never. */
void world_backend_lose(enum mp_protocol protocol, unsigned id, bool execute);
void world_backend_ready(enum mp_protocol protocol, unsigned id);
/* The value there, "" if none; good until the next call. */
const char *world_value(enum mp_protocol protocol, unsigned id, const char *key);
enum mu_backend_health world_health(unsigned id);
/* What the backend has applied. */
uint64_t world_applied_lsn(enum mp_protocol protocol, unsigned id);
/* How many requests the proxy has in hand. */
unsigned world_pending(unsigned id);

/* --- clients; replies are compared as text */
int client_connect(unsigned id, enum mp_protocol protocol);
int client_connect_peer(unsigned id);
void client_send(int fd, const char *text);
void client_send_bytes(int fd, const void *data, size_t len);
/* Exactly this comes next, within the deadline. */
void client_expect(int fd, const char *text);
/* Nothing comes. */
void client_expect_silence(int fd);
/* What comes next ends the connection. */
void client_expect_end(int fd);
void client_close(int fd);

#endif
