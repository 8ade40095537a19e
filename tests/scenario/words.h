/* words.h - a command of a transcript, split into words that are taken one by one. */
#ifndef SCENARIO_WORDS_H
#define SCENARIO_WORDS_H

#include "scenario.h"

#define WORDS_MAX 48

/* A command split into words; `at` is the next one. */
struct words {
	char *word[WORDS_MAX];
	unsigned count;
	unsigned at;
	const char *wrong; /* what could not be understood */
};

const char *next_word(struct words *words);
bool take_word(struct words *words, const char *word);
bool at_id(const struct words *words);
unsigned take_id(struct scenario *scenario, struct words *words);
unsigned take_living(struct scenario *scenario, struct words *words);
bool parse_time(const char *text, uint64_t *time_ns);
/* The value of a word "name=value", at which `words` stands; NULL if it is not that. */
const char *take_setting(struct words *words, const char *name);
bool take_number(struct words *words, const char *name, uint64_t *number);

/* "ID EVENT", and more of them if `and` stands between. Returns how many. */
unsigned take_conditions(struct scenario *scenario, struct words *words,
			 struct condition *conditions, unsigned room);

#endif
