/*
 * test_revocation.c - F4 and F5: when revoke_write() has returned, nothing of a
 * former holder lands any more, be it running, stopped or dead; and what it was
 * told to have written stays.
 */
#include "config.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "writer.h"

/* A writer against the owner of the log that it writes. */
struct race {
	struct group *group;
	struct mu_fabric *target;
	const uint8_t *memory; /* the target's log */
	struct writer writer;
	size_t used_bytes;
	uint8_t *after_revoke;
	uint64_t round;
};

static void race_start(struct race *race, size_t block_bytes, bool process)
{
	*race = (struct race){.group = group_new(), .used_bytes = block_bytes * WRITER_PLACES};
	race->target = group_open(race->group, WRITER_TARGET);
	race->memory = race->target->ops->local(race->target, LOG);
	race->after_revoke = malloc(race->used_bytes);
	assert_non_null(race->after_revoke);
	writer_start(&race->writer, race->group, block_bytes, process);
}

static void race_free(struct race *race)
{
	writer_stop(&race->writer);
	free(race->after_revoke);
	group_free(race->group);
}

static uint64_t race_ballot(const struct race *race)
{
	return BALLOT(race->round, WRITER_ID);
}

/* The writer is granted, and streams. */
static void race_begin(struct race *race)
{
	race->round++;
	WAIT_UNTIL(race->group,
		   race->target->ops->grant_write(race->target, WRITER_ID, race_ballot(race)) == 0);
	writer_stream(&race->writer, race_ballot(race));
}

static void race_revoke(struct race *race)
{
	uint64_t start_ns = clock_ns();

	assert_int_equal(race->target->ops->revoke_write(race->target), 0);
	/* About a millisecond, and the copy; far more if the machine is busy. */
	assert_in_range(clock_ns() - start_ns, 0, 2000000000);
	memcpy(race->after_revoke, race->memory, race->used_bytes);
	assert_ptr_equal(race->target->ops->local(race->target, LOG), race->memory);
}

/* Whether any byte has changed since the permission was revoked. */
static bool race_memory_changed(const struct race *race)
{
	return memcmp(race->memory, race->after_revoke, race->used_bytes) != 0;
}

/* What the writer was told to be written is there, wholly. */
static void race_check_last_ok(const struct race *race)
{
	uint64_t last = atomic_load(&race->writer.board->last_ok);
	size_t words = race->writer.block_bytes / 8;
	const uint64_t *block = (const uint64_t *)(const void *)race->memory;

	block += last % WRITER_PLACES * words;
	for (size_t i = 0; i < words; i++)
		if (!writer_word_is_valid(block[i], last % WRITER_PLACES, i, last))
			fail_msg("block %llu, word %zu: %llx", (unsigned long long)last, i,
				 (unsigned long long)block[i]);
}

/*
 * Up to so many rounds, fewer if a byte changes when it must not: returns how many were clean.
 * A round begins when the writer has just finished a block: the revocation has to fall
 * anywhere in the time that it takes it to make the next one and to write it.
 */
static unsigned race_rounds(struct race *race, unsigned rounds)
{
	unsigned most = 5000 + (unsigned)(race->writer.block_bytes / 2);
	unsigned clean = 0;

	for (; clean < rounds; clean++) {
		race_begin(race);
		for (volatile unsigned spin = clean * 7919 % most; spin > 0;)
			spin--;
		race_revoke(race);
		writer_wait_refused(&race->writer, race_ballot(race));
		if (race_memory_changed(race))
			break;
		race_check_last_ok(race);
	}
	return clean;
}

static void run_race(size_t block_bytes, bool process, unsigned rounds)
{
	struct race race;

	if (process ? !group_may_fork() : !fabric_under_test->concurrent)
		skip();
	race_start(&race, block_bytes, process);
	assert_int_equal(race_rounds(&race, rounds), rounds);
	race_free(&race);
}

static void f4_running_thread_small_writes(void **state)
{
	(void)state;
	run_race(64, false, group_rounds(700));
}

static void f4_running_thread_large_writes(void **state)
{
	(void)state;
	run_race(128 << 10, false, group_rounds(500));
}

/* The one in which most rounds are raced, where the fabric has no test of its own for that. */
static void f4_running_process_small_writes(void **state)
{
	(void)state;
	run_race(192, true, fabric_under_test->has_stream_tests ? group_rounds(2000) : 2000);
}

static void f4_running_process_large_writes(void **state)
{
	(void)state;
	run_race(32 << 10, true, group_rounds(600));
}

static void f4_running_process_huge_writes(void **state)
{
	(void)state;
	run_race(1 << 20, true, group_rounds(60));
}

/* ----------------------------------------------------- stopped in a write */

/* Freeze the writer in the middle of a write, and take the permission away. */
static void race_revoke_frozen(struct race *race)
{
	race_begin(race);
	writer_freeze_in_write(&race->writer);
	race_revoke(race);
}

static void f4_a_writer_stopped_in_a_write(void **state)
{
	struct race race;
	struct link other;

	(void)state;
	if (fabric_under_test->is_writing == NULL || !group_may_fork())
		skip();
	race_start(&race, 1 << 20, true);
	group_open(race.group, 3);
	other = link_up(race.group, 3, DATA, WRITER_TARGET);
	for (unsigned i = 0; i < group_hard_rounds(group_rounds(40)); i++) {
		uint64_t ballot;
		uint8_t src[100];

		race_revoke_frozen(&race);
		/* Another becomes the holder, and writes, while the old one still has its turn. */
		ballot = BALLOT(race.round, 3);
		fill(src, sizeof(src), i);
		assert_int_equal(race.target->ops->grant_write(race.target, 3, ballot), 0);
		/* Its connection may be of the time before; then it says so, and is renewed. */
		if (link_write(&other, LOG, 5000, src, sizeof(src), ballot) != MU_FABRIC_OK) {
			link_reconnect(&other);
			assert_int_equal(link_write(&other, LOG, 5000, src, sizeof(src), ballot),
					 MU_FABRIC_OK);
		}
		memcpy(race.after_revoke + 5000, src, sizeof(src));
		writer_thaw(&race.writer);
		writer_wait_refused(&race.writer, race_ballot(&race));
		assert_false(race_memory_changed(&race));
		assert_int_equal(race.target->ops->revoke_write(race.target), 0);
	}
	race_free(&race);
}

static void f5_a_stopped_writers_finished_writes_stay(void **state)
{
	struct race race;

	(void)state;
	if (fabric_under_test->is_writing == NULL || !group_may_fork())
		skip();
	race_start(&race, 1 << 20, true);
	for (unsigned i = 0; i < group_hard_rounds(group_rounds(40)); i++) {
		race_revoke_frozen(&race);
		race_check_last_ok(&race);
		writer_thaw(&race.writer);
		writer_wait_refused(&race.writer, race_ballot(&race));
		assert_false(race_memory_changed(&race));
		race_check_last_ok(&race);
	}
	race_free(&race);
}

/* ------------------------------------------------------ killed in a write */

static void f4_a_writer_killed_in_a_write(void **state)
{
	struct race race;

	(void)state;
	if (fabric_under_test->is_writing == NULL || !group_may_fork())
		skip();
	race_start(&race, 1 << 20, true);
	for (unsigned i = 0; i < group_hard_rounds(group_rounds(40)); i++) {
		race_begin(&race);
		writer_freeze_in_write(&race.writer);
		/* Dead, dying, or about to die when the permission is taken away. */
		if (i % 2) {
			writer_kill(&race.writer);
			race_revoke(&race);
		} else {
			kill(race.writer.process, SIGKILL);
			race_revoke(&race);
			writer_kill(&race.writer);
		}
		assert_false(race_memory_changed(&race));
		race_check_last_ok(&race);
		writer_restart(&race.writer);
		/* The new process finds that its predecessor's permission is gone. */
		writer_wait_refused(&race.writer, race_ballot(&race));
		assert_false(race_memory_changed(&race));
	}
	race_free(&race);
}

static void f4_a_writer_killed_while_it_streams(void **state)
{
	struct race race;

	(void)state;
	if (!group_may_fork())
		skip();
	race_start(&race, 64 << 10, true);
	for (unsigned i = 0; i < group_hard_rounds(group_rounds(40)); i++) {
		race_begin(&race);
		writer_kill(&race.writer);
		race_revoke(&race);
		assert_false(race_memory_changed(&race));
		race_check_last_ok(&race);
		writer_restart(&race.writer);
		writer_wait_refused(&race.writer, race_ballot(&race));
	}
	race_free(&race);
}

/* ---------------------------------- stopped and continued, and read meanwhile */

/* Threads that do one thing until they are told to stop. */
struct nuisance {
	struct race *race;
	struct link link; /* a reader's */
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong turns;
	atomic_bool failed;
};

static void nuisance_start(struct nuisance *nuisance, void *(*run)(void *))
{
	assert_int_equal(pthread_create(&nuisance->thread, NULL, run, nuisance), 0);
}

static void nuisance_end(struct nuisance *nuisance)
{
	WAIT_UNTIL(nuisance->race->group,
		   atomic_load(&nuisance->turns) > 10 || atomic_load(&nuisance->failed));
	atomic_store(&nuisance->stop, true);
	pthread_join(nuisance->thread, NULL);
	assert_false(atomic_load(&nuisance->failed));
}

static void *stop_and_continue(void *arg)
{
	struct nuisance *nuisance = arg;
	pid_t process = nuisance->race->writer.process;

	while (!atomic_load(&nuisance->stop)) {
		unsigned long turn = atomic_fetch_add(&nuisance->turns, 1);
		struct timespec pause = {0, (long)(turn * 7919 % 2000) * 1000};

		kill(process, SIGSTOP);
		nanosleep(&pause, NULL);
		kill(process, SIGCONT);
		pause.tv_nsec /= 2;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* Words of a block, of which `oldest` was written before they were read. */
static bool words_are_valid(const uint64_t *words, size_t count, uint64_t oldest)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);

		if (!writer_word_is_valid(word, oldest % WRITER_PLACES, i, oldest))
			return false;
	}
	return true;
}

static void *read_remotely(void *arg)
{
	struct nuisance *nuisance = arg;
	struct writer *writer = &nuisance->race->writer;
	struct mu_fabric *fabric = nuisance->link.fabric;
	uint64_t *words = malloc(writer->block_bytes);

	while (!atomic_load(&nuisance->stop) && !atomic_load(&nuisance->failed)) {
		uint64_t oldest = atomic_load(&writer->board->last_ok);
		uint64_t offset = oldest % WRITER_PLACES * writer->block_bytes;
		struct mu_completion completion;

		if (fabric->ops->post_read(fabric, DATA, WRITER_TARGET, LOG, offset, words,
					   writer->block_bytes, 0) != 0) {
			fabric->ops->connect(fabric, DATA, WRITER_TARGET);
			continue;
		}
		while (fabric->ops->poll(fabric, DATA, &completion, 1) == 0)
			;
		if (completion.status != MU_FABRIC_OK)
			continue;
		if (oldest > 0 && !words_are_valid(words, writer->block_bytes / 8, oldest))
			atomic_store(&nuisance->failed, true);
		atomic_fetch_add(&nuisance->turns, 1);
	}
	free(words);
	return NULL;
}

static void *read_locally(void *arg)
{
	struct nuisance *nuisance = arg;
	struct writer *writer = &nuisance->race->writer;
	const uint64_t *memory = (const uint64_t *)(const void *)nuisance->race->memory;
	size_t block_words = writer->block_bytes / 8;

	while (!atomic_load(&nuisance->stop) && !atomic_load(&nuisance->failed)) {
		uint64_t oldest = atomic_load(&writer->board->last_ok);
		const uint64_t *block = memory + oldest % WRITER_PLACES * block_words;

		if (oldest > 0 && !words_are_valid(block, block_words, oldest))
			atomic_store(&nuisance->failed, true);
		atomic_fetch_add(&nuisance->turns, 1);
	}
	return NULL;
}

static void f4_stopped_and_continued_at_any_moment(void **state)
{
	struct race race;
	struct nuisance stopper = {.race = &race};
	struct nuisance remote = {.race = &race}, local = {.race = &race};

	(void)state;
	/* Nothing here asks where in a write it is, but for the fabric that cannot tell it is slow.
	 */
	if ((fabric_under_test->is_writing == NULL && !fabric_under_test->has_stream_tests) ||
	    !group_may_fork())
		skip();
	race_start(&race, 32 << 10, true);
	group_open(race.group, 3);
	race_begin(&race);
	remote.link = link_up(race.group, 3, DATA, WRITER_TARGET);
	race_revoke(&race);
	writer_wait_refused(&race.writer, race_ballot(&race));
	nuisance_start(&stopper, stop_and_continue);
	nuisance_start(&remote, read_remotely);
	nuisance_start(&local, read_locally);
	assert_int_equal(race_rounds(&race, group_rounds(250)), group_rounds(250));
	nuisance_end(&remote);
	nuisance_end(&local);
	nuisance_end(&stopper);
	race_free(&race);
}

const struct CMUnitTest revocation_tests[] = {
	cmocka_unit_test(f4_running_thread_small_writes),
	cmocka_unit_test(f4_running_thread_large_writes),
	cmocka_unit_test(f4_running_process_small_writes),
	cmocka_unit_test(f4_running_process_large_writes),
	cmocka_unit_test(f4_running_process_huge_writes),
	cmocka_unit_test(f4_a_writer_stopped_in_a_write),
	cmocka_unit_test(f5_a_stopped_writers_finished_writes_stay),
	cmocka_unit_test(f4_a_writer_killed_in_a_write),
	cmocka_unit_test(f4_a_writer_killed_while_it_streams),
	cmocka_unit_test(f4_stopped_and_continued_at_any_moment),
	{0},
};

/* ---------------------------------------------------------------- self-check */

/*
 * The tests above are worth something only if they notice a broken revocation.
 * One round in ten does, at the least; there are enough of them for chance to
 * have no say.
 */
static void the_race_notices_a_revoker_that_does_not_wait(void **state)
{
	struct race race;

	(void)state;
	if (!group_may_fork())
		skip();
	fabric_under_test->break_revocation(FAULT_NO_WAIT);
	race_start(&race, 256 << 10, true);
	assert_in_range(race_rounds(&race, 3000), 0, 2999);
	fabric_under_test->break_revocation(FAULT_NONE);
	race_free(&race);
}

static void a_frozen_writer_notices_a_revoker_that_takes_nothing(void **state)
{
	struct race race;
	bool changed = false;

	(void)state;
	if (fabric_under_test->is_writing == NULL || !group_may_fork())
		skip();
	race_start(&race, 1 << 20, true);
	fabric_under_test->break_revocation(FAULT_NO_TAKING);
	for (int i = 0; i < 300 && !changed; i++) {
		race_revoke_frozen(&race);
		writer_thaw(&race.writer);
		writer_wait_refused(&race.writer, race_ballot(&race));
		changed = race_memory_changed(&race);
	}
	assert_true(changed);
	fabric_under_test->break_revocation(FAULT_NONE);
	race_free(&race);
}

const struct CMUnitTest self_check_tests[] = {
	cmocka_unit_test(the_race_notices_a_revoker_that_does_not_wait),
	cmocka_unit_test(a_frozen_writer_notices_a_revoker_that_takes_nothing),
	{0},
};
