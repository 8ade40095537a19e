/* admin.c - see admin.h. */
#include "config.h"

#include "admin.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin_wishes.h"
#include "net.h"
#include "report.h"

enum { BACKLOG = 64, TIMEOUT_S = 10, MAX_HEADER_BYTES = 8192, MAX_BODY_BYTES = 1024 };

enum { PAGES = 3 };

struct page {
	struct admin *admin;
	void (*show)(struct evhttp_request *, void *admin);
};

struct admin {
	const struct conf *conf;
	struct replica *replica;
	struct evhttp *http;
	struct page pages[PAGES];
	struct admin_wish wishes[ADMIN_WISHES];
};

static void answer(struct evhttp_request *request, int code, const char *reason, const char *type,
		   struct evbuffer *body)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);

	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_send_reply(request, code, reason, body);
}

static void show_status(struct evhttp_request *request, void *ctx)
{
	struct admin *admin = ctx;
	struct evbuffer *body = evbuffer_new();
	struct report report;
	json_t *json;
	char *text = NULL;

	report_take(&report, admin->conf, admin->replica);
	json = report_json(&report);
	if (json)
		text = json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	if (text && body) {
		evbuffer_add_printf(body, "%s\n", text);
		answer(request, HTTP_OK, "OK", "application/json", body);
	} else {
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	}
	free(text);
	json_decref(json);
	if (body)
		evbuffer_free(body);
}

static void show_healthz(struct evhttp_request *request, void *ctx)
{
	struct admin *admin = ctx;
	struct evbuffer *body = evbuffer_new();
	struct report report;
	char why[160] = "ok", less[160];
	bool serving;

	report_take(&report, admin->conf, admin->replica);
	serving = report_serving(&report, why, sizeof(why));
	if (body)
		evbuffer_add_printf(body, "%s\n", why);
	if (body && report_degraded(&report, less, sizeof(less)))
		evbuffer_add_printf(body, "degraded: %s\n", less);
	answer(request, serving ? HTTP_OK : HTTP_SERVUNAVAIL,
	       serving ? "OK" : "Service Unavailable", "text/plain; charset=utf-8", body);
	if (body)
		evbuffer_free(body);
}

static void show_metrics(struct evhttp_request *request, void *ctx)
{
	struct admin *admin = ctx;
	struct evbuffer *body = evbuffer_new();
	struct report report;

	report_take(&report, admin->conf, admin->replica);
	if (body)
		report_metrics(&report, body);
	answer(request, HTTP_OK, "OK", "text/plain; version=0.0.4; charset=utf-8", body);
	if (body)
		evbuffer_free(body);
}

/* A page that only tells changes nothing, and takes nothing. */
static void on_page(struct evhttp_request *request, void *ctx)
{
	const struct page *page = ctx;
	enum evhttp_cmd_type command = evhttp_request_get_command(request);

	if (command == EVHTTP_REQ_GET || command == EVHTTP_REQ_HEAD)
		page->show(request, page->admin);
	else
		evhttp_send_error(request, HTTP_BADMETHOD, NULL);
}

static const struct {
	const char *path;
	void (*show)(struct evhttp_request *, void *);
} pages[PAGES] = {
	{"/status", show_status},
	{"/healthz", show_healthz},
	{"/metrics", show_metrics},
};

static bool listen_http(struct admin *admin, char *why, size_t why_bytes)
{
	int fd = mp_listen(admin->conf->admin_listen, BACKLOG, why, why_bytes);

	if (fd < 0)
		return false;
	if (evhttp_accept_socket(admin->http, fd) != 0) {
		snprintf(why, why_bytes, "%s: cannot accept connections",
			 admin->conf->admin_listen);
		close(fd);
		return false;
	}
	return true;
}

struct admin *admin_open(struct event_base *base, const struct conf *conf, struct replica *replica,
			 char *err, size_t err_bytes)
{
	struct admin *admin = calloc(1, sizeof(*admin));
	char why[320] = "out of memory";

	if (admin) {
		admin->conf = conf;
		admin->replica = replica;
		admin->http = evhttp_new(base);
	}
	if (!admin || !admin->http || !listen_http(admin, why, sizeof(why))) {
		snprintf(err, err_bytes, "%s:%d: [admin] listen: %s", conf->file,
			 conf_blame(conf, why, "listen"), why);
		admin_close(admin);
		return NULL;
	}
	evhttp_set_allowed_methods(admin->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST);
	evhttp_set_timeout(admin->http, TIMEOUT_S);
	evhttp_set_max_headers_size(admin->http, MAX_HEADER_BYTES);
	evhttp_set_max_body_size(admin->http, MAX_BODY_BYTES);
	for (unsigned i = 0; i < PAGES; i++) {
		admin->pages[i] = (struct page){.admin = admin, .show = pages[i].show};
		evhttp_set_cb(admin->http, pages[i].path, on_page, &admin->pages[i]);
	}
	admin_wishes_serve(admin->wishes, admin->http, replica);
	return admin;
}

void admin_close(struct admin *admin)
{
	if (!admin)
		return;
	if (admin->http)
		evhttp_free(admin->http);
	free(admin);
}
