/* replica.c - see replica.h. */
#include "replica.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"

#define TICK_NS 2000000
#define PAYLOAD_BYTES 200
#define LOOK_NS 200000 /* a stopped or idle thread looks again after so long */

void complain(const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "planes: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
	exit(1);
}

static void rest(uint64_t ns)
{
	struct timespec time = clock_timespec(ns);

	nanosleep(&time, NULL);
}

/* False once all is to end. */
static bool may_go_on(const struct replica *replica, enum mu_plane plane)
{
	while (atomic_load(&replica->stopped[plane]) && !atomic_load(&replica->group->quit))
		rest(LOOK_NS);
	return !atomic_load(&replica->group->quit);
}

/* ---------------------------------------------------------------- the application */

static uint64_t hash_of(const struct mu_entry *entry)
{
	const uint8_t *bytes = entry->payload;
	uint64_t hash = entry->lsn * 31 + entry->ballot;

	for (size_t i = 0; i < entry->payload_bytes; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/* All are handed the same, in the same order. */
static void check_agreement(struct replica *replica, const struct mu_entry *entry)
{
	struct sequence *sequence = &replica->group->sequence;
	uint64_t index = replica->handed++, hash = hash_of(entry), agreed;

	if (index == ENTRIES_MAX)
		complain("more entries than this test is made for");
	pthread_mutex_lock(&sequence->lock);
	if (index == sequence->count)
		sequence->hash[sequence->count++] = hash;
	agreed = sequence->hash[index];
	pthread_mutex_unlock(&sequence->lock);
	if (agreed != hash)
		complain("replica %u disagrees about entry %llu, lsn %llu", replica->id,
			 (unsigned long long)index, (unsigned long long)entry->lsn);
}

static void apply(struct replica *replica)
{
	struct mu_entry entry;

	replica->placed = replica->placed || mu_seek(replica->mu, 0, 0) == MU_OK;
	while (mu_next(replica->mu, &entry)) {
		check_agreement(replica, &entry);
		mu_applied(replica->mu, entry.lsn);
	}
	if (mu_stale(replica->mu))
		complain("replica %u is out of service: its log was cut", replica->id);
	atomic_store(&replica->applied, replica->handed);
}

/* One proposal at a time; what a leader was doing when it lost its office is forgotten. */
static void propose(struct replica *replica, const struct mu_view *view)
{
	uint8_t payload[PAYLOAD_BYTES];
	struct iovec iov = {payload, sizeof(payload)};
	enum mu_error error;

	if (replica->proposed_lsn != 0 && replica->proposed_ballot == view->ballot) {
		if (view->commit_lsn < replica->proposed_lsn)
			return;
		atomic_fetch_add(&replica->group->committed, 1);
	}
	replica->proposed_lsn = 0;
	if (view->role != MU_ROLE_LEADER || !atomic_load(&replica->group->loaded))
		return;
	memset(payload, (int)(view->end_lsn >> 6), sizeof(payload));
	error = mu_propose(replica->mu, &iov, 1, mu_timestamp(replica->mu, view->end_lsn),
			   &replica->proposed_lsn);
	if (error != MU_OK && error != MU_ERR_FULL)
		complain("replica %u: mu_propose(): %s", replica->id, mu_strerror(error));
	if (error != MU_OK)
		replica->proposed_lsn = 0;
	replica->proposed_ballot = view->ballot;
}

/* -------------------------------------------------------------------- the threads */

static void wait_to_be_woken(struct replica *replica, uint64_t until_ns)
{
	struct pollfd wake = {.fd = replica->wake_fd, .events = POLLIN};
	uint64_t count, now_ns = clock_ns();

	if (until_ns <= now_ns)
		return;
	/* At the latest when the test may want something, of which nobody else tells. */
	poll(&wake, 1, 1);
	if ((wake.revents & POLLIN) && read(replica->wake_fd, &count, sizeof(count)) < 0)
		complain("eventfd: it cannot be read");
}

static void *run_data(void *arg)
{
	struct replica *replica = arg;
	struct mu_view view;
	uint64_t wanted_ns;

	while (may_go_on(replica, MU_PLANE_DATA)) {
		if (atomic_exchange(&replica->resign, false))
			mu_resign(replica->mu);
		wanted_ns = mu_step(replica->mu, clock_ns());
		mu_view(replica->mu, &view);
		atomic_store(&replica->ballot, view.ballot);
		apply(replica);
		propose(replica, &view);
		wait_to_be_woken(replica, wanted_ns);
	}
	return NULL;
}

static void *run_background(void *arg)
{
	struct replica *replica = arg;
	uint64_t wanted_ns, now_ns, one = 1;

	while (may_go_on(replica, MU_PLANE_BACKGROUND)) {
		wanted_ns = mu_background_step(replica->mu, clock_ns());
		if (mu_data_wanted(replica->mu) &&
		    write(replica->wake_fd, &one, sizeof(one)) != sizeof(one))
			complain("eventfd: it cannot be written");
		now_ns = clock_ns();
		if (wanted_ns > now_ns)
			rest(wanted_ns - now_ns);
	}
	return NULL;
}

/* --------------------------------------------------------------------- open, close */

static void format(void *ctx, void *regions[MU_REGIONS])
{
	const struct mu_config *config = ctx;

	mu_format(config, clock_ns() << 3 | config->id, regions);
}

void replica_open(struct replica *replica, struct group *group, unsigned id)
{
	struct mu_fabric_config fabric = {
		.group_id = 7, .id = id, .member_mask = 0xe, .op_timeout_ns = 100000000};
	struct mu_config config;
	enum mu_error error;
	char err[256];

	*replica = (struct replica){.group = group, .id = id};
	mu_config_init(&config);
	config.id = id;
	config.group_id = fabric.group_id;
	config.member_mask = fabric.member_mask;
	config.ring_bytes = 1 << 20;
	config.max_entry_bytes = 4096;
	config.max_proposal_bytes = 8192;
	config.tick_ns = TICK_NS;
	for (unsigned region = 0; region < MU_REGIONS; region++)
		fabric.region_bytes[region] = mu_region_bytes(&config, (enum mu_region)region);
	fabric.format = format;
	fabric.format_ctx = &config;
	if (mu_fabric_shm_open(&replica->fabric, &fabric, group->directory, err, sizeof(err)) != 0)
		complain("%s", err);
	error = mu_open(&replica->mu, &config, replica->fabric);
	if (error != MU_OK)
		complain("mu_open(): %s", mu_strerror(error));
	replica->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (replica->wake_fd < 0)
		complain("no eventfd");
	mu_set_backend(replica->mu, MU_BACKEND_LEVEL);
	apply(replica);
}

void replica_start(struct replica *replica)
{
	if (pthread_create(&replica->thread[MU_PLANE_DATA], NULL, run_data, replica) != 0 ||
	    pthread_create(&replica->thread[MU_PLANE_BACKGROUND], NULL, run_background, replica) !=
		    0)
		complain("no thread");
}

void replica_join(struct replica *replica)
{
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		pthread_join(replica->thread[plane], NULL);
}

void replica_close(struct replica *replica)
{
	mu_close(replica->mu);
	replica->fabric->ops->close(replica->fabric);
	close(replica->wake_fd);
}
