/* bench_verbs.c - see the header. */
#include "config.h"

#include "bench_verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench_peering.h"
#include "mu_verbs.h"

#define PORT 7460

int bench_verbs_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		     const char *directory, char *err, size_t err_bytes)
{
	struct mu_verbs_options options;
	/* Members come and go here; only what is wrong is worth a line. */
	struct mu_peering *peering =
		bench_peering_open(config, directory, PORT, MP_LOG_WARN, err, err_bytes);

	if (!peering)
		return -1;
	mu_verbs_options_init(&options);
	if (mu_fabric_verbs_open(out, config, &options, directory, peering, err, err_bytes) != 0)
		*out = NULL;
	return bench_peering_start(*out, err, err_bytes);
}

/* The replication region is what the file ends with, and the floor what that ends with. */
uint8_t *bench_verbs_map_floor(const char *directory, unsigned id, uint64_t offset, size_t bytes)
{
	void *base = MAP_FAILED;
	char path[300];
	struct stat st;
	int fd;

	(void)offset;
	snprintf(path, sizeof(path), "%s/replica-%u.mu", directory, id);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size >= bytes)
		base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			    st.st_size - (off_t)bytes);
	if (fd >= 0)
		close(fd);
	if (base != MAP_FAILED)
		return base;
	fprintf(stderr, "mubench: cannot map %s: %s\n", path, strerror(errno));
	return NULL;
}

struct bench_revocation bench_verbs_revocation(const struct mu_fabric *fabric)
{
	struct mu_verbs_revocation last = mu_verbs_last_revocation(fabric);

	return (struct bench_revocation){last.count, last.flags_ns, last.barrier_ns};
}
