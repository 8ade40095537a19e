/*
 * redis_login.h - who a Redis client is: HELLO, AUTH, and what ACL tells. Where the replica
 * has a list of its users (users.h), a connection is served nothing else, and bound
 * to small requests, until it has named one of them. What a password alone belongs
 * to is the user "default". Without a list it is as with a Redis that asks for no
 * password: there is that user only, and any password is his.
 */
#ifndef MP_REDIS_LOGIN_H
#define MP_REDIS_LOGIN_H

#include <stdbool.h>

#include "command.h"
#include "resp.h"

struct mp_proxy;
struct mp_session;

/* A connection begins, and after RESET: it has said nothing yet. */
void mp_redis_login_begin(struct mp_session *s);
/* May its client's command be served? False: *error (MP_ERROR_BYTES) is what he is told. */
bool mp_redis_admits(const struct mp_session *s, const struct mp_command *command, char *error);

/* Is there a user of that name? */
bool mp_redis_has_user(const struct mp_proxy *proxy, struct mp_slice name);

void mp_redis_hello(struct mp_session *s, const struct resp_request *request);
void mp_redis_auth(struct mp_session *s, const struct resp_request *request);
void mp_redis_whoami(struct mp_session *s, const struct resp_request *request);
/* ACL USERS and ACL LIST. */
void mp_redis_users(struct mp_session *s, const struct resp_request *request);
/* ACL GETUSER. */
void mp_redis_user(struct mp_session *s, const struct resp_request *request);

#endif
