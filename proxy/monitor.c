/* monitor.c - see monitor.h. */
#include "monitor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "command_special.h"
#include "redis_client.h"
#include "redis_say.h"
#include "state.h"

void mp_monitor_begin(struct mp_session *s, const struct resp_request *r)
{
	(void)r;
	if (s->multi.capture) {
		mp_say(s, "-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n");
		return;
	}
	if (s->is_monitor)
		return; /* as Redis does: it says nothing */
	s->is_monitor = true;
	TAILQ_INSERT_TAIL(&s->proxy->sessions.monitors, s, monitors);
	mp_say(s, "+OK\r\n");
}

void mp_monitor_end(struct mp_session *s)
{
	if (s->is_monitor)
		TAILQ_REMOVE(&s->proxy->sessions.monitors, s, monitors);
	s->is_monitor = false;
}

/* An argument as Redis quotes it. */
static bool put_quoted(struct mp_buffer *out, struct mp_slice arg)
{
	static const char plain[] = "\\\"\n\r\t\a\b", letters[] = "\\\"nrtab";
	char *room = mp_buffer_reserve(out, 4 * arg.len + 4), *at = room;

	if (!room)
		return false;
	*at++ = ' ';
	*at++ = '"';
	for (size_t i = 0; i < arg.len; i++) {
		unsigned char c = (unsigned char)arg.data[i];
		const char *found = c ? strchr(plain, c) : NULL;

		if (found) {
			*at++ = '\\';
			*at++ = letters[found - plain];
		} else if (c >= ' ' && c <= '~') {
			*at++ = (char)c;
		} else {
			at += sprintf(at, "\\x%02x", c);
		}
	}
	*at++ = '"';
	mp_buffer_commit(out, (size_t)(at - room));
	return true;
}

static bool put_head(struct mp_buffer *out, const struct mp_session *s)
{
	char address[MP_CLIENT_ADDRESS_BYTES], head[MP_CLIENT_ADDRESS_BYTES + 64];
	struct timespec now;
	int len;

	clock_gettime(CLOCK_REALTIME, &now);
	mp_client_address(s, address);
	len = snprintf(head, sizeof(head), "+%lld.%06ld [%" PRIu32 " %s]", (long long)now.tv_sec,
		       now.tv_nsec / 1000, s->database, address);
	return mp_buffer_append(out, head, (size_t)len);
}

/* From which argument on they are passwords, and how many; 0: none is. */
static int first_secret(const struct resp_request *r, int *count)
{
	*count = r->argc - 1;
	if (mp_arg_is(r->argv[0], "auth"))
		return 1;
	*count = 2;
	for (int i = 2; mp_arg_is(r->argv[0], "hello") && i + 2 < r->argc; i++)
		if (mp_arg_is(r->argv[i], "auth"))
			return i + 1;
	return 0;
}

static bool put_line(struct mp_buffer *out, const struct mp_session *s,
		     const struct resp_request *r)
{
	int count, first = first_secret(r, &count);

	if (!put_head(out, s))
		return false;
	for (int i = 0; i < r->argc; i++) {
		bool is_secret = first > 0 && i >= first && i < first + count;

		if (!put_quoted(out, is_secret ? mp_slice_of("(redacted)") : r->argv[i]))
			return false;
	}
	return mp_buffer_append(out, "\r\n", 2);
}

void mp_monitor_show(struct mp_session *s, const struct mp_command *command,
		     const struct resp_request *r)
{
	struct mp_sessions *sessions = &s->proxy->sessions;
	struct mp_session *monitor, *next;
	struct mp_buffer line = {0};

	if (command->is_admin)
		return;
	/* Out of memory: monitors are told nothing rather than a part. */
	if (put_line(&line, s, r)) {
		for (monitor = TAILQ_FIRST(&sessions->monitors); monitor; monitor = next) {
			next = TAILQ_NEXT(monitor, monitors);
			if (monitor == s && strcmp(command->name, "reset") == 0)
				continue; /* to Redis, it is none any more */
			mp_session_say(monitor, mp_buffer_slice(&line));
		}
	}
	mp_buffer_free(&line);
}
