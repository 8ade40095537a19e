/* rewrite_scripts.c - see rewrite_scripts.h. */
#include "rewrite_scripts.h"

#include <stdlib.h>
#include <string.h>

#include "decimal.h"

enum { FEW_WORDS = 64 }; /* what is longer costs an allocation */

/*
 * A stream that was given IDs by its clients may be ahead of the clock. Plain *
 * goes on behind its last ID then, which <ms>-* refuses: so it is tried with
 * that ID's milliseconds, and if their sequence numbers are used up, with the
 * next one's. ARGV: milliseconds, place of the ID, and XADD's from there on.
 */
static const char xadd_script[] =
	"local a, id = {'XADD', KEYS[1]}, tonumber(ARGV[2]) "
	"for i = 3, #ARGV do a[i] = ARGV[i] end "
	"local function add(ms) a[id] = ms return redis.pcall(unpack(a)) end "
	"local function behind(r) return type(r) == 'table' and r.err and "
	"string.find(r.err, 'equal or smaller', 1, true) end "
	"local r = add(ARGV[1] .. '-*') "
	"if behind(r) then "
	"local info, last = redis.call('XINFO', 'STREAM', KEYS[1]), nil "
	"for i = 1, #info, 2 do "
	"if info[i] == 'last-generated-id' then last = string.match(info[i + 1], '^%d+') end "
	"end "
	"r = add(last .. '-*') "
	"if behind(r) then r = add(string.format('%.0f-0', tonumber(last) + 1)) end "
	"end "
	"return r";

/*
 * Members are drawn from the sorted set: the order of its hash table differs
 * from server to server. So it costs what the set is long, and is bounded. It
 * is ZUNION that sorts: by bytes, where Lua goes by the server's locale.
 * ARGV: count, seed. The generator is Park and Miller's: exact in doubles.
 */
static const char spop_script[] =
	"local n = redis.pcall('SCARD', KEYS[1]) "
	"if type(n) == 'table' then return n end "
	"local count, x, out, set = tonumber(ARGV[1]), tonumber(ARGV[2]), {}, {} "
	"if n == 0 then if count < 0 then return false end return {set = set} end "
	"if n > 100000 and count < n then return redis.error_reply('ERR muproxy: SPOP of some of "
	"more than 100000 members is not served') end "
	"local m = redis.call('ZUNION', 1, KEYS[1]) "
	"for i = 1, math.min(math.abs(count), n) do "
	"x = (x * 16807) % 2147483647 "
	"local k = i + x % (n - i + 1) "
	"m[i], m[k] = m[k], m[i] "
	"out[#out + 1] = m[i] "
	"set[m[i]] = true "
	"end "
	"for i = 1, #out, 5000 do "
	"redis.call('SREM', KEYS[1], unpack(out, i, math.min(i + 4999, #out))) "
	"end "
	"if count < 0 then return out[1] end "
	"return {set = set}";

size_t mp_encode_xadd(const struct resp_request *request, int star, int64_t now_ms, char *out,
		      size_t cap)
{
	int argc = request->argc + 4;
	struct mp_slice few[FEW_WORDS], *argv = few;
	char time[MP_DECIMAL_BYTES], place[MP_DECIMAL_BYTES];
	size_t len;

	if (argc > FEW_WORDS && !(argv = malloc((size_t)argc * sizeof(*argv))))
		return 0;
	argv[0] = (struct mp_slice){"EVAL", 4};
	argv[1] = (struct mp_slice){xadd_script, sizeof(xadd_script) - 1};
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
		{"EVAL", 4},
		{spop_script, sizeof(spop_script) - 1},
		{"1", 1},
		key,
		{count_text, mp_format_i64(count_text, count)},
		{seed_text, mp_format_u64(seed_text, seed)},
	};

	return resp_encode(out, cap, 6, argv);
}
