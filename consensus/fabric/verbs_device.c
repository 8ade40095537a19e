/* verbs_device.c - see the header; and the list for the operator. */
#include "config.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "verbs_device.h"

/* Above every rank: a GID that is in use already. */
#define RANK_IN_USE 8
/* What of a P_Key names the partition; 0: none. The bit above tells full members. */
#define PKEY_PARTITION 0x7fff

/*
 * The better the higher; 0: cannot be used. Of what is neither InfiniBand nor
 * Ethernet nothing is known: it need not have queue pairs of the kind used here.
 */
static unsigned rank_gid(const struct ibv_gid_entry *gid, uint8_t link_layer)
{
	const struct in6_addr *address = (const void *)gid->gid.raw;

	if (link_layer == IBV_LINK_LAYER_INFINIBAND)
		return gid->gid_type == IBV_GID_TYPE_IB ? 1 : 0;
	if (link_layer != IBV_LINK_LAYER_ETHERNET || gid->gid_type != IBV_GID_TYPE_ROCE_V2)
		return 0;
	if (IN6_IS_ADDR_V4MAPPED(address))
		return 3;
	return IN6_IS_ADDR_LINKLOCAL(address) ? 1 : 2;
}

/* One port of one device, and the best of its GIDs that the options allow. */
struct candidate {
	char device[IBV_SYSFS_NAME_MAX];
	struct ibv_context *context; /* open while it is looked at */
	struct ibv_device_attr limits;
	struct ibv_port_attr port;
	uint8_t number;
	const union ibv_gid *in_use; /* stay with this one while it is there; NULL: none */
	struct ibv_gid_entry gid;
	unsigned rank; /* 0: cannot be used */
};

/* One by one: a table of all ports' has no size that is known before. */
static void choose_gid(struct candidate *candidate, const struct mu_verbs_options *options)
{
	for (int i = 0; i < candidate->port.gid_tbl_len && i <= UINT8_MAX; i++) {
		struct ibv_gid_entry gid;
		unsigned rank;

		if ((options->gid_index >= 0 && options->gid_index != i) ||
		    ibv_query_gid_ex(candidate->context, candidate->number, (uint32_t)i, &gid, 0) !=
			    0)
			continue;
		rank = rank_gid(&gid, candidate->port.link_layer);
		if (rank > 0 && candidate->in_use != NULL &&
		    memcmp(&gid.gid, candidate->in_use, sizeof(gid.gid)) == 0)
			rank += RANK_IN_USE;
		if (rank <= candidate->rank)
			continue;
		candidate->rank = rank;
		candidate->gid = gid;
	}
}

static bool is_wanted(const struct candidate *candidate, const struct mu_verbs_options *options)
{
	if (options->device != NULL && strcmp(options->device, candidate->device) != 0)
		return false;
	return options->port == 0 || options->port == candidate->number;
}

typedef void each_fn(void *ctx, struct candidate *candidate);

static void look_at_ports(struct ibv_device *device, const struct mu_verbs_options *options,
			  each_fn *each, void *ctx)
{
	struct candidate candidate = {.context = ibv_open_device(device)};

	snprintf(candidate.device, sizeof(candidate.device), "%s", ibv_get_device_name(device));
	if (candidate.context == NULL ||
	    ibv_query_device(candidate.context, &candidate.limits) != 0)
		candidate.limits.phys_port_cnt = 0;
	for (unsigned n = 1; n <= candidate.limits.phys_port_cnt && candidate.context; n++) {
		candidate.number = (uint8_t)n;
		candidate.rank = 0;
		if (ibv_query_port(candidate.context, candidate.number, &candidate.port) != 0)
			continue;
		if (device->transport_type == IBV_TRANSPORT_IB && is_wanted(&candidate, options) &&
		    candidate.port.state == IBV_PORT_ACTIVE)
			choose_gid(&candidate, options);
		each(ctx, &candidate);
	}
	if (candidate.context != NULL)
		ibv_close_device(candidate.context);
}

/* Returns how many devices there are, -1 with errno if that cannot be told. */
static int look_at_all(const struct mu_verbs_options *options, each_fn *each, void *ctx)
{
	int count = 0;
	struct ibv_device **list = ibv_get_device_list(&count);

	if (list == NULL)
		return errno == ENOSYS ? 0 : -1; /* no RDMA in this kernel */
	for (int i = 0; i < count; i++)
		look_at_ports(list[i], options, each, ctx);
	ibv_free_device_list(list);
	return count;
}

/* ----------------------------------------------------------------- choosing */

struct choice {
	struct candidate best;
	unsigned wanted; /* ports that the options mean */
	const struct mu_verbs_options *options;
};

static void keep_best(void *ctx, struct candidate *candidate)
{
	struct choice *choice = ctx;

	choice->wanted += is_wanted(candidate, choice->options);
	if (candidate->rank > choice->best.rank)
		choice->best = *candidate;
}

/* Devices are opened again when one is chosen: simple, and it is done once. */
static struct ibv_context *open_by_name(const char *name)
{
	int count = 0;
	struct ibv_device **list = ibv_get_device_list(&count);
	struct ibv_context *context = NULL;

	for (int i = 0; i < count && context == NULL; i++)
		if (strcmp(ibv_get_device_name(list[i]), name) == 0)
			context = ibv_open_device(list[i]);
	if (list != NULL)
		ibv_free_device_list(list);
	return context;
}

static int explain(const struct choice *choice, int devices, const struct memory_error *error)
{
	const struct mu_verbs_options *options = choice->options;

	if (devices <= 0)
		return memory_error_set(error, "there is no RDMA device%s%s",
					devices < 0 ? ": " : "",
					devices < 0 ? strerror(errno) : "");
	if (choice->wanted == 0 && options->port != 0)
		return memory_error_set(error, "there is no RDMA device '%s' with a port %u",
					options->device ? options->device : "(any)", options->port);
	if (choice->wanted == 0)
		return memory_error_set(error, "there is no RDMA device '%s'", options->device);
	if (options->gid_index >= 0)
		return memory_error_set(error,
					"no active RDMA port has a GID %d that is InfiniBand or "
					"RoCE v2",
					options->gid_index);
	return memory_error_set(error, "no RDMA port is active and has a GID that is InfiniBand or "
				       "RoCE v2");
}

static uint8_t at_most_16(int number)
{
	return (uint8_t)(number > 16 ? 16 : number);
}

/* What of a port may change while it is in use. */
static struct verbs_path path_of(const struct candidate *candidate)
{
	return (struct verbs_path){
		.lid = candidate->port.lid,
		.mtu = candidate->port.active_mtu,
		.gid_index = (uint8_t)candidate->gid.gid_index,
		.gid = candidate->gid.gid,
	};
}

/* A place in the port's table may be empty, or name nothing. */
static int choose_partition(struct verbs_port *port, const struct mu_verbs_options *options,
			    int table, const struct memory_error *error)
{
	__be16 pkey = 0;

	if (options->pkey_index >= (unsigned)table ||
	    ibv_query_pkey(port->context, port->number, (int)options->pkey_index, &pkey) != 0 ||
	    (be16toh(pkey) & PKEY_PARTITION) == 0)
		return memory_error_set(
			error, "RDMA device %s port %u has no P_Key %u (its table has %d places)",
			port->device, port->number, options->pkey_index, table);
	port->pkey_index = (uint16_t)options->pkey_index;
	return 0;
}

static int adopt(struct verbs_port *port, const struct candidate *best,
		 const struct memory_error *error)
{
	*port = (struct verbs_port){
		.number = best->number,
		.is_ethernet = best->port.link_layer == IBV_LINK_LAYER_ETHERNET,
		.path = path_of(best),
		.message_bytes = best->port.max_msg_sz,
		.completions = best->limits.max_cqe,
		.work_requests = best->limits.max_qp_wr,
		.reads_out = at_most_16(best->limits.max_qp_init_rd_atom),
		.reads_in = at_most_16(best->limits.max_qp_rd_atom),
	};
	memcpy(port->device, best->device, sizeof(port->device));
	port->context = open_by_name(port->device);
	if (port->context == NULL)
		return memory_error_set(error, "RDMA device %s: %s", port->device, strerror(errno));
	return 0;
}

int verbs_port_open(struct verbs_port *port, const struct mu_verbs_options *options,
		    const struct memory_error *error)
{
	struct choice choice = {.options = options};
	int devices = look_at_all(options, keep_best, &choice);

	if (choice.best.rank == 0)
		return explain(&choice, devices, error);
	if (adopt(port, &choice.best, error) != 0)
		return -1;
	if (choose_partition(port, options, choice.best.port.pkey_tbl_len, error) == 0)
		return 0;
	verbs_port_close(port);
	return -1;
}

enum verbs_port_news verbs_port_look_again(struct verbs_port *port,
					   const struct mu_verbs_options *options)
{
	struct candidate now = {
		.context = port->context, .number = port->number, .in_use = &port->path.gid};
	struct verbs_path path;

	if (ibv_query_port(port->context, port->number, &now.port) == 0 &&
	    now.port.state == IBV_PORT_ACTIVE)
		choose_gid(&now, options);
	if (now.rank == 0)
		return VERBS_PORT_IS_DOWN;
	path = path_of(&now);
	if (path.lid == port->path.lid && path.mtu == port->path.mtu &&
	    path.gid_index == port->path.gid_index &&
	    memcmp(&path.gid, &port->path.gid, sizeof(path.gid)) == 0)
		return VERBS_PORT_IS_SAME;
	port->path = path;
	return VERBS_PORT_HAS_CHANGED;
}

void verbs_port_close(struct verbs_port *port)
{
	ibv_close_device(port->context);
	port->context = NULL;
}

/* ----------------------------------------------------------------- in words */

static void gid_text(const union ibv_gid *gid, char *text, size_t bytes)
{
	if (inet_ntop(AF_INET6, gid->raw, text, (socklen_t)bytes) == NULL)
		snprintf(text, bytes, "?");
}

static unsigned mtu_bytes(enum ibv_mtu mtu)
{
	return 128u << mtu;
}

static const char ethernet[] = "RoCE v2", infiniband[] = "InfiniBand";

static const char *layer_name(uint8_t link_layer)
{
	switch (link_layer) {
	case IBV_LINK_LAYER_ETHERNET:
		return ethernet;
	case IBV_LINK_LAYER_INFINIBAND:
		return infiniband;
	default:
		return "other";
	}
}

void verbs_port_describe(const struct verbs_port *port, char *text, size_t bytes)
{
	char gid[INET6_ADDRSTRLEN];

	gid_text(&port->path.gid, gid, sizeof(gid));
	snprintf(text, bytes, "%s port %u, GID %u (%s, %s), MTU %u", port->device, port->number,
		 port->path.gid_index, gid, port->is_ethernet ? ethernet : infiniband,
		 mtu_bytes(port->path.mtu));
}

bool mu_verbs_is_usable(const struct mu_verbs_options *options, char *err, size_t err_bytes)
{
	const struct memory_error error = {err, err_bytes};
	struct verbs_port port;

	if (verbs_port_open(&port, options, &error) != 0)
		return false;
	verbs_port_close(&port);
	return true;
}

struct listing {
	FILE *out;
	int ports;
	char chosen[IBV_SYSFS_NAME_MAX];
	unsigned chosen_port;
};

static void list_port(void *ctx, struct candidate *candidate)
{
	struct listing *listing = ctx;
	const struct ibv_port_attr *port = &candidate->port;
	bool is_chosen = strcmp(candidate->device, listing->chosen) == 0 &&
			 candidate->number == listing->chosen_port;
	char gid[INET6_ADDRSTRLEN] = "-";

	if (candidate->rank > 0)
		gid_text(&candidate->gid.gid, gid, sizeof(gid));
	if (listing->ports++ == 0)
		fprintf(listing->out, "  %-16s %-4s %-12s %-10s %-5s %-10s %-3s %s\n", "DEVICE",
			"PORT", "STATE", "LINK", "MTU", "MESSAGE", "GID", "ADDRESS");
	fprintf(listing->out, "%c %-16s %-4u %-12s %-10s %-5u %-10u ", is_chosen ? '*' : ' ',
		candidate->device, candidate->number, ibv_port_state_str(port->state),
		layer_name(port->link_layer), mtu_bytes(port->active_mtu), port->max_msg_sz);
	if (candidate->rank > 0)
		fprintf(listing->out, "%-3u %s\n", candidate->gid.gid_index, gid);
	else
		fprintf(listing->out, "-   not usable\n");
}

int mu_verbs_list(FILE *out, const struct mu_verbs_options *options)
{
	struct listing listing = {.out = out};
	const struct memory_error unheard = {NULL, 0};
	struct verbs_port port;

	if (verbs_port_open(&port, options, &unheard) == 0) {
		memcpy(listing.chosen, port.device, sizeof(listing.chosen));
		listing.chosen_port = port.number;
		verbs_port_close(&port);
	}
	look_at_all(options, list_port, &listing);
	return listing.ports;
}
