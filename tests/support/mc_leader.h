/*
 * mc_leader.h - what a leader makes of Memcached requests, side by side with a
 * real memcached. Two servers: `plain` gets what clients send; `ours` gets only
 * what a leader's backend would get: plain records and reads. A client must not
 * be able to tell one from the other.
 */
#ifndef TEST_MC_LEADER_H
#define TEST_MC_LEADER_H

#include "client.h"
#include "mc_encode.h"
#include "mc_text.h"
#include "servers.h"

#define TEST_MC_TERM 0 /* tokens of term 0 are the backend's own: easier to compare */

extern struct test_client test_mc_plain, test_mc_ours;
extern struct mc_parser *test_mc_parser;
extern struct mc_deadlines *test_mc_deadlines;
extern struct mc_limits test_mc_limits;

/* For cmocka's groups. */
int test_mc_start(void **state);
int test_mc_stop(void **state);
/* A connection of ours begins anew: it may speak the other protocol. */
void test_mc_reconnect(void);
/* The answers must be the same, but for " muproxy/..." behind versions. */
void test_mc_compare(struct mp_slice for_plain, struct mp_slice for_ours);

#endif
