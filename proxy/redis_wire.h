/*
 * redis_wire.h - the commands that the Redis adapter sends on its own account,
 * and how to find the commands in what others give it. All in multibulk form. And
 * what servers say of themselves.
 */
#ifndef MP_REDIS_WIRE_H
#define MP_REDIS_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "slice.h"

/*
 * In the server's last database, which clients do not see, this key holds
 * "v2 <group id> <era>, 16 hex digits each, and <applied LSN, 20 digits>", followed
 * by the failed mark if the server has executed entries behind one that it
 * refused. Of a fixed length, so that the command that sets it is a template.
 */
#define REDIS_APPLIED_KEY "muproxy:applied"
#define REDIS_FAILED_MARK " failed"
#define REDIS_MULTI "*1\r\n$5\r\nMULTI\r\n"
#define REDIS_EXEC "*1\r\n$4\r\nEXEC\r\n"
#define REDIS_HELLO_2 "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
#define REDIS_HELLO_3 "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"

enum {
	REDIS_APPLIED_BYTES = 57, /* of the value, without " failed" */
	REDIS_SET_APPLIED_BYTES = 42 + REDIS_APPLIED_BYTES,
	REDIS_SELECT_BYTES = 40, /* at most */
};

struct redis_applied {
	uint64_t group_id;
	uint64_t era, lsn; /* mu.h */
};

/* Write the value / the command that sets it; neither is terminated. */
void redis_put_applied(char out[REDIS_APPLIED_BYTES], const struct redis_applied *applied);
void redis_put_set_applied(char out[REDIS_SET_APPLIED_BYTES], const struct redis_applied *applied);
/* Read the value back. False: this is something else. */
bool redis_get_applied(struct mp_slice value, struct redis_applied *applied, bool *failed);

/* Writes "SELECT database"; returns its length. */
size_t redis_put_select(char out[REDIS_SELECT_BYTES], uint32_t database);

/* Append a command of these words. False: out of memory. */
bool redis_put_request(struct mp_buffer *out, int argc, const struct mp_slice *argv);

/*
 * Looks at the first command in bytes: its name, and its first argument if it
 * has one, are put into words. Returns how many words it has in all, 0 if this
 * is no command in multibulk form.
 */
int64_t redis_command_head(struct mp_slice bytes, struct mp_slice words[2]);
/* The length of the first command in bytes; 0 if they do not begin with a whole one. */
size_t redis_command_bytes(struct mp_slice bytes);

/* What follows "field:" on its line of INFO's text. False: it is not there, and out is "". */
bool redis_info_field(const char *info, const char *field, char *out, size_t out_bytes);
/* The same as a number; 0: it is not there, or below. */
uint64_t redis_info_number(const char *info, const char *field);

#endif
