/* test_order.c - F1, F2, F5, F6, F7: what operations do, and in which order. */
#include "config.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "conformance.h"

/* Replica 1 may write the log of replica 2 under this ballot. */
#define MINE BALLOT(1, 1)

static struct group *two_replicas(void)
{
	struct group *group = group_new();
	struct mu_fabric *target;
	struct link link;

	group_open(group, 1);
	target = group_open(group, 2);
	assert_int_equal(target->ops->revoke_write(target), 0);
	link_up(group, 1, BACKGROUND, 2);
	link = link_up(group, 1, DATA, 2);
	link_grant(&link, MINE);
	return group;
}

static void f1_operations_execute_and_complete_in_posting_order(void **state)
{
	struct group *group = two_replicas();
	struct link link = link_up(group, 1, DATA, 2);
	const struct mu_fabric_ops *ops = link.fabric->ops;
	uint64_t out[40], in[40];

	(void)state;
	memset(in, 0xff, sizeof(in));
	/* Each read stands between two writes of the word that it reads. */
	for (uint64_t i = 0; i < 40; i++) {
		out[i] = i;
		assert_int_equal(
			ops->post_write(link.fabric, DATA, 2, LOG, 64, &out[i], 8, MINE, 2 * i), 0);
		assert_int_equal(
			ops->post_read(link.fabric, DATA, 2, LOG, 64, &in[i], 8, 2 * i + 1), 0);
	}
	for (uint64_t i = 0; i < 80; i++) {
		struct mu_completion completion = link_completion(&link);

		assert_int_equal(completion.cookie, i);
		assert_int_equal(completion.status, MU_FABRIC_OK);
		if (i % 2)
			assert_int_equal(in[i / 2], i / 2);
	}
	group_free(group);
}

static void f1_connections_are_independent(void **state)
{
	struct group *group = two_replicas();
	struct link data = link_up(group, 1, DATA, 2);
	struct link background = link_up(group, 1, BACKGROUND, 2);
	uint64_t word = 7, seen = 0;

	(void)state;
	/* Replica 3 is not there at all. */
	data.fabric->ops->connect(data.fabric, DATA, 3);
	assert_int_not_equal(data.fabric->ops->state(data.fabric, DATA, 3), MU_CONNECTION_UP);
	assert_int_equal(
		data.fabric->ops->post_write(data.fabric, DATA, 3, LOG, 0, &word, 8, MINE, 1), -1);
	/* An error on one plane is none of the other's. */
	assert_int_not_equal(link_write(&background, LOG, 0, &word, 8, BALLOT(9, 1)), MU_FABRIC_OK);
	assert_int_equal(link_state(&background), MU_CONNECTION_DOWN);
	assert_int_equal(link_write(&data, LOG, 0, &word, 8, MINE), MU_FABRIC_OK);
	assert_int_equal(link_read(&data, LOG, 0, &seen, 8), MU_FABRIC_OK);
	assert_int_equal(seen, 7);
	group_free(group);
}

static void f1_a_full_queue_refuses_and_loses_nothing(void **state)
{
	struct group *group = two_replicas();
	struct link link = link_up(group, 1, DATA, 2);
	uint64_t posted = 0, word = 1, completed = 0;

	(void)state;
	while (posted < 1000000 && link.fabric->ops->post_write(link.fabric, DATA, 2, LOG, 0, &word,
								8, MINE, posted) == 0)
		posted++;
	assert_in_range(posted, 16, 999999);
	for (; completed < posted; completed++) {
		struct mu_completion completion = link_completion(&link);

		assert_int_equal(completion.cookie, completed);
		assert_int_equal(completion.status, MU_FABRIC_OK);
	}
	assert_int_equal(link_state(&link), MU_CONNECTION_UP);
	assert_int_equal(link_write(&link, LOG, 0, &word, 8, MINE), MU_FABRIC_OK);
	group_free(group);
}

static void f5_writes_of_all_sizes_land_exactly(void **state)
{
	static const size_t sizes[] = {1,  2,  3,  7,   8,   9,   15,   16,   17,    63,
				       64, 65, 71, 127, 128, 129, 1000, 4096, 65537, LOG_BYTES};
	struct group *group = two_replicas();
	struct link link = link_up(group, 1, DATA, 2);
	uint8_t *memory = link.group->replica[2]->ops->local(link.group->replica[2], LOG);
	uint8_t *src = malloc(LOG_BYTES + 8), *want = calloc(1, LOG_BYTES), *in = malloc(LOG_BYTES);

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		/* In the middle, at the very end, at the very beginning; sources unaligned. */
		const size_t room = LOG_BYTES - sizes[i];
		const size_t offsets[] = {room / 2 + i % 8, room, room ? room - 1 : 0, 0, i % 3};

		for (size_t j = 0; j < sizeof(offsets) / sizeof(offsets[0]); j++) {
			const size_t offset = offsets[j] < room ? offsets[j] : room;

			fill(src + j, sizes[i], (unsigned)(i * 8 + j));
			memcpy(want + offset, src + j, sizes[i]);
			assert_int_equal(link_write(&link, LOG, offset, src + j, sizes[i], MINE),
					 MU_FABRIC_OK);
			memset(in, 0, sizes[i]);
			assert_int_equal(link_read(&link, LOG, offset, in, sizes[i]), MU_FABRIC_OK);
			assert_memory_equal(in, src + j, sizes[i]);
		}
		/* And nothing else. */
		assert_memory_equal(memory, want, LOG_BYTES);
	}
	free(src);
	free(want);
	free(in);
	group_free(group);
}

static void f5_slots_take_lines_and_parts_of_lines(void **state)
{
	struct group *group = two_replicas();
	struct link link = link_up(group, 1, BACKGROUND, 2);
	uint8_t *memory = group->replica[2]->ops->local(group->replica[2], SLOTS);
	uint8_t want[SLOTS_BYTES], src[64];

	(void)state;
	memcpy(want, memory, sizeof(want));
	for (size_t len = 1; len <= 64; len++) {
		size_t offset = len * 64 % SLOTS_BYTES + (64 - len) / 2;

		fill(src, len, (unsigned)len);
		memcpy(want + offset, src, len);
		assert_int_equal(link_write(&link, SLOTS, offset, src, len, 0), MU_FABRIC_OK);
		assert_memory_equal(memory, want, sizeof(want));
	}
	group_free(group);
}

static void f5_a_replica_is_a_peer_of_itself(void **state)
{
	struct group *group = two_replicas();
	struct mu_fabric *own = group->replica[2];
	struct link link = link_up(group, 2, DATA, 2);
	const uint8_t *memory = own->ops->local(own, LOG);

	(void)state;
	assert_int_not_equal(link_write(&link, LOG, 0, "own", 3, BALLOT(5, 2)), MU_FABRIC_OK);
	assert_int_equal(memory[0], 0);
	assert_int_equal(own->ops->revoke_write(own), 0);
	link_grant(&link, BALLOT(5, 2));
	link_reconnect(&link);
	assert_int_equal(link_write(&link, LOG, 0, "own", 3, BALLOT(5, 2)), MU_FABRIC_OK);
	assert_memory_equal(memory, "own", 3);
	group_free(group);
}

/* -------------------------------------------------- what a reader may see */

/*
 * A writer that writes over `first`, and then over `second`, again and again:
 * the number of its turn as words, or as bytes that are all the same.
 */
struct stream {
	struct link link;
	uint64_t first, second;
	size_t first_len, second_len;
	bool in_bytes;
	atomic_bool stop;
	uint64_t turns;
	bool failed;
};

static bool stream_write(struct stream *stream, uint64_t offset, const void *src, size_t len)
{
	struct mu_completion completion;
	struct mu_fabric *fabric = stream->link.fabric;

	if (fabric->ops->post_write(fabric, DATA, 2, LOG, offset, src, len, MINE, 0) != 0)
		return false;
	while (fabric->ops->poll(fabric, DATA, &completion, 1) == 0)
		;
	return completion.status == MU_FABRIC_OK;
}

static void *stream_run(void *arg)
{
	struct stream *stream = arg;
	uint64_t words[520];
	/* Bytes come from where words are not aligned. */
	const uint8_t *src = (const uint8_t *)words + stream->in_bytes;

	while (!atomic_load(&stream->stop) && !stream->failed) {
		stream->turns++;
		for (int i = 0; i < 520; i++)
			words[i] = stream->in_bytes ? (stream->turns & 0xff) * 0x0101010101010101
						    : stream->turns;
		stream->failed = !stream_write(stream, stream->first, src, stream->first_len) ||
				 !stream_write(stream, stream->second, src, stream->second_len);
	}
	return NULL;
}

static void f6_aligned_words_are_never_torn(void **state)
{
	struct group *group = fabric_under_test->concurrent ? two_replicas() : NULL;
	struct stream stream = {
		.first = 3, .first_len = 4090, .second = 8192, .second_len = 1, .in_bytes = true};
	struct link reader;
	pthread_t thread;
	uint64_t words[510];
	const volatile uint64_t *local;

	(void)state;
	if (group == NULL)
		skip();
	group_open(group, 3);
	reader = link_up(group, 3, DATA, 2);
	local = group->replica[2]->ops->local(group->replica[2], LOG);
	stream.link = link_up(group, 1, DATA, 2);
	assert_int_equal(pthread_create(&thread, NULL, stream_run, &stream), 0);
	for (int round = 0; round < (int)group_rounds(3000); round++) {
		assert_int_equal(link_read(&reader, LOG, 8, words, sizeof(words)), MU_FABRIC_OK);
		for (int i = 0; i < 510; i++) {
			uint64_t here = __atomic_load_n(&local[i + 1], __ATOMIC_RELAXED);

			assert_int_equal(words[i], (words[i] & 0xff) * 0x0101010101010101);
			assert_int_equal(here, (here & 0xff) * 0x0101010101010101);
		}
	}
	atomic_store(&stream.stop, true);
	pthread_join(thread, NULL);
	assert_false(stream.failed);
	assert_in_range(stream.turns, 1, UINT64_MAX);
	group_free(group);
}

static void f2_writes_of_a_connection_show_in_order(void **state)
{
	struct group *group = fabric_under_test->concurrent ? two_replicas() : NULL;
	struct stream stream = {.first = 64, .first_len = 64, .second = 4096, .second_len = 8};
	struct link reader;
	pthread_t thread;
	uint64_t second = 0, last = 0, first[8], since_ns = clock_ns();

	(void)state;
	if (group == NULL)
		skip();
	group_open(group, 3);
	reader = link_up(group, 3, DATA, 2);
	stream.link = link_up(group, 1, DATA, 2);
	assert_int_equal(pthread_create(&thread, NULL, stream_run, &stream), 0);
	for (unsigned changes = 0; changes < group_rounds(5000); changes += second != last) {
		last = second;
		/* Behind a turn that shows in `second`, `first` is of that turn or a later one. */
		assert_int_equal(link_read(&reader, LOG, 4096, &second, 8), MU_FABRIC_OK);
		assert_int_equal(link_read(&reader, LOG, 64, first, 64), MU_FABRIC_OK);
		for (int i = 0; i < 8; i++)
			assert_in_range(first[i], second, UINT64_MAX);
		if (clock_ns() - since_ns > DEADLINE_NS)
			fail_msg("the writer makes no progress");
	}
	atomic_store(&stream.stop, true);
	pthread_join(thread, NULL);
	assert_false(stream.failed);
	group_free(group);
}

static void f7_a_stopped_target_holds_nothing_up(void **state)
{
	struct group *group;
	struct link link;
	uint64_t word = 5, start_ns;
	pid_t child;

	(void)state;
	if (!group_may_fork())
		skip();
	group = group_new();
	child = group_fork_target(group, MINE);
	group_open(group, 1);
	link = link_up(group, 1, DATA, 2);
	kill(child, SIGSTOP);
	assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
	start_ns = clock_ns();
	/* Whether it gets through is the fabric's affair; that it ends is not. */
	link_write(&link, LOG, 0, &word, 8, MINE);
	assert_in_range(clock_ns() - start_ns, 0, 5 * group_op_timeout_ns());
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	group_free(group);
}

const struct CMUnitTest order_tests[] = {
	cmocka_unit_test(f1_operations_execute_and_complete_in_posting_order),
	cmocka_unit_test(f1_connections_are_independent),
	cmocka_unit_test(f1_a_full_queue_refuses_and_loses_nothing),
	cmocka_unit_test(f2_writes_of_a_connection_show_in_order),
	cmocka_unit_test(f5_writes_of_all_sizes_land_exactly),
	cmocka_unit_test(f5_slots_take_lines_and_parts_of_lines),
	cmocka_unit_test(f5_a_replica_is_a_peer_of_itself),
	cmocka_unit_test(f6_aligned_words_are_never_torn),
	cmocka_unit_test(f7_a_stopped_target_holds_nothing_up),
	{0},
};
