/*
 * test_verbs_stream.c - F4 under a stream of writes: the writer has so many under
 * way that there is always one on the wire, and one being executed at the target,
 * whose device goes on by itself while revoke_write() runs.
 *
 * A write that comes late is at most a packet, some microseconds behind. So what
 * is compared is little, and is taken at once: the last word of each packet. Every
 * write puts another number there, and the device writes it last.
 */
#include "config.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "verbs_fixture.h"

#define WRITER 1
#define TARGET 2
#define DEPTH 64 /* writes under way, and places that they go to in turn */
#define PACKET_BYTES 4096
#define PACKETS_MAX 2 /* of a write */

/* What happens to the writer just before its permission is taken away. */
enum fate { RUNS, STOPPED, KILLED };

/* In memory that a writer which is a process shares with the test. */
struct stream {
	struct group *group;
	struct mu_fabric *writer, *target;
	const uint8_t *memory; /* the target's log */
	uint8_t *source;       /* the writer's own, of which it writes */
	size_t write_bytes;
	pthread_t thread;
	pid_t process; /* 0: the writer is a thread */
	atomic_bool quit;
	_Atomic uint64_t go;      /* the ballot to stream under... */
	_Atomic uint64_t revoked; /* ...of which the permission is gone... */
	_Atomic uint64_t done;    /* ...and which the writer knows to be gone */
	_Atomic uint64_t last_ok; /* the number of the last write that succeeded */
	/* The writer's own until `done`. */
	uint64_t number;
	uint64_t landed, under_way; /* that succeeded; that did not, over all rounds */
	uint64_t seen[DEPTH * PACKETS_MAX];
};

static unsigned packets_of(const struct stream *stream)
{
	return (unsigned)((stream->write_bytes + PACKET_BYTES - 1) / PACKET_BYTES);
}

/* The last word of a packet of a place. */
static size_t word_at(const struct stream *stream, unsigned place, unsigned packet)
{
	size_t end = (size_t)(packet + 1) * PACKET_BYTES;

	if (end > stream->write_bytes)
		end = stream->write_bytes;
	return place * stream->write_bytes + end - sizeof(uint64_t);
}

/* -------------------------------------------------------------- the writer */

static bool post_next(struct stream *stream, uint64_t ballot)
{
	uint64_t number = stream->number + 1;
	unsigned place = (unsigned)(number % DEPTH);
	size_t offset = place * stream->write_bytes;

	for (unsigned packet = 0; packet < packets_of(stream); packet++)
		memcpy(stream->source + word_at(stream, place, packet), &number, sizeof(number));
	if (stream->writer->ops->post_write(stream->writer, DATA, TARGET, LOG, offset,
					    stream->source + offset, stream->write_bytes, ballot,
					    number) != 0)
		return false;
	stream->number = number;
	return true;
}

/* Write until it is refused, and nothing of it is under way any more. */
static void write_on(struct stream *stream, uint64_t ballot)
{
	struct mu_completion over[DEPTH];
	bool is_refused = false;
	unsigned under_way = 0;

	while (!is_refused || under_way > 0) {
		int count;

		while (!is_refused && under_way < DEPTH && post_next(stream, ballot))
			under_way++;
		count = stream->writer->ops->poll(stream->writer, DATA, over, DEPTH);
		under_way -= (unsigned)count;
		for (int i = 0; i < count; i++) {
			bool is_ok = over[i].status == MU_FABRIC_OK;

			if (is_ok)
				atomic_store(&stream->last_ok, over[i].cookie);
			stream->landed += is_ok;
			stream->under_way += !is_ok;
			is_refused |= !is_ok;
		}
		if (under_way == 0 &&
		    stream->writer->ops->state(stream->writer, DATA, TARGET) != MU_CONNECTION_UP)
			break;
	}
}

static void *run(void *arg)
{
	struct stream *stream = arg;
	struct mu_fabric *writer = stream->writer;

	while (!atomic_load(&stream->quit)) {
		uint64_t ballot = atomic_load(&stream->go);

		if (writer->ops->state(writer, DATA, TARGET) != MU_CONNECTION_UP) {
			writer->ops->connect(writer, DATA, TARGET);
			sched_yield();
		} else if (ballot == atomic_load(&stream->done)) {
			sched_yield();
		} else {
			write_on(stream, ballot);
			/* Else it may have been the end of a connection of the time before. */
			if (atomic_load(&stream->revoked) == ballot)
				atomic_store(&stream->done, ballot);
		}
	}
	return NULL;
}

static void open_writer(struct stream *stream)
{
	stream->writer = group_open(stream->group, WRITER);
	stream->source = stream->writer->ops->local(stream->writer, LOG);
}

static void start_process(struct stream *stream)
{
	pid_t process = fork();

	assert_true(process >= 0);
	if (process > 0) {
		stream->process = process;
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	open_writer(stream);
	run(stream);
	group_close(stream->group, WRITER);
	_exit(0);
}

/* -------------------------------------------------------------- the revoker */

static struct stream *stream_new(size_t write_bytes, bool process)
{
	struct stream *stream = mmap(NULL, sizeof(*stream), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(stream, MAP_FAILED);
	stream->group = group_new();
	stream->target = group_open(stream->group, TARGET);
	stream->memory = stream->target->ops->local(stream->target, LOG);
	stream->write_bytes = write_bytes;
	assert_true(packets_of(stream) <= PACKETS_MAX && DEPTH * write_bytes <= LOG_BYTES);
	if (process) {
		start_process(stream);
	} else {
		open_writer(stream);
		assert_int_equal(pthread_create(&stream->thread, NULL, run, stream), 0);
	}
	return stream;
}

static void stream_free(struct stream *stream)
{
	int status = 0;

	atomic_store(&stream->quit, true);
	if (stream->process > 0)
		assert_int_equal(waitpid(stream->process, &status, 0), stream->process);
	else
		pthread_join(stream->thread, NULL);
	assert_int_equal(status, 0);
	group_free(stream->group);
	munmap(stream, sizeof(*stream));
}

static uint64_t look(const struct stream *stream, unsigned place, unsigned packet)
{
	const void *word = stream->memory + word_at(stream, place, packet);

	return __atomic_load_n((const uint64_t *)word, __ATOMIC_RELAXED);
}

static uint64_t latest(const struct stream *stream)
{
	uint64_t most = 0;

	for (unsigned place = 0; place < DEPTH; place++)
		if (look(stream, place, 0) > most)
			most = look(stream, place, 0);
	return most;
}

/* For a part of the time that a write takes, another one each round. */
static void wait_a_little(unsigned round)
{
	for (volatile unsigned spin = round * 7919 % 20000; spin > 0;)
		spin--;
}

/* The writer goes on, if it can, and finds that it is refused. */
static void wait_refused(struct stream *stream, uint64_t ballot, enum fate fate)
{
	atomic_store(&stream->revoked, ballot);
	if (fate == KILLED) {
		assert_int_equal(waitpid(stream->process, NULL, 0), stream->process);
		start_process(stream);
	}
	if (fate == STOPPED)
		kill(stream->process, SIGCONT);
	WAIT_UNTIL(stream->group, atomic_load(&stream->done) == ballot);
}

/* F5: what the writer was told to be written is there, or something newer. */
static bool has_last_ok(const struct stream *stream)
{
	uint64_t last = atomic_load(&stream->last_ok);
	bool is_there = true;

	for (unsigned packet = 0; packet < packets_of(stream); packet++)
		is_there &= look(stream, (unsigned)(last % DEPTH), packet) >= last;
	return is_there;
}

/* In the middle of the stream the permission is taken away: true if not a byte changes after. */
static bool revoke_under_stream(struct stream *stream, unsigned round, enum fate fate)
{
	uint64_t ballot = BALLOT(round + 1, WRITER), before = latest(stream);
	unsigned packets = packets_of(stream);
	bool is_clean = true;

	WAIT_UNTIL(stream->group,
		   stream->target->ops->grant_write(stream->target, WRITER, ballot) == 0);
	atomic_store(&stream->go, ballot);
	WAIT_UNTIL(stream->group, latest(stream) > before + round * 7919 % (2 * DEPTH));
	wait_a_little(round);
	/* Its device may have writes of it under way for a while yet. */
	if (fate != RUNS)
		kill(stream->process, fate == STOPPED ? SIGSTOP : SIGKILL);
	assert_int_equal(stream->target->ops->revoke_write(stream->target), 0);
	for (unsigned i = 0; i < DEPTH * packets; i++)
		stream->seen[i] = look(stream, i / packets, i % packets);
	wait_refused(stream, ballot, fate);
	assert_true(has_last_ok(stream));
	for (unsigned i = 0; i < DEPTH * packets; i++)
		is_clean &= stream->seen[i] == look(stream, i / packets, i % packets);
	return is_clean;
}

/* Returns in how many of the rounds a byte changed; ends with the first if that is enough. */
static unsigned revoke_often(struct stream *stream, unsigned rounds, enum fate fate,
			     bool is_one_enough)
{
	static const char *const fates[] = {"that runs", "that is stopped", "that is killed"};
	unsigned late = 0, round = 0;

	while (round < rounds && !(is_one_enough && late > 0))
		late += !revoke_under_stream(stream, round++, fate);
	printf("# %u revocations under a stream of writes of %zu bytes by a replica %s: %llu "
	       "landed, %llu were under way; after %u of them memory changed\n",
	       round, stream->write_bytes, fates[fate], (unsigned long long)stream->landed,
	       (unsigned long long)stream->under_way, late);
	return late;
}

enum { SELF_CHECK_ROUNDS = 4000 };

static void hold_against_stream(size_t write_bytes, unsigned rounds)
{
	struct stream *stream = stream_new(write_bytes, false);
	struct verbs_holdings before;

	assert_int_equal(revoke_often(stream, 20, RUNS, false), 0);
	before = verbs_take_stock();
	assert_int_equal(revoke_often(stream, rounds, RUNS, false), 0);
	/* Each of them cost a connection. */
	verbs_nothing_leaked(stream->group, &before);
	stream_free(stream);
}

static void verbs_f4_under_a_stream_of_small_writes(void **state)
{
	(void)state;
	hold_against_stream(64, 2000);
}

static void verbs_f4_under_a_stream_of_large_writes(void **state)
{
	(void)state;
	/* Most of them here: it is the large ones that come late where there is no barrier. */
	hold_against_stream(PACKETS_MAX * PACKET_BYTES, 2000);
}

static void hold_against_fate(enum fate fate, unsigned rounds)
{
	struct stream *stream = stream_new(PACKETS_MAX * PACKET_BYTES, true);

	assert_int_equal(revoke_often(stream, rounds, fate, false), 0);
	stream_free(stream);
}

static void verbs_f4_f5_a_writer_stopped_in_its_stream(void **state)
{
	(void)state;
	hold_against_fate(STOPPED, group_hard_rounds(200));
}

static void verbs_f4_f5_a_writer_killed_in_its_stream(void **state)
{
	(void)state;
	hold_against_fate(KILLED, group_hard_rounds(40));
}

const struct CMUnitTest verbs_stream_tests[] = {
	cmocka_unit_test(verbs_f4_under_a_stream_of_small_writes),
	cmocka_unit_test(verbs_f4_under_a_stream_of_large_writes),
	cmocka_unit_test(verbs_f4_f5_a_writer_stopped_in_its_stream),
	cmocka_unit_test(verbs_f4_f5_a_writer_killed_in_its_stream),
	{0},
};

/* ---------------------------------------------------------------- self-check */

/* Flags alone are no barrier. */
static void a_stream_notices_flags_alone(void **state)
{
	struct stream *stream;

	(void)state;
	fabric_under_test->break_revocation(FAULT_NO_WAIT);
	stream = stream_new(PACKETS_MAX * PACKET_BYTES, false);
	assert_int_not_equal(revoke_often(stream, SELF_CHECK_ROUNDS, RUNS, true), 0);
	fabric_under_test->break_revocation(FAULT_NONE);
	stream_free(stream);
}

const struct CMUnitTest verbs_stream_self_check_tests[] = {
	cmocka_unit_test(a_stream_notices_flags_alone),
	{0},
};
