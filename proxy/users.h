/*
 * users.h - who may use a replica's port, where that is asked: names and
 * passwords, in a file as memcached's -Y has it, that is, lines of
 * "user:password". Passwords may hold colons.
 */
#ifndef MP_USERS_H
#define MP_USERS_H

#include <stdbool.h>
#include <stddef.h>

#include "slice.h"

struct mp_users;

/* NULL with a one-line reason that names the file, and the line where one is wrong. */
struct mp_users *mp_users_load(const char *path, char *err, size_t err_bytes);
void mp_users_free(struct mp_users *);

/*
 * Is that somebody's name and password? Takes as long whatever is wrong. *who, if asked for: his
 * name, which lives as long as the users.
 */
bool mp_users_know(const struct mp_users *, struct mp_slice user, struct mp_slice password,
		   struct mp_slice *who);
/* Is there anybody of that name? */
bool mp_users_have(const struct mp_users *, struct mp_slice user);

#endif
