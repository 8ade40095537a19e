/* http_get.h - one blocking HTTP request, for programs that ask a replica's admin port. */
#ifndef MUPROXY_HTTP_GET_H
#define MUPROXY_HTTP_GET_H

#include <stddef.h>

/*
 * GET http://address/path. address: "host:port" or "[v6]:port". Returns the
 * HTTP status with *body (the caller frees it, never NULL), or -1 with a
 * one-line reason in err.
 */
int http_get(const char *address, const char *path, int timeout_ms, char **body, char *err,
	     size_t err_bytes);
/* The same with POST, and an empty body. */
int http_post(const char *address, const char *path, int timeout_ms, char **body, char *err,
	      size_t err_bytes);

#endif
