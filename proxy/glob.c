/* glob.c - see glob.h. */
#include "glob.h"

#include <stddef.h>
#include <stdint.h>

/* A class ends at its ']' or with the pattern. Returns what follows it; 0: c is not of it. */
static size_t match_class(struct mp_slice pattern, size_t p, signed char c)
{
	const signed char *at = (const signed char *)pattern.data;
	bool negated, found = false;

	p++;
	negated = p < pattern.len && at[p] == '^';
	for (p += negated; p < pattern.len && at[p] != ']'; p++) {
		if (at[p] == '\\' && p + 1 < pattern.len) {
			p++;
			found = found || at[p] == c;
		} else if (p + 2 < pattern.len && at[p + 1] == '-') {
			signed char low = at[p], high = at[p + 2];

			found = found || (low <= c && c <= high) || (high <= c && c <= low);
			p += 2;
		} else {
			found = found || at[p] == c;
		}
	}
	if (found == negated)
		return 0;
	return p < pattern.len ? p + 1 : p;
}

/* What follows the pattern's element at p, which is no star; 0: it does not match c. */
static size_t match_one(struct mp_slice pattern, size_t p, char c)
{
	switch (pattern.data[p]) {
	case '?':
		return p + 1;
	case '[':
		return match_class(pattern, p, (signed char)c);
	case '\\':
		if (p + 1 < pattern.len)
			p++;
		break;
	}
	return pattern.data[p] == c ? p + 1 : 0;
}

/* Only the last star seen ever has to take more: what precedes it matches as it does. */
bool mp_glob_match(struct mp_slice pattern, struct mp_slice text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, star_t = 0;

	for (;;) {
		size_t next;

		if (p < pattern.len && pattern.data[p] == '*') {
			star = p++;
			star_t = t;
		} else if (t == text.len) {
			return p == pattern.len;
		} else if (p < pattern.len && (next = match_one(pattern, p, text.data[t]))) {
			p = next;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++star_t;
		} else {
			return false;
		}
	}
}
