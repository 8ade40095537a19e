/* bench_member.c - see the header. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench_member.h"
#include "bench_replica.h"
#include "clock.h"

#define SLEEP_MAX_NS 100000000u
#define PAYLOAD_BYTES 64

struct payload {
	uint64_t ballot, sequence;
	uint8_t filler[PAYLOAD_BYTES - 2 * sizeof(uint64_t)];
};

struct member {
	struct bench_replica replica;
	struct bench_board *board;
	struct bench_seat *seat;

	int fabric_fd; /* wakes the data thread; -1: the fabric has nothing to wait for */
	/* Data thread: the term led, ballot 0: none. */
	uint64_t ballot;
	struct bench_term *term;
	uint64_t proposed; /* sequence of the last proposal */
	bool under_way;    /* it is not committed yet... */
	uint64_t lsn;      /* ...and is named by this */
	uint64_t due_ns;   /* when to propose again */

	/* Background thread. */
	uint64_t alive, best; /* masks: alive, and has had the best score since it is */
	enum mu_role role;
	uint64_t step_ns; /* of its last step */
};

/* --------------------------------------------------- background thread */

static void watch_peer(struct member *member, const struct mu_group_status *status, unsigned id,
		       uint64_t now_ns)
{
	const struct mu_replica_status *peer = &status->replica[id];
	struct bench_seat *seat = member->seat;
	uint64_t bit = 1ull << id;

	if (peer->score == member->replica.config.score_max)
		member->best |= bit;
	if (member->best & bit)
		atomic_fetch_add_explicit(&seat->at_score[peer->score], 1, memory_order_relaxed);
	if (peer->alive) {
		member->alive |= bit;
	} else if (member->alive & bit) {
		member->alive &= ~bit;
		member->best &= ~bit;
		atomic_store(&seat->failed_ns[id], now_ns);
		atomic_fetch_add(&seat->alarms, 1);
	}
}

static void watch_revocations(struct member *member)
{
	const struct bench_fabric *fabric = member->replica.run->options->fabric;
	struct bench_revocation last;

	if (fabric->revocation == NULL)
		return;
	last = fabric->revocation(member->replica.fabric);
	atomic_store(&member->seat->revoke_ns, last.revoke_ns);
	atomic_store(&member->seat->barrier_ns, last.barrier_ns);
	atomic_store(&member->seat->revocations, last.count);
}

static void watch(struct bench_replica *replica, uint64_t now_ns)
{
	struct member *member = (struct member *)replica; /* its first field */
	struct bench_seat *seat = member->seat;
	struct mu_group_status status;
	uint64_t confirmed = 0;
	bool settled = true;
	enum mu_role role;

	mu_group_status(replica->mu, &status);
	for (unsigned id = 1; id <= replica->run->options->replicas; id++) {
		confirmed |= status.replica[id].confirmed ? 1ull << id : 0;
		settled = settled && status.replica[id].score == replica->config.score_max;
		if (id != replica->config.id)
			watch_peer(member, &status, id, now_ns);
	}
	if (member->step_ns != 0 && now_ns - member->step_ns > atomic_load(&seat->late_ns))
		atomic_store(&seat->late_ns, now_ns - member->step_ns);
	member->step_ns = now_ns;
	watch_revocations(member);
	role = status.replica[replica->config.id].role;
	if (role != member->role && role == MU_ROLE_CANDIDATE)
		atomic_store(&seat->granted_ns, now_ns);
	member->role = role;
	atomic_store(&seat->role, role);
	atomic_store(&seat->leader, status.leader);
	atomic_store(&seat->alive, member->alive);
	atomic_store(&seat->settled, settled);
	atomic_store(&seat->confirmed, confirmed);
	atomic_store(&seat->answer, atomic_load(&seat->question));
}

/* ------------------------------------------------------------ applying */

/* FNV-1a, a word at a time: what is compared are whole histories. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint64_t word;

	for (; len >= sizeof(word); at += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash = (hash ^ word) * 0x100000001b3;
		hash ^= hash >> 32;
	}
	return hash;
}

/* The journal is the durable state of this application: its last entry names the position. */
static void write_journal(struct member *member, const struct mu_entry *entry)
{
	struct bench_seat *seat = member->seat;
	uint64_t number = atomic_load(&seat->applied);
	const struct payload *payload = entry->payload;
	uint64_t hash = number ? bench_journal_at(seat, number - 1)->hash : 0;

	hash = mix(hash, &entry->lsn, sizeof(entry->lsn));
	hash = mix(hash, payload, entry->payload_bytes);
	*bench_journal_at(seat, number) = (struct bench_applied){
		.lsn = entry->lsn,
		.ballot = payload->ballot,
		.sequence = payload->sequence,
		.hash = hash,
	};
	atomic_store(&seat->applied, number + 1);
}

/* Find the position again, as muproxy does with its backend's. */
static void place(struct member *member)
{
	struct bench_replica *replica = &member->replica;
	uint64_t applied = atomic_load(&member->seat->applied);
	uint64_t lsn = applied ? bench_journal_at(member->seat, applied - 1)->lsn : 0;
	struct mu_view view;
	enum mu_error error;

	/* Logs survive here, so that there is one era. */
	mu_view(replica->mu, &view);
	error = mu_seek(replica->mu, applied ? view.era : 0, lsn);
	replica->placed = error == MU_OK;
	if (error == MU_OK)
		mu_set_backend(replica->mu, MU_BACKEND_LEVEL);
	else if (error == MU_ERR_STALE)
		mu_set_backend(replica->mu, MU_BACKEND_STALE);
}

static void apply(struct member *member)
{
	struct mu *mu = member->replica.mu;
	struct mu_entry entry;

	if (!member->replica.placed)
		place(member);
	while (mu_next(mu, &entry)) {
		if (entry.kind == MU_ENTRY_APPLICATION)
			write_journal(member, &entry);
		mu_applied(mu, entry.lsn);
	}
}

/* ------------------------------------------------------------- leading */

static void begin_term(struct member *member, uint64_t ballot, uint64_t now_ns)
{
	uint64_t number = atomic_load(&member->seat->terms);

	member->ballot = ballot;
	member->proposed = 0;
	member->under_way = false;
	member->due_ns = now_ns;
	if (ballot == 0)
		return;
	member->term = &member->seat->term[number % BENCH_TERMS];
	atomic_store(&member->term->acknowledged, 0);
	atomic_store(&member->term->ballot, ballot);
	atomic_store(&member->seat->terms, number + 1);
}

static void acknowledge(struct member *member)
{
	member->under_way = false;
	atomic_store(&member->term->acknowledged, member->proposed);
	if (member->proposed > 1)
		return;
	atomic_store(&member->seat->committed_ns, clock_ns());
	atomic_store(&member->seat->committed_ballot, member->ballot);
}

/* There is room in the journals, and somebody compares them. */
static bool may_propose(const struct member *member)
{
	return !atomic_load(&member->board->pause) &&
	       atomic_load(&member->seat->applied) - atomic_load(&member->board->audited) <
		       BENCH_JOURNAL_ENTRIES / 2;
}

static void propose(struct member *member, uint64_t now_ns)
{
	struct payload payload = {.ballot = member->ballot, .sequence = member->proposed + 1};
	const struct iovec iov = {&payload, sizeof(payload)};
	struct mu *mu = member->replica.mu;

	memset(payload.filler, (int)payload.sequence, sizeof(payload.filler));
	if (mu_propose(mu, &iov, 1, mu_timestamp(mu, now_ns / 1000000), &member->lsn) != MU_OK)
		return;
	member->proposed++;
	member->under_way = true;
	member->due_ns = now_ns + member->replica.run->options->pace_ns;
}

/* Returns when to be called again. */
static uint64_t lead(struct member *member, const struct mu_view *view, uint64_t now_ns)
{
	if (view->ballot != member->ballot)
		begin_term(member, view->ballot, now_ns);
	if (view->ballot == 0)
		return UINT64_MAX;
	if (member->under_way && view->commit_lsn >= member->lsn)
		acknowledge(member);
	if (!member->under_way && now_ns >= member->due_ns && may_propose(member))
		propose(member, now_ns);
	if (member->under_way)
		return now_ns;
	return member->due_ns > now_ns ? member->due_ns
				       : now_ns + member->replica.run->options->pace_ns;
}

/* --------------------------------------------------------- data thread */

/* At the latest until then, and not for ever; returns when it was to end. */
static uint64_t sleep_until(struct member *member, uint64_t now_ns, uint64_t until_ns)
{
	struct pollfd wake[] = {{.fd = member->replica.wake_fd, .events = POLLIN},
				{.fd = member->fabric_fd, .events = POLLIN}};
	struct timespec most;
	eventfd_t count;

	if (until_ns <= now_ns)
		return now_ns;
	if (until_ns - now_ns > SLEEP_MAX_NS)
		until_ns = now_ns + SLEEP_MAX_NS;
	most = clock_timespec(until_ns - now_ns);
	if (ppoll(wake, 2, &most, NULL) > 0 && wake[0].revents)
		eventfd_read(member->replica.wake_fd, &count);
	return until_ns;
}

/* It was to be stepped again by then; being woken earlier is no delay. */
static void note_delay(struct bench_seat *seat, uint64_t due_ns, uint64_t now_ns)
{
	if (now_ns > due_ns && now_ns - due_ns > atomic_load(&seat->data_late_ns))
		atomic_store(&seat->data_late_ns, now_ns - due_ns);
}

static void serve(struct member *member)
{
	struct mu *mu = member->replica.mu;
	struct mu_view view;
	uint64_t due_ns = UINT64_MAX;

	while (!bench_run_is_over(member->replica.run)) {
		uint64_t now_ns = clock_ns();
		uint64_t next_ns, lead_ns;

		note_delay(member->seat, due_ns, now_ns);
		next_ns = mu_step(mu, now_ns);
		/* Before it is acknowledged: then the journal holds all that was. */
		apply(member);
		mu_view(mu, &view);
		lead_ns = lead(member, &view, now_ns);
		if (!member->replica.placed && next_ns > now_ns + member->replica.config.tick_ns)
			next_ns = now_ns + member->replica.config.tick_ns;
		due_ns = sleep_until(member, now_ns, next_ns < lead_ns ? next_ns : lead_ns);
	}
}

static int fabric_descriptor(struct mu_fabric *fabric)
{
	return fabric->ops->wait_fd ? fabric->ops->wait_fd(fabric, MU_PLANE_DATA) : -1;
}

int bench_member_run(void *ctx, unsigned id)
{
	const struct bench_member_task *task = ctx;
	struct member member = {.board = task->board, .seat = &task->board->seat[id]};

	prctl(PR_SET_TIMERSLACK, 1);
	if (!bench_replica_open(&member.replica, task->run, id, 0))
		return 1;
	member.replica.watch = watch;
	member.replica.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (member.replica.wake_fd < 0) {
		fprintf(stderr, "mubench: replica %u: %s\n", id, strerror(errno));
		return 1;
	}
	if (!bench_replica_start(&member.replica))
		return 1;
	member.fabric_fd = fabric_descriptor(member.replica.fabric);
	serve(&member);
	bench_replica_stop(&member.replica);
	bench_replica_close(&member.replica);
	close(member.replica.wake_fd);
	return 0;
}
