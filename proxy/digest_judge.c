/* digest_judge.c - see digest_judge.h. */
#include "digest_judge.h"

#include <ctype.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "digest.h"
#include "log.h"

enum {
	KEYS_TOLD = 10, /* of one question */
	WORDS_BYTES = 400,
	NAME_BYTES = 100,
	COUNT_PLACE = 1, /* in an answer; the keys' digests follow */
};

static const char *word_of(const struct mp_digest *digest, unsigned id, size_t place)
{
	const redisReply *answer = digest->answer[id];

	if (!answer || answer->element[place]->type != REDIS_REPLY_STRING)
		return NULL;
	return answer->element[place]->str;
}

/* What more than half of those say who have answered; NULL: nothing. */
static const char *word_of_most(const struct mp_digest *digest, size_t place)
{
	unsigned answers = 0;

	for (unsigned id = 1; id < MU_ID_SLOTS; id++)
		answers += word_of(digest, id, place) != NULL;
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		const char *word = word_of(digest, id, place);
		unsigned same = 0;

		for (unsigned other = 1; word && other < MU_ID_SLOTS; other++) {
			const char *theirs = word_of(digest, other, place);

			same += theirs && strcmp(theirs, word) == 0;
		}
		if (same > answers / 2)
			return word;
	}
	return NULL;
}

static bool all_say_the_same(const struct mp_digest *digest, size_t place)
{
	const char *first = NULL;

	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		const char *word = word_of(digest, id, place);

		if (word && first && strcmp(word, first) != 0)
			return false;
		if (word)
			first = word;
	}
	return true;
}

/* " 1: string-0123, 2: none-4567" */
static void put_words(const struct mp_digest *digest, size_t place, char out[WORDS_BYTES])
{
	size_t len = 0;

	out[0] = '\0';
	for (unsigned id = 1; id < MU_ID_SLOTS && len < WORDS_BYTES - 64; id++)
		if (word_of(digest, id, place))
			len += (size_t)snprintf(out + len, WORDS_BYTES - len,
						"%s replica %u: %.40s", len ? "," : "", id,
						word_of(digest, id, place));
}

/* As people can read it. */
static void put_name(const redisReply *key, char out[NAME_BYTES])
{
	size_t len = 0;

	for (size_t i = 0; i < key->len && len < NAME_BYTES - 5; i++) {
		unsigned char c = (unsigned char)key->str[i];

		len += (size_t)snprintf(out + len, NAME_BYTES - len,
					isprint(c) && c != '\\' ? "%c" : "\\x%02x", c);
	}
	out[len] = '\0';
}

static void tell(const struct mp_digest *digest, size_t place, const char *most)
{
	char name[NAME_BYTES] = "", words[WORDS_BYTES];
	const char *what = most ? "" : "; there is no majority, so nothing is done";

	put_words(digest, place, words);
	if (place == COUNT_PLACE) {
		mp_error("redis: servers differ in how many keys database %u has:%s%s",
			 digest->database, words, what);
		return;
	}
	put_name(digest->keys->element[place - COUNT_PLACE - 1], name);
	mp_error("redis: servers differ in key '%s' of database %u:%s%s", name, digest->database,
		 words, what);
}

static void look_at(const struct mp_digest *digest, size_t place, struct mp_digest_verdict *verdict)
{
	const char *most;

	if (all_say_the_same(digest, place))
		return;
	most = word_of_most(digest, place);
	if (place == COUNT_PLACE)
		verdict->is_count_wrong = true;
	else
		verdict->keys++;
	/* Until the key is found, it is the same every time. */
	if (verdict->keys <= KEYS_TOLD && (place != COUNT_PLACE || digest->hurried == 0))
		tell(digest, place, most);
	for (unsigned id = 1; most && id < MU_ID_SLOTS; id++) {
		const char *word = word_of(digest, id, place);

		if (word && strcmp(word, most) != 0)
			verdict->wrong |= 1U << id;
	}
}

void mp_digest_judge(const struct mp_digest *digest, struct mp_digest_verdict *verdict)
{
	*verdict = (struct mp_digest_verdict){0};
	for (size_t place = COUNT_PLACE; place < COUNT_PLACE + 1 + digest->keys->elements; place++)
		look_at(digest, place, verdict);
	if (verdict->keys > KEYS_TOLD)
		mp_error("redis: ...and in %llu more keys",
			 (unsigned long long)(verdict->keys - KEYS_TOLD));
}
