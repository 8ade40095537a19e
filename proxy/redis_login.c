/* redis_login.c - see redis_login.h. Texts are those of Redis 7.0. */
#include "redis_login.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "command_special.h"
#include "redis_client.h"
#include "redis_say.h"
#include "session.h"
#include "state.h"
#include "users.h"

#define DEFAULT_USER "default"
#define WRONG_PASSWORD "-WRONGPASS invalid username-password pair or user is disabled.\r\n"

void mp_redis_login_begin(struct mp_session *s)
{
	s->is_logged_in = !s->proxy->options.redis_users;
	s->user = mp_slice_of(DEFAULT_USER);
	resp_parser_distrust(s->parser.resp, !s->is_logged_in);
}

bool mp_redis_admits(const struct mp_session *s, const struct mp_command *command, char *error)
{
	static const char *const open[] = {"auth", "hello", "quit", "reset"};

	if (s->is_logged_in)
		return true;
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		if (strcmp(command->name, open[i]) == 0)
			return true;
	snprintf(error, MP_ERROR_BYTES, "%sNOAUTH Authentication required.",
		 strcmp(command->name, "exec") == 0 ? "EXECABORT Transaction discarded because of: "
						    : "");
	return false;
}

bool mp_redis_has_user(const struct mp_proxy *proxy, struct mp_slice name)
{
	const struct mp_users *users = proxy->options.redis_users;

	return users ? mp_users_have(users, name) : mp_slice_is(name, DEFAULT_USER);
}

static bool log_in(struct mp_session *s, struct mp_slice user, struct mp_slice password)
{
	const struct mp_users *users = s->proxy->options.redis_users;

	if (users ? !mp_users_know(users, user, password, &s->user)
		  : !mp_slice_is(user, DEFAULT_USER)) {
		STAT_ADD(s->proxy, refused, 1);
		mp_say(s, WRONG_PASSWORD);
		return false;
	}
	s->is_logged_in = true;
	resp_parser_distrust(s->parser.resp, false);
	return true;
}

/* AUTH [user] password */
void mp_redis_auth(struct mp_session *s, const struct resp_request *r)
{
	bool is_named = r->argc == 3;

	if (r->argc > 3)
		mp_say(s, MP_SYNTAX_ERROR);
	else if (!is_named && !s->proxy->options.redis_users)
		mp_say(s, "-ERR AUTH <password> called without any password configured for the "
			  "default user. Are you sure your configuration is correct?\r\n");
	else if (log_in(s, is_named ? r->argv[1] : mp_slice_of(DEFAULT_USER), r->argv[r->argc - 1]))
		mp_say(s, "+OK\r\n");
}

static void say_hello(struct mp_session *s)
{
	const struct mp_target *target = mp_target_of(s->proxy, MP_REDIS);
	const char *version = mp_backend_redis_version(target->backend);
	const char *server = mp_backend_redis_is_valkey(target->backend) ? "valkey" : "redis";
	char wire[320];

	snprintf(wire, sizeof(wire),
		 "%s\r\n$6\r\nserver\r\n$%zu\r\n%s\r\n$7\r\nversion\r\n$%zu\r\n%s\r\n"
		 "$5\r\nproto\r\n:%d\r\n$2\r\nid\r\n:%" PRIu32 "\r\n$4\r\nmode\r\n"
		 "$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
		 s->resp == 3 ? "%7" : "*14", strlen(server), server, strlen(version), version,
		 s->resp, s->id);
	mp_say(s, wire);
}

/* [AUTH user password] [SETNAME name] ..., carried out one by one. False: it was answered. */
static bool take_options(struct mp_session *s, const struct resp_request *r)
{
	for (int i = 2; i < r->argc; i++) {
		if (mp_arg_is(r->argv[i], "auth") && i + 2 < r->argc) {
			if (!log_in(s, r->argv[i + 1], r->argv[i + 2]))
				return false;
			i += 2;
		} else if (mp_arg_is(r->argv[i], "setname") && i + 1 < r->argc) {
			if (!mp_client_take_name(s, r->argv[++i]))
				return false;
		} else {
			mp_say_error(s, "ERR Syntax error in HELLO option '%.*s'",
				     (int)strnlen(r->argv[i].data, r->argv[i].len),
				     r->argv[i].data);
			return false;
		}
	}
	return true;
}

/* HELLO [protover [options]] */
void mp_redis_hello(struct mp_session *s, const struct resp_request *r)
{
	int64_t version = s->resp;

	if (r->argc > 1 && !mp_parse_i64(r->argv[1], &version)) {
		mp_say(s, "-ERR Protocol version is not an integer or out of range\r\n");
		return;
	}
	if (version != 2 && version != 3) {
		mp_say(s, "-NOPROTO unsupported protocol version\r\n");
		return;
	}
	if (!take_options(s, r))
		return;
	if (!s->is_logged_in) {
		mp_say(s, "-NOAUTH HELLO must be called with the client already authenticated, "
			  "otherwise the HELLO AUTH <user> <pass> option can be used to "
			  "authenticate the client and select the RESP protocol version at the "
			  "same time\r\n");
		return;
	}
	s->resp = (uint8_t)version;
	say_hello(s);
}

void mp_redis_whoami(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_say_bulk(s, s->user);
}

/* With a list of users what Redis would show are hashes of passwords, which are nobody's business.
 */
static bool has_list(struct mp_session *s, const struct resp_request *r)
{
	if (!s->proxy->options.redis_users)
		return false;
	mp_say_error(s,
		     "ERR muproxy: acl|%.*s is not served: who may connect, and how, is in this "
		     "replica's auth-file",
		     (int)r->argv[1].len, r->argv[1].data);
	return true;
}

void mp_redis_users(struct mp_session *s, const struct resp_request *r)
{
	if (has_list(s, r))
		return;
	if (mp_arg_is(r->argv[1], "list"))
		mp_say(s, "*1\r\n$34\r\nuser " DEFAULT_USER " on nopass ~* &* +@all\r\n");
	else
		mp_say(s, "*1\r\n$7\r\n" DEFAULT_USER "\r\n");
}

void mp_redis_user(struct mp_session *s, const struct resp_request *r)
{
	static const char rights[] = "$9\r\npasswords\r\n*0\r\n$8\r\ncommands\r\n$5\r\n+@all\r\n$"
				     "4\r\nkeys\r\n$2\r\n~*\r\n"
				     "$8\r\nchannels\r\n$2\r\n&*\r\n$9\r\nselectors\r\n*0\r\n";
	char wire[sizeof(rights) + 64];

	if (has_list(s, r))
		return;
	if (!mp_slice_is(r->argv[2], DEFAULT_USER)) {
		mp_session_say(s, mp_resp_nil(s->resp));
		return;
	}
	snprintf(wire, sizeof(wire), "%s\r\n$5\r\nflags\r\n%c2\r\n$2\r\non\r\n$6\r\nnopass\r\n%s",
		 s->resp == 3 ? "%6" : "*12", s->resp == 3 ? '~' : '*', rights);
	mp_say(s, wire);
}
