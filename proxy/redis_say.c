/* redis_say.c - see redis_say.h. */
#include "redis_say.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

void mp_say(struct mp_session *s, const char *wire)
{
	mp_session_say(s, mp_slice_of(wire));
}

void mp_say_number(struct mp_session *s, int64_t number)
{
	char wire[32];

	snprintf(wire, sizeof(wire), ":%" PRId64 "\r\n", number);
	mp_say(s, wire);
}

static void say_string(struct mp_session *s, const char *head, struct mp_slice string)
{
	struct mp_buffer reply = {0};

	if (mp_buffer_append(&reply, head, strlen(head)) &&
	    mp_buffer_append(&reply, string.data, string.len) &&
	    mp_buffer_append(&reply, "\r\n", 2))
		mp_session_say(s, mp_buffer_slice(&reply));
	else
		mp_session_kill(s);
	mp_buffer_free(&reply);
}

void mp_say_bulk(struct mp_session *s, struct mp_slice bulk)
{
	char head[32];

	snprintf(head, sizeof(head), "$%zu\r\n", bulk.len);
	say_string(s, head, bulk);
}

void mp_say_text(struct mp_session *s, struct mp_slice text)
{
	char head[32];

	if (s->resp != 3) {
		mp_say_bulk(s, text);
		return;
	}
	snprintf(head, sizeof(head), "=%zu\r\ntxt:", text.len + 4);
	say_string(s, head, text);
}

void mp_say_error(struct mp_session *s, const char *format, ...)
{
	char wire[MP_ERROR_BYTES + 4] = "-";
	va_list args;
	size_t len;

	va_start(args, format);
	vsnprintf(wire + 1, MP_ERROR_BYTES, format, args);
	va_end(args);
	len = strlen(wire);
	for (size_t i = 0; i < len; i++)
		if (wire[i] == '\r' || wire[i] == '\n')
			wire[i] = ' ';
	memcpy(wire + len, "\r\n", 3);
	mp_say(s, wire);
}
