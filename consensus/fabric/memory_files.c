/* memory_files.c - files, mappings and locks; see the header. */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "memory_files.h"

/* Only to those who run the group: its memory holds the clients' data. */
#define FILE_MODE 0600

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_DIGITS 36

int memory_error_set(const struct memory_error *error, const char *format, ...)
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
static int read_boot_id(char boot_id[MEMORY_BOOT_ID_BYTES], const struct memory_error *error)
{
	FILE *file = fopen(BOOT_ID_FILE, "re");
	bool got;

	if (file == NULL)
		return memory_error_set(error, "%s: %s", BOOT_ID_FILE, strerror(errno));
	memset(boot_id, 0, MEMORY_BOOT_ID_BYTES);
	got = fread(boot_id, 1, BOOT_ID_DIGITS, file) == BOOT_ID_DIGITS;
	fclose(file);
	return got ? 0 : memory_error_set(error, "%s: is not what it should be", BOOT_ID_FILE);
}

int memory_directory_open(struct memory_directory *dir, const char *path,
			  const struct memory_error *error)
{
	struct statfs fs;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (read_boot_id(dir->boot_id, error) != 0)
		return -1;
	dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->fd < 0)
		return memory_error_set(error, "%s: %s", path, strerror(errno));
	dir->path = strdup(path);
	if (dir->path == NULL || fstatfs(dir->fd, &fs) != 0) {
		memory_error_set(error, "%s: %s", path, strerror(errno));
		memory_directory_close(dir);
		return -1;
	}
	/* hugetlbfs gives its page size as its block size. */
	dir->unit = (size_t)fs.f_bsize > page ? (size_t)fs.f_bsize : page;
	return 0;
}

void memory_directory_close(struct memory_directory *dir)
{
	free(dir->path);
	dir->path = NULL;
	close(dir->fd);
	dir->fd = -1;
}

size_t memory_round_up(const struct memory_directory *dir, size_t bytes)
{
	return (bytes + dir->unit - 1) / dir->unit * dir->unit;
}

struct memory_name memory_file_name(unsigned id, const char *suffix)
{
	struct memory_name name;
	int length = snprintf(name.text, sizeof(name.text), "replica-%u.%s", id, suffix);

	assert(length > 0 && (size_t)length < sizeof(name.text));
	return name;
}

struct memory_name memory_main_name(unsigned id)
{
	return memory_file_name(id, "mu");
}

struct memory_name memory_main_new_name(unsigned id)
{
	return memory_file_name(id, "mu.new");
}

static int map_file(int fd, struct memory_map *map)
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
	*map = (struct memory_map){base, (size_t)st.st_size, st.st_dev, st.st_ino};
	return 0;
}

/*
 * A tmpfs gives huge pages, if it is to on demand, to mappings that ask for them
 * and touch the memory first. What that came to, the second call finds out.
 */
static int take_memory(int fd, const struct memory_map *map)
{
	int reason;

#ifdef MADV_POPULATE_WRITE
	if (madvise(map->base, map->bytes, MADV_HUGEPAGE) == 0)
		(void)!madvise(map->base, map->bytes, MADV_POPULATE_WRITE);
#endif
	do {
		reason = posix_fallocate(fd, 0, (off_t)map->bytes);
	} while (reason == EINTR);
	return reason;
}

int memory_file_create(const struct memory_directory *dir, const char *name, size_t bytes,
		       struct memory_map *map, const struct memory_error *error)
{
	int reason = 0;
	int fd;

	assert(bytes > 0 && bytes % dir->unit == 0);
	/* Never truncate: a peer may have the old file mapped, and would fault. */
	if (unlinkat(dir->fd, name, 0) != 0 && errno != ENOENT)
		return memory_error_set(error, "%s/%s: %s", dir->path, name, strerror(errno));
	fd = openat(dir->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
	if (fd < 0)
		return memory_error_set(error, "%s/%s: %s", dir->path, name, strerror(errno));
	if (ftruncate(fd, (off_t)bytes) != 0 || map_file(fd, map) != 0)
		reason = errno;
	else
		reason = take_memory(fd, map);
	close(fd);
	if (reason == 0)
		return 0;
	memory_unmap(map);
	unlinkat(dir->fd, name, 0);
	return memory_error_set(error, "%s/%s: no room for %zu bytes: %s", dir->path, name, bytes,
				strerror(reason));
}

enum memory_found memory_file_map(const struct memory_directory *dir, const char *name,
				  struct memory_map *map, const struct memory_error *error)
{
	int fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	int reason = 0;

	if (fd < 0 && errno == ENOENT)
		return MEMORY_ABSENT;
	if (fd < 0 || map_file(fd, map) != 0)
		reason = errno;
	if (fd >= 0)
		close(fd);
	if (reason == 0)
		return MEMORY_FOUND;
	memory_error_set(error, "%s/%s: %s", dir->path, name, strerror(reason));
	return MEMORY_FAILED;
}

void memory_unmap(struct memory_map *map)
{
	if (map->base != NULL)
		munmap(map->base, map->bytes);
	*map = (struct memory_map){0};
}

/* Whether fd is still what that name leads to. */
static bool is_linked_as(const struct memory_directory *dir, const char *name, int fd)
{
	struct stat by_fd, by_name;

	return fstat(fd, &by_fd) == 0 && fstatat(dir->fd, name, &by_name, 0) == 0 &&
	       by_fd.st_dev == by_name.st_dev && by_fd.st_ino == by_name.st_ino;
}

int memory_lock(const struct memory_directory *dir, unsigned id, const struct memory_error *error)
{
	struct memory_name name = memory_file_name(id, "lock");
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	/* Again if the file was deleted between opening and locking it. */
	for (int attempt = 0; attempt < 10; attempt++) {
		int fd = openat(dir->fd, name.text, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);

		if (fd < 0)
			return memory_error_set(error, "%s/%s: %s", dir->path, name.text,
						strerror(errno));
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
			if (is_linked_as(dir, name.text, fd))
				return fd;
		} else if (errno == EAGAIN || errno == EACCES) {
			close(fd);
			return memory_error_set(error, "%s/%s: replica %u is already running",
						dir->path, name.text, id);
		} else {
			memory_error_set(error, "%s/%s: %s", dir->path, name.text, strerror(errno));
			close(fd);
			return -1;
		}
		close(fd);
	}
	return memory_error_set(error, "%s/%s: is deleted by somebody again and again", dir->path,
				name.text);
}

bool memory_lock_is_free(const struct memory_directory *dir, unsigned id)
{
	struct memory_name name = memory_file_name(id, "lock");
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = openat(dir->fd, name.text, O_RDWR | O_CLOEXEC);
	bool is_free;

	if (fd < 0)
		return false;
	is_free = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
	close(fd);
	return is_free;
}

/* ---------------------------------------------------------------- identity */

int memory_check_config(const struct mu_fabric_config *config, const struct memory_error *error)
{
	if (config->id < 1 || config->id >= MU_ID_SLOTS)
		return memory_error_set(error, "replica id %u is not in 1..%d", config->id,
					MU_MAX_REPLICAS);
	for (int i = 0; i < MU_REGIONS; i++)
		if (config->region_bytes[i] == 0)
			return memory_error_set(error, "region %d has no bytes", i);
	return 0;
}

int memory_identify(struct memory_identity *identity, const struct memory_identity *kind,
		    const struct memory_directory *dir, const struct mu_fabric_config *config,
		    const struct memory_error *error)
{
	*identity = *kind;
	identity->id = config->id;
	identity->group_id = config->group_id;
	for (int i = 0; i < MU_REGIONS; i++)
		identity->region_bytes[i] = config->region_bytes[i];
	while (identity->incarnation == 0)
		if (getrandom(&identity->incarnation, sizeof(identity->incarnation), 0) < 0 &&
		    errno != EINTR)
			return memory_error_set(error, "no random number: %s", strerror(errno));
	memcpy(identity->boot_id, dir->boot_id, sizeof(identity->boot_id));
	return 0;
}

enum memory_verdict memory_refuse(const struct memory_directory *dir, const char *name,
				  const char *why, const struct memory_error *error)
{
	memory_error_set(error, "%s/%s: %s", dir->path, name, why);
	return MEMORY_REFUSE;
}

enum memory_verdict memory_judge(const struct memory_map *main, size_t main_bytes,
				 const struct memory_identity *kind,
				 const struct memory_directory *dir,
				 const struct mu_fabric_config *config, unsigned id,
				 const struct memory_error *error)
{
	const struct memory_identity *identity = (const void *)main->base;
	struct memory_name name = memory_main_name(id);

	if (main->bytes < sizeof(*identity) || identity->magic != kind->magic)
		return memory_refuse(dir, name.text, "is not the memory of a replica", error);
	if (identity->group_id != config->group_id)
		return memory_refuse(dir, name.text, "belongs to another group", error);
	if (identity->id != id)
		return memory_refuse(dir, name.text, "belongs to another replica", error);
	if (memcmp(identity->boot_id, dir->boot_id, sizeof(identity->boot_id)) != 0)
		return MEMORY_LOST;
	if (identity->version != kind->version)
		return memory_refuse(dir, name.text, "was written by another version", error);
	if (main->bytes != main_bytes)
		return memory_refuse(dir, name.text, "is of another size than configured", error);
	for (int i = 0; i < MU_REGIONS; i++)
		if (identity->region_bytes[i] != config->region_bytes[i])
			return memory_refuse(dir, name.text, "is of another size than configured",
					     error);
	return MEMORY_RESUME;
}
