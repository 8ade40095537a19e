/*
 * mc_text.h - the Memcached text protocol, fed bytes, yielding requests and
 * the bounds of replies. Same manner as resp.h. What is accepted and what is
 * answered to the rest is what memcached 1.6 accepts and answers.
 * Protocol: memcached's doc/protocol.txt.
 */
#ifndef MP_MC_TEXT_H
#define MP_MC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

#define MC_MAX_KEY_BYTES 250

enum mc_verb {
	MC_GET,
	MC_GETS,
	MC_GAT,
	MC_GATS,
	MC_SET,
	MC_ADD,
	MC_REPLACE,
	MC_APPEND,
	MC_PREPEND,
	MC_CAS,
	MC_DELETE,
	MC_INCR,
	MC_DECR,
	MC_TOUCH,
	MC_FLUSH_ALL,
	MC_VERSION,
	MC_STATS,
	MC_QUIT,
	MC_REFUSED, /* known to memcached, not served here: request->refusal says why */
	MC_UNKNOWN, /* none: what came was wrong */
};

/*
 * One request. Slices point into the caller's buffer and are valid until it
 * moves; keys itself belongs to the parser and is valid until its next call.
 * Bytes are as sent: before anybody else reads a request, write it anew
 * (mc_decide.h), for the parsers may differ over what is odd about it.
 */
struct mc_request {
	enum mc_verb verb;
	int key_count; /* of get, gets, gat, gats (which may have none); else 1 if it names one */
	const struct mp_slice *keys;
	uint32_t flags;
	int64_t exptime; /* as sent: 0 never, < 0 at once, <= 30 days relative, else absolute */
	uint64_t number; /* incr/decr delta, cas unique */
	struct mp_slice value;
	bool noreply;
	struct mp_slice args; /* stats: what follows the verb */
	const char *refusal;  /* e.g. "meta commands are not served yet" */
	struct mp_slice raw;  /* the bytes as sent */
};

struct mc_limits {
	size_t max_value_bytes; /* memcached -I, default 1 MiB */
	size_t max_line_bytes;  /* a get with its keys, default 1 MiB; other lines: 2048 */
};
void mc_limits_init(struct mc_limits *limits);

enum mc_result {
	MC_DONE,
	MC_MORE,
	MC_BAD,   /* answer mc_parser_error() and go on: *used covers what was wrong */
	MC_FATAL, /* answer mc_parser_error() and close */
};

struct mc_parser;
struct mc_parser *mc_parser_new(const struct mc_limits *limits); /* NULL: no memory */
void mc_parser_free(struct mc_parser *);
/*
 * As resp_parse. What is wrong with a request is answered as memcached 1.6
 * does ("CLIENT_ERROR bad data chunk", "SERVER_ERROR object too large for
 * cache", "ERROR"); the data block of a refused set is swallowed (it need not
 * be buffered: MC_MORE with *used > 0 takes bytes away as they come).
 *
 * MC_BAD: noreply holds for errors, too: if the text is empty, answer nothing.
 * A set that is too large also removes the old value, as memcached does for
 * fear of serving what should have been replaced: then *request is a `delete
 * <key> noreply` to be carried out (in memory of the parser, raw as well). In
 * all other cases its verb is MC_UNKNOWN.
 */
enum mc_result mc_parse(struct mc_parser *, const char *data, size_t len, size_t *used,
			struct mc_request *request);
const char *mc_parser_error(const struct mc_parser *); /* without CRLF */
size_t mc_parser_wants(const struct mc_parser *);

/*
 * Finds the end of a reply: "VALUE ... <bytes>" blocks up to "END", "STAT"
 * lines up to "END", a meta command's "VA <bytes> ..." and its block, or one
 * line. A zeroed framer is ready. MC_FATAL: no reply that we know of.
 */
struct mc_framer {
	uint64_t skip;  /* bytes of a data block still to pass over */
	char line[320]; /* a line cut between pieces; of a longer one its beginning */
	uint16_t line_len;
	bool last; /* the block under way ends the reply */
};
enum mc_result mc_frame(struct mc_framer *, const char *data, size_t len, size_t *used);
#endif
