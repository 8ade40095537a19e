/* redis_client.c - see redis_client.h. Texts are those of Redis 7.0. */
#include "redis_client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "backend.h"
#include "command_special.h"
#include "net.h"
#include "redis_login.h"
#include "redis_say.h"
#include "session_parts.h"
#include "state.h"

/* --------------------------------------------------------------- about oneself */

bool mp_client_take_name(struct mp_session *s, struct mp_slice name)
{
	char *copy;

	for (size_t i = 0; i < name.len; i++) {
		if (name.data[i] < '!' || name.data[i] > '~') {
			mp_say(s, "-ERR Client names cannot contain spaces, newlines or special "
				  "characters.\r\n");
			return false;
		}
	}
	copy = name.len ? strndup(name.data, name.len) : NULL;
	free(s->name);
	s->name = copy;
	return true;
}

void mp_client_id(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_say_number(s, s->id);
}

void mp_client_getname(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	if (s->name)
		mp_say_bulk(s, (struct mp_slice){s->name, strlen(s->name)});
	else
		mp_session_say(s, mp_resp_nil(s->resp));
}

void mp_client_setname(struct mp_session *s, const struct resp_request *r)
{
	if (mp_client_take_name(s, r->argv[2]))
		mp_say(s, "+OK\r\n");
}

void mp_client_setinfo(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_say(s, "+OK\r\n");
}

/* NO-EVICT, NO-TOUCH: nobody is evicted here, and the backend's clients touch for all. */
void mp_client_on_off(struct mp_session *s, const struct resp_request *r)
{
	if (mp_arg_is(r->argv[2], "on") || mp_arg_is(r->argv[2], "off"))
		mp_say(s, "+OK\r\n");
	else
		mp_say(s, MP_SYNTAX_ERROR);
}

void mp_client_getredir(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_say_number(s, -1);
}

/* Returns how many: 1 or 0. */
static int64_t unblock(struct mp_proxy *proxy, int64_t id, bool with_error)
{
	struct mp_session *s;
	struct mp_request *r;

	TAILQ_FOREACH(s, &proxy->sessions.all, all)
		if ((int64_t)s->id == id)
			break;
	r = s ? mp_patience_of(s) : NULL;
	if (!r)
		return 0;
	mp_patience_give_up(r, with_error ? MP_GIVE_UP_ERROR : MP_GIVE_UP_TIMEOUT);
	return 1;
}

/* CLIENT UNBLOCK id [TIMEOUT|ERROR] */
void mp_client_unblock(struct mp_session *s, const struct resp_request *r)
{
	int64_t id;

	if (r->argc > 4)
		mp_say(s, "-ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try "
			  "CLIENT HELP.\r\n");
	else if (r->argc == 4 && !mp_arg_is(r->argv[3], "timeout") &&
		 !mp_arg_is(r->argv[3], "error"))
		mp_say(s, "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n");
	else if (!mp_parse_i64(r->argv[2], &id))
		mp_say(s, MP_NOT_AN_INTEGER);
	else
		mp_say_number(
			s, unblock(s->proxy, id, r->argc == 4 && mp_arg_is(r->argv[3], "error")));
}

/* What it turns off begins with its own reply; SKIP is about the next request. */
void mp_client_reply(struct mp_session *s, const struct resp_request *r)
{
	if (mp_arg_is(r->argv[2], "on")) {
		s->wants_no_replies = s->is_silent = false;
		mp_say(s, "+OK\r\n");
	} else if (mp_arg_is(r->argv[2], "off")) {
		s->wants_no_replies = true;
	} else if (mp_arg_is(r->argv[2], "skip")) {
		s->skips_next = !s->wants_no_replies;
	} else {
		mp_say(s, MP_SYNTAX_ERROR);
	}
}

/* Options of CLIENT TRACKING, in the order of `options` below. */
enum { BCAST = 1, OPTIN = 2, OPTOUT = 4, NOLOOP = 8, PREFIX = 16 };

/* What Redis says of CLIENT TRACKING's options: NULL, or an error. *given: which there are. */
static const char *fault_of_tracking(struct mp_session *s, const struct resp_request *r,
				     unsigned *given)
{
	static const char *const options[] = {"bcast", "optin", "optout", "noloop"};
	const struct mp_session *other;
	int64_t id;

	*given = 0;
	for (int i = 3; i < r->argc; i++) {
		bool has_more = i + 1 < r->argc;
		size_t n = 0;

		while (n < 4 && !mp_arg_is(r->argv[i], options[n]))
			n++;
		if (n < 4) {
			*given |= 1u << n;
		} else if (has_more && mp_arg_is(r->argv[i], "prefix")) {
			*given |= PREFIX;
			i++;
		} else if (has_more && mp_arg_is(r->argv[i], "redirect")) {
			if (!mp_parse_i64(r->argv[++i], &id))
				return MP_NOT_AN_INTEGER;
			TAILQ_FOREACH(other, &s->proxy->sessions.all, all)
				if ((int64_t)other->id == id)
					break;
			if (!other)
				return "-ERR The client ID you want redirect to does not exist\r\n";
		} else {
			return MP_SYNTAX_ERROR;
		}
	}
	return NULL;
}

/* Options that do not go together. */
static const char *fault_of_options(unsigned given)
{
	if ((given & (BCAST | PREFIX)) == PREFIX)
		return "-ERR PREFIX option requires BCAST mode to be enabled\r\n";
	if ((given & BCAST) && (given & (OPTIN | OPTOUT)))
		return "-ERR OPTIN and OPTOUT are not compatible with BCAST\r\n";
	if ((given & OPTIN) && (given & OPTOUT))
		return "-ERR You can't specify both OPTIN mode and OPTOUT mode\r\n";
	return NULL;
}

/* Which keys a client has read nobody knows: any replica answers, and any may be asked. */
void mp_client_tracking(struct mp_session *s, const struct resp_request *r)
{
	unsigned given;
	const char *fault = fault_of_tracking(s, r, &given);
	bool on = mp_arg_is(r->argv[2], "on");

	if (!fault && on)
		fault = fault_of_options(given);
	if (fault)
		mp_say(s, fault);
	else if (mp_arg_is(r->argv[2], "off"))
		mp_say(s, "+OK\r\n");
	else if (on)
		mp_say(s, "-ERR muproxy: CLIENT TRACKING is not served: no invalidations would be "
			  "sent\r\n");
	else
		mp_say(s, MP_SYNTAX_ERROR);
}

void mp_client_trackinginfo(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_say(s, s->resp == 3 ? "%3\r\n$5\r\nflags\r\n~1\r\n$3\r\noff\r\n$8\r\nredirect\r\n"
				 ":-1\r\n$8\r\nprefixes\r\n*0\r\n"
			       : "*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n"
				 ":-1\r\n$8\r\nprefixes\r\n*0\r\n");
}

void mp_client_caching(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	mp_say(s, "-ERR CLIENT CACHING can be called only when the client is in tracking mode with "
		  "OPTIN or OPTOUT mode enabled\r\n");
}

/* ---------------------------------------------------------------- about others */

enum { LINE_BYTES = 768 };

static void address_of(const struct mp_session *s, bool own, char out[MP_CLIENT_ADDRESS_BYTES])
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	int result = own ? getsockname(s->fd, (struct sockaddr *)&address, &len)
			 : getpeername(s->fd, (struct sockaddr *)&address, &len);

	out[0] = '\0';
	if (result == 0)
		mp_sockaddr_text((const struct sockaddr *)&address, out, MP_CLIENT_ADDRESS_BYTES);
}

void mp_client_address(const struct mp_session *s, char out[MP_CLIENT_ADDRESS_BYTES])
{
	address_of(s, false, out);
}

/* taken: bytes of the request that asks, if it is this client's. */
static size_t describe(const struct mp_session *s, size_t taken, char line[LINE_BYTES])
{
	static const uint32_t none[MP_TOPIC_KINDS];
	static const char *const kinds[] = {"N", "x", "P", "Px", "b", "xb", "Pb", "Pxb"};
	const char *flags = kinds[4 * (mp_patience_of(s) != NULL) + 2 * mp_pubsub_is_subscribed(s) +
				  s->multi.is_open];
	const uint32_t *told = s->subscriber ? s->subscriber->told : none;
	uint64_t now_ms = mp_now_ms(s->proxy);
	size_t memory = sizeof(*s) + s->in.cap + s->out.cap + s->multi.queued.cap;
	char from[MP_CLIENT_ADDRESS_BYTES], to[MP_CLIENT_ADDRESS_BYTES];
	int len;

	address_of(s, false, from);
	address_of(s, true, to);
	len = snprintf(line, LINE_BYTES,
		       "id=%" PRIu32 " addr=%s laddr=%s fd=%d name=%.200s age=%" PRIu64
		       " idle=%" PRIu64 " flags=%s db=%" PRIu32 " sub=%" PRIu32 " psub=%" PRIu32
		       " ssub=%" PRIu32 " multi=%d qbuf=%zu qbuf-free=%zu argv-mem=0 multi-mem=%zu "
		       "rbs=%zu rbp=%zu obl=%zu oll=0 omem=0 tot-mem=%zu events=r cmd=%s "
		       "user=%.*s redir=-1 resp=%d\n",
		       s->id, from, to, s->fd, s->name ? s->name : "", (now_ms - s->born_ms) / 1000,
		       (now_ms - s->heard_ms) / 1000, flags, s->database, told[MP_TOPIC_CHANNEL],
		       told[MP_TOPIC_PATTERN], told[MP_TOPIC_SHARD],
		       s->multi.is_open ? (int)s->multi.count : -1, mp_buffer_len(&s->in) + taken,
		       mp_buffer_room(&s->in), s->multi.queued.cap, s->out.cap, s->out.cap,
		       mp_buffer_len(&s->out), memory,
		       s->last_command[0] ? s->last_command : "NULL",
		       s->user.len < 100 ? (int)s->user.len : 100, s->user.data, s->resp);
	return (size_t)len < LINE_BYTES ? (size_t)len : LINE_BYTES - 1;
}

void mp_client_info(struct mp_session *s, const struct resp_request *r)
{
	char line[LINE_BYTES];

	mp_say_text(s, (struct mp_slice){line, describe(s, r->raw.len, line)});
}

/* Who is meant by CLIENT LIST and KILL. */
struct filter {
	const struct resp_request *r;
	int first_id, last_id; /* arguments that are IDs; first_id 0: any */
	struct mp_slice address, own_address, user;
	bool has_kind, is_subscribed; /* TYPE */
	bool nobody;                  /* of a kind, or a user, that there is none of */
};

static bool is_id(const struct filter *f, uint32_t id)
{
	int64_t wanted;

	for (int i = f->first_id; i <= f->last_id; i++)
		if (mp_parse_i64(f->r->argv[i], &wanted) && wanted == (int64_t)id)
			return true;
	return false;
}

static bool is_address(const struct mp_session *s, bool own, struct mp_slice wanted)
{
	char address[MP_CLIENT_ADDRESS_BYTES];

	address_of(s, own, address);
	return strlen(address) == wanted.len && memcmp(address, wanted.data, wanted.len) == 0;
}

static bool is_meant(const struct filter *f, const struct mp_session *s)
{
	return s->protocol == MP_REDIS && !f->nobody &&
	       (!f->has_kind || f->is_subscribed == mp_pubsub_is_subscribed(s)) &&
	       (!f->first_id || is_id(f, s->id)) &&
	       (!f->user.data || (s->is_logged_in && mp_slice_equal(f->user, s->user))) &&
	       (!f->address.data || is_address(s, false, f->address)) &&
	       (!f->own_address.data || is_address(s, true, f->own_address));
}

/* TYPE. False: there is no such kind. */
static bool take_type(struct mp_session *s, struct filter *f, struct mp_slice type)
{
	static const char *const others[] = {"master", "slave", "replica"};

	f->is_subscribed = mp_arg_is(type, "pubsub");
	if (f->is_subscribed || mp_arg_is(type, "normal"))
		return f->has_kind = true;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (mp_arg_is(type, others[i]))
			return f->nobody = true;
	mp_say_error(s, "ERR Unknown client type '%.*s'", (int)strnlen(type.data, type.len),
		     type.data);
	return false;
}

/* wrong: what is said if one is none, or less than the least that there may be. */
static bool take_ids(struct mp_session *s, struct filter *f, int first, int last, int64_t least,
		     const char *wrong)
{
	int64_t id;

	for (int i = first; i <= last; i++) {
		if (!mp_parse_i64(f->r->argv[i], &id) || id < least) {
			mp_say(s, wrong);
			return false;
		}
	}
	f->first_id = first;
	f->last_id = last;
	return true;
}

void mp_client_list(struct mp_session *s, const struct resp_request *r)
{
	struct filter f = {.r = r};
	struct mp_buffer text = {0};
	const struct mp_session *other;
	bool ok = true;

	if (r->argc == 4 && mp_arg_is(r->argv[2], "type")) {
		if (!take_type(s, &f, r->argv[3]))
			return;
	} else if (r->argc > 3 && mp_arg_is(r->argv[2], "id")) {
		if (!take_ids(s, &f, 3, r->argc - 1, INT64_MIN, "-ERR Invalid client ID\r\n"))
			return;
	} else if (r->argc != 2) {
		mp_say(s, MP_SYNTAX_ERROR);
		return;
	}
	TAILQ_FOREACH(other, &s->proxy->sessions.all, all) {
		size_t taken = other == s ? r->raw.len : 0;
		char line[LINE_BYTES];

		if (is_meant(&f, other))
			ok = ok && mp_buffer_append(&text, line, describe(other, taken, line));
	}
	if (ok)
		mp_say_text(s, mp_buffer_slice(&text));
	else
		mp_session_kill(s);
	mp_buffer_free(&text);
}

/* One "FILTER value" of CLIENT KILL. False: it was answered. */
static bool take_filter(struct mp_session *s, struct filter *f, int i, bool *skip_me)
{
	struct mp_slice name = f->r->argv[i], value = f->r->argv[i + 1];

	if (mp_arg_is(name, "id"))
		return take_ids(s, f, i + 1, i + 1, 1,
				"-ERR client-id should be greater than 0\r\n");
	if (mp_arg_is(name, "type"))
		return take_type(s, f, value);
	if (mp_arg_is(name, "addr")) {
		f->address = value;
	} else if (mp_arg_is(name, "laddr")) {
		f->own_address = value;
	} else if (mp_arg_is(name, "user")) {
		f->user = value;
		if (!mp_redis_has_user(s->proxy, value)) {
			mp_say_error(s, "ERR No such user '%.*s'",
				     (int)strnlen(value.data, value.len), value.data);
			return false;
		}
	} else if (mp_arg_is(name, "skipme") &&
		   (mp_arg_is(value, "yes") || mp_arg_is(value, "no"))) {
		*skip_me = mp_arg_is(value, "yes");
	} else {
		mp_say(s, MP_SYNTAX_ERROR);
		return false;
	}
	return true;
}

/* Returns how many. The one who asks gets the answer first. */
static int64_t kill_meant(struct mp_session *s, const struct filter *f, bool skip_me)
{
	struct mp_session *other, *next;
	int64_t killed = 0;

	for (other = TAILQ_FIRST(&s->proxy->sessions.all); other; other = next) {
		next = TAILQ_NEXT(other, all);
		if (!is_meant(f, other) || (other == s && skip_me))
			continue;
		killed++;
		if (other != s)
			mp_session_kill(other);
	}
	return killed;
}

void mp_client_kill(struct mp_session *s, const struct resp_request *r)
{
	struct filter f = {.r = r};
	bool old = r->argc == 3, skip_me = !old;
	int64_t killed;

	if (old) {
		f.address = r->argv[2];
	} else if (r->argc % 2 != 0) {
		mp_say(s, MP_SYNTAX_ERROR);
		return;
	}
	for (int i = 2; !old && i < r->argc; i += 2)
		if (!take_filter(s, &f, i, &skip_me))
			return;
	killed = kill_meant(s, &f, skip_me);
	if (!old)
		mp_say_number(s, killed);
	else
		mp_say(s, killed ? "+OK\r\n" : "-ERR No such client\r\n");
	if (!skip_me && is_meant(&f, s))
		mp_session_close_after_replies(s);
}
