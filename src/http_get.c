/* http_get.c - see http_get.h. */
#include "config.h"

#include "http_get.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct exchange {
	struct event_base *base;
	int code; /* 0: no answer */
	char *body;
};

static bool split_address(const char *address, char *host, size_t host_bytes, int *port)
{
	const char *colon = strrchr(address, ':');
	size_t n;
	char *end;

	if (!colon)
		return false;
	*port = (int)strtol(colon + 1, &end, 10);
	if (end == colon + 1 || *end || *port < 1 || *port > 65535)
		return false;
	n = (size_t)(colon - address);
	if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
		address++;
		n -= 2;
	}
	if (n == 0 || n >= host_bytes)
		return false;
	memcpy(host, address, n);
	host[n] = '\0';
	return true;
}

static void on_answer(struct evhttp_request *request, void *ctx)
{
	struct exchange *x = ctx;
	struct evbuffer *body;
	size_t n;

	/* request is NULL, or its code 0, when the connection failed or timed out. */
	if (request && evhttp_request_get_response_code(request)) {
		body = evhttp_request_get_input_buffer(request);
		n = evbuffer_get_length(body);
		x->body = malloc(n + 1);
		if (x->body) {
			evbuffer_remove(body, x->body, n);
			x->body[n] = '\0';
			x->code = evhttp_request_get_response_code(request);
		}
	}
	event_base_loopbreak(x->base);
}

static void run(struct exchange *x, enum evhttp_cmd_type method, const char *host, int port,
		const char *path, int timeout_ms)
{
	struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	struct evhttp_connection *connection;
	struct evhttp_request *request = NULL;

	connection = evhttp_connection_base_new(x->base, NULL, host, (ev_uint16_t)port);
	if (connection)
		request = evhttp_request_new(on_answer, x);
	if (request) {
		evhttp_connection_set_timeout_tv(connection, &timeout);
		evhttp_add_header(evhttp_request_get_output_headers(request), "Host", host);
		/* The request is the connection's from here on. */
		if (evhttp_make_request(connection, request, method, path) == 0)
			event_base_dispatch(x->base);
	}
	if (connection)
		evhttp_connection_free(connection);
}

static int ask(enum evhttp_cmd_type method, const char *address, const char *path, int timeout_ms,
	       char **body, char *err, size_t err_bytes)
{
	struct exchange x = {0};
	char host[256];
	int port;

	*body = NULL;
	if (!split_address(address, host, sizeof(host), &port)) {
		snprintf(err, err_bytes, "'%s' is not host:port", address);
		return -1;
	}
	x.base = event_base_new();
	if (!x.base) {
		snprintf(err, err_bytes, "out of memory");
		return -1;
	}
	run(&x, method, host, port, path, timeout_ms);
	event_base_free(x.base);
	if (x.code == 0) {
		snprintf(err, err_bytes, "%s does not answer", address);
		return -1;
	}
	*body = x.body;
	return x.code;
}

int http_get(const char *address, const char *path, int timeout_ms, char **body, char *err,
	     size_t err_bytes)
{
	return ask(EVHTTP_REQ_GET, address, path, timeout_ms, body, err, err_bytes);
}

int http_post(const char *address, const char *path, int timeout_ms, char **body, char *err,
	      size_t err_bytes)
{
	return ask(EVHTTP_REQ_POST, address, path, timeout_ms, body, err, err_bytes);
}
