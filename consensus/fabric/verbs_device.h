/* verbs_device.h - which device, port and GID to use, and what it can do. */
#ifndef MU_VERBS_DEVICE_H
#define MU_VERBS_DEVICE_H

#include <infiniband/verbs.h>

#include "memory_files.h"
#include "mu_verbs.h"

/* How a port is reached just now. */
struct verbs_path {
	uint16_t lid;
	uint8_t gid_index;
	enum ibv_mtu mtu;
	union ibv_gid gid;
};

struct verbs_port {
	struct ibv_context *context;
	char device[IBV_SYSFS_NAME_MAX];
	uint8_t number;
	bool is_ethernet; /* RoCE: peers are told by GID alone; else by LID */
	struct verbs_path path;
	uint16_t pkey_index;  /* of the partition that queue pairs are in */
	size_t message_bytes; /* of one work request, at most */
	int completions;      /* of one completion queue, at most */
	int work_requests;    /* of one queue pair, at most */
	uint8_t reads_out;    /* under way on one queue pair, at most */
	uint8_t reads_in;
};

/*
 * Open the device that the options name, or the best there is: an active port;
 * on Ethernet a GID of RoCE v2, an IPv4 address before a global IPv6 one before
 * a link-local one. Returns 0, or -1 with the reason.
 */
int verbs_port_open(struct verbs_port *port, const struct mu_verbs_options *options,
		    const struct memory_error *error);
void verbs_port_close(struct verbs_port *port);

/*
 * A port may get another LID, another address or its old one in another place,
 * or none, at any time: look again before a queue pair is connected by it. What
 * has changed is in port->path, which stays as it was if the port is down or
 * has no GID that the options allow.
 */
enum verbs_port_news { VERBS_PORT_IS_SAME, VERBS_PORT_HAS_CHANGED, VERBS_PORT_IS_DOWN };
enum verbs_port_news verbs_port_look_again(struct verbs_port *port,
					   const struct mu_verbs_options *options);

/* "rxe0 port 1, GID 1 (::ffff:10.77.0.1, RoCE v2), MTU 4096" */
void verbs_port_describe(const struct verbs_port *port, char *text, size_t bytes);

#endif
