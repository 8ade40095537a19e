/* ttl.c - see ttl.h. */
#include "ttl.h"

#include "deadline_effects.h"
#include "decimal.h"

size_t mp_ttl_question(struct mp_slice key, char *out, size_t cap)
{
	return resp_encode(out, cap, 2, (struct mp_slice[]){{"PEXPIRETIME", 11}, key});
}

/* As Redis computes it: seconds are rounded, and nothing is negative. */
static int64_t value_of(enum mp_rewrite kind, int64_t when_ms, int64_t now_ms)
{
	if (kind == MP_REWRITE_TTL || kind == MP_REWRITE_PTTL)
		when_ms = when_ms > now_ms ? when_ms - now_ms : 0;
	if (kind == MP_REWRITE_TTL || kind == MP_REWRITE_EXPIRETIME)
		when_ms = (when_ms + 500) / 1000;
	return when_ms;
}

struct mp_slice mp_ttl_reply(enum mp_rewrite kind, struct mp_slice answer, uint64_t now_ms,
			     char out[MP_TTL_REPLY_BYTES])
{
	int64_t when_ms;
	size_t len;

	/* ":<deadline>\r\n"; -1: none, -2: no such key. */
	if (answer.len < 4 || answer.data[0] != ':' ||
	    !mp_parse_i64((struct mp_slice){answer.data + 1, answer.len - 3}, &when_ms) ||
	    when_ms < MP_DEADLINE_PAD_MS)
		return answer;
	out[0] = ':';
	len = 1 +
	      mp_format_i64(out + 1, value_of(kind, when_ms - MP_DEADLINE_PAD_MS, (int64_t)now_ms));
	out[len++] = '\r';
	out[len++] = '\n';
	return (struct mp_slice){out, len};
}
