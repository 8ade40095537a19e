/* words.c - see words.h. */
#include "words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *next_word(struct words *words)
{
	return words->at < words->count ? words->word[words->at++] : NULL;
}

bool take_word(struct words *words, const char *word)
{
	if (words->at == words->count || strcmp(words->word[words->at], word) != 0)
		return false;
	words->at++;
	return true;
}

bool at_id(const struct words *words)
{
	const char *word = words->at < words->count ? words->word[words->at] : "";

	return word[0] >= '1' && word[0] <= '9' && !word[1];
}

unsigned take_id(struct scenario *scenario, struct words *words)
{
	const char *word = next_word(words);
	unsigned id = word != NULL && word[0] && !word[1] ? (unsigned)(word[0] - '0') : 0;

	if (id < 1 || id > scenario->run.plan.replicas) {
		words->wrong = "a replica's id is missing";
		return 1;
	}
	return id;
}

unsigned take_living(struct scenario *scenario, struct words *words)
{
	unsigned id = take_id(scenario, words);

	if (words->wrong == NULL && !scenario->run.node[id].alive)
		words->wrong = "that replica is down";
	return id;
}

static bool parse_number(const char *text, uint64_t *number, char **end)
{
	*number = strtoull(text, end, 10);
	return *end != text;
}

bool parse_time(const char *text, uint64_t *time_ns)
{
	char *unit;

	if (text == NULL || !parse_number(text, time_ns, &unit))
		return false;
	if (strcmp(unit, "us") == 0)
		*time_ns *= 1000;
	else if (strcmp(unit, "ms") == 0)
		*time_ns *= 1000000;
	else
		return false;
	return true;
}

const char *take_setting(struct words *words, const char *name)
{
	size_t n = strlen(name);
	const char *word = words->at < words->count ? words->word[words->at] : "";

	if (strncmp(word, name, n) != 0 || word[n] != '=')
		return NULL;
	words->at++;
	return word + n + 1;
}

bool take_number(struct words *words, const char *name, uint64_t *number)
{
	const char *value = take_setting(words, name);
	char *end;

	if (value == NULL)
		return false;
	if (!parse_number(value, number, &end) || *end)
		words->wrong = "a setting is not a number";
	return true;
}

static void join_words(const struct words *words, unsigned from, unsigned to, char *text,
		       size_t room)
{
	size_t at = 0;

	text[0] = '\0';
	for (unsigned i = from; i < to && at < room; i++)
		at += (size_t)snprintf(text + at, room - at, "%s%s", i > from ? " " : "",
				       words->word[i]);
}

unsigned take_conditions(struct scenario *scenario, struct words *words,
			 struct condition *conditions, unsigned room)
{
	unsigned count = 0;

	while (words->at < words->count && words->wrong == NULL) {
		char text[TEXT_BYTES];
		unsigned end = words->at;

		while (end < words->count && strcmp(words->word[end], "and") != 0)
			end++;
		join_words(words, words->at, end, text, sizeof(text));
		words->at = end < words->count ? end + 1 : end;
		if (count == room || !condition_parse(scenario, &conditions[count++], text))
			words->wrong = "what should a replica do?";
	}
	if (!count)
		words->wrong = "what should a replica do?";
	return count;
}
