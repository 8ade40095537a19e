/*
 * mc_text.h - what Memcached clients send, fed bytes, yielding requests, and
 * the bounds of servers' replies. Same manner as resp.h. All three protocols:
 * text, meta and binary. What is accepted and what is answered to the rest is
 * what memcached 1.6 accepts and answers. As there, a connection's first byte
 * tells whether it speaks the binary protocol.
 * Protocols: memcached's doc/protocol.txt and doc/protocol-binary.xml.
 */
#ifndef MP_MC_TEXT_H
#define MP_MC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mc_request.h"
#include "slice.h"

/* What memcacheds newer than 1.6.18 know of the meta commands; a server tells
 * (memcached_greeting.h). */
enum mc_news {
	MC_NEWS_APPEND = 1,     /* ms: s tells how large the item is, MA and MP with N make it */
	MC_NEWS_TOKENS = 2,     /* E: the client chooses the token (mc_token.h) */
	MC_NEWS_TOMBSTONES = 4, /* md x: the value goes, the item stays */
	MC_NEWS_ALL = 7,
};

struct mc_limits {
	unsigned news;          /* enum mc_news: flags that are none without */
	size_t max_value_bytes; /* memcached -I, default 1 MiB */
	size_t max_item_bytes;  /* the same, of the whole item: see mc_fits(); 0: any */
	size_t max_line_bytes;  /* a get with its keys, default 1 MiB; gat: 16 KiB; others: 2000 */
};
void mc_limits_init(struct mc_limits *limits);
/*
 * Has the server room for such an item? It counts what it keeps beside the value,
 * too, as of memcached 1.6 on 64 bits. (Where that is wrong, the store fails at
 * the server: see mp_memcached_follow_up().)
 */
bool mc_fits(const struct mc_limits *limits, size_t key_bytes, uint32_t flags, size_t value_bytes);

enum mc_result {
	MC_DONE,
	MC_MORE,
	MC_BAD,   /* answer mc_parser_error() and go on: *used covers what was wrong */
	MC_FATAL, /* answer mc_parser_error() and close */
};

struct mc_parser;
/* limits are looked at with every request. NULL: no memory. */
struct mc_parser *mc_parser_new(const struct mc_limits *limits);
/*
 * For requests that a parser has seen already: each may be of another protocol,
 * and there are commands that clients have not: "+gat <exptime> <key>" and
 * "+gats ...", the part for one key of a gat of several, and "+gets <key>+", one of a
 * gets of many, whose replies have no END.
 * Flags are taken that the limits do not know: another replica's server does.
 */
struct mc_parser *mc_parser_internal(const struct mc_limits *limits);
void mc_parser_free(struct mc_parser *);
/*
 * As resp_parse. What is wrong with a request is answered as memcached 1.6
 * does ("CLIENT_ERROR bad data chunk", "SERVER_ERROR object too large for
 * cache", "ERROR"); the data block of a refused set is swallowed (it need not
 * be buffered: MC_MORE with *used > 0 takes bytes away as they come).
 *
 * MC_BAD: noreply holds for errors, too: if the text is empty, answer nothing.
 * A set that is too large also removes the old value, as memcached does for
 * fear of serving what should have been replaced: as soon as that is known, so
 * before MC_BAD, there is a `delete <key> noreply` (MC_DONE, in memory of the
 * parser, raw as well; *used is of the set's beginning).
 */
enum mc_result mc_parse(struct mc_parser *, const char *data, size_t len, size_t *used,
			struct mc_request *request);
const char *mc_parser_error(const struct mc_parser *); /* without CRLF */
/* The same as it is to be sent, in the client's protocol; empty if there is nothing to say. */
struct mp_slice mc_parser_answer(struct mc_parser *);
/* Does the connection speak the binary protocol? (False as long as nothing came.) */
bool mc_parser_is_binary(const struct mc_parser *);
size_t mc_parser_wants(const struct mc_parser *);

/*
 * Finds the end of a reply: "VALUE ... <bytes>" blocks up to "END", "STAT"
 * lines (ITEM, PREFIX) up to "END", a meta command's "VA <bytes> ..." and its block, or one
 * line. A zeroed framer is ready. MC_FATAL: no reply that we know of.
 */
struct mc_framer {
	uint64_t skip;  /* bytes of a data block still to pass over */
	char line[320]; /* a line cut between pieces; of a longer one its beginning */
	uint16_t line_len;
	bool last;    /* the block under way ends the reply */
	bool is_bare; /* the reply to a request that mc_is_bare(): to be set before it comes */
};
/*
 * "stats sizes_enable" and "stats sizes_disable": statistics without an END. line:
 * a request in a backend's form.
 */
bool mc_is_bare(struct mp_slice line);
enum mc_result mc_frame(struct mc_framer *, const char *data, size_t len, size_t *used);

/* The number in "STAT name number" of a reply, which is terminated; 0: it is not there. */
uint64_t mc_stat_number(const char *text, const char *name);
#endif
