/* redis_local.c - see redis_local.h. Texts are those of Redis 7.0. */
#include "redis_local.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "local_reads.h"
#include "monitor.h"
#include "redis_client.h"
#include "redis_login.h"
#include "redis_say.h"
#include "state.h"

enum { BUSY_MS = 100 }; /* a server that was silent for so long is busy */

static void ping(struct mp_session *s, const struct resp_request *r)
{
	if (r->argc > 2)
		mp_say(s, "-ERR wrong number of arguments for 'ping' command\r\n");
	else if (s->resp == 2 && mp_pubsub_is_subscribed(s))
		mp_pubsub_pong(s, r->argc == 2 ? r->argv[1] : (struct mp_slice){"", 0});
	else if (r->argc == 2)
		mp_say_bulk(s, r->argv[1]);
	else
		mp_say(s, "+PONG\r\n");
}

static void echo(struct mp_session *s, const struct resp_request *r)
{
	mp_say_bulk(s, r->argv[1]);
}

/* The database behind the last one that clients have holds what they must not touch. */
static void select_database(struct mp_session *s, const struct resp_request *r)
{
	int64_t database;

	if (!mp_parse_i64(r->argv[1], &database)) {
		mp_say(s, MP_NOT_AN_INTEGER);
	} else if (database < INT32_MIN || database > INT32_MAX) {
		mp_say(s, MP_NOT_AN_INT);
	} else if (database < 0 || database >= s->proxy->databases) {
		mp_say(s, "-ERR DB index is out of range\r\n");
	} else {
		s->database = (uint32_t)database;
		mp_say(s, "+OK\r\n");
	}
}

static void quit(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_say(s, "+OK\r\n");
	mp_session_close_after_replies(s);
}

static void reset(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_multi_reset(&s->multi);
	mp_pubsub_unsubscribe_all(s);
	mp_monitor_end(s);
	s->wants_no_replies = s->is_silent = false;
	s->database = 0;
	s->resp = 2;
	mp_local_reads_begin(s);
	mp_redis_login_begin(s);
	free(s->name);
	s->name = NULL;
	mp_say(s, "+RESET\r\n");
}

static void read_locally(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	s->reads_locally = true;
	mp_say(s, "+OK\r\n");
}

static void read_linearizably(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	s->reads_locally = false;
	mp_say(s, "+OK\r\n");
}

/* What was acknowledged is on a majority: so many replicas besides the leader have it. */
static void wait_replicas(struct mp_session *s, const struct resp_request *r)
{
	int64_t number, timeout_ms;
	struct mu_group_status group;
	unsigned members = 0;

	if (!mp_parse_i64(r->argv[1], &number)) {
		mp_say(s, MP_NOT_AN_INTEGER);
		return;
	}
	if (!mp_parse_i64(r->argv[2], &timeout_ms)) {
		mp_say(s, "-ERR timeout is not an integer or out of range\r\n");
		return;
	}
	if (timeout_ms < 0) {
		mp_say(s, "-ERR timeout is negative\r\n");
		return;
	}
	mu_group_status(s->proxy->mu, &group);
	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		members += group.replica[id].member;
	mp_say_number(s, members / 2);
}

/*
 * What a script has done by the time that it is killed is not the same at every
 * server. Endless ones end by themselves, at the same step everywhere (prelude.lua).
 */
static void kill_script(struct mp_session *s, const struct resp_request *r)
{
	const struct mp_backend *backend =
		s->proxy->apply.target[mp_target_index(MP_REDIS)].backend;
	bool is_busy = s->proxy->expiry.scripts > 0 && backend->ops->oldest_ms(backend) > BUSY_MS;

	(void)r;
	if (!is_busy)
		mp_say(s, "-NOTBUSY No scripts in execution right now.\r\n");
	else
		mp_say(s,
		       "-UNKILLABLE muproxy: scripts run at every replica and cannot be ended at "
		       "the same place by a signal. This one ends by itself when it has taken too "
		       "many steps.\r\n");
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
	{"hello", mp_redis_hello},
	{"auth", mp_redis_auth},
	{"acl|whoami", mp_redis_whoami},
	{"acl|users", mp_redis_users},
	{"acl|list", mp_redis_users},
	{"acl|getuser", mp_redis_user},
	{"readonly", read_locally},
	{"readwrite", read_linearizably},
	{"wait", wait_replicas},
	{"multi", mp_multi_begin},
	{"exec", mp_multi_exec},
	{"discard", mp_multi_discard},
	{"unwatch", mp_multi_unwatch},
	{"script|kill", kill_script},
	{"function|kill", kill_script},
	{"subscribe", mp_pubsub_change},
	{"psubscribe", mp_pubsub_change},
	{"ssubscribe", mp_pubsub_change},
	{"unsubscribe", mp_pubsub_change},
	{"punsubscribe", mp_pubsub_change},
	{"sunsubscribe", mp_pubsub_change},
	{"pubsub|channels", mp_pubsub_channels},
	{"pubsub|shardchannels", mp_pubsub_shardchannels},
	{"pubsub|numsub", mp_pubsub_numsub},
	{"pubsub|shardnumsub", mp_pubsub_shardnumsub},
	{"pubsub|numpat", mp_pubsub_numpat},
	{"client|id", mp_client_id},
	{"client|getname", mp_client_getname},
	{"client|setname", mp_client_setname},
	{"client|setinfo", mp_client_setinfo},
	{"client|info", mp_client_info},
	{"client|list", mp_client_list},
	{"client|kill", mp_client_kill},
	{"client|no-evict", mp_client_on_off},
	{"client|no-touch", mp_client_on_off},
	{"client|getredir", mp_client_getredir},
	{"client|unblock", mp_client_unblock},
	{"client|reply", mp_client_reply},
	{"client|tracking", mp_client_tracking},
	{"client|trackinginfo", mp_client_trackinginfo},
	{"client|caching", mp_client_caching},
	{"monitor", mp_monitor_begin},
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
	mp_say(s, "-ERR muproxy: this command is not served\r\n");
}
