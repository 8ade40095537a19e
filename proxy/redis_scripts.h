/*
 * redis_scripts.h - clients' scripts and functions (EVAL, FCALL, SCRIPT,
 * FUNCTION): what is logged of them is a call of our own script, prelude.lua,
 * which says how every server comes to the same result. A server is given it
 * when it is greeted; one that has lost it since is out of service until it has
 * it again.
 */
#ifndef MP_REDIS_SCRIPTS_H
#define MP_REDIS_SCRIPTS_H

#include <stdint.h>

#include "command.h"
#include "resp.h"

/* prelude.lua, and by what name servers know it. */
extern const char mp_prelude[];
extern const char mp_prelude_sha1[41];

/* What the leader decides on for a script. */
struct mp_script_terms {
	int64_t now_ms;
	uint32_t seed; /* from 1 to 2147483646 */
	uint32_t database;
	int databases;            /* that clients see */
	uint64_t nonce, sequence; /* of the request: what tells its log record from all others */
	bool is_full;             /* commands that may need memory fail (memory.h) */
	uint32_t resp;            /* the version of the protocol that the reply is to have */
};

/*
 * The form for the log. Returns its length; 0 with error set if Redis would
 * refuse the request before it looked at any data; > cap if it did not fit.
 */
size_t mp_script_rewrite(const struct mp_command *command, const struct resp_request *request,
			 const struct mp_script_terms *terms, char *out, size_t cap, char *error,
			 size_t error_bytes);

/* Is it a client's script that was logged? Then *stamp is what tells its record from others. */
bool mp_script_is_logged(const struct resp_request *request, struct mp_slice *stamp);

/*
 * A script to ask for the deadlines that a record's scripts have written down.
 * ARGV: the database behind the last that clients see, the record's stamp. The
 * answer: database, key, and deadline without its padding, of each key that may
 * have got one.
 */
extern const char mp_script_question[];

#endif
