/*
 * conf.c - reading the file. libinih does the splitting into sections, keys
 * and values; it is fed line by line from here, so that every message can name
 * the line, and so that a line too long for it, or a section that does not
 * exist, is seen.
 */
#include "config.h"

#include "conf.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "book.h"
#include "conf_table.h"
#include "conf_value.h"
#include "log.h"
#include "net.h"
#include "users.h"

struct reading {
	struct conf *conf;
	FILE *stream;
	int line; /* of the line last handed to libinih */
	bool failed;
	char *err;
	size_t err_bytes;
};

/* The first thing wrong is the one reported. */
static bool fail(struct reading *r, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static bool fail(struct reading *r, int line, const char *format, ...)
{
	char words[400];
	va_list args;

	if (r->failed)
		return false;
	r->failed = true;
	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	snprintf(r->err, r->err_bytes, "%s:%d: %s", r->conf->file, line, words);
	return false;
}

/* "member 3" -> 3; 0 if it is no such section. */
static unsigned member_of_section(const char *section)
{
	if (strncmp(section, "member ", 7) != 0 || !isdigit((unsigned char)section[7]) ||
	    section[8] != '\0')
		return 0;
	return (unsigned)(section[7] - '0');
}

/* Sections are checked as they begin: libinih does not tell of empty ones. */
static void check_section(struct reading *r, const char *line)
{
	char name[64];
	size_t n = strcspn(line + 1, "]");

	if (line[1 + n] != ']' || n >= sizeof(name)) {
		fail(r, r->line, "not a [section]");
		return;
	}
	memcpy(name, line + 1, n);
	name[n] = '\0';
	if (conf_section_known(name))
		return;
	if (strncmp(name, "member", 6) != 0)
		fail(r, r->line, "unknown section [%s]", name);
	else if (member_of_section(name) < 1 || member_of_section(name) > MU_MAX_REPLICAS)
		fail(r, r->line, "[%s]: members are named [member 1] to [member %d]", name,
		     MU_MAX_REPLICAS);
}

/* fgets for libinih. */
static char *read_line(char *buffer, int size, void *ctx)
{
	struct reading *r = ctx;
	const char *start;
	size_t n;

	if (r->failed || !fgets(buffer, size, r->stream))
		return NULL;
	r->line++;
	n = strlen(buffer);
	if ((n == 0 || buffer[n - 1] != '\n') && !feof(r->stream)) {
		fail(r, r->line, "a line of more than %d bytes, or a NUL byte in it", size - 2);
		return NULL;
	}
	start = buffer + strspn(buffer, " \t");
	if (*start == '[')
		check_section(r, start);
	return buffer;
}

/* A member's address may be a name that nobody knows as yet: it is looked up when it is dialled. */
static bool check_address(const char *value, char *why, size_t why_bytes)
{
	char host[256];
	int port;

	if (strncmp(value, "unix:", 5) != 0 && mp_address_split(value, host, sizeof(host), &port) &&
	    host[0] && port > 0 && strlen(value) < BOOK_ADDRESS_BYTES && !strpbrk(value, " \t"))
		return true;
	snprintf(why, why_bytes, "'%s' is not host:port or [v6]:port", value);
	return false;
}

/* Several, parted by blanks or commas. */
static bool check_addresses(const char *value, char *why, size_t why_bytes)
{
	char list[1024], *rest = list, *address;

	if (strlen(value) >= sizeof(list)) {
		snprintf(why, why_bytes, "more than %zu bytes", sizeof(list) - 1);
		return false;
	}
	strcpy(list, value);
	while ((address = strsep(&rest, " \t,")))
		if (*address && !check_address(address, why, why_bytes))
			return false;
	return true;
}

static bool take_member(struct reading *r, unsigned id, const char *key, const char *value)
{
	struct conf *conf = r->conf;
	bool is_address = strcmp(key, "address") == 0;
	struct mp_address parsed;
	char why[300];

	if (id > MU_MAX_REPLICAS)
		return fail(r, r->line, "no replica has the id %u", id);
	if (!is_address && strcmp(key, "peer") != 0)
		return fail(r, r->line, "unknown key '%s' in [member %u]", key, id);
	if (conf->member[id])
		return fail(r, r->line, "[member %u] %s is given twice (first in line %d)", id,
			    conf->member_has_address[id] ? "address" : "peer",
			    conf->member_line[id]);
	if (is_address ? !check_address(value, why, sizeof(why))
		       : !mp_address_parse(value, &parsed, why, sizeof(why)))
		return fail(r, r->line, "%s: %s", key, why);
	conf->member[id] = strdup(value);
	conf->member_has_address[id] = is_address;
	conf->member_line[id] = r->line;
	return conf->member[id] || fail(r, r->line, "out of memory");
}

/* libinih's handler: 0 is an error. */
static int take(void *ctx, const char *section, const char *key, const char *value)
{
	struct reading *r = ctx;
	struct conf *conf = r->conf;
	char why[300];
	size_t i;

	if (r->failed)
		return 0;
	if (member_of_section(section))
		return take_member(r, member_of_section(section), key, value);
	i = conf_find(section, key);
	if (i == conf_setting_count)
		return section[0] ? fail(r, r->line, "unknown key '%s' in [%s]", key, section)
				  : fail(r, r->line, "'%s' stands before any [section]", key);
	if (conf->given[i])
		return fail(r, r->line,
			    "'%s' is given twice (first in line %d; an indented line continues "
			    "the one above it)",
			    key, conf->given_line[i]);
	if (strstr(value, " #") && strcmp(key, "password") != 0)
		return fail(r, r->line, "%s: a '#' comment needs a line of its own", key);
	conf->given[i] = strdup(value);
	conf->given_line[i] = r->line;
	if (!conf->given[i])
		return fail(r, r->line, "out of memory");
	return conf_set(conf, i, conf->given[i], why, sizeof(why)) ||
	       fail(r, r->line, "%s: %s", key, why);
}

/* ------------------------------------------------ what belongs together */

static bool is_given(const struct conf *conf, const char *section, const char *key)
{
	return conf->given[conf_find(section, key)] != NULL;
}

static int line_of(const struct conf *conf, const char *section, const char *key)
{
	int line = conf->given_line[conf_find(section, key)];

	return line ? line : conf->lines;
}

static bool require(struct reading *r, const char *section, const char *key)
{
	return is_given(r->conf, section, key) ||
	       fail(r, r->conf->lines, "[%s] %s is missing", section, key);
}

/* listen and backend come together. Adds to *count if both are there. */
static bool check_protocol(struct reading *r, const char *section, int *count)
{
	bool listen = is_given(r->conf, section, "listen");
	bool backend = is_given(r->conf, section, "backend");

	if (listen != backend)
		return fail(r, line_of(r->conf, section, listen ? "listen" : "backend"),
			    "[%s] has a %s but no %s", section, listen ? "listen" : "backend",
			    listen ? "backend" : "listen");
	*count += listen;
	return true;
}

static bool check_seed(struct reading *r)
{
	bool has_seed = is_given(r->conf, "redis", "seed");
	bool has_user = is_given(r->conf, "redis", "seed-user");
	bool has_password = is_given(r->conf, "redis", "seed-password");

	if (has_seed && !r->conf->proxy.redis_listen)
		return fail(r, line_of(r->conf, "redis", "seed"),
			    "[redis] has a seed but no listen");
	if (is_given(r->conf, "memcached", "seed") && !r->conf->proxy.memcached_listen)
		return fail(r, line_of(r->conf, "memcached", "seed"),
			    "[memcached] has a seed but no listen");
	if (!has_seed && (has_user || has_password))
		return fail(r, line_of(r->conf, "redis", has_user ? "seed-user" : "seed-password"),
			    "there is no seed that this is for");
	if (has_user && !has_password)
		return fail(r, line_of(r->conf, "redis", "seed-user"), "it has no seed-password");
	return true;
}

/* *users stays NULL if there is no file. */
static bool read_users(struct reading *r, const char *section, const char *file, bool listens,
		       struct mp_users **users)
{
	int line = line_of(r->conf, section, "auth-file");
	char why[300];

	if (!file)
		return true;
	if (!listens)
		return fail(r, line, "[%s] has an auth-file but no listen", section);
	*users = mp_users_load(file, why, sizeof(why));
	return *users || fail(r, line, "auth-file: %s", why);
}

static bool read_all_users(struct reading *r)
{
	struct conf *conf = r->conf;
	bool ok = read_users(r, "redis", conf->redis_auth_file, conf->proxy.redis_listen,
			     &conf->redis_users) &&
		  read_users(r, "memcached", conf->memcached_auth_file,
			     conf->proxy.memcached_listen, &conf->memcached_users);

	conf->proxy.redis_users = conf->redis_users;
	conf->proxy.memcached_users = conf->memcached_users;
	return ok;
}

static bool read_key_file(struct reading *r)
{
	struct conf *conf = r->conf;
	int line = line_of(conf, "replica", "key-file");
	char text[128] = "", why[200];
	FILE *stream = fopen(conf->key_file, "re");

	if (!stream)
		return fail(r, line, "key-file: %s: %s", conf->key_file, strerror(errno));
	if (!fgets(text, sizeof(text), stream))
		text[0] = '\0';
	fclose(stream);
	text[strcspn(text, "\r\n")] = '\0';
	return conf_parse_key(text, conf->key, why, sizeof(why)) ||
	       fail(r, line, "key-file: %s: %s", conf->key_file, why);
}

static bool check_key(struct reading *r)
{
	struct conf *conf = r->conf;

	if (conf->key_hex && conf->key_file)
		return fail(r, line_of(conf, "replica", "key-file"),
			    "key and key-file are both given");
	if (!conf->key_hex && !conf->key_file)
		return fail(r, conf->lines, "[replica] key (or key-file) is missing");
	return conf->key_hex || read_key_file(r);
}

/* Members meet where their peerings listen; on one host it may be a relay's socket instead. */
static bool check_member_key(struct reading *r, unsigned id)
{
	const struct conf *conf = r->conf;

	if (conf->member_has_address[id] == conf_has_peering(conf))
		return true;
	return fail(r, conf->member_line[id], "[member %u]: %s", id,
		    conf->fabric == CONF_FABRIC_SHM
			    ? "with fabric = shm all members have a peer, or all an address"
			    : "with this fabric it has an address, not a peer");
}

/* Who joins is told who the others are. */
static bool check_join(struct reading *r)
{
	const struct conf *conf = r->conf;
	int line = line_of(conf, "replica", "join");
	char why[300];

	if (!conf->join)
		return true;
	if (!check_addresses(conf->join, why, sizeof(why)))
		return fail(r, line, "join: %s", why);
	if (!conf_has_peering(conf))
		return fail(r, line, "join: members with a peer never change: it takes an address");
	if (!conf->state_file)
		return fail(r, line, "join: there has to be a state-file to keep the members in");
	if (conf->mu.member_mask & ~(1U << conf->mu.id))
		return fail(r, line, "join: no [member] sections but the own one");
	return true;
}

static bool check_members(struct reading *r)
{
	struct conf *conf = r->conf;
	unsigned id;

	if (!conf->member[conf->mu.id])
		return fail(r, line_of(conf, "replica", "id"),
			    "id: there is no [member %u] section that says where it is",
			    conf->mu.id);
	for (id = 1; id <= MU_MAX_REPLICAS; id++) {
		if (!conf->member[id])
			continue;
		if (!check_member_key(r, id))
			return false;
		conf->mu.member_mask |= 1U << id;
		conf->proxy.peer_address[id] = conf->member[id];
	}
	return check_join(r);
}

/* A limit that was not given shrinks with the ring; one that was given must fit. */
static bool fit(struct reading *r, const char *key, uint64_t *bytes, uint64_t most)
{
	if (*bytes <= most)
		return true;
	if (is_given(r->conf, "limits", key))
		return fail(r, line_of(r->conf, "limits", key),
			    "%s: with this ring-size it can be %" PRIu64 " bytes at most", key,
			    most);
	*bytes = most;
	return true;
}

static bool check_sizes(struct reading *r)
{
	struct conf *conf = r->conf;
	uint64_t entry = conf->mu.max_entry_bytes;
	const char *why;

	conf->mu.max_proposal_bytes = conf->mu.ring_bytes / 4;
	/* Room for the record's header of a batch of one request. */
	if (!fit(r, "max-request", &conf->proxy.max_request_bytes,
		 conf->mu.max_proposal_bytes - 4096) ||
	    !fit(r, "max-batch", &conf->proxy.max_batch_bytes, conf->mu.max_proposal_bytes) ||
	    !fit(r, "max-entry", &entry, conf->mu.ring_bytes / 16))
		return false;
	conf->mu.max_entry_bytes = (uint32_t)entry;
	if (mu_config_check(&conf->mu, &why) != MU_OK)
		return fail(r, line_of(conf, "replica", "ring-size"), "%s", why);
	return true;
}

/* The line of the last of the failure detector's settings. */
static int score_line(const struct conf *conf)
{
	int line = 0;

	for (size_t i = 0; i < conf_setting_count; i++)
		if (strncmp(conf_settings[i].key, "score-", 6) == 0 && conf->given_line[i] > line)
			line = conf->given_line[i];
	return line ? line : conf->lines;
}

/* What mu_config_check() asks of them, in the words of the file. */
static bool check_scores(struct reading *r)
{
	const struct mu_config *mu = &r->conf->mu;

	if (mu->score_failed > mu->score_alive || mu->score_alive >= mu->score_max)
		return fail(r, score_line(r->conf),
			    "score-failed (%u) may not be above score-alive (%u), nor that reach "
			    "score-max (%u)",
			    mu->score_failed, mu->score_alive, mu->score_max);
	if (mu->score_gain > mu->score_max || mu->score_loss > mu->score_max)
		return fail(r, score_line(r->conf),
			    "score-gain (%u) and score-loss (%u) may not be above score-max (%u)",
			    mu->score_gain, mu->score_loss, mu->score_max);
	return true;
}

static bool derive(const struct conf *conf, const char *use, uint8_t key[GROUP_KEY_BYTES])
{
	return group_key_expand(conf->key, use, strlen(use), key);
}

/*
 * The group's number covers its name and its secret: replicas that differ in
 * either must not take each other's memory for their own group's. It travels in
 * clear, as the results of all these keys do: each use has one of its own.
 */
static bool derive_keys(struct conf *conf)
{
	uint8_t naming[GROUP_KEY_BYTES];
	uint64_t seed, number;

	if (!derive(conf, "muproxy log", conf->mu.checksum_key) ||
	    !derive(conf, "muproxy peering", conf->peering_key) ||
	    !derive(conf, "muproxy group", naming))
		return false;
	memcpy(&seed, naming, sizeof(seed));
	number = XXH3_64bits_withSeed(conf->group, strlen(conf->group), seed);
	conf->proxy.group_id = conf->mu.group_id = number ? number : 1;
	return true;
}

static bool check_whole(struct reading *r)
{
	struct conf *conf = r->conf;
	int protocols = 0;

	if (!require(r, "replica", "id") || !require(r, "replica", "group") ||
	    !require(r, "replica", "memory-dir") || !check_key(r) || !check_members(r) ||
	    !check_protocol(r, "redis", &protocols) ||
	    !check_protocol(r, "memcached", &protocols) || !check_seed(r) || !read_all_users(r))
		return false;
	if (protocols == 0)
		return fail(r, conf->lines,
			    "neither [redis] nor [memcached] is there: nothing to serve");
	conf->proxy.id = conf->mu.id;
	if (!derive_keys(conf))
		return fail(r, conf->lines,
			    "libcrypto makes no keys: it has no HMAC, or no SHA-256");
	return check_scores(r) && check_sizes(r);
}

/* ---------------------------------------------------------------- public */

static void set_defaults(struct conf *conf, const char *file)
{
	memset(conf, 0, sizeof(*conf));
	conf->file = strdup(file);
	mu_config_init(&conf->mu);
	mp_proxy_options_init(&conf->proxy);
	/* A little less than a quarter of the usual ring: see check_sizes(). */
	conf->proxy.max_request_bytes = 63 << 20;
	conf->log_level = MP_LOG_INFO;
	conf->wait = CONF_WAIT_ADAPTIVE;
	conf->fabric = CONF_FABRIC_SHM;
	conf->mu.member_mask = 0;
	conf->verbs_port = conf->verbs_gid_index = CONF_AUTO;
	conf->verbs_timeout = conf->verbs_retries = CONF_AUTO;
	conf->spin_ns = 20 * 1000;
	conf->op_timeout_ns = 100 * 1000000;
	conf->drain_timeout_ms = 3000;
}

int conf_load(struct conf *conf, const char *file, char *err, size_t err_bytes)
{
	struct reading r = {.conf = conf, .err = err, .err_bytes = err_bytes};
	int bad_line;

	set_defaults(conf, file);
	if (!conf->file) {
		snprintf(err, err_bytes, "out of memory");
		return -1;
	}
	r.stream = fopen(file, "re");
	if (!r.stream) {
		snprintf(err, err_bytes, "%s: %s", file, strerror(errno));
		return -1;
	}
	bad_line = ini_parse_stream(read_line, &r, take, &r);
	if (bad_line > 0)
		fail(&r, bad_line, "neither a [section] nor 'key = value'");
	else if (bad_line < 0)
		fail(&r, r.line, "out of memory");
	else if (ferror(r.stream))
		fail(&r, r.line + 1, "%s", strerror(errno));
	fclose(r.stream);
	conf->lines = r.line ? r.line : 1;
	if (!r.failed)
		check_whole(&r);
	return r.failed ? -1 : 0;
}

void conf_free(struct conf *conf)
{
	size_t i;

	for (i = 0; i < CONF_MAX_SETTINGS; i++)
		free(conf->given[i]);
	for (i = 0; i < MU_ID_SLOTS; i++)
		free(conf->member[i]);
	mp_users_free(conf->redis_users);
	mp_users_free(conf->memcached_users);
	free(conf->file);
	memset(conf, 0, sizeof(*conf));
}

int conf_blame(const struct conf *conf, const char *words, const char *key)
{
	int fallback = conf->lines;
	unsigned id;
	size_t i;

	for (i = 0; i < conf_setting_count; i++) {
		const struct conf_setting *setting = &conf_settings[i];

		if (!conf->given[i])
			continue;
		if (strcmp(setting->key, key) == 0)
			fallback = conf->given_line[i];
		/* A short value ("1", "8K") may stand in any sentence. */
		if (strlen(conf->given[i]) >= 5 && strstr(words, conf->given[i]))
			return conf->given_line[i];
	}
	for (id = 1; id <= MU_MAX_REPLICAS; id++) {
		if (conf->member[id] && strstr(words, conf->member[id]))
			return conf->member_line[id];
	}
	return fallback;
}
