/*
 * command_writes.h - writes that servers may execute as clients sent them: the same request does
 * the same at every server, whenever it comes and whatever that server's luck. A flag does not
 * tell (a newer server's HEXPIRE and a module's VADD are writes like any other), so a write that
 * nobody has looked at is refused.
 */
#ifndef MP_COMMAND_WRITES_H
#define MP_COMMAND_WRITES_H

#include <stdbool.h>

/* name: in lower case, of a subcommand "xgroup|create". */
bool mp_write_is_known(const char *name);

#endif
