/* place.c - see the header. */
#include "config.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conformance.h"
#include "place.h"

unsigned place_files(const char *directory, const char *prefix, int (*each)(const char *))
{
	DIR *list = opendir(directory);
	struct dirent *entry;
	unsigned count = 0;

	assert_non_null(list);
	while ((entry = readdir(list)) != NULL) {
		char path[512];

		if (entry->d_name[0] == '.' || strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		count++;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		if (each != NULL)
			assert_int_equal(each(path), 0);
	}
	closedir(list);
	return count;
}

static int delete_directory(const char *directory)
{
	place_files(directory, "", unlink);
	return rmdir(directory);
}

/* All groups' directories are in one, so that nothing is left behind by a test that fails. */
static char run_directory[64];

/* CONFORMANCE_DIR says otherwise. */
static const char *memory_place(void)
{
	const char *given = getenv("CONFORMANCE_DIR");

	if (given != NULL)
		return given;
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static void delete_run_directory(void)
{
	place_files(run_directory, "", delete_directory);
	rmdir(run_directory);
}

char *place_new(void)
{
	char *directory = malloc(128);

	assert_non_null(directory);
	if (run_directory[0] == '\0') {
		snprintf(run_directory, sizeof(run_directory), "%s/mu-conformance-XXXXXX",
			 memory_place());
		assert_non_null(mkdtemp(run_directory));
		atexit(delete_run_directory);
	}
	snprintf(directory, 128, "%s/group-XXXXXX", run_directory);
	assert_non_null(mkdtemp(directory));
	return directory;
}

void place_free(char *directory)
{
	assert_int_equal(delete_directory(directory), 0);
	free(directory);
}

void place_lose(const char *directory, unsigned id)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/replica-%u.mu", directory, id);
	assert_int_equal(unlink(path), 0);
}
