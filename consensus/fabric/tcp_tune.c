/* tcp_tune.c - see tcp_tune.h. */
#include "config.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "tcp_tune.h"

/* Of Linux 6.15 and newer; not in all headers. */
#ifndef TCP_RTO_MIN_US
#define TCP_RTO_MIN_US 45
#define TCP_DELACK_MAX_US 46
#endif

/*
 * By default a packet that was lost is sent again after 200 ms at the earliest,
 * if nothing that arrives behind it tells sooner: an age here, ten times what it
 * takes to find out that a leader is dead. It may be so short only if the other
 * end does not put its acknowledgements off for longer.
 */
enum { RTO_MIN_US = 5000, DELACK_MAX_US = 2000 };

static void set(int fd, int option, int value)
{
	/* An older kernel knows none of these, and goes on as it does by default. */
	(void)setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value));
}

void tcp_tune(int fd)
{
	set(fd, TCP_RTO_MIN_US, RTO_MIN_US);
	set(fd, TCP_DELACK_MAX_US, DELACK_MAX_US);
	/* Few packets are under way: no reason to wait twice as long each time one is lost. */
	set(fd, TCP_THIN_LINEAR_TIMEOUTS, 1);
}
