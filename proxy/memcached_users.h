/*
 * memcached_users.h - who may use a replica's Memcached port, where that is
 * asked: names and passwords, in a file as memcached's -Y has it, that is, lines
 * of "user:password". Passwords may hold colons.
 */
#ifndef MP_MEMCACHED_USERS_H
#define MP_MEMCACHED_USERS_H

#include <stdbool.h>
#include <stddef.h>

#include "slice.h"

struct mp_memcached_users;

/* NULL with a one-line reason that names the file, and the line where one is wrong. */
struct mp_memcached_users *mp_memcached_users_load(const char *path, char *err, size_t err_bytes);
void mp_memcached_users_free(struct mp_memcached_users *);

/* Is that somebody's name and password? Takes as long whatever is wrong. */
bool mp_memcached_users_know(const struct mp_memcached_users *, struct mp_slice user,
			     struct mp_slice password);
/* The same of SASL's PLAIN: "[on behalf of] NUL user NUL password" (RFC 4616). */
bool mp_memcached_users_know_plain(const struct mp_memcached_users *, struct mp_slice message);

#endif
