/* control_redis.c - see control_redis.h. */
#include "control_redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "net.h"

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static redisContext *connect_to(const char *address, int timeout_ms, char *err, size_t err_bytes)
{
	struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	redisContext *context;
	char host[256];
	int port;

	if (!mp_address_split(address, host, sizeof(host), &port)) {
		snprintf(err, err_bytes, "'%s' is no address", address);
		return NULL;
	}
	context = port ? redisConnectWithTimeout(host, port, timeout)
		       : redisConnectUnixWithTimeout(host, timeout);
	if (context && !context->err && redisSetTimeout(context, timeout) == REDIS_OK)
		return context;
	snprintf(err, err_bytes, "%s", context ? context->errstr : "out of memory");
	if (context)
		redisFree(context);
	return NULL;
}

/* One exchange. NULL with a reason in err: no answer, or an error. */
static redisReply *ask(redisContext *context, const char *command, const char *argument, char *err,
		       size_t err_bytes)
{
	redisReply *reply = redisCommand(context, command, argument);

	if (!reply) {
		snprintf(err, err_bytes, "%s", context->errstr);
	} else if (reply->type == REDIS_REPLY_ERROR) {
		snprintf(err, err_bytes, "%s", reply->str);
		freeReplyObject(reply);
		return NULL;
	}
	return reply;
}

/* The line "field:value" of an INFO reply; "" if there is none. */
static const char *field(const char *info, const char *name)
{
	size_t len = strlen(name);
	const char *at = info;

	while (at) {
		if (strncmp(at, name, len) == 0 && at[len] == ':')
			return at + len + 1;
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	return "";
}

static uint64_t number(const char *info, const char *name)
{
	return strtoull(field(info, name), NULL, 10);
}

/* Of lines "db3:keys=17,...", all but the hidden database's: the last one, with one key. */
static uint64_t visible_keys(const char *info, unsigned databases)
{
	uint64_t keys = 0;
	unsigned i;

	for (i = 0; i + 1 < databases; i++) {
		char name[16];
		const char *value;

		snprintf(name, sizeof(name), "db%u", i);
		value = field(info, name);
		if (strncmp(value, "keys=", 5) == 0)
			keys += strtoull(value + 5, NULL, 10);
	}
	return keys;
}

static bool take_info(redisContext *context, struct mp_server_info *info, char *err,
		      size_t err_bytes)
{
	redisReply *databases = ask(context, "CONFIG GET %s", "databases", err, err_bytes);
	redisReply *reply = databases ? ask(context, "INFO", NULL, err, err_bytes) : NULL;
	const char *text;
	unsigned count = 0;

	if (databases && databases->type == REDIS_REPLY_ARRAY && databases->elements == 2)
		count = (unsigned)strtoul(databases->element[1]->str, NULL, 10);
	freeReplyObject(databases);
	if (!reply)
		return false;
	text = reply->type == REDIS_REPLY_STRING ? reply->str : "";
	snprintf(info->version, sizeof(info->version), "%.*s",
		 (int)strcspn(field(text, "redis_version"), "\r\n"), field(text, "redis_version"));
	info->pid = number(text, "process_id");
	info->uptime_s = number(text, "uptime_in_seconds");
	info->memory_bytes = number(text, "used_memory");
	info->clients = number(text, "connected_clients");
	info->items = visible_keys(text, count);
	freeReplyObject(reply);
	return true;
}

static bool log_in(redisContext *context, const char *password, char *err, size_t err_bytes)
{
	redisReply *reply;

	if (!password)
		return true;
	reply = ask(context, "AUTH %s", password, err, err_bytes);
	freeReplyObject(reply);
	return reply != NULL;
}

static bool ping(redisContext *context, uint64_t *latency_us, char *err, size_t err_bytes)
{
	uint64_t start_us = now_us();
	redisReply *reply = ask(context, "PING", NULL, err, err_bytes);

	*latency_us = now_us() - start_us;
	freeReplyObject(reply);
	return reply != NULL;
}

bool mp_control_redis(const char *address, const char *password, int timeout_ms,
		      struct mp_server_info *info, char *err, size_t err_bytes)
{
	redisContext *context = connect_to(address, timeout_ms, err, err_bytes);
	bool ok;

	memset(info, 0, sizeof(*info));
	if (!context)
		return false;
	ok = log_in(context, password, err, err_bytes) &&
	     ping(context, &info->latency_us, err, err_bytes) &&
	     take_info(context, info, err, err_bytes);
	redisFree(context);
	return ok;
}
