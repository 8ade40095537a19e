/* slice.h - bytes owned by somebody else. */
#ifndef MP_SLICE_H
#define MP_SLICE_H
#include <stddef.h>

struct mp_slice {
	const char *data;
	size_t len;
};
#endif
