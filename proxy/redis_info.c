/* redis_info.c - see redis_info.h. */
#include "config.h"

#include "redis_info.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"
#include "command_special.h"
#include "deadline_effects.h"
#include "state.h"

/* The text in a bulk string, or in RESP3's verbatim string. NULL data: it is neither. */
static struct mp_slice text_of(struct mp_slice reply)
{
	const char *end = reply.len > 0 ? memchr(reply.data, '\n', reply.len) : NULL;
	bool verbatim = reply.len > 0 && reply.data[0] == '=';
	size_t head, tail = verbatim ? 4 : 0; /* "txt:" */

	if (!end || (reply.data[0] != '$' && !verbatim) || reply.data[1] == '-')
		return (struct mp_slice){0};
	head = (size_t)(end - reply.data) + 1 + tail;
	if (head + 2 > reply.len)
		return (struct mp_slice){0};
	return (struct mp_slice){reply.data + head, reply.len - head - 2};
}

/* "db3:keys=17,expires=3,avg_ttl=4398046522000". False: out of memory. */
static bool put_database(struct mp_proxy *proxy, struct mp_slice line, struct mp_buffer *out)
{
	static const char field[] = "avg_ttl=";
	const char *at = memmem(line.data, line.len, field, sizeof(field) - 1);
	long long average;
	char number[32];
	size_t head;
	int len;

	if (atoi(line.data + 2) >= proxy->databases)
		return true;
	if (!at)
		return mp_buffer_append(out, line.data, line.len);
	head = (size_t)(at - line.data) + sizeof(field) - 1;
	average = atoll(line.data + head);
	len = snprintf(number, sizeof(number), "%lld\r\n",
		       average > MP_DEADLINE_PAD_MS ? average - MP_DEADLINE_PAD_MS : 0);
	return mp_buffer_append(out, line.data, head) && mp_buffer_append(out, number, (size_t)len);
}

/* As Redis shows a size to people. */
static int human(uint64_t bytes, char *out, size_t cap)
{
	static const char units[] = "KMGTP";
	double value = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024)
		return snprintf(out, cap, "%" PRIu64 "B", bytes);
	for (; value >= 1024 && units[i + 1]; i++)
		value /= 1024;
	return snprintf(out, cap, "%.2f%c", value, units[i]);
}

/* What is the group's in place of the server's (memory.h, blocking.h). False: this line is the
 * server's. */
static bool put_own(const struct mp_proxy *proxy, struct mp_slice line, struct mp_buffer *out,
		    bool *ok)
{
	const struct mp_memory *memory = &proxy->memory;
	char text[96], size[32];
	int len;

	if (mp_starts_with(line, "maxmemory:")) {
		len = snprintf(text, sizeof(text), "maxmemory:%" PRIu64 "\r\n",
			       memory->limit_bytes);
	} else if (mp_starts_with(line, "maxmemory_human:")) {
		human(memory->limit_bytes, size, sizeof(size));
		len = snprintf(text, sizeof(text), "maxmemory_human:%s\r\n", size);
	} else if (mp_starts_with(line, "maxmemory_policy:")) {
		len = snprintf(text, sizeof(text), "maxmemory_policy:%s\r\n",
			       mp_memory_policy_name(memory->policy));
	} else if (mp_starts_with(line, "evicted_keys:")) {
		len = snprintf(text, sizeof(text), "evicted_keys:%" PRIu64 "\r\n", memory->evicted);
	} else if (mp_starts_with(line, "blocked_clients:")) {
		/*
		 * The backend's only client never waits; the group's do: for keys all at the
		 * leader, for the end of a pause at each replica.
		 */
		len = snprintf(text, sizeof(text), "blocked_clients:%" PRIu32 "\r\n",
			       proxy->blocking.blocked + mp_pause_held(proxy) +
				       mp_relay_in_held(proxy));
	} else {
		return false;
	}
	*ok = mp_buffer_append(out, text, (size_t)len);
	return true;
}

static bool put_lines(struct mp_proxy *proxy, struct mp_slice text, struct mp_buffer *out)
{
	while (text.len > 0) {
		const char *end = memchr(text.data, '\n', text.len);
		struct mp_slice line = {text.data, end ? (size_t)(end - text.data) + 1 : text.len};
		bool is_database = line.len > 3 && memcmp(line.data, "db", 2) == 0 &&
				   line.data[2] >= '0' && line.data[2] <= '9';
		bool ok = true;

		if (!is_database && put_own(proxy, line, out, &ok))
			;
		else if (is_database)
			ok = put_database(proxy, line, out);
		else
			ok = mp_buffer_append(out, line.data, line.len);
		if (!ok)
			return false;
		text.data += line.len;
		text.len -= line.len;
	}
	return true;
}

static bool wants_section(struct mp_proxy *proxy, const struct mp_request *r)
{
	static const char *const names[] = {"default", "all", "everything", "muproxy"};
	struct resp_request request;

	if (!mp_reparse_redis(proxy, mp_bytes_slice(&r->raw), &request))
		return false;
	for (int i = 1; i < request.argc; i++)
		for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
			if (mp_arg_is(request.argv[i], names[n]))
				return true;
	return request.argc == 1;
}

static bool put_section(struct mp_proxy *proxy, struct mp_buffer *out)
{
	char text[512];
	int len = snprintf(text, sizeof(text),
			   "%s# Muproxy\r\nmuproxy_answered_by:%u\r\nmuproxy_leader:%u\r\n"
			   "muproxy_ballot:%" PRIu64 "\r\nmuproxy_applied_lsn:%" PRIu64
			   "\r\nmuproxy_keys_with_deadlines:%zu\r\n",
			   mp_buffer_len(out) > 0 ? "\r\n" : "", proxy->options.id,
			   proxy->view.leader, proxy->view.leader_ballot,
			   proxy->stats.redis_applied_lsn, proxy->expiry.index.count);

	return mp_buffer_append(out, text, (size_t)len);
}

/* The text is in out; its head goes before it. */
static bool put_head(struct mp_buffer *out, bool verbatim)
{
	char head[40];
	size_t len = mp_buffer_len(out);
	int n = snprintf(head, sizeof(head), verbatim ? "=%zu\r\ntxt:" : "$%zu\r\n",
			 verbatim ? len + 4 : len);

	if (!mp_buffer_append(out, "\r\n", 2) || !mp_buffer_reserve(out, (size_t)n))
		return false;
	memmove(mp_buffer_data(out) + n, mp_buffer_data(out), len + 2);
	memcpy(mp_buffer_data(out), head, (size_t)n);
	mp_buffer_commit(out, (size_t)n);
	return true;
}

struct mp_slice mp_info_reply(struct mp_proxy *proxy, const struct mp_request *r,
			      struct mp_slice reply, struct mp_buffer *out)
{
	struct mp_slice text = text_of(reply);

	mp_buffer_clear(out);
	if (!text.data || !put_lines(proxy, text, out) ||
	    (wants_section(proxy, r) && !put_section(proxy, out)) ||
	    !put_head(out, reply.data[0] == '='))
		return reply;
	return mp_buffer_slice(out);
}
