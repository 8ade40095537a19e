/*
 * mc_text.h - the Memcached text protocol, fed bytes, yielding requests and
 * the bounds of replies. Same manner as resp.h.
 * Protocol: memcached's doc/protocol.txt.
 */
#ifndef MP_MC_TEXT_H
#define MP_MC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

enum mc_verb {
	MC_GET, MC_GETS, MC_GAT, MC_GATS,
	MC_SET, MC_ADD, MC_REPLACE, MC_APPEND, MC_PREPEND, MC_CAS,
	MC_DELETE, MC_INCR, MC_DECR, MC_TOUCH,
	MC_FLUSH_ALL, MC_VERSION, MC_VERBOSITY, MC_STATS, MC_QUIT,
	MC_REFUSED, /* known to memcached, not served here: request->refusal says why */
	MC_UNKNOWN, /* answer "ERROR" */
};

struct mc_request {
	enum mc_verb verb;
	int key_count; /* keys of get/gets/gat/gats; 1 for the others that name one */
	const struct mp_slice *keys;
	uint32_t flags;
	int64_t exptime;   /* as sent: 0 never, negative at once, <= 30 days relative, else absolute */
	uint64_t number;   /* incr/decr delta, cas unique */
	struct mp_slice value;
	bool noreply;
	struct mp_slice args; /* stats, flush_all, verbosity: what follows the verb */
	const char *refusal;
	struct mp_slice raw; /* the bytes as sent */
};

struct mc_limits {
	size_t max_value_bytes; /* memcached -I, default 1 MiB */
	size_t max_line_bytes;  /* a command line (many keys); at least 64 KiB */
};
void mc_limits_init(struct mc_limits *limits);

enum mc_result {
	MC_DONE,
	MC_MORE,
	MC_BAD,   /* answer mc_parser_error() and go on: *used covers what was wrong */
	MC_FATAL, /* answer mc_parser_error() and close */
};

struct mc_parser;
struct mc_parser *mc_parser_new(const struct mc_limits *limits);
void mc_parser_free(struct mc_parser *);
/*
 * As resp_parse. What is wrong with a request is answered as memcached 1.6
 * does ("CLIENT_ERROR bad data chunk", "SERVER_ERROR object too large for
 * cache", "ERROR"); the data block of a refused set is swallowed (it need not
 * be buffered: MC_MORE with *used > 0 takes bytes away as they come).
 */
enum mc_result mc_parse(struct mc_parser *, const char *data, size_t len, size_t *used,
			struct mc_request *request);
const char *mc_parser_error(const struct mc_parser *); /* without CRLF */
size_t mc_parser_wants(const struct mc_parser *);

/*
 * Finds the end of a reply: "VALUE ... <bytes>" blocks up to "END", "STAT"
 * lines up to "END", or one line. A zeroed framer is ready.
 */
struct mc_framer {
	uint64_t skip;
	char line[320];
	uint16_t line_len;
	bool multi; /* inside VALUE or STAT lines */
};
enum mc_result mc_frame(struct mc_framer *, const char *data, size_t len, size_t *used);
#endif
