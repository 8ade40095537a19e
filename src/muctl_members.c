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

static int say_lost(const json_t *status, int id)
{
	if (number(status, "leader"))
		fprintf(stderr,
			"muctl: the leader has changed, and replica %d's case is as before: say it "
			"again, to replica %d\n",
			id, number(status, "leader"));
	else
		fprintf(stderr,
			"muctl: nobody leads any more, and replica %d's case is as before: say it "
			"again, to the next leader\n",
			id);
	return EXIT_UNREACHABLE;
}

/* Until it is done. A leader that removes itself ends soon after. */
static int await(const char *admin, int id, bool to_be_member)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
	char last[200] = "";
	int silent_ms = 0;

	while (silent_ms < SILENCE_MS) {
		json_t *status = muctl_look(admin);
		enum outcome outcome = OUTCOME_PENDING;

		silent_ms = status ? 0 : silent_ms + POLL_MS;
		if (status) {
			show(status, last);
			outcome = judge(status, id, to_be_member);
		}
		if (outcome == OUTCOME_LOST) {
			int code = say_lost(status, id);

			json_decref(status);
			return code;
		}
		json_decref(status);
		if (outcome == OUTCOME_DONE) {
			printf("replica %d is %s\n", id,
			       to_be_member ? "a member" : "no member any more");
			return EXIT_OK;
		}
		nanosleep(&pause, NULL);
	}
	fprintf(stderr,
		"muctl: %s does not answer any more: ask another replica's status what has become "
		"of replica %d\n",
		admin, id);
	return EXIT_UNREACHABLE;
}

static int change(const char *admin, const char *verb, const char *who, bool to_be_member)
{
	char path[800], *encoded = evhttp_encode_uri(who);
	json_t *status;
	int code, id;

	snprintf(path, sizeof(path), "/%s?%s", verb, encoded ? encoded : "");
	free(encoded);
	status = muctl_status(admin, &code);
	if (!status)
		return code;
	id = id_of(status, who);
	json_decref(status);
	code = muctl_wish(admin, path);
	return code == EXIT_OK ? await(admin, id, to_be_member) : code;
}

int muctl_add(const char *admin, char *const *who, int count)
{
	int code = EXIT_OK;

	for (int i = 0; i < count && code == EXIT_OK; i++)
		code = change(admin, "add", who[i], true);
	return code;
}

int muctl_remove(const char *admin, const char *id)
{
	return change(admin, "remove", id, false);
}

int muctl_replace(const char *admin, const char *id, char *const *who, int count)
{
	int code;
	json_t *status = muctl_status(admin, &code);

	if (!status)
		return code;
	if (!is_member(status, atoi(id))) {
		fprintf(stderr, "muctl: replica %s is no member\n", id);
		code = EXIT_UNREACHABLE;
	}
	json_decref(status);
	if (code == EXIT_OK)
		code = muctl_add(admin, who, count);
	return code == EXIT_OK ? muctl_remove(admin, id) : code;
}
