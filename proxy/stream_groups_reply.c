/*
 * stream_groups_reply.c - see stream_groups.h: replies. What a script answers has
 * neither nil arrays nor maps in an order, so XREADGROUP's are made here of the
 * lists that groups.lua returns. XINFO STREAM FULL is the server's own, with times
 * of delivery at known places.
 */
#include <string.h>

#include "decimal.h"
#include "stream_groups.h"

/* A reply being copied; functions that copy are false if it is not as expected, or for want of
 * memory. */
struct copying {
	struct mp_slice rest;
	struct mp_buffer *out;
	uint64_t now_ms;
	bool nil_arrays; /* instead of nil strings */
};

/* A value's beginning: all of it, but for the elements of what has some. */
struct head {
	char type;
	int64_t number;       /* of a type that has one */
	uint64_t children;    /* values that follow */
	struct mp_slice text; /* of a string */
	struct mp_slice whole;
};

static bool take_head(struct copying *c, struct head *head)
{
	const char *end = c->rest.len > 0 ? memchr(c->rest.data, '\n', c->rest.len) : NULL;
	size_t line = end ? (size_t)(end - c->rest.data) + 1 : 0;

	if (line < 3)
		return false;
	*head = (struct head){.type = c->rest.data[0], .whole = {c->rest.data, line}};
	if (strchr("$*:%~=", head->type) &&
	    !mp_parse_i64((struct mp_slice){c->rest.data + 1, line - 3}, &head->number))
		return false;
	if (strchr("$=", head->type) && head->number >= 0) {
		if ((uint64_t)head->number + 2 > c->rest.len - line)
			return false;
		head->text = (struct mp_slice){c->rest.data + line, (size_t)head->number};
		head->whole.len += head->text.len + 2;
	}
	if (strchr("*%~", head->type) && head->number > 0)
		head->children = (uint64_t)head->number << (head->type == '%');
	c->rest.data += head->whole.len;
	c->rest.len -= head->whole.len;
	return true;
}

static bool put(struct copying *c, struct mp_slice bytes)
{
	return mp_buffer_append(c->out, bytes.data, bytes.len);
}

static bool copy_head(struct copying *c, struct head *head)
{
	if (!take_head(c, head))
		return false;
	if (c->nil_arrays && head->type == '$' && head->number < 0)
		return put(c, mp_slice_of("*-1\r\n"));
	return put(c, head->whole);
}

/* A value with all that is in it. */
static bool copy_value(struct copying *c)
{
	struct head head;

	for (uint64_t left = 1; left > 0; left += head.children, left--)
		if (!copy_head(c, &head))
			return false;
	return true;
}

static bool put_number(struct copying *c, char type, int64_t number)
{
	char text[MP_DECIMAL_BYTES + 3] = {type};
	size_t len = 1 + mp_format_i64(text + 1, number);

	memcpy(text + len, "\r\n", 2);
	return put(c, (struct mp_slice){text, len + 2});
}

/* ------------------------------------------------------------------ XREADGROUP */

/* RESP3: pairs of a stream and its entries become a map. */
static bool copy_streams(struct copying *c)
{
	struct head head, pair;

	if (c->rest.len > 0 && c->rest.data[0] != '*')
		return copy_value(c);
	if (!take_head(c, &head) || !put_number(c, '%', head.number))
		return false;
	for (uint64_t i = 0; i < head.children; i++)
		if (!take_head(c, &pair) || pair.children != 2 || !copy_value(c) || !copy_value(c))
			return false;
	return true;
}

/* ----------------------------------------------------------- XINFO STREAM ... FULL */

/* As in groups.lua: real(). */
static int64_t real_time_ms(int64_t stored_ms, uint64_t now_ms)
{
	if (stored_ms > (int64_t)now_ms - MP_DELIVERY_SHIFT_MS / 2)
		return stored_ms;
	return stored_ms < MP_DELIVERY_SHIFT_MS ? 2 * stored_ms : stored_ms + MP_DELIVERY_SHIFT_MS;
}

/* A list of lists, in which the time of delivery is at that place. */
static bool copy_pending(struct copying *c, uint64_t place)
{
	struct head list, one, time;

	if (!copy_head(c, &list))
		return false;
	for (uint64_t i = 0; i < list.children; i++) {
		if (!copy_head(c, &one))
			return false;
		for (uint64_t k = 0; k < one.children; k++) {
			if (k != place ? !copy_value(c)
				       : !take_head(c, &time) || time.type != ':' ||
						 !put_number(c, ':',
							     real_time_ms(time.number, c->now_ms)))
				return false;
		}
	}
	return true;
}

enum level { STREAM, GROUP, CONSUMER };
static bool copy_list(struct copying *c, enum level level);

/* Names and values, as a map or a flat list. */
static bool copy_fields(struct copying *c, enum level level)
{
	struct head fields, name;
	bool ok = copy_head(c, &fields);

	for (uint64_t i = 0; ok && i < fields.children / 2; i++) {
		ok = copy_head(c, &name);
		if (!ok)
			return false;
		if (level == STREAM && mp_slice_is(name.text, "groups"))
			ok = copy_list(c, GROUP);
		else if (level == GROUP && mp_slice_is(name.text, "consumers"))
			ok = copy_list(c, CONSUMER);
		else if (level != STREAM && mp_slice_is(name.text, "pending"))
			ok = copy_pending(c, level == GROUP ? 2 : 1);
		else
			ok = copy_value(c);
	}
	return ok;
}

static bool copy_list(struct copying *c, enum level level)
{
	struct head list;
	bool ok = copy_head(c, &list);

	for (uint64_t i = 0; ok && i < list.children; i++)
		ok = copy_fields(c, level);
	return ok;
}

bool mp_groups_reply(enum mp_rewrite treatment, struct mp_slice reply, unsigned resp,
		     uint64_t now_ms, struct mp_buffer *out)
{
	struct copying c = {.rest = reply, .out = out, .now_ms = now_ms};
	size_t before = mp_buffer_len(out);
	bool ok;

	c.nil_arrays = treatment == MP_REWRITE_GROUP_READ && resp != 3;
	if (treatment == MP_REWRITE_GROUP_READ)
		ok = resp == 3 ? copy_streams(&c) : copy_value(&c);
	else
		ok = copy_fields(&c, STREAM);
	if (ok && c.rest.len == 0)
		return true;
	/* An error, or nothing that is known. */
	mp_buffer_trim(out, mp_buffer_len(out) - before);
	return put(&c, reply);
}
