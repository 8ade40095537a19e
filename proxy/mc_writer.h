/* mc_writer.h - bytes written one behind the other; those that find no room are counted only. */
#ifndef MP_MC_WRITER_H
#define MP_MC_WRITER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "decimal.h"
#include "slice.h"

struct mc_writer {
	char *out;
	size_t cap, bytes;
};

static inline void mc_put(struct mc_writer *w, const char *data, size_t len)
{
	if (len > 0 && w->bytes + len <= w->cap)
		memcpy(w->out + w->bytes, data, len);
	w->bytes += len;
}

static inline void mc_put_text(struct mc_writer *w, const char *text)
{
	mc_put(w, text, strlen(text));
}

static inline void mc_put_slice(struct mc_writer *w, struct mp_slice s)
{
	mc_put(w, s.data, s.len);
}

static inline void mc_put_u64(struct mc_writer *w, uint64_t value)
{
	char digits[MP_DECIMAL_BYTES];

	mc_put(w, digits, mp_format_u64(digits, value));
}

static inline void mc_put_i64(struct mc_writer *w, int64_t value)
{
	char digits[MP_DECIMAL_BYTES];

	mc_put(w, digits, mp_format_i64(digits, value));
}

/* The command that removes a key, which is as it stands in lines. */
static inline void mc_put_delete_line(struct mc_writer *w, struct mp_slice key, bool is_base64)
{
	mc_put_text(w, is_base64 ? "md " : "delete ");
	mc_put_slice(w, key);
	mc_put_text(w, is_base64 ? " b\r\n" : "\r\n");
}
#endif
