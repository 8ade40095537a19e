/* shm_fixture.c - the shm fabric in the suite, and what is to be said of it alone. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fabric/shm_layout.h"
#include "place.h"
#include "writer.h"

static void *shm_group_new(void)
{
	return place_new();
}

static void shm_group_free(void *place)
{
	place_free(place);
}

static int shm_open_replica(void *place, const struct mu_fabric_config *config,
			    struct mu_fabric **out, char *err, size_t err_bytes)
{
	return mu_fabric_shm_open(out, config, place, err, err_bytes);
}

static struct shm_header *map_header(const char *directory, unsigned id)
{
	char path[512];
	void *header;
	int fd;

	snprintf(path, sizeof(path), "%s/replica-%u.mu", directory, id);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	header = mmap(NULL, SHM_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(header, MAP_FAILED);
	close(fd);
	return header;
}

static bool shm_is_writing(void *place, unsigned target, unsigned writer)
{
	struct shm_header *header = map_header(place, target);
	bool writing =
		shm_busy_generation(header->busy[writer][DATA].writing) == header->generation &&
		SHM_BALLOT_HOLDER(header->word) == writer;

	munmap(header, SHM_HEADER_BYTES);
	return writing;
}

static void shm_lose_memory(void *place, unsigned id)
{
	place_lose(place, id);
}

#ifdef MU_FAULTS
extern int shm_fault;

static void shm_break_revocation(enum conformance_fault fault)
{
	shm_fault = fault;
}
#endif

const struct conformance_fabric shm_fixture = {
	.name = "shm",
	.group_new = shm_group_new,
	.group_free = shm_group_free,
	.open = shm_open_replica,
	.lose_memory = shm_lose_memory,
	.concurrent = true,
	.is_writing = shm_is_writing,
#ifdef MU_FAULTS
	.break_revocation = shm_break_revocation,
#endif
};

/* -------------------------------------------------------- tests of shm alone */

#define MINE BALLOT(1, 1)

static void assert_opens(struct group *group, unsigned id, unsigned formats)
{
	group_open(group, id);
	assert_int_equal(group->formats[id], formats);
}

static int is_private_to_owner(const char *path)
{
	struct stat st;

	return stat(path, &st) != 0 || (st.st_mode & 0777) != 0600;
}

static void shm_files_are_the_owners_alone(void **state)
{
	struct group *group = group_new();

	(void)state;
	group_open(group, 1);
	assert_int_equal(place_files(group->place, "replica-1.", is_private_to_owner), 3);
	group_free(group);
}

static void shm_memory_of_another_boot_is_lost(void **state)
{
	struct group *group = group_new();
	struct shm_header *header;

	(void)state;
	assert_opens(group, 1, 1);
	group_open(group, 2);
	group_close(group, 1);
	header = map_header(group->place, 1);
	header->identity.boot_id[0] ^= 1;
	munmap(header, SHM_HEADER_BYTES);
	/* Until it is opened again, nobody reaches what is not there any more. */
	group->replica[2]->ops->connect(group->replica[2], DATA, 1);
	assert_int_equal(group->replica[2]->ops->state(group->replica[2], DATA, 1),
			 MU_CONNECTION_DOWN);
	assert_opens(group, 1, 2);
	link_up(group, 2, DATA, 1);
	group_free(group);
}

static void shm_memory_of_another_version_is_refused(void **state)
{
	struct group *group = group_new();
	struct mu_fabric_config config = group_config(group, 1);
	struct mu_fabric *fabric;
	struct shm_header *header;
	char err[256];

	(void)state;
	group_open(group, 1);
	group_close(group, 1);
	header = map_header(group->place, 1);
	header->identity.version++;
	assert_int_not_equal(mu_fabric_shm_open(&fabric, &config, group->place, err, sizeof(err)),
			     0);
	assert_non_null(strstr(err, "replica-1.mu"));
	assert_non_null(strstr(err, "version"));
	header->identity.version--;
	munmap(header, SHM_HEADER_BYTES);
	assert_opens(group, 1, 1);
	group_free(group);
}

static void shm_a_missing_log_is_lost_memory(void **state)
{
	struct group *group = group_new();
	struct link link;
	uint64_t word = 1;

	(void)state;
	assert_opens(group, 1, 1);
	group_open(group, 2);
	link = link_up(group, 2, DATA, 1);
	group_close(group, 1);
	assert_int_equal(place_files(group->place, "replica-1.log", unlink), 1);
	assert_opens(group, 1, 2);
	assert_int_equal(link_read(&link, LOG, 0, &word, 8), MU_FABRIC_UNREACHABLE);
	link_reconnect(&link);
	assert_int_equal(link_read(&link, LOG, 0, &word, 8), MU_FABRIC_OK);
	group_free(group);
}

static void write_file(const char *directory, const char *name)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs("left over", file) >= 0);
	fclose(file);
}

/* A process may die at any moment: while it formats, or replaces the log. */
static void shm_what_was_left_half_done_is_cleared_away(void **state)
{
	struct group *group = group_new();

	(void)state;
	write_file(group->place, "replica-1.mu.new");
	write_file(group->place, "replica-1.log");
	write_file(group->place, "replica-1.log.1");
	assert_opens(group, 1, 1);
	group_close(group, 1);
	write_file(group->place, "replica-1.log.2");
	write_file(group->place, "replica-1.mu.new");
	write_file(group->place, "replica-11.log.7");
	assert_opens(group, 1, 1);
	assert_int_equal(place_files(group->place, "replica-1.", NULL), 3);
	assert_int_equal(place_files(group->place, "replica-11.", NULL), 1);
	group_free(group);
}

static void shm_a_foreign_file_is_refused(void **state)
{
	struct group *group = group_new();
	struct mu_fabric_config config = group_config(group, 1);
	struct mu_fabric *fabric;
	char err[256];

	(void)state;
	write_file(group->place, "replica-1.mu");
	assert_int_not_equal(mu_fabric_shm_open(&fabric, &config, group->place, err, sizeof(err)),
			     0);
	assert_non_null(strstr(err, "replica-1.mu"));
	assert_int_equal(place_files(group->place, "replica-1.mu", NULL), 1);
	assert_int_not_equal(mu_fabric_shm_open(&fabric, &config, "/nowhere", err, sizeof(err)), 0);
	assert_non_null(strstr(err, "/nowhere"));
	group_free(group);
}

/* A limit on the size of files stands for a full disk. */
static void shm_no_room_is_an_error_and_leaves_nothing(void **state)
{
	struct group *group = group_new();
	struct mu_fabric_config config = group_config(group, 1);
	struct rlimit limit, small;
	struct mu_fabric *fabric;
	char err[256];
	int result;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = LOG_BYTES / 2;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	result = mu_fabric_shm_open(&fabric, &config, group->place, err, sizeof(err));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_not_equal(result, 0);
	assert_non_null(strstr(err, "no room"));
	assert_int_equal(group->formats[1], 0);
	assert_int_equal(place_files(group->place, "replica-1.", NULL), 1); /* the lock */
	assert_opens(group, 1, 1);
	group_free(group);
}

/* Let a segment be replaced, as when a writer does not leave it. */
static void replace_segment(struct group *group, unsigned id, unsigned segment)
{
	struct mu_fabric *fabric = group->replica[id];
	struct shm_header *header = map_header(group->place, id);
	uint64_t generation = header->generation;

	/* Our own process: alive, whatever the locks say. */
	header->busy[id][DATA].writing = shm_busy_word(generation, segment);
	assert_int_equal(fabric->ops->revoke_write(fabric), 0);
	assert_int_equal(header->generation, generation + 1);
	munmap(header, SHM_HEADER_BYTES);
}

static void shm_replaced_segments_are_resumed(void **state)
{
	/* The same again, the last one, and what is left of a table two generations old. */
	static const unsigned segments[] = {3, 5, 3, 0, 15, 15, 7, 3};
	struct group *group = group_new();
	struct link link;
	uint8_t *written = malloc(LOG_BYTES), *seen = malloc(LOG_BYTES);

	(void)state;
	group_open(group, 2);
	group_open(group, 1);
	link = link_up(group, 1, DATA, 2);
	for (unsigned round = 0; round < sizeof(segments) / sizeof(segments[0]); round++) {
		struct mu_fabric *target = group->replica[2];
		uint64_t ballot = BALLOT(round + 1, 1);

		assert_int_equal(target->ops->grant_write(target, 1, ballot), 0);
		link_reconnect(&link);
		fill(written, LOG_BYTES, round);
		assert_int_equal(link_write(&link, LOG, 0, written, LOG_BYTES, ballot),
				 MU_FABRIC_OK);
		replace_segment(group, 2, segments[round]);
		assert_memory_equal(target->ops->local(target, LOG), written, LOG_BYTES);
		assert_int_equal(link_read(&link, LOG, 8, seen, 8), MU_FABRIC_UNREACHABLE);
		link_reconnect(&link);
		assert_int_equal(link_read(&link, LOG, 0, seen, LOG_BYTES), MU_FABRIC_OK);
		assert_memory_equal(seen, written, LOG_BYTES);
		group_close(group, 2);
		assert_opens(group, 2, 1);
		assert_memory_equal(group->replica[2]->ops->local(group->replica[2], LOG), written,
				    LOG_BYTES);
	}
	/* Of every segment that was ever replaced, the latest patch. */
	assert_int_equal(place_files(group->place, "replica-2.log.", NULL), 5);
	free(written);
	free(seen);
	group_free(group);
}

/* The last holder, and one whose revocation was never finished. */
static void shm_all_who_write_are_shut_out(void **state)
{
	struct group *group = group_new();
	struct shm_header *header;

	(void)state;
	group_open(group, 2);
	header = map_header(group->place, 2);
	header->busy[2][DATA].writing = shm_busy_word(header->generation, 1);
	header->busy[2][BACKGROUND].writing = shm_busy_word(header->generation, 9);
	assert_int_equal(group->replica[2]->ops->revoke_write(group->replica[2]), 0);
	assert_int_equal(header->generation, SHM_FIRST_GENERATION + 1);
	for (unsigned i = 0; i < SHM_SEGMENTS_MAX; i++)
		assert_int_equal(header->patch[header->generation % 2][i] != 0, i == 1 || i == 9);
	munmap(header, SHM_HEADER_BYTES);
	group_free(group);
}

/* As when a process dies before it publishes the patches that it has made. */
static void shm_unpublished_patches_mean_nothing(void **state)
{
	struct group *group = group_new();
	struct shm_header *header;
	char *memory;

	(void)state;
	group_open(group, 2);
	replace_segment(group, 2, 1);
	memory = group->replica[2]->ops->local(group->replica[2], LOG);
	memory[300 << 10] = 'x';
	group_close(group, 2);
	header = map_header(group->place, 2);
	header->last_patch = 2;
	header->patch[(header->generation + 1) % 2][1] = 2;
	munmap(header, SHM_HEADER_BYTES);
	write_file(group->place, "replica-2.log.2");
	assert_opens(group, 2, 1);
	assert_int_equal(place_files(group->place, "replica-2.log.", NULL), 1);
	memory = group->replica[2]->ops->local(group->replica[2], LOG);
	assert_int_equal(memory[300 << 10], 'x');
	replace_segment(group, 2, 2);
	group_close(group, 2);
	assert_opens(group, 2, 1);
	memory = group->replica[2]->ops->local(group->replica[2], LOG);
	assert_int_equal(memory[300 << 10], 'x');
	group_free(group);
}

static void shm_a_missing_patch_is_lost_memory(void **state)
{
	struct group *group = group_new();

	(void)state;
	assert_opens(group, 2, 1);
	replace_segment(group, 2, 1);
	group_close(group, 2);
	assert_int_equal(place_files(group->place, "replica-2.log.", unlink), 1);
	assert_opens(group, 2, 2);
	group_free(group);
}

/* The process dies between taking the word and waiting for the writer to leave. */
static void shm_a_revocation_cut_short_is_made_good(void **state)
{
	struct group *group = group_new();
	struct shm_header *header;
	uint64_t generation;

	(void)state;
	group_open(group, 2);
	group_open(group, 1);
	assert_int_equal(group->replica[2]->ops->grant_write(group->replica[2], 1, MINE), 0);
	group_close(group, 2);
	header = map_header(group->place, 2);
	generation = header->generation;
	header->busy[1][DATA].writing = shm_busy_word(generation, 0); /* replica 1 runs */
	header->word = 0;
	group_open(group, 2);
	assert_int_equal(group->replica[2]->ops->grant_write(group->replica[2], 3, BALLOT(2, 3)),
			 0);
	assert_int_equal(header->generation, generation + 1);
	assert_int_equal(header->word, BALLOT(2, 3));
	munmap(header, SHM_HEADER_BYTES);
	group_free(group);
}

/* The dead cannot write: no need to move the memory away from them. */
static void shm_a_dead_writer_is_just_forgotten(void **state)
{
	struct group *group = group_new();
	struct shm_header *header;
	uint64_t generation;

	(void)state;
	group_open(group, 2);
	group_open(group, 1);
	assert_int_equal(group->replica[2]->ops->grant_write(group->replica[2], 1, MINE), 0);
	group_close(group, 1);
	header = map_header(group->place, 2);
	generation = header->generation;
	header->busy[1][DATA].writing = shm_busy_word(generation, 0);
	assert_int_equal(group->replica[2]->ops->revoke_write(group->replica[2]), 0);
	assert_int_equal(header->generation, generation);
	assert_int_equal(header->busy[1][DATA].writing, 0);
	munmap(header, SHM_HEADER_BYTES);
	group_free(group);
}

/* Nor from one whose memory has been taken away already, for as long as it may be stopped. */
static void shm_memory_is_moved_away_from_a_writer_once(void **state)
{
	struct group *group = group_new();
	struct shm_header *header;
	uint64_t generation;

	(void)state;
	group_open(group, 2);
	replace_segment(group, 2, 4);
	header = map_header(group->place, 2);
	generation = header->generation;
	assert_int_equal(header->busy[2][DATA].writing, shm_busy_word(generation - 1, 4));
	assert_int_equal(group->replica[2]->ops->revoke_write(group->replica[2]), 0);
	assert_int_equal(header->generation, generation);
	munmap(header, SHM_HEADER_BYTES);
	group_free(group);
}

const struct CMUnitTest shm_tests[] = {
	cmocka_unit_test(shm_files_are_the_owners_alone),
	cmocka_unit_test(shm_memory_of_another_boot_is_lost),
	cmocka_unit_test(shm_memory_of_another_version_is_refused),
	cmocka_unit_test(shm_a_missing_log_is_lost_memory),
	cmocka_unit_test(shm_what_was_left_half_done_is_cleared_away),
	cmocka_unit_test(shm_a_foreign_file_is_refused),
	cmocka_unit_test(shm_no_room_is_an_error_and_leaves_nothing),
	cmocka_unit_test(shm_replaced_segments_are_resumed),
	cmocka_unit_test(shm_all_who_write_are_shut_out),
	cmocka_unit_test(shm_unpublished_patches_mean_nothing),
	cmocka_unit_test(shm_a_missing_patch_is_lost_memory),
	cmocka_unit_test(shm_a_revocation_cut_short_is_made_good),
	cmocka_unit_test(shm_a_dead_writer_is_just_forgotten),
	cmocka_unit_test(shm_memory_is_moved_away_from_a_writer_once),
	{0},
};
