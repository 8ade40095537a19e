/* pause_form.c - see pause.h. Texts are those of Redis 7.0. */
#include <string.h>

#include "command_special.h"
#include "decimal.h"
#include "pause.h"

/* To servers it is nothing. ARGV: until when (Unix ms; 0: no longer), and who. */
static const char pause_script[] = "return redis.status_reply('OK')";

enum { LOGGED_ARGS = 5 };

static size_t refuse(const char **error, const char *text)
{
	*error = text;
	return 0;
}

/* CLIENT UNPAUSE | CLIENT PAUSE ms [WRITE | ALL] */
size_t mp_pause_encode(const struct resp_request *r, int64_t now_ms, char *out, size_t cap,
		       const char **error)
{
	char number[MP_DECIMAL_BYTES];
	struct mp_slice argv[LOGGED_ARGS] = {{"EVAL", 4},
					     {pause_script, sizeof(pause_script) - 1},
					     {"0", 1},
					     {"0", 1},
					     {"ALL", 3}};
	int64_t ms;

	if (r->argc == 2)
		return resp_encode(out, cap, LOGGED_ARGS, argv);
	if (r->argc > 4)
		return refuse(error, "ERR unknown subcommand or wrong number of arguments for "
				     "'PAUSE'. Try CLIENT HELP.");
	if (r->argc == 4 && mp_arg_is(r->argv[3], "write"))
		argv[4] = mp_slice_of("WRITE");
	else if (r->argc == 4 && !mp_arg_is(r->argv[3], "all"))
		return refuse(error, "ERR CLIENT PAUSE mode must be WRITE or ALL");
	if (!mp_parse_i64(r->argv[2], &ms))
		return refuse(error, "ERR timeout is not an integer or out of range");
	if (ms < 0)
		return refuse(error, "ERR timeout is negative");
	/* Longer than anybody lives is for ever. */
	if (__builtin_add_overflow(ms, now_ms, &ms))
		ms = INT64_MAX;
	argv[3] = (struct mp_slice){number, mp_format_i64(number, ms)};
	return resp_encode(out, cap, LOGGED_ARGS, argv);
}

bool mp_pause_is_logged(const struct resp_request *r, struct mp_pause *pause)
{
	int64_t until_ms;

	if (r->argc != LOGGED_ARGS || !mp_arg_is(r->argv[0], "eval") ||
	    !mp_slice_is(r->argv[1], pause_script) || !mp_parse_i64(r->argv[3], &until_ms))
		return false;
	pause->until_ms = (uint64_t)until_ms;
	pause->is_for_all = mp_slice_is(r->argv[4], "ALL");
	return true;
}
