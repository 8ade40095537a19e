/* bench_replica.c - see the header. */
#include "config.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>

#include "bench_replica.h"
#include "clock.h"

/* A background step that wants to be called again at once gets a breath in between. */
#define BREATH_NS 20000u
/* So that it can be mapped by itself, also where pages are huge. */
#define EXTRA_ALIGN (2u << 20)

void bench_rest(uint64_t ns)
{
	struct timespec pause = clock_timespec(ns);

	nanosleep(&pause, NULL);
}

static uint64_t random_u64(void)
{
	uint64_t number = 0;

	while (number == 0)
		if (getrandom(&number, sizeof(number), 0) < 0)
			number = clock_ns();
	return number;
}

static void format(void *ctx, void *regions[MU_REGIONS])
{
	mu_format(ctx, random_u64(), regions);
}

static void configure(struct mu_config *config, const struct bench_options *options, unsigned id)
{
	*config = options->mu;
	config->id = id;
	config->group_id = 1;
	config->member_mask = ((1u << options->replicas) - 1) << 1;
	config->ring_bytes = options->ring_bytes;
	config->max_proposal_bytes = options->ring_bytes / 8;
	if (config->max_entry_bytes > options->ring_bytes / 16)
		config->max_entry_bytes = (uint32_t)(options->ring_bytes / 16);
	config->random_seed = random_u64();
}

static size_t extra_aligned(size_t bytes)
{
	return (bytes + EXTRA_ALIGN - 1) & ~(size_t)(EXTRA_ALIGN - 1);
}

uint64_t bench_extra_offset(const struct bench_options *options)
{
	struct mu_config config;

	configure(&config, options, 1);
	return extra_aligned(mu_region_bytes(&config, MU_REGION_REPLICATION));
}

size_t bench_extra_bytes(const struct bench_options *options)
{
	return extra_aligned(options->ring_bytes);
}

bool bench_replica_open(struct bench_replica *replica, const struct bench_run *run, unsigned id,
			size_t extra_bytes)
{
	struct mu_fabric_config fabric = {.format = format, .format_ctx = &replica->config};
	char err[256] = "";
	enum mu_error error;

	*replica = (struct bench_replica){.run = run, .wake_fd = -1};
	configure(&replica->config, run->options, id);
	fabric.group_id = replica->config.group_id;
	fabric.id = id;
	fabric.member_mask = replica->config.member_mask;
	fabric.op_timeout_ns = 10 * replica->config.tick_ns;
	for (int i = 0; i < MU_REGIONS; i++)
		fabric.region_bytes[i] = mu_region_bytes(&replica->config, (enum mu_region)i);
	if (extra_bytes > 0)
		fabric.region_bytes[MU_REGION_REPLICATION] =
			bench_extra_offset(run->options) + extra_bytes;
	if (run->options->fabric->open(&replica->fabric, &fabric, run->directory, err,
				       sizeof(err)) != 0) {
		fprintf(stderr, "mubench: replica %u: %s\n", id, err);
		return false;
	}
	error = mu_open(&replica->mu, &replica->config, replica->fabric);
	if (error == MU_OK)
		return true;
	fprintf(stderr, "mubench: replica %u: %s\n", id, mu_strerror(error));
	replica->fabric->ops->close(replica->fabric);
	return false;
}

/* As in muproxy: heartbeats are to be on time however busy the machine is, if allowed. */
static void ask_to_be_on_time(void)
{
	const struct sched_param param = {.sched_priority = 1};

	prctl(PR_SET_TIMERSLACK, 1);
	pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
}

static void *run_background(void *arg)
{
	struct bench_replica *replica = arg;

	ask_to_be_on_time();
	while (!bench_run_is_over(replica->run)) {
		uint64_t now_ns = clock_ns();
		uint64_t next_ns = mu_background_step(replica->mu, now_ns);
		struct timespec until;

		if (mu_data_wanted(replica->mu) && replica->wake_fd >= 0)
			eventfd_write(replica->wake_fd, 1);
		if (replica->watch != NULL)
			replica->watch(replica, now_ns);
		until = clock_timespec(next_ns < now_ns + BREATH_NS ? now_ns + BREATH_NS : next_ns);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	}
	return NULL;
}

bool bench_replica_start(struct bench_replica *replica)
{
	if (pthread_create(&replica->background, NULL, run_background, replica) == 0)
		return true;
	fprintf(stderr, "mubench: replica %u: no thread\n", replica->config.id);
	return false;
}

void bench_replica_stop(struct bench_replica *replica)
{
	pthread_join(replica->background, NULL);
}

void bench_replica_close(struct bench_replica *replica)
{
	mu_close(replica->mu);
	replica->fabric->ops->close(replica->fabric);
}
