/* rewrite_scripts.c - see rewrite_scripts.h. */
#include "config.h"

#include "rewrite_scripts.h"

#include <stdlib.h>
#include <string.h>

#include "decimal.h"
#include "proxy/rewrite_scripts.inc"

enum { FEW_WORDS = 64 }; /* what is longer costs an allocation */

size_t mp_encode_xadd(const struct resp_request *request, int star, int64_t now_ms, char *out,
		      size_t cap)
{
	int argc = request->argc + 4;
	struct mp_slice few[FEW_WORDS], *argv = few;
	char time[MP_DECIMAL_BYTES], place[MP_DECIMAL_BYTES];
	size_t len;

	if (argc > FEW_WORDS && !(argv = malloc((size_t)argc * sizeof(*argv))))
		return 0;
	argv[0] = mp_slice_of("EVALSHA");
	argv[1] = mp_slice_of(mp_xadd_script_sha1);
	argv[2] = (struct mp_slice){"1", 1};
	argv[3] = request->argv[1];
	argv[4] = (struct mp_slice){time, mp_format_i64(time, now_ms)};
	argv[5] = (struct mp_slice){place, mp_format_i64(place, star + 1)};
	memcpy(&argv[6], &request->argv[2], (size_t)(request->argc - 2) * sizeof(*argv));
	len = resp_encode(out, cap, argc, argv);
	if (argv != few)
		free(argv);
	return len;
}

size_t mp_encode_spop(struct mp_slice key, int64_t count, uint32_t seed, char *out, size_t cap)
{
	char count_text[MP_DECIMAL_BYTES], seed_text[MP_DECIMAL_BYTES];
	struct mp_slice argv[6] = {
		mp_slice_of("EVALSHA"),
		mp_slice_of(mp_spop_script_sha1),
		{"1", 1},
		key,
		{count_text, mp_format_i64(count_text, count)},
		{seed_text, mp_format_u64(seed_text, seed)},
	};

	return resp_encode(out, cap, 6, argv);
}
