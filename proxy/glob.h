/* glob.h - patterns of channels, as Redis reads them: * ? [a-z] [^a] and \ before any of these. */
#ifndef MP_GLOB_H
#define MP_GLOB_H

#include <stdbool.h>

#include "slice.h"

/* Takes time in proportion to the lengths' product at most. */
bool mp_glob_match(struct mp_slice pattern, struct mp_slice text);

#endif
