/* admin_wishes.c - see admin_wishes.h. */
#include "config.h"

#include "admin_wishes.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REFUSED = 409 };

/* What became of a wish. */
struct answer {
	int code;
	char text[400];
};

static void put(struct answer *answer, int code, const char *why)
{
	answer->code = code;
	snprintf(answer->text, sizeof(answer->text), "%s", why);
}

/* why: where the attempt has left the reason, if it was refused. */
static void put_outcome(struct answer *answer, bool done, const char *const *why)
{
	put(answer, done ? HTTP_OK : REFUSED, *why);
}

static void recover(struct replica *replica, const char *query, struct answer *answer)
{
	const char *why = "ok: this replica forgets its log once its backend has all of it";

	if (strcmp(query, "accept-loss") != 0)
		put(answer, HTTP_BADREQUEST, "POST /recover?accept-loss, and nothing else");
	else
		put_outcome(answer, replica_accept_loss(replica, &why), &why);
}

static void restore(struct replica *replica, const char *query, struct answer *answer)
{
	if (strcmp(query, "replace") != 0)
		put(answer, HTTP_BADREQUEST, "POST /restore?replace, and nothing else");
	else if (!replica_replace_redis(replica))
		put(answer, REFUSED, "this replica has no redis");
	else
		put(answer, HTTP_OK, "ok: its redis is given another replica's state, see status");
}

/* "" or "to=ID". */
static bool parse_heir(const char *query, unsigned *heir)
{
	char *end;
	unsigned long id;

	*heir = 0;
	if (*query == '\0')
		return true;
	if (strncmp(query, "to=", 3) != 0 || query[3] < '1' || query[3] > '9')
		return false;
	id = strtoul(query + 3, &end, 10);
	*heir = (unsigned)id;
	return *end == '\0' && id <= MU_MAX_REPLICAS;
}

static void transfer_leader(struct replica *replica, const char *query, struct answer *answer)
{
	struct mu_group_status status;
	const char *why;
	unsigned heir;

	replica_group_status(replica, &status);
	if (!parse_heir(query, &heir)) {
		put(answer, HTTP_BADREQUEST,
		    "POST /transfer-leader, or /transfer-leader?to=ID, and nothing else");
	} else if (replica_hand_over(replica, heir, &why)) {
		put(answer, HTTP_OK, "ok: this replica makes way");
	} else if (status.leader && status.leader != status.id) {
		answer->code = REFUSED;
		snprintf(answer->text, sizeof(answer->text),
			 "replica %u leads: ask it, not this one", status.leader);
	} else if (heir) {
		answer->code = REFUSED;
		snprintf(answer->text, sizeof(answer->text), "replica %u cannot lead: %s", heir,
			 why);
	} else {
		put(answer, REFUSED, why);
	}
}

static void rest(struct replica *replica, const char *query, struct answer *answer)
{
	bool ends = strcmp(query, "end") == 0;
	const char *why = ends ? "ok: this replica may lead again"
			       : "ok: this replica leads no more; its clients are served";

	if (*query != '\0' && !ends)
		put(answer, HTTP_BADREQUEST, "POST /drain, or /drain?end, and nothing else");
	else
		put_outcome(answer, replica_rest(replica, !ends, &why), &why);
}

static void change_members(struct replica *replica, enum mu_change change, const char *query,
			   struct answer *answer)
{
	char *who = evhttp_uridecode(query, 0, NULL);
	unsigned id;

	if (!who || !*who) {
		put(answer, HTTP_BADREQUEST, "POST /add?WHO, or /remove?ID");
	} else if (!replica_change_members(replica, change, who, &id, answer->text,
					   sizeof(answer->text))) {
		answer->code = REFUSED;
	} else {
		answer->code = HTTP_OK;
		snprintf(answer->text, sizeof(answer->text),
			 change == MU_CHANGE_ADD ? "ok: replica %u learns, and then counts"
						 : "ok: replica %u is to be no member any more",
			 id);
	}
	free(who);
}

static void add(struct replica *replica, const char *query, struct answer *answer)
{
	change_members(replica, MU_CHANGE_ADD, query, answer);
}

static void take_out(struct replica *replica, const char *query, struct answer *answer)
{
	change_members(replica, MU_CHANGE_REMOVE, query, answer);
}

static const struct {
	const char *path;
	void (*grant)(struct replica *replica, const char *query, struct answer *answer);
} wishes[ADMIN_WISHES] = {
	{"/recover", recover}, {"/restore", restore}, {"/transfer-leader", transfer_leader},
	{"/drain", rest},      {"/add", add},         {"/remove", take_out},
};

/* Each changes something, so it is a POST: no crawler's accident. */
static void on_wish(struct evhttp_request *request, void *ctx)
{
	const struct admin_wish *wish = ctx;
	const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	struct evbuffer *body = evbuffer_new();
	struct answer answer = {.code = HTTP_BADREQUEST};

	if (evhttp_request_get_command(request) != EVHTTP_REQ_POST)
		snprintf(answer.text, sizeof(answer.text), "POST %s, and nothing else",
			 wishes[wish->index].path);
	else
		wishes[wish->index].grant(wish->replica, query ? query : "", &answer);
	if (body)
		evbuffer_add_printf(body, "%s\n", answer.text);
	evhttp_add_header(headers, "Content-Type", "text/plain; charset=utf-8");
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_send_reply(request, answer.code, answer.code == HTTP_OK ? "OK" : "Refused", body);
	if (body)
		evbuffer_free(body);
}

void admin_wishes_serve(struct admin_wish wish[ADMIN_WISHES], struct evhttp *http,
			struct replica *replica)
{
	for (unsigned i = 0; i < ADMIN_WISHES; i++) {
		wish[i] = (struct admin_wish){replica, i};
		evhttp_set_cb(http, wishes[i].path, on_wish, &wish[i]);
	}
}
