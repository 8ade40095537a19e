/* answer.c - see answer.h. */
#include "answer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "state.h"

void mp_drop(struct mp_proxy *proxy, struct mp_request *r)
{
	assert(!r->session);
	if (r->link)
		mp_link_release(r->link);
	mp_requests_put(&proxy->requests, &proxy->chunks, r);
}

void mp_answer(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice piece, bool last)
{
	if (r->shadow) {
		struct mp_request *twin = r->twin;

		assert(last);
		mp_drop(proxy, r);
		if (twin && mp_doubt_leave(proxy, twin))
			mp_answer(proxy, twin, piece, true);
		return;
	}
	if (r->session) {
		mp_session_reply(r->session, r, piece, last);
		return;
	}
	if (r->link)
		mp_relay_in_reply(r, piece, last);
	if (last)
		mp_drop(proxy, r);
}

size_t mp_format_error(enum mp_protocol protocol, const char *text, char *out, size_t bytes)
{
	int n;

	if (protocol == MP_REDIS)
		n = snprintf(out, bytes, "-%s\r\n", text);
	else /* Memcached's error kinds stand first; "ERR" is Redis's way. */
		n = snprintf(out, bytes, "SERVER_ERROR %s\r\n",
			     strncmp(text, "ERR ", 4) == 0 ? text + 4 : text);
	assert(n > 0);
	if ((size_t)n < bytes)
		return (size_t)n;
	memcpy(out + bytes - 3, "\r\n", 3); /* cut, but still a line */
	return bytes - 1;
}

void mp_answer_error(struct mp_proxy *proxy, struct mp_request *r, const char *format, ...)
{
	char text[MP_ERROR_BYTES], reply[MP_ERROR_BYTES + 32];
	struct mp_slice slice = {reply, 0};
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	slice.len = mp_format_error(r->meta.protocol, text, reply, sizeof(reply));
	mp_answer(proxy, r, slice, true);
}
