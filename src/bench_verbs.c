/* bench_verbs.c - see the header. A process has one replica at a time. */
#include "config.h"

#include "bench_verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "mu_verbs.h"
#include "peering.h"

#define PORT 7460

static struct peering *peering;
static struct mu_fabric_ops ops; /* the fabric's, but for close */
static void (*close_fabric)(struct mu_fabric *);
static char address[MU_ID_SLOTS][32];

static void close_both(struct mu_fabric *fabric)
{
	close_fabric(fabric);
	peering_close(peering);
	peering = NULL;
}

/* Every run has loopback addresses of its own, by the name of its directory. */
static void set_addresses(const char *directory)
{
	unsigned hash = 5381;

	for (const char *at = directory; *at != '\0'; at++)
		hash = hash * 33 + (unsigned char)*at;
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		snprintf(address[id], sizeof(address[id]), "127.%u.%u.%u:%d", 1 + hash % 250,
			 1 + hash / 250 % 250, id, PORT);
}

static bool open_peering(const struct mu_fabric_config *config, const char *directory, char *err,
			 size_t err_bytes)
{
	struct peering_options options;

	/* Members come and go here; only what is wrong is worth a line. */
	mp_log_init(MP_LOG_WARN, config->id);
	set_addresses(directory);
	peering_options_init(&options);
	options.id = config->id;
	options.group_id = config->group_id;
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		if (config->member_mask & (1U << id))
			options.address[id] = address[id];
	peering = peering_open(&options, err, err_bytes);
	return peering != NULL;
}

static int finish(struct mu_fabric **out, int result, char *err, size_t err_bytes)
{
	struct mu_fabric *fabric;

	if (result != 0) {
		peering_close(peering);
		return -1;
	}
	fabric = *out;
	ops = *fabric->ops;
	close_fabric = ops.close;
	ops.close = close_both;
	fabric->ops = &ops;
	if (peering_start(peering) == 0)
		return 0;
	snprintf(err, err_bytes, "no thread for the peers: %s", strerror(errno));
	close_both(fabric);
	return -1;
}

int bench_verbs_open(struct mu_fabric **out, const struct mu_fabric_config *config,
		     const char *directory, char *err, size_t err_bytes)
{
	struct mu_verbs_options options;

	if (!open_peering(config, directory, err, err_bytes))
		return -1;
	mu_verbs_options_init(&options);
	return finish(out,
		      mu_fabric_verbs_open(out, config, &options, directory, peering_base(peering),
					   err, err_bytes),
		      err, err_bytes);
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
