/*
 * fuzz_resp.c - libFuzzer harness for the Redis codec. Whatever the bytes:
 * they mean the same in whatever pieces they come; a request that is encoded
 * again is the same request, in clean form; replies end where they end. (The
 * pieces are allocations of exactly their size, so the sanitizer sees a byte
 * read too far.)
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "resp.h"

static const struct resp_limits limits = {
	.max_bulk_bytes = 512, .max_request_bytes = 2048, .max_args = 64, .max_inline_bytes = 256};

static void check_again(const struct resp_request *r)
{
	struct resp_parser *parser = resp_parser_new(&limits);
	size_t len = resp_encode(NULL, 0, r->argc, r->argv), used;
	char *wire = malloc(len);
	struct resp_request again;
	enum resp_result result;

	CHECK(parser && wire && resp_encode(wire, len, r->argc, r->argv) == len);
	result = resp_parse(parser, wire, len, &used, &again);
	if (result == RESP_DONE) {
		CHECK(used == len && again.argc == r->argc && !again.is_inline);
		for (int i = 0; i < r->argc; i++) {
			CHECK(r->argv[i].len == again.argv[i].len);
			CHECK(memcmp(r->argv[i].data, again.argv[i].data, r->argv[i].len) == 0);
		}
		if (!r->is_inline)
			CHECK(r->raw.len == len && memcmp(r->raw.data, wire, len) == 0);
	} else {
		/* An inline command may be longer, or of more arguments, in the other form. */
		CHECK(result == RESP_ERROR && r->is_inline);
	}
	free(wire);
	resp_parser_free(parser);
}

static void check_requests(struct mp_slice input)
{
	struct resp_parser *parser = resp_parser_new(&limits);
	struct resp_request r;
	size_t pos = 0, used;

	CHECK(parser);
	while (resp_parse(parser, input.data + pos, input.len - pos, &used, &r) == RESP_DONE) {
		pos += used;
		if (r.argc > 0)
			check_again(&r);
	}
	resp_parser_free(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mp_slice input = {(const char *)data, size};
	int64_t count;
	size_t used;

	check_pieces(test_feed_resp, &limits, test_feed_resp_framer, input, size);
	check_requests(input);
	if (resp_array_header(input.data, input.len, &used, &count) == RESP_DONE)
		CHECK(used <= size && count >= -1);
	return 0;
}
