/* redis_config.c - see redis_config.h. */
#include "redis_config.h"

#include <string.h>

#include "command_special.h"
#include "decimal.h"
#include "resp.h"

/* The line at the front of *rest, which moves behind it. False: there is none. */
static bool take_line(struct mp_slice *rest, struct mp_slice *line)
{
	const char *end = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;

	if (!end)
		return false;
	*line = (struct mp_slice){rest->data, (size_t)(end - rest->data) + 1};
	rest->data += line->len;
	rest->len -= line->len;
	return true;
}

/* A bulk string; whole: with its head. */
static bool take_bulk(struct mp_slice *rest, struct mp_slice *whole, struct mp_slice *text)
{
	struct mp_slice line;
	int64_t len;

	*whole = *rest;
	if (!take_line(rest, &line) || line.len < 4 || line.data[0] != '$' ||
	    !mp_parse_i64((struct mp_slice){line.data + 1, line.len - 3}, &len) || len < 0 ||
	    (uint64_t)len + 2 > rest->len)
		return false;
	*text = (struct mp_slice){rest->data, (size_t)len};
	rest->data += len + 2;
	rest->len -= (size_t)len + 2;
	whole->len = (size_t)(rest->data - whole->data);
	return true;
}

static bool is_secret(struct mp_slice name)
{
	static const char *const names[] = {"requirepass", "masterauth", "primaryauth",
					    "tls-key-file-pass", "tls-client-key-file-pass"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (mp_arg_is(name, names[i]))
			return true;
	return false;
}

static bool put_value(struct mp_slice name, struct mp_slice value,
		      const struct mp_config_terms *terms, struct mp_buffer *out)
{
	char bulk[2 * MP_DECIMAL_BYTES + 8] = "$", number[MP_DECIMAL_BYTES];
	size_t digits, len;

	if (is_secret(name))
		return mp_buffer_append(out, "$0\r\n\r\n", 6);
	if (mp_arg_is(name, "databases"))
		digits = mp_format_i64(number, terms->databases);
	else if (mp_arg_is(name, "maxmemory"))
		digits = mp_format_u64(number, terms->maxmemory);
	else
		return mp_buffer_append(out, value.data, value.len);
	len = 1 + mp_format_u64(bulk + 1, digits);
	memcpy(bulk + len, "\r\n", 2);
	memcpy(bulk + len + 2, number, digits);
	memcpy(bulk + len + 2 + digits, "\r\n", 2);
	return mp_buffer_append(out, bulk, len + digits + 4);
}

/* What MEMORY STATS tells of a database that clients do not see. */
static bool is_hidden(struct mp_slice name, const struct mp_config_terms *terms)
{
	char hidden[MP_DECIMAL_BYTES + 4] = "db.";

	hidden[3 + mp_format_i64(hidden + 3, terms->databases)] = '\0';
	return mp_arg_is(name, hidden);
}

/* A value of any type. */
static bool take_value(struct mp_slice *rest, struct mp_slice *value)
{
	struct resp_framer framer = {0};
	size_t used;

	if (resp_frame(&framer, rest->data, rest->len, &used) != RESP_DONE)
		return false;
	*value = (struct mp_slice){rest->data, used};
	rest->data += used;
	rest->len -= used;
	return true;
}

/* How many elements the reply has for clients goes before them. */
static bool put_head(struct mp_slice head, struct mp_slice pairs,
		     const struct mp_config_terms *terms, struct mp_buffer *out)
{
	char text[MP_DECIMAL_BYTES + 4] = {head.data[0]};
	struct mp_slice name, name_text, value;
	int64_t count;
	size_t len;

	if (head.len < 4 || !mp_parse_i64((struct mp_slice){head.data + 1, head.len - 3}, &count))
		return mp_buffer_append(out, head.data, head.len);
	while (take_bulk(&pairs, &name, &name_text) && take_value(&pairs, &value))
		if (is_hidden(name_text, terms))
			count -= text[0] == '*' ? 2 : 1;
	len = 1 + mp_format_i64(text + 1, count);
	memcpy(text + len, "\r\n", 2);
	return mp_buffer_append(out, text, len + 2);
}

bool mp_config_reply(struct mp_slice reply, const struct mp_config_terms *terms,
		     struct mp_buffer *out)
{
	struct mp_slice rest = reply, head, name, name_text, value;

	/* An error, or what is not understood. */
	if (!take_line(&rest, &head) || (head.data[0] != '*' && head.data[0] != '%'))
		return mp_buffer_append(out, reply.data, reply.len);
	if (!put_head(head, rest, terms, out))
		return false;
	while (take_bulk(&rest, &name, &name_text) && take_value(&rest, &value))
		if (!is_hidden(name_text, terms) && (!mp_buffer_append(out, name.data, name.len) ||
						     !put_value(name_text, value, terms, out)))
			return false;
	return true;
}
