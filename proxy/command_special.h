/* command_special.h - the table of commands that need treatment of their own. */
#ifndef MP_COMMAND_SPECIAL_H
#define MP_COMMAND_SPECIAL_H

#include "command.h"

struct mp_special {
	const char *name; /* "config|get"; "config" speaks for its subcommands that have no line */
	enum mp_class class;
	enum mp_rewrite rewrite;
	bool blind;
	const char *refusal; /* of class REFUSED, or of the requests that refuses() picks */
	bool (*refuses)(const struct resp_request *);
};

/* The line of that name (lower case), or NULL. */
const struct mp_special *mp_special_find(const char *name);

/* Does a C string (lower case) equal the argument, as Redis compares: ignoring case, up to a NUL?
 */
bool mp_arg_is(struct mp_slice arg, const char *word);

/*
 * XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold] [LIMIT n] id ...: the
 * argument that is the ID "*", which comes from the clock; 0: it is another; -1: an
 * option is not known, so it may be. (<ms>-* does not come from the clock: its sequence
 * follows from the stream's last ID alone.)
 */
int mp_xadd_star(const struct resp_request *request);
#endif
