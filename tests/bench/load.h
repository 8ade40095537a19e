/*
 * load.h - load for a server: connections that each wait for the answer before
 * they send again, all in one thread. What bench_memcached and bench_redis share.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <getopt.h>
#include <stddef.h>
#include <stdint.h>

#include "mc_text.h"
#include "resp.h"

enum { LOAD_MAX_CLIENTS = 1024, LOAD_MAX_BYTES = 65536, LOAD_REQUEST_BYTES = 16 << 20 };

struct load_client {
	int fd;
	union {
		struct mc_framer mc;
		struct resp_framer resp;
	} framer;            /* zeroed at first */
	unsigned owed;       /* replies that are still to come */
	unsigned operations; /* of the request under way */
	uint64_t sent_ns;
};

/* What is asked of the server. */
struct load {
	const char *program;
	int port, clients;
	long requests; /* to measure; 0: only to prepare */
	/*
	 * Writes the next request to out, which has LOAD_REQUEST_BYTES, and returns
	 * its length. Sets the client's owed and operations.
	 */
	size_t (*make)(struct load_client *client, char *out);
	/* Finds ends of replies, and takes them off client->owed. Ends the program at errors. */
	void (*take)(struct load_client *client, const char *data, size_t len);
	/* Over one client, before anything is measured; may be NULL. */
	void (*prepare)(struct load_client *client);
};

/* Prints operations per second, and the median and 99th percentile of the time to the answer in
 * microseconds. */
void load_run(const struct load *load);

/* Sends one request, made as load->make does, and waits for all it is owed. */
void load_ask(const struct load *load, struct load_client *client, const char *data, size_t len);
/* Ends the program with errno's reason. */
void load_fail(const struct load *load, const char *what) __attribute__((noreturn));
/* Ends the program because of what the server said. */
void load_refuse(const struct load *load, const char *data, size_t len) __attribute__((noreturn));
/* From 0 to n - 1, the same in every run. */
uint32_t load_random_below(uint32_t n);

#endif
