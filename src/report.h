/* report.h - a replica's state in words: JSON, Prometheus text, and one verdict. */
#ifndef MUPROXY_REPORT_H
#define MUPROXY_REPORT_H

#include <event2/buffer.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "conf.h"
#include "replica.h"

/* One look at everything; the parts are not of one instant. */
struct report {
	const struct conf *conf;
	struct mu_group_status group;
	struct mp_proxy_stats proxy;
	const char *fabric; /* its name */
	const struct book *book;
	double uptime_s;
	bool draining;
};
void report_take(struct report *report, const struct conf *conf, const struct replica *replica);

/* Are clients served here? If not, why not, in one line. */
bool report_serving(const struct report *report, char *why, size_t why_bytes);
/* Served or not: is less kept than is promised otherwise? What, in one line. */
bool report_degraded(const struct report *report, char *why, size_t why_bytes);
/* A new reference, NULL when out of memory. */
json_t *report_json(const struct report *report);
void report_metrics(const struct report *report, struct evbuffer *out);

#endif
