/*
 * resp.h - the Redis wire protocol (RESP2), fed bytes, yielding requests and
 * the bounds of replies. Knows no sockets and keeps no bytes (but the unquoted
 * arguments of an inline command): state is offsets into the caller's buffer,
 * which may move, and grow at its end, between calls.
 * Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
#ifndef MP_RESP_H
#define MP_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

enum resp_result {
	RESP_DONE,  /* one whole message */
	RESP_MORE,  /* need more bytes */
	RESP_ERROR, /* not the protocol: answer parser->error, then close */
};

struct resp_limits {
	size_t max_bulk_bytes;    /* one argument (Redis: proto-max-bulk-len) */
	size_t max_request_bytes; /* a whole request */
	int max_args;             /* Redis: 1024 * 1024 */
	size_t max_inline_bytes;  /* Redis: 64 KiB, also of a "$<len>" line */
};
/* Redis's defaults; max_request_bytes 1 GiB (its client-query-buffer-limit). */
void resp_limits_init(struct resp_limits *limits);
/* None: for what was let in before, and may have grown since (rewrite.c). */
void resp_limits_lift(struct resp_limits *limits);

/*
 * One request. argv itself belongs to the parser and is valid until its next
 * call; the slices point into the caller's buffer (of an inline command: into
 * the parser) and are valid until that moves.
 */
struct resp_request {
	int argc; /* 0: an empty line or *0: skip it */
	const struct mp_slice *argv;
	struct mp_slice raw; /* the bytes as sent */
	/*
	 * raw is not in clean multibulk form (an inline command, or one whose line
	 * ends are not CRLF, which Redis does not check): before anybody else
	 * reads it, re-encode it with resp_encode.
	 */
	bool is_inline;
};

struct resp_parser; /* one a connection; takes memory only as arguments grow in number */
struct resp_parser *resp_parser_new(const struct resp_limits *limits); /* NULL: no memory */
void resp_parser_free(struct resp_parser *);
/* Requests of somebody who has not said who he is are to be small, as with Redis. */
void resp_parser_distrust(struct resp_parser *, bool distrusted);

/*
 * Parse one request at data, which holds everything unconsumed so far. On
 * RESP_DONE *used is its length. After RESP_MORE call again with the same
 * bytes and more behind them; no byte is scanned twice. On RESP_ERROR
 * resp_parser_error() is Redis's own text, without '-' and CRLF ("ERR
 * Protocol error: invalid bulk length"); the parser is of no more use.
 */
enum resp_result resp_parse(struct resp_parser *, const char *data, size_t len, size_t *used,
			    struct resp_request *request);
const char *resp_parser_error(const struct resp_parser *);
/* How many bytes the message under way needs at least in all (to size the buffer); 0: unknown. */
size_t resp_parser_wants(const struct resp_parser *);

/*
 * Finds the end of a reply (RESP2; RESP3 types are framed as well). A zeroed
 * framer is ready. Feeds on any pieces: *used bytes of data belong to the
 * current reply; RESP_DONE when they end it (and the framer is ready for the
 * next). Nested arrays of any size and depth: how many values are still to come
 * is known without knowing which array they are in. (Scripts nest thousands.)
 */
struct resp_framer {
	uint64_t pending; /* values still to come; 0: no array has begun */
	uint64_t skip;    /* bytes of a bulk payload still to pass over */
	char line[32];    /* the number of a header line, as far as seen */
	uint8_t line_len;
	uint8_t in_line; /* the line's type byte, while its end is not yet seen */
};
enum resp_result resp_frame(struct resp_framer *, const char *data, size_t len, size_t *used);

/*
 * About how many bytes the reply takes that begins so: exact for a string, for an array what
 * its first items let expect. 0: its beginning is not there, or it is neither.
 */
uint64_t resp_estimate(const char *data, size_t len);

/*
 * The array reply of an EXEC, taken apart: like resp_frame, but reports after
 * the array's own header line (RESP_DONE with *count = elements, -1 for a nil
 * array) so that the caller can frame the elements one by one. Stateless: on
 * RESP_MORE nothing is used, call again with more. An error reply (and what is
 * no array) is not taken: RESP_ERROR, nothing used.
 */
enum resp_result resp_array_header(const char *data, size_t len, size_t *used, int64_t *count);

/* Encode a request in multibulk form; returns its length; writes only if it fits cap. */
size_t resp_encode(char *out, size_t cap, int argc, const struct mp_slice *argv);

/* "There is none" in a version of the protocol: a string, an array. */
static inline struct mp_slice mp_resp_nil(int resp)
{
	return resp == 3 ? (struct mp_slice){"_\r\n", 3} : (struct mp_slice){"$-1\r\n", 5};
}
static inline struct mp_slice mp_resp_nil_array(int resp)
{
	return resp == 3 ? (struct mp_slice){"_\r\n", 3} : (struct mp_slice){"*-1\r\n", 5};
}

/* Parse a decimal int64 exactly as Redis's string2ll does: no spaces, no '+', no leading 0. */
bool mp_parse_i64(struct mp_slice text, int64_t *value);
#endif
