/* slice.h - bytes owned by somebody else. */
#ifndef MP_SLICE_H
#define MP_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct mp_slice {
	const char *data;
	size_t len;
};

static inline struct mp_slice mp_slice_of(const char *text)
{
	return (struct mp_slice){text, strlen(text)};
}

static inline bool mp_slice_is(struct mp_slice slice, const char *text)
{
	return slice.len == strlen(text) && memcmp(slice.data, text, slice.len) == 0;
}

static inline bool mp_slice_equal(struct mp_slice a, struct mp_slice b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static inline bool mp_starts_with(struct mp_slice slice, const char *start)
{
	size_t len = strlen(start);

	return slice.len >= len && memcmp(slice.data, start, len) == 0;
}
#endif
