/* control_memcached.c - see control_memcached.h. */
#include "control_memcached.h"

#include <libmemcached/memcached.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net.h"

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static memcached_st *connection_to(const char *address, int timeout_ms, char *err, size_t err_bytes)
{
	memcached_st *memcached = memcached_create(NULL);
	memcached_return_t rc;
	char host[256];
	int port;

	if (!memcached || !mp_address_split(address, host, sizeof(host), &port)) {
		snprintf(err, err_bytes, "'%s' is no address", address);
		memcached_free(memcached);
		return NULL;
	}
	memcached_behavior_set(memcached, MEMCACHED_BEHAVIOR_CONNECT_TIMEOUT, (uint64_t)timeout_ms);
	memcached_behavior_set(memcached, MEMCACHED_BEHAVIOR_POLL_TIMEOUT, (uint64_t)timeout_ms);
	memcached_behavior_set(memcached, MEMCACHED_BEHAVIOR_SND_TIMEOUT,
			       (uint64_t)timeout_ms * 1000);
	memcached_behavior_set(memcached, MEMCACHED_BEHAVIOR_RCV_TIMEOUT,
			       (uint64_t)timeout_ms * 1000);
	rc = port ? memcached_server_add(memcached, host, (in_port_t)port)
		  : memcached_server_add_unix_socket(memcached, host);
	if (rc == MEMCACHED_SUCCESS)
		return memcached;
	snprintf(err, err_bytes, "%s", memcached_strerror(memcached, rc));
	memcached_free(memcached);
	return NULL;
}

static void take_stats(const memcached_stat_st *stats, struct mp_server_info *info)
{
	snprintf(info->version, sizeof(info->version), "%s", stats->version);
	info->pid = (uint64_t)stats->pid;
	info->uptime_s = stats->uptime;
	info->memory_bytes = stats->bytes;
	info->items = stats->curr_items;
	info->clients = stats->curr_connections;
}

bool mp_control_memcached(const char *address, int timeout_ms, struct mp_server_info *info,
			  char *err, size_t err_bytes)
{
	memcached_st *memcached = connection_to(address, timeout_ms, err, err_bytes);
	memcached_stat_st *stats = NULL;
	memcached_return_t rc;
	uint64_t start_us;

	memset(info, 0, sizeof(*info));
	if (!memcached)
		return false;
	rc = memcached_version(memcached); /* connects */
	start_us = now_us();
	if (rc == MEMCACHED_SUCCESS)
		stats = memcached_stat(memcached, NULL, &rc);
	info->latency_us = now_us() - start_us;
	if (rc == MEMCACHED_SUCCESS && stats)
		take_stats(stats, info);
	else
		snprintf(err, err_bytes, "%s", memcached_strerror(memcached, rc));
	memcached_stat_free(memcached, stats);
	memcached_free(memcached);
	return rc == MEMCACHED_SUCCESS;
}
