/* memcached_clock.c - see memcached_clock.h. */
#include "memcached_clock.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "mc_request.h"

enum {
	RELATIVE_MAX_S = 60 * 60 * 24 * 30, /* no more than that is no Unix time */
	JITTER_S = 2,                       /* clocks that differ by so little are the same */
};

static int64_t clock_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void memcached_clock_set(struct memcached_clock *clock, int64_t time_s)
{
	clock->offset_ms = time_s * 1000 - clock_ms(CLOCK_MONOTONIC);
}

static int64_t now_ms(const struct memcached_clock *clock)
{
	return clock->offset_ms + clock_ms(CLOCK_MONOTONIC);
}

int64_t memcached_clock_shift_s(const struct memcached_clock *clock)
{
	int64_t shift_s = (now_ms(clock) - clock_ms(CLOCK_REALTIME)) / 1000;

	return shift_s > JITTER_S || shift_s < -JITTER_S ? shift_s : 0;
}

int64_t memcached_clock_deadline_s(const struct memcached_clock *clock, int64_t left_s)
{
	return now_ms(clock) / 1000 + left_s - memcached_clock_shift_s(clock);
}

/* In clean form lines are known to be well-formed (mc_encode.h). */
static const struct form {
	const char *verb;
	int deadline; /* which word is one, 0: none, -1: those behind the flags N and T */
	int bytes;    /* which word is the block's length, 0: there is none */
} forms[] = {
	{"set", 3, 4},   {"ms", -1, 2}, {"mg", -1, 0},  {"md", -1, 0},
	{"touch", 2, 0}, {"gat", 1, 0}, {"gats", 1, 0}, {"flush_all", 1, 0},
};

static const struct form *form_of(struct mp_slice verb)
{
	static const struct form other;

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (strlen(forms[i].verb) == verb.len &&
		    memcmp(forms[i].verb, verb.data, verb.len) == 0)
			return &forms[i];
	return &other;
}

struct memcached_command memcached_next_command(struct mp_slice bytes)
{
	const char *lf = memchr(bytes.data, '\n', bytes.len), *s = bytes.data;
	struct memcached_command command = {.line = bytes};
	const struct form *form;
	struct mp_slice word = {0};
	size_t rest;

	if (!lf)
		return command;
	command.line.len = (size_t)(lf + 1 - bytes.data);
	rest = bytes.len - command.line.len;
	form = form_of(mc_next_word(&s, lf - 1));
	if (form->bytes == 0)
		return command;
	for (int i = 0; i < form->bytes; i++)
		word = mc_next_word(&s, lf - 1);
	command.block.data = lf + 1;
	command.block.len = (size_t)mc_digits(word) + 2;
	if (command.block.len > rest)
		command.block.len = rest;
	return command;
}

static bool is_deadline(const struct form *form, int n, struct mp_slice word)
{
	if (form->deadline >= 0)
		return n == form->deadline;
	/* Behind the key, and the length if there is one. */
	return n > 1 && n > form->bytes && (*word.data == 'N' || *word.data == 'T');
}

static void put_shifted(struct mc_writer *out, struct mp_slice word, bool has_letter,
			int64_t shift_s)
{
	struct mp_slice digits = {word.data + has_letter, word.len - has_letter};
	int64_t deadline_s = (int64_t)mc_digits(digits);

	if (deadline_s <= RELATIVE_MAX_S) {
		mc_put_slice(out, word);
		return;
	}
	deadline_s += shift_s;
	if (deadline_s <= RELATIVE_MAX_S)
		deadline_s = RELATIVE_MAX_S + 1; /* long past */
	mc_put(out, word.data, has_letter);
	mc_put_i64(out, deadline_s < INT32_MAX ? deadline_s : INT32_MAX);
}

void memcached_shift_deadlines(struct mc_writer *out, struct mp_slice line, int64_t shift_s)
{
	const char *s = line.data, *end = s + line.len - 2;
	struct mp_slice word = mc_next_word(&s, end);
	const struct form *form = form_of(word);

	mc_put_slice(out, word);
	for (int n = 1; (word = mc_next_word(&s, end)).len > 0; n++) {
		mc_put_text(out, " ");
		if (is_deadline(form, n, word))
			put_shifted(out, word, form->deadline < 0, shift_s);
		else
			mc_put_slice(out, word);
	}
	mc_put_text(out, "\r\n");
}
