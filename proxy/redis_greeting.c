/*
 * redis_greeting.c - see redis_greeting.h.
 *
 * The greeting is two pipelines of steps, a command each with what to make of
 * its reply. The second waits for the first, because it first ends what the
 * first found: connections that an earlier life of ours has left behind. Their
 * last bytes may still be in the server's socket, unread, to be executed after
 * the applied LSN was asked for; the entries in them would then be executed
 * twice. Once CLIENT KILL has answered they never will be.
 */
#include "redis_greeting.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "command.h"
#include "redis_scripts.h"
#include "redis_transfer.h"
#include "redis_wire.h"
#include "rewrite_scripts.h"

struct redis_step {
	const char *command; /* words separated by single spaces; NULL: the end */
	/* What to make of a reply that is no error; NULL: whatever it is, it is all one. */
	void (*reply)(struct redis_greeting *, const redisReply *);
	const char *wanted; /* by on_setting, on_script */
};

static void refuse(struct redis_greeting *g, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void refuse(struct redis_greeting *g, const char *format, ...)
{
	va_list args;

	if (g->outcome != REDIS_GREETING_MORE)
		return;
	g->outcome = REDIS_GREETING_REFUSED;
	va_start(args, format);
	vsnprintf(g->why, sizeof(g->why), format, args);
	va_end(args);
}

static void send_words(struct redis_greeting *g, const char *format, ...)
{
	char *wire = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = redisvFormatCommand(&wire, format, args);
	va_end(args);
	if (len < 0 || !mp_buffer_append(g->out, wire, (size_t)len))
		refuse(g, "out of memory");
	free(wire);
}

/* ------------------------------------------------------------ first pipeline */

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* An error that goes away by itself? Otherwise it is a refusal. */
static void on_error(struct redis_greeting *g, const char *command, const char *error)
{
	if (g->outcome != REDIS_GREETING_MORE)
		return;
	if (starts_with(error, "NOAUTH") || starts_with(error, "WRONGPASS")) {
		refuse(g, "the server wants %s password", g->password ? "another" : "a");
	} else if (starts_with(error, "LOADING") || starts_with(error, "BUSY ")) {
		g->outcome = REDIS_GREETING_LATER;
		snprintf(g->why, sizeof(g->why), "%s", error);
	} else {
		refuse(g, "%s: %.80s", command, error);
	}
}

static void on_ok(struct redis_greeting *g, const redisReply *reply)
{
	(void)g;
	(void)reply;
}

static void on_info_server(struct redis_greeting *g, const redisReply *reply)
{
	char number[32];
	int major = 0, minor = 0;

	if (reply->type != REDIS_REPLY_STRING) {
		refuse(g, "INFO server: an unexpected reply");
		return;
	}
	redis_info_field(reply->str, "redis_version", g->version, sizeof(g->version));
	redis_info_field(reply->str, "run_id", g->run_id, sizeof(g->run_id));
	redis_info_field(reply->str, "process_id", number, sizeof(number));
	g->pid = atoll(number);
	/* Keys are asked for their deadlines with PEXPIRETIME, which came with 7.0. */
	if (sscanf(g->version, "%d.%d", &major, &minor) == 2 && major * 100 + minor < 700)
		refuse(g, "Redis %s is too old, 7.0 is needed", g->version);
	if (redis_info_field(reply->str, "valkey_version", number, sizeof(number))) {
		g->is_valkey = true;
		snprintf(g->version, sizeof(g->version), "%s", number);
	}
}

/* The value in a reply to CONFIG GET of one parameter; NULL: the server has no such parameter. */
static const char *config_value(const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
		return NULL;
	return reply->element[1]->str;
}

/* Were we restoring it when we, or the connection to it, came to an end (redis_transfer.h)? */
static void on_masterauth(struct redis_greeting *g, const redisReply *reply)
{
	const char *value = config_value(reply);
	size_t len = strlen(REDIS_RESTORE_AUTH) + REDIS_RESTORE_TOKEN + 1;

	if (!value || !starts_with(value, REDIS_RESTORE_AUTH) || strlen(value) < len)
		return;
	g->left_auth = strdup(value + len);
	if (!g->left_auth)
		refuse(g, "out of memory");
}

static void on_role(struct redis_greeting *g, const redisReply *reply)
{
	const char *role = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0
				   ? reply->element[0]->str
				   : NULL;

	if (g->left_auth)
		return;
	if (!role || strcmp(role, "master") != 0)
		refuse(g, "its role is %s, not master: it takes its data from elsewhere",
		       role ? role : "unknown");
}

static void on_databases(struct redis_greeting *g, const redisReply *reply)
{
	const char *value = config_value(reply);

	g->databases = value ? (uint32_t)strtoul(value, NULL, 10) : 0;
	if (g->databases < 2)
		refuse(g,
		       "it has %u database(s): muproxy needs one for itself, set databases to 2 "
		       "or more",
		       g->databases);
	else if (g->databases > MP_MAX_DATABASES + 1)
		refuse(g,
		       "it has %u databases: the log tells %d apart, set databases to %d or less",
		       g->databases, MP_MAX_DATABASES, MP_MAX_DATABASES + 1);
}

/* Older servers lack some of the settings, and then need not be told. */
static void on_setting(struct redis_greeting *g, const redisReply *reply)
{
	const struct redis_step *step = g->steps - 1;
	const char *value = config_value(reply);

	if (value && strcmp(value, step->wanted) != 0)
		refuse(g, "its %s is %s and cannot be set to %s",
		       step->command + strlen("CONFIG GET "), value, step->wanted);
}

static void on_client_id(struct redis_greeting *g, const redisReply *reply)
{
	g->client_id = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
}

static void send_second_pipeline(struct redis_greeting *g);
static void end_restoring(struct redis_greeting *g);

/* Lines of "id=7 addr=... name=muproxy-apply ...". */
static void on_client_list(struct redis_greeting *g, const redisReply *reply)
{
	char *line, *save = NULL;

	if (reply->type != REDIS_REPLY_STRING || g->client_id == 0) {
		refuse(g, "CLIENT LIST: an unexpected reply");
		return;
	}
	for (line = strtok_r(reply->str, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		long long id = 0;

		if (sscanf(line, "id=%lld ", &id) == 1 && id != g->client_id &&
		    strstr(line, " name=" REDIS_CLIENT_NAME " ")) {
			send_words(g, "CLIENT KILL ID %lld", id);
			g->kills++;
		}
	}
	if (g->left_auth)
		end_restoring(g);
	else
		send_second_pipeline(g);
}

static const struct redis_step first_pipeline[] = {
	{"CLIENT SETNAME " REDIS_CLIENT_NAME, on_ok, NULL},
	{"INFO server", on_info_server, NULL},
	{"CONFIG GET masterauth", on_masterauth, NULL},
	{"ROLE", on_role, NULL},
	{"CONFIG GET databases", on_databases, NULL},
	/*
	 * Settings with which servers would diverge, or leave us (DETERMINISM,
	 * Redis 2). What counts is not whether they could be set but what they are.
	 */
	{"CONFIG SET maxmemory 0", NULL, NULL},
	{"CONFIG GET maxmemory", on_setting, "0"},
	{"CONFIG SET maxmemory-clients 0", NULL, NULL},
	{"CONFIG GET maxmemory-clients", on_setting, "0"},
	{"CONFIG SET stop-writes-on-bgsave-error no", NULL, NULL},
	{"CONFIG GET stop-writes-on-bgsave-error", on_setting, "no"},
	{"CONFIG SET min-replicas-to-write 0", NULL, NULL},
	{"CONFIG GET min-replicas-to-write", on_setting, "0"},
	{"CONFIG SET timeout 0", NULL, NULL},
	{"CONFIG GET timeout", on_setting, "0"},
	{"CLIENT ID", on_client_id, NULL},
	{"CLIENT LIST TYPE normal", on_client_list, NULL},
	{NULL, NULL, NULL},
};

/* ---------------------------------------------- one that was left in the middle */

static void on_set_back(struct redis_greeting *g, const redisReply *reply)
{
	(void)reply;
	send_second_pipeline(g);
}

static const struct redis_step setting_back[] = {
	{"CONFIG SET masterauth", on_set_back, NULL},
	{NULL, NULL, NULL},
};

/* Only now: by that setting it is known what there is to be done. */
static void on_master_again(struct redis_greeting *g, const redisReply *reply)
{
	(void)reply;
	g->steps = setting_back;
	send_words(g, "CONFIG SET masterauth %s", g->left_auth);
}

static const struct redis_step restoring_end[] = {
	{"REPLICAOF NO ONE", on_master_again, NULL},
	{NULL, NULL, NULL},
};

/* What it holds is for its position in the log to say. */
static void end_restoring(struct redis_greeting *g)
{
	g->steps = restoring_end;
	send_words(g, "REPLICAOF NO ONE");
}

/* ----------------------------------------------------------- second pipeline */

static void on_applied(struct redis_greeting *g, const redisReply *reply)
{
	struct redis_applied applied = {0};
	bool failed;

	if (reply->type == REDIS_REPLY_NIL)
		return;
	g->is_ours = true;
	if (reply->type != REDIS_REPLY_STRING ||
	    !redis_get_applied((struct mp_slice){reply->str, (size_t)reply->len}, &applied,
			       &failed))
		refuse(g, "its key " REDIS_APPLIED_KEY " in database %u is not ours",
		       g->databases - 1);
	else if (applied.group_id != g->group_id)
		refuse(g,
		       "it belongs to another group (%016llx); point to another server, or "
		       "flush it",
		       (unsigned long long)applied.group_id);
	else if (failed)
		refuse(g,
		       "it has executed entries behind one that it refused (LSN %llu) and must "
		       "be restored, or flushed",
		       (unsigned long long)applied.lsn);
	g->stored_lsn = applied.lsn;
	g->era = applied.era;
}

static void on_claimed(struct redis_greeting *g, const redisReply *reply)
{
	(void)reply;
	g->applied_lsn = 0;
	g->outcome = REDIS_GREETING_READY;
}

static const struct redis_step claim_pipeline[] = {
	{"SET " REDIS_APPLIED_KEY, on_claimed, NULL},
	{NULL, NULL, NULL},
};

/*
 * An empty server is marked as ours before it gets a first write: a blind unit
 * stores its LSN later, and a process that dies in between must find its own
 * data again, not a stranger's.
 */
static void claim(struct redis_greeting *g)
{
	char command[REDIS_SET_APPLIED_BYTES];

	g->steps = claim_pipeline;
	redis_put_set_applied(command, &(struct redis_applied){.group_id = g->group_id});
	if (!mp_buffer_append(g->out, command, sizeof(command)))
		refuse(g, "out of memory");
}

/* Lines of "db0:keys=3,expires=0,...". */
static void on_keyspace(struct redis_greeting *g, const redisReply *reply)
{
	const char *at = reply->type == REDIS_REPLY_STRING ? reply->str : "";

	while ((at = strstr(at, ":keys="))) {
		at += strlen(":keys=");
		g->keys += strtoull(at, NULL, 10);
	}
	at = reply->type == REDIS_REPLY_STRING ? reply->str : "";
	while ((at = strstr(at, ",expires="))) {
		at += strlen(",expires=");
		g->volatile_keys += strtoull(at, NULL, 10);
	}
	if (!g->is_ours && g->keys > 0)
		refuse(g, "it holds data that is not of this group's log; flush it or point to "
			  "another server");
	if (g->outcome != REDIS_GREETING_MORE)
		return;
	if (!g->is_ours) {
		claim(g);
	} else if (g->failed_lsn && g->stored_lsn >= g->failed_lsn) {
		send_words(g, "APPEND " REDIS_APPLIED_KEY " %b", REDIS_FAILED_MARK,
			   strlen(REDIS_FAILED_MARK));
	} else {
		g->applied_lsn = g->stored_lsn;
		g->outcome = REDIS_GREETING_READY;
	}
}

/* Reached only by a server that was marked as failed just now. */
static void on_marked(struct redis_greeting *g, const redisReply *reply)
{
	(void)reply;
	refuse(g, "it has executed entries behind LSN %llu, which it refused",
	       (unsigned long long)g->failed_lsn);
}

static void on_script(struct redis_greeting *g, const redisReply *reply)
{
	const struct redis_step *step = g->steps - 1;

	if (reply->type != REDIS_REPLY_STRING || strcmp(reply->str, step->wanted) != 0)
		refuse(g, "SCRIPT LOAD: an unexpected reply");
}

/* What Lua makes of "<", which scripts and sort() go by: replicas with other ideas would differ. */
static void on_collation(struct redis_greeting *g, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_INTEGER || reply->integer != 1)
		refuse(g, "its locale does not compare strings byte by byte: start it with "
			  "LC_ALL=C in its environment");
}

static const char collation[] = "return 'B' < 'a' and 'a-b' < 'ab' and 'a B' < 'aa' and "
				"'Z' < '\\195\\164' and 1 or 0";

static const struct redis_step second_pipeline[] = {
	{"SELECT", on_ok, NULL},
	{"SCRIPT LOAD", on_script, mp_prelude_sha1},
	{"SCRIPT LOAD", on_script, mp_xadd_script_sha1},
	{"SCRIPT LOAD", on_script, mp_spop_script_sha1},
	{"EVAL", on_collation, NULL},
	{"GET " REDIS_APPLIED_KEY, on_applied, NULL},
	{"INFO keyspace", on_keyspace, NULL},
	{"APPEND " REDIS_APPLIED_KEY, on_marked, NULL},
	{NULL, NULL, NULL},
};

static void send_second_pipeline(struct redis_greeting *g)
{
	g->steps = second_pipeline;
	send_words(g, "SELECT %u", g->databases - 1);
	send_words(g, "SCRIPT LOAD %s", mp_prelude);
	send_words(g, "SCRIPT LOAD %s", mp_xadd_script);
	send_words(g, "SCRIPT LOAD %s", mp_spop_script);
	send_words(g, "EVAL %s 0", collation);
	send_words(g, "GET " REDIS_APPLIED_KEY);
	send_words(g, "INFO keyspace");
}

/* -------------------------------------------------------------------- driver */

static void on_auth(struct redis_greeting *g, const redisReply *reply)
{
	(void)reply;
	g->steps = first_pipeline;
}

static const struct redis_step authentication[] = {{"AUTH", on_auth, NULL}, {NULL, NULL, NULL}};

void redis_greeting_start(struct redis_greeting *g, struct mp_buffer *out)
{
	const struct redis_step *step;

	g->out = out;
	g->reader = redisReaderCreate();
	g->steps = first_pipeline;
	if (!g->reader)
		refuse(g, "out of memory");
	if (g->password) {
		g->steps = authentication;
		send_words(g, "AUTH %s", g->password);
	}
	for (step = first_pipeline; step->command; step++)
		send_words(g, step->command);
}

static void take_reply(struct redis_greeting *g, const redisReply *reply)
{
	const struct redis_step *step = g->steps;

	/* Whether a connection was there to be killed, or had just gone, is all one. */
	if (g->kills > 0) {
		g->kills--;
		return;
	}
	assert(step->command);
	g->steps = step + 1; /* unless the reply starts another pipeline */
	if (!step->reply)
		return;
	if (reply->type == REDIS_REPLY_ERROR)
		on_error(g, step->command, reply->str);
	else
		step->reply(g, reply);
}

enum redis_greeting_outcome redis_greeting_feed(struct redis_greeting *g, const char *data,
						size_t len)
{
	if (g->outcome == REDIS_GREETING_MORE && redisReaderFeed(g->reader, data, len) != REDIS_OK)
		refuse(g, "it does not speak Redis's protocol: %s", g->reader->errstr);
	while (g->outcome == REDIS_GREETING_MORE) {
		void *reply = NULL;

		if (redisReaderGetReply(g->reader, &reply) != REDIS_OK)
			refuse(g, "it does not speak Redis's protocol: %s", g->reader->errstr);
		if (!reply)
			break;
		take_reply(g, reply);
		freeReplyObject(reply);
	}
	return g->outcome;
}

void redis_greeting_end(struct redis_greeting *g)
{
	if (g->reader)
		redisReaderFree(g->reader);
	g->reader = NULL;
	free(g->left_auth);
	g->left_auth = NULL;
}
