/*
 * say.c - the output of a command: events in the order in which they happened.
 * Replicas to which the same happened share a line, so that it does not matter
 * which of them was a few microseconds ahead.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

static const char *const class_names[SAY_CLASSES] = {
	[SAY_CLIENTS] = "clients", [SAY_ELECTION] = "election",   [SAY_COMMITS] = "commits",
	[SAY_APPLIES] = "applies", [SAY_FOLLOWERS] = "followers", [SAY_VOTES] = "votes",
	[SAY_WATCH] = "watch",     [SAY_BACKENDS] = "backends",   [SAY_DENIALS] = "denials",
	[SAY_OPS] = "operations",  [SAY_MEMBERS] = "members",
};

bool say_show(struct scenario *scenario, const char *class_name, bool shown)
{
	for (unsigned i = 0; i < SAY_CLASSES; i++) {
		if (!class_names[i] || strcmp(class_name, class_names[i]) != 0)
			continue;
		scenario->shows[i] = shown;
		return true;
	}
	return false;
}

/* ----------------------------------------------------------------- conditions */

bool condition_parse(const struct scenario *scenario, struct condition *condition, const char *text)
{
	char *end;
	unsigned long id = strtoul(text, &end, 10);

	if (end == text || *end != ' ' || id < 1 || id > scenario->run.plan.replicas ||
	    strlen(end + 1) >= sizeof(condition->text) || !end[1])
		return false;
	condition->id = (unsigned)id;
	condition->met = false;
	strcpy(condition->text, end + 1);
	return true;
}

/* The condition's words are the first of the event's. */
static bool begins_with(const char *text, const char *words)
{
	size_t n = strlen(words);

	return strncmp(text, words, n) == 0 && !isalnum((unsigned char)text[n]) && text[n] != '=';
}

bool conditions_met(const struct scenario *scenario)
{
	for (unsigned i = 0; i < scenario->wait_count; i++)
		if (!scenario->waits[i].met)
			return false;
	return true;
}

/* The plane that is just doing this stops in the middle of it, if a transcript wants it to. */
static bool stops_here(struct scenario *scenario, unsigned id, const char *text)
{
	const struct plane_thread *current = scenario->run.current;

	if (current == NULL || current->node->id != id)
		return false;
	for (unsigned i = 0; i < scenario->stop_count; i++) {
		const struct condition *stop = &scenario->stops[i];

		if (stop->id != id || !begins_with(text, stop->text))
			continue;
		scenario->stops[i] = scenario->stops[--scenario->stop_count];
		return true;
	}
	return false;
}

/* --------------------------------------------------------------------- saying */

/* A line with the same text that this replica can join without changing its own order. */
static struct line *line_to_join(struct scenario *scenario, unsigned id, const char *text)
{
	for (unsigned i = scenario->line_count; i-- > 0;) {
		struct line *line = &scenario->lines[i];

		if (line->ids >> id & 1 || !line->ids)
			return NULL;
		if (strcmp(line->text, text) == 0)
			return line;
	}
	return NULL;
}

static void add_line(struct scenario *scenario, unsigned id, const char *text)
{
	struct line *line = id ? line_to_join(scenario, id, text) : NULL;

	if (line == NULL) {
		if (scenario->line_count == LINES_MAX)
			return;
		line = &scenario->lines[scenario->line_count++];
		line->ids = 0;
		strcpy(line->text, text);
	}
	if (id)
		line->ids |= 1u << id;
}

void say(struct scenario *scenario, unsigned id, enum event_class about, const char *format, ...)
{
	char text[TEXT_BYTES];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (scenario->run.voice == RUN_TRACES)
		printf("%12.6f ms  %u %s\n", (double)run_now(&scenario->run) / 1e6, id, text);
	for (unsigned i = 0; i < scenario->wait_count; i++)
		scenario->waits[i].met |=
			scenario->waits[i].id == id && begins_with(text, scenario->waits[i].text);
	if (about == SAY_ALWAYS || scenario->shows[about])
		add_line(scenario, id, text);
	if (stops_here(scenario, id, text)) {
		scenario->stopping = true;
		say(scenario, id, SAY_ALWAYS, "stops: it %s", text);
	}
}

char *say_output(const struct scenario *scenario)
{
	size_t room = (size_t)scenario->line_count * (TEXT_BYTES + 3 * MU_ID_SLOTS + 2) + 64;
	char *output = malloc(room);
	size_t at = 0;

	if (output == NULL)
		abort();
	output[0] = '\0';
	for (unsigned i = 0; i < scenario->line_count; i++) {
		const struct line *line = &scenario->lines[i];
		const char *comma = "";

		for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) {
			if (!(line->ids >> id & 1))
				continue;
			at += (size_t)snprintf(output + at, room - at, "%s%u", comma, id);
			comma = ", ";
		}
		at += (size_t)snprintf(output + at, room - at, "%s%s\n", line->ids ? ": " : "",
				       line->text);
	}
	if (scenario->line_count == LINES_MAX)
		snprintf(output + at, room - at, "... and more than is kept\n");
	return output;
}

void say_clear(struct scenario *scenario)
{
	scenario->line_count = 0;
}
