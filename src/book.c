/*
 * book.c - see book.h.
 *
 * The file is text, a line a fact:
 *
 *   muproxy-members 1           the format's version
 *   group 16 hexadecimal digits
 *   configuration 16 hexadecimal digits
 *   replica ID STAMP HOST:PORT  one for each
 *   end
 */
#include "config.h"

#include "book.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FORMAT_VERSION 1

uint32_t book_known(const struct book *book)
{
	uint32_t mask = 0;

	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++)
		if (book->place[id].address[0])
			mask |= 1U << id;
	return mask;
}

bool book_take_place(struct book *book, unsigned id, const struct book_place *place)
{
	struct book_place *mine = &book->place[id];

	if (id < 1 || id > MU_MAX_REPLICAS || !place->address[0] ||
	    (mine->address[0] && place->stamp <= mine->stamp))
		return false;
	*mine = (struct book_place){.stamp = place->stamp}; /* what is behind the NUL is nobody's */
	snprintf(mine->address, sizeof(mine->address), "%s", place->address);
	return true;
}

bool book_take_configuration(struct book *book, uint64_t configuration)
{
	if (configuration <= book->configuration)
		return false;
	book->configuration = configuration;
	return true;
}

bool book_is_removed(const struct book *book, unsigned id)
{
	return mu_configuration_removed(book->configuration) >> id & 1;
}

/* ------------------------------------------------------------------ reading */

static bool read_version(FILE *file, const char *path, char *err, size_t err_bytes)
{
	unsigned version;

	if (fscanf(file, "muproxy-members %u\n", &version) != 1) {
		snprintf(err, err_bytes, "%s is no list of a group's members", path);
		return false;
	}
	if (version != FORMAT_VERSION) {
		snprintf(err, err_bytes,
			 "%s is of another version of its format: %u there, %u here", path, version,
			 FORMAT_VERSION);
		return false;
	}
	return true;
}

/* The end has to be there: a file that was cut is none. */
static bool read_places(FILE *file, struct book *book)
{
	struct book_place place;
	unsigned id;

	while (fscanf(file, "replica %u %" SCNu64 " %255s\n", &id, &place.stamp, place.address) ==
	       3)
		if (!book_take_place(book, id, &place))
			return false;
	return fscanf(file, "en%1[d]", place.address) == 1;
}

static bool read_book(FILE *file, struct book *book, const char *path, uint64_t group_id, char *err,
		      size_t err_bytes)
{
	uint64_t group;

	if (!read_version(file, path, err, err_bytes))
		return false;
	if (fscanf(file, "group %" SCNx64 "\nconfiguration %" SCNx64 "\n", &group,
		   &book->configuration) != 2 ||
	    !read_places(file, book)) {
		snprintf(err, err_bytes, "%s is damaged", path);
		return false;
	}
	if (group != group_id) {
		snprintf(err, err_bytes, "%s is of another group, or of another key", path);
		return false;
	}
	return true;
}

int book_load(struct book *book, const char *path, uint64_t group_id, char *err, size_t err_bytes)
{
	FILE *file = fopen(path, "re");
	bool is_whole;

	memset(book, 0, sizeof(*book));
	if (!file && errno == ENOENT)
		return 0;
	if (!file) {
		snprintf(err, err_bytes, "%s: %s", path, strerror(errno));
		return -1;
	}
	is_whole = read_book(file, book, path, group_id, err, err_bytes);
	fclose(file);
	return is_whole ? 1 : -1;
}

/* ------------------------------------------------------------------ writing */

static bool write_book(FILE *file, const struct book *book, uint64_t group_id)
{
	fprintf(file, "muproxy-members %u\ngroup %016" PRIx64 "\nconfiguration %016" PRIx64 "\n",
		FORMAT_VERSION, group_id, book->configuration);
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++)
		if (book->place[id].address[0])
			fprintf(file, "replica %u %" PRIu64 " %s\n", id, book->place[id].stamp,
				book->place[id].address);
	fprintf(file, "end\n");
	return fflush(file) == 0 && !ferror(file) && fsync(fileno(file)) == 0;
}

/* The new name is on disk once its directory is. */
static bool sync_directory(const char *path)
{
	char copy[PATH_MAX];
	int fd;
	bool done;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	done = fsync(fd) == 0;
	close(fd);
	return done;
}

bool book_store(const struct book *book, const char *path, uint64_t group_id, char *err,
		size_t err_bytes)
{
	char fresh[PATH_MAX];
	FILE *file;
	bool done;

	snprintf(fresh, sizeof(fresh), "%s.new", path);
	file = fopen(fresh, "we");
	done = file && write_book(file, book, group_id);
	if (file && fclose(file) != 0)
		done = false;
	if (done && rename(fresh, path) == 0 && sync_directory(path))
		return true;
	snprintf(err, err_bytes, "%s: %s", path, strerror(errno));
	return false;
}
