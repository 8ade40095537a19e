/* shm_files.c - see the header. */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm_files.h"

struct memory_name shm_log_name(unsigned id)
{
	return memory_file_name(id, "log");
}

struct memory_name shm_patch_name(unsigned id, uint64_t patch)
{
	char suffix[32];

	snprintf(suffix, sizeof(suffix), "log.%" PRIu64, patch);
	return memory_file_name(id, suffix);
}

static bool is_patch_in_use(const struct shm_header *in_use, unsigned id, const char *name)
{
	const _Atomic uint64_t *table;

	if (in_use == NULL)
		return false;
	table = shm_patch_table(in_use, atomic_load(&in_use->generation));
	for (unsigned i = 0; i < SHM_SEGMENTS_MAX; i++) {
		uint64_t patch = atomic_load(&table[i]);

		if (patch != 0 && strcmp(name, shm_patch_name(id, patch).text) == 0)
			return true;
	}
	return false;
}

void shm_clear_leftovers(const struct memory_directory *dir, unsigned id,
			 const struct shm_header *in_use)
{
	struct memory_name patches = memory_file_name(id, "log.");
	struct memory_name half_built = memory_main_new_name(id);
	struct dirent *entry;
	/* A description of its own: reading moves the position of the directory. */
	int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd >= 0 ? fdopendir(fd) : NULL;

	if (list == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(list)) != NULL) {
		const char *name = entry->d_name;
		bool is_patch = strncmp(name, patches.text, strlen(patches.text)) == 0;

		if ((is_patch && !is_patch_in_use(in_use, id, name)) ||
		    strcmp(name, half_built.text) == 0)
			unlinkat(dir->fd, name, 0);
	}
	closedir(list);
}
