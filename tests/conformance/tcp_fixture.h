/* tcp_fixture.h - what the tests of the tcp fabric alone need of its fixture. */
#ifndef MU_CONFORMANCE_TCP_FIXTURE_H
#define MU_CONFORMANCE_TCP_FIXTURE_H

#include "conformance.h"
#include "peering.h"

/* A peering for this replica, not started. NULL: a reason in err. */
struct peering *tcp_join(const void *place, const struct mu_fabric_config *config, char *err,
			 size_t err_bytes);
/* Whether the fabrics' last complaint has these words in it. */
bool tcp_last_line_has(const char *words);
bool tcp_is_writing(void *place, unsigned target, unsigned writer);

#endif
