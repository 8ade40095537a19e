/* muctl_ask.c - see muctl_ask.h. */
#include "config.h"

#include "muctl_ask.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_version.h"
#include "http_get.h"

/* Does it speak as we do? Else a line in err. */
static bool check_version(const char *admin, const json_t *status, char *err, size_t err_bytes)
{
	const json_t *control = json_object_get(status, "control");

	if (json_integer_value(control) == CONTROL_VERSION)
		return true;
	if (control)
		snprintf(err, err_bytes,
			 "%s speaks version %d of the control protocol, and this muctl %d: use the "
			 "muctl of its version",
			 admin, (int)json_integer_value(control), CONTROL_VERSION);
	else
		snprintf(err, err_bytes,
			 "%s is of a version before the control protocol had any, and this muctl "
			 "speaks %d: use the muctl of its version",
			 admin, CONTROL_VERSION);
	return false;
}

static json_t *parse(const char *admin, int code, const char *body, char *err, size_t err_bytes)
{
	json_error_t where;
	json_t *status = code == 200 ? json_loads(body, 0, &where) : NULL;

	if (!json_is_array(json_object_get(status, "replicas")))
		snprintf(err, err_bytes, "%s answers, but is no muproxy admin port (HTTP %d)",
			 admin, code);
	else if (check_version(admin, status, err, err_bytes))
		return status;
	json_decref(status);
	return NULL;
}

static bool versions_agree; /* of the replica that was asked last */

static json_t *ask(const char *admin, char *err, size_t err_bytes)
{
	char *body;
	int code = http_get(admin, "/status", MUCTL_TIMEOUT_MS, &body, err, err_bytes);
	json_t *status = NULL;

	if (code >= 0)
		status = parse(admin, code, body, err, err_bytes);
	free(body);
	versions_agree = status != NULL;
	return status;
}

static int complain(const char *err)
{
	fprintf(stderr, "muctl: %s\n", err);
	return strstr(err, "is not host:port") ? EXIT_USAGE : EXIT_UNREACHABLE;
}

json_t *muctl_status(const char *admin, int *code)
{
	char err[500];
	json_t *status = ask(admin, err, sizeof(err));

	*code = status ? EXIT_OK : complain(err);
	return status;
}

json_t *muctl_look(const char *admin)
{
	char err[500];

	return ask(admin, err, sizeof(err));
}

int muctl_wish(const char *admin, const char *path)
{
	char err[500], *body;
	int code;

	if (!versions_agree) {
		json_t *status = muctl_status(admin, &code);

		if (!status)
			return code;
		json_decref(status);
	}
	code = http_post(admin, path, MUCTL_TIMEOUT_MS, &body, err, sizeof(err));
	if (code < 0)
		return complain(err);
	if (code == 200)
		fputs(body, stdout);
	else
		fprintf(stderr, "muctl: %s refuses: %s", admin, body);
	free(body);
	return code == 200 ? EXIT_OK : EXIT_UNREACHABLE;
}
