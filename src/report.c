/* report.c - see report.h. */
#include "config.h"

#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "control_memcached.h"
#include "control_redis.h"
#include "control_version.h"

enum {
	BACKEND_OFF = -1,         /* as in struct mp_proxy_stats */
	CONTROL_TIMEOUT_MS = 250, /* what a silent server costs whoever asks for the status */
};

/* The counters by name: once for JSON, once for Prometheus. */
struct counter {
	const char *name;
	size_t offset;
	bool gauge;
	const char *help;
};
#define AT(field) offsetof(struct mp_proxy_stats, field)
static const struct counter counters[] = {
	{"clients", AT(clients), true, "Clients connected now."},
	{"requests", AT(requests), false, "Requests taken from clients."},
	{"reads", AT(reads), false, "Requests that read."},
	{"writes", AT(writes), false, "Requests that write."},
	{"local", AT(local), false, "Requests answered by the session itself."},
	{"refused", AT(refused), false, "Requests refused: not served, or malformed."},
	{"relayed", AT(relayed), false, "Requests sent on to the leader."},
	{"proposals", AT(proposals), false, "Log entries proposed."},
	{"held", AT(held), true, "Requests waiting for a leader."},
	{"unknown", AT(unknown), false, "Requests answered with 'outcome unknown'."},
	{"protocol_errors", AT(protocol_errors), false, "Connections closed for a protocol error."},
	{"bytes_in", AT(bytes_in), false, "Bytes from clients."},
	{"bytes_out", AT(bytes_out), false, "Bytes to clients."},
	{"restores", AT(restores), false, "Times that a backend here was restored."},
	{"restores_failed", AT(restores_failed), false, "Attempts at that which came to nothing."},
	{"restore_bytes", AT(restore_bytes), true, "Received for the restoring that is under way."},
	{"restore_total_bytes", AT(restore_total_bytes), true,
	 "Of these there are so many, 0: unknown."},
	{"restore_items", AT(restore_items), true, "Likewise, where items are counted."},
	{"restore_total_items", AT(restore_total_items), true, "Of these there are so many."},
	{"restore_level_milliseconds", AT(restore_level_ms), true,
	 "From the cut of the last state that was given here until the log had brought it level."},
	{"digested_keys", AT(digested_keys), false,
	 "Keys of which this leader has compared the servers' values."},
	{"divergent_keys", AT(divergent_keys), false, "...that were not the same everywhere."},
	{"divergent_counts", AT(divergent_counts), false,
	 "Times that servers differed in how many keys there are, and in none known yet."},
	{"digest_heals", AT(digest_heals), false,
	 "Times that the server here was found wrong, to be restored."},
	{"memcached_digested_keys", AT(memcached_digested_keys), false,
	 "Items that this leader has compared between the memcacheds."},
	{"memcached_divergent_keys", AT(memcached_divergent_keys), false,
	 "...that were not the same wherever they are."},
	{"memcached_digest_heals", AT(memcached_digest_heals), false,
	 "Items that were dropped here, since they were found wrong."},
	{"donations", AT(donations), true, "Other replicas' backends being restored from here."},
};
#define COUNTERS (sizeof(counters) / sizeof(counters[0]))

static uint64_t counter_value(const struct report *report, const struct counter *counter)
{
	return *(const uint64_t *)((const char *)&report->proxy + counter->offset);
}

void report_take(struct report *report, const struct conf *conf, const struct replica *replica)
{
	report->conf = conf;
	replica_group_status(replica, &report->group);
	replica_proxy_stats(replica, &report->proxy);
	report->fabric = replica_fabric(replica);
	report->book = replica_book(replica);
	report->uptime_s = replica_uptime_s(replica);
	report->draining = replica_draining(replica) || replica_rests(replica);
}

static const char *backend_state_name(int state)
{
	switch (state) {
	case MP_BACKEND_DISCONNECTED:
		return "disconnected";
	case MP_BACKEND_READY:
		return "ready";
	case MP_BACKEND_FAILED:
		return "failed";
	default:
		return "off";
	}
}

static bool backend_in_order(int state)
{
	return state == BACKEND_OFF || state == MP_BACKEND_READY;
}

static bool is_restoring(const struct report *report)
{
	return strcmp(mp_proxy_restore_stage(&report->proxy), "none") != 0;
}

static void say_restoring(const struct report *report, char *why, size_t why_bytes)
{
	char words[MP_PROGRESS_BYTES];

	mp_proxy_restore_words(&report->proxy, words);
	snprintf(why, why_bytes, "the backend is being restored: %s", words);
}

bool report_serving(const struct report *report, char *why, size_t why_bytes)
{
	const struct mu_group_status *group = &report->group;
	const struct mu_replica_status *own = &group->replica[group->id];

	if (own->removed)
		snprintf(why, why_bytes, "this replica was removed from the group");
	else if (report->draining)
		snprintf(why, why_bytes, "draining");
	else if (!own->member)
		snprintf(why, why_bytes, "this replica is no member yet: muctl add makes it one");
	else if (is_restoring(report) && !report->proxy.restore_in_service)
		say_restoring(report, why, why_bytes);
	else if (own->role == MU_ROLE_BLANK)
		snprintf(why, why_bytes,
			 "this replica's memory is blank: it waits to be readmitted");
	else if (report->proxy.stale || own->backend == MU_BACKEND_STALE)
		snprintf(why, why_bytes,
			 "the backend is stale: the log no longer reaches back to it");
	else if (!backend_in_order(report->proxy.redis_state))
		snprintf(why, why_bytes, "redis backend: %s",
			 backend_state_name(report->proxy.redis_state));
	else if (!backend_in_order(report->proxy.memcached_state))
		snprintf(why, why_bytes, "memcached backend: %s",
			 backend_state_name(report->proxy.memcached_state));
	else if (own->backend != MU_BACKEND_LEVEL)
		snprintf(why, why_bytes, "backend: %s", mu_backend_health_name(own->backend));
	else if (group->leader == 0)
		snprintf(why, why_bytes, "no leader");
	else if (!group->replica[group->leader].alive)
		snprintf(why, why_bytes, "leader %u does not answer", group->leader);
	else
		return true;
	return false;
}

bool report_degraded(const struct report *report, char *why, size_t why_bytes)
{
	unsigned id;

	for (id = 1; id <= MU_MAX_REPLICAS; id++) {
		if (!report->group.replica[id].log_only)
			continue;
		snprintf(why, why_bytes,
			 "the log waits no longer for replica %u's backend, which lags: what that "
			 "has not applied may soon be in no log",
			 id);
		return true;
	}
	return false;
}

/* The highest commit LSN that any replica is known to have published; a blank one has none. */
static uint64_t group_commit_lsn(const struct mu_group_status *group)
{
	uint64_t highest = 0;
	unsigned id;

	for (id = 1; id <= MU_MAX_REPLICAS; id++) {
		uint64_t commit = group->replica[id].commit_lsn;

		if (group->replica[id].member && commit != MU_LSN_NONE && commit > highest)
			highest = commit;
	}
	return highest;
}

/* Bytes of log that are committed and that this replica's backend has still to apply. */
static uint64_t lag_bytes(const struct mu_group_status *group, unsigned id)
{
	const struct mu_replica_status *replica = &group->replica[id];
	uint64_t commit = group_commit_lsn(group), applied = replica->applied_lsn;

	/* What is left may be the core's own entries, which nobody applies. */
	if (replica->caught_up && replica->commit_lsn == commit)
		return 0;
	return commit > applied ? commit - applied : 0;
}

/* ------------------------------------------------------------------ JSON */

/* null: a log that holds nothing. */
static json_t *lsn_json(uint64_t lsn)
{
	return lsn == MU_LSN_NONE ? json_null() : json_integer((json_int_t)lsn);
}

static const char *address_of(const struct report *report, unsigned id)
{
	const char *address = report->book->place[id].address;

	return *address ? address : "?";
}

/* It is a member, or could become one. */
static bool is_shown(const struct report *report, unsigned id)
{
	const struct mu_replica_status *replica = &report->group.replica[id];

	return replica->member || (replica->alive && !replica->removed);
}

static bool is_learning(const struct report *report, unsigned id)
{
	return report->group.change == MU_CHANGE_ADD && report->group.changed == id;
}

/* How far a learner is, as the leader sees it. */
static const char *lesson(const struct mu_replica_status *learner)
{
	if (!learner->alive)
		return "it does not answer";
	if (!learner->confirmed)
		return "it is given the log";
	if (!learner->voting)
		return "it has the log, and is readmitted";
	if (learner->backend != MU_BACKEND_LEVEL)
		return "its server is given the group's state";
	return "it has all";
}

/* The change of members that is under way; "": none. */
static void say_change(const struct report *report, char *out, size_t cap)
{
	const struct mu_group_status *group = &report->group;

	out[0] = '\0';
	if (group->change == MU_CHANGE_ADD)
		snprintf(out, cap, "adding replica %u: %s", group->changed,
			 lesson(&group->replica[group->changed]));
	else if (group->change == MU_CHANGE_REMOVE)
		snprintf(out, cap, "removing replica %u", group->changed);
	else if (group->changing)
		snprintf(out, cap, "a change of members waits to be committed");
}

static json_t *replica_json(const struct report *report, unsigned id)
{
	const struct mu_replica_status *replica = &report->group.replica[id];
	/* What a dead replica published last would make it look like a second leader. */
	const char *role = replica->alive ? mu_role_name(replica->role) : "down";

	if (replica->alive && !replica->member)
		role = is_learning(report, id) ? "learner" : "waiting";
	return json_pack(
		"{s:i, s:b, s:s, s:s, s:I, s:b, s:i, s:b, s:b, s:b, s:o, s:I, s:I, s:s, s:i}", "id",
		(int)id, "member", replica->member, "address", address_of(report, id), "role", role,
		"ballot", (json_int_t)replica->granted_ballot, "alive", replica->alive, "score",
		(int)replica->score, "voting", replica->voting, "confirmed", replica->confirmed,
		"log_only", replica->log_only, "commit_lsn", lsn_json(replica->commit_lsn),
		"applied_lsn", (json_int_t)replica->applied_lsn, "lag_bytes",
		(json_int_t)lag_bytes(&report->group, id), "backend",
		mu_backend_health_name(replica->backend), "leader_seen", (int)replica->leader_seen);
}

/* null: it cannot be told. */
static json_t *number_json(int64_t number)
{
	return number < 0 ? json_null() : json_integer(number);
}

/* State transfer to here, and how many from here. */
static json_t *restore_json(const struct report *report)
{
	static const char *const protocols[] = {"none", "redis", "memcached"};
	const struct mp_proxy_stats *proxy = &report->proxy;
	char words[MP_PROGRESS_BYTES];

	mp_proxy_restore_words(proxy, words);
	return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I}",
			 "stage", mp_proxy_restore_stage(proxy), "backend",
			 protocols[proxy->restore_protocol], "words", words, "donor",
			 (int)proxy->restore_donor, "bytes", (json_int_t)proxy->restore_bytes,
			 "total_bytes", (json_int_t)proxy->restore_total_bytes, "percent",
			 number_json(is_restoring(report) ? mp_proxy_restore_percent(proxy) : -1),
			 "left_ms", number_json(mp_proxy_restore_left_ms(proxy)), "restores",
			 (json_int_t)proxy->restores, "failures",
			 (json_int_t)proxy->restores_failed, "donations",
			 (json_int_t)proxy->donations, "items", (json_int_t)proxy->restore_items,
			 "total_items", (json_int_t)proxy->restore_total_items);
}

static json_t *proxy_json(const struct report *report)
{
	json_t *json = json_pack(
		"{s:s, s:s, s:I, s:I, s:b}", "redis_backend",
		backend_state_name(report->proxy.redis_state), "memcached_backend",
		backend_state_name(report->proxy.memcached_state), "redis_applied_lsn",
		(json_int_t)report->proxy.redis_applied_lsn, "memcached_applied_lsn",
		(json_int_t)report->proxy.memcached_applied_lsn, "stale", report->proxy.stale);
	size_t i;

	json_object_set_new(json, "restore", restore_json(report));
	for (i = 0; i < COUNTERS; i++)
		json_object_set_new(json, counters[i].name,
				    json_integer((json_int_t)counter_value(report, &counters[i])));
	return json;
}

/* A server as it answers just now, over the control side's own connection; JSON null: off. */
static json_t *server_json(const char *address, bool answered, const struct mp_server_info *info,
			   const char *err)
{
	if (!address)
		return json_null();
	if (!answered)
		return json_pack("{s:s, s:b, s:s}", "address", address, "answers", 0, "error", err);
	return json_pack("{s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "address", address,
			 "answers", 1, "version", info->version, "pid", (json_int_t)info->pid,
			 "uptime_s", (json_int_t)info->uptime_s, "memory_bytes",
			 (json_int_t)info->memory_bytes, "items", (json_int_t)info->items,
			 "clients", (json_int_t)info->clients, "latency_us",
			 (json_int_t)info->latency_us);
}

static json_t *servers_json(const struct conf *conf)
{
	const char *redis = conf->proxy.redis_backend, *memcached = conf->proxy.memcached_backend;
	struct mp_server_info info = {0};
	char err[200] = "";
	bool answered;
	json_t *json = json_object();

	answered = redis && mp_control_redis(redis, conf->proxy.redis_password, CONTROL_TIMEOUT_MS,
					     &info, err, sizeof(err));
	json_object_set_new(json, "redis", server_json(redis, answered, &info, err));
	answered = memcached &&
		   mp_control_memcached(memcached, CONTROL_TIMEOUT_MS, &info, err, sizeof(err));
	json_object_set_new(json, "memcached", server_json(memcached, answered, &info, err));
	return json;
}

json_t *report_json(const struct report *report)
{
	const struct mu_group_status *group = &report->group;
	json_t *replicas = json_array();
	char why[160] = "", change[160];
	bool serving = report_serving(report, why, sizeof(why));
	unsigned id;

	say_change(report, change, sizeof(change));
	for (id = 1; id <= MU_MAX_REPLICAS; id++) {
		if (is_shown(report, id))
			json_array_append_new(replicas, replica_json(report, id));
	}
	return json_pack("{s:s, s:i, s:i, s:i, s:f, s:s, s:s, s:i, s:I, s:b, s:s, s:s, s:I, s:o, "
			 "s:o, s:o}",
			 "version", MU_VERSION_STRING, "control", CONTROL_VERSION, "id",
			 (int)group->id, "pid", (int)getpid(), "uptime_s", report->uptime_s,
			 "group", report->conf->group, "fabric", report->fabric, "leader",
			 (int)group->leader, "ballot", (json_int_t)group->ballot, "serving",
			 serving, "reason", why, "change", change, "members_epoch",
			 (json_int_t)mu_configuration_epoch(group->committed), "replicas", replicas,
			 "proxy", proxy_json(report), "servers", servers_json(report->conf));
}

/* ------------------------------------------------------------ Prometheus */

static void head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP muproxy_%s %s\n# TYPE muproxy_%s %s\n", name, help, name,
			    type);
}

static void single(struct evbuffer *out, const char *name, const char *help, uint64_t value)
{
	head(out, name, "gauge", help);
	evbuffer_add_printf(out, "muproxy_%s %" PRIu64 "\n", name, value);
}

/* One gauge with a value for each member. */
static void per_replica(const struct report *report, struct evbuffer *out, const char *name,
			const char *help,
			uint64_t (*value)(const struct mu_group_status *group, unsigned id))
{
	unsigned id;

	head(out, name, "gauge", help);
	for (id = 1; id <= MU_MAX_REPLICAS; id++) {
		if (report->group.replica[id].member)
			evbuffer_add_printf(out, "muproxy_%s{replica=\"%u\"} %" PRIu64 "\n", name,
					    id, value(&report->group, id));
	}
}

static uint64_t get_alive(const struct mu_group_status *group, unsigned id)
{
	return group->replica[id].alive;
}

static uint64_t get_score(const struct mu_group_status *group, unsigned id)
{
	return group->replica[id].score;
}

static uint64_t get_confirmed(const struct mu_group_status *group, unsigned id)
{
	return group->replica[id].confirmed;
}

static uint64_t get_log_only(const struct mu_group_status *group, unsigned id)
{
	return group->replica[id].log_only;
}

static uint64_t get_commit(const struct mu_group_status *group, unsigned id)
{
	return group->replica[id].commit_lsn == MU_LSN_NONE ? 0 : group->replica[id].commit_lsn;
}

static uint64_t get_applied(const struct mu_group_status *group, unsigned id)
{
	return group->replica[id].applied_lsn;
}

static void backend_up(struct evbuffer *out, const char *backend, int state)
{
	if (state != BACKEND_OFF)
		evbuffer_add_printf(out, "muproxy_backend_up{backend=\"%s\"} %d\n", backend,
				    state == MP_BACKEND_READY);
}

static void proxy_metrics(const struct report *report, struct evbuffer *out)
{
	char name[64];
	size_t i;

	for (i = 0; i < COUNTERS; i++) {
		const struct counter *counter = &counters[i];

		snprintf(name, sizeof(name), "%s%s", counter->name, counter->gauge ? "" : "_total");
		head(out, name, counter->gauge ? "gauge" : "counter", counter->help);
		evbuffer_add_printf(out, "muproxy_%s %" PRIu64 "\n", name,
				    counter_value(report, counter));
	}
	head(out, "backend_up", "gauge", "1 if the backend takes commands.");
	backend_up(out, "redis", report->proxy.redis_state);
	backend_up(out, "memcached", report->proxy.memcached_state);
}

static void restore_metrics(const struct report *report, struct evbuffer *out)
{
	int percent = mp_proxy_restore_percent(&report->proxy);
	int64_t left_ms = mp_proxy_restore_left_ms(&report->proxy);

	single(out, "restoring", "1 while a backend here is to be restored.", is_restoring(report));
	single(out, "restore_percent",
	       "Of the bytes; 0 if it cannot be told, or none is under way.",
	       is_restoring(report) && percent > 0 ? (uint64_t)percent : 0);
	single(out, "restore_left_milliseconds",
	       "Until they have all come; 0 if it cannot be told.",
	       left_ms > 0 ? (uint64_t)left_ms : 0);
}

void report_metrics(const struct report *report, struct evbuffer *out)
{
	const struct mu_group_status *group = &report->group;
	char why[160];

	head(out, "build_info", "gauge", "Always 1; the version is in the label.");
	evbuffer_add_printf(out, "muproxy_build_info{version=\"%s\"} 1\n", MU_VERSION_STRING);
	head(out, "uptime_seconds", "gauge", "Since this process opened its replica.");
	evbuffer_add_printf(out, "muproxy_uptime_seconds %.3f\n", report->uptime_s);
	single(out, "serving", "1 if clients are served here.",
	       report_serving(report, why, sizeof(why)));
	single(out, "is_leader", "1 if this replica leads.",
	       group->replica[group->id].role == MU_ROLE_LEADER);
	single(out, "leader", "Id of the leader this replica sees, 0: none.", group->leader);
	single(out, "ballot", "Ballot of that leader.", group->ballot);
	per_replica(report, out, "replica_alive", "1 if alive as seen from here.", get_alive);
	per_replica(report, out, "replica_score", "Failure detector's score, 0 to score-max.",
		    get_score);
	per_replica(report, out, "replica_confirmed",
		    "1 if it is a confirmed follower of this leader.", get_confirmed);
	per_replica(report, out, "replica_log_only",
		    "1 if this leader's log does not wait for its backend.", get_log_only);
	per_replica(report, out, "replica_commit_lsn", "Commit LSN it last published.", get_commit);
	per_replica(report, out, "replica_applied_lsn", "Applied LSN it last published.",
		    get_applied);
	per_replica(report, out, "replica_lag_bytes", "Committed log still to be applied there.",
		    lag_bytes);
	proxy_metrics(report, out);
	restore_metrics(report, out);
}
