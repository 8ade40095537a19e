/* memcached_older.c - see memcached_older.h. */
#include "memcached_older.h"

#include "mc_request.h"
#include "mc_text.h"

/*
 * The words of a line that are flags, one by one: *at is NULL at first. Empty: there are
 * no more of them.
 */
static struct mp_slice next_flag(struct mp_slice line, const char **at)
{
	const char *end = line.data + line.len - 2;

	if (!*at) {
		*at = line.data;
		mc_next_word(at, end); /* the verb */
		mc_next_word(at, end); /* the key */
		if (mp_starts_with(line, "ms "))
			mc_next_word(at, end); /* the length */
	}
	return mc_next_word(at, end);
}

static bool is_meta(struct mp_slice line)
{
	return mp_starts_with(line, "ms ") || mp_starts_with(line, "mg ") ||
	       mp_starts_with(line, "md ");
}

bool memcached_empties(struct mp_slice line)
{
	const char *at = NULL;
	struct mp_slice flag;

	if (!mp_starts_with(line, "md "))
		return false;
	while ((flag = next_flag(line, &at)).len > 0)
		if (*flag.data == 'x')
			return true;
	return false;
}

bool memcached_is_too_new(struct mp_slice line, unsigned news)
{
	const char *at = NULL;
	struct mp_slice flag;

	if ((news & MC_NEWS_TOKENS && news & MC_NEWS_TOMBSTONES) || !is_meta(line))
		return false;
	while ((flag = next_flag(line, &at)).len > 0)
		if ((*flag.data == 'E' && !(news & MC_NEWS_TOKENS)) ||
		    (*flag.data == 'x' && !(news & MC_NEWS_TOMBSTONES)))
			return true;
	return false;
}

/* The item goes, rather than its value alone: a miss. */
static void put_delete(struct mc_writer *out, struct mp_slice line)
{
	const char *s = line.data + strlen("md "), *end = line.data + line.len - 2, *at = NULL;
	struct mp_slice key = mc_next_word(&s, end);

	mc_put_delete_line(out, key, mp_slice_is(next_flag(line, &at), "b"));
}

void memcached_put_older(struct mc_writer *out, struct mp_slice line, unsigned news)
{
	const char *copied = line.data, *at = NULL;
	struct mp_slice flag;

	if (memcached_empties(line) && !(news & MC_NEWS_TOMBSTONES)) {
		put_delete(out, line);
		return;
	}
	while ((flag = next_flag(line, &at)).len > 0) {
		if (*flag.data != 'E')
			continue;
		mc_put(out, copied, (size_t)(flag.data - 1 - copied));
		copied = at;
	}
	mc_put(out, copied, (size_t)(line.data + line.len - copied));
}
