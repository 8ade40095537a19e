/* memcached_login.c - see memcached_login.h. */
#include "memcached_login.h"

#include <string.h>

#include "mc_binary.h"
#include "users.h"
#include "session.h"
#include "state.h"

#define MECHANISM "PLAIN"

static const struct mp_users *users_of(const struct mp_session *s)
{
	return s->proxy->options.memcached_users;
}

/* SASL's PLAIN: "[on behalf of] NUL user NUL password" (RFC 4616). */
static bool know_plain(const struct mp_users *users, struct mp_slice message)
{
	const char *end = message.data + message.len;
	const char *name = message.len ? memchr(message.data, '\0', message.len) : NULL;
	const char *password = name ? memchr(name + 1, '\0', (size_t)(end - name - 1)) : NULL;

	if (!password)
		return false;
	return mp_users_know(users, (struct mp_slice){name + 1, (size_t)(password - name - 1)},
			     (struct mp_slice){password + 1, (size_t)(end - password - 1)}, NULL);
}

static void say_line(struct mp_session *s, const char *line)
{
	mp_session_say(s, mp_slice_of(line));
}

/* ------------------------------------------------------------------- binary */

static void say_status(struct mp_session *s, const struct mc_request *request,
		       enum mc_status status)
{
	char frame[MC_BINARY_HEADER_BYTES + 64];

	STAT_ADD(s->proxy, refused, 1);
	mp_session_say(s, (struct mp_slice){frame, mc_binary_error(request, status, NULL, frame,
								   sizeof(frame))});
}

static void say_text(struct mp_session *s, const struct mc_request *request, const char *text)
{
	char frame[MC_BINARY_HEADER_BYTES + 64];
	struct mc_writer w = {frame, sizeof(frame), 0};

	mc_put_header(&w, request, MC_STATUS_OK, (struct mc_binary_body){.value = strlen(text)}, 0);
	mc_put_text(&w, text);
	mp_session_say(s, (struct mp_slice){frame, w.bytes});
}

void mp_memcached_sasl(struct mp_session *s, const struct mc_request *request)
{
	const struct mp_users *users = users_of(s);

	if (!users) {
		say_status(s, request, MC_STATUS_UNKNOWN_COMMAND);
	} else if (request->opcode == MC_OP_SASL_LIST_MECHS) {
		say_text(s, request, MECHANISM);
	} else if (request->opcode == MC_OP_SASL_AUTH && mp_slice_is(request->keys[0], MECHANISM) &&
		   know_plain(users, request->value)) {
		s->is_logged_in = true;
		say_text(s, request, "Authenticated");
	} else {
		say_status(s, request, MC_STATUS_AUTH); /* PLAIN has no further steps */
	}
}

/* --------------------------------------------------------------- the others */

/* The value is "user password". */
static void log_in(struct mp_session *s, const struct mc_request *request)
{
	const char *at = request->value.data, *end = at + request->value.len;
	struct mp_slice user = mc_next_word(&at, end), password = mc_next_word(&at, end);

	s->is_logged_in = mp_users_know(users_of(s), user, password, NULL);
	if (password.len == 0)
		say_line(s, "CLIENT_ERROR bad authentication token format\r\n");
	else if (s->is_logged_in)
		say_line(s, "STORED\r\n");
	else
		say_line(s, "CLIENT_ERROR authentication failure\r\n");
	STAT_ADD(s->proxy, refused, !s->is_logged_in);
}

bool mp_memcached_admits(struct mp_session *s, const struct mc_request *request)
{
	bool is_binary = request->dialect == MC_BINARY;

	if (!users_of(s) || s->is_logged_in ||
	    (is_binary && (request->verb == MC_SASL || request->verb == MC_VERSION)))
		return true;
	if (is_binary) {
		say_status(s, request, MC_STATUS_AUTH);
		mp_session_close_after_error(s);
	} else if (request->dialect == MC_TEXT && request->verb == MC_SET) {
		log_in(s, request);
	} else {
		STAT_ADD(s->proxy, refused, 1);
		if (!request->noreply)
			say_line(s, "CLIENT_ERROR unauthenticated\r\n");
	}
	return false;
}
