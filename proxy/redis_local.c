/* redis_local.c - see redis_local.h. Texts are those of Redis 7.0. */
#include "redis_local.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command_special.h"
#include "state.h"

#define NOT_AN_INTEGER "-ERR value is not an integer or out of range\r\n"

static void say(struct mp_session *s, const char *text)
{
	mp_session_say(s, (struct mp_slice){text, strlen(text)});
}

static void say_number(struct mp_session *s, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), ":%" PRIu64 "\r\n", number);
	say(s, text);
}

static void say_bulk(struct mp_session *s, struct mp_slice bulk)
{
	struct mp_buffer reply = {0};
	char head[32];
	int n = snprintf(head, sizeof(head), "$%zu\r\n", bulk.len);

	if (mp_buffer_append(&reply, head, (size_t)n) &&
	    mp_buffer_append(&reply, bulk.data, bulk.len) && mp_buffer_append(&reply, "\r\n", 2))
		mp_session_say(s, mp_buffer_slice(&reply));
	else
		mp_session_kill(s);
	mp_buffer_free(&reply);
}

static void ping(struct mp_session *s, const struct resp_request *r)
{
	if (r->argc > 2)
		say(s, "-ERR wrong number of arguments for 'ping' command\r\n");
	else if (r->argc == 2)
		say_bulk(s, r->argv[1]);
	else
		say(s, "+PONG\r\n");
}

static void echo(struct mp_session *s, const struct resp_request *r)
{
	say_bulk(s, r->argv[1]);
}

/* The database behind the last one that clients have holds what they must not touch. */
static void select_database(struct mp_session *s, const struct resp_request *r)
{
	int64_t database;

	if (!mp_parse_i64(r->argv[1], &database) || database < INT32_MIN || database > INT32_MAX) {
		say(s, NOT_AN_INTEGER);
	} else if (database < 0 || database >= s->proxy->databases) {
		say(s, "-ERR DB index is out of range\r\n");
	} else {
		s->database = (uint32_t)database;
		say(s, "+OK\r\n");
	}
}

static void quit(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	say(s, "+OK\r\n");
	mp_session_close_after_replies(s);
}

static bool set_name(struct mp_session *s, struct mp_slice name)
{
	char *copy;

	for (size_t i = 0; i < name.len; i++) {
		if (name.data[i] < '!' || name.data[i] > '~') {
			say(s, "-ERR Client names cannot contain spaces, newlines or special "
			       "characters.\r\n");
			return false;
		}
	}
	copy = name.len ? strndup(name.data, name.len) : NULL;
	free(s->name);
	s->name = copy;
	return true;
}

static void reset(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_multi_reset(&s->multi);
	s->database = 0;
	free(s->name);
	s->name = NULL;
	say(s, "+RESET\r\n");
}

static void say_hello(struct mp_session *s)
{
	char text[256];

	/* The version is the least that a backend has; what it really has, INFO tells. */
	snprintf(text, sizeof(text),
		 "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n"
		 "$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:%" PRIu32 "\r\n$4\r\nmode\r\n"
		 "$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
		 s->id);
	say(s, text);
}

/* HELLO [protover [AUTH user password] [SETNAME name]] */
static void hello(struct mp_session *s, const struct resp_request *r)
{
	int64_t version;

	if (r->argc > 1) {
		if (!mp_parse_i64(r->argv[1], &version)) {
			say(s, "-ERR Protocol version is not an integer or out of range\r\n");
			return;
		}
		if (version != 2) {
			say(s, "-NOPROTO unsupported protocol version\r\n");
			return;
		}
	}
	for (int i = 2; i < r->argc; i++) {
		if (mp_arg_is(r->argv[i], "auth") && i + 2 < r->argc) {
			i += 2; /* there is no password: any will do, as for Redis's nopass user */
		} else if (mp_arg_is(r->argv[i], "setname") && i + 1 < r->argc) {
			if (!set_name(s, r->argv[++i]))
				return;
		} else {
			char text[MP_ERROR_BYTES];

			snprintf(text, sizeof(text), "-ERR Syntax error in HELLO option '%.*s'\r\n",
				 (int)(r->argv[i].len < 64 ? r->argv[i].len : 64), r->argv[i].data);
			for (char *c = text; *c && *c != '\r'; c++)
				if (*c < ' ')
					*c = '?';
			say(s, text);
			return;
		}
	}
	say_hello(s);
}

static void client_id(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	say_number(s, s->id);
}

static void client_getname(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	if (s->name)
		say_bulk(s, (struct mp_slice){s->name, strlen(s->name)});
	else
		say(s, "$-1\r\n");
}

static void client_setname(struct mp_session *s, const struct resp_request *r)
{
	if (set_name(s, r->argv[2]))
		say(s, "+OK\r\n");
}

static void client_setinfo(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	say(s, "+OK\r\n");
}

/* What was acknowledged is on a majority: so many replicas besides the leader have it. */
static void wait_replicas(struct mp_session *s, const struct resp_request *r)
{
	int64_t number;
	unsigned members = 0;

	if (!mp_parse_i64(r->argv[1], &number) || !mp_parse_i64(r->argv[2], &number)) {
		say(s, NOT_AN_INTEGER);
		return;
	}
	if (number < 0) {
		say(s, "-ERR timeout is negative\r\n");
		return;
	}
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		members += s->proxy->options.peer_address[id] != NULL;
	say_number(s, members / 2);
}

static const struct {
	const char *name;
	void (*answer)(struct mp_session *, const struct resp_request *);
} locals[] = {
	{"ping", ping},
	{"echo", echo},
	{"select", select_database},
	{"quit", quit},
	{"reset", reset},
	{"hello", hello},
	{"wait", wait_replicas},
	{"multi", mp_multi_begin},
	{"exec", mp_multi_exec},
	{"discard", mp_multi_discard},
	{"unwatch", mp_multi_unwatch},
	{"client|id", client_id},
	{"client|getname", client_getname},
	{"client|setname", client_setname},
	{"client|setinfo", client_setinfo},
};

void mp_redis_local(struct mp_session *s, const struct mp_command *command,
		    const struct resp_request *request)
{
	for (size_t i = 0; i < sizeof(locals) / sizeof(locals[0]); i++) {
		if (strcmp(command->name, locals[i].name) == 0) {
			locals[i].answer(s, request);
			return;
		}
	}
	say(s, "-ERR muproxy: this command is not served\r\n");
}
