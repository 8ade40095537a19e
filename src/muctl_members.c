/*
 * muctl_members.c - see muctl_members.h. The leader does the work; here it is asked for,
 * and looked after until it is done, or can be known not to come about.
 */
#include "config.h"

#include "muctl_members.h"

#include <event2/http.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "muctl_ask.h"

enum {
	POLL_MS = 50,
	SILENCE_MS = 5000, /* after that the replica that was asked is given up */
	LEADER_MS = 30000, /* how long somebody to lead is waited for */
	ATTEMPTS = 10,     /* leaders in a row */
};

static json_t *find(const json_t *status, int id)
{
	json_t *replica;
	size_t i;

	json_array_foreach(json_object_get(status, "replicas"), i, replica)
	{
		if (json_integer_value(json_object_get(replica, "id")) == id)
			return replica;
	}
	return NULL;
}

static int number(const json_t *object, const char *key)
{
	return (int)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

static bool is_member(const json_t *status, int id)
{
	return json_is_true(json_object_get(find(status, id), "member"));
}

/* By id or address; 0: nobody that this replica knows of. */
static int id_of(const json_t *status, const char *who)
{
	json_t *replica;
	size_t i;

	if (strspn(who, "0123456789") == strlen(who))
		return atoi(who);
	json_array_foreach(json_object_get(status, "replicas"), i, replica)
	{
		if (strcmp(text(replica, "address"), who) == 0)
			return number(replica, "id");
	}
	return 0;
}

/* The state of a change as it was said last, so that each is said once. */
static void show(const json_t *status, char last[200])
{
	const char *now = text(status, "change");

	if (*now && strcmp(now, last) != 0)
		printf("%s\n", now);
	fflush(stdout);
	snprintf(last, 200, "%s", now);
}

enum outcome { OUTCOME_PENDING, OUTCOME_DONE, OUTCOME_LOST };

static enum outcome judge(const json_t *status, int id, bool to_be_member)
{
	if (*text(status, "change"))
		return OUTCOME_PENDING;
	if (is_member(status, id) == to_be_member)
		return OUTCOME_DONE;
	/* The wish may not have been seen by all of this replica's threads. */
	return number(status, "leader") != number(status, "id") ? OUTCOME_LOST : OUTCOME_PENDING;
}

/* One at which a change was asked for, and what is to come of it. */
struct change {
	const char *admin; /* of the leader */
	const char *verb, *who;
	int id;
	bool to_be_member;
};

static void say_lost(const struct change *change, const json_t *status)
{
	if (!status)
		fprintf(stderr,
			"muctl: %s does not answer any more: ask another replica's status what has "
			"become of replica %d\n",
			change->admin, change->id);
	else if (number(status, "leader"))
		fprintf(stderr,
			"muctl: the leader has changed, and replica %d's case is as before: say it "
			"again, to replica %d\n",
			change->id, number(status, "leader"));
	else
		fprintf(stderr,
			"muctl: nobody leads any more, and replica %d's case is as before: say it "
			"again, to the next leader\n",
			change->id);
}

/*
 * Until it is done, or lost: then *last is the replica's last word, NULL if it has fallen
 * silent. A leader that removes itself ends soon after.
 */
static enum outcome await(const struct change *change, json_t **last)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
	char said[200] = "";
	int silent_ms = 0;

	*last = NULL;
	while (silent_ms < SILENCE_MS) {
		json_t *status = muctl_look(change->admin);
		enum outcome outcome = OUTCOME_PENDING;

		silent_ms = status ? 0 : silent_ms + POLL_MS;
		if (status) {
			show(status, said);
			outcome = judge(status, change->id, change->to_be_member);
		}
		if (outcome == OUTCOME_LOST)
			*last = status;
		else
			json_decref(status);
		if (outcome != OUTCOME_PENDING)
			return outcome;
		nanosleep(&pause, NULL);
	}
	return OUTCOME_LOST;
}

static bool leads(const json_t *status)
{
	return status && number(status, "leader") == number(status, "id");
}

/* Whoever of them leads; NULL: nobody did for a while. */
static const char *find_leader(const struct muctl_admins *admins)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};

	for (int waited_ms = 0; waited_ms < LEADER_MS; waited_ms += POLL_MS) {
		for (int i = 0; i < admins->count; i++) {
			json_t *status = muctl_look(admins->address[i]);
			bool found = leads(status);

			json_decref(status);
			if (found)
				return admins->address[i];
		}
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "muctl: none of those that were named leads\n");
	return NULL;
}

/* Whether who was asked leads no more: then it was not the wish that was wrong. */
static bool is_deposed(const char *admin)
{
	json_t *status = muctl_look(admin);
	bool deposed = !leads(status);

	json_decref(status);
	return deposed;
}

/* What the next leader says once nothing is under way there: the last one's proposal may be. */
static json_t *settled(const char *admin)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
	json_t *status = muctl_look(admin);

	while (status && *text(status, "change")) {
		json_decref(status);
		nanosleep(&pause, NULL);
		status = muctl_look(admin);
	}
	return status;
}

/* Say it to the replica that change names. The exit code, or -1: it is to be said to the next. */
static int try_change(struct change *change, bool may_go_on, bool again)
{
	char path[800], *encoded = evhttp_encode_uri(change->who);
	enum outcome outcome = OUTCOME_PENDING;
	json_t *status;
	int code = EXIT_UNREACHABLE;

	snprintf(path, sizeof(path), "/%s?%s", change->verb, encoded ? encoded : "");
	free(encoded);
	status = again ? settled(change->admin) : muctl_status(change->admin, &code);
	if (!status)
		return may_go_on ? -1 : code;
	change->id = id_of(status, change->who);
	if (again && is_member(status, change->id) == change->to_be_member)
		outcome = OUTCOME_DONE;
	json_decref(status);
	code = outcome == OUTCOME_DONE ? EXIT_OK : muctl_wish(change->admin, path);
	if (code != EXIT_OK)
		return may_go_on && is_deposed(change->admin) ? -1 : code;
	status = NULL;
	if (outcome == OUTCOME_PENDING)
		outcome = await(change, &status);
	if (outcome == OUTCOME_DONE)
		printf("replica %d is %s\n", change->id,
		       change->to_be_member ? "a member" : "no member any more");
	else if (!may_go_on)
		say_lost(change, status);
	json_decref(status);
	return outcome == OUTCOME_DONE ? EXIT_OK : may_go_on ? -1 : EXIT_UNREACHABLE;
}

/* With several to ask, it goes on at the next that leads, some times. */
static int carry_out(const struct muctl_admins *admins, const char *verb, const char *who,
		     bool to_be_member)
{
	struct change change = {.verb = verb, .who = who, .to_be_member = to_be_member};
	bool several = admins->count > 1;
	int code = -1;

	for (int attempt = 1; code < 0; attempt++) {
		change.admin = several ? find_leader(admins) : admins->address[0];
		if (!change.admin)
			return EXIT_UNREACHABLE;
		if (attempt > 1)
			printf("%s leads now\n", change.admin);
		code = try_change(&change, several && attempt != ATTEMPTS, attempt != 1);
	}
	return code;
}

int muctl_add(const struct muctl_admins *admins, char *const *who, int count)
{
	int code = EXIT_OK;

	for (int i = 0; i < count && code == EXIT_OK; i++)
		code = carry_out(admins, "add", who[i], true);
	return code;
}

int muctl_remove(const struct muctl_admins *admins, const char *id)
{
	return carry_out(admins, "remove", id, false);
}

int muctl_replace(const struct muctl_admins *admins, const char *id, char *const *who, int count)
{
	const char *admin = admins->count > 1 ? find_leader(admins) : admins->address[0];
	int code = EXIT_UNREACHABLE;
	json_t *status = admin ? muctl_status(admin, &code) : NULL;

	if (!status)
		return code;
	if (!is_member(status, atoi(id))) {
		fprintf(stderr, "muctl: replica %s is no member\n", id);
		code = EXIT_UNREACHABLE;
	}
	json_decref(status);
	if (code == EXIT_OK)
		code = muctl_add(admins, who, count);
	return code == EXIT_OK ? muctl_remove(admins, id) : code;
}
