/*
 * command.c - see command.h. The table is a hash of names (open addressing, at
 * most half full), and one more for every container's subcommands.
 */
#include "command.h"

#include <assert.h>
#include <ctype.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command_special.h"
#include "command_writes.h"

#define NAME_BYTES sizeof(((struct mp_command *)0)->name)

struct mp_commands {
	size_t mask;
	struct mp_command **slots;
};

/* ------------------------------------------------------------------- table */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* FNV-1a of the name in lower case, which goes to `out` (NAME_BYTES). The name is short enough. */
static uint32_t fold(struct mp_slice name, char *out)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < name.len; i++) {
		out[i] = lower(name.data[i]);
		hash = (hash ^ (unsigned char)out[i]) * 16777619u;
	}
	return hash;
}

/* The part of a full name by which it is looked up: of "config|get" it is "get". */
static const char *lookup_name(const struct mp_command *command)
{
	const char *bar = strchr(command->name, '|');

	return bar ? bar + 1 : command->name;
}

static struct mp_commands *table_new(size_t commands)
{
	struct mp_commands *table = calloc(1, sizeof(*table));
	size_t slots = 8;

	while (slots < commands * 2)
		slots *= 2;
	if (!table)
		return NULL;
	table->mask = slots - 1;
	table->slots = calloc(slots, sizeof(struct mp_command *));
	if (!table->slots) {
		free(table);
		return NULL;
	}
	return table;
}

static void table_add(struct mp_commands *table, struct mp_command *command)
{
	const char *name = lookup_name(command);
	char folded[NAME_BYTES];
	size_t at = fold(mp_slice_of(name), folded);

	while (table->slots[at & table->mask])
		at++;
	table->slots[at & table->mask] = command;
}

/* tail: where in a command's name what is looked up begins (behind "config|"). */
static const struct mp_command *table_find(const struct mp_commands *table, struct mp_slice name,
					   size_t tail)
{
	const struct mp_command *command;
	char folded[NAME_BYTES];
	size_t at;

	if (tail + name.len >= NAME_BYTES)
		return NULL;
	at = fold(name, folded);
	while ((command = table->slots[at & table->mask])) {
		if (memcmp(command->name + tail, folded, name.len) == 0 &&
		    command->name[tail + name.len] == '\0')
			return command;
		at++;
	}
	return NULL;
}

void mp_commands_free(struct mp_commands *table)
{
	if (!table)
		return;
	for (size_t i = 0; i <= table->mask; i++) {
		struct mp_command *command = table->slots[i];

		if (!command)
			continue;
		mp_commands_free((struct mp_commands *)command->subcommands);
		free((struct mp_command *)command->refused);
		free(command);
	}
	free(table->slots);
	free(table);
}

void mp_commands_each(const struct mp_commands *table,
		      void (*each)(void *ctx, const struct mp_command *), void *ctx)
{
	for (size_t i = 0; i <= table->mask; i++) {
		if (!table->slots[i])
			continue;
		each(ctx, table->slots[i]);
		if (table->slots[i]->subcommands)
			mp_commands_each(table->slots[i]->subcommands, each, ctx);
	}
}

/* ---------------------------------------------------------- what COMMAND says */

/* Fields of a command's description, by place (Redis 7; Redis 6 ends with the sixth). */
enum { F_NAME, F_ARITY, F_FLAGS, F_FIRST, F_LAST, F_STEP, F_ACL, F_TIPS, F_KEYS, F_SUBCOMMANDS };

static bool list_has(const redisReply *command, size_t field, const char *word)
{
	const redisReply *list;

	if (command->elements <= field || command->element[field]->type != REDIS_REPLY_ARRAY)
		return false;
	list = command->element[field];
	for (size_t i = 0; i < list->elements; i++)
		if (list->element[i]->str && strcasecmp(list->element[i]->str, word) == 0)
			return true;
	return false;
}

/* Redis's flag of that name, which COMMAND does not show. */
static bool may_replicate(const char *name)
{
	static const char *const names[] = {"eval",    "evalsha", "fcall",
					    "pfcount", "publish", "spublish"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* A command that the table of special ones does not name: its flags decide. */
static void classify_by_flags(struct mp_command *command, const redisReply *reply)
{
	const char *bar = strchr(command->name, '|');

	command->class = MP_CLASS_REFUSED;
	if (bar && strcmp(bar, "|help") == 0)
		command->class = MP_CLASS_READ;
	else if (list_has(reply, F_FLAGS, "blocking"))
		command->refusal = "blocking commands are not served yet";
	else if (list_has(reply, F_FLAGS, "pubsub"))
		command->refusal = "publish/subscribe is not served yet";
	else if (list_has(reply, F_FLAGS, "admin"))
		command->refusal = "it concerns one server alone: send it to the backend itself";
	else if (list_has(reply, F_FLAGS, "readonly"))
		command->class = MP_CLASS_READ;
	else if (!list_has(reply, F_FLAGS, "write"))
		command->refusal = "it is not known to be safe to replicate";
	else if (mp_write_is_known(command->name))
		command->class = MP_CLASS_WRITE;
	else
		command->refusal = "it is not known to do the same at every replica";
}

static void classify(struct mp_command *command, const redisReply *reply)
{
	const struct mp_special *special = mp_special_find(command->name);
	const char *bar = strchr(command->name, '|');

	if (!special && bar && strcmp(bar, "|help") != 0) {
		char container[NAME_BYTES];

		snprintf(container, sizeof(container), "%.*s", (int)(bar - command->name),
			 command->name);
		special = mp_special_find(container);
	}
	if (!special) {
		classify_by_flags(command, reply);
		return;
	}
	command->class = special->class;
	command->rewrite = special->rewrite;
	command->blind = special->blind;
	command->refuses = special->refuses;
	if (special->class == MP_CLASS_REFUSED)
		command->refusal = special->refusal;
}

/* The twin that stands for the requests of a command that are refused. */
static bool add_refused(struct mp_command *command)
{
	struct mp_command *refused;

	if (!command->refuses)
		return true;
	refused = malloc(sizeof(*refused));
	if (!refused)
		return false;
	*refused = *command;
	refused->class = MP_CLASS_REFUSED;
	refused->rewrite = MP_REWRITE_NONE;
	refused->blind = false;
	refused->refusal = mp_special_find(command->name)->refusal;
	refused->refuses = NULL;
	refused->subcommands = NULL;
	command->refused = refused;
	return true;
}

static bool well_formed(const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements <= F_STEP ||
	    !reply->element[F_NAME]->str || reply->element[F_FLAGS]->type != REDIS_REPLY_ARRAY)
		return false;
	return reply->element[F_ARITY]->type == REDIS_REPLY_INTEGER &&
	       reply->element[F_FIRST]->type == REDIS_REPLY_INTEGER &&
	       reply->element[F_LAST]->type == REDIS_REPLY_INTEGER &&
	       reply->element[F_STEP]->type == REDIS_REPLY_INTEGER;
}

static struct mp_commands *table_from(const redisReply *list);

/* NULL: not understood, or out of memory. */
static struct mp_command *command_from(const redisReply *reply)
{
	struct mp_command *command;
	const char *name;

	if (!well_formed(reply))
		return NULL;
	command = calloc(1, sizeof(*command));
	if (!command)
		return NULL;
	name = reply->element[F_NAME]->str;
	for (size_t i = 0; name[i] && i < NAME_BYTES - 1; i++)
		command->name[i] = lower(name[i]);
	command->arity = (int)reply->element[F_ARITY]->integer;
	command->first_key = (int)reply->element[F_FIRST]->integer;
	command->last_key = (int)reply->element[F_LAST]->integer;
	command->key_step = (int)reply->element[F_STEP]->integer;
	command->movable_keys = list_has(reply, F_FLAGS, "movablekeys");
	command->denyoom = list_has(reply, F_FLAGS, "denyoom");
	command->is_admin = list_has(reply, F_FLAGS, "admin");
	command->may_change = list_has(reply, F_FLAGS, "write") || may_replicate(command->name);
	command->touches_keys =
		list_has(reply, F_FLAGS, "readonly") || list_has(reply, F_FLAGS, "write");
	classify(command, reply);
	if (reply->elements > F_SUBCOMMANDS && reply->element[F_SUBCOMMANDS]->elements > 0) {
		command->subcommands = table_from(reply->element[F_SUBCOMMANDS]);
		if (!command->subcommands)
			goto failed;
	}
	if (add_refused(command))
		return command;
failed:
	mp_commands_free((struct mp_commands *)command->subcommands);
	free(command);
	return NULL;
}

static struct mp_commands *table_from(const redisReply *list)
{
	struct mp_commands *table = table_new(list->elements);

	for (size_t i = 0; table && i < list->elements; i++) {
		struct mp_command *command;

		/* A name too long for us is as good as unknown: never forwarded. */
		if (well_formed(list->element[i]) &&
		    strlen(list->element[i]->element[F_NAME]->str) >= NAME_BYTES)
			continue;
		command = command_from(list->element[i]);
		if (!command) {
			mp_commands_free(table);
			return NULL;
		}
		table_add(table, command);
	}
	return table;
}

/* ------------------------------------------------------------------- fetch */

static redisContext *connect_to(const char *address, int timeout_ms)
{
	struct timeval timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
	const char *colon = strrchr(address, ':');
	redisContext *context;
	char host[256];

	if (strncmp(address, "unix:", 5) == 0) {
		context = redisConnectUnixWithTimeout(address + 5, timeout);
	} else {
		snprintf(host, sizeof(host), "%.*s",
			 colon ? (int)(colon - address) : (int)strlen(address), address);
		context = redisConnectWithTimeout(host, colon ? atoi(colon + 1) : 6379, timeout);
	}
	if (context && !context->err)
		redisSetTimeout(context, timeout);
	return context;
}

/* The reply, or NULL with the reason in err; the caller frees it. */
static redisReply *ask(redisContext *context, char *err, size_t err_bytes, int argc,
		       const char **argv)
{
	redisReply *reply = redisCommandArgv(context, argc, argv, NULL);

	if (!reply) {
		snprintf(err, err_bytes, "%s: %s", argv[0], context->errstr);
		return NULL;
	}
	if (reply->type == REDIS_REPLY_ERROR) {
		snprintf(err, err_bytes, "%s: %s", argv[0], reply->str);
		freeReplyObject(reply);
		return NULL;
	}
	return reply;
}

static struct mp_commands *fetch_from(redisContext *context, const char *password, char *err,
				      size_t err_bytes)
{
	struct mp_commands *table = NULL;
	redisReply *reply;

	if (password) {
		reply = ask(context, err, err_bytes, 2, (const char *[]){"AUTH", password});
		if (!reply)
			return NULL;
		freeReplyObject(reply);
	}
	reply = ask(context, err, err_bytes, 1, (const char *[]){"COMMAND"});
	if (!reply)
		return NULL;
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0)
		table = table_from(reply);
	if (!table)
		snprintf(err, err_bytes, "COMMAND: its reply is not understood");
	freeReplyObject(reply);
	return table;
}

struct mp_commands *mp_commands_fetch(const char *address, const char *password, int timeout_ms,
				      char *err, size_t err_bytes)
{
	redisContext *context = connect_to(address, timeout_ms);
	struct mp_commands *table = NULL;

	if (!context)
		snprintf(err, err_bytes, "%s: out of memory", address);
	else if (context->err)
		snprintf(err, err_bytes, "%s: %s", address, context->errstr);
	else
		table = fetch_from(context, password, err, err_bytes);
	if (context)
		redisFree(context);
	return table;
}

/* ------------------------------------------------------------------ look-up */

/* Redis puts client's bytes into error texts as C strings, line ends made blank. */
static void one_line(char *text)
{
	for (; *text; text++)
		if (*text == '\r' || *text == '\n')
			*text = ' ';
}

static int cut(struct mp_slice s, size_t max)
{
	return (int)strnlen(s.data, s.len < max ? s.len : max);
}

static void unknown_command(const struct resp_request *r, char *error, size_t error_bytes)
{
	char args[256];
	size_t len = 0;

	args[0] = '\0';
	for (int i = 1; i < r->argc && len < 128; i++) {
		struct mp_slice arg = r->argv[i];

		len += (size_t)snprintf(args + len, sizeof(args) - len, "'%.*s' ",
					cut(arg, 128 - len), arg.data);
	}
	snprintf(error, error_bytes, "ERR unknown command '%.*s', with args beginning with: %s",
		 cut(r->argv[0], 128), r->argv[0].data, args);
	one_line(error);
}

static void unknown_subcommand(const struct mp_command *container, const struct resp_request *r,
			       char *error, size_t error_bytes)
{
	char name[NAME_BYTES];
	size_t n = 0;

	for (; container->name[n]; n++)
		name[n] = (char)toupper((unsigned char)container->name[n]);
	name[n] = '\0';
	snprintf(error, error_bytes, "ERR unknown subcommand '%.*s'. Try %s HELP.",
		 cut(r->argv[1], 128), r->argv[1].data, name);
	one_line(error);
}

const struct mp_command *mp_command_find(const struct mp_commands *table,
					 const struct resp_request *r, char *error,
					 size_t error_bytes)
{
	const struct mp_command *command;

	assert(r->argc > 0);
	command = table_find(table, r->argv[0], 0);
	if (!command) {
		unknown_command(r, error, error_bytes);
		return NULL;
	}
	if (command->subcommands && r->argc > 1) {
		const struct mp_command *container = command;

		command =
			table_find(container->subcommands, r->argv[1], strlen(container->name) + 1);
		if (!command) {
			unknown_subcommand(container, r, error, error_bytes);
			return NULL;
		}
	}
	if (command->arity >= 0 ? r->argc != command->arity : r->argc < -command->arity) {
		/* Whatever is wrong with an EXEC ends the transaction. */
		snprintf(error, error_bytes, "%s wrong number of arguments for '%s' command",
			 strcmp(command->name, "exec") == 0
				 ? "EXECABORT Transaction discarded because of:"
				 : "ERR",
			 command->name);
		return NULL;
	}
	if (command->refuses && command->refuses(r))
		return command->refused;
	return command;
}

void mp_command_refusal(const struct mp_command *command, char *error, size_t error_bytes)
{
	if (strncmp(command->refusal, "ERR ", 4) == 0)
		snprintf(error, error_bytes, "%s", command->refusal);
	else
		snprintf(error, error_bytes, "ERR muproxy: %s is not served: %s", command->name,
			 command->refusal);
}

bool mp_command_each_key(const struct mp_command *command, const struct resp_request *r,
			 void (*visit)(void *ctx, struct mp_slice key), void *ctx)
{
	int last = command->last_key < 0 ? r->argc + command->last_key : command->last_key;

	/* PUBLISH, CONFIG SET and the like are about no keys; scripts may be, whatever they name.
	 */
	if (!command->touches_keys && !command->movable_keys)
		return true;
	if (command->first_key == 0 || command->movable_keys)
		return false;
	for (int i = command->first_key; i <= last && i < r->argc; i += command->key_step) {
		visit(ctx, r->argv[i]);
		if (command->key_step <= 0)
			break;
	}
	return true;
}
