/* writer.c - see the header. */
#include "config.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "writer.h"

#define INDEX_BITS 20

bool writer_word_is_valid(uint64_t word, size_t place, size_t index, uint64_t oldest)
{
	uint64_t block = word >> INDEX_BITS;

	if (word == 0)
		return oldest == 0;
	return block >= oldest && block % WRITER_PLACES == place &&
	       (word & ((1u << INDEX_BITS) - 1)) == index;
}

/* ------------------------------------------------------------ its own side */

static bool is_over(const struct writer_board *board)
{
	return atomic_load(&board->quit) || atomic_load(&board->failed);
}

static enum mu_fabric_status write_block(struct writer *writer, struct mu_fabric *fabric,
					 uint64_t *block, uint64_t ballot)
{
	uint64_t number = atomic_fetch_add(&writer->board->block, 1) + 1;
	uint64_t offset = number % WRITER_PLACES * writer->block_bytes;
	struct mu_completion completion = {.status = MU_FABRIC_UNREACHABLE};

	for (size_t i = 0; i < writer->block_bytes / 8; i++)
		block[i] = number << INDEX_BITS | i;
	if (fabric->ops->post_write(fabric, DATA, WRITER_TARGET, LOG, offset, block,
				    writer->block_bytes, ballot, number) != 0)
		return MU_FABRIC_UNREACHABLE;
	while (fabric->ops->poll(fabric, DATA, &completion, 1) == 0)
		sched_yield();
	if (completion.status == MU_FABRIC_OK)
		atomic_store(&writer->board->last_ok, number);
	return (enum mu_fabric_status)completion.status;
}

static bool wait_for_connection(struct writer *writer, struct mu_fabric *fabric)
{
	while (fabric->ops->state(fabric, DATA, WRITER_TARGET) != MU_CONNECTION_UP) {
		if (is_over(writer->board))
			return false;
		fabric->ops->connect(fabric, DATA, WRITER_TARGET);
		sched_yield();
	}
	return true;
}

static void stream(struct writer *writer, struct mu_fabric *fabric, uint64_t *block)
{
	uint64_t ballot = atomic_load(&writer->board->ballot);
	enum mu_fabric_status status;

	if (ballot == atomic_load(&writer->board->done_ballot)) {
		/* Before it is granted: some fabrics cannot grant who is not connected. */
		fabric->ops->connect(fabric, DATA, WRITER_TARGET);
		sched_yield();
		return;
	}
	/* A connection of the time before may say that it is no more; then it is renewed. */
	do {
		if (!wait_for_connection(writer, fabric))
			return;
		status = write_block(writer, fabric, block, ballot);
	} while (status == MU_FABRIC_UNREACHABLE);
	while (status == MU_FABRIC_OK) {
		if (is_over(writer->board))
			return;
		status = write_block(writer, fabric, block, ballot);
	}
	atomic_store(&writer->board->done_ballot, ballot);
}

static void *run(void *arg)
{
	struct writer *writer = arg;
	struct mu_fabric_config config = group_config(writer->group, WRITER_ID);
	uint64_t *block = malloc(writer->block_bytes);
	struct mu_fabric *fabric;
	char err[256];

	if (block == NULL || fabric_under_test->open(writer->group->place, &config, &fabric, err,
						     sizeof(err)) != 0) {
		atomic_store(&writer->board->failed, true);
		return NULL;
	}
	while (!is_over(writer->board))
		stream(writer, fabric, block);
	fabric->ops->close(fabric);
	free(block);
	return NULL;
}

/* ---------------------------------------------------------- the test's side */

void writer_restart(struct writer *writer)
{
	writer->process = fork();
	assert_true(writer->process >= 0);
	if (writer->process > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run(writer);
	_exit(atomic_load(&writer->board->failed));
}

void writer_start(struct writer *writer, struct group *group, size_t block_bytes, bool process)
{
	void *board = mmap(NULL, sizeof(*writer->board), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(board, MAP_FAILED);
	assert_true(block_bytes % 8 == 0 && block_bytes * WRITER_PLACES <= LOG_BYTES);
	*writer = (struct writer){.group = group, .block_bytes = block_bytes, .board = board};
	if (process)
		writer_restart(writer);
	else
		assert_int_equal(pthread_create(&writer->thread, NULL, run, writer), 0);
}

void writer_stop(struct writer *writer)
{
	int status = 0;

	atomic_store(&writer->board->quit, true);
	if (writer->process > 0)
		assert_int_equal(waitpid(writer->process, &status, 0), writer->process);
	else
		pthread_join(writer->thread, NULL);
	assert_int_equal(status, 0);
	assert_false(atomic_load(&writer->board->failed));
	munmap(writer->board, sizeof(*writer->board));
}

void writer_kill(struct writer *writer)
{
	assert_true(writer->process > 0);
	kill(writer->process, SIGKILL);
	assert_int_equal(waitpid(writer->process, NULL, 0), writer->process);
}

void writer_stream(struct writer *writer, uint64_t ballot)
{
	uint64_t before = atomic_load(&writer->board->last_ok);

	atomic_store(&writer->board->ballot, ballot);
	WAIT_UNTIL(writer->group, atomic_load(&writer->board->last_ok) != before ||
					  atomic_load(&writer->board->failed));
	assert_false(atomic_load(&writer->board->failed));
}

void writer_wait_refused(struct writer *writer, uint64_t ballot)
{
	WAIT_UNTIL(writer->group, atomic_load(&writer->board->done_ballot) == ballot);
}

/* Wait until it begins another write: on a busy machine that takes its time. */
static void writer_wait_begun(struct writer *writer)
{
	uint64_t before = atomic_load(&writer->board->block);

	WAIT_UNTIL(writer->group, atomic_load(&writer->board->block) != before);
}

/*
 * Attempt by attempt at another moment of the time from one write to the next,
 * all of it evenly: how much of that is the write itself depends on the build.
 */
static void writer_wait_moment(struct writer *writer, uint32_t attempt)
{
	const uint32_t golden = 2654435769; /* of 2^32 */
	uint64_t since_ns, write_ns, delay_ns;

	writer_wait_begun(writer);
	since_ns = clock_ns();
	writer_wait_begun(writer);
	write_ns = clock_ns() - since_ns;
	since_ns += write_ns;
	delay_ns = write_ns * (attempt * golden >> 16) >> 16;
	while (clock_ns() - since_ns < delay_ns)
		sched_yield();
}

void writer_freeze_in_write(struct writer *writer)
{
	uint64_t since_ns = clock_ns();

	assert_true(writer->process > 0);
	for (uint32_t attempt = 0;; attempt++) {
		int status;

		writer_wait_moment(writer, attempt);
		assert_int_equal(kill(writer->process, SIGSTOP), 0);
		assert_int_equal(waitpid(writer->process, &status, WUNTRACED), writer->process);
		assert_true(WIFSTOPPED(status));
		if (fabric_under_test->is_writing(writer->group->place, WRITER_TARGET, WRITER_ID))
			return;
		writer_thaw(writer);
		wait_turn(writer->group, since_ns, "a writer in the middle of a write");
	}
}

void writer_thaw(struct writer *writer)
{
	assert_int_equal(kill(writer->process, SIGCONT), 0);
}
