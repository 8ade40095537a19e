/*
 * members.h - members of a group over real sockets, each with a recorder in
 * place of a fabric. Every member has a loopback address of its own, so that
 * tests never meet on a port.
 */
#ifndef TEST_MEMBERS_H
#define TEST_MEMBERS_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "clock.h"
#include "peering.h"

/* Nothing that a test waits for takes this long, however loaded the machine is. */
#define DEADLINE_NS 20000000000u
#define GROUP 77

/* What a fabric was told; it keeps the last stream of each kind. */
struct heard {
	pthread_mutex_t lock;
	bool up[MU_ID_SLOTS];
	unsigned ups, downs, messages, failures, replaced;
	char last[MU_PEERING_MESSAGE_BYTES];
	size_t last_bytes;
	bool in_order;
	int stream[2][MU_PLANES]; /* [dialled][plane], -1: none */
};

struct member {
	struct peering_options options;
	char address[MU_ID_SLOTS][80];
	struct peering *peering;
	struct mu_peering *base;
	struct heard heard;
};

#define UNDER(heard_, expression)                       \
	({                                              \
		pthread_mutex_lock(&(heard_).lock);     \
		__typeof__(expression) v_ = expression; \
		pthread_mutex_unlock(&(heard_).lock);   \
		v_;                                     \
	})

#define WAIT_UNTIL(condition)                                                                   \
	do {                                                                                    \
		uint64_t since_ns_ = clock_ns();                                                \
		while (!(condition)) {                                                          \
			struct timespec pause_ = {0, 1000000};                                  \
			nanosleep(&pause_, NULL);                                               \
			if (clock_ns() - since_ns_ > DEADLINE_NS)                               \
				fail_msg("%s:%d: in vain: %s", __FILE__, __LINE__, #condition); \
		}                                                                               \
	} while (0)

/* The recorder. */
extern const struct mu_peering_events members_events;

/* Addresses from now on are others'. */
void members_new_scene(void);
/* Options of replica id of a group of so many; change them before it starts. */
void member_prepare(struct member *m, unsigned id, unsigned members);
void member_start(struct member *m);
void member_stop(struct member *m);
/* Does it have a channel to this peer? */
bool sees(struct member *m, unsigned peer);
/* Two members of a group of two, joined. */
void pair_start(struct member pair[2]);
void pair_stop(struct member pair[2]);

/* Keep what goes to stderr from here on, for lines_with(); it comes out at the end. */
void listen_to_log(void);
/* How many lines of the log have both words in them. */
unsigned lines_with(const char *one, const char *other);
void end_listening(void); /* in a teardown, too: a test that failed did not come so far */

unsigned open_files(void);

#endif
