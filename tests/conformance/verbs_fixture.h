/* verbs_fixture.h - what tests of the verbs fabric alone need of its fixture. */
#ifndef MU_CONFORMANCE_VERBS_FIXTURE_H
#define MU_CONFORMANCE_VERBS_FIXTURE_H

#include "conformance.h"
#include "fabric/verbs_message.h"
#include "mu_verbs.h"

#define VERBS_MESSAGE_KINDS 8

/* What the replicas of a group share: where their memory lies, and where they meet. */
struct verbs_place {
	char *directory;
	char address[MU_ID_SLOTS][32];
};

/* Of replicas that are opened; the barrier is the fixture's. */
extern struct mu_verbs_options verbs_fixture_options;

/* The next so many messages of a kind that this process sends do not arrive. */
void verbs_lose_messages(enum verbs_message_kind kind, int count);
/* The device fails the next so many times to destroy a queue pair. */
void verbs_fail_destroying(int count);
/* ... or to modify one in just what this mask names (enum ibv_qp_attr_mask). */
void verbs_fail_modifying(int mask, int count);
/* The next so many times that somebody looks for an event of completions, it has not come yet. */
void verbs_delay_events(int looks);

/* What this process has of everything that could leak. */
struct verbs_holdings {
	unsigned descriptors;
	unsigned domains, queues, pairs, regions; /* of the device, all processes' */
	long resident_kib;
};
struct verbs_holdings verbs_take_stock(void);
/* Waits until there is no more than before. */
void verbs_nothing_leaked(struct group *group, const struct verbs_holdings *before);

extern const struct CMUnitTest verbs_failure_tests[];
extern const struct CMUnitTest verbs_stream_tests[];
extern const struct CMUnitTest verbs_stream_self_check_tests[];

#endif
