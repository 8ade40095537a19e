/* redis_adopt.c - see redis_adopt.h. */
#include "redis_adopt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "log.h"
#include "redis_console.h"
#include "redis_scripts.h"
#include "redis_wire.h"
#include "state.h"

enum {
	POLL_MS = 20,        /* how often the server is asked how far it is */
	UNLINKED_MS = 30000, /* without a word between the two: it is begun anew */
	LIBRARY_BYTES = 256, /* of what is logged of a library besides its text */
	WORD_BYTES = 256,    /* of what is remembered of settings */
};

/* In place of the position in the log, between the cut and the end. */
#define MARK "muproxy: adopting"

/*
 * Up to a thousand keys and a few; returns the next cursor and how many. Keys come
 * twice at times: whatever is due behind ARGV[2] was padded already. A deadline that
 * was that far to begin with, beyond the year 2164, comes out 139 years early.
 */
static const char pad_script[] = "local found = redis.call('SCAN', ARGV[1], 'COUNT', 1000) "
				 "for _, key in ipairs(found[2]) do "
				 "local due = redis.call('PEXPIRETIME', key) "
				 "if due >= 0 and due < tonumber(ARGV[2]) then "
				 "redis.call('PEXPIREAT', key, "
				 "string.format('%.0f', due + tonumber(ARGV[3]))) "
				 "end end "
				 "return {found[1], #found[2]}";

enum phase {
	PHASE_ASKING,    /* the seed, and then the server here */
	PHASE_FOLLOWING, /* the server is the seed's replica */
	PHASE_CUT,       /* it is a master again, and converted */
	PHASE_PLACING,   /* the memcached beside it */
	PHASE_NAMED,
};

struct redis_adopt {
	struct mp_proxy *proxy;
	struct redis_console seed, server;
	enum phase phase;
	bool is_empty; /* the server: known to be */
	int version;   /* the seed's: 702 for 7.2 */
	char seed_run_id[48];
	int64_t last_database;                   /* of the seed, with data in it; -1: none */
	uint32_t databases;                      /* of the server */
	bool is_replica, is_marked;              /* the server: ours since a former attempt */
	char user[WORD_BYTES], auth[WORD_BYTES]; /* its settings, as they were */
	uint64_t next_poll_ns, linked_ns;
	bool is_polling;
	bool is_level; /* the server was; then the seed was at: */
	uint64_t wanted_offset;
	uint64_t start_ms, keys;
	uint32_t padded_database;
	char cursor[24];
};

static bool is_over(const struct redis_adopt *a)
{
	return a->proxy->adopt.is_failed || a->proxy->adopt.is_done;
}

/* True: nothing more is to be done about that answer. */
static bool is_error(struct redis_adopt *a, const redisReply *answer, const char *who,
		     const char *what)
{
	if (answer->type == REDIS_REPLY_ERROR)
		mp_adopt_fail(a->proxy, "%s: %s: %.100s", who, what, answer->str);
	return is_over(a);
}

static bool is_server_error(struct redis_adopt *a, const redisReply *answer, const char *what)
{
	return is_error(a, answer, "the server here", what);
}

static int version_of(const char *info)
{
	char text[32];
	int major = 0, minor = 0;

	if (redis_info_field(info, "redis_version", text, sizeof(text)))
		sscanf(text, "%d.%d", &major, &minor);
	return major * 100 + minor;
}

/* ----------------------------------------------------------------- what is adopted */

static void on_server_closed(void *ctx, const char *why)
{
	mp_adopt_fail(((struct redis_adopt *)ctx)->proxy, "the server here: %s", why);
}

static void on_named(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (!is_server_error(a, answer, "SET " REDIS_APPLIED_KEY))
		mp_adopt_done(a->proxy);
}

static void name(struct redis_adopt *a)
{
	char applied[REDIS_APPLIED_BYTES];

	a->phase = PHASE_NAMED;
	redis_put_applied(applied, &(struct redis_applied){a->proxy->options.group_id,
							   a->proxy->adopt.era, MP_ADOPTED_LSN});
	redis_console_ask(&a->server, NULL, "SELECT %u", a->databases - 1);
	redis_console_ask(&a->server, on_named, "SET " REDIS_APPLIED_KEY " %b", applied,
			  sizeof(applied));
}

/* ----------------------------------------------------------------------- deadlines */

static void pad_on(struct redis_adopt *a);

static void on_padded(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (is_server_error(a, answer, "EVAL"))
		return;
	if (answer->type != REDIS_REPLY_ARRAY || answer->elements != 2 ||
	    answer->element[0]->type != REDIS_REPLY_STRING) {
		mp_adopt_fail(a->proxy, "the server here: EVAL: an unexpected reply");
		return;
	}
	snprintf(a->cursor, sizeof(a->cursor), "%s", answer->element[0]->str);
	a->keys += (uint64_t)answer->element[1]->integer;
	if (strcmp(a->cursor, "0") == 0 && ++a->padded_database == a->databases - 1)
		a->phase = PHASE_PLACING;
	else
		pad_on(a);
}

static void pad_on(struct redis_adopt *a)
{
	redis_console_ask(&a->server, NULL, "SELECT %u", a->padded_database);
	redis_console_ask(&a->server, on_padded, "EVAL %s 0 %s %" PRIu64 " %" PRId64, pad_script,
			  a->cursor, a->start_ms + (uint64_t)MP_DEADLINE_PAD_MS,
			  MP_DEADLINE_PAD_MS);
}

/* ----------------------------------------------------------------------- functions */

static void on_library(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (answer->type == REDIS_REPLY_ERROR)
		mp_error("redis: seed %s: a library of its functions cannot be adopted: %.200s",
			 a->proxy->adopt.address.text, answer->str);
}

/* As if a client had loaded it. */
static void load_library(struct redis_adopt *a, struct mp_slice code)
{
	static const struct mp_command command = {.name = "function|load"};
	const struct mp_slice argv[3] = {mp_slice_of("FUNCTION"), mp_slice_of("LOAD"), code};
	const struct resp_request request = {.argc = 3, .argv = argv};
	const struct mp_script_terms terms = {
		.now_ms = (int64_t)a->start_ms, .seed = 1, .databases = (int)a->databases - 1};
	size_t cap = code.len + LIBRARY_BYTES;
	char why[100] = "", *wire = malloc(cap);
	size_t len =
		wire ? mp_script_rewrite(&command, &request, &terms, wire, cap, why, sizeof(why))
		     : 0;

	if (len == 0 || len > cap)
		mp_adopt_fail(a->proxy, "a library of functions: %s", why);
	else
		redis_console_send(&a->server, on_library, (struct mp_slice){wire, len});
	free(wire);
}

/* Of "library_name", "a", ..., "library_code", "#!lua ...". */
static struct mp_slice code_of(const redisReply *library)
{
	for (size_t i = 0; library->type == REDIS_REPLY_ARRAY && i + 1 < library->elements;
	     i += 2) {
		const redisReply *value = library->element[i + 1];

		if (library->element[i]->type == REDIS_REPLY_STRING &&
		    strcmp(library->element[i]->str, "library_code") == 0 &&
		    value->type == REDIS_REPLY_STRING)
			return (struct mp_slice){value->str, value->len};
	}
	return (struct mp_slice){0};
}

static void on_libraries(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (is_server_error(a, answer, "FUNCTION LIST"))
		return;
	redis_console_ask(&a->server, NULL, "FUNCTION FLUSH SYNC");
	redis_console_ask(&a->server, NULL, "SCRIPT LOAD %s", mp_prelude);
	for (size_t i = 0; answer->type == REDIS_REPLY_ARRAY && i < answer->elements; i++) {
		struct mp_slice code = code_of(answer->element[i]);

		if (code.len > 0)
			load_library(a, code);
	}
	pad_on(a);
}

/* ---------------------------------------------------------------------------- the cut */

static void on_settings(void *ctx, const redisReply *answer)
{
	(void)is_server_error(ctx, answer, "CONFIG SET");
}

static void on_replicaof(void *ctx, const redisReply *answer)
{
	(void)is_server_error(ctx, answer, "REPLICAOF");
}

/* The seed's clients may have begun to use the database that is ours. */
static void on_hidden(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (!is_server_error(a, answer, "DBSIZE") &&
	    (answer->type != REDIS_REPLY_INTEGER || answer->integer != 1))
		mp_adopt_fail(a->proxy,
			      "it has data in database %u, which the server here needs for itself: "
			      "give that one more databases",
			      a->databases - 1);
}

static void on_time(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (is_server_error(a, answer, "TIME"))
		return;
	if (answer->type == REDIS_REPLY_ARRAY && answer->elements == 2)
		a->start_ms = strtoull(answer->element[0]->str, NULL, 10) * 1000;
}

static void set_masters(struct redis_adopt *a, const char *user, const char *auth)
{
	redis_console_ask(&a->server, on_settings, "CONFIG SET masteruser %s", user);
	redis_console_ask(&a->server, on_settings, "CONFIG SET masterauth %s", auth);
}

static void cut(struct redis_adopt *a)
{
	struct redis_console *server = &a->server;

	a->phase = PHASE_CUT;
	/* It is not needed any more, whatever becomes of it. */
	redis_console_close(&a->seed);
	mp_adopt_show(a->proxy, MP_TRANSFER_CUTTING, 0, 0);
	redis_console_ask(server, on_replicaof, "REPLICAOF NO ONE");
	redis_console_ask(server, NULL, "SELECT %u", a->databases - 1);
	redis_console_ask(server, on_settings, "SET " REDIS_APPLIED_KEY " %s", MARK);
	redis_console_ask(server, on_hidden, "DBSIZE");
	set_masters(a, a->user, a->auth);
	redis_console_ask(server, on_time, "TIME");
	redis_console_ask(server, on_libraries, "FUNCTION LIST WITHCODE");
}

/* -------------------------------------------------------------------------- following */

static void on_seed_offset(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	a->is_polling = false;
	if (is_error(a, answer, "it says", "INFO") || answer->type != REDIS_REPLY_STRING)
		return;
	a->wanted_offset = redis_info_number(answer->str, "master_repl_offset");
	a->is_level = true;
}

static void show_following(struct redis_adopt *a, const char *info)
{
	uint64_t total = redis_info_number(info, "master_sync_total_bytes");
	uint64_t bytes = redis_info_number(info, "master_sync_read_bytes");

	if (redis_info_number(info, "loading"))
		mp_adopt_show(a->proxy, MP_TRANSFER_LOADING,
			      redis_info_number(info, "loading_loaded_bytes"),
			      redis_info_number(info, "loading_total_bytes"));
	else if (redis_info_number(info, "master_sync_in_progress"))
		mp_adopt_show(a->proxy, MP_TRANSFER_RECEIVING, bytes, total);
}

static void on_info(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;
	uint64_t now_ns = mp_now_ns(a->proxy);

	a->is_polling = false;
	if (is_server_error(a, answer, "INFO") || answer->type != REDIS_REPLY_STRING)
		return;
	show_following(a, answer->str);
	if (strstr(answer->str, "master_link_status:up")) {
		mp_adopt_show(a->proxy, MP_TRANSFER_FOLLOWING, 0, 0);
		a->linked_ns = now_ns;
		if (!a->is_level) {
			a->is_polling = true;
			redis_console_ask(&a->seed, on_seed_offset, "INFO replication");
		} else if (redis_info_number(answer->str, "slave_repl_offset") >=
			   a->wanted_offset) {
			cut(a);
		}
	} else if (redis_info_number(answer->str, "master_sync_in_progress") ||
		   redis_info_number(answer->str, "loading")) {
		a->linked_ns = now_ns;
	} else if (now_ns - a->linked_ns > UNLINKED_MS * UINT64_C(1000000)) {
		mp_adopt_fail(
			a->proxy,
			"the server here, told to be its replica, does not get through to it: "
			"its log may say why");
	}
}

uint64_t redis_adopt_turn(struct redis_adopt *a, uint64_t now_ns)
{
	/* Before the Redis is named: had that one alone been, the memcached's word might count. */
	if (a->phase == PHASE_PLACING) {
		if (mp_adopt_place_memcached(a->proxy))
			name(a);
		return now_ns + POLL_MS * UINT64_C(1000000);
	}
	if (a->phase != PHASE_FOLLOWING || a->is_polling)
		return UINT64_MAX;
	if (now_ns < a->next_poll_ns)
		return a->next_poll_ns;
	a->next_poll_ns = now_ns + POLL_MS * UINT64_C(1000000);
	a->is_polling = true;
	/* Not both in one: loading, it tells of nothing that has to be looked up. */
	redis_console_ask(&a->server, on_info, "INFO replication persistence");
	return UINT64_MAX;
}

/* --------------------------------------------------------------- the server is asked */

/* From here on it is ours, and nobody else's. */
static void hold(struct redis_adopt *a, const char *why)
{
	struct mp_backend *backend = mp_target_of(a->proxy, MP_REDIS)->backend;

	if (!a->proxy->adopt.is_begun)
		backend->ops->hold(backend, why);
	a->proxy->adopt.is_begun = true;
}

/* The seed is the memcached's alone: empty as it is, it is to stand where that one does. */
static void stay_empty(struct redis_adopt *a)
{
	hold(a, "the memcached beside it was given a seed's data");
	redis_console_ask(&a->server, NULL, "SELECT %u", a->databases - 1);
	redis_console_ask(&a->server, on_settings, "SET " REDIS_APPLIED_KEY " %s", MARK);
	a->phase = PHASE_PLACING;
}

static void follow(struct redis_adopt *a)
{
	struct mp_proxy *proxy = a->proxy;
	const struct mp_proxy_options *options = &proxy->options;

	hold(a, "it is given the seed's data");
	mp_info("redis: adopting the data of seed %s", proxy->adopt.address.text);
	a->phase = PHASE_FOLLOWING;
	a->linked_ns = mp_now_ns(proxy);
	mp_adopt_show(proxy, MP_TRANSFER_PREPARING, 0, 0);
	set_masters(a, options->redis_seed_user ? options->redis_seed_user : "",
		    options->redis_seed_password ? options->redis_seed_password : "");
	redis_console_ask(&a->server, NULL, "CLIENT KILL TYPE normal SKIPME yes");
	redis_console_ask(&a->server, on_replicaof, "REPLICAOF %s %d", proxy->adopt.host,
			  proxy->adopt.port);
}

/* Is the server what an attempt has left, or certain to be empty? */
static void on_mark(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (is_over(a))
		return;
	a->is_marked = answer->type == REDIS_REPLY_STRING && strcmp(answer->str, MARK) == 0;
	if (!(a->is_empty || a->proxy->adopt.is_begun || a->is_replica || a->is_marked))
		mp_adopt_fail(a->proxy, "the server here is not empty: flush it, or point to "
					"another one");
	else if (a->proxy->options.redis_seed)
		follow(a);
	else
		stay_empty(a);
}

/* What it was before an earlier attempt is not known any more; then it is nothing. */
static void keep_setting(struct redis_adopt *a, const redisReply *answer, const char *ours,
			 char out[WORD_BYTES])
{
	const char *value = "";

	if (is_server_error(a, answer, "CONFIG GET"))
		return;
	if (answer->type == REDIS_REPLY_ARRAY && answer->elements == 2 && answer->element[1]->str)
		value = answer->element[1]->str;
	if (ours && strcmp(value, ours) == 0)
		value = "";
	if (strlen(value) >= WORD_BYTES)
		mp_adopt_fail(a->proxy, "the server here has a masterauth that is too long");
	snprintf(out, WORD_BYTES, "%s", value);
}

static void on_user(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	keep_setting(a, answer, a->proxy->options.redis_seed_user, a->user);
}

static void on_auth(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	keep_setting(a, answer, a->proxy->options.redis_seed_password, a->auth);
}

static void on_role(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;
	const struct mp_adopt *adopt = &a->proxy->adopt;

	if (is_server_error(a, answer, "ROLE"))
		return;
	a->is_replica = answer->type == REDIS_REPLY_ARRAY && answer->elements >= 3 &&
			answer->element[1]->type == REDIS_REPLY_STRING &&
			strcmp(answer->element[1]->str, adopt->host) == 0 &&
			answer->element[2]->integer == adopt->port;
}

static void on_databases(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (is_server_error(a, answer, "CONFIG GET"))
		return;
	if (answer->type == REDIS_REPLY_ARRAY && answer->elements == 2)
		a->databases = (uint32_t)strtoul(answer->element[1]->str, NULL, 10);
	if (a->databases < 2 || a->last_database >= (int64_t)a->databases - 1)
		mp_adopt_fail(a->proxy,
			      "it has data in database %" PRId64 ", the server here has %u: it "
			      "needs one more than the last that is used, and one for itself",
			      a->last_database, a->databases);
	redis_console_ask(&a->server, NULL, "SELECT %u", a->databases - 1);
	redis_console_ask(&a->server, on_mark, "GET " REDIS_APPLIED_KEY);
}

static void on_server_info(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;
	char run_id[48] = "";
	int version;

	if (is_server_error(a, answer, "INFO") || answer->type != REDIS_REPLY_STRING)
		return;
	version = version_of(answer->str);
	redis_info_field(answer->str, "run_id", run_id, sizeof(run_id));
	if (strcmp(run_id, a->seed_run_id) == 0)
		mp_adopt_fail(a->proxy, "it is the server here itself");
	else if (a->version > version)
		mp_adopt_fail(a->proxy,
			      "it is Redis %d.%d, and the server here, %d.%d, cannot read what a "
			      "newer one sends",
			      a->version / 100, a->version % 100, version / 100, version % 100);
}

static void ask_server(struct redis_adopt *a)
{
	struct mp_proxy *proxy = a->proxy;

	if (is_over(a))
		return;
	if (!redis_console_open(&a->server, proxy->base, &proxy->transfer.redis_address,
				proxy->options.redis_password, on_server_closed, a)) {
		mp_adopt_fail(proxy, "the server here: it cannot be connected to");
		return;
	}
	redis_console_ask(&a->server, on_server_info, "INFO server");
	redis_console_ask(&a->server, on_role, "ROLE");
	redis_console_ask(&a->server, on_user, "CONFIG GET masteruser");
	redis_console_ask(&a->server, on_auth, "CONFIG GET masterauth");
	redis_console_ask(&a->server, on_databases, "CONFIG GET databases");
}

/* ------------------------------------------------------------------ the seed is asked */

static void on_seed_closed(void *ctx, const char *why)
{
	mp_adopt_fail(((struct redis_adopt *)ctx)->proxy, "%s", why);
}

static void on_seed_login(void *ctx, const redisReply *answer)
{
	(void)is_error(ctx, answer, "it says", "AUTH");
}

static void on_seed_replconf(void *ctx, const redisReply *answer)
{
	(void)is_error(ctx, answer, "it says", "REPLCONF");
}

static void on_seed_server(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;

	if (is_error(a, answer, "it says", "INFO"))
		return;
	if (answer->type == REDIS_REPLY_STRING)
		a->version = version_of(answer->str);
	if (a->version == 0 ||
	    !redis_info_field(answer->str, "run_id", a->seed_run_id, sizeof(a->seed_run_id)))
		mp_adopt_fail(a->proxy, "it does not say which version of Redis it is");
}

/* Lines of "db0:keys=3,expires=0,...". */
static void on_seed_keyspace(void *ctx, const redisReply *answer)
{
	struct redis_adopt *a = ctx;
	const char *at;

	if (is_error(a, answer, "it says", "INFO") || answer->type != REDIS_REPLY_STRING)
		return;
	for (at = answer->str; (at = strstr(at, "\ndb")); at++)
		if (strtoll(at + strlen("\ndb"), NULL, 10) > a->last_database)
			a->last_database = strtoll(at + strlen("\ndb"), NULL, 10);
	ask_server(a);
}

static void ask_seed(struct redis_adopt *a)
{
	const struct mp_proxy_options *options = &a->proxy->options;
	const char *password = options->redis_seed_password;

	if (password && options->redis_seed_user)
		redis_console_ask(&a->seed, on_seed_login, "AUTH %s %s", options->redis_seed_user,
				  password);
	else if (password)
		redis_console_ask(&a->seed, on_seed_login, "AUTH %s", password);
	/* What its replica will say first: may it? */
	redis_console_ask(&a->seed, on_seed_replconf, "REPLCONF capa psync2");
	redis_console_ask(&a->seed, on_seed_server, "INFO server");
	redis_console_ask(&a->seed, on_seed_keyspace, "INFO keyspace");
}

struct redis_adopt *redis_adopt_begin(struct mp_proxy *proxy, bool is_empty)
{
	struct redis_adopt *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	*a = (struct redis_adopt){
		.proxy = proxy, .is_empty = is_empty, .last_database = -1, .cursor = "0"};
	if (!proxy->options.redis_seed) {
		ask_server(a);
		return a;
	}
	if (!redis_console_open(&a->seed, proxy->base, &proxy->adopt.address, NULL, on_seed_closed,
				a)) {
		free(a);
		return NULL;
	}
	ask_seed(a);
	return a;
}

uint64_t redis_adopt_keys(const struct redis_adopt *a)
{
	return a->keys;
}

void redis_adopt_end(struct redis_adopt *a)
{
	redis_console_close(&a->seed);
	redis_console_close(&a->server);
	free(a);
}
