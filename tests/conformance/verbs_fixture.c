/* verbs_fixture.c - the verbs fabric in the suite, and what can be made to fail under it. */
#include "config.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peering.h"
#include "place.h"
#include "verbs_fixture.h"

static enum mu_verbs_barrier barrier = MU_VERBS_BARRIER_QUEUE_PAIR;

/* A port that was free a moment ago. */
static int free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void *verbs_group_new(void)
{
	struct verbs_place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	place->directory = place_new();
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		snprintf(place->address[id], sizeof(place->address[id]), "127.0.0.1:%d",
			 free_port());
	return place;
}

static void verbs_group_free(void *arg)
{
	struct verbs_place *place = arg;

	place_free(place->directory);
	free(place);
}

/* ------------------------------------------- a fabric and the peering under it */

/* Closing the one closes the other; the tests know of the fabric alone. */
static struct joined {
	struct mu_fabric *fabric;
	struct peering *peering;
	struct mu_peering filter; /* what the fabric takes for the peering */
	struct mu_fabric_ops ops; /* the fabric's, but for close */
	const struct mu_fabric_ops *real;
} joined[16];

static struct joined *joined_of(const struct mu_fabric *fabric)
{
	for (size_t i = 0; i < sizeof(joined) / sizeof(joined[0]); i++)
		if (joined[i].fabric == fabric && (fabric != NULL || joined[i].peering == NULL))
			return &joined[i];
	fail_msg("too many fabrics, or one too few");
	return NULL;
}

static void close_both(struct mu_fabric *fabric)
{
	struct joined *both = joined_of(fabric);

	both->real->close(fabric);
	peering_close(both->peering);
	both->fabric = NULL;
	both->peering = NULL;
}

/* Messages of each kind that are still to be lost. */
static _Atomic int to_lose[VERBS_MESSAGE_KINDS];

void verbs_lose_messages(enum verbs_message_kind kind, int count)
{
	atomic_store(&to_lose[kind], count);
}

static struct mu_peering *real_of(struct mu_peering *filter)
{
	char *base = (char *)filter - offsetof(struct joined, filter);

	return peering_base(((struct joined *)(void *)base)->peering);
}

static void filter_attach(struct mu_peering *filter, const struct mu_peering_events *events,
			  void *fabric)
{
	real_of(filter)->ops->attach(real_of(filter), events, fabric);
}

static int filter_send(struct mu_peering *filter, unsigned peer, const void *bytes, size_t len)
{
	const struct verbs_message *message = bytes;

	if (atomic_load(&to_lose[message->kind]) > 0) {
		atomic_fetch_sub(&to_lose[message->kind], 1);
		return 0;
	}
	return real_of(filter)->ops->send(real_of(filter), peer, bytes, len);
}

static const struct mu_peering_ops filter_ops = {.attach = filter_attach, .send = filter_send};

/* ------------------------------------------------- what the device can be made to refuse */

static _Atomic int destroy_failures, modify_failures, modify_mask, late_events;

void verbs_fail_destroying(int count)
{
	atomic_store(&destroy_failures, count);
}

void verbs_fail_modifying(int mask, int count)
{
	atomic_store(&modify_mask, mask);
	atomic_store(&modify_failures, count);
}

void verbs_delay_events(int looks)
{
	atomic_store(&late_events, looks);
}

static bool is_to_fail(_Atomic int *failures)
{
	return atomic_load(failures) > 0 && atomic_fetch_sub(failures, 1) > 0;
}

/* In the place of libibverbs', for the library under test as well. */
int ibv_destroy_qp(struct ibv_qp *qp)
{
	static int (*real)(struct ibv_qp *);

	if (real == NULL)
		real = (int (*)(struct ibv_qp *))dlsym(RTLD_NEXT, "ibv_destroy_qp");
	return is_to_fail(&destroy_failures) ? EIO : real(qp);
}

int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	static int (*real)(struct ibv_qp *, struct ibv_qp_attr *, int);

	if (real == NULL)
		real = (int (*)(struct ibv_qp *, struct ibv_qp_attr *, int))dlsym(RTLD_NEXT,
										  "ibv_modify_qp");
	if (mask == atomic_load(&modify_mask) && is_to_fail(&modify_failures))
		return EIO;
	return real(qp, attr, mask);
}

int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **ctx)
{
	static int (*real)(struct ibv_comp_channel *, struct ibv_cq **, void **);

	if (real == NULL)
		real = (int (*)(struct ibv_comp_channel *, struct ibv_cq **, void **))dlsym(
			RTLD_NEXT, "ibv_get_cq_event");
	if (is_to_fail(&late_events)) {
		errno = EAGAIN;
		return -1;
	}
	return real(channel, cq, ctx);
}

/* ---------------------------------------------------------------- the fixture */

/* With what else can be said to a device: that it does not mind (DSCP 26). */
struct mu_verbs_options verbs_fixture_options = {
	.gid_index = -1, .transport_retries = -1, .service_level = 3, .traffic_class = 104};

static void say(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "# %s\n", line);
}

static int verbs_open_replica(void *arg, const struct mu_fabric_config *config,
			      struct mu_fabric **out, char *err, size_t err_bytes)
{
	const struct verbs_place *place = arg;
	struct mu_verbs_options options = verbs_fixture_options;
	struct joined *both = joined_of(NULL);
	struct peering_options meeting;
	struct peering *peering;

	options.barrier = barrier;
	options.say = say;
	peering_options_init(&meeting);
	meeting.id = config->id;
	meeting.group_id = config->group_id;
	meeting.configuration = mu_configuration(0, 0, FOUNDERS);
	meeting.admits = config->member_mask != FOUNDERS;
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (id == config->id || (FOUNDERS & (1U << id)))
			meeting.address[id] = place->address[id];
	peering = peering_open(&meeting, err, err_bytes);
	if (peering == NULL) {
		/* The id runs already, which its memory is to find out, not its port. */
		meeting.listen = "127.0.0.1:0";
		peering = peering_open(&meeting, err, err_bytes);
	}
	if (peering == NULL)
		return -1;
	*both = (struct joined){.peering = peering, .filter.ops = &filter_ops};
	if (mu_fabric_verbs_open(out, config, &options, place->directory, &both->filter, err,
				 err_bytes) != 0) {
		peering_close(peering);
		both->peering = NULL;
		return -1;
	}
	both->fabric = *out;
	both->real = (*out)->ops;
	both->ops = *both->real;
	both->ops.close = close_both;
	(*out)->ops = &both->ops;
	assert_int_equal(peering_start(peering), 0);
	return 0;
}

static void verbs_lose_memory(void *arg, unsigned id)
{
	place_lose(((struct verbs_place *)arg)->directory, id);
}

static bool verbs_is_available(char *why, size_t bytes)
{
	return mu_verbs_is_usable(&verbs_fixture_options, why, bytes);
}

#ifdef MU_FAULTS
/* Flags alone: the one way in which this fabric can be told not to be strict. */
static void verbs_break_revocation(enum conformance_fault fault)
{
	barrier = fault == FAULT_NONE ? MU_VERBS_BARRIER_QUEUE_PAIR : MU_VERBS_BARRIER_NONE;
}
#endif

/* A write is the device's affair: no process can be stopped in the middle of one. */
#define IN_ITS_STREAM(what) "verbs_f4_f5_a_writer_" what "_in_its_stream takes its place"
static const char *const left_out[] = {"f4_a_writer_stopped_in_a_write",
				       IN_ITS_STREAM("stopped"),
				       "f5_a_stopped_writers_finished_writes_stay",
				       IN_ITS_STREAM("stopped"),
				       "f4_a_writer_killed_in_a_write",
				       IN_ITS_STREAM("killed"),
				       NULL};

const struct conformance_fabric verbs_fixture = {
	.name = "verbs",
	.group_new = verbs_group_new,
	.group_free = verbs_group_free,
	.open = verbs_open_replica,
	.lose_memory = verbs_lose_memory,
	.is_available = verbs_is_available,
	.concurrent = true,
	.left_out = left_out,
	.slowness = 20, /* where it is emulated */
	.has_stream_tests = true,
#ifdef MU_FAULTS
	.break_revocation = verbs_break_revocation,
#endif
};
