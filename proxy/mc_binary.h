/* mc_binary.h - the binary protocol: its numbers, and how its answers are made. */
#ifndef MP_MC_BINARY_H
#define MP_MC_BINARY_H

#include "mc_request.h"
#include "mc_writer.h"

enum {
	MC_BINARY_REQUEST = 0x80,
	MC_BINARY_RESPONSE = 0x81,
	MC_BINARY_HEADER_BYTES = 24,
	MC_BINARY_CAS_OFFSET = 16, /* in a header */
};

enum mc_opcode {
	MC_OP_GET = 0x00,
	MC_OP_SET = 0x01,
	MC_OP_ADD = 0x02,
	MC_OP_REPLACE = 0x03,
	MC_OP_DELETE = 0x04,
	MC_OP_INCREMENT = 0x05,
	MC_OP_DECREMENT = 0x06,
	MC_OP_QUIT = 0x07,
	MC_OP_FLUSH = 0x08,
	MC_OP_GETQ = 0x09,
	MC_OP_NOOP = 0x0a,
	MC_OP_VERSION = 0x0b,
	MC_OP_GETK = 0x0c,
	MC_OP_GETKQ = 0x0d,
	MC_OP_APPEND = 0x0e,
	MC_OP_PREPEND = 0x0f,
	MC_OP_STAT = 0x10,
	MC_OP_SETQ = 0x11,
	MC_OP_ADDQ = 0x12,
	MC_OP_REPLACEQ = 0x13,
	MC_OP_DELETEQ = 0x14,
	MC_OP_INCREMENTQ = 0x15,
	MC_OP_DECREMENTQ = 0x16,
	MC_OP_QUITQ = 0x17,
	MC_OP_FLUSHQ = 0x18,
	MC_OP_APPENDQ = 0x19,
	MC_OP_PREPENDQ = 0x1a,
	MC_OP_TOUCH = 0x1c,
	MC_OP_GAT = 0x1d,
	MC_OP_GATQ = 0x1e,
	MC_OP_SASL_LIST_MECHS = 0x20,
	MC_OP_SASL_AUTH = 0x21,
	MC_OP_SASL_STEP = 0x22,
	MC_OP_GATK = 0x23,
	MC_OP_GATKQ = 0x24,
};

enum mc_status {
	MC_STATUS_OK = 0x00,
	MC_STATUS_NOT_FOUND = 0x01,
	MC_STATUS_EXISTS = 0x02,
	MC_STATUS_TOO_LARGE = 0x03,
	MC_STATUS_INVALID = 0x04,
	MC_STATUS_NOT_STORED = 0x05,
	MC_STATUS_NON_NUMERIC = 0x06,
	MC_STATUS_AUTH = 0x20,
	MC_STATUS_UNKNOWN_COMMAND = 0x81,
	MC_STATUS_NO_MEMORY = 0x82,
	MC_STATUS_INTERNAL = 0x84,
	MC_STATUS_TEMPORARY = 0x86,
};

static inline bool mc_returns_key(const struct mc_request *r)
{
	return r->opcode == MC_OP_GETK || r->opcode == MC_OP_GETKQ || r->opcode == MC_OP_GATK ||
	       r->opcode == MC_OP_GATKQ;
}

/* Lengths of what follows the header. */
struct mc_binary_body {
	size_t extras, key, value;
};
/* The header of an answer to r; of r only opcode and opaque are looked at. */
void mc_put_header(struct mc_writer *w, const struct mc_request *r, enum mc_status status,
		   struct mc_binary_body body, uint64_t cas);
/* Opcode and opaque of a request's header. */
void mc_read_header(struct mc_request *r, const char *header);
/* A whole answer that is an error; text NULL: what memcached says for that status. */
void mc_put_error(struct mc_writer *w, const struct mc_request *r, enum mc_status status,
		  const char *text);
/* The same to out; returns the length, at most cap. */
size_t mc_binary_error(const struct mc_request *r, enum mc_status status, const char *text,
		       char *out, size_t cap);
/* An error for a request of which raw is the frame, from the text of a line ("SERVER_ERROR ...").
 */
void mc_put_error_line(struct mc_writer *w, const struct mc_request *r, struct mp_slice line);
#endif
