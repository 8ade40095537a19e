/* muctl_ask.h - muctl's questions and wishes, and what goes wrong with them. */
#ifndef MUPROXY_MUCTL_ASK_H
#define MUPROXY_MUCTL_ASK_H

#include <jansson.h>

enum { EXIT_OK = 0, EXIT_UNREACHABLE = 1, EXIT_USAGE = 2 };
enum { MUCTL_TIMEOUT_MS = 3000 };

/*
 * A replica's /status, to be released by the caller, if it speaks this program's version
 * of the protocol. NULL: a line has been said on stderr, and *code is the exit code.
 */
json_t *muctl_status(const char *admin, int *code);
/* The same, but that the replica does not answer is not said. */
json_t *muctl_look(const char *admin);

/*
 * Ask for something to be done; the answer is shown. Where it has not been seen
 * yet the version is asked for first. The exit code.
 */
int muctl_wish(const char *admin, const char *path);

#endif
