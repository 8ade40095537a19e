/* bench_peering.c - see the header. */
#include "config.h"

#include "bench_peering.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "peering.h"

static struct peering *peering;
static char addresses[MU_ID_SLOTS][BENCH_ADDRESS_BYTES]; /* the peering goes by them */
static struct mu_fabric_ops ops;                         /* the fabric's, but for close */
static void (*close_fabric)(struct mu_fabric *);

/* 127.x.y.id, x and y from the directory's name. */
void bench_address(const char *directory, unsigned id, int port, char text[BENCH_ADDRESS_BYTES])
{
	unsigned hash = 5381;

	for (; *directory; directory++)
		hash = hash * 33 + (unsigned char)*directory;
	snprintf(text, BENCH_ADDRESS_BYTES, "127.%u.%u.%u:%d", 1 + hash / 250 % 250, 1 + hash % 250,
		 id, port);
}

struct mu_peering *bench_peering_open(const struct mu_fabric_config *config, const char *directory,
				      int port, enum mp_log_level level, char *err,
				      size_t err_bytes)
{
	struct peering_options options;

	mp_log_init(level, config->id);
	peering_options_init(&options);
	options.id = config->id;
	options.group_id = config->group_id;
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		if (!(config->member_mask >> id & 1))
			continue;
		bench_address(directory, id, port, addresses[id]);
		options.address[id] = addresses[id];
	}
	peering = peering_open(&options, err, err_bytes);
	return peering ? peering_base(peering) : NULL;
}

static void end_peering(void)
{
	peering_close(peering);
	peering = NULL;
}

static void close_both(struct mu_fabric *fabric)
{
	close_fabric(fabric);
	end_peering();
}

int bench_peering_start(struct mu_fabric *fabric, char *err, size_t err_bytes)
{
	if (!fabric) {
		end_peering();
		return -1;
	}
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
