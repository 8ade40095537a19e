/*
 * conf.h - one replica's configuration: an INI file (read with libinih) turned
 * into the option structures of the layers below. muproxy.conf.example
 * documents every key; tests/unit/test_conf.c holds the two together.
 */
#ifndef MUPROXY_CONF_H
#define MUPROXY_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "group_key.h"
#include "mu.h"
#include "proxy.h"

enum conf_wait {
	CONF_WAIT_ADAPTIVE, /* spin briefly after work, then sleep */
	CONF_WAIT_SPIN,     /* never sleep: for a core of its own */
};
enum conf_fabric {
	CONF_FABRIC_SHM,   /* all on one host */
	CONF_FABRIC_TCP,   /* anywhere */
	CONF_FABRIC_AUTO,  /* the best that all members have */
	CONF_FABRIC_VERBS, /* anywhere that RDMA leads to */
};
enum conf_barrier { CONF_BARRIER_STRICT, CONF_BARRIER_NONE };

/* A number that is left to be chosen. */
#define CONF_AUTO UINT32_MAX

/* Upper bound on the number of settings. */
#define CONF_MAX_SETTINGS 64

struct conf {
	char *file; /* as named on the command line */

	const char *group;
	const char *key_hex, *key_file; /* as written... */
	uint8_t key[GROUP_KEY_BYTES];   /* ...and read; what is made of it is all that is used: */
	uint8_t peering_key[GROUP_KEY_BYTES]; /* beside mu.checksum_key and mu.group_id */
	const char *memory_dir;
	const char *state_file; /* where the members are kept (book.h); NULL: nowhere */
	const char *join;       /* addresses of members to ask who the others are; NULL: no need */
	const char *pid_file;   /* NULL: none */
	const char *admin_listen; /* NULL: no admin port */
	uint32_t log_level;       /* enum mp_log_level */
	uint32_t wait;            /* enum conf_wait */
	uint32_t fabric;          /* enum conf_fabric */
	const char *peer_listen;  /* where the own peering listens; NULL: at the own address */
	const char *verbs_device; /* NULL: choose */
	uint32_t verbs_port, verbs_gid_index, verbs_timeout, verbs_retries; /* or CONF_AUTO */
	uint32_t verbs_service_level, verbs_traffic_class, verbs_pkey_index;
	uint32_t verbs_barrier; /* enum conf_barrier */
	uint64_t spin_ns;
	uint64_t op_timeout_ns;
	uint32_t drain_timeout_ms;
	/* NULL: none; proxy.redis_users, proxy.memcached_users is what is in them. */
	const char *redis_auth_file, *memcached_auth_file;
	struct mu_config mu;
	struct mp_proxy_options proxy;

	/* Where and how each was said, for messages; the strings above point in here. */
	char *given[CONF_MAX_SETTINGS]; /* NULL: left at its default */
	int given_line[CONF_MAX_SETTINGS];
	char *member[MU_ID_SLOTS];            /* its peer, or its address */
	bool member_has_address[MU_ID_SLOTS]; /* ... which of the two was given */
	int member_line[MU_ID_SLOTS];
	struct mp_users *redis_users, *memcached_users; /* NULL: none */
	int lines;
};

/*
 * Whether members meet over TCP (peering.h), whatever the fabric is. Without that who is a
 * member never changes.
 */
static inline bool conf_has_peering(const struct conf *conf)
{
	return conf->fabric != CONF_FABRIC_SHM || conf->member_has_address[conf->mu.id];
}

/*
 * Read and check a file. Returns 0, or -1 with one line in err that begins
 * with "file:line: ". *conf needs conf_free() in both cases.
 */
int conf_load(struct conf *conf, const char *file, char *err, size_t err_bytes);
void conf_free(struct conf *conf);

/*
 * The line to point at when another layer gave a reason in words: that of the
 * setting whose value the words quote, else that of `key`, else the last.
 */
int conf_blame(const struct conf *conf, const char *words, const char *key);

/* The i-th key known, from 0 on; false past the end. Members' ("peer") are not among them. */
bool conf_setting(size_t i, const char **section, const char **key);
/* Its value as the replica will use it, in one spelling: "67108864", "1000000 ns", "-" (none). */
void conf_print(const struct conf *conf, size_t i, char *out, size_t cap);

#endif
