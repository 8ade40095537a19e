/* shm_files.c - files, mappings and locks of the shm fabric; see the header. */
#include "config.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "shm_files.h"

/* Only to those who run the group: its memory holds the clients' data. */
#define FILE_MODE 0600

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_DIGITS 36

int shm_error_set(const struct shm_error *error, const char *format, ...)
{
	va_list args;

	if (error->text == NULL || error->bytes == 0)
		return -1;
	va_start(args, format);
	vsnprintf(error->text, error->bytes, format, args);
	va_end(args);
	return -1;
}

/* Filled up with zero bytes: it is compared as a whole. */
static int read_boot_id(char boot_id[SHM_BOOT_ID_BYTES], const struct shm_error *error)
{
	FILE *file = fopen(BOOT_ID_FILE, "re");
	bool got;

	if (file == NULL)
		return shm_error_set(error, "%s: %s", BOOT_ID_FILE, strerror(errno));
	memset(boot_id, 0, SHM_BOOT_ID_BYTES);
	got = fread(boot_id, 1, BOOT_ID_DIGITS, file) == BOOT_ID_DIGITS;
	fclose(file);
	return got ? 0 : shm_error_set(error, "%s: is not what it should be", BOOT_ID_FILE);
}

int shm_directory_open(struct shm_directory *dir, const char *path, const struct shm_error *error)
{
	struct statfs fs;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (read_boot_id(dir->boot_id, error) != 0)
		return -1;
	dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->fd < 0)
		return shm_error_set(error, "%s: %s", path, strerror(errno));
	dir->path = strdup(path);
	if (dir->path == NULL || fstatfs(dir->fd, &fs) != 0) {
		shm_error_set(error, "%s: %s", path, strerror(errno));
		shm_directory_close(dir);
		return -1;
	}
	/* hugetlbfs gives its page size as its block size. */
	dir->unit = (size_t)fs.f_bsize > page ? (size_t)fs.f_bsize : page;
	return 0;
}

void shm_directory_close(struct shm_directory *dir)
{
	free(dir->path);
	dir->path = NULL;
	close(dir->fd);
	dir->fd = -1;
}

size_t shm_round_up(const struct shm_directory *dir, size_t bytes)
{
	return (bytes + dir->unit - 1) / dir->unit * dir->unit;
}

static struct shm_name file_name(unsigned id, const char *suffix)
{
	struct shm_name name;
	int length = snprintf(name.text, sizeof(name.text), "replica-%u.%s", id, suffix);

	assert(length > 0 && (size_t)length < sizeof(name.text));
	return name;
}

struct shm_name shm_main_name(unsigned id)
{
	return file_name(id, "mu");
}

struct shm_name shm_main_new_name(unsigned id)
{
	return file_name(id, "mu.new");
}

struct shm_name shm_log_name(unsigned id)
{
	return file_name(id, "log");
}

struct shm_name shm_patch_name(unsigned id, uint64_t patch)
{
	char suffix[32];

	snprintf(suffix, sizeof(suffix), "log.%" PRIu64, patch);
	return file_name(id, suffix);
}

static int map_file(int fd, struct shm_map *map)
{
	struct stat st;
	void *base;

	if (fstat(fd, &st) != 0)
		return -1;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0) {
		errno = EINVAL;
		return -1;
	}
	base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -1;
	*map = (struct shm_map){base, (size_t)st.st_size, st.st_dev, st.st_ino};
	return 0;
}

int shm_file_create(const struct shm_directory *dir, const char *name, size_t bytes,
		    struct shm_map *map, const struct shm_error *error)
{
	int reason = 0;
	int fd;

	assert(bytes > 0 && bytes % dir->unit == 0);
	/* Never truncate: a peer may have the old file mapped, and would fault. */
	if (unlinkat(dir->fd, name, 0) != 0 && errno != ENOENT)
		return shm_error_set(error, "%s/%s: %s", dir->path, name, strerror(errno));
	fd = openat(dir->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
	if (fd < 0)
		return shm_error_set(error, "%s/%s: %s", dir->path, name, strerror(errno));
	do {
		reason = posix_fallocate(fd, 0, (off_t)bytes);
	} while (reason == EINTR);
	if (reason == 0 && map_file(fd, map) != 0)
		reason = errno;
	close(fd);
	if (reason == 0)
		return 0;
	unlinkat(dir->fd, name, 0);
	return shm_error_set(error, "%s/%s: no room for %zu bytes: %s", dir->path, name, bytes,
			     strerror(reason));
}

enum shm_found shm_file_map(const struct shm_directory *dir, const char *name, struct shm_map *map,
			    const struct shm_error *error)
{
	int fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	int reason = 0;

	if (fd < 0 && errno == ENOENT)
		return SHM_ABSENT;
	if (fd < 0 || map_file(fd, map) != 0)
		reason = errno;
	if (fd >= 0)
		close(fd);
	if (reason == 0)
		return SHM_FOUND;
	shm_error_set(error, "%s/%s: %s", dir->path, name, strerror(reason));
	return SHM_FAILED;
}

void shm_unmap(struct shm_map *map)
{
	if (map->base != NULL)
		munmap(map->base, map->bytes);
	*map = (struct shm_map){0};
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

void shm_clear_leftovers(const struct shm_directory *dir, unsigned id,
			 const struct shm_header *in_use)
{
	struct shm_name patches = file_name(id, "log.");
	struct shm_name half_built = shm_main_new_name(id);
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

/* Whether fd is still what that name leads to. */
static bool is_linked_as(const struct shm_directory *dir, const char *name, int fd)
{
	struct stat by_fd, by_name;

	return fstat(fd, &by_fd) == 0 && fstatat(dir->fd, name, &by_name, 0) == 0 &&
	       by_fd.st_dev == by_name.st_dev && by_fd.st_ino == by_name.st_ino;
}

int shm_lock(const struct shm_directory *dir, unsigned id, const struct shm_error *error)
{
	struct shm_name name = file_name(id, "lock");
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	/* Again if the file was deleted between opening and locking it. */
	for (int attempt = 0; attempt < 10; attempt++) {
		int fd = openat(dir->fd, name.text, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);

		if (fd < 0)
			return shm_error_set(error, "%s/%s: %s", dir->path, name.text,
					     strerror(errno));
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
			if (is_linked_as(dir, name.text, fd))
				return fd;
		} else if (errno == EAGAIN || errno == EACCES) {
			close(fd);
			return shm_error_set(error, "%s/%s: replica %u is already running",
					     dir->path, name.text, id);
		} else {
			shm_error_set(error, "%s/%s: %s", dir->path, name.text, strerror(errno));
			close(fd);
			return -1;
		}
		close(fd);
	}
	return shm_error_set(error, "%s/%s: is deleted by somebody again and again", dir->path,
			     name.text);
}

bool shm_lock_is_free(const struct shm_directory *dir, unsigned id)
{
	struct shm_name name = file_name(id, "lock");
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = openat(dir->fd, name.text, O_RDWR | O_CLOEXEC);
	bool is_free;

	if (fd < 0)
		return false;
	is_free = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
	close(fd);
	return is_free;
}
