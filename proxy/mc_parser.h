/*
 * mc_parser.h - what the parts of the parser need of each other: mc_parser.c
 * (the state machine), mc_text.c and mc_meta.c (lines), mc_binary.c (frames).
 */
#ifndef MP_MC_PARSER_H
#define MP_MC_PARSER_H

#include <string.h>

#include "mc_text.h"

enum mc_parser_state {
	MC_IN_LINE,    /* or in a frame */
	MC_IN_BLOCK,   /* the line is read, its block is to come */
	MC_IN_GARBAGE, /* bytes that nobody wants are to be passed over */
};

enum { MC_MAX_WORDS = 24 }; /* the most that any line has that is accepted, and some */

/* A line cut into words at blanks. */
struct mc_words {
	int count; /* may exceed MC_MAX_WORDS: those are not kept */
	struct mp_slice word[MC_MAX_WORDS];
};

struct mc_parser {
	const struct mc_limits *limits;
	bool is_internal;
	enum { MC_UNDECIDED, MC_LINES, MC_FRAMES } protocol; /* of this connection */
	enum mc_parser_state state;
	size_t scanned;         /* bytes of the line that hold no LF */
	struct mc_request line; /* IN_BLOCK: what the line said; slices are not valid */
	size_t key_offset;      /* of its key */
	size_t args_offset;     /* of its args */
	size_t line_bytes;      /* of it, with its end; of a frame: all of it */
	size_t block_bytes;     /* of the block, with its CRLF; IN_GARBAGE: what is left of it */
	enum mc_result verdict; /* IN_GARBAGE: what is to be said when it is over */
	const char *error;
	uint16_t status; /* of a binary error */
	struct mp_slice *keys;
	int key_slots;
	size_t own_bytes; /* IN_GARBAGE: of a request in `own`, to be carried out first */
	char own[MC_MAX_KEY_BYTES + 64];
	char decoded[MC_MAX_KEY_BYTES]; /* a key that came in base64 */
	char answer[160];               /* of mc_parser_answer() */
};

#define MC_BAD_FORMAT "CLIENT_ERROR bad command line format"
#define MC_TOO_LARGE "SERVER_ERROR object too large for cache"

/* --- mc_parser.c */
bool mc_keep_key(struct mc_parser *p, int count, struct mp_slice key);
/* What is wrong with a request (nothing is said to noreply), or with a connection. */
enum mc_result mc_bad(struct mc_parser *p, const struct mc_request *r, const char *error);
enum mc_result mc_fatal(struct mc_parser *p, const char *error);
/* A data block of so many bytes follows (with its CRLF two more). */
enum mc_result mc_expect_block(struct mc_parser *p, struct mc_request *r, size_t bytes);
/* ... which is to be passed over; then verdict. */
enum mc_result mc_swallow(struct mc_parser *p, size_t bytes, enum mc_result verdict);
/* What a store that is refused comes down to: the old value goes, too. key: as in the line. */
void mc_delete_instead(struct mc_parser *p, struct mp_slice key, bool is_base64);

/* --- mc_number.c: numbers as strtol(3) and memcached read them */
bool mc_read_u64(struct mp_slice word, uint64_t *value);
bool mc_read_u32(struct mp_slice word, uint32_t *value);
bool mc_read_i32(struct mp_slice word, int32_t *value);

/* --- mc_text.c: a whole line without its end. MC_MORE: p->state says what follows it. */
enum mc_result mc_parse_line(struct mc_parser *p, const char *s, const char *end,
			     struct mc_request *r);

/* --- mc_meta.c: the line of a meta command */
enum mc_result mc_parse_meta(struct mc_parser *p, const struct mc_words *w, struct mc_request *r);

/* --- mc_binary.c */
enum mc_result mc_parse_frame(struct mc_parser *p, const char *data, size_t len, size_t *used,
			      struct mc_request *r);
#endif
