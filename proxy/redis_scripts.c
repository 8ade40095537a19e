/* redis_scripts.c - see redis_scripts.h. */
#include "config.h"

#include "redis_scripts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decimal.h"
#include "proxy/prelude.inc"

enum {
	FEW_WORDS = 64, /* what is longer costs an allocation */
	HEAD_WORDS = 3, /* EVALSHA sha numkeys */
	TAIL_WORDS = 3, /* terms, subject, task */
	TERMS_BYTES = 128,
};

const char mp_script_question[] =
	"redis.call('SELECT', ARGV[1]) "
	"if redis.call('LINDEX', 'muproxy:deadlines', 0) ~= ARGV[2] then return {} end "
	"return redis.call('LRANGE', 'muproxy:deadlines', 1, -1)";

/* What a command is about, and its arguments, as the task in prelude.lua takes them. */
static const struct task {
	const char *command, *task;
	int subject; /* the argument's place; -1: the last one; 0: there is none */
	int first;   /* of the others, which go on up to the subject or the end */
	bool has_keys;
	int most; /* words; 0: any number */
} tasks[] = {
	{"eval", "eval", 1, 3, true, 0},
	{"eval_ro", "eval_ro", 1, 3, true, 0},
	{"evalsha", "evalsha", 1, 3, true, 0},
	{"evalsha_ro", "evalsha_ro", 1, 3, true, 0},
	{"fcall", "fcall", 1, 3, true, 0},
	{"fcall_ro", "fcall_ro", 1, 3, true, 0},
	{"script|load", "script_load", 2, 3, false, 0},
	{"script|exists", "script_exists", 0, 2, false, 0},
	{"script|flush", "script_flush", 0, 2, false, 0},
	{"function|load", "function_load", -1, 2, false, 0},
	{"function|delete", "function_delete", 2, 3, false, 0},
	{"function|flush", "function_flush", 0, 2, false, 3},
	{"function|dump", "function_dump", 0, 2, false, 0},
	{"function|restore", "function_restore", 2, 3, false, 4},
	{"function|list", "function_list", 0, 2, false, 0},
	{"function|stats", "function_stats", 0, 2, false, 0},
};

static const struct task *task_of(const struct mp_command *command)
{
	for (size_t i = 0; i < sizeof(tasks) / sizeof(tasks[0]); i++)
		if (strcmp(tasks[i].command, command->name) == 0)
			return &tasks[i];
	return NULL;
}

/* NULL: the number of keys is good; else Redis's text. */
static const char *fault_of_keys(const struct resp_request *r, bool is_function)
{
	int64_t keys;

	if (!mp_parse_i64(r->argv[2], &keys))
		return is_function ? "ERR Bad number of keys provided"
				   : "ERR value is not an integer or out of range";
	if (keys > r->argc - HEAD_WORDS)
		return "ERR Number of keys can't be greater than number of args";
	if (keys < 0)
		return "ERR Number of keys can't be negative";
	return NULL;
}

static size_t encode(const struct task *task, const struct resp_request *r,
		     const struct mp_script_terms *terms, char *out, size_t cap)
{
	int last = task->subject < 0 ? r->argc - 1 : r->argc;
	int others = last > task->first ? last - task->first : 0;
	int argc = HEAD_WORDS + others + TAIL_WORDS;
	struct mp_slice few[FEW_WORDS], *argv = few, *tail;
	char text[TERMS_BYTES];
	size_t len;

	if (argc > FEW_WORDS && !(argv = malloc((size_t)argc * sizeof(*argv))))
		return 0;
	argv[0] = mp_slice_of("EVALSHA");
	argv[1] = mp_slice_of(mp_prelude_sha1);
	argv[2] = task->has_keys ? r->argv[2] : mp_slice_of("0");
	memcpy(&argv[HEAD_WORDS], &r->argv[task->first], (size_t)others * sizeof(*argv));
	tail = &argv[HEAD_WORDS + others];
	len = (size_t)snprintf(text, sizeof(text),
			       "%" PRId64 " %" PRIu32 " %" PRIu32 " %d %d %" PRIu32 " %" PRIx64
			       "-%" PRIx64,
			       terms->now_ms, terms->seed, terms->database, terms->databases,
			       terms->is_full, terms->resp, terms->nonce, terms->sequence);
	tail[0] = (struct mp_slice){text, len};
	tail[1] = task->subject == 0 ? mp_slice_of("")
				     : r->argv[task->subject < 0 ? last : task->subject];
	tail[2] = mp_slice_of(task->task);
	len = resp_encode(out, cap, argc, argv);
	if (argv != few)
		free(argv);
	return len;
}

size_t mp_script_rewrite(const struct mp_command *command, const struct resp_request *request,
			 const struct mp_script_terms *terms, char *out, size_t cap, char *error,
			 size_t error_bytes)
{
	const struct task *task = task_of(command);
	const char *fault = task ? NULL : "ERR muproxy: this command is not served";
	size_t len;

	if (task && task->has_keys)
		fault = fault_of_keys(request, strncmp(command->name, "fcall", 5) == 0);
	if (fault) {
		snprintf(error, error_bytes, "%s", fault);
		return 0;
	}
	if (task->most > 0 && request->argc > task->most) {
		snprintf(error, error_bytes,
			 "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try "
			 "FUNCTION HELP.",
			 (int)request->argv[1].len, request->argv[1].data);
		return 0;
	}
	len = encode(task, request, terms, out, cap);
	if (len == 0)
		snprintf(error, error_bytes, "ERR muproxy: out of memory; nothing was executed");
	return len;
}

bool mp_script_is_logged(const struct resp_request *r, struct mp_slice *stamp)
{
	const struct mp_slice *terms;
	const char *blank;

	if (r->argc < HEAD_WORDS + TAIL_WORDS || r->argv[1].len != sizeof(mp_prelude_sha1) - 1 ||
	    memcmp(r->argv[1].data, mp_prelude_sha1, r->argv[1].len) != 0)
		return false;
	terms = &r->argv[r->argc - TAIL_WORDS];
	blank = memrchr(terms->data, ' ', terms->len);
	if (!blank)
		return false; /* what groups.lua does has no stamp, and sets no deadlines */
	stamp->data = blank + 1;
	stamp->len = (size_t)(terms->data + terms->len - stamp->data);
	return true;
}
