/* verbs.c - the verbs fabric: opening and closing; the parts are named in verbs.h. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "verbs.h"

/* Times that a device sends again, unless configured: a lost packet or two do no harm. */
#define RETRIES 3
/* 7 means for ever to some devices. */
#define RETRIES_MAX 6
#define TRANSPORT_UNIT_NS 4096u
#define TRANSPORT_TIMEOUT_MAX 31u

uint64_t verbs_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void verbs_say(const struct verbs_fabric *verbs, const char *format, ...)
{
	char line[256] = "verbs: ";
	size_t begun = strlen(line);
	va_list args;

	if (verbs->options.say == NULL)
		return;
	va_start(args, format);
	vsnprintf(line + begun, sizeof(line) - begun, format, args);
	va_end(args);
	verbs->options.say(verbs->options.say_ctx, line);
}

void mu_verbs_options_init(struct mu_verbs_options *options)
{
	*options = (struct mu_verbs_options){.gid_index = -1, .transport_retries = -1};
}

static int check_options(const struct mu_verbs_options *options, const struct memory_error *error)
{
	if (options->service_level > 15)
		return memory_error_set(error, "service level %u is not in 0..15",
					options->service_level);
	if (options->traffic_class > UINT8_MAX)
		return memory_error_set(error, "traffic class %u is not in 0..255",
					options->traffic_class);
	if (options->gid_index > UINT8_MAX)
		return memory_error_set(error, "GID index %d is not in 0..255", options->gid_index);
	if (options->transport_timeout > TRANSPORT_TIMEOUT_MAX)
		return memory_error_set(error, "transport timeout %u is not in 1..31",
					options->transport_timeout);
	if (options->transport_retries > RETRIES_MAX)
		return memory_error_set(error, "%d transport retries are not in 0..6",
					options->transport_retries);
	return 0;
}

/* The longest time between retries with which a silent peer is given up in op_timeout. */
static struct verbs_transport choose_transport(const struct mu_verbs_options *options,
					       uint64_t op_timeout_ns)
{
	unsigned retries =
		options->transport_retries < 0 ? RETRIES : (unsigned)options->transport_retries;
	unsigned timeout = options->transport_timeout;

	if (timeout == 0)
		for (timeout = 1; timeout < TRANSPORT_TIMEOUT_MAX &&
				  ((uint64_t)TRANSPORT_UNIT_NS << (timeout + 1)) * (retries + 1) <
					  op_timeout_ns;)
			timeout++;
	return (struct verbs_transport){.timeout = (uint8_t)timeout,
					.retries = (uint8_t)retries,
					.service_level = (uint8_t)options->service_level,
					.traffic_class = (uint8_t)options->traffic_class};
}

static int open_planes(struct verbs_fabric *verbs, const struct memory_error *error)
{
	int share = verbs->port.completions / MU_ID_SLOTS;

	verbs->work_requests = VERBS_WORK_REQUESTS;
	if (verbs->work_requests > (unsigned)verbs->port.work_requests)
		verbs->work_requests = (unsigned)verbs->port.work_requests;
	if (verbs->work_requests > (unsigned)share)
		verbs->work_requests = (unsigned)share;
	/* Looked at by a thread that has other things to do. */
	fcntl(verbs->port.context->async_fd, F_SETFL,
	      fcntl(verbs->port.context->async_fd, F_GETFL) | O_NONBLOCK);
	verbs->unused = ibv_create_cq(verbs->port.context, 1, NULL, NULL, 0);
	if (verbs->unused == NULL)
		return memory_error_set(error, "RDMA device %s: %s", verbs->port.device,
					verbs_reason(errno));
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		if (verbs_plane_open(verbs, (enum mu_plane)plane, error) != 0)
			return -1;
	return 0;
}

/*
 * What the device does not destroy here the kernel does when the device is
 * closed; only then is the memory given up, and the lock of the id with it.
 */
static void close_planes(struct verbs_fabric *verbs)
{
	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
		verbs_in_drop(verbs, peer);
	for (unsigned plane = 0; plane < MU_PLANES; plane++) {
		for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++)
			if (verbs->plane[plane].out[peer].qp != NULL)
				verbs_disconnect(&verbs->base, (enum mu_plane)plane, peer);
		verbs_plane_close(&verbs->plane[plane]);
	}
	if (verbs->unused != NULL)
		ibv_destroy_cq(verbs->unused);
}

/* Memory comes first: a replica that runs already is told of before anything else. */
static int open_all(struct verbs_fabric *verbs, const char *directory, char *err, size_t err_bytes)
{
	const struct memory_error error = {err, err_bytes};

	if (getrandom(&verbs->process, sizeof(verbs->process), 0) != sizeof(verbs->process) ||
	    verbs->process == 0)
		return memory_error_set(&error, "no random number");
	if (own_memory_open(&verbs->memory, &verbs->config, directory, err, err_bytes) != 0)
		return -1;
	if (verbs_port_open(&verbs->port, &verbs->options, &error) != 0)
		goto close_memory;
	verbs_port_describe(&verbs->port, verbs->description, sizeof(verbs->description));
	if (open_planes(verbs, &error) != 0 || verbs_maker_start(verbs, &error) != 0)
		goto close_port;
	return 0;
close_port:
	close_planes(verbs);
	verbs_port_close(&verbs->port);
close_memory:
	own_memory_close(&verbs->memory);
	return -1;
}

void verbs_forget(struct mu_fabric *fabric, unsigned peer)
{
	struct verbs_fabric *verbs = verbs_of(fabric);

	verbs_in_drop(verbs, peer);
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		verbs_out_lose(verbs, (enum mu_plane)plane, peer);
}

static void *verbs_local(struct mu_fabric *fabric, enum mu_region region)
{
	return verbs_of(fabric)->memory.region[region];
}

static void verbs_close(struct mu_fabric *fabric)
{
	struct verbs_fabric *verbs = verbs_of(fabric);

	verbs_maker_stop(verbs);
	close_planes(verbs);
	verbs_port_close(&verbs->port);
	own_memory_close(&verbs->memory);
	pthread_mutex_destroy(&verbs->serving);
	free(verbs);
}

static const struct mu_fabric_ops verbs_ops = {
	.name = "verbs",
	.connect = verbs_connect,
	.state = verbs_state,
	.disconnect = verbs_disconnect,
	.post_write = verbs_post_write,
	.post_read = verbs_post_read,
	.poll = verbs_poll,
	.wait_fd = verbs_wait_fd,
	.revoke_write = verbs_revoke_write,
	.grant_write = verbs_grant_write,
	.forget = verbs_forget,
	.local = verbs_local,
	.close = verbs_close,
};

int mu_fabric_verbs_open(struct mu_fabric **out, const struct mu_fabric_config *config,
			 const struct mu_verbs_options *options, const char *directory,
			 struct mu_peering *peering, char *err, size_t err_bytes)
{
	const struct memory_error error = {err, err_bytes};
	struct verbs_fabric *verbs;

	if (check_options(options, &error) != 0)
		return -1;
	/*
	 * A process that forks must not lose pages that a device writes to; before
	 * Linux 5.12 that takes some care, of which huge pages are to have their part.
	 */
	setenv("RDMAV_HUGEPAGES_SAFE", "1", 0);
	ibv_fork_init();
	verbs = calloc(1, sizeof(*verbs));
	if (verbs == NULL)
		return memory_error_set(&error, "out of memory");
	verbs->base.ops = &verbs_ops;
	verbs->config = *config;
	verbs->options = *options;
	verbs->transport = choose_transport(options, config->op_timeout_ns);
	verbs->peering = peering;
	pthread_mutex_init(&verbs->serving, NULL);
	if (open_all(verbs, directory, err, err_bytes) != 0) {
		pthread_mutex_destroy(&verbs->serving);
		free(verbs);
		return -1;
	}
	*out = &verbs->base;
	return 0;
}

const char *mu_verbs_describe(const struct mu_fabric *fabric)
{
	return ((const struct verbs_fabric *)(const void *)fabric)->description;
}

struct mu_verbs_revocation mu_verbs_last_revocation(const struct mu_fabric *fabric)
{
	return ((const struct verbs_fabric *)(const void *)fabric)->last_revocation;
}
