/* memcached_gets.c - see memcached_gets.h. */
#include "memcached_gets.h"

#include <assert.h>
#include <string.h>

#include "mc_request.h"

enum {
	MEMBERS_MAX = 32,      /* of one line, so that no answer waits for long */
	LINE_MAX_BYTES = 512,  /* of an answer: a key, and two numbers */
	PIECE_BYTES = 64 << 10 /* a reply of less is told in one piece (backend.h) */
};

static const char verb[] = "get ", end[] = "END\r\n";

bool memcached_gets_is_one(struct mp_slice line, struct mp_slice *key)
{
	size_t around = sizeof(verb) - 1 + 2;

	if (line.len <= around || line.len > around + MC_MAX_KEY_BYTES ||
	    !mp_starts_with(line, verb))
		return false;
	*key = (struct mp_slice){line.data + sizeof(verb) - 1, line.len - around};
	return !memchr(key->data, ' ', key->len);
}

/* ---------------------------------------------------------------------- asking */

/* Nothing was put behind the newest line, nor was any of it sent. */
static bool is_open(const struct memcached_gets *gets, const struct mp_base *base, uint8_t kind)
{
	const struct mp_slot *newest;

	if (base->slots.count == 0 || base->wire.is_broken ||
	    mp_buffer_len(&base->wire.out) != gets->line_end)
		return false;
	newest = mp_fifo_tail(&base->slots);
	return newest->kind == kind && newest->members < MEMBERS_MAX;
}

void memcached_gets_ask(struct memcached_gets *gets, struct mp_base *base, uint8_t kind,
			struct mp_slice key, void *owner)
{
	struct mp_wire *wire = &base->wire;
	struct memcached_asked *asked;

	if (is_open(gets, base, kind)) {
		mp_buffer_trim(&wire->out, 2);
		((struct mp_slot *)mp_fifo_tail(&base->slots))->members++;
		mp_wire_put(wire, " ", 1);
	} else {
		mp_base_expect(base, kind, NULL, MP_TAKE_READ)->members = 1;
		mp_wire_put(wire, verb, sizeof(verb) - 1);
	}
	mp_wire_put(wire, key.data, key.len);
	mp_wire_put(wire, "\r\n", 2);
	gets->line_end = mp_buffer_len(&wire->out);
	asked = mp_fifo_push(&gets->asked);
	*asked = (struct memcached_asked){owner, key.len};
	if (!mp_buffer_append(&gets->keys, key.data, key.len)) {
		asked->key_bytes = 0;
		mp_wire_break(wire, "out of memory");
	}
}

/* -------------------------------------------------------------------- answering */

static struct mp_slot *head(const struct mp_base *base)
{
	return mp_fifo_at(&base->slots, 0);
}

/* The oldest that is asked for goes: its owner. */
static void *pop(struct memcached_gets *gets)
{
	struct memcached_asked asked = *(struct memcached_asked *)mp_fifo_at(&gets->asked, 0);

	mp_fifo_pop(&gets->asked);
	mp_buffer_consume(&gets->keys, asked.key_bytes);
	return asked.owner;
}

static void tell(struct mp_base *base, void *owner, struct mp_slice piece, bool last)
{
	if (owner)
		base->backend.events->reply(base->backend.events_ctx, owner, piece, last);
}

static void answer_next(struct memcached_gets *gets, struct mp_base *base, struct mp_slice reply)
{
	head(base)->members--;
	tell(base, pop(gets), reply, true);
}

/* The line's end, or an error: so much for all that is left. */
static enum mp_take answer_rest(struct memcached_gets *gets, struct mp_base *base,
				struct mp_slice line)
{
	while (head(base)->members > 0)
		answer_next(gets, base, line);
	mp_buffer_consume(&base->wire.in, line.len);
	return MP_TAKE_DONE;
}

static bool is_next(const struct memcached_gets *gets, struct mp_slice key)
{
	const struct memcached_asked *asked = mp_fifo_at(&gets->asked, 0);

	return asked->key_bytes == key.len &&
	       memcmp(mp_buffer_data(&gets->keys), key.data, key.len) == 0;
}

/* Keys are answered in their order, so what stands before this one is not there. */
static bool pass_over_missing(struct memcached_gets *gets, struct mp_base *base,
			      struct mp_slice key)
{
	while (head(base)->members > 0) {
		if (is_next(gets, key))
			return true;
		answer_next(gets, base, (struct mp_slice){end, sizeof(end) - 1});
	}
	return false;
}

/*
 * The end of a value. It is for its client alone, so the line's end has to follow;
 * what is there instead, if anything, is put back.
 */
static enum mp_take answer_value(struct memcached_gets *gets, struct mp_base *base)
{
	struct mp_buffer *in = &base->wire.in;
	char behind[sizeof(end) - 1], *data;
	size_t bytes = gets->left;

	if (!mp_buffer_reserve(in, sizeof(behind))) {
		mp_wire_break(&base->wire, "out of memory");
		return MP_TAKE_BROKEN;
	}
	gets->left = 0;
	data = mp_buffer_data(in);
	memcpy(behind, data + bytes, sizeof(behind));
	memcpy(data + bytes, end, sizeof(behind));
	answer_next(gets, base, (struct mp_slice){data, bytes + sizeof(behind)});
	memcpy(data + bytes, behind, sizeof(behind));
	mp_buffer_consume(in, bytes);
	return MP_TAKE_DONE;
}

/* A value, its line included, as far as it is there. */
static enum mp_take take_value(struct memcached_gets *gets, struct mp_base *base)
{
	const struct memcached_asked *asked = mp_fifo_at(&gets->asked, 0);
	struct mp_slice piece = mp_buffer_slice(&base->wire.in);

	if (piece.len >= gets->left)
		return answer_value(gets, base);
	if (piece.len < PIECE_BYTES)
		return MP_TAKE_MORE;
	gets->left -= piece.len;
	tell(base, asked->owner, piece, false);
	mp_buffer_consume(&base->wire.in, piece.len);
	return MP_TAKE_MORE;
}

/* "VALUE <key> <flags> <bytes>": what follows is for the next who asked for that key. */
static bool begin_value(struct memcached_gets *gets, struct mp_base *base, struct mp_slice line)
{
	const char *at = line.data + strlen("VALUE "), *line_end = line.data + line.len - 2;
	struct mp_slice key = mc_next_word(&at, line_end);

	mc_next_word(&at, line_end); /* flags */
	gets->left = line.len + (size_t)mc_digits(mc_next_word(&at, line_end)) + 2;
	return pass_over_missing(gets, base, key);
}

/* The next line. Empty: it is not there, or not whole yet. */
static struct mp_slice first_line(const struct mp_buffer *in)
{
	struct mp_slice line = mp_buffer_slice(in);
	const char *lf = line.len > 0 ? memchr(line.data, '\n', line.len) : NULL;

	return (struct mp_slice){line.data, lf ? (size_t)(lf - line.data) + 1 : 0};
}

enum mp_take memcached_gets_take(struct memcached_gets *gets, struct mp_base *base)
{
	struct mp_buffer *in = &base->wire.in;

	for (;;) {
		enum mp_take result = gets->left > 0 ? take_value(gets, base) : MP_TAKE_DONE;
		struct mp_slice line;

		if (result != MP_TAKE_DONE)
			return result;
		line = first_line(in);
		if (line.len == 0 && mp_buffer_len(in) < LINE_MAX_BYTES)
			return MP_TAKE_MORE;
		if (line.len > 0 && !mp_starts_with(line, "VALUE "))
			return answer_rest(gets, base, line);
		if (line.len == 0 || !begin_value(gets, base, line)) {
			mp_wire_break(&base->wire, "the server sent what is no reply");
			return MP_TAKE_BROKEN;
		}
	}
}

/* ------------------------------------------------------------------------ losing */

void memcached_gets_lose(struct memcached_gets *gets, struct mp_base *base,
			 const struct mp_slot *slot)
{
	for (uint32_t i = 0; i < slot->members; i++)
		mp_base_lost(base, pop(gets));
}

void memcached_gets_reset(struct memcached_gets *gets)
{
	mp_fifo_clear(&gets->asked);
	mp_buffer_clear(&gets->keys);
	gets->line_end = gets->left = 0;
}

void memcached_gets_free(struct memcached_gets *gets)
{
	mp_fifo_free(&gets->asked);
	mp_buffer_free(&gets->keys);
}
