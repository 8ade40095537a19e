/* bench_fabric.c - see the header. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench_fabric.h"
#include "bench_tcp.h"
#include "bench_verbs.h"

/* The replication region is a file of its own. */
static uint8_t *map_shm_floor(const char *directory, unsigned id, uint64_t offset, size_t bytes)
{
	void *base = MAP_FAILED;
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/replica-%u.log", directory, id);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
		close(fd);
	}
	if (base != MAP_FAILED)
		return base;
	fprintf(stderr, "mubench: cannot map %s: %s\n", path, strerror(errno));
	return NULL;
}

static const struct bench_fabric fabrics[] = {
	{.name = "shm",
	 .open = mu_fabric_shm_open,
	 .map_floor = map_shm_floor,
	 .floor = "memcpy()"},
	{.name = "tcp",
	 .open = bench_tcp_open,
	 .exchange = bench_tcp_exchange,
	 .floor = "a bare ping-pong over TCP: of as many bytes, between\n"
		  "#   the same processes, sockets tuned and waited for as the fabric's, until a "
		  "majority\n"
		  "#   has answered"},
#ifdef HAVE_VERBS
	{.name = "verbs",
	 .open = bench_verbs_open,
	 .map_floor = bench_verbs_map_floor,
	 .revocation = bench_verbs_revocation,
	 .floor = "memcpy()"},
#endif
};

const struct bench_fabric *bench_fabric_at(size_t i)
{
	return i < sizeof(fabrics) / sizeof(fabrics[0]) ? &fabrics[i] : NULL;
}

const struct bench_fabric *bench_fabric_find(const char *name)
{
	const struct bench_fabric *fabric;

	for (size_t i = 0; (fabric = bench_fabric_at(i)) != NULL; i++)
		if (strcmp(fabric->name, name) == 0)
			return fabric;
	return NULL;
}
