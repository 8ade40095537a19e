/* tcp_fixture.h - what the tests of the tcp fabric alone need of its fixture. */
#ifndef MU_CONFORMANCE_TCP_FIXTURE_H
#define MU_CONFORMANCE_TCP_FIXTURE_H

#include "conformance.h"
#include "peering.h"

/*
 * What this thread opens from now on, and threads that it starts, are on the
 * replica's host. Returns where it was, for tcp_leave_host(); NULL: there is one host only.
 */
char *tcp_enter_host(unsigned id);
void tcp_leave_host(char *home);
/* A peering for this replica, not started. NULL: a reason in err. */
struct peering *tcp_join(const void *place, const struct mu_fabric_config *config, char *err,
			 size_t err_bytes);
/* Whether the fabrics' last complaint has these words in it. */
bool tcp_last_line_has(const char *words);
bool tcp_is_writing(void *place, unsigned target, unsigned writer);

#endif
