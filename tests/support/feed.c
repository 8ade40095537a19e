/* feed.c - see feed.h. */
#include "feed.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_notes_free(struct test_notes *notes)
{
	free(notes->text);
	*notes = (struct test_notes){0};
}

bool test_notes_same(const struct test_notes *a, const struct test_notes *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

static void note_bytes(struct test_notes *notes, const char *data, size_t len)
{
	while (notes->len + len + 1 > notes->cap) {
		notes->cap = notes->cap ? notes->cap * 2 : 256;
		notes->text = realloc(notes->text, notes->cap);
		assert(notes->text);
	}
	if (len > 0)
		memcpy(notes->text + notes->len, data, len);
	notes->len += len;
	notes->text[notes->len] = '\0';
}

__attribute__((format(printf, 2, 3))) static void note(struct test_notes *notes, const char *format,
						       ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	note_bytes(notes, text, strlen(text));
}

size_t test_cut_whole(size_t from, size_t len, void *ctx)
{
	(void)from;
	(void)ctx;
	return len;
}

size_t test_cut_bytes(size_t from, size_t len, void *ctx)
{
	(void)ctx;
	return from < len ? from + 1 : len;
}

size_t test_cut_at(size_t from, size_t len, void *ctx)
{
	size_t at = *(size_t *)ctx;

	return from < at && at < len ? at : len;
}

uint64_t test_random(uint64_t *state)
{
	/* splitmix64 */
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

size_t test_cut_random(size_t from, size_t len, void *ctx)
{
	size_t n = 1 + test_random(ctx) % 7;

	return len - from < n ? len : from + n;
}

/* A copy of exactly these bytes (at least one is allocated). */
static char *copy_of(const char *data, size_t len)
{
	char *copy = malloc(len ? len : 1);

	assert(copy);
	memcpy(copy, data, len);
	return copy;
}

/* What one call gave. True: the input goes on. */
static bool note_resp(struct test_notes *notes, struct resp_parser *parser, enum resp_result result,
		      size_t used, const struct resp_request *r)
{
	if (result == RESP_ERROR) {
		note(notes, "error %s\n", resp_parser_error(parser));
		return false;
	}
	note(notes, "%zu bytes%s, %d args:", used, r->is_inline ? " unclean" : "", r->argc);
	assert(r->raw.len == used);
	for (int i = 0; i < r->argc; i++) {
		note(notes, " [%zu]", r->argv[i].len);
		note_bytes(notes, r->argv[i].data, r->argv[i].len);
	}
	note(notes, "\n");
	return true;
}

void test_feed_resp(const void *limits, struct mp_slice input, test_cut cut, void *ctx,
		    struct test_notes *notes)
{
	struct resp_parser *parser = resp_parser_new(limits);
	size_t pos = 0, end = 0;
	bool going = true;

	assert(parser);
	while (going && end < input.len) {
		end = cut(end, input.len, ctx);
		for (;;) {
			char *data = copy_of(input.data + pos, end - pos);
			struct resp_request r = {0};
			enum resp_result result;
			size_t used;

			result = resp_parse(parser, data, end - pos, &used, &r);
			if (result != RESP_MORE)
				going = note_resp(notes, parser, result, used, &r);
			free(data);
			assert(used <= end - pos);
			pos += used;
			if (result != RESP_DONE)
				break;
		}
	}
	resp_parser_free(parser);
}

static void note_mc_request(struct test_notes *notes, const struct mc_request *r)
{
	note(notes, "verb %d flags %u exptime %lld number %llu%s keys", (int)r->verb, r->flags,
	     (long long)r->exptime, (unsigned long long)r->number, r->noreply ? " noreply" : "");
	for (int i = 0; i < r->key_count; i++) {
		note(notes, " [%zu]", r->keys[i].len);
		note_bytes(notes, r->keys[i].data, r->keys[i].len);
	}
	note(notes, " value [%zu]", r->value.len);
	note_bytes(notes, r->value.data, r->value.data ? r->value.len : 0);
	note(notes, " args [%zu]", r->args.len);
	note_bytes(notes, r->args.data, r->args.len);
	note(notes, " refusal %s\n", r->refusal ? r->refusal : "none");
}

void test_feed_mc(const void *limits, struct mp_slice input, test_cut cut, void *ctx,
		  struct test_notes *notes)
{
	struct mc_parser *parser = mc_parser_new(limits);
	enum mc_result result = MC_MORE;
	size_t pos = 0, end = 0;

	assert(parser);
	while (result != MC_FATAL && end < input.len) {
		end = cut(end, input.len, ctx);
		for (;;) {
			char *data = copy_of(input.data + pos, end - pos);
			struct mc_request r;
			size_t used;

			result = mc_parse(parser, data, end - pos, &used, &r);
			assert(used <= end - pos);
			pos += used;
			if (result == MC_BAD || result == MC_FATAL)
				note(notes, "error '%s' ", mc_parser_error(parser));
			if (result != MC_MORE)
				note_mc_request(notes, &r);
			if (result == MC_DONE || result == MC_BAD)
				note(notes, "at %zu\n", pos);
			free(data);
			if (result == MC_FATAL || result == MC_MORE)
				break;
		}
	}
	mc_parser_free(parser);
}

void test_feed_resp_framer(struct mp_slice input, test_cut cut, void *ctx, struct test_notes *notes)
{
	struct resp_framer framer = {0};
	size_t pos = 0;

	while (pos < input.len) {
		size_t end = cut(pos, input.len, ctx), used;
		char *data = copy_of(input.data + pos, end - pos);
		enum resp_result result = resp_frame(&framer, data, end - pos, &used);

		free(data);
		assert(used <= end - pos);
		assert(result != RESP_MORE || used == end - pos);
		pos += used;
		if (result == RESP_DONE)
			note(notes, "end at %zu\n", pos);
		if (result == RESP_ERROR) {
			note(notes, "error at %zu\n", pos);
			return;
		}
	}
}

void test_feed_mc_framer(struct mp_slice input, test_cut cut, void *ctx, struct test_notes *notes)
{
	struct mc_framer framer = {0};
	size_t pos = 0;

	while (pos < input.len) {
		size_t end = cut(pos, input.len, ctx), used;
		char *data = copy_of(input.data + pos, end - pos);
		enum mc_result result = mc_frame(&framer, data, end - pos, &used);

		free(data);
		assert(used <= end - pos);
		assert(result != MC_MORE || used == end - pos);
		pos += used;
		if (result == MC_DONE)
			note(notes, "end at %zu\n", pos);
		if (result == MC_FATAL) {
			note(notes, "error at %zu\n", pos);
			return;
		}
	}
}
